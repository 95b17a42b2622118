"""The life of a task as a table (ecs-reference 3.6): what happens, and what DescribeTasks shows of it then.

Every row runs through the API's handlers, the controllers and the dispatcher; only the agent's words are the test's. Each step comes 10 s after the
one before, so an instant of 20.0 is that of the second step.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from unit.lifecycle import Step, call, comes, container_reports, goes, main, publishes_health, publishes_status, reports, side, waits, world

from homeport.config import Settings
from homeport.errors import InvalidParameterError

INSTANTS = ("pullStartedAt", "pullStoppedAt", "startedAt", "stoppingAt", "executionStoppedAt", "stoppedAt", "connectivityAt")
RUNNING = reports("RUNNING", main("RUNNING", runtimeId="m"), side("RUNNING", runtimeId="s"), pullStartedAt=1.0, pullStoppedAt=2.0)
PULL = "CannotPullContainerError: pull image app:1: not found"
EXITED = "Essential container in task exited"
FORCED = "Container instance deregistration forced by user."


@dataclasses.dataclass
class Row:
    """`shown`: members of the task; `containers`: members of its containers, main and side; `at`: its instants, all of them."""

    name: str
    steps: tuple[Step, ...]
    shown: dict[str, Any]
    containers: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    at: dict[str, float] = dataclasses.field(default_factory=dict)
    absent: tuple[str, ...] = ()
    told: tuple[str, ...] = ("RUNNING",)
    """What the agent was told of it."""


BEGAN = {"pullStartedAt": 1.0, "pullStoppedAt": 2.0, "connectivityAt": 10.0}
RAN = {**BEGAN, "startedAt": 10.0}

ROWS = (
    Row(
        "nobody has spoken of it yet",
        (waits(0),),
        {"lastStatus": "PENDING", "desiredStatus": "RUNNING", "healthStatus": "UNKNOWN", "version": 1, "attachments": [], "group": "family:web"},
        ({"lastStatus": "PENDING", "healthStatus": "UNKNOWN"}, {"lastStatus": "PENDING"}),
        absent=("connectivity", "stopCode", "stoppedReason", "startedBy"),
    ),
    Row(
        "its image is here",
        (reports("PENDING", main("PENDING", imageDigest="sha256:1"), pullStartedAt=1.0, pullStoppedAt=2.0),),
        {"lastStatus": "PENDING", "version": 2, "connectivity": "CONNECTED"},
        ({"lastStatus": "PENDING", "imageDigest": "sha256:1"}, {}),
        BEGAN,
    ),
    Row(
        "an upstream agent's states before RUNNING are PENDING",
        (reports("CREATED", main("CREATED"), side("MANIFEST_PULLED")), reports("NONE", main("PULLED"))),
        {"lastStatus": "PENDING", "version": 2},
        ({"lastStatus": "PENDING"}, {"lastStatus": "PENDING"}),
        {"connectivityAt": 10.0},
    ),
    Row(
        "and those after RUNNING are RUNNING",
        (RUNNING, reports("DEACTIVATING", main("RESOURCES_PROVISIONED")), reports("STOPPING", main("RUNNING"), side("RUNNING"))),
        {"lastStatus": "RUNNING", "desiredStatus": "RUNNING", "version": 2},
        ({"lastStatus": "RUNNING"}, {"lastStatus": "RUNNING"}),
        RAN,
    ),
    Row(
        "but for the last, whose containers have ended",
        (RUNNING, reports("DEPROVISIONING", main("STOPPED", exitCode=0), side("STOPPED", exitCode=0))),
        {"lastStatus": "STOPPED", "stopCode": "EssentialContainerExited"},
        at={**RAN, "stoppingAt": 20.0, "executionStoppedAt": 20.0, "stoppedAt": 20.0},
    ),
    Row(
        "every container runs",
        (RUNNING,),
        {"lastStatus": "RUNNING", "desiredStatus": "RUNNING", "version": 2, "connectivity": "CONNECTED"},
        ({"lastStatus": "RUNNING", "runtimeId": "m"}, {"lastStatus": "RUNNING", "runtimeId": "s"}),
        RAN,
        absent=("stopCode", "stoppedReason"),
    ),
    Row("the same report twice is one change", (RUNNING, RUNNING), {"lastStatus": "RUNNING", "version": 2}, at=RAN),
    Row("an older report comes late", (RUNNING, reports("PENDING", main("PENDING"))), {"lastStatus": "RUNNING", "version": 2}, at=RAN),
    Row(
        "its health is the worst of its essential containers",
        (RUNNING, publishes_health(main="HEALTHY", side="UNHEALTHY")),
        {"healthStatus": "HEALTHY", "version": 3},
        ({"healthStatus": "HEALTHY"}, {"healthStatus": "UNHEALTHY"}),
        RAN,
    ),
    Row(
        "a standalone task that is unhealthy runs on",
        (RUNNING, publishes_health(main="UNHEALTHY")),
        {"lastStatus": "RUNNING", "desiredStatus": "RUNNING", "healthStatus": "UNHEALTHY"},
        ({"healthStatus": "UNHEALTHY"}, {}),
        RAN,
    ),
    Row(
        "a container that is not essential ends",
        (RUNNING, reports("RUNNING", main("RUNNING"), side("STOPPED", exitCode=7))),
        {"lastStatus": "RUNNING", "desiredStatus": "RUNNING"},
        ({"lastStatus": "RUNNING"}, {"lastStatus": "STOPPED", "exitCode": 7}),
        RAN,
        absent=("stopCode",),
    ),
    Row(
        "the essential container ends, and with it the other",
        (RUNNING, reports("STOPPED", main("STOPPED", exitCode=0), side("STOPPED", exitCode=143), executionStoppedAt=19.5)),
        {"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": EXITED, "version": 3},
        ({"lastStatus": "STOPPED", "exitCode": 0}, {"lastStatus": "STOPPED", "exitCode": 143}),
        {**RAN, "stoppingAt": 20.0, "executionStoppedAt": 19.5, "stoppedAt": 20.0},
    ),
    Row(
        "the essential container has ended, and the other takes its time",
        (RUNNING, reports("RUNNING", main("STOPPED", exitCode=3), side("RUNNING"), executionStoppedAt=19.5)),
        {"lastStatus": "STOPPING", "desiredStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": EXITED, "version": 3},
        ({"lastStatus": "STOPPED", "exitCode": 3}, {"lastStatus": "RUNNING"}),
        {**RAN, "stoppingAt": 20.0, "executionStoppedAt": 19.5},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "and then ends too",
        (
            RUNNING,
            reports("RUNNING", main("STOPPED", exitCode=3), side("RUNNING"), executionStoppedAt=19.5),
            reports("STOPPED", main("STOPPED", exitCode=3), side("STOPPED", exitCode=137), executionStoppedAt=19.5),
        ),
        {"lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": EXITED, "version": 4},
        ({"exitCode": 3}, {"exitCode": 137}),
        {**RAN, "stoppingAt": 20.0, "executionStoppedAt": 19.5, "stoppedAt": 30.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "an older agent tells of one container alone",
        (RUNNING, container_reports(containerName="main", status="STOPPED", exitCode=1)),
        {"lastStatus": "STOPPING", "desiredStatus": "STOPPED", "stopCode": "EssentialContainerExited"},
        ({"lastStatus": "STOPPED", "exitCode": 1}, {"lastStatus": "RUNNING"}),
        {**RAN, "stoppingAt": 20.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "it ended before it was seen running",
        (reports("STOPPED", main("STOPPED", exitCode=1), side("STOPPED"), executionStoppedAt=9.0),),
        {"lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": EXITED},
        ({"exitCode": 1}, {}),
        {"connectivityAt": 10.0, "stoppingAt": 10.0, "executionStoppedAt": 9.0, "stoppedAt": 10.0},
    ),
    Row(
        "the kernel killed it for its memory",
        (RUNNING, reports("STOPPED", main("STOPPED", exitCode=137, reason="OutOfMemoryError: Container killed due to memory usage"))),
        {"lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": EXITED},
        ({"exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"}, {"lastStatus": "STOPPED"}),
        {**RAN, "stoppingAt": 20.0, "executionStoppedAt": 20.0, "stoppedAt": 20.0},
    ),
    *(
        Row(
            f"it failed to start: {reason.partition(':')[0]}",
            (reports("STOPPED", main("STOPPED", reason=reason), side("STOPPED")),),
            {"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": "TaskFailedToStart", "stoppedReason": reason, "version": 2},
            ({"lastStatus": "STOPPED", "reason": reason}, {"lastStatus": "STOPPED"}),
            {"connectivityAt": 10.0, "stoppingAt": 10.0, "executionStoppedAt": 10.0, "stoppedAt": 10.0},
        )
        for reason in (
            PULL,
            "CannotCreateContainerError: no such device",
            "CannotStartContainerError: exec: no such file",
            "DockerTimeoutError: create took longer than 240 s",
        )
    ),
    Row(
        "what it needs could not be made",
        (reports("STOPPED", main("STOPPED"), side("STOPPED"), reason="ResourceInitializationError: volume data: no space"),),
        {"lastStatus": "STOPPED", "stopCode": "TaskFailedToStart", "stoppedReason": "ResourceInitializationError: volume data: no space"},
        at={"connectivityAt": 10.0, "stoppingAt": 10.0, "executionStoppedAt": 10.0, "stoppedAt": 10.0},
    ),
    Row(
        "an image fails while another container already runs",
        (reports("PENDING", main("STOPPED", reason=PULL), side("RUNNING")),),
        {"lastStatus": "STOPPING", "desiredStatus": "STOPPED", "stopCode": "TaskFailedToStart", "stoppedReason": PULL},
        at={"connectivityAt": 10.0, "stoppingAt": 10.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "reasons have at most 1,024 characters",
        (reports("STOPPED", main("STOPPED", reason="CannotPullContainerError: " + "x" * 2000), reason="y" * 2000),),
        {"stopCode": "TaskFailedToStart", "stoppedReason": ("CannotPullContainerError: " + "x" * 2000)[:1024]},
        ({"reason": ("CannotPullContainerError: " + "x" * 2000)[:1024]}, {}),
        {"connectivityAt": 10.0, "stoppingAt": 10.0, "executionStoppedAt": 10.0, "stoppedAt": 10.0},
    ),
    Row(
        "a user stops it before anybody spoke of it",
        (call("StopTask", task="TASK"),),
        {"lastStatus": "STOPPING", "desiredStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": "Task stopped by user", "tags": []},
        at={"stoppingAt": 10.0},
        absent=("connectivity",),
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "a user stops it while it runs, and why is kept",
        (RUNNING, call("StopTask", task="TASK", reason="too loud"), call("StopTask", task="TASK", reason="another")),
        {"lastStatus": "STOPPING", "desiredStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": "too loud", "version": 3, "tags": []},
        ({"lastStatus": "RUNNING"}, {"lastStatus": "RUNNING"}),
        {**RAN, "stoppingAt": 20.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "and its containers end",
        (RUNNING, call("StopTask", task="TASK"), reports("STOPPED", main("STOPPED", exitCode=143), side("STOPPED", exitCode=137))),
        {"lastStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": "Task stopped by user", "version": 4},
        ({"exitCode": 143}, {"exitCode": 137}),
        {**RAN, "stoppingAt": 20.0, "executionStoppedAt": 30.0, "stoppedAt": 30.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "a task that is wanted STOPPED never shows RUNNING",
        (call("StopTask", task="TASK"), RUNNING),
        {"lastStatus": "STOPPING", "desiredStatus": "STOPPED"},
        at={**BEGAN, "connectivityAt": 20.0, "stoppingAt": 10.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "nothing changes a STOPPED task",
        (
            RUNNING,
            reports("STOPPED", main("STOPPED", exitCode=1)),
            reports("STOPPED", main("STOPPED", exitCode=9)),
            RUNNING,
            publishes_health(main="HEALTHY"),
            call("StopTask", task="TASK"),
        ),
        {"lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "version": 3, "healthStatus": "UNKNOWN"},
        ({"exitCode": 1, "lastStatus": "STOPPED"}, {"lastStatus": "STOPPED"}),
        {**RAN, "stoppingAt": 20.0, "executionStoppedAt": 20.0, "stoppedAt": 20.0},
    ),
    Row(
        "its agent goes away",
        (RUNNING, goes()),
        {"lastStatus": "RUNNING", "desiredStatus": "RUNNING", "connectivity": "DISCONNECTED", "version": 2},
        at=RAN,
    ),
    Row(
        "and comes back",
        (RUNNING, goes(), comes()),
        {"lastStatus": "RUNNING", "connectivity": "CONNECTED", "version": 2},
        at={**RAN, "connectivityAt": 30.0},
        told=("RUNNING", "RUNNING"),
    ),
    Row(
        "and its host was restarted meanwhile",
        (RUNNING, goes(), comes(), reports("STOPPED", main("STOPPED", exitCode=255), side("STOPPED", exitCode=255), executionStoppedAt=25.0)),
        {"lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": EXITED, "connectivity": "CONNECTED"},
        ({"exitCode": 255}, {"exitCode": 255}),
        {**RAN, "stoppingAt": 40.0, "executionStoppedAt": 25.0, "stoppedAt": 40.0},
        told=("RUNNING", "RUNNING"),
    ),
    Row(
        "it is stopped while its agent is away",
        (RUNNING, goes(), call("StopTask", task="TASK"), comes()),
        {"lastStatus": "STOPPING", "stopCode": "UserInitiated", "connectivity": "CONNECTED"},
        at={**RAN, "stoppingAt": 30.0, "connectivityAt": 40.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "its instance is deregistered by force",
        (RUNNING, call("DeregisterContainerInstance", containerInstance="INSTANCE", force=True)),
        {"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": FORCED},
        ({"lastStatus": "STOPPED"}, {"lastStatus": "STOPPED"}),
        {**RAN, "stoppingAt": 20.0, "executionStoppedAt": 20.0, "stoppedAt": 20.0},
    ),
    Row(
        "its instance is deregistered by force while it is on its way down",
        (RUNNING, call("StopTask", task="TASK"), call("DeregisterContainerInstance", containerInstance="INSTANCE", force=True)),
        {"lastStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": "Task stopped by user", "version": 4},
        at={**RAN, "stoppingAt": 20.0, "executionStoppedAt": 30.0, "stoppedAt": 30.0},
        told=("RUNNING", "STOPPED"),
    ),
    Row(
        "its instance is deregistered before anybody spoke of it",
        (call("DeregisterContainerInstance", containerInstance="INSTANCE", force=True),),
        {"lastStatus": "STOPPED", "stopCode": "UserInitiated", "stoppedReason": FORCED},
        at={"stoppingAt": 10.0, "executionStoppedAt": 10.0, "stoppedAt": 10.0},
        absent=("connectivity", "startedAt"),
    ),
    Row(
        "its instance drains: a standalone task is left alone",
        (RUNNING, call("UpdateContainerInstancesState", containerInstances=["INSTANCE"], status="DRAINING"), waits(600)),
        {"lastStatus": "RUNNING", "desiredStatus": "RUNNING"},
        at=RAN,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
async def test_what_happens_is_what_is_shown(row: Row):
    async with world() as where:
        await where.run(tags=[{"key": "team", "value": "a"}])
        for step in row.steps:
            await step(where)
        shown = await where.shown()
        assert {name: shown[name] for name in row.shown} == row.shown
        for container, expected in zip(shown["containers"], row.containers, strict=True):
            assert {name: container.get(name) for name in expected} == expected
        assert {name: round(shown[name] - where.created_at, 3) for name in INSTANTS if name in shown} == row.at
        assert not set(row.absent) & set(shown)
        assert tuple(where.told()) == row.told


async def test_the_service_scheduler_says_why_it_stops_a_task():
    async with world(healthy_after_seconds=1.0) as where:
        await where.ecs("CreateService", serviceName="web", taskDefinition="web", desiredCount=1)
        await where.cell.clock.settle()
        (arn,) = (await where.ecs("ListTasks", serviceName="web"))["taskArns"]
        where.follow((await where.ecs("DescribeTasks", tasks=[arn]))["tasks"][0])
        await RUNNING(where)
        deployment = (await where.ecs("DescribeServices", services=["web"]))["services"][0]["deployments"][0]["id"]
        shown = await where.shown()
        assert (shown["startedBy"], shown["group"]) == (deployment, "service:web")
        await publishes_health(main="UNHEALTHY")(where)
        (other,) = [task for task in (await where.ecs("ListTasks", serviceName="web"))["taskArns"] if task != arn]
        where.task = other
        await RUNNING(where)
        await publishes_health(main="HEALTHY")(where)
        await waits(2)(where)
        where.task = arn
        shown = await where.shown()
        assert (shown["lastStatus"], shown["desiredStatus"], shown["stopCode"]) == ("STOPPING", "STOPPED", "ServiceSchedulerInitiated")
        assert shown["stoppedReason"] == "Task failed container health checks"
        await where.ecs("UpdateService", service="web", desiredCount=0)
        await where.cell.clock.settle()
        where.task = other
        shown = await where.shown()
        assert (shown["stopCode"], shown["stoppedReason"]) == (
            "ServiceSchedulerInitiated",
            f"Scaling activity initiated by (deployment {deployment})",
        )


async def test_a_service_replaces_a_task_while_its_other_containers_still_stop():
    async with world() as where:
        await where.ecs("CreateService", serviceName="web", taskDefinition="web", desiredCount=1)
        await where.cell.clock.settle()
        (arn,) = (await where.ecs("ListTasks", serviceName="web"))["taskArns"]
        where.follow((await where.ecs("DescribeTasks", tasks=[arn]))["tasks"][0])
        await RUNNING(where)
        await reports("RUNNING", main("STOPPED", exitCode=1), side("RUNNING"))(where)
        (other,) = (await where.ecs("ListTasks", serviceName="web"))["taskArns"]
        assert other != arn
        assert (await where.shown())["lastStatus"] == "STOPPING"


async def test_crashes_are_braked_though_side_cars_take_their_time():
    """A task is replaced while its side car still stops: without a brake that counts it then, such tasks would fill the instance."""
    async with world() as where:
        await where.ecs("CreateService", serviceName="web", taskDefinition="web", desiredCount=1)
        seen: set[str] = set()
        for _ in range(60):
            await where.passes(1.0)
            for arn in (await where.ecs("ListTasks", serviceName="web"))["taskArns"]:
                seen.add(arn)
                for said in ((main("RUNNING"), side("RUNNING")), (main("STOPPED", exitCode=1), side("RUNNING"))):
                    await where.ecs("SubmitTaskStateChange", task=arn, status="RUNNING", containers=list(said))
        assert 5 <= len(seen) <= 12


async def test_a_task_that_waits_for_an_instance_in_vain_failed_to_start():
    async with world(provisioning_timeout_seconds=60.0) as where:
        group = {"autoScalingGroupArn": "group", "managedScaling": {"status": "ENABLED"}}
        await where.ecs("CreateCapacityProvider", name="pool", autoScalingGroupProvider=group)
        await where.ecs("PutClusterCapacityProviders", cluster="default", capacityProviders=["pool"], defaultCapacityProviderStrategy=[])
        await where.run(capacityProviderStrategy=[{"capacityProvider": "pool"}])
        shown = await where.shown()
        assert (shown["lastStatus"], "containerInstanceArn" in shown, shown["capacityProviderName"]) == ("PROVISIONING", False, "pool")
        await where.passes(61)
        shown = await where.shown()
        assert (shown["lastStatus"], shown["stopCode"], shown["stoppedReason"]) == ("STOPPED", "TaskFailedToStart", "EMPTY CAPACITY PROVIDER")
        assert "executionStoppedAt" not in shown, "nothing of it ever ran"
        assert where.told() == []


async def test_a_stopped_task_stays_to_be_seen_for_as_long_as_is_set():
    assert Settings().stopped_task_retention_seconds == 24 * 3600
    async with world(sweep_seconds=30.0, stopped_task_retention_seconds=3600.0) as where:
        await where.run()
        await reports("STOPPED", main("STOPPED", exitCode=0))(where)
        await where.passes(3600 - 60)
        assert (await where.shown())["lastStatus"] == "STOPPED"
        await where.passes(120)
        assert await where.shown() == {}


async def test_an_instance_is_not_deregistered_under_its_tasks_and_nothing_changes():
    async with world() as where:
        await where.run()
        await RUNNING(where)
        before = (await where.shown(), await where.instance())
        with pytest.raises(InvalidParameterError, match=r"^Found running tasks on the instance\.$"):
            await call("DeregisterContainerInstance", containerInstance="INSTANCE")(where)
        assert (await where.shown(), await where.instance()) == before
        await reports("STOPPED", main("STOPPED", exitCode=0))(where)
        await call("DeregisterContainerInstance", containerInstance="INSTANCE")(where)
        instance = await where.instance()
        assert (instance["status"], instance["agentConnected"]) == ("INACTIVE", False)


def left(instance: dict[str, Any]) -> int:
    """MiB that are free there."""
    found: int = next(item["integerValue"] for item in instance["remainingResources"] if item["name"] == "MEMORY")
    return found


async def test_an_instance_tells_its_agent_its_tasks_and_its_health():
    async with world() as where:
        fresh = await where.instance()
        assert (fresh["status"], fresh["agentConnected"], fresh["healthStatus"]["overallStatus"]) == ("ACTIVE", True, "INSUFFICIENT_DATA")
        assert "agentUpdateStatus" not in fresh, "no update was ever asked for"
        await publishes_status("OK")(where)
        assert (await where.instance())["healthStatus"]["overallStatus"] == "OK"
        await publishes_status("IMPAIRED")(where)
        impaired = (await where.instance())["healthStatus"]
        assert (impaired["overallStatus"], [item["status"] for item in impaired["details"]]) == ("IMPAIRED", ["IMPAIRED", "OK"])
        await publishes_status("OK")(where)
        version = (await where.instance())["version"]
        assert version == fresh["version"] + 3
        await where.run()
        one = await where.instance()
        assert (one["runningTasksCount"], one["pendingTasksCount"], left(one)) == (1, 1, left(fresh) - 128), "one that is wanted RUNNING, and not yet"
        await RUNNING(where)
        await call("StopTask", task="TASK")(where)
        stopping = await where.instance()
        assert (stopping["runningTasksCount"], stopping["pendingTasksCount"], left(stopping)) == (0, 0, left(fresh) - 128), "held until it is STOPPED"
        await reports("STOPPED", main("STOPPED", exitCode=0))(where)
        assert left(await where.instance()) == left(fresh)
        await goes()(where)
        away = await where.instance()
        assert (away["agentConnected"], away["version"], away["status"]) == (False, version + 1, "ACTIVE")
        assert away["healthStatus"]["overallStatus"] == "IMPAIRED"
        answer = await where.ecs("RunTask", taskDefinition="web")
        assert [failure["reason"] for failure in answer["failures"]] == ["AGENT"]
        await comes()(where)
        await where.run()
        assert (await where.instance())["version"] == version + 2
