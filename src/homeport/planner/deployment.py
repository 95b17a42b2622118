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
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.planner.health import healthy_at, is_healthy
from homeport.planner.service import TROUBLESHOOTING, ServiceView, standing

FREE_FAILURES: Final = 2
"""Rounds of failed launches that are retried at once."""
HEALTH_WRITES_MAX: Final = 80
"""Tasks marked healthy in one activation; under a transaction's 100 records. The rest follows at once."""
UNCOUNTED_MAX: Final = 50
"""Ends that changed no counter are passed over for good once there are more of them than this."""

_ORDERED = (task_model.SERVICE_SCHEDULER_INITIATED, task_model.USER_INITIATED)
_CHECK_FAILED = "Task failed container health checks"


def in_progress_reason(deployment_id: str) -> str:
    """rolloutStateReason of a deployment that is on its way."""
    return f"ECS deployment ecs-svc/{deployment_id} in progress."


def completed_reason(deployment_id: str) -> str:
    """rolloutStateReason of a deployment that reached the steady state."""
    return f"ECS deployment ecs-svc/{deployment_id} completed."


def throttle_seconds(failures: int, settings: Settings) -> float:
    """The delay before the next launch after `failures` failed rounds in a row: none for the first two, then doubling up to the ceiling."""
    if failures <= FREE_FAILURES:
        return 0.0
    doublings = min(failures - FREE_FAILURES - 1, 32)
    return min(settings.start_throttle_max_seconds, settings.start_throttle_base_seconds * 2.0**doublings)


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
    counted = _count(primary, list(_moments(primary, view.tasks, ended, now, after)), settings, now)
    others = tuple(item for item in view.deployments if item.id != primary.id)
    live = {task.deployment_id for task in view.tasks}
    over = [item for item in others if item.id not in live]
    remaining = tuple(item for item in others if item.id in live)
    completed = _completed(msgspec.structs.replace(view, deployments=(counted, *remaining)), counted, after, now)
    changes.extend(UpdateDeployment(_inactive(item, now), "its last task is gone") for item in over)
    if completed != primary:
        changes.append(UpdateDeployment(completed, "its tasks' states"))
    changes.extend(_events(view.service.name, primary, completed))
    waits = [at for task in view.tasks if not task.healthy_since and (at := healthy_at(task, after)) > now]
    return Plan(tuple(changes), min(waits, default=0.0))


class _Moment(msgspec.Struct, frozen=True, order=True):
    """Something that befell a task and that a counter follows, in order of time."""

    at: Instant
    rank: int
    """Breaks ties: a start before a failure."""
    kind: str
    """ran, healthy, failed-to-start, failed."""
    created_at: Instant


def _moments(deployment: Deployment, live: Iterable[Task], ended: Iterable[Task], now: Instant, healthy_after_seconds: float) -> Iterator[_Moment]:
    """The moments after `deployment.ends_counted_at` that move its counters."""
    since = deployment.ends_counted_at
    for task in live:
        if task.deployment_id != deployment.id or not task.started_at:
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
    return "ordered" if task.healthy_since else "failed"


def _count(deployment: Deployment, moments: list[_Moment], settings: Settings, now: Instant) -> Deployment:
    """`deployment` with its counters brought up to `moments`.

    Failures are counted for `failed_tasks` one by one, for the throttle by rounds: a task made before the last counted failure belongs to
    the same round, so that ten tasks of one bad image do not lift the delay ten steps at once.
    """
    failed, to_start, round_at = deployment.failed_tasks, deployment.failures_to_start, deployment.failure_round_at
    until = deployment.throttled_until
    for moment in sorted(moments):
        if moment.kind == "ran":
            to_start, until = 0, 0.0
        elif moment.kind == "healthy":
            failed = 0
        elif moment.kind == "failed":
            failed += 1
        elif moment.kind == "failed-to-start":
            failed += 1
            if moment.created_at >= round_at:
                to_start, round_at = to_start + 1, moment.at
                delay = throttle_seconds(to_start, settings)
                until = now + delay if delay else 0.0
    counted = msgspec.structs.replace(
        deployment,
        failed_tasks=failed,
        failures_to_start=to_start,
        failure_round_at=round_at,
        throttled_until=until,
        impaired=to_start > FREE_FAILURES,
    )
    if moments and (counted != deployment or len(moments) > UNCOUNTED_MAX):
        return msgspec.structs.replace(counted, ends_counted_at=max(moment.at for moment in moments), updated_at=now)
    return counted


def _completed(view: ServiceView, primary: Deployment, healthy_after_seconds: float, now: Instant) -> Deployment:
    """`primary`, COMPLETED when it alone is left and every desired task of it is healthy."""
    if primary.rollout_state != deployment_model.IN_PROGRESS or len(view.deployments) != 1:
        return primary
    if not standing(view, healthy_after_seconds, now).settled:
        return primary
    return msgspec.structs.replace(
        primary,
        rollout_state=deployment_model.COMPLETED,
        rollout_state_reason=completed_reason(primary.id),
        updated_at=now,
        finished_at=now,
    )


def _inactive(deployment: Deployment, now: Instant) -> Deployment:
    return msgspec.structs.replace(deployment, status=deployment_model.INACTIVE, updated_at=now)


def _events(name: str, before: Deployment, after: Deployment) -> Iterator[Event]:
    if after.impaired and not before.impaired:
        yield Event(f"(service {name}) is unable to consistently start tasks successfully. {TROUBLESHOOTING}")
    if after.rollout_state == deployment_model.COMPLETED != before.rollout_state:
        yield Event(f"(service {name}) (deployment ecs-svc/{after.id}) deployment completed.")
