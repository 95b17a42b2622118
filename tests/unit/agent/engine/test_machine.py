"""The task machine: whole decisions, one event at a time."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.acs.messages import ContainerPayload, Dependency, PortMapping, RestartPolicy, TaskPayload
from homeport.agent.engine import machine
from homeport.agent.engine.report import ContainerReport, NetworkBinding, TaskReport
from homeport.agent.engine.task import (
    Acknowledged,
    Action,
    Continue,
    Created,
    Discard,
    Event,
    Gone,
    Launch,
    Launched,
    LaunchFailed,
    Overdue,
    Prepare,
    Prepared,
    PrepareFailed,
    Pull,
    Pulled,
    PullFailed,
    Seen,
    Stop,
    StopEnded,
    StopWanted,
    TaskState,
    Tell,
    Watch,
    decode,
    encode,
)
from homeport.agent.runtime.contract import ContainerObservation, HealthObservation, PortBinding

ARN = "arn:aws:ecs:us-east-1:123456789012:task/default/0123456789abcdef0123456789abcdef"
NOW = 1000.0


def container(name: str = "c", **members: Any) -> ContainerPayload:
    return ContainerPayload(**{"name": name, "image": "i", "essential": True} | members)


def needs(target: str, condition: str) -> list[Dependency]:
    return [Dependency(containerName=target, condition=condition)]


def seen(name: str = "c", status: str = "running", **members: Any) -> ContainerObservation:
    defaults: dict[str, Any] = {"id": f"id-{name}", "name": name, "status": status, "started_at": 10.0}
    if status == "created":
        defaults["started_at"] = None
    if status == "exited":
        defaults["finished_at"] = 20.0
    return ContainerObservation(**defaults | members)


class Play:
    """A task that events are told to, and the actions of the newest."""

    def __init__(self, *containers: ContainerPayload, needs_preparation: bool = False, **members: Any) -> None:
        payload = TaskPayload(arn=ARN, desiredStatus="RUNNING", family="f", version="1", containers=list(containers), **members)
        self.task: TaskState = machine.new_task(payload, needs_preparation=needs_preparation)
        self.actions: tuple[Action, ...] = ()

    def tell(self, *events: Event, now: float = NOW) -> tuple[Action, ...]:
        for event in events:
            before = self.task
            self.task, self.actions = machine.step(self.task, event, now)
            self.check(before)
        return self.actions

    def launched(self, name: str = "c", **members: Any) -> tuple[Action, ...]:
        return self.tell(Created(name, f"id-{name}"), Launched(name, seen(name, **members)))

    def run(self) -> Play:
        """Bring every container without dependencies to RUNNING."""
        self.tell(Continue())
        for item in self.task.payload.containers:
            self.tell(pulled(item.name))
        for item in self.task.payload.containers:
            if not item.dependsOn:
                self.launched(item.name)
        return self

    def check(self, before: TaskState) -> None:
        """What holds after every step: everything moves forward only, and the stored form holds everything but the steps."""
        assert not (before.desired == "STOPPED" and self.task.desired != "STOPPED")
        assert ["NONE", "RUNNING", "STOPPED"].index(self.task.known) >= ["NONE", "RUNNING", "STOPPED"].index(before.known)
        for old, new in zip(before.containers, self.task.containers, strict=True):
            assert new.rank >= old.rank
        stored = decode(encode(self.task))
        assert [item.known for item in stored.containers] == [item.known for item in self.task.containers]
        assert all(not item.step for item in stored.containers)

    @property
    def report(self) -> TaskReport:
        [report] = [action.report for action in self.actions if isinstance(action, Tell)]
        return report


def pulled(name: str = "c", digest: str | None = None, *, fresh: bool = False) -> Pulled:
    return Pulled(name, digest, fresh, 1.0, 2.0)


def test_from_acceptance_to_running() -> None:
    play = Play(container())
    assert play.tell(Continue()) == (Pull("c"),)
    assert play.tell(Continue()) == ()  # the step is under way
    assert play.tell(pulled()) == (Launch("c"),)
    assert play.tell(Created("c", "id-c")) == ()
    bindings = (PortBinding("0.0.0.0", 32768, 80, "tcp"),)
    play.tell(Launched("c", seen(ports=bindings)))
    assert play.report == TaskReport(
        arn=ARN,
        status="RUNNING",
        pull_started_at=1.0,
        pull_stopped_at=2.0,
        containers=(ContainerReport(name="c", status="RUNNING", runtime_id="id-c", network_bindings=(NetworkBinding("0.0.0.0", 80, 32768, "tcp"),)),),
    )
    assert play.tell(Seen("c", seen(ports=bindings))) == ()  # nothing new


def test_running_needs_every_container() -> None:
    play = Play(container("a"), container("b", essential=False))
    play.tell(Continue(), pulled("a"), pulled("b"))
    assert play.launched("a") == ()
    play.launched("b")
    assert [(item.name, item.status) for item in play.report.containers] == [("a", "RUNNING"), ("b", "RUNNING")]


def test_an_essential_exit_stops_the_rest_and_is_told_at_once_and_at_the_end() -> None:
    play = Play(container("a"), container("b", essential=False)).run()
    told, stop = play.tell(Seen("a", seen("a", "exited", exit_code=3)))
    assert stop == Stop("b")
    assert isinstance(told, Tell)
    assert (told.report.status, told.report.execution_stopped_at) == ("RUNNING", 20.0)
    assert [(item.name, item.status, item.exit_code) for item in told.report.containers] == [("a", "STOPPED", 3), ("b", "RUNNING", None)]
    assert play.task.known == "RUNNING"
    play.tell(Seen("b", seen("b", "exited", exit_code=137, finished_at=25.0)))
    assert play.report.status == "STOPPED"
    assert play.report.reason == ""
    assert play.report.execution_stopped_at == 20.0
    assert [(item.name, item.status, item.exit_code) for item in play.report.containers] == [("a", "STOPPED", 3), ("b", "STOPPED", 137)]


def test_a_command_that_exits_at_once_is_running_first() -> None:
    play = Play(container())
    play.tell(Continue(), pulled(), Created("c", "id-c"), Launched("c", seen(status="exited", exit_code=3)))
    reports = [action.report for action in play.actions if isinstance(action, Tell)]
    assert [report.status for report in reports] == ["RUNNING", "STOPPED"]
    assert reports[1].containers[0].exit_code == 3


def test_a_side_car_that_ends_leaves_the_task_running_and_is_told() -> None:
    play = Play(container("a"), container("b", essential=False)).run()
    play.tell(Seen("b", seen("b", "exited", exit_code=7)))
    assert (play.report.status, play.report.containers[1].status, play.report.containers[1].exit_code) == ("RUNNING", "STOPPED", 7)
    assert play.task.desired == "RUNNING"


def test_out_of_memory_has_its_reason() -> None:
    play = Play(container()).run()
    play.tell(Seen("c", seen(status="exited", exit_code=137, oom_killed=True)))
    assert play.report.containers[0].reason == "OutOfMemoryError: Container killed due to memory usage"


def test_what_the_host_could_not_give_is_told_as_the_reason_until_there_is_another() -> None:
    play = Play(container())
    note = "ulimit nofile lowered from 9:9 to this host's hard limit 5"
    labels = {"homeport.notes": note}
    play.tell(Continue(), pulled(), Created("c", "id-c"), Launched("c", seen(labels=labels)))
    assert play.report.containers[0].reason == note
    play.tell(Seen("c", seen(status="exited", exit_code=137, oom_killed=True, labels=labels)))
    assert play.report.containers[0].reason == machine.OUT_OF_MEMORY


def test_a_failed_pull_ends_the_task_without_a_container() -> None:
    play = Play(container())
    play.tell(Continue(), PullFailed("c", "CannotPullContainerError: no  such\nimage", 1.0, 2.0))
    assert play.report.status == "STOPPED"
    assert play.report.execution_stopped_at is None
    assert play.report.containers == (ContainerReport(name="c", status="STOPPED", reason="CannotPullContainerError: no such image"),)


def test_a_failed_start_ends_the_task_and_stops_what_runs() -> None:
    play = Play(container("a"), container("b"))
    play.tell(Continue(), pulled("a"), pulled("b"))
    play.launched("a")
    assert play.tell(LaunchFailed("b", "CannotStartContainerError: x")) == (Stop("a"),)


def test_a_failed_side_car_does_not_end_the_task() -> None:
    play = Play(container("a"), container("b", essential=False))
    play.tell(Continue(), pulled("a"), PullFailed("b", "CannotPullContainerError: x", 1.0, 2.0))
    play.launched("a")
    assert (play.report.status, play.report.containers[1].reason) == ("RUNNING", "CannotPullContainerError: x")


def test_a_fresh_digest_is_told_as_pending() -> None:
    play = Play(container())
    play.tell(Continue(), pulled(digest="sha256:1", fresh=True))
    assert play.report == TaskReport(arn=ARN, status="PENDING", containers=(ContainerReport(name="c", status="PENDING", image_digest="sha256:1"),))
    play = Play(container())
    play.tell(Continue())
    assert play.tell(pulled(digest="sha256:1")) == (Launch("c"),)
    play.launched()
    assert play.report.containers[0].image_digest == "sha256:1"


class TestStop:
    """A stop at every point of a task's life."""

    def test_before_anything_ran(self) -> None:
        play = Play(container())
        play.tell(Continue())
        play.tell(StopWanted())
        assert play.report.containers == (ContainerReport(name="c", status="STOPPED"),)
        assert play.tell(pulled()) == ()  # the pull that was under way ends for nothing

    def test_while_it_is_created(self) -> None:
        play = Play(container())
        play.tell(Continue(), pulled())
        assert play.tell(StopWanted()) == ()  # the launch under way gives up by itself
        play.tell(Created("c", "id-c"), LaunchFailed("c", ""))
        assert play.report.containers == (ContainerReport(name="c", status="STOPPED", runtime_id="id-c"),)

    def test_while_it_is_started(self) -> None:
        play = Play(container())
        play.tell(Continue(), pulled(), Created("c", "id-c"), StopWanted())
        assert play.tell(Launched("c", seen())) == (Stop("c"),)  # and no RUNNING is told
        play.tell(Seen("c", seen(status="exited", exit_code=143)))
        assert (play.report.status, play.report.containers[0].exit_code) == ("STOPPED", 143)

    def test_while_it_runs(self) -> None:
        play = Play(container()).run()
        assert play.tell(StopWanted()) == (Stop("c"),)
        assert play.tell(StopWanted()) == ()
        play.tell(Seen("c", seen(status="exited", exit_code=137)))
        assert play.report.status == "STOPPED"
        assert play.tell(StopEnded("c")) == ()

    def test_of_a_task_that_was_never_seen(self) -> None:
        task = machine.new_task(TaskPayload(arn=ARN, desiredStatus="STOPPED"), needs_preparation=False)
        task, actions = machine.step(task, Continue(), NOW)
        assert task.known == "STOPPED"
        assert actions == (Tell(TaskReport(arn=ARN, status="STOPPED")),)

    def test_a_start_that_was_given_up_and_still_happens_is_stopped_again(self) -> None:
        play = Play(container())
        play.tell(Continue(), pulled(), StopWanted(), Created("c", "id-c"), LaunchFailed("c", ""))
        assert play.task.known == "STOPPED"
        assert play.tell(Seen("c", seen())) == (Stop("c"),)


def test_preparation_comes_before_the_launch_and_its_failure_ends_the_task() -> None:
    play = Play(container(), needs_preparation=True, memory=64)
    assert play.tell(Continue()) == (Prepare(), Pull("c"))
    assert play.tell(pulled()) == ()
    assert play.tell(Prepared()) == (Launch("c"),)
    play = Play(container(), needs_preparation=True, memory=64)
    play.tell(Continue(), PrepareFailed("ResourceInitializationError: x"))
    assert (play.report.status, play.report.reason) == ("STOPPED", "ResourceInitializationError: x")


class TestOrder:
    """Dependencies at start and at stop."""

    def test_each_waits_for_the_one_before(self) -> None:
        play = Play(container("a", dependsOn=needs("b", "SUCCESS")), container("b", essential=False))
        play.tell(Continue(), pulled("a"))
        assert play.tell(pulled("b")) == (Launch("b"),)
        assert play.launched("b") == ()
        assert play.tell(Seen("b", seen("b", "exited", exit_code=0))) == (Launch("a"),)
        play.launched("a", started_at=21.0)
        assert play.report.status == "RUNNING"

    def test_health_lets_the_next_one_start(self) -> None:
        play = Play(container("a", dependsOn=needs("b", "HEALTHY")), container("b", healthCheckType="docker")).run()
        assert play.tell(Seen("b", seen("b", health=HealthObservation("starting")))) == ()
        assert play.tell(Seen("b", seen("b", health=HealthObservation("healthy")))) == (Launch("a"),)

    def test_what_cannot_happen_any_more_ends_the_task(self) -> None:
        play = Play(container("a", dependsOn=needs("b", "SUCCESS")), container("b", essential=False)).run()
        play.tell(Seen("b", seen("b", "exited", exit_code=1)))
        assert play.report.status == "STOPPED"
        assert play.report.reason.startswith("Task dependencies cannot be resolved: container a waits for container b to reach SUCCESS")

    def test_what_takes_too_long_ends_the_task(self) -> None:
        play = Play(container("a", dependsOn=needs("b", "COMPLETE")), container("b", essential=False, startTimeout=30))
        play.tell(Continue(), pulled("a"), pulled("b"), Created("b", "id-b"))
        before = play.task
        play.tell(Launched("b", seen("b", started_at=NOW - 1)))
        assert machine.watches(before, play.task, NOW) == (Watch("b", 29.0),)
        assert play.tell(Overdue("b")) == (Stop("b"),)
        assert "took too long" in play.task.reason

    def test_dependents_stop_first(self) -> None:
        play = Play(container("a", dependsOn=needs("b", "START")), container("b")).run()
        play.launched("a")
        assert play.tell(StopWanted()) == (Stop("a"),)
        assert play.tell(Seen("a", seen("a", "exited"))) == (Stop("b"),)


class TestRestart:
    """restartPolicy: by the agent, and only after a long enough run."""

    POLICY = RestartPolicy(enabled=True, restartAttemptPeriod=60, ignoredExitCodes=[5])

    def play(self) -> Play:
        return Play(container(restartPolicy=self.POLICY)).run()

    def test_a_long_run_is_followed_by_another(self) -> None:
        play = self.play()
        assert play.tell(Seen("c", seen(status="exited", exit_code=1, finished_at=80.0))) == (Launch("c"),)
        assert play.task.known == "RUNNING"
        assert play.tell(Seen("c", seen(status="exited", exit_code=1, finished_at=80.0))) == ()  # the same exit again
        assert play.tell(Seen("c", seen())) == ()  # an old picture of the first run
        assert play.tell(Launched("c", seen(started_at=81.0))) == ()
        play.tell(Seen("c", seen(status="exited", exit_code=1, started_at=81.0, finished_at=90.0)))
        assert play.report.status == "STOPPED"

    @pytest.mark.parametrize(("code", "ended"), [(1, 69.0), (5, 80.0)])
    def test_a_short_run_and_an_ignored_code_end_it(self, code: int, ended: float) -> None:
        play = self.play()
        play.tell(Seen("c", seen(status="exited", exit_code=code, finished_at=ended)))
        assert play.report.status == "STOPPED"

    def test_new_host_ports_are_told(self) -> None:
        play = self.play()
        play.tell(Seen("c", seen(status="exited", finished_at=80.0)))
        play.tell(Launched("c", seen(started_at=81.0, ports=(PortBinding("0.0.0.0", 5, 80, "tcp"),))))
        assert play.report.containers[0].network_bindings == (NetworkBinding("0.0.0.0", 80, 5, "tcp"),)


def test_a_container_that_was_removed_behind_our_back() -> None:
    play = Play(container()).run()
    play.tell(Gone("c"))
    assert play.report.containers[0].reason == "DockerStateError: the container does not exist any more"
    assert play.report.containers[0].exit_code is None


def test_an_exit_seen_before_the_launch_was_told_is_not_lost() -> None:
    play = Play(container())
    play.tell(Continue(), pulled(), Created("c", "id-c"), Seen("c", seen(status="exited", exit_code=4)))
    assert play.task.known == "STOPPED"
    assert play.tell(Launched("c", seen())) == ()  # the older picture, told later


def test_acknowledged_ends_are_discarded_once() -> None:
    play = Play(container()).run()
    assert play.tell(Acknowledged("STOPPED")) == ()
    assert play.tell(Acknowledged("RUNNING")) == ()
    play.tell(Seen("c", seen(status="exited")))
    assert play.tell(Acknowledged("RUNNING")) == ()
    assert play.tell(Acknowledged("STOPPED")) == (Discard(),)
    assert play.tell(Acknowledged("STOPPED")) == ()
    assert play.task.acknowledged_at == NOW


def test_host_mode_reports_the_container_ports() -> None:
    play = Play(container(portMappings=[PortMapping(containerPort=80, hostPort=80, protocol="tcp")]), networkMode="host").run()
    assert play.task.container("c").bindings == (NetworkBinding("0.0.0.0", 80, 80, "tcp"),)


def test_recovery_takes_up_what_a_stored_task_had_reached() -> None:
    play = Play(container("a"), container("b"))
    play.tell(Continue(), pulled("a"), pulled("b"), Created("a", "id-a"))
    play.task = decode(encode(play.task))
    assert play.tell(Seen("a", seen("a", "created"))) == (Launch("a"), Launch("b"))
    play = Play(container())
    play.tell(Continue(), pulled())
    play.task = decode(encode(play.task))
    assert play.tell(Seen("c", seen(status="created"))) == (Launch("c"),)  # created, but its id was never stored
    assert play.task.container("c").runtime_id == "id-c"
