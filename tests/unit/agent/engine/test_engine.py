"""The engine on the fake runtime, in virtual time: life, pool, recovery, and death at every call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeport.acs.messages import (
    ContainerPayload,
    Dependency,
    DockerConfig,
    HostVolume,
    MountPoint,
    PortMapping,
    RestartPolicy,
    TaskPayload,
    VolumePayload,
)
from homeport.agent.engine import config
from homeport.agent.engine.engine import Engine, InvalidTaskError
from homeport.agent.engine.report import TaskReport
from homeport.agent.runtime.contract import (
    ImageObservation,
    PortTakenError,
    PullError,
    RuntimeDeadlineError,
    RuntimeFailureError,
    RuntimeUnavailableError,
    VolumeDocument,
)
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.ids import Ids
from homeport.testing.runtime import FakeContainer, FakeRuntime
from homeport.virtual_clock import VirtualClock

IMAGE = "homeport-test:latest"
CLEANUP = 10_800.0


def container(name: str = "c", command: str = "sleep 100000", **members: Any) -> ContainerPayload:
    return ContainerPayload(**{"name": name, "image": IMAGE, "essential": True, "command": ["/bin/sh", "-c", command]} | members)


def task(number: int = 1, *containers: ContainerPayload, **members: Any) -> TaskPayload:
    arn = f"arn:aws:ecs:us-east-1:123456789012:task/default/{number:032x}"
    defaults = {"arn": arn, "desiredStatus": "RUNNING", "family": "web", "version": "1", "containers": list(containers) or [container()]}
    return TaskPayload(**defaults | members)


class World:
    """A host: its runtime and its agent's data directory live on; engines come and go."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.runtime = FakeRuntime(self.clock)
        self.directory = directory
        self.reports: list[TaskReport] = []
        self.unhealthy: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.engine: Engine
        self.state: State
        self.settings: dict[str, Any] = {}

    async def boot(self) -> Engine:
        self.state = State.open(self.directory)
        settings = AgentSettings(
            **{"endpoint": "", "region": "", "access_key_id": "", "secret_access_key": "", "installation_id": "inst"} | self.settings
        )
        self.engine = Engine(
            runtime=self.runtime,
            state=self.state,
            clock=self.clock,
            ids=Ids(1),
            settings=settings,
            report=self.reports.append,
            on_health=self.unhealthy.append,
            on_event=lambda task, event: self.events.append((task.known, type(event).__name__)),
        )
        await self.engine.start()
        await self.clock.settle()
        return self.engine

    async def die(self) -> None:
        """The agent's process ends without a word: nothing of it runs or writes any more."""
        await self.engine.close()
        self.state.close()

    async def submit(self, *tasks: TaskPayload) -> None:
        for payload in tasks:
            self.engine.submit(payload)
        await self.clock.settle()

    async def stop(self, payload: TaskPayload) -> None:
        await self.submit(TaskPayload(arn=payload.arn, desiredStatus="STOPPED"))

    def statuses(self, payload: TaskPayload | None = None) -> list[str]:
        return [report.status for report in self.reports if payload is None or report.arn == payload.arn]

    def of(self, payload: TaskPayload, name: str = "c") -> FakeContainer:
        [found] = [item for item in self.runtime.containers.values() if item.name == config.container_name(payload, name)]
        return found

    @property
    def made(self) -> list[str]:
        return [name for call, name in self.runtime.calls if call == "create"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.boot()
    yield world
    await world.die()
    await world.runtime.close()


async def test_a_task_from_submission_to_cleanup(world: World) -> None:
    one = task(1, container(portMappings=[PortMapping(containerPort=80, protocol="tcp")], stopTimeout=5))
    await world.submit(one, one)
    assert world.statuses() == ["RUNNING"]
    assert world.engine.tasks() == [(one.arn, "RUNNING", "RUNNING")]
    [report] = world.reports[0].containers
    assert (report.runtime_id, report.network_bindings[0].container_port) == (world.of(one).id, 80)
    assert world.made == [config.container_name(one, "c")]
    await world.stop(one)
    await world.clock.advance(4.9)
    assert world.statuses() == ["RUNNING"]
    await world.clock.advance(0.2)
    assert world.statuses() == ["RUNNING", "STOPPED"]
    assert world.reports[-1].containers[0].exit_code == 137
    await world.clock.advance(CLEANUP * 2)
    assert len(world.runtime.containers) == 1  # nobody has acknowledged it
    world.engine.acknowledged(one.arn)
    await world.clock.advance(CLEANUP - 1)
    assert len(world.runtime.containers) == 1
    await world.clock.advance(2)
    assert world.runtime.containers == {}
    assert world.engine.tasks() == []
    assert world.state.load("task") == {}


async def test_a_local_image_is_never_pulled(world: World) -> None:
    await world.submit(task())
    assert "pull" not in {call for call, _ in world.runtime.calls}


async def test_a_missing_image_is_pulled_once_for_all_and_told(world: World) -> None:
    world.runtime.pullable["far:1"] = ImageObservation(id="x", digest="sha256:d")
    await world.submit(*(task(number, container(image="far:1")) for number in range(1, 4)))
    assert [name for call, name in world.runtime.calls if call == "pull"] == ["far:1"]
    assert sorted(world.statuses()) == ["PENDING"] * 3 + ["RUNNING"] * 3
    assert world.reports[0].containers[0].image_digest == "sha256:d"


async def test_an_image_that_cannot_be_had(world: World) -> None:
    await world.submit(task(1, container(image="far:1")))
    [report] = world.reports
    assert (report.status, report.containers[0].runtime_id) == ("STOPPED", None)
    assert report.containers[0].reason == "CannotPullContainerError: pull image far:1: manifest for far:1 not found: manifest unknown"


async def test_a_pull_that_times_out_is_tried_again(world: World) -> None:
    world.runtime.pullable["far:1"] = ImageObservation(id="x", digest="sha256:d")
    world.runtime.failures["pull"] = [PullError("net/http: TLS handshake timeout")]
    await world.submit(task(1, container(image="far:1")))
    await world.clock.advance(2)
    assert world.statuses() == ["PENDING", "RUNNING"]


@pytest.mark.parametrize(
    ("behavior", "local", "far", "pulls", "status"),
    [
        ("default", True, True, 1, "RUNNING"),
        ("default", True, False, 1, "RUNNING"),
        ("always", True, False, 1, "STOPPED"),
        ("always", True, True, 1, "RUNNING"),
        ("once", True, False, 1, "RUNNING"),
        ("prefer-cached", True, True, 0, "RUNNING"),
        ("prefer-cached", False, False, 1, "STOPPED"),
    ],
)
async def test_pull_behaviors(world: World, behavior: str, local: bool, far: bool, pulls: int, status: str) -> None:
    await world.die()
    world.settings["image_pull_behavior"] = behavior
    await world.boot()
    image = ImageObservation(id="x")
    if local:
        world.runtime.images["far:1"] = image
    if far:
        world.runtime.pullable["far:1"] = image
    await world.submit(task(1, container(image="far:1")))
    assert [call for call, _ in world.runtime.calls].count("pull") == pulls
    assert world.statuses() == [status]


async def test_an_image_pulled_once_is_not_pulled_again_even_after_a_restart(world: World) -> None:
    await world.die()
    world.settings["image_pull_behavior"] = "once"
    await world.boot()
    world.runtime.pullable["far:1"] = ImageObservation(id="x")
    await world.submit(task(1, container(image="far:1")))
    await world.die()
    await world.boot()
    await world.submit(task(2, container(image="far:1")))
    assert [call for call, _ in world.runtime.calls].count("pull") == 1


async def test_errors_of_creation_and_start(world: World) -> None:
    world.runtime.failures["create"] = [RuntimeFailureError("invalid mount config")]
    await world.submit(task(1))
    await world.submit(task(2, ContainerPayload(name="c", image=IMAGE, essential=True, command=["/nope"])))
    reasons = [report.containers[0].reason for report in world.reports]
    assert reasons == ["CannotCreateContainerError: invalid mount config", 'CannotStartContainerError: exec: "/nope": no such file or directory']
    assert world.statuses() == ["STOPPED", "STOPPED"]


async def test_a_runtime_that_is_too_slow(world: World) -> None:
    world.runtime.failures["start"] = [RuntimeDeadlineError("Docker gave no answer") for _ in range(3)]
    await world.submit(task())
    assert world.reports[-1].containers[0].reason == "DockerTimeoutError: Docker gave no answer"


async def test_out_of_memory(world: World) -> None:
    await world.submit(task(1, container(command="oom sleep 5")))
    await world.clock.advance(6)
    assert world.reports[-1].containers[0].reason == "OutOfMemoryError: Container killed due to memory usage"


async def test_a_taken_port_is_tried_again(world: World) -> None:
    world.runtime.failures["start"] = [PortTakenError("port is already allocated")]
    await world.submit(task(1, container(portMappings=[PortMapping(containerPort=80, protocol="tcp")])))
    await world.clock.advance(1)
    assert world.statuses() == ["RUNNING"]
    world.runtime.taken_ports.add(8080)
    fixed = task(2, container(portMappings=[PortMapping(containerPort=80, hostPort=8080, protocol="tcp")]))
    await world.submit(fixed)
    await world.clock.advance(5)
    assert world.reports[-1].status == "STOPPED"
    assert str(world.reports[-1].containers[0].reason).startswith("CannotStartContainerError: driver failed")


async def test_starts_are_bounded_and_never_wait_for_stops(world: World) -> None:
    going, most = 0, 0
    gate = asyncio.Event()

    async def before(method: str, subject: str) -> None:
        nonlocal going, most
        if method == "create":
            going += 1
            most = max(most, going)
            await gate.wait()

    async def after(method: str, subject: str) -> None:
        nonlocal going
        if method == "start":
            going -= 1

    stuck = [task(number, container(stopTimeout=30)) for number in range(1, 9)]
    await world.submit(*stuck)
    for payload in stuck:
        await world.stop(payload)
    world.runtime.before, world.runtime.after = before, after
    await world.submit(*(task(number) for number in range(11, 21)))
    assert most == 4
    gate.set()
    await world.clock.settle()
    assert most == 4
    assert world.statuses().count("RUNNING") == 18  # while eight stops still wait for their timeouts
    assert "STOPPED" not in world.statuses()


async def test_dependencies_and_the_reverse_order_at_stop(world: World) -> None:
    payload = task(
        1,
        container("app", "trap 'exit 0' sleep 100000", dependsOn=[Dependency(containerName="db", condition="HEALTHY")]),
        container(
            "db", "trap 'exit 0' sleep 100000", healthCheckType="docker", dockerConfig=DockerConfig(config='{"Healthcheck":{"Test":["CMD","x"]}}')
        ),
    )
    await world.submit(payload)
    assert world.statuses() == []
    world.runtime.report_health(config.container_name(payload, "db"), "healthy", "fine")
    await world.clock.settle()
    assert world.statuses() == ["RUNNING"]
    assert world.unhealthy == [payload.arn]
    [health] = world.engine.health()
    assert [(item.containerName, item.healthStatus, item.statusMessage) for item in health.containers] == [("db", "HEALTHY", "fine")]
    await world.stop(payload)
    names = [config.container_name(payload, name) for name in ("app", "db")]
    assert [name for call, name in world.runtime.calls if call == "stop"] == names
    assert world.statuses() == ["RUNNING", "STOPPED"]


async def test_a_start_timeout_ends_the_task(world: World) -> None:
    waits = [Dependency(containerName="init", condition="COMPLETE")]
    await world.submit(task(1, container("app", dependsOn=waits), container("init", startTimeout=10, stopTimeout=1, essential=False)))
    await world.clock.advance(9)
    assert world.statuses() == []
    await world.clock.advance(3)
    assert world.statuses() == ["STOPPED"]
    assert "took too long" in world.reports[0].reason


async def test_restart_policy(world: World) -> None:
    payload = task(1, container(command="sleep 400; exit 1", restartPolicy=RestartPolicy(enabled=True)))
    await world.submit(payload)
    await world.clock.advance(450)
    assert world.of(payload).run == 2
    assert world.statuses() == ["RUNNING"]
    world.runtime.end(world.of(payload).name, 1)
    await world.clock.settle()
    assert world.statuses() == ["RUNNING", "STOPPED"]


async def test_volumes_of_the_tasks_life_go_with_it_and_shared_ones_stay(world: World) -> None:
    world.runtime.volumes["kept"] = VolumeDocument(name="kept")
    payload = task(
        1,
        container(mountPoints=[MountPoint(sourceVolume="v", containerPath="/v")], stopTimeout=1),
        volumes=[VolumePayload(name="v", type="host", host=HostVolume())],
    )
    await world.submit(payload)
    assert len(world.runtime.volumes) == 2
    await world.stop(payload)
    await world.clock.advance(2)
    world.engine.acknowledged(payload.arn)
    await world.clock.advance(CLEANUP + 1)
    assert world.runtime.volumes.keys() == {"kept"}


async def test_limits_that_nobody_keeps_are_not_promised(world: World) -> None:
    await world.submit(task(1, memory=64))
    assert world.reports[0].reason.startswith("ResourceInitializationError: task-level cpu and memory cannot be limited")


async def test_payloads_that_cannot_be_read(world: World) -> None:
    with pytest.raises(InvalidTaskError, match="awsvpc"):
        world.engine.submit(task(1, networkMode="awsvpc"))
    assert world.engine.tasks() == []


async def test_a_stop_for_an_unknown_task_is_told_and_remembered(world: World) -> None:
    await world.stop(task(7))
    assert world.statuses() == ["STOPPED"]
    await world.submit(task(7))  # an older RUNNING that arrives late
    assert world.made == []
    world.engine.acknowledged(task(7).arn)
    await world.submit(task(7))
    assert world.statuses() == ["STOPPED", "STOPPED"]  # acknowledged, and asked again: told again


class TestRecovery:
    """The agent, its connection or the runtime goes away."""

    async def test_containers_are_adopted(self, world: World) -> None:
        payload = task()
        await world.submit(payload)
        before = world.of(payload).id
        await world.die()
        await world.boot()
        assert world.of(payload).id == before
        assert world.engine.tasks() == [(payload.arn, "RUNNING", "RUNNING")]
        assert world.statuses() == ["RUNNING"]
        world.runtime.end(world.of(payload).name, 9)
        await world.clock.settle()
        assert world.reports[-1].containers[0].exit_code == 9

    async def test_exits_that_happened_meanwhile_are_told_truly(self, world: World) -> None:
        one, two = task(1), task(2)
        await world.submit(one, two)
        await world.die()
        world.runtime.end(world.of(one).name, 5)
        world.runtime.end(world.of(two).name, 137, oom_killed=True)
        await world.boot()
        ends = {report.arn: report.containers[0] for report in world.reports if report.status == "STOPPED"}
        assert ends[one.arn].exit_code == 5
        assert (ends[two.arn].exit_code, ends[two.arn].reason) == (137, "OutOfMemoryError: Container killed due to memory usage")

    async def test_a_container_that_was_removed_meanwhile(self, world: World) -> None:
        payload = task()
        await world.submit(payload)
        await world.die()
        world.runtime.containers.clear()
        await world.boot()
        assert str(world.reports[-1].containers[0].reason).startswith("DockerStateError")

    async def test_an_unacknowledged_end_is_told_again_and_an_acknowledged_one_is_cleaned_up(self, world: World) -> None:
        one, two = task(1, container(command="exit 0")), task(2, container(command="exit 0"))
        await world.submit(one, two)
        world.engine.acknowledged(two.arn)
        await world.die()
        world.reports.clear()
        await world.boot()
        assert [(report.arn, report.status) for report in world.reports] == [(one.arn, "STOPPED")]
        await world.clock.advance(CLEANUP + 1)
        assert [arn for arn, _, _ in world.engine.tasks()] == [one.arn]

    async def test_the_connection_breaks_and_comes_back(self, world: World) -> None:
        one, two, three = task(1), task(2), task(3)
        await world.submit(one, two)
        world.runtime.break_connection()
        await world.clock.settle()
        assert not world.engine.connected
        world.runtime.end(world.of(one).name, 4)
        await world.submit(three)
        await world.stop(two)
        await world.clock.advance(60)
        assert world.statuses() == ["RUNNING", "RUNNING"]
        world.runtime.restore_connection()
        await world.clock.advance(40)
        assert world.statuses(one) == ["RUNNING", "STOPPED"]
        assert world.statuses(two) == ["RUNNING", "STOPPED"]
        assert world.statuses(three) == ["RUNNING"]
        assert [report.containers[0].exit_code for report in world.reports if report.arn == one.arn] == [None, 4]

    async def test_the_runtime_restarts(self, world: World) -> None:
        await world.submit(task(1), task(2))
        world.runtime.restart()
        await world.clock.advance(1)
        assert world.statuses().count("STOPPED") == 2
        assert {report.containers[0].exit_code for report in world.reports if report.status == "STOPPED"} == {137}

    async def test_a_start_whose_answer_was_lost_is_not_made_again(self, world: World) -> None:
        payload = task()

        async def cut(method: str, subject: str) -> None:
            if method == "start":
                world.runtime.after = None
                world.runtime.break_connection()
                world.runtime.end(subject, 3)  # it ran and ended while nobody listened

        world.runtime.after = cut
        await world.submit(payload)
        world.runtime.restore_connection()
        await world.clock.advance(5)
        assert world.of(payload).run == 1
        assert world.statuses() == ["RUNNING", "STOPPED"]
        assert world.reports[-1].containers[0].exit_code == 3

    async def test_a_runtime_that_is_away_at_the_start_is_waited_for(self, world: World) -> None:
        await world.submit(task(1))
        await world.die()
        world.runtime.break_connection()
        await world.boot()
        await world.submit(task(2))
        assert world.statuses() == ["RUNNING"]
        world.runtime.restore_connection()
        await world.clock.settle()
        assert world.statuses() == ["RUNNING", "RUNNING"]

    async def test_containers_of_lost_tasks_go_and_another_agents_stay(self, world: World) -> None:
        await world.submit(task(1), task(2), task(3))
        world.of(task(2)).labels[config.LABEL_AGENT] = "another"
        world.of(task(3)).labels[config.LABEL_INSTALLATION] = "another"
        for arn in world.state.load("task"):
            world.state.delete("task", arn)
        await world.die()
        await world.boot()
        kept = {item.labels[config.LABEL_TASK] for item in world.runtime.containers.values()}
        assert kept == {task(2).arn, task(3).arn}

    async def test_a_stop_ends_what_an_earlier_state_left(self, world: World) -> None:
        payload = task()
        await world.submit(payload)
        world.of(payload).labels[config.LABEL_AGENT] = "earlier"
        world.state.delete("task", payload.arn)
        await world.die()
        await world.boot()
        await world.stop(payload)
        await world.clock.advance(31)
        assert world.runtime.containers == {}
        assert world.statuses() == ["RUNNING", "STOPPED"]


POINTS = [(when, method) for method in ("create", "start", "stop") for when in ("before", "after")]


@pytest.mark.parametrize(("when", "method"), POINTS, ids=[f"{when}-{method}" for when, method in POINTS])
async def test_death_around_a_call_makes_no_second_container_and_leaves_none(world: World, when: str, method: str) -> None:
    payload = task(1, container(stopTimeout=1), container("side", essential=False, stopTimeout=1))
    reached = asyncio.Event()

    async def never_answer(called: str, subject: str) -> None:
        if called == method:
            reached.set()
            await asyncio.Event().wait()

    setattr(world.runtime, when, never_answer)
    await world.submit(payload)
    await world.stop(payload) if method == "stop" else None
    await world.clock.advance(3)
    assert reached.is_set()
    await world.die()
    world.runtime.before = world.runtime.after = None
    await world.boot()
    await world.clock.advance(5)
    if method != "stop":
        assert world.statuses()[-1] == "RUNNING"
        assert sorted(item.name for item in world.runtime.containers.values()) == sorted(
            config.container_name(payload, name) for name in ("c", "side")
        )
        assert {item.status for item in world.runtime.containers.values()} == {"running"}
        assert {item.run for item in world.runtime.containers.values()} == {1}
        await world.stop(payload)
        await world.clock.advance(5)
    assert world.statuses()[-1] == "STOPPED"
    assert {item.status for item in world.runtime.containers.values()} == {"exited"}
    assert len(world.runtime.containers) == 2
    world.engine.acknowledged(payload.arn)
    await world.clock.advance(CLEANUP + 1)
    assert world.runtime.containers == {}


async def test_death_between_removal_and_forgetting(world: World) -> None:
    payload = task(1, container(command="exit 0"))
    await world.submit(payload)
    world.engine.acknowledged(payload.arn)

    async def never_answer(method: str, subject: str) -> None:
        if method == "remove":
            await asyncio.Event().wait()

    world.runtime.before = never_answer
    await world.clock.advance(CLEANUP + 1)
    await world.die()
    world.runtime.before = None
    await world.boot()
    await world.clock.advance(CLEANUP + 1)
    assert world.runtime.containers == {}
    assert world.engine.tasks() == []


async def test_a_lost_connection_during_the_look_is_looked_at_again(world: World) -> None:
    payload = task()
    await world.submit(payload)
    world.runtime.failures["list"] = [RuntimeUnavailableError("broke again")]
    world.runtime.restart()
    await world.clock.settle()
    assert world.statuses() == ["RUNNING"]
    await world.clock.advance(2)
    assert world.statuses() == ["RUNNING", "STOPPED"]


async def test_a_creation_of_an_earlier_life_that_ends_late_is_taken_over(world: World) -> None:
    payload = task()
    await world.submit(payload)
    earlier = world.of(payload)
    for call in (world.runtime.containers.clear, world.runtime.calls.clear, world.reports.clear):
        call()
    world.state.delete("task", payload.arn)
    await world.die()
    await world.boot()  # looks while the earlier creation is still under way, and sees nothing
    earlier.status, earlier.run, earlier.started_at = "created", 0, None
    world.runtime.containers[earlier.id] = earlier
    await world.submit(payload)
    assert world.statuses() == ["RUNNING"]
    assert list(world.runtime.containers) == [earlier.id]
    assert (world.of(payload).id, world.of(payload).run) == (earlier.id, 1)


async def test_a_strangers_container_of_that_name_is_left_alone(world: World) -> None:
    payload = task()
    stranger = await world.runtime.create(config.container_name(payload, "c"), {"Image": IMAGE, "Labels": {}})
    await world.submit(payload)
    assert str(world.reports[0].containers[0].reason).startswith("CannotCreateContainerError: Conflict")
    assert world.runtime.containers[stranger].status == "created"


async def test_an_inspection_that_fails_is_made_again(world: World) -> None:
    payload = task()
    await world.submit(payload)
    world.runtime.failures["inspect"] = [RuntimeUnavailableError("reset"), RuntimeFailureError("busy")]
    world.runtime.end(world.of(payload).name, 3)
    await world.clock.advance(1)
    assert world.statuses() == ["RUNNING", "STOPPED"]
    assert world.reports[-1].containers[0].exit_code == 3


async def test_a_start_that_happens_after_its_deadline_is_stopped(world: World) -> None:
    payload = task(1, container(stopTimeout=1))

    async def late(method: str, subject: str) -> None:
        if method == "start":
            raise RuntimeDeadlineError("Docker gave no answer")

    world.runtime.after = late
    await world.submit(payload)
    assert world.reports[-1].containers[0].status == "RUNNING"  # the second try found it running
    other = task(2, container(stopTimeout=1))
    world.runtime.after = None
    world.runtime.failures["start"] = [RuntimeDeadlineError("Docker gave no answer") for _ in range(3)]
    await world.submit(other)
    assert world.statuses(other) == ["STOPPED"]
    await world.runtime.start(world.of(other).id)  # Docker does it after all
    await world.clock.advance(5)
    assert world.of(other).status == "exited"


async def test_a_start_timeout_outlives_the_agent(world: World) -> None:
    waits = [Dependency(containerName="init", condition="COMPLETE")]
    await world.submit(task(1, container("app", dependsOn=waits), container("init", startTimeout=10, stopTimeout=1, essential=False)))
    await world.clock.advance(5)
    await world.die()
    await world.boot()
    await world.clock.advance(4)
    assert world.statuses() == []
    await world.clock.advance(3)
    assert world.statuses() == ["STOPPED"]


async def test_whoever_follows_is_told_of_each_event_and_of_what_was_stored(world: World) -> None:
    payload = task(1, container(command="trap; sleep 100000"))
    await world.submit(payload)
    assert world.events[0] == ("NONE", "Continue")  # before anything is made of it
    assert ("RUNNING", "Launched") in world.events
    world.events.clear()
    await world.die()
    await world.boot()
    assert world.events[0] == ("RUNNING", "NoneType")
    assert ("RUNNING", "Seen") in world.events
    await world.stop(payload)
    assert world.events[-1][0] == "STOPPED"
