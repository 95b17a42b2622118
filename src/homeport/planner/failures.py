"""Counting the failures of a deployment's tasks: failedTasks, the delays before the next launch, and what the circuit breaker sees.

Owns: `count`, `moments`, `throttle_seconds`, `crash_seconds`, `holds_up`. Never decides what follows (`planner/deployment.py` does).
Sources: ecs-reference 3.8 (launch throttle) and 3.9 (failedTasks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from homeport.config import Settings
from homeport.model.ecs import task as task_model
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.task import Container, Task
from homeport.model.record import Instant
from homeport.planner import circuit_breaker
from homeport.planner.deployment_configuration import Breaker
from homeport.planner.health import is_healthy

Counted = TypeVar("Counted", Deployment, DaemonDeployment)
"""What has these counters: a service's deployment, or a daemon's."""

FREE_FAILURES: Final = 2
"""Rounds of failed launches that are retried at once."""
CRASH_SECONDS: Final = 10.0
"""A task that ran for less and ended by itself crashed."""
FREE_CRASHES: Final = 3
"""Rounds of crashes that are replaced at once."""
UNCOUNTED_MAX: Final = 50
"""Ends that changed no counter are passed over for good once there are more of them than this."""

_KILLED = (130, 137, 143)
"""Exit codes of containers that somebody interrupted, killed or stopped; that is no crash."""
_ORDERED = (task_model.SERVICE_SCHEDULER_INITIATED, task_model.USER_INITIATED)
_BY_ITSELF = (task_model.ESSENTIAL_CONTAINER_EXITED, task_model.TASK_FAILED_TO_START)
_LOST = (task_model.INFRASTRUCTURE_HEALTH, task_model.TERMINATION_NOTICE)
_CHECK_FAILED = "Task failed container health checks"


def throttle_seconds(failures: int, settings: Settings) -> float:
    """The delay before the next launch after `failures` failed rounds in a row: none for the first two, then doubling up to the ceiling."""
    return _doubling(failures - FREE_FAILURES, settings.start_throttle_base_seconds, settings.start_throttle_max_seconds)


def crash_seconds(crashes: int, settings: Settings) -> float:
    """The delay before the next launch after `crashes` rounds of crashed tasks in a row. Ours: without it a container that exits at once would be
    replaced several times a second for as long as nobody looks."""
    return _doubling(crashes - FREE_CRASHES, settings.crash_throttle_base_seconds, settings.crash_throttle_max_seconds)


def holds_up(deployment: Deployment | DaemonDeployment) -> bool:
    """Whether the deployment's own failures delay its launches: its tasks do not get up, and nobody knows when they will."""
    return deployment.failures_to_start > FREE_FAILURES or deployment.crashes > FREE_CRASHES


def _doubling(steps: int, base_seconds: float, max_seconds: float) -> float:
    return min(max_seconds, base_seconds * 2.0 ** min(steps - 1, 32)) if steps > 0 else 0.0


class Moment(msgspec.Struct, frozen=True, order=True):
    """Something that befell a task and that a counter follows, in order of time."""

    at: Instant
    rank: int
    """Breaks ties: a start before a failure."""
    kind: str
    """ran, healthy, failed-to-start, crashed, failed, lost (its instance was), or ordered (which moves nothing)."""
    created_at: Instant


def moments(
    deployment: Deployment | DaemonDeployment, live: Iterable[Task], ended: Iterable[Task], *, healthy_after_seconds: float, now: Instant
) -> Iterator[Moment]:
    """The moments after `deployment.ends_counted_at` that move its counters; tasks of others are passed over."""
    since = deployment.ends_counted_at
    for task in live:
        if task.deployment_id != deployment.target_id:
            continue
        if _ended_at(task) > since:
            yield Moment(_ended_at(task), 2, _end_kind(task), task.created_at)
        if not task.started_at:
            continue
        if task.started_at > since:
            yield Moment(task.started_at, 0, "ran", task.created_at)
        if not task.healthy_since and is_healthy(task, healthy_after_seconds, now):
            yield Moment(now, 1, "healthy", task.created_at)
        elif task.healthy_since > since:
            yield Moment(task.healthy_since, 1, "healthy", task.created_at)
    for task in ended:
        if task.deployment_id != deployment.target_id or _ended_at(task) <= since:
            continue
        if task.started_at > since:
            yield Moment(task.started_at, 0, "ran", task.created_at)
        if task.healthy_since > since:
            yield Moment(task.healthy_since, 1, "healthy", task.created_at)
        yield Moment(_ended_at(task), 2, _end_kind(task), task.created_at)


def _ended_at(task: Task) -> Instant:
    """When it ended as far as its deployment is concerned, or 0.0. One that ended by itself is replaced while its side cars still stop, so it counts
    from then on: else such tasks would multiply before the first of them is seen to crash."""
    return (task.stopping_at or task.stopped_at) if task.stop_code in _BY_ITSELF else task.stopped_at


def _end_kind(task: Task) -> str:
    if task.stop_code in _ORDERED:
        return "failed" if task.stopped_reason.startswith(_CHECK_FAILED) else "ordered"
    if not task.started_at:
        return "failed-to-start"
    if _ended_at(task) - task.started_at < CRASH_SECONDS and any(_exited_by_itself(container) for container in task.containers):
        return "crashed"
    if task.healthy_since:
        return "ordered"
    return "lost" if task.stop_code in _LOST else "failed"


def _exited_by_itself(container: Container) -> bool:
    return container.essential and container.exit_code is not None and container.exit_code not in _KILLED


def count(deployment: Counted, found: list[Moment], asked: Breaker, *, settings: Settings, now: Instant) -> Counted:
    """`deployment` with its counters brought up to `found`, the moments that are new; its circuit breaker counts as `asked`."""
    tally = _Tally(deployment, settings, now)
    breaker = circuit_breaker.Counter(deployment.circuit_breaker, asked)
    for moment in sorted(found):
        tally.add(moment)
        breaker.add(moment.kind)
    counted = msgspec.structs.replace(deployment, circuit_breaker=breaker.breaker(), **tally.fields())
    if found and (counted != deployment or len(found) > UNCOUNTED_MAX):
        return msgspec.structs.replace(counted, ends_counted_at=max(moment.at for moment in found), updated_at=now)
    return counted


class _Tally:
    """A deployment's counters while moments are added in order of time.

    Failures are counted for `failed_tasks` one by one, for the delays by rounds: a task made before the last counted failure belongs to the same
    round, so that ten tasks of one bad image do not lift the delay ten steps at once.
    """

    def __init__(self, deployment: Deployment | DaemonDeployment, settings: Settings, now: Instant) -> None:
        self._settings = settings
        self._now = now
        self._failed = deployment.failed_tasks
        self._to_start = deployment.failures_to_start
        self._crashes = deployment.crashes
        self._round_at = deployment.failure_round_at
        self._until = deployment.throttled_until

    def add(self, moment: Moment) -> None:
        """Count one moment."""
        if moment.kind == "ran":
            if self._to_start:
                self._to_start, self._until = 0, 0.0
        elif moment.kind == "healthy":
            self._failed = self._crashes = 0
        elif moment.kind in ("failed", "crashed", "failed-to-start", "lost"):
            self._failed += 1
        if moment.kind in ("crashed", "failed-to-start") and moment.created_at >= self._round_at:
            self._round_at = moment.at
            self._next_round(crashed=moment.kind == "crashed")

    def _next_round(self, *, crashed: bool) -> None:
        if crashed:
            self._crashes += 1
            delay = crash_seconds(self._crashes, self._settings)
        else:
            self._to_start += 1
            delay = throttle_seconds(self._to_start, self._settings)
        self._until = self._now + delay if delay else 0.0

    def fields(self) -> dict[str, Any]:
        """The deployment's counters as they are now."""
        return {
            "failed_tasks": self._failed,
            "failures_to_start": self._to_start,
            "crashes": self._crashes,
            "failure_round_at": self._round_at,
            "throttled_until": self._until,
            "impaired": self._to_start > FREE_FAILURES,
        }
