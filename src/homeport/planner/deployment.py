"""How far a service's deployments have come: health of their tasks, failures, rollout states, and when an old one is over.

Owns: `plan`, the launch throttle (`throttle_seconds`) and the rollout reasons. Never starts or stops a task (`planner/service.py` does).
Sources: ecs-reference 3.8 (launch throttle) and 3.9 (rollout states, failedTasks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.model.change import Change, Event, Plan, UpdateDeployment, UpdateTask
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.task import Container, Task
from homeport.model.record import Instant
from homeport.planner.deployment_start import monitors_over
from homeport.planner.health import healthy_at, is_healthy
from homeport.planner.service import TROUBLESHOOTING, ServiceView, is_settled

FREE_FAILURES: Final = 2
"""Rounds of failed launches that are retried at once."""
HEALTH_WRITES_MAX: Final = 80
"""Tasks marked healthy in one activation; under a transaction's 100 records. The rest follows at once."""
CRASH_SECONDS: Final = 10.0
"""A task that ran for less and ended by itself crashed."""
FREE_CRASHES: Final = 3
"""Rounds of crashes that are replaced at once."""
UNCOUNTED_MAX: Final = 50
"""Ends that changed no counter are passed over for good once there are more of them than this."""

_KILLED = (130, 137, 143)
"""Exit codes of containers that somebody interrupted, killed or stopped; that is no crash."""
_ORDERED = (task_model.SERVICE_SCHEDULER_INITIATED, task_model.USER_INITIATED)
_CHECK_FAILED = "Task failed container health checks"


def completed_reason(deployment_id: str) -> str:
    """rolloutStateReason of a deployment that reached the steady state."""
    return f"ECS deployment ecs-svc/{deployment_id} completed."


def throttle_seconds(failures: int, settings: Settings) -> float:
    """The delay before the next launch after `failures` failed rounds in a row: none for the first two, then doubling up to the ceiling."""
    return _doubling(failures - FREE_FAILURES, settings.start_throttle_base_seconds, settings.start_throttle_max_seconds)


def crash_seconds(crashes: int, settings: Settings) -> float:
    """The delay before the next launch after `crashes` rounds of crashed tasks in a row. Ours: without it a container that exits at once would be
    replaced several times a second for as long as nobody looks."""
    return _doubling(crashes - FREE_CRASHES, settings.crash_throttle_base_seconds, settings.crash_throttle_max_seconds)


def _doubling(steps: int, base_seconds: float, max_seconds: float) -> float:
    return min(max_seconds, base_seconds * 2.0 ** min(steps - 1, 32)) if steps > 0 else 0.0


def plan(view: ServiceView, ended: Iterable[Task], *, settings: Settings, now: Instant) -> Plan:
    """What `view`'s deployments and their tasks' health have become.

    `ended`: STOPPED tasks of the PRIMARY deployment; those that stopped up to its `ends_counted_at` are passed over.
    """
    primary = view.primary
    if view.service.status != service_model.ACTIVE or primary is None:
        return Plan()
    after = settings.healthy_after_seconds
    newly_healthy = [task for task in view.tasks if not task.healthy_since and is_healthy(task, after, now)][:HEALTH_WRITES_MAX]
    changes: list[Change] = [UpdateTask(msgspec.structs.replace(task, healthy_since=now), "it counts as healthy") for task in newly_healthy]
    counted = _count(_begun(primary, now), list(_moments(primary, view.tasks, ended, now, after)), settings, now)
    others = tuple(item for item in view.deployments if item.id != primary.id)
    live = {task.deployment_id for task in view.tasks}
    over = [item for item in others if item.target_id not in live]
    remaining = tuple(item for item in others if item.target_id in live)
    completed = _completed(msgspec.structs.replace(view, deployments=(counted, *remaining)), counted, after, now)
    changes.extend(UpdateDeployment(_inactive(item, now), "its last task is gone") for item in over)
    if completed != primary:
        changes.append(UpdateDeployment(completed, "its tasks' states"))
    changes.extend(_events(view.service.name, primary, completed))
    waits = [at for task in view.tasks if not task.healthy_since and (at := healthy_at(task, after)) > now]
    return Plan(tuple(changes), min(waits, default=0.0))


def _begun(deployment: Deployment, now: Instant) -> Deployment:
    """`deployment`, no longer PENDING."""
    if deployment.service_deployment_status != deployment_model.PENDING:
        return deployment
    return msgspec.structs.replace(deployment, service_deployment_status=deployment_model.IN_PROGRESS, started_at=now, updated_at=now)


class _Moment(msgspec.Struct, frozen=True, order=True):
    """Something that befell a task and that a counter follows, in order of time."""

    at: Instant
    rank: int
    """Breaks ties: a start before a failure."""
    kind: str
    """ran, healthy, failed-to-start, crashed, failed, or ordered (which moves nothing)."""
    created_at: Instant


def _moments(deployment: Deployment, live: Iterable[Task], ended: Iterable[Task], now: Instant, healthy_after_seconds: float) -> Iterator[_Moment]:
    """The moments after `deployment.ends_counted_at` that move its counters."""
    since = deployment.ends_counted_at
    for task in live:
        if task.deployment_id != deployment.target_id or not task.started_at:
            continue
        if task.started_at > since:
            yield _Moment(task.started_at, 0, "ran", task.created_at)
        if not task.healthy_since and is_healthy(task, healthy_after_seconds, now):
            yield _Moment(now, 1, "healthy", task.created_at)
        elif task.healthy_since > since:
            yield _Moment(task.healthy_since, 1, "healthy", task.created_at)
    for task in ended:
        if task.stopped_at <= since:
            continue
        if task.started_at > since:
            yield _Moment(task.started_at, 0, "ran", task.created_at)
        if task.healthy_since > since:
            yield _Moment(task.healthy_since, 1, "healthy", task.created_at)
        yield _Moment(task.stopped_at, 2, _end_kind(task), task.created_at)


def _end_kind(task: Task) -> str:
    if task.stop_code in _ORDERED:
        return "failed" if task.stopped_reason.startswith(_CHECK_FAILED) else "ordered"
    if not task.started_at:
        return "failed-to-start"
    if task.stopped_at - task.started_at < CRASH_SECONDS and any(_exited_by_itself(container) for container in task.containers):
        return "crashed"
    return "ordered" if task.healthy_since else "failed"


def _exited_by_itself(container: Container) -> bool:
    return container.essential and container.exit_code is not None and container.exit_code not in _KILLED


def _count(deployment: Deployment, moments: list[_Moment], settings: Settings, now: Instant) -> Deployment:
    """`deployment` with its counters brought up to `moments`."""
    tally = _Tally(deployment, settings, now)
    for moment in sorted(moments):
        tally.add(moment)
    counted = tally.deployment()
    if moments and (counted != deployment or len(moments) > UNCOUNTED_MAX):
        return msgspec.structs.replace(counted, ends_counted_at=max(moment.at for moment in moments), updated_at=now)
    return counted


class _Tally:
    """A deployment's counters while moments are added in order of time.

    Failures are counted for `failed_tasks` one by one, for the delays by rounds: a task made before the last counted failure belongs to the same
    round, so that ten tasks of one bad image do not lift the delay ten steps at once.
    """

    def __init__(self, deployment: Deployment, settings: Settings, now: Instant) -> None:
        self._before = deployment
        self._settings = settings
        self._now = now
        self._failed = deployment.failed_tasks
        self._to_start = deployment.failures_to_start
        self._crashes = deployment.crashes
        self._round_at = deployment.failure_round_at
        self._until = deployment.throttled_until

    def add(self, moment: _Moment) -> None:
        """Count one moment."""
        if moment.kind == "ran":
            if self._to_start:
                self._to_start, self._until = 0, 0.0
        elif moment.kind == "healthy":
            self._failed = self._crashes = 0
        elif moment.kind in ("failed", "crashed", "failed-to-start"):
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

    def deployment(self) -> Deployment:
        """The deployment with the counters as they are now."""
        return msgspec.structs.replace(
            self._before,
            failed_tasks=self._failed,
            failures_to_start=self._to_start,
            crashes=self._crashes,
            failure_round_at=self._round_at,
            throttled_until=self._until,
            impaired=self._to_start > FREE_FAILURES,
        )


def _completed(view: ServiceView, primary: Deployment, healthy_after_seconds: float, now: Instant) -> Deployment:
    """`primary`, COMPLETED when it alone is left and every desired task of it is healthy."""
    if primary.rollout_state != deployment_model.IN_PROGRESS or len(view.deployments) != 1:
        return primary
    if not is_settled(view, healthy_after_seconds, now):
        return primary
    return msgspec.structs.replace(
        primary,
        rollout_state=deployment_model.COMPLETED,
        rollout_state_reason=completed_reason(primary.target_id),
        service_deployment_status=deployment_model.SUCCESSFUL,
        updated_at=now,
        finished_at=now,
        **monitors_over(primary),
    )


def _inactive(deployment: Deployment, now: Instant) -> Deployment:
    return msgspec.structs.replace(deployment, status=deployment_model.INACTIVE, updated_at=now)


def _events(name: str, before: Deployment, after: Deployment) -> Iterator[Event]:
    if after.impaired and not before.impaired:
        yield Event(f"(service {name}) is unable to consistently start tasks successfully. {TROUBLESHOOTING}")
    if after.rollout_state == deployment_model.COMPLETED != before.rollout_state:
        yield Event(f"(service {name}) (deployment {after.shown_id}) deployment completed.")
