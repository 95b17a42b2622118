"""The service operations on a cell in memory: what is answered, what is stored, what is refused."""

from __future__ import annotations

import msgspec
import pytest

from homeport.api.ecs import service as handlers
from homeport.errors import (
    ClientError,
    ClusterNotFoundError,
    InvalidParameterError,
    ServiceNotActiveError,
    ServiceNotFoundError,
    UnsupportedFeatureError,
)
from homeport.store.tables import DEPLOYMENTS, IDEMPOTENCY_TOKENS, SERVICE_EVENTS, SERVICES, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

BASE = "arn:aws:ecs:us-east-1:123456789012"
HANDLERS = {
    "CreateService": handlers.create_service,
    "UpdateService": handlers.update_service,
    "DeleteService": handlers.delete_service,
    "DescribeServices": handlers.describe_services,
    "ListServices": handlers.list_services,
}


class Caller:
    def __init__(self, cell: MemoryCell) -> None:
        self.cell = cell

    async def __call__(self, operation, **request):
        return await self.cell.call(operation, HANDLERS[operation], request)

    async def create(self, **request):
        return (await self("CreateService", **{"serviceName": "web", "taskDefinition": "web", "desiredCount": 2, **request}))["service"]

    async def update(self, **request):
        return (await self("UpdateService", **{"service": "web", **request}))["service"]

    async def describe(self, **request):
        (service,) = (await self("DescribeServices", **{"services": ["web"], **request}))["services"]
        return service


@pytest.fixture
async def aws():
    cell = await MemoryCell.open()
    await cell.put(records.cluster(), records.container_instance(), records.task_definition(), records.task_definition(revision=2))
    yield Caller(cell)
    await cell.close()


async def test_create_answers_the_whole_service(aws):
    service = await aws.create(tags=[{"key": "a", "value": "b"}], placementStrategy=[{"type": "binpack", "field": "MEMORY"}])
    (stored,) = await aws.cell.all(DEPLOYMENTS)
    assert len(stored.id) == 19
    deployment = {
        "id": f"ecs-svc/{stored.id}",
        "status": "PRIMARY",
        "taskDefinition": f"{BASE}:task-definition/web:2",
        "desiredCount": 2,
        "pendingCount": 0,
        "runningCount": 0,
        "failedTasks": 0,
        "createdAt": stored.created_at,
        "updatedAt": stored.created_at,
        "launchType": "EC2",
        "rolloutState": "IN_PROGRESS",
        "rolloutStateReason": f"ECS deployment ecs-svc/{stored.id} in progress.",
    }
    revision = f"{BASE}:service-revision/default/web/{stored.id}"
    assert service == {
        "serviceArn": f"{BASE}:service/default/web",
        "serviceName": "web",
        "clusterArn": f"{BASE}:cluster/default",
        "loadBalancers": [],
        "serviceRegistries": [],
        "status": "ACTIVE",
        "desiredCount": 2,
        "runningCount": 0,
        "pendingCount": 0,
        "launchType": "EC2",
        "taskDefinition": f"{BASE}:task-definition/web:2",
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {"enable": False, "rollback": False},
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
            "strategy": "ROLLING",
            "bakeTimeInMinutes": 0,
        },
        "deployments": [deployment],
        "events": [],
        "createdAt": stored.created_at,
        "placementConstraints": [],
        "placementStrategy": [{"type": "binpack", "field": "memory"}],
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "createdBy": "arn:aws:iam::123456789012:root",
        "enableECSManagedTags": False,
        "propagateTags": "NONE",
        "enableExecuteCommand": False,
        "availabilityZoneRebalancing": "DISABLED",
        "currentServiceDeployment": f"{BASE}:service-deployment/default/web/{stored.id}",
        "currentServiceRevisions": [{"arn": revision, "requestedTaskCount": 2, "runningTaskCount": 0, "pendingTaskCount": 0}],
        "tags": [{"key": "a", "value": "b"}],
    }
    described = await aws.describe(include=["TAGS"])
    assert described == service
    assert "tags" not in await aws.describe()


async def test_createdat_is_the_transactions_instant(aws):
    await aws.cell.clock.advance(5)
    assert (await aws.create())["createdAt"] >= aws.cell.clock.now()


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"serviceName": "a b"}, InvalidParameterError, "Service names must have"),
        ({"serviceName": "x" * 256}, InvalidParameterError, "Service names must have"),
        ({"taskDefinition": None}, InvalidParameterError, "TaskDefinition can not be blank."),
        ({"taskDefinition": "nothing"}, ClientError, "^TaskDefinition not found.$"),
        ({"desiredCount": None}, InvalidParameterError, "desiredCount"),
        ({"desiredCount": -1}, InvalidParameterError, "desiredCount"),
        ({"cluster": "elsewhere"}, ClusterNotFoundError, "Cluster not found."),
        ({"launchType": "FARGATE"}, UnsupportedFeatureError, "launchType FARGATE is not built yet"),
        ({"deploymentController": {"type": "EXTERNAL"}}, InvalidParameterError, "taskDefinition cannot be specified for a service with an EXTERNAL"),
        ({"loadBalancers": [{"containerName": "a", "containerPort": 1}]}, UnsupportedFeatureError, "loadBalancers is not built yet"),
        ({"serviceRegistries": [{"registryArn": "a"}]}, UnsupportedFeatureError, "serviceRegistries is not built yet"),
        ({"serviceConnectConfiguration": {"enabled": True}}, UnsupportedFeatureError, "serviceConnectConfiguration is not built yet"),
        ({"volumeConfigurations": [{"name": "v"}]}, UnsupportedFeatureError, "volumeConfigurations is not built yet"),
        ({"capacityProviderStrategy": [{"capacityProvider": "c"}]}, InvalidParameterError, "not associated with the cluster"),
        ({"launchType": "EC2", "capacityProviderStrategy": [{"capacityProvider": "c"}]}, InvalidParameterError, "Specifying both a launch type"),
        ({"enableExecuteCommand": True}, UnsupportedFeatureError, "enableExecuteCommand is not built yet"),
        ({"availabilityZoneRebalancing": "ENABLED", "launchType": "EXTERNAL"}, InvalidParameterError, "EXTERNAL launch type"),
        ({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}}, InvalidParameterError, "Network Configuration is not valid"),
        ({"platformVersion": "LATEST"}, InvalidParameterError, "The platform version must be null"),
        ({"role": "r"}, InvalidParameterError, "IAM role"),
        ({"healthCheckGracePeriodSeconds": 5}, InvalidParameterError, "Health check grace period"),
        ({"clientToken": "x" * 37}, InvalidParameterError, "clientToken"),
        ({"placementConstraints": [{"type": "memberOf", "expression": "attribute:"}]}, InvalidParameterError, "Invalid placement constraint"),
        ({"placementStrategy": [{"type": "spread", "field": "moon"}]}, InvalidParameterError, "spread"),
        ({"tags": [{"key": "aws:x", "value": "1"}]}, InvalidParameterError, "aws:"),
    ],
)
async def test_create_refuses(aws, request_, error, words):
    with pytest.raises(error, match=words) as raised:
        await aws.create(**request_)
    assert type(raised.value) is error
    assert await aws.cell.all(SERVICES) == []
    assert await aws.cell.all(DEPLOYMENTS) == []


@pytest.mark.parametrize(
    ("configuration", "error", "words"),
    [
        ({"maximumPercent": 99}, InvalidParameterError, "maximumPercent"),
        ({"minimumHealthyPercent": 101}, InvalidParameterError, "minimumHealthyPercent"),
        ({"minimumHealthyPercent": -1}, InvalidParameterError, "minimumHealthyPercent"),
        ({"strategy": "BLUE_GREEN"}, InvalidParameterError, "bakeTimeInMinutes must be specified"),
        (
            {"deploymentCircuitBreaker": {"enable": True, "rollback": True, "thresholdConfiguration": {"type": "COUNT", "value": 0}}},
            InvalidParameterError,
            "thresholdConfiguration.value must be at least 1",
        ),
        ({"alarms": {"alarmNames": ["a"], "enable": True, "rollback": True}}, UnsupportedFeatureError, "this installation reads no alarms"),
        ({"alarms": {"alarmNames": [], "enable": True, "rollback": True}}, InvalidParameterError, "alarmNames"),
        ({"earlySuccessCriteria": {"enable": True, "healthyPercent": 50}}, InvalidParameterError, "earlySuccessCriteria needs"),
        (
            {"earlySuccessCriteria": {"enable": True, "healthyPercent": 50, "sourceServiceRevisionCleanup": "DEFERRED"}},
            InvalidParameterError,
            "healthyPercent must be between",
        ),
        ({"bakeTimeInMinutes": 3}, InvalidParameterError, "only valid when the deployment strategy is BLUE_GREEN, LINEAR or CANARY"),
    ],
)
async def test_deployment_configurations_that_are_refused(aws, configuration, error, words):
    with pytest.raises(error, match=words):
        await aws.create(deploymentConfiguration=configuration)


async def test_a_definition_that_the_agent_cannot_run_is_refused_by_its_field(aws):
    old = records.task_definition(family="old", status="INACTIVE")
    await aws.cell.put(records.task_definition(family="vpc", unsupported=("networkMode=awsvpc",)), old)
    with pytest.raises(UnsupportedFeatureError, match="networkMode=awsvpc is not built yet"):
        await aws.create(taskDefinition="vpc:1")
    with pytest.raises(ClientError, match="TaskDefinition is inactive"):
        await aws.create(taskDefinition="old:1")


async def test_what_cannot_act_but_says_nothing_is_accepted(aws):
    configuration = {"deploymentCircuitBreaker": {"enable": False, "rollback": True}, "maximumPercent": 150, "minimumHealthyPercent": 50}
    service = await aws.create(deploymentConfiguration=configuration, loadBalancers=[], serviceConnectConfiguration={"enabled": False})
    assert service["deploymentConfiguration"] == {**configuration, "strategy": "ROLLING", "bakeTimeInMinutes": 0}


async def test_a_taken_name_and_client_tokens(aws):
    first = await aws.create(clientToken="t1")
    assert await aws.create(clientToken="t1") == first
    assert len(await aws.cell.all(DEPLOYMENTS)) == 1
    assert len(await aws.cell.all(IDEMPOTENCY_TOKENS)) == 1
    for request in ({}, {"clientToken": "t2"}, {"clientToken": "t1", "desiredCount": 3}):
        with pytest.raises(InvalidParameterError, match="^Creation of service was not idempotent.$"):
            await aws.create(**request)


async def test_a_name_is_free_again_after_inactive_and_the_old_story_is_not_shown(aws):
    aws.cell.start()
    await aws.create()
    await aws.cell.clock.advance(60)
    assert len((await aws.describe())["events"]) == 3
    await aws("DeleteService", service="web", force=True)
    service = await aws.describe()
    assert (service["status"], service["deployments"], service["desiredCount"]) == ("INACTIVE", [], 0)
    again = await aws.create(desiredCount=1)
    assert again["events"] == []
    assert len(again["deployments"]) == 1
    await aws.cell.clock.advance(5)
    assert (await aws.describe())["runningCount"] == 1


async def test_a_draining_name_is_taken(aws):
    await aws.create()
    await aws("DeleteService", service="web", force=True)
    assert (await aws.describe())["status"] == "DRAINING"
    with pytest.raises(InvalidParameterError, match="Unable to Start a service that is still Draining."):
        await aws.create()
    with pytest.raises(ServiceNotActiveError):
        await aws.update(desiredCount=1)
    assert (await aws("DeleteService", service="web"))["service"]["status"] == "DRAINING"


async def test_delete_needs_zero_or_force(aws):
    await aws.create()
    with pytest.raises(InvalidParameterError, match="^The service cannot be stopped while it is scaled above 0.$"):
        await aws("DeleteService", service="web")
    await aws.update(desiredCount=0)
    assert (await aws("DeleteService", service=f"{BASE}:service/default/web"))["service"]["status"] == "DRAINING"
    with pytest.raises(ServiceNotFoundError):
        await aws("DeleteService", service="other")


async def test_delete_waits_for_older_deployments(aws):
    aws.cell.start()
    await aws.create()
    await aws.cell.clock.advance(60)
    await aws.update(forceNewDeployment=True, desiredCount=0)
    with pytest.raises(InvalidParameterError, match="^The service cannot be stopped while deployments are active.$"):
        await aws("DeleteService", service="web")
    await aws.cell.clock.advance(10)
    await aws("DeleteService", service="web")
    with pytest.raises(ServiceNotFoundError):
        await aws("DeleteService", service="web")


async def test_update_keeps_what_is_absent_and_clears_what_is_empty(aws):
    await aws.create(
        placementConstraints=[{"type": "distinctInstance"}],
        placementStrategy=[{"type": "spread", "field": "instanceId"}],
        propagateTags="SERVICE",
        deploymentConfiguration={"maximumPercent": 150},
    )
    kept = await aws.update(desiredCount=5)
    assert kept["placementConstraints"] == [{"type": "distinctInstance"}]
    assert (kept["propagateTags"], kept["desiredCount"]) == ("SERVICE", 5)
    changed = await aws.update(placementConstraints=[], placementStrategy=None, deploymentConfiguration={"minimumHealthyPercent": 50})
    assert changed["placementConstraints"] == []
    assert changed["placementStrategy"] == [{"type": "spread", "field": "instanceId"}]
    assert (changed["deploymentConfiguration"]["maximumPercent"], changed["deploymentConfiguration"]["minimumHealthyPercent"]) == (150, 50)
    assert len(changed["deployments"]) == 1
    (stored,) = await aws.cell.all(SERVICES)
    assert (stored.maximum_percent, stored.minimum_healthy_percent) == (150, 50)


async def test_what_starts_a_deployment(aws):
    await aws.create(taskDefinition="web:1")
    assert len((await aws.update(taskDefinition="web:1", desiredCount=3))["deployments"]) == 1
    second = await aws.update(taskDefinition="web")
    assert [(d["status"], d["taskDefinition"][-5:]) for d in second["deployments"]] == [("PRIMARY", "web:2"), ("ACTIVE", "web:1")]
    third = await aws.update(forceNewDeployment=True)
    assert [d["status"] for d in third["deployments"]] == ["PRIMARY", "ACTIVE", "ACTIVE"]
    newest = max(await aws.cell.all(DEPLOYMENTS), key=lambda item: item.created_at)
    assert f"ecs-svc/{newest.source_id}" == third["deployments"][1]["id"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"service": "other"}, ServiceNotFoundError),
        ({"taskDefinition": "nothing"}, ClientError),
        ({"desiredCount": -1}, InvalidParameterError),
        ({"loadBalancers": [{"containerName": "a", "containerPort": 1}]}, UnsupportedFeatureError),
        ({"deploymentConfiguration": {"strategy": "BLUE_GREEN"}}, InvalidParameterError),
        ({"deploymentController": {"type": "CODE_DEPLOY"}}, UnsupportedFeatureError),
        ({"enableExecuteCommand": True}, UnsupportedFeatureError),
    ],
)
async def test_update_refuses_and_changes_nothing(aws, request_, error):
    await aws.create()
    before = (await aws.cell.all(SERVICES), await aws.cell.all(DEPLOYMENTS))
    with pytest.raises(error) as raised:
        await aws.update(**request_)
    assert type(raised.value) is error
    assert (await aws.cell.all(SERVICES), await aws.cell.all(DEPLOYMENTS)) == before


async def test_force_works_with_a_definition_that_was_deregistered_since(aws):
    await aws.create(taskDefinition="web:1")
    await aws.cell.put(records.task_definition(status="INACTIVE"))
    assert len((await aws.update(forceNewDeployment=True))["deployments"]) == 2


async def test_describe_says_what_is_missing(aws):
    await aws.create()
    answer = await aws("DescribeServices", services=["web", "gone", f"{BASE}:service/default/web"])
    assert [service["serviceName"] for service in answer["services"]] == ["web"]
    assert answer["failures"] == [{"arn": f"{BASE}:service/default/gone", "reason": "MISSING"}]
    for services in ([], ["x"] * 11):
        with pytest.raises(InvalidParameterError):
            await aws("DescribeServices", services=services)


async def test_describe_counts_and_shows_events_newest_first(aws):
    aws.cell.start()
    await aws.create()
    service = await aws.describe()
    assert (service["pendingCount"], service["runningCount"]) == (2, 0)
    await aws.cell.clock.advance(60)
    service = await aws.describe()
    assert (service["pendingCount"], service["runningCount"]) == (0, 2)
    deployment = service["deployments"][0]
    assert (deployment["runningCount"], deployment["rolloutState"]) == (2, "COMPLETED")
    assert "currentServiceDeployment" not in service
    assert service["events"][-1]["message"].startswith("(service web) has started 2 tasks: (task ")
    assert "(service web) has reached a steady state." in [event["message"] for event in service["events"]]
    assert [event["createdAt"] for event in service["events"]] == sorted((e["createdAt"] for e in service["events"]), reverse=True)
    assert len(await aws.cell.all(SERVICE_EVENTS)) == 3
    assert len(await aws.cell.all(TASKS)) == 2


async def test_list_services_in_pages_of_active_ones(aws):
    for number in range(12):
        await aws.create(serviceName=f"s{number:02d}", launchType="EXTERNAL" if number % 2 else "EC2")
    await aws("DeleteService", service="s00", force=True)
    first = await aws("ListServices")
    assert [arn.rsplit("/", 1)[1] for arn in first["serviceArns"]] == [f"s{number:02d}" for number in range(1, 11)]
    second = await aws("ListServices", nextToken=first["nextToken"])
    assert ([arn.rsplit("/", 1)[1] for arn in second["serviceArns"]], second.get("nextToken")) == (["s11"], None)
    assert len((await aws("ListServices", launchType="EXTERNAL", maxResults=100))["serviceArns"]) == 6
    assert (await aws("ListServices", schedulingStrategy="DAEMON"))["serviceArns"] == []
    with pytest.raises(InvalidParameterError):
        await aws("ListServices", nextToken=first["nextToken"], launchType="EC2")
    with pytest.raises(InvalidParameterError):
        await aws("ListServices", maxResults=0)


async def test_services_stable_ends(aws):
    aws.cell.start()
    await aws.create()
    await aws.cell.clock.advance(2)
    service = await aws.describe()
    assert (len(service["deployments"]), service["runningCount"]) == (1, service["desiredCount"])
    await aws.update(forceNewDeployment=True)
    assert len((await aws.describe())["deployments"]) == 2
    await aws.cell.clock.advance(120)
    service = await aws.describe()
    assert (len(service["deployments"]), service["runningCount"]) == (1, 2)


async def test_a_superseded_rollout_is_over(aws):
    await aws.create()
    await aws.update(forceNewDeployment=True)
    old = min(await aws.cell.all(DEPLOYMENTS), key=lambda item: item.created_at)
    assert (old.status, old.rollout_state, old.finished_at > 0) == ("ACTIVE", "IN_PROGRESS", True)
    assert msgspec.structs.asdict(old)["throttled_until"] == 0.0
