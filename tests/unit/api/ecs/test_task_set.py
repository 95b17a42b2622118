"""Task sets and the EXTERNAL controller on a cell in memory: what is answered, what is refused, and where it leads with the controllers running."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from msgspec.structs import replace

from homeport.api.ecs.operations import OPERATIONS
from homeport.config import Settings
from homeport.errors import (
    ClientError,
    InvalidParameterError,
    ResourceInUseError,
    ServiceNotActiveError,
    ServiceNotFoundError,
    TaskSetNotFoundError,
    UnsupportedFeatureError,
)
from homeport.model.ecs.container_instance import Attribute
from homeport.store.tables import CONTAINER_INSTANCES, DEPLOYMENTS, SERVICE_EVENTS, SERVICES, TASK_DEFINITIONS, TASK_SETS, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

BASE = "arn:aws:ecs:us-east-1:123456789012"
MANAGED = ("CreateTaskSet", "DescribeTaskSets", "UpdateTaskSet", "DeleteTaskSet", "UpdateServicePrimaryTaskSet")


class Caller:
    def __init__(self, cell: MemoryCell) -> None:
        self.cell = cell

    async def __call__(self, operation, **request):
        if operation in MANAGED:
            request = {"cluster": "default", "service": "web", **request}
        return await self.cell.call(operation, OPERATIONS[operation], request)

    async def service(self, **request):
        given = {"serviceName": "web", "desiredCount": 4, "deploymentController": {"type": "EXTERNAL"}, **request}
        return (await self("CreateService", **given))["service"]

    async def create(self, scale=None, **request):
        given = {} if scale is None else {"scale": {"value": scale, "unit": "PERCENT"}}
        return (await self("CreateTaskSet", **{"taskDefinition": "web:1", **given, **request}))["taskSet"]

    async def scale(self, task_set, value):
        return (await self("UpdateTaskSet", taskSet=task_set["id"], scale={"value": value}))["taskSet"]

    async def primary(self, task_set):
        return (await self("UpdateServicePrimaryTaskSet", primaryTaskSet=task_set["id"]))["taskSet"]

    async def delete(self, task_set, **request):
        return (await self("DeleteTaskSet", taskSet=task_set["id"], **request))["taskSet"]

    async def described(self):
        return (await self("DescribeServices", services=["web"]))["services"][0]

    async def counts(self):
        """(computed, running, stability) of each set."""
        return [(item["computedDesiredCount"], item["runningCount"], item["stabilityStatus"]) for item in (await self.described())["taskSets"]]


@pytest.fixture
async def aws():
    cell = await MemoryCell.open()
    instances = [records.container_instance(id=f"{number:032x}") for number in (1, 2)]
    await cell.put(records.cluster(), records.task_definition(), records.task_definition(revision=2), *instances)
    yield Caller(cell)
    await cell.close()


@pytest.fixture
async def running(aws):
    aws.cell.start()
    return aws


# -- the service -------------------------------------------------------------------------------------------------------------------------------


async def test_an_external_service_has_no_task_definition_and_no_deployment_before_it_has_task_sets(aws):
    made = await aws.service()
    assert made["deploymentController"] == {"type": "EXTERNAL"}
    assert (made["deployments"], made["taskSets"], made["launchType"]) == ([], [], "EC2")
    assert "taskDefinition" not in made
    assert made["availabilityZoneRebalancing"] == "DISABLED"
    assert await aws.cell.all(DEPLOYMENTS) == []


async def test_the_name_is_all_that_an_external_service_needs(aws):
    made = (await aws("CreateService", serviceName="web", deploymentController={"type": "EXTERNAL"}))["service"]
    assert made["desiredCount"] == 0


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("taskDefinition", "web:1"),
        ("launchType", "EC2"),
        ("capacityProviderStrategy", [{"capacityProvider": "p", "weight": 1}]),
        ("platformVersion", "LATEST"),
        ("networkConfiguration", {"awsvpcConfiguration": {"subnets": ["s"]}}),
        ("loadBalancers", [{"targetGroupArn": "t", "containerName": "app", "containerPort": 80}]),
        ("serviceRegistries", [{"registryArn": "r"}]),
    ],
)
async def test_what_belongs_to_a_task_set_is_refused_at_the_service(aws, member, value):
    with pytest.raises(InvalidParameterError, match=f"{member} cannot be specified for a service with an EXTERNAL"):
        await aws.service(**{member: value})
    assert await aws.cell.all(SERVICES) == []


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"maximumPercent": 150}, "maximumPercent must be 200"),
        ({"minimumHealthyPercent": 50}, "minimumHealthyPercent must be 100"),
        ({"deploymentCircuitBreaker": {"enable": True, "rollback": True}}, "deploymentCircuitBreaker is not supported"),
        ({"strategy": "BLUE_GREEN"}, "BLUE_GREEN is not supported"),
        ({"bakeTimeInMinutes": 5}, "bakeTimeInMinutes is not supported"),
    ],
)
async def test_nothing_of_a_rolling_update_goes_with_task_sets(aws, configuration, words):
    with pytest.raises(InvalidParameterError, match=words):
        await aws.service(deploymentConfiguration=configuration)


async def test_the_defaults_of_a_rolling_update_are_no_error(aws):
    off = {"maximumPercent": 200, "minimumHealthyPercent": 100, "deploymentCircuitBreaker": {"enable": False, "rollback": False}}
    made = await aws.service(deploymentConfiguration=off)
    assert made["deploymentConfiguration"]["maximumPercent"] == 200


async def test_a_daemon_has_no_external_controller(aws):
    with pytest.raises(InvalidParameterError, match="DAEMON"):
        await aws.service(schedulingStrategy="DAEMON", taskDefinition="web:1")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"taskDefinition": "web:2"}, "Unable to update task definition on services with an EXTERNAL deployment controller. Use CreateTaskSet"),
        ({"forceNewDeployment": True}, "Cannot force a new deployment on services with an EXTERNAL deployment controller"),
        ({"capacityProviderStrategy": []}, "Unable to update capacity provider strategy"),
        ({"deploymentConfiguration": {"maximumPercent": 150}}, "maximumPercent must be 200"),
        ({"availabilityZoneRebalancing": "ENABLED"}, "needs the ECS deployment controller"),
    ],
)
async def test_update_service_takes_only_what_is_the_service_s(aws, members, words):
    await aws.service()
    before = await aws.cell.all(SERVICES)
    with pytest.raises(InvalidParameterError, match=words):
        await aws("UpdateService", service="web", **members)
    assert await aws.cell.all(SERVICES) == before


async def test_update_service_takes_what_the_documentation_lists(aws):
    await aws.service()
    strategy, constraints = [{"type": "spread", "field": "instanceId"}], [{"type": "distinctInstance"}]
    given = {"desiredCount": 6, "placementStrategy": strategy, "placementConstraints": constraints, "healthCheckGracePeriodSeconds": 0}
    found = (await aws("UpdateService", service="web", enableECSManagedTags=True, propagateTags="SERVICE", **given))["service"]
    assert (found["desiredCount"], found["placementStrategy"], found["placementConstraints"]) == (6, strategy, constraints)
    assert (found["enableECSManagedTags"], found["propagateTags"]) == (True, "SERVICE")


async def test_the_controller_of_a_service_stays(aws):
    await aws.service()
    with pytest.raises(UnsupportedFeatureError, match="deploymentController ECS in place of EXTERNAL"):
        await aws("UpdateService", service="web", deploymentController={"type": "ECS"})
    assert (await aws("UpdateService", service="web", deploymentController={"type": "EXTERNAL"}))["service"]["status"] == "ACTIVE"


# -- the sets ----------------------------------------------------------------------------------------------------------------------------------


async def test_create_answers_the_whole_set(aws):
    await aws.service()
    made = await aws.create(50.0, externalId="build 7", tags=[{"key": "a", "value": "b"}])
    (stored,) = await aws.cell.all(TASK_SETS)
    assert len(stored.id) == 19
    assert made.pop("createdAt") == made.pop("updatedAt") == made.pop("stabilityStatusAt") == stored.created_at
    assert made == {
        "id": f"ecs-svc/{stored.id}",
        "taskSetArn": f"{BASE}:task-set/default/web/ecs-svc/{stored.id}",
        "serviceArn": f"{BASE}:service/default/web",
        "clusterArn": f"{BASE}:cluster/default",
        "status": "ACTIVE",
        "taskDefinition": f"{BASE}:task-definition/web:1",
        "computedDesiredCount": 2,
        "pendingCount": 0,
        "runningCount": 0,
        "launchType": "EC2",
        "loadBalancers": [],
        "serviceRegistries": [],
        "scale": {"value": 50.0, "unit": "PERCENT"},
        "stabilityStatus": "STABILIZING",
        "externalId": "build 7",
        "tags": [{"key": "a", "value": "b"}],
    }


async def test_without_a_scale_a_set_has_none(aws):
    await aws.service()
    made = await aws.create()
    assert (made["scale"], made["computedDesiredCount"]) == ({"value": 0.0, "unit": "PERCENT"}, 0)


async def test_a_set_may_be_for_external_instances(aws):
    await aws.service()
    assert (await aws.create(launchType="EXTERNAL"))["launchType"] == "EXTERNAL"


async def test_a_task_definition_without_a_revision_is_the_newest(aws):
    await aws.service()
    assert (await aws.create(taskDefinition="web"))["taskDefinition"].endswith("web:2")


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({"taskDefinition": "none"}, ClientError, "TaskDefinition not found."),
        ({"scale": 100.5}, InvalidParameterError, "between 0 and 100"),
        ({"scale": -1}, InvalidParameterError, "between 0 and 100"),
        ({"loadBalancers": [{"targetGroupArn": "t"}]}, UnsupportedFeatureError, "loadBalancers"),
        ({"serviceRegistries": [{"registryArn": "r"}]}, UnsupportedFeatureError, "serviceRegistries"),
        ({"launchType": "FARGATE"}, UnsupportedFeatureError, "FARGATE"),
        ({"platformVersion": "1.4.0"}, InvalidParameterError, "platform version"),
        ({"networkConfiguration": {}}, InvalidParameterError, "Network Configuration"),
        ({"clientToken": "x" * 37}, InvalidParameterError, "clientToken"),
        ({"tags": [{"key": "aws:x"}]}, InvalidParameterError, "reserved"),
        ({"capacityProviderStrategy": [{"capacityProvider": "none", "weight": 1}]}, InvalidParameterError, "not associated"),
        ({"service": "none"}, ServiceNotFoundError, "Service not found."),
    ],
)
async def test_what_makes_no_set_is_refused_and_nothing_is_written(aws, members, error, words):
    await aws.service()
    with pytest.raises(error, match=words):
        await aws.create(**members)
    assert await aws.cell.all(TASK_SETS) == []


@pytest.mark.parametrize("controller", [{}, {"deploymentController": {"type": "CODE_DEPLOY"}}])
async def test_only_external_services_have_managed_task_sets(aws, controller):
    await aws("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=1, **controller)
    members = {
        "CreateTaskSet": {"taskDefinition": "web:1"},
        "DescribeTaskSets": {},
        "UpdateTaskSet": {"taskSet": "ecs-svc/1", "scale": {"value": 1}},
        "DeleteTaskSet": {"taskSet": "ecs-svc/1"},
        "UpdateServicePrimaryTaskSet": {"primaryTaskSet": "ecs-svc/1"},
    }
    for operation in MANAGED:
        with pytest.raises(InvalidParameterError, match="only supports task set management on services configured to use external deployment"):
            await aws(operation, **members[operation])


async def test_a_sixth_set_is_one_too_many_and_a_draining_one_counts(aws):
    await aws.service()
    sets = [await aws.create() for _ in range(5)]
    words = "5 deployments exist on the service. Unable to create new TaskSet since this exceeds the maximum limit."
    with pytest.raises(InvalidParameterError, match=words):
        await aws.create()
    await aws.delete(sets[0])  # no controller runs, so it stays
    with pytest.raises(InvalidParameterError, match=words):
        await aws.create()


async def test_the_number_of_sets_is_a_setting():
    cell = await MemoryCell.open(settings=Settings(task_sets_per_service_max=1))
    await cell.put(records.cluster(), records.task_definition())
    aws = Caller(cell)
    await aws.service()
    await aws.create()
    with pytest.raises(InvalidParameterError, match="1 deployments exist"):
        await aws.create()
    await cell.close()


async def test_a_repeated_token_gives_the_set_that_it_made(aws):
    await aws.service()
    first = await aws.create(10.0, clientToken="one")
    assert (await aws.create(10.0, clientToken="one"))["id"] == first["id"]
    assert len(await aws.cell.all(TASK_SETS)) == 1
    with pytest.raises(InvalidParameterError, match="not idempotent"):
        await aws.create(20.0, clientToken="one")
    assert (await aws.create(10.0, clientToken="two"))["id"] != first["id"]


async def test_describe_gives_all_or_those_named_and_tells_what_is_missing(aws):
    await aws.service()
    one, two = await aws.create(tags=[{"key": "a", "value": "b"}]), await aws.create()
    assert [item["id"] for item in (await aws("DescribeTaskSets"))["taskSets"]] == [one["id"], two["id"]]
    answer = await aws("DescribeTaskSets", taskSets=[two["taskSetArn"], one["id"].removeprefix("ecs-svc/"), "ecs-svc/7"], include=["TAGS"])
    assert [item["id"] for item in answer["taskSets"]] == [two["id"], one["id"]]
    assert answer["taskSets"][1]["tags"] == [{"key": "a", "value": "b"}]
    assert answer["failures"] == [{"arn": f"{BASE}:task-set/default/web/ecs-svc/7", "reason": "MISSING"}]
    assert "tags" not in (await aws("DescribeTaskSets", taskSets=[one["id"]]))["taskSets"][0]


@pytest.mark.parametrize("reference", [f"{BASE}:task-set/default/other/ecs-svc/1", f"{BASE}:service/default/web", "a/b", "arn:x"])
async def test_what_can_name_no_set_of_the_service_is_refused(aws, reference):
    await aws.service()
    with pytest.raises(InvalidParameterError, match="Invalid identifier"):
        await aws("DescribeTaskSets", taskSets=[reference])


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("UpdateTaskSet", {"taskSet": "ecs-svc/7", "scale": {"value": 1.0}}),
        ("DeleteTaskSet", {"taskSet": "ecs-svc/7"}),
        ("UpdateServicePrimaryTaskSet", {"primaryTaskSet": "ecs-svc/7"}),
    ],
)
async def test_an_unknown_set_is_task_set_not_found(aws, operation, members):
    await aws.service()
    with pytest.raises(TaskSetNotFoundError):
        await aws(operation, **members)
    assert TaskSetNotFoundError.code == "TaskSetNotFoundException"


async def test_a_service_that_is_deleted_takes_no_sets(aws):
    await aws.service()
    made = await aws.create()
    await aws("DeleteService", service="web", force=True)
    for operation, members in (
        ("CreateTaskSet", {"taskDefinition": "web:1"}),
        ("UpdateTaskSet", {"taskSet": made["id"], "scale": {"value": 1.0}}),
        ("DeleteTaskSet", {"taskSet": made["id"]}),
        ("UpdateServicePrimaryTaskSet", {"primaryTaskSet": made["id"]}),
    ):
        with pytest.raises(ServiceNotActiveError):
            await aws(operation, **members)
    assert (await aws("DescribeTaskSets"))["taskSets"][0]["status"] == "DRAINING"


async def test_one_set_is_primary_and_the_service_shows_what_it_is(aws):
    await aws.service()
    blue, green = await aws.create(), await aws.create(taskDefinition="web:2", launchType="EXTERNAL")
    assert (await aws.primary(blue))["status"] == "PRIMARY"
    found = await aws.described()
    assert (found["taskDefinition"], found["launchType"]) == (f"{BASE}:task-definition/web:1", "EC2")
    assert (await aws.primary(green))["status"] == "PRIMARY"
    found = await aws.described()
    assert (found["taskDefinition"], found["launchType"]) == (f"{BASE}:task-definition/web:2", "EXTERNAL")
    assert [(item["id"], item["status"]) for item in found["taskSets"]] == [(green["id"], "PRIMARY"), (blue["id"], "ACTIVE")]


async def test_delete_needs_force_for_the_primary_set_and_for_one_that_has_a_share(aws):
    await aws.service()
    blue, green = await aws.create(100.0), await aws.create(10.0)
    await aws.primary(blue)
    with pytest.raises(InvalidParameterError, match="Primary TaskSet cannot be deleted"):
        await aws.delete(blue)
    with pytest.raises(InvalidParameterError, match="scaled above 0"):
        await aws.delete(green)
    await aws.scale(green, 0.0)
    assert (await aws.delete(green))["status"] == "DRAINING"
    assert (await aws.delete(green))["status"] == "DRAINING"  # asking again changes nothing
    assert (await aws.delete(blue, force=True))["status"] == "DRAINING"
    for call in (aws.scale(blue, 50.0), aws.primary(blue)):
        with pytest.raises(InvalidParameterError, match="draining"):
            await call


async def test_task_sets_can_be_tagged(aws):
    await aws.service()
    arn = (await aws.create())["taskSetArn"]
    await aws("TagResource", resourceArn=arn, tags=[{"key": "a", "value": "b"}, {"key": "c", "value": "d"}])
    await aws("UntagResource", resourceArn=arn, tagKeys=["c"])
    assert (await aws("ListTagsForResource", resourceArn=arn))["tags"] == [{"key": "a", "value": "b"}]
    with pytest.raises(InvalidParameterError, match="Invalid ARN"):
        await aws("TagResource", resourceArn=f"{BASE}:task-set/web/ecs-svc/1", tags=[{"key": "a", "value": "b"}])


# -- with the controllers ----------------------------------------------------------------------------------------------------------------------


async def test_blue_and_green(running):
    aws = running
    await aws.service()
    blue = await aws.create(100.0)
    await aws.primary(blue)
    await aws.cell.clock.advance(5)
    assert await aws.counts() == [(4, 4, "STEADY_STATE")]
    green = await aws.create(25.0, taskDefinition="web:2")
    await aws.cell.clock.advance(5)
    assert await aws.counts() == [(4, 4, "STEADY_STATE"), (1, 1, "STEADY_STATE")]
    assert (await aws.scale(green, 100.0))["stabilityStatus"] == "STABILIZING"
    await aws.cell.clock.advance(60)
    assert await aws.counts() == [(4, 4, "STEADY_STATE"), (4, 4, "STEADY_STATE")]
    tasks = [task for task in await aws.cell.all(TASKS) if task.revision == 2]
    assert {(task.started_by, task.group, task.service) for task in tasks} == {(green["id"], "service:web", "web")}
    await aws.primary(green)
    await aws.scale(blue, 0.0)
    await aws.cell.clock.advance(60)
    assert await aws.counts() == [(4, 4, "STEADY_STATE"), (0, 0, "STEADY_STATE")]
    await aws.delete(blue)
    await aws.cell.clock.advance(5)
    found = await aws.described()
    assert [item["id"] for item in found["taskSets"]] == [green["id"]]
    assert (found["runningCount"], found["pendingCount"], found["deployments"]) == (4, 0, [])
    assert f"(service web, taskSet {green['id']}) has started 1 tasks" in " ".join(event["message"] for event in found["events"])


async def test_the_desired_count_scales_every_set_by_its_share(running):
    aws = running
    await aws.service()
    await aws.create(100.0)
    await aws.create(30.0)
    await aws.cell.clock.advance(60)
    answer = (await aws("UpdateService", service="web", desiredCount=9))["service"]
    assert [item["stabilityStatus"] for item in answer["taskSets"]] == ["STABILIZING", "STABILIZING"]
    await aws.cell.clock.advance(60)
    assert await aws.counts() == [(9, 9, "STEADY_STATE"), (3, 3, "STEADY_STATE")]
    await aws("UpdateService", service="web", desiredCount=1)
    await aws.cell.clock.advance(60)
    assert await aws.counts() == [(1, 1, "STEADY_STATE"), (1, 1, "STEADY_STATE")]


async def test_a_task_that_ends_is_replaced_in_its_own_set(running):
    aws = running
    await aws.service(desiredCount=2)
    await aws.create(100.0)
    green = await aws.create(50.0, taskDefinition="web:2")
    await aws.cell.clock.advance(60)
    (lost,) = [task for task in await aws.cell.all(TASKS) if task.revision == 2]
    await aws("StopTask", task=lost.id)
    await aws.cell.clock.advance(10)
    assert await aws.counts() == [(2, 2, "STEADY_STATE"), (1, 1, "STEADY_STATE")]
    assert len([task for task in await aws.cell.all(TASKS) if task.started_by == green["id"]]) == 2


async def test_tasks_leave_an_instance_that_drains_after_their_replacements_run(running):
    aws = running
    await aws.service(placementStrategy=[{"type": "spread", "field": "instanceId"}])
    await aws.create(100.0)
    await aws.cell.clock.advance(60)
    await aws("UpdateContainerInstancesState", containerInstances=[f"{1:032x}"], status="DRAINING")
    await aws.cell.clock.advance(3)
    assert (await aws.counts())[0][2] == "STABILIZING"
    await aws.cell.clock.advance(120)
    assert await aws.counts() == [(4, 4, "STEADY_STATE")]
    live = [task for task in await aws.cell.all(TASKS) if task.desired_status == "RUNNING"]
    assert {task.container_instance_id for task in live} == {f"{2:032x}"}


async def test_a_set_that_fails_to_start_is_delayed_and_the_other_is_not(running):
    aws = running
    await aws.service()
    await aws.create(100.0)
    aws.cell.agents.failure, aws.cell.agents.failing = "CannotPullContainerError: no such image", {2}
    await aws.create(25.0, taskDefinition="web:2")
    await aws.cell.clock.advance(40)
    assert (await aws.counts())[0] == (4, 4, "STEADY_STATE")
    failed = [task for task in await aws.cell.all(TASKS) if task.revision == 2]
    assert 3 <= len(failed) <= 5
    (bad,) = [item for item in await aws.cell.all(TASK_SETS) if item.revision == 2]
    assert bad.impaired
    assert bad.throttled_until > aws.cell.clock.now()
    messages = [event.message for event in await aws.cell.all(SERVICE_EVENTS)]
    assert sum("unable to consistently start tasks" in message for message in messages) == 1


async def test_what_finds_no_room_is_told_on_the_service_and_tried_again(running):
    aws = running
    await aws.cell.put(records.task_definition(family="huge", cpu=4000, memory_mib=100))
    await aws.service(desiredCount=3)
    await aws.create(100.0, taskDefinition="huge:1")
    await aws.cell.clock.advance(30)
    assert await aws.counts() == [(3, 2, "STABILIZING")]
    (event,) = [item.message for item in await aws.cell.all(SERVICE_EVENTS) if "unable to place a task" in item.message]
    assert ", taskSet ecs-svc/" in event
    await aws.cell.put(records.container_instance(id=f"{3:032x}"))
    await aws.cell.clock.advance(3)
    assert await aws.counts() == [(3, 3, "STEADY_STATE")]
    (service,) = await aws.cell.all(SERVICES)
    assert service.placement_failure == ""


async def test_tasks_of_a_set_are_shared_out_by_its_own_strategy(running):
    aws = running
    for name in ("steady", "burst"):
        await aws(
            "CreateCapacityProvider", name=name, autoScalingGroupProvider={"autoScalingGroupArn": name, "managedScaling": {"status": "DISABLED"}}
        )
    await aws("PutClusterCapacityProviders", cluster="default", capacityProviders=["steady", "burst"], defaultCapacityProviderStrategy=[])
    for number, name in enumerate(("steady", "burst"), 1):
        (found,) = [item for item in await aws.cell.all(CONTAINER_INSTANCES) if item.id == f"{number:032x}"]
        await aws.cell.put(replace(found, attributes=(Attribute(name="homeport.capacity-provider", value=name),)))
    await aws.service()
    strategy = [{"capacityProvider": "steady", "weight": 1, "base": 0}, {"capacityProvider": "burst", "weight": 3, "base": 0}]
    made = await aws.create(100.0, capacityProviderStrategy=strategy)
    assert made["capacityProviderStrategy"] == strategy
    assert "launchType" not in made
    await aws.create(25.0, taskDefinition="web:2")
    await aws.cell.clock.advance(10)
    tasks = await aws.cell.all(TASKS)
    assert Counter(task.capacity_provider for task in tasks if task.revision == 1) == {"steady": 1, "burst": 3}
    assert [task.capacity_provider for task in tasks if task.revision == 2] == [""]
    with pytest.raises(ResourceInUseError):
        await aws("PutClusterCapacityProviders", cluster="default", capacityProviders=["steady"], defaultCapacityProviderStrategy=[])
    await aws.primary(made)
    assert (await aws.described())["capacityProviderStrategy"] == strategy


async def test_a_service_with_sets_is_deleted_by_force_only(running):
    aws = running
    await aws.service()
    blue = await aws.create(100.0)
    await aws.cell.clock.advance(10)
    with pytest.raises(InvalidParameterError, match="scaled above 0"):
        await aws("DeleteService", service="web")
    await aws("UpdateService", service="web", desiredCount=0)
    await aws.cell.clock.advance(60)
    with pytest.raises(InvalidParameterError, match="The service cannot be stopped while deployments are active."):
        await aws("DeleteService", service="web")
    await aws.delete(blue, force=True)
    await aws.cell.clock.advance(5)
    assert (await aws("DeleteService", service="web"))["service"]["status"] == "DRAINING"
    await aws.cell.clock.advance(5)
    assert (await aws.described())["status"] == "INACTIVE"


async def test_a_forced_deletion_takes_all_sets_with_it(running):
    aws = running
    await aws.service()
    for scale in (100.0, 50.0):
        await aws.create(scale)
    await aws.cell.clock.advance(10)
    found = (await aws("DeleteService", service="web", force=True))["service"]
    assert (found["status"], [item["status"] for item in found["taskSets"]]) == ("DRAINING", ["DRAINING", "DRAINING"])
    await aws.cell.clock.advance(10)
    found = await aws.described()
    assert (found["status"], found["taskSets"], found["runningCount"]) == ("INACTIVE", [], 0)
    assert {task.last_status for task in await aws.cell.all(TASKS)} == {"STOPPED"}
    # The name is free again.
    assert (await aws.service())["status"] == "ACTIVE"
    await aws.create(25.0)
    await aws.cell.clock.advance(10)
    assert await aws.counts() == [(1, 1, "STEADY_STATE")]


async def test_a_deleted_task_definition_stays_while_a_set_has_it(running):
    aws = running
    await aws.service()
    blue = await aws.create(0.0)
    await aws("DeregisterTaskDefinition", taskDefinition="web:1")
    await aws("DeleteTaskDefinitions", taskDefinitions=["web:1"])
    await aws.cell.clock.advance(200)
    assert len(await aws.cell.all(TASK_DEFINITIONS)) == 2
    await aws.delete(blue)
    await aws.cell.clock.advance(200)
    assert len(await aws.cell.all(TASK_DEFINITIONS)) == 1


async def test_a_restart_in_the_middle_changes_nothing(aws):
    await aws.service(desiredCount=60)
    await aws.create(100.0)
    aws.cell.start()
    await aws.cell.clock.settle()
    again = aws.cell.new_loop()
    other = asyncio.create_task(again.run())
    await aws.cell.clock.advance(60)
    other.cancel()
    found = (await aws.described())["taskSets"][0]
    assert (found["runningCount"], found["computedDesiredCount"]) == (60, 60)
    assert not any(status.errors for status in [*aws.cell.loop.status(), *again.status()])


# -- CODE_DEPLOY -------------------------------------------------------------------------------------------------------------------------------


async def test_a_code_deploy_service_runs_its_first_set_and_leaves_the_rest_to_code_deploy(running):
    aws = running
    made = (await aws("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=3, deploymentController={"type": "CODE_DEPLOY"}))[
        "service"
    ]
    assert (made["deploymentController"], made["deployments"]) == ({"type": "CODE_DEPLOY"}, [])
    assert [(item["status"], item["scale"]["value"]) for item in made["taskSets"]] == [("PRIMARY", 100.0)]
    await aws.cell.clock.advance(5)
    assert await aws.counts() == [(3, 3, "STEADY_STATE")]
    words = "Unable to update task definition on services with a CODE_DEPLOY deployment controller. Use AWS CodeDeploy to trigger a new deployment."
    with pytest.raises(InvalidParameterError, match=words):
        await aws("UpdateService", service="web", taskDefinition="web:2")
    await aws("UpdateService", service="web", desiredCount=0)
    await aws.cell.clock.advance(60)
    assert await aws.counts() == [(0, 0, "STEADY_STATE")]
    await aws("DeleteService", service="web")
    await aws.cell.clock.advance(5)
    assert (await aws.described())["status"] == "INACTIVE"


async def test_tasks_of_a_set_wait_for_capacity_of_their_provider_and_are_placed_by_what_the_set_is(running):
    aws = running
    await aws("CreateCapacityProvider", name="pool", autoScalingGroupProvider={"autoScalingGroupArn": "g", "managedScaling": {"status": "ENABLED"}})
    await aws("PutClusterCapacityProviders", cluster="default", capacityProviders=["pool"], defaultCapacityProviderStrategy=[])
    await aws.service(desiredCount=2)
    blue = await aws.create(100.0, capacityProviderStrategy=[{"capacityProvider": "pool", "weight": 1}])
    await aws.primary(await aws.create(100.0, taskDefinition="web:2", launchType="EXTERNAL"))
    await aws.cell.clock.advance(5)
    shown = {item["id"]: item for item in (await aws.described())["taskSets"]}
    assert (shown[blue["id"]]["pendingCount"], shown[blue["id"]]["stabilityStatus"]) == (2, "STABILIZING")
    attributes = (Attribute(name="homeport.capacity-provider", value="pool"),)
    await aws.cell.put(records.container_instance(id=f"{3:032x}", attributes=attributes))
    await aws.cell.clock.advance(5)
    shown = {item["id"]: item for item in (await aws.described())["taskSets"]}
    assert (shown[blue["id"]]["runningCount"], shown[blue["id"]]["stabilityStatus"]) == (2, "STEADY_STATE")
    placed = [task for task in await aws.cell.all(TASKS) if task.started_by == blue["id"]]
    assert {task.container_instance_id for task in placed} == {f"{3:032x}"}


async def test_as_many_tasks_of_a_set_can_be_protected_as_it_is_to_have(running):
    aws = running
    await aws.service(desiredCount=2)
    await aws.create(100.0)
    green = await aws.create(50.0, taskDefinition="web:2")
    await aws.cell.clock.advance(60)
    ids = [task.id for task in await aws.cell.all(TASKS)]
    answer = await aws("UpdateTaskProtection", cluster="default", tasks=ids, protectionEnabled=True)
    assert (len(answer["protectedTasks"]), answer["failures"]) == (3, [])
    await aws.scale(green, 100.0)
    await aws.cell.clock.advance(60)
    await aws.scale(green, 50.0)
    await aws.cell.clock.advance(60)
    assert [counts[:2] for counts in await aws.counts()] == [(2, 2), (1, 1)]  # the protected one stayed
    await aws("UpdateTaskProtection", cluster="default", tasks=ids, protectionEnabled=False)
    await aws.scale(green, 0.0)
    (one,) = [task.id for task in await aws.cell.all(TASKS) if task.revision == 2 and task.id in ids]
    answer = await aws("UpdateTaskProtection", cluster="default", tasks=[one], protectionEnabled=True)
    assert [failure["reason"] for failure in answer["failures"]] in (["DEPLOYMENT_BLOCKED"], ["TASK_NOT_VALID"])
