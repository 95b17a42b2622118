"""Breaker, rollback and stop of deployments: handlers, controllers and agents together, in memory."""

from __future__ import annotations

import pytest

from homeport.api.ecs import service, service_deployment
from homeport.errors import ConflictError, InvalidParameterError, ServiceDeploymentNotFoundError
from homeport.store.tables import DEPLOYMENTS, SERVICE_EVENTS, TASKS
from homeport.testing import records

HANDLERS = {
    "CreateService": service.create_service,
    "UpdateService": service.update_service,
    "DeleteService": service.delete_service,
    "DescribeServices": service.describe_services,
    "ListServiceDeployments": service_deployment.list_service_deployments,
    "DescribeServiceDeployments": service_deployment.describe_service_deployments,
    "DescribeServiceRevisions": service_deployment.describe_service_revisions,
    "StopServiceDeployment": service_deployment.stop_service_deployment,
}
BREAKER = {"enable": True, "rollback": True}
NO_IMAGE = "CannotPullContainerError: no such image"


class Aws:
    """Calls of one service `web` on a cell."""

    def __init__(self, cell):
        self.cell = cell

    async def __call__(self, operation, **request):
        return await self.cell.call(operation, HANDLERS[operation], request)

    async def create(self, **configuration):
        await self("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=2, deploymentConfiguration=configuration)

    async def completed(self, **configuration):
        await self.create(**configuration)
        await self.cell.clock.advance(60)
        assert [item["status"] for item in await self.listed()] == ["SUCCESSFUL"]

    async def update(self, **request):
        await self("UpdateService", service="web", **request)

    async def listed(self):
        return (await self("ListServiceDeployments", service="web"))["serviceDeployments"]

    async def newest(self):
        (described,) = (await self("DescribeServiceDeployments", serviceDeploymentArns=[(await self.listed())[0]["serviceDeploymentArn"]]))[
            "serviceDeployments"
        ]
        return described

    async def service(self):
        (shown,) = (await self("DescribeServices", services=["web"]))["services"]
        return shown

    async def running(self):
        return sorted(task.revision for task in await self.cell.all(TASKS) if task.last_status == "RUNNING")

    async def messages(self):
        return [event.message for event in await self.cell.all(SERVICE_EVENTS)]


@pytest.fixture
async def aws(make_cell):
    return Aws(await make_cell(records.task_definition(revision=2), records.task_definition(revision=3)))


def fail(aws, *revisions):
    aws.cell.agents.failure, aws.cell.agents.failing = NO_IMAGE, set(revisions)


async def test_a_bad_revision_is_rolled_back_and_the_old_tasks_are_kept(aws):
    await aws.completed(deploymentCircuitBreaker=BREAKER)
    kept = {task.id for task in await aws.cell.all(TASKS)}
    fail(aws, 2)
    await aws.update(taskDefinition="web:2")
    good, bad = (await aws.listed())[::-1]
    await aws.cell.clock.advance(10)
    shown = await aws.newest()
    assert shown["status"] in ("ROLLBACK_IN_PROGRESS", "ROLLBACK_SUCCESSFUL")
    assert (await aws.service())["taskDefinition"].endswith("web:1")
    await aws.cell.clock.advance(60)
    shown = await aws.newest()
    assert shown["serviceDeploymentArn"] == bad["serviceDeploymentArn"]
    assert shown["status"] == "ROLLBACK_SUCCESSFUL"
    assert shown["deploymentCircuitBreaker"] == {"status": "TRIGGERED", "failureCount": 3, "threshold": 3}
    assert shown["rollback"]["serviceRevisionArn"] == good["targetServiceRevisionArn"]
    assert "circuit breaker" in shown["rollback"]["reason"]
    assert {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"} == kept
    described = await aws.service()
    (only,) = described["deployments"]
    old_digits = good["targetServiceRevisionArn"].rsplit("/", 1)[1]
    assert (only["id"], only["status"], only["rolloutState"]) == (f"ecs-svc/{old_digits}", "PRIMARY", "COMPLETED")
    assert "currentServiceDeployment" not in described
    assert len(await aws.listed()) == 2
    messages = await aws.messages()
    bad_digits = bad["targetServiceRevisionArn"].rsplit("/", 1)[1]
    assert f"(service web) (deployment ecs-svc/{bad_digits}) deployment failed: tasks failed to start." in messages
    assert f"(service web) rolling back to deployment ecs-svc/{old_digits}." in messages


async def test_without_rollback_the_deployment_fails_and_the_old_tasks_stay(aws):
    await aws.completed(deploymentCircuitBreaker={"enable": True, "rollback": False}, minimumHealthyPercent=50)
    fail(aws, 2)
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(60)
    shown = await aws.newest()
    assert (shown["status"], shown["deploymentCircuitBreaker"]["status"]) == ("STOPPED", "TRIGGERED")
    assert shown["stoppedAt"] == shown["finishedAt"]
    described = await aws.service()
    primary = described["deployments"][0]
    assert (primary["rolloutState"], primary["rolloutStateReason"]) == ("FAILED", "ECS deployment circuit breaker: tasks failed to start.")
    started = len(await aws.cell.all(TASKS))
    left = await aws.running()
    assert left
    await aws.cell.clock.advance(4000)
    assert len(await aws.cell.all(TASKS)) == started
    assert await aws.running() == left
    aws.cell.agents.failure = ""
    await aws.update(taskDefinition="web:3")
    await aws.cell.clock.advance(120)
    assert (await aws.running(), (await aws.newest())["status"]) == ([3, 3], "SUCCESSFUL")


async def test_a_service_whose_deployment_failed_can_be_scaled_to_nothing_and_deleted(aws):
    await aws.completed(deploymentCircuitBreaker={"enable": True, "rollback": False})
    fail(aws, 2)
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(60)
    await aws.update(desiredCount=0)
    await aws.cell.clock.advance(20)
    await aws("DeleteService", service="web")
    await aws.cell.clock.advance(5)
    assert (await aws.service())["status"] == "INACTIVE"


async def test_a_first_deployment_that_fails_has_nothing_to_go_back_to(aws):
    fail(aws)
    await aws.create(deploymentCircuitBreaker=BREAKER)
    await aws.cell.clock.advance(60)
    shown = await aws.newest()
    assert (shown["status"], "rollback" in shown) == ("STOPPED", False)
    assert "no service revision to roll back to" in shown["statusReason"]


async def test_a_rollback_that_fails_is_not_rolled_back(aws):
    await aws.completed(deploymentCircuitBreaker=BREAKER, minimumHealthyPercent=0, maximumPercent=100)
    fail(aws)
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(600)
    shown = await aws.newest()
    assert (shown["status"], len(await aws.listed())) == ("ROLLBACK_FAILED", 2)
    (primary,) = (await aws.service())["deployments"]
    assert primary["rolloutState"] == "FAILED"
    started = len(await aws.cell.all(TASKS))
    await aws.cell.clock.advance(4000)
    assert len(await aws.cell.all(TASKS)) == started
    assert [item.rollback_of for item in await aws.cell.all(DEPLOYMENTS)].count("") == 2


async def test_a_newer_deployment_cuts_a_rollback_short(aws):
    await aws.completed(deploymentCircuitBreaker=BREAKER, minimumHealthyPercent=0, maximumPercent=100)
    fail(aws, 2)
    await aws.update(taskDefinition="web:2")
    while (await aws.newest())["status"] != "ROLLBACK_IN_PROGRESS":
        await aws.cell.clock.advance(0.5)
    await aws.update(taskDefinition="web:3")
    assert [item["status"] for item in await aws.listed()] == ["IN_PROGRESS", "ROLLBACK_FAILED", "SUCCESSFUL"]
    await aws.cell.clock.advance(120)
    assert ((await aws.newest())["status"], await aws.running()) == ("SUCCESSFUL", [3, 3])


async def test_stopping_a_deployment_rolls_it_back_also_without_a_breaker(aws):
    await aws.completed()
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(5)
    assert await aws.running() == [1, 1, 2, 2]
    arn = (await aws.listed())[0]["serviceDeploymentArn"]
    assert (await aws("StopServiceDeployment", serviceDeploymentArn=arn, stopType="ROLLBACK")) == {"serviceDeploymentArn": arn}
    assert (await aws("StopServiceDeployment", serviceDeploymentArn=arn)) == {"serviceDeploymentArn": arn}
    await aws.cell.clock.advance(60)
    shown = await aws.newest()
    assert (shown["status"], await aws.running()) == ("ROLLBACK_SUCCESSFUL", [1, 1])
    assert "by the user" in shown["rollback"]["reason"]
    assert not [text for text in await aws.messages() if "failed" in text]
    with pytest.raises(ConflictError):
        await aws("StopServiceDeployment", serviceDeploymentArn=arn)


async def test_stopping_a_first_deployment_ends_it(aws):
    await aws.create()
    arn = (await aws.listed())[0]["serviceDeploymentArn"]
    await aws("StopServiceDeployment", serviceDeploymentArn=arn)
    assert (await aws.newest())["status"] == "STOPPED"


async def test_stops_that_are_refused(aws):
    await aws.completed()
    arn = (await aws.listed())[0]["serviceDeploymentArn"]
    for wrong, error in (
        ({"serviceDeploymentArn": arn, "stopType": "ABORT"}, InvalidParameterError),
        ({"serviceDeploymentArn": arn}, ConflictError),
        ({"serviceDeploymentArn": arn[:-1] + "x"}, ServiceDeploymentNotFoundError),
        ({"serviceDeploymentArn": "web"}, InvalidParameterError),
    ):
        with pytest.raises(error):
            await aws("StopServiceDeployment", **wrong)


async def test_the_configuration_of_a_deployment_on_its_way_can_be_changed(aws):
    await aws.completed()
    fail(aws, 2)
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(1)
    await aws.update(deploymentConfiguration={"deploymentCircuitBreaker": BREAKER})
    assert len(await aws.listed()) == 2
    await aws.cell.clock.advance(300)
    assert (await aws.newest())["status"] == "ROLLBACK_SUCCESSFUL"


async def test_a_completed_deployment_s_breaker_is_done(aws):
    await aws.completed(deploymentCircuitBreaker=BREAKER)
    assert (await aws.newest())["deploymentCircuitBreaker"] == {"status": "MONITORING_COMPLETE", "failureCount": 0, "threshold": 3}


@pytest.mark.parametrize(("cleanup", "while_old_tasks_run"), [("DEFERRED", True), ("BLOCKING", False)])
async def test_early_success(aws, cleanup, while_old_tasks_run):
    criteria = {"enable": True, "healthyPercent": 50, "sourceServiceRevisionCleanup": cleanup}
    await aws.completed(minimumHealthyPercent=50, maximumPercent=150, earlySuccessCriteria=criteria)
    aws.cell.agents.stop_seconds = 30.0
    await aws.update(taskDefinition="web:2")
    while (await aws.newest())["status"] == "IN_PROGRESS":
        await aws.cell.clock.advance(0.5)
    assert (await aws.newest())["status"] == "SUCCESSFUL"
    live = sorted(task.revision for task in await aws.cell.all(TASKS) if task.last_status != "STOPPED")
    assert (1 in live) is while_old_tasks_run
    await aws.cell.clock.advance(200)
    assert await aws.running() == [2, 2]


async def test_later_tasks_are_held_to_the_first_one_s_image(aws):
    digest = "sha256:" + "a" * 64
    aws.cell.agents.digests = {"app:1": digest}
    await aws.create()
    await aws.cell.clock.advance(5)
    (brief,) = await aws.listed()
    (revision,) = (await aws("DescribeServiceRevisions", serviceRevisionArns=[brief["targetServiceRevisionArn"]]))["serviceRevisions"]
    assert revision["containerImages"] == [{"containerName": "app", "image": "app:1", "imageDigest": digest}]
    assert [task.containers[0].pinned_digest for task in await aws.cell.all(TASKS)] == ["", ""]
    aws.cell.agents.digests = {"app:1": "sha256:" + "b" * 64}  # the tag moves on
    await aws.update(desiredCount=3)
    await aws.cell.clock.advance(5)
    newest = max(await aws.cell.all(TASKS), key=lambda task: task.created_at)
    assert (newest.containers[0].pinned_digest, newest.containers[0].image) == (digest, "app:1")
    await aws.update(forceNewDeployment=True)
    await aws.cell.clock.advance(1.5)
    first = max(await aws.cell.all(TASKS), key=lambda task: task.created_at)
    assert first.containers[0].pinned_digest == ""
