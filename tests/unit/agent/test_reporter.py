"""Reports: order, retries, what survives a restart, what is given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from homeport.agent.backoff import Backoff
from homeport.agent.client import CallFailedError, UnreachableError
from homeport.agent.engine.report import ContainerReport, NetworkBinding, TaskReport
from homeport.agent.reporter import Reporter, request_of
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.ids import Ids
from homeport.virtual_clock import VirtualClock

SETTINGS = AgentSettings(endpoint="http://127.0.0.1:1", region="us-east-1", access_key_id="a", secret_access_key="s")


class ControlPlane:
    """Takes calls; answers them with the errors that a test lays down, each as often as it says."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.taken: list[tuple[str, str]] = []
        self.attempts: list[float] = []
        self.errors: list[Exception] = []
        self.seconds = 0.0
        self.running = 0
        self.running_max = 0

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        assert operation == "SubmitTaskStateChange"
        self.attempts.append(self.clock.now())
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        await self.clock.sleep(self.seconds)
        self.running -= 1
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append((request["task"], request["status"]))
        return {}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def plane(clock) -> ControlPlane:
    return ControlPlane(clock)


@pytest.fixture
def acknowledged() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def restarted(tmp_path, clock, plane, acknowledged):
    """A function that makes a reporter of the agent's next life."""
    lives: list[tuple[Reporter, State]] = []

    async def restart() -> Reporter:
        for reporter, state in lives:
            await reporter.close()
            state.close()
        lives.clear()
        state = State.open(tmp_path)
        reporter = Reporter(
            client=plane,
            state=state,
            settings=SETTINGS,
            backoff=Backoff(SETTINGS, clock=clock, ids=Ids(1)),
            acknowledged=lambda arn, status: acknowledged.append((arn, status)),
        )
        lives.append((reporter, state))
        return reporter

    yield restart
    for reporter, state in lives:
        await reporter.close()
        state.close()


@pytest.fixture
async def reporter(restarted) -> Reporter:
    made = await restarted()
    made.start()
    return made


def report(arn: str = "t1", status: str = "RUNNING", **fields: Any) -> TaskReport:
    return TaskReport(arn=arn, status=status, **fields)


async def test_a_report_goes_out_at_once_and_is_acknowledged(clock, plane, reporter, acknowledged):
    reporter.report(report())
    await clock.settle()
    assert plane.taken == [("t1", "RUNNING")]
    assert acknowledged == [("t1", "RUNNING")]
    assert reporter.waiting == 0


async def test_reports_of_one_task_keep_their_order_one_at_a_time(clock, plane, reporter):
    plane.seconds = 1.0
    for status in ("PENDING", "RUNNING", "STOPPED"):
        reporter.report(report(status=status))
    await clock.advance(1.5)
    assert plane.running_max == 1
    await clock.advance(2)
    assert [status for _, status in plane.taken] == ["PENDING", "RUNNING", "STOPPED"]


async def test_ten_tasks_at_once(clock, plane, reporter):
    plane.seconds = 1.0
    for number in range(25):
        reporter.report(report(f"t{number}"))
    await clock.advance(0.5)
    assert plane.running_max == 10
    await clock.advance(3)
    assert len(plane.taken) == 25


ERRORS: list[Callable[[], Exception]] = [
    lambda: UnreachableError("nobody there"),
    lambda: CallFailedError("ServerException", "later"),
    lambda: CallFailedError("AccessDeniedException", "no"),
    lambda: CallFailedError("ClientException", "no"),
]


@pytest.mark.parametrize("error", ERRORS)
async def test_what_fails_is_tried_again_with_growing_delays(clock, plane, reporter, error):
    plane.errors = [error() for _ in range(6)]
    reporter.report(report())
    await clock.advance(30)
    assert plane.taken == [("t1", "RUNNING")]
    delays = [later - earlier for earlier, later in zip(plane.attempts, plane.attempts[1:], strict=False)]
    assert delays[0] == pytest.approx(0.25, rel=0.25)
    assert delays[5] == pytest.approx(0.25 * 1.5**5, rel=0.25)


async def test_the_delay_has_a_ceiling_and_there_is_no_giving_up(clock, plane, reporter):
    plane.errors = [UnreachableError("nobody there") for _ in range(100)]
    reporter.report(report())
    await clock.advance(1500)
    assert plane.taken == [("t1", "RUNNING")]
    assert max(later - earlier for earlier, later in zip(plane.attempts, plane.attempts[1:], strict=False)) <= 12


async def test_a_nudge_ends_the_wait(clock, plane, reporter):
    plane.errors = [UnreachableError("nobody there") for _ in range(10)]
    reporter.report(report())
    await clock.advance(25)
    plane.errors = []
    reporter._backoff.nudge()
    await clock.settle()
    assert plane.taken == [("t1", "RUNNING")]


async def test_the_first_that_gets_through_nudges_all_others(clock, plane, reporter):
    plane.errors = [UnreachableError("nobody there") for _ in range(25)]
    for number in range(5):
        reporter.report(report(f"t{number}"))
    await clock.advance(1)
    plane.errors = []
    before = clock.now()
    while len(plane.taken) < 5:
        await clock.jump()
    taken = plane.attempts[-5:]
    assert max(taken) - min(taken) == 0
    assert clock.now() - before < 1


async def test_a_report_that_will_never_be_taken_is_dropped_and_the_next_goes_on(clock, plane, reporter, acknowledged):
    plane.errors = [CallFailedError("InvalidParameterException", "The referenced task was not found.")]
    reporter.report(report(status="RUNNING"))
    reporter.report(report(status="STOPPED"))
    await clock.settle()
    assert plane.taken == [("t1", "STOPPED")]
    assert reporter.waiting == 0
    # The engine may clean up: nothing more will come of it.
    assert acknowledged == [("t1", "RUNNING"), ("t1", "STOPPED")]


async def test_one_task_that_is_refused_does_not_hold_up_the_others(clock, plane, reporter):
    plane.errors = [CallFailedError("AccessDeniedException", "no")]
    reporter.report(report("t1"))
    reporter.report(report("t2"))
    await clock.settle()
    assert plane.taken == [("t2", "RUNNING")]


async def test_what_is_not_acknowledged_goes_out_in_the_next_life_in_order(clock, plane, reporter, restarted):
    plane.errors = [UnreachableError("nobody there") for _ in range(100)]
    reporter.report(report(status="RUNNING"))
    reporter.report(report(status="STOPPED", execution_stopped_at=5.0))
    await clock.settle()
    again = await restarted()
    assert again.waiting == 2
    plane.errors = []
    again.start()
    again.report(report(status="STOPPED", execution_stopped_at=5.0))  # the engine tells once more what it does not know to be taken
    await clock.settle()
    assert plane.taken == [("t1", "RUNNING"), ("t1", "STOPPED")]
    assert (await restarted()).waiting == 0


async def test_nothing_goes_out_before_the_start(clock, plane, restarted):
    made = await restarted()
    made.report(report())
    await clock.settle()
    assert plane.attempts == []
    made.start()
    await clock.settle()
    assert plane.taken == [("t1", "RUNNING")]


def test_the_body_of_a_call():
    container = ContainerReport(
        name="app",
        status="STOPPED",
        runtime_id="abc",
        exit_code=0,
        reason="r",
        image_digest="sha256:1",
        network_bindings=(NetworkBinding("0.0.0.0", 80, 32768, "tcp"),),
    )
    full = TaskReport(
        arn="t1", status="STOPPED", reason="why", pull_started_at=1.5, pull_stopped_at=2.5, execution_stopped_at=3.5, containers=(container,)
    )
    assert request_of(full, cluster="c") == {
        "cluster": "c",
        "task": "t1",
        "status": "STOPPED",
        "reason": "why",
        "pullStartedAt": 1.5,
        "pullStoppedAt": 2.5,
        "executionStoppedAt": 3.5,
        "containers": [
            {
                "containerName": "app",
                "status": "STOPPED",
                "runtimeId": "abc",
                "exitCode": 0,
                "reason": "r",
                "imageDigest": "sha256:1",
                "networkBindings": [{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"}],
            }
        ],
    }
    assert request_of(report(), cluster="c") == {"cluster": "c", "task": "t1", "status": "RUNNING", "reason": ""}
