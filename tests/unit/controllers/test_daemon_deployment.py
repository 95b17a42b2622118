"""Daemons in a whole control plane: on every instance before anything else, updated in batches, rolled back, drained last, deleted."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from homeport.api.ecs.operations import OPERATIONS
from homeport.config import Settings
from homeport.controllers.alarm import keep_alarms
from homeport.controllers.capacity import _members
from homeport.controllers.daemon_deployment import DaemonDeploymentController
from homeport.controllers.retention import RetentionController
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.planner.alarm import AlarmState
from homeport.store.tables import CONTAINER_INSTANCES, DAEMON_DEPLOYMENTS, DAEMON_REVISIONS, DAEMONS, TASKS
from homeport.testing import records

EDGE = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="edge"),)
CONTAINER = {"name": "agent", "image": "agent:1", "cpu": 256, "memory": 256}
PREFIX = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:"


def instance(number, **fields):
    return records.container_instance(id=f"{number:032x}", **{"attributes": EDGE, **fields})


class Daemons:
    """A cell, its clock, and the calls that the tests make."""

    def __init__(self, cell):
        self.cell = cell

    async def call(self, operation, **request):
        return await self.cell.call(operation, OPERATIONS[operation], request)

    async def register(self, **members):
        container = {**CONTAINER, **members}
        return (await self.call("RegisterDaemonTaskDefinition", family="logs", containerDefinitions=[container]))["daemonTaskDefinitionArn"]

    async def create(self, definition="logs:1", **members):
        return await self.call("CreateDaemon", daemonName="logs", daemonTaskDefinitionArn=definition, capacityProviderArns=["edge"], **members)

    async def update(self, definition="logs:2", **members):
        arn = PREFIX + "daemon/default/logs"
        return await self.call("UpdateDaemon", daemonArn=arn, daemonTaskDefinitionArn=definition, capacityProviderArns=["edge"], **members)

    async def deployment(self, made):
        found = await self.call("DescribeDaemonDeployments", daemonDeploymentArns=[made["deploymentArn"]])
        return found["daemonDeployments"][0]

    async def tasks(self, **fields):
        found = await self.cell.all(TASKS)
        return [task for task in found if task.daemon and all(getattr(task, name) == value for name, value in fields.items())]

    async def where(self):
        """Instance numbers → revisions that are wanted RUNNING there."""
        wanted = await self.tasks(desired_status="RUNNING")
        return {int(task.container_instance_id, 16): task.revision for task in sorted(wanted, key=lambda task: task.container_instance_id)}

    async def pass_seconds(self, seconds):
        await self.cell.clock.advance(seconds)
        await self.cell.clock.settle()


@pytest.fixture
async def daemons(make_cell):
    """Three instances of the capacity provider `edge`, one of none, logs:1 and logs:2."""
    return await furnished(await make_cell(instance(2), instance(3), instance(4)))


async def furnished(cell):
    """The capacity provider `edge`, logs:1 and logs:2."""
    made = Daemons(cell)
    await made.call("CreateCapacityProvider", name="edge", autoScalingGroupProvider={"autoScalingGroupArn": "group"})
    await made.call("PutClusterCapacityProviders", cluster="default", capacityProviders=["edge"], defaultCapacityProviderStrategy=[])
    for image in ("agent:1", "agent:2"):
        await made.register(image=image)
    return made


async def test_one_task_on_every_instance_of_its_capacity_providers(daemons):
    made = await daemons.create(tags=[{"key": "team", "value": "a"}], propagateTags="DAEMON", enableECSManagedTags=True)
    assert (await daemons.deployment(made))["status"] == "IN_PROGRESS"
    await daemons.pass_seconds(2)
    assert await daemons.where() == {2: 1, 3: 1, 4: 1}
    arns = (await daemons.call("ListTasks", daemonName="logs"))["taskArns"]
    shown = (await daemons.call("DescribeTasks", tasks=arns, include=["TAGS"]))["tasks"][0]
    assert shown["taskDefinitionArn"] == PREFIX + "daemon-task-definition/logs:1"
    assert (shown["group"], shown["capacityProviderName"], shown["lastStatus"]) == ("daemon:logs", "edge", "RUNNING")
    assert shown["startedBy"] == f"ecs-daemon/{made['deploymentArn'].rpartition('/')[2]}"
    tags = {tag["key"]: tag["value"] for tag in shown["tags"]}
    assert tags == {"team": "a", "aws:ecs:clusterName": "default", "aws:ecs:daemonName": "logs"}
    await daemons.pass_seconds(60)
    assert (await daemons.deployment(made))["status"] == "SUCCESSFUL"
    await daemons.cell.put(instance(5))
    await daemons.pass_seconds(2)
    assert await daemons.where() == {2: 1, 3: 1, 4: 1, 5: 1}, "an instance that joins gets one"
    found = (await daemons.call("DescribeDaemon", daemonArn=made["daemonArn"]))["daemon"]
    assert found["currentRevisions"][0]["capacityProviders"] == [
        {"arn": PREFIX + "capacity-provider/edge", "runningCount": 4, "withoutDaemonCount": 0}
    ]


async def test_nothing_is_placed_before_a_critical_daemon_runs(daemons):
    await daemons.create()
    await daemons.call("RegisterTaskDefinition", family="tiny", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    on_edge = [{"type": "memberOf", "expression": f"attribute:{CAPACITY_PROVIDER_ATTRIBUTE} == edge"}]
    refused = await daemons.call("RunTask", taskDefinition="tiny", placementConstraints=on_edge)
    assert {failure["reason"] for failure in refused["failures"]} == {"DAEMON", "MemberOf placement constraint unsatisfied."}
    started = await daemons.call("StartTask", taskDefinition="tiny", containerInstances=[f"{2:032x}"])
    assert started["failures"][0]["reason"] == "DAEMON"
    await daemons.pass_seconds(2)
    assert len((await daemons.call("RunTask", taskDefinition="tiny", placementConstraints=on_edge))["tasks"]) == 1


async def test_one_that_is_not_critical_keeps_its_share_only(daemons):
    await daemons.register(cpu=4096)
    made = await daemons.create("logs:3", critical=False)
    await daemons.call("RegisterTaskDefinition", family="tiny", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    assert (await daemons.call("StartTask", taskDefinition="tiny", containerInstances=[f"{2:032x}"]))["failures"] == []
    await daemons.call("RegisterTaskDefinition", family="big", containerDefinitions=[{"name": "a", "image": "a", "memory": 6, "cpu": 128}])
    refused = await daemons.call("StartTask", taskDefinition="big", containerInstances=[f"{2:032x}"])
    assert refused["failures"][0]["reason"] == "RESOURCE:CPU"
    await daemons.pass_seconds(60)
    assert (await daemons.deployment(made))["status"] == "SUCCESSFUL"


async def test_an_update_goes_by_batches_and_waits_for_each(daemons):
    await daemons.create(deploymentConfiguration={"drainPercent": 34.0})
    await daemons.pass_seconds(60)
    made = await daemons.update()
    await daemons.pass_seconds(1)
    states = Counter((task.revision, task.desired_status) for task in await daemons.tasks() if task.last_status != "STOPPED")
    assert states == {(1, "RUNNING"): 2, (1, "STOPPED"): 1}
    shown = await daemons.deployment(made)
    assert (shown["status"], shown["deploymentConfiguration"]["drainPercent"]) == ("IN_PROGRESS", 34.0)
    assert shown["sourceDaemonRevisions"][0]["totalDrainingInstanceCount"] == 1
    await daemons.pass_seconds(5)
    assert Counter((await daemons.where()).values()) == {1: 2, 2: 1}
    for _ in range(3):
        await daemons.pass_seconds(60)
    assert await daemons.where() == {2: 2, 3: 2, 4: 2}
    shown = await daemons.deployment(made)
    assert (shown["status"], shown["targetDaemonRevision"]["totalRunningInstanceCount"]) == ("SUCCESSFUL", 3)


async def test_a_bad_revision_is_rolled_back(daemons):
    await daemons.create()
    await daemons.pass_seconds(60)
    daemons.cell.agents.failure, daemons.cell.agents.failing = "CannotPullContainerError: no such image", {2}
    made = await daemons.update()
    for _ in range(10):
        await daemons.pass_seconds(30)
    shown = await daemons.deployment(made)
    assert (shown["status"], shown["circuitBreaker"]) == ("ROLLBACK_SUCCESSFUL", {"failureCount": 3, "status": "TRIGGERED", "threshold": 3})
    assert shown["rollback"]["rollbackCapacityProviders"] == [PREFIX + "capacity-provider/edge"]
    assert await daemons.where() == {2: 1, 3: 1, 4: 1}
    failed = await daemons.tasks(revision=2)
    assert len({task.container_instance_id for task in failed}) == 1, "the others kept the daemon that they had"
    (daemon,) = await daemons.cell.all(DAEMONS)
    assert daemon.definitions == (f"{records.ACCOUNT}/logs:1",)


async def test_a_first_deployment_that_fails_leaves_the_instances_free(daemons):
    daemons.cell.agents.failure = "CannotPullContainerError: no such image"
    made = await daemons.create()
    for _ in range(10):
        await daemons.pass_seconds(30)
    assert (await daemons.deployment(made))["status"] == "STOPPED"
    started = len(await daemons.tasks())
    await daemons.call("RegisterTaskDefinition", family="tiny", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    assert (await daemons.call("StartTask", taskDefinition="tiny", containerInstances=[f"{2:032x}"]))["failures"] == []
    await daemons.pass_seconds(300)
    assert len(await daemons.tasks()) == started


async def test_a_critical_daemon_that_is_lost_takes_the_other_tasks_with_it(daemons):
    await daemons.create()
    await daemons.pass_seconds(60)
    await daemons.call("RegisterTaskDefinition", family="tiny", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    for number in (2, 3):
        await daemons.call("StartTask", taskDefinition="tiny", containerInstances=[f"{number:032x}"])
    await daemons.pass_seconds(2)
    (lost,) = await daemons.tasks(container_instance_id=f"{2:032x}")
    await daemons.cell.report(lost, "STOPPED")
    others = {int(task.container_instance_id, 16): task.desired_status for task in await daemons.cell.all(TASKS) if not task.daemon}
    assert others == {2: "STOPPED", 3: "RUNNING"}
    await daemons.pass_seconds(2)
    assert await daemons.where() == {2: 1, 3: 1, 4: 1}


async def test_one_that_is_not_critical_is_only_started_again(daemons):
    await daemons.create(critical=False)
    await daemons.pass_seconds(60)
    await daemons.call("RegisterTaskDefinition", family="tiny", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    await daemons.call("StartTask", taskDefinition="tiny", containerInstances=[f"{2:032x}"])
    await daemons.pass_seconds(2)
    (lost,) = await daemons.tasks(container_instance_id=f"{2:032x}")
    await daemons.cell.report(lost, "STOPPED")
    assert [task.desired_status for task in await daemons.cell.all(TASKS) if not task.daemon] == ["RUNNING"]
    await daemons.pass_seconds(2)
    assert await daemons.where() == {2: 1, 3: 1, 4: 1}


async def test_on_an_instance_that_drains_it_stops_last(daemons):
    await daemons.create()
    await daemons.pass_seconds(60)
    await daemons.call("RegisterTaskDefinition", family="tiny", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    started = await daemons.call("StartTask", taskDefinition="tiny", containerInstances=[f"{2:032x}"])
    await daemons.call("UpdateContainerInstancesState", containerInstances=[f"{2:032x}"], status="DRAINING")
    await daemons.pass_seconds(10)
    assert await daemons.where() == {2: 1, 3: 1, 4: 1}
    await daemons.call("StopTask", task=started["tasks"][0]["taskArn"])
    await daemons.pass_seconds(5)
    assert await daemons.where() == {3: 1, 4: 1}
    await daemons.call("UpdateContainerInstancesState", containerInstances=[f"{2:032x}"], status="ACTIVE")
    await daemons.pass_seconds(5)
    assert await daemons.where() == {2: 1, 3: 1, 4: 1}


async def test_a_deleted_daemon_is_gone_with_its_tasks_and_its_name_is_free(daemons):
    await daemons.create()
    await daemons.pass_seconds(60)
    made = await daemons.call("DeleteDaemon", daemonArn=PREFIX + "daemon/default/logs")
    assert made["status"] == "DELETE_IN_PROGRESS"
    await daemons.pass_seconds(5)
    assert (await daemons.where(), await daemons.cell.all(DAEMONS)) == ({}, [])
    assert (await daemons.deployment(made))["status"] == "SUCCESSFUL"
    again = await daemons.create()
    await daemons.pass_seconds(2)
    assert len(await daemons.where()) == 3
    listed = (await daemons.call("ListDaemonDeployments", daemonArn=again["daemonArn"]))["daemonDeployments"]
    assert [item["daemonDeploymentArn"] for item in listed] == [again["deploymentArn"]]


async def test_an_instance_that_changes_its_capacity_provider_loses_it(daemons):
    await daemons.create()
    await daemons.pass_seconds(60)
    await daemons.cell.put(msgspec.structs.replace(instance(2), attributes=()))
    await daemons.pass_seconds(5)
    assert await daemons.where() == {3: 1, 4: 1}


async def test_it_waits_for_room_and_says_so(daemons):
    big = [{"name": "a", "image": "a", "memory": 16, "cpu": 4000}]
    await daemons.call("RegisterTaskDefinition", family="big", containerDefinitions=big)
    started = await daemons.call("StartTask", taskDefinition="big", containerInstances=[f"{2:032x}"])
    made = await daemons.create()
    await daemons.pass_seconds(60)
    shown = await daemons.deployment(made)
    assert (shown["status"], await daemons.where()) == ("IN_PROGRESS", {3: 1, 4: 1})
    assert shown["statusReason"] == "Container instances cannot take a task of the daemon: RESOURCE:CPU"
    await daemons.call("StopTask", task=started["tasks"][0]["taskArn"])
    await daemons.pass_seconds(5)
    assert await daemons.where() == {2: 1, 3: 1, 4: 1}
    await daemons.pass_seconds(60)
    assert (await daemons.deployment(made))["status"] == "SUCCESSFUL"


async def test_instances_whose_agents_lack_what_it_needs_are_told_of(daemons):
    """They are of the capacity provider, so the daemon is not where it should be; and they are left to other tasks."""
    await daemons.register(privileged=True)
    await daemons.cell.put(instance(5, attributes=(*EDGE, Attribute(name="com.amazonaws.ecs.capability.privileged-container"))))
    made = await daemons.create("logs:3")
    await daemons.pass_seconds(60)
    shown = await daemons.deployment(made)
    assert (shown["status"], await daemons.where()) == ("IN_PROGRESS", {5: 3})
    assert shown["statusReason"] == "Container instances cannot take a task of the daemon: ATTRIBUTE"
    await daemons.call("RegisterTaskDefinition", family="tiny", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    assert (await daemons.call("StartTask", taskDefinition="tiny", containerInstances=[f"{2:032x}"]))["failures"] == []


async def test_a_restart_in_the_midst_of_an_update_changes_nothing(daemons):
    await daemons.create()
    await daemons.pass_seconds(60)
    made = await daemons.update()
    await daemons.pass_seconds(3)
    cell = daemons.cell
    before = cell.store.revision
    fresh = DaemonDeploymentController(placement=cell.context.placement, ids=cell.context.ids.child("fresh"), settings=cell.context.settings)
    for key in await cell.view(lambda reader: list(fresh.keys(reader))):
        await cell.store.update(lambda tx, key=key: fresh.activate(tx, key), cause="controller/daemon_deployment")
    assert cell.store.revision == before, "one that remembers nothing finds nothing else to do"
    for _ in range(5):
        await daemons.pass_seconds(60)
    assert (await daemons.deployment(made))["status"] == "SUCCESSFUL"


async def test_a_hundred_instances(daemons):
    await daemons.cell.put(*(instance(number) for number in range(10, 100)))
    await daemons.create()
    await daemons.pass_seconds(60)
    assert len(await daemons.where()) == 93
    made = await daemons.update(deploymentConfiguration={"drainPercent": 50.0})
    for _ in range(5):
        await daemons.pass_seconds(60)
    assert Counter((await daemons.where()).values()) == {2: 93}
    (deployment,) = [item for item in await daemons.cell.all(DAEMON_DEPLOYMENTS) if made["deploymentArn"].endswith(item.id)]
    assert deployment.status == "SUCCESSFUL"
    assert len(await daemons.cell.all(CONTAINER_INSTANCES)) == 94


async def health(daemons, instance_id):
    found = await daemons.call("DescribeContainerInstances", containerInstances=[instance_id], include=["CONTAINER_INSTANCE_HEALTH"])
    return {detail["type"]: detail["status"] for detail in found["containerInstances"][0]["healthStatus"]["details"]}.get("DAEMON")


async def test_the_health_of_an_instance_tells_of_its_daemons(daemons):
    one, other = f"{2:032x}", "1" * 32
    assert await health(daemons, one) is None
    await daemons.create()
    assert (await health(daemons, one), await health(daemons, other)) == ("INITIALIZING", None)
    await daemons.pass_seconds(2)
    assert await health(daemons, one) == "OK"


async def test_a_service_gets_its_room_when_the_daemon_runs(daemons):
    """Nobody waits for the sweep: a daemon that begins to run, or is gone, lets those in that were refused."""
    await daemons.call("RegisterTaskDefinition", family="web2", containerDefinitions=[{"name": "a", "image": "a", "memory": 6}])
    await daemons.create()
    on_edge = [{"type": "memberOf", "expression": f"attribute:{CAPACITY_PROVIDER_ATTRIBUTE} == edge"}]
    await daemons.call("CreateService", serviceName="web", taskDefinition="web2", desiredCount=1, placementConstraints=on_edge)

    async def count():
        return len([task for task in await daemons.cell.all(TASKS) if task.service == "web"])

    assert await count() == 0
    await daemons.pass_seconds(1.5)
    assert await count() == 1


async def test_a_pool_with_nothing_but_daemons_is_empty(daemons):
    await daemons.create()
    await daemons.pass_seconds(60)
    found = await daemons.cell.view(lambda reader: [member.tasks for member in _members(reader, "edge", [f"{records.ACCOUNT}/default"])])
    assert found == [0, 0, 0]


class Told:
    """A source of alarms that the test speaks through."""

    def __init__(self):
        self.known = {"errors": AlarmState(False, 60.0)}

    async def states(self):
        return self.known


async def test_an_alarm_during_the_bake_time_rolls_back(make_cell):
    settings = Settings(alarm_source="told by the test", alarm_poll_seconds=2.0)
    daemons, source = await furnished(await make_cell(instance(2), instance(3), settings=settings)), Told()
    reading = asyncio.create_task(keep_alarms(daemons.cell.store, daemons.cell.clock, settings, source=source))
    try:
        alarms = {"alarms": {"enable": True, "alarmNames": ["errors"]}, "bakeTimeInMinutes": 2, "drainPercent": 50.0}
        first = await daemons.create(deploymentConfiguration=alarms)
        for _ in range(20):
            await daemons.pass_seconds(10)
        assert (await daemons.deployment(first))["status"] == "SUCCESSFUL"
        made = await daemons.update()
        for _ in range(6):
            await daemons.pass_seconds(10)
        shown = await daemons.deployment(made)
        assert (shown["status"], shown["alarms"]["status"]) == ("IN_PROGRESS", "MONITORING")
        assert Counter((await daemons.where()).values()) == {1: 1, 2: 1}, "one batch, which bakes"
        source.known = {"errors": AlarmState(True, 60.0)}
        for _ in range(10):
            await daemons.pass_seconds(10)
        shown = await daemons.deployment(made)
        assert shown["status"] == "ROLLBACK_SUCCESSFUL"
        assert shown["alarms"] == {"status": "TRIGGERED", "alarmNames": ["errors"], "triggeredAlarmNames": ["errors"]}
        assert shown["rollback"]["reason"] == "Alarms were in state ALARM: errors."
        assert await daemons.where() == {2: 1, 3: 1}
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_what_is_over_is_forgotten_in_time(make_cell):
    """Old deployments first, then the revisions that nothing has any more; of a daemon that is there the newest deployment stays."""
    settings = Settings(deployment_retention_seconds=600.0)
    daemons = await furnished(await make_cell(instance(2), instance(3), settings=settings))
    made = await daemons.create(deploymentConfiguration={"drainPercent": 100.0})
    await daemons.pass_seconds(60)
    await daemons.update()
    await daemons.pass_seconds(60)
    cell, retention = daemons.cell, RetentionController(settings=settings)

    async def look_after(seconds):
        await daemons.pass_seconds(seconds)
        for _ in range(2):
            await daemons.pass_seconds(61)
            await cell.store.update(lambda tx: retention.activate(tx, "daemon_deployments"), cause="controller/retention")
        return len(await cell.all(DAEMON_DEPLOYMENTS)), len(await cell.all(DAEMON_REVISIONS))

    assert await look_after(60) == (2, 2)
    assert await look_after(600) == (1, 2), "the newest deployment tells of the revision that it replaced"
    await daemons.call("DeleteDaemon", daemonArn=made["daemonArn"])
    await daemons.pass_seconds(5)
    assert (await cell.all(DAEMONS), await look_after(700)) == ([], (0, 0))
