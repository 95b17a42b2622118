"""How far a service's deployments have come: health of their tasks, monitors, rollout states, and when an old one is over.

Owns: `plan`, when a deployment has completed, bake time. Never starts or stops a task (`planner/service.py` does), never counts a failure
(`planner/failures.py`), never says what follows from one (`planner/rollback.py`).
Source: ecs-reference 3.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.model.change import Change, Event, Plan, UpdateDeployment, UpdateRevision, UpdateService, UpdateTask
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.planner import circuit_breaker, failures, rollback, traffic_shift
from homeport.planner.deployment_configuration import BLOCKING, Breaker, Configuration, configuration_of
from homeport.planner.deployment_start import monitors_over
from homeport.planner.health import healthy_at, is_healthy
from homeport.planner.service import TROUBLESHOOTING, ServiceView, is_settled
from homeport.planner.version_consistency import pinned

HEALTH_WRITES_MAX: Final = 80
"""Tasks marked healthy in one activation; under a transaction's 100 records. The rest follows at once."""


def completed_reason(deployment_id: str) -> str:
    """rolloutStateReason of a deployment that reached the steady state."""
    return f"ECS deployment ecs-svc/{deployment_id} completed."


def plan(view: ServiceView, ended: Iterable[Task], *, settings: Settings, now: Instant) -> Plan:
    """What `view`'s deployments and their tasks' health have become.

    `ended`: STOPPED tasks of the deployments that are `counted_in` it; those that stopped up to its `ends_counted_at` are passed over.
    """
    primary = view.primary
    if view.service.status != service_model.ACTIVE or primary is None:
        return Plan()
    after = settings.healthy_after_seconds
    newly_healthy = [task for task in view.tasks if not task.healthy_since and is_healthy(task, after, now)][:HEALTH_WRITES_MAX]
    changes: list[Change] = [UpdateTask(msgspec.structs.replace(task, healthy_since=now), "it counts as healthy") for task in newly_healthy]
    known = pinned(view.service_revision, view.tasks, now) if view.service_revision else None
    changes.extend([UpdateRevision(known, "the first task runs")] if known else [])
    asked = configuration_of(view.service, primary)
    begun = _watched(_begun(primary, now), asked, view.service.desired_count)
    stopped = tuple(ended)
    found = list(failures.moments(primary, view.tasks, stopped, healthy_after_seconds=after, now=now))
    counted = _judged(failures.count(begun, found, asked.deployment_circuit_breaker, settings=settings, now=now))
    beside = tuple(item for item in view.deployments if item.id != primary.id)
    others = tuple(_counted_beside(view, item, stopped, settings=settings, now=now) if _is_kept(item, primary) else item for item in beside)
    live = {task.deployment_id for task in view.tasks}
    failure = rollback.failure_of(counted, asked)
    if failure is None:
        remaining = tuple(item for item in others if item.target_id in live or _is_kept(item, counted))
        counted = _brought_on(msgspec.structs.replace(view, deployments=(counted, *remaining)), counted, asked, after=after, now=now)
        failure = rollback.failure_of(counted, asked)
    changed = {item.id: item for before, item in zip(beside, others, strict=True) if item != before}
    changed |= {item.id: _inactive(item, now) for item in others if item.target_id not in live and not _is_kept(item, counted)}
    if failure is None and counted != primary:
        changed[primary.id] = counted
    changes.extend(UpdateDeployment(item, "its tasks' states") for item in changed.values())
    for before, item in ((primary, counted), *zip(beside, others, strict=True)):
        changes.extend(_events(view.service.name, before, item))
    if failure is not None:
        undone = changed.get(view.undone.id, view.undone) if view.undone else None
        changes.extend(rollback.failed(view, counted, failure, undone=undone, now=now))
    if counted.rollout_state == deployment_model.COMPLETED != primary.rollout_state:
        changes.extend(_after_completion(view, counted, changed, now))
    elif counted.lifecycle_stage == deployment_model.CLEAN_UP != primary.lifecycle_stage and not counted.rollback_of:
        # From now on what it replaced is taken down, so this is what a rollback of the next one goes to.
        changes.append(UpdateService(msgspec.structs.replace(view.service, completed_revision_id=counted.target_id), "its traffic has moved"))
    return Plan(tuple(_merged(changes)), _wake_at(view, counted, asked, after=after, now=now))


def counted_in(view: ServiceView) -> tuple[Deployment, ...]:
    """The deployments of `view` that may start tasks, so that their failures are counted: the PRIMARY one, and blue that stands beside it."""
    primary = view.primary
    return tuple(item for item in view.deployments if primary is not None and (item.id == primary.id or _is_kept(item, primary)))


def _counted_beside(view: ServiceView, item: Deployment, ended: Sequence[Task], *, settings: Settings, now: Instant) -> Deployment:
    """`item`, blue's deployment, with its counters; its monitors have nothing more to watch."""
    found = list(failures.moments(item, view.tasks, ended, healthy_after_seconds=settings.healthy_after_seconds, now=now))
    return failures.count(item, found, Breaker(), settings=settings, now=now)


def _is_kept(item: Deployment, primary: Deployment) -> bool:
    """Whether `item` counts as one that is on its way even without a task: the one whose revision `primary` may have to go back to."""
    return traffic_shift.side_by_side(primary) and item.target_id == primary.blue_revision_id


def _merged(changes: Sequence[Change]) -> list[Change]:
    """`changes` with one UpdateDeployment a deployment: the last word about each, which has to hold what the earlier ones said."""
    last = {change.deployment.id: change for change in changes if isinstance(change, UpdateDeployment)}
    return [change for change in changes if not isinstance(change, UpdateDeployment) or last[change.deployment.id] is change]


def _begun(deployment: Deployment, now: Instant) -> Deployment:
    """`deployment`, no longer PENDING."""
    if deployment.service_deployment_status != deployment_model.PENDING:
        return deployment
    return msgspec.structs.replace(deployment, service_deployment_status=deployment_model.IN_PROGRESS, started_at=now, updated_at=now)


def _watched(deployment: Deployment, asked: Configuration, desired_count: int) -> Deployment:
    """`deployment` with its monitors as the configuration and the desired count of this moment have them."""
    if deployment.rollout_state != deployment_model.IN_PROGRESS or deployment.progress in deployment_model.TERMINAL:
        return deployment
    breaker = circuit_breaker.watching(deployment.circuit_breaker, asked.deployment_circuit_breaker, desired_count)
    alarms = deployment.alarms
    if alarms.status != deployment_model.TRIGGERED:
        watched = asked.alarms.enable and not alarms.ignored
        alarms = msgspec.structs.replace(alarms, status=deployment_model.MONITORING if watched else deployment_model.DISABLED)
    return msgspec.structs.replace(deployment, circuit_breaker=breaker, alarms=alarms)


def _judged(deployment: Deployment) -> Deployment:
    """`deployment`, its alarms TRIGGERED when one that was not in ALARM at the start is. The breaker, if it tripped at this moment, came first."""
    alarms = deployment.alarms
    if alarms.status != deployment_model.MONITORING or not alarms.in_alarm or deployment.circuit_breaker.status == deployment_model.TRIGGERED:
        return deployment
    return msgspec.structs.replace(deployment, alarms=msgspec.structs.replace(alarms, status=deployment_model.TRIGGERED, triggered=alarms.in_alarm))


def _brought_on(view: ServiceView, primary: Deployment, asked: Configuration, *, after: float, now: Instant) -> Deployment:
    """`primary` one step further: at its next lifecycle stage, or COMPLETED."""
    if primary.rollout_state != deployment_model.IN_PROGRESS:
        return primary
    if not primary.lifecycle_stage and not traffic_shift.shifts(primary):
        return _completed(view, primary, asked, after=after, now=now)
    reached = not traffic_shift.shifts(primary) and _has_reached(view, primary, asked, after=after, now=now)
    moved = traffic_shift.advance(view, primary, reached=reached, healthy_after_seconds=after, now=now)
    if moved != primary:
        return moved
    if traffic_shift.shifts(primary):
        through = traffic_shift.is_through(view, primary, healthy_after_seconds=after, now=now)
        return _as_completed(primary, now) if through else primary
    return _completed(view, primary, asked, after=after, now=now) if traffic_shift.hooks_are_through(primary) else primary


def _completed(view: ServiceView, primary: Deployment, asked: Configuration, *, after: float, now: Instant) -> Deployment:
    """`primary`, COMPLETED when it has reached what it is to reach and its bake time has passed; or with the bake time begun."""
    if (
        primary.rollout_state != deployment_model.IN_PROGRESS
        or primary.started_at == now
        or not _has_reached(view, primary, asked, after=after, now=now)
    ):
        return primary
    if primary.alarms.status == deployment_model.MONITORING:
        if not primary.alarms.seen_at:
            return primary  # nobody has read them yet
        if not primary.bake_started_at and primary.alarms.period_seconds:
            return msgspec.structs.replace(primary, bake_started_at=now, updated_at=now)
        if now < bake_ends_at(primary):
            return primary
    return _as_completed(primary, now)


def _as_completed(primary: Deployment, now: Instant) -> Deployment:
    return msgspec.structs.replace(
        primary,
        rollout_state=deployment_model.COMPLETED,
        rollout_state_reason=completed_reason(primary.target_id),
        service_deployment_status=deployment_model.SUCCESSFUL,
        status_reason="",
        updated_at=now,
        finished_at=now,
        **monitors_over(primary),
    )


def bake_ends_at(deployment: Deployment) -> Instant:
    """When the bake time of a rolling `deployment` is over, which its alarms' periods give; 0.0: it has not begun."""
    return deployment.bake_started_at + deployment.alarms.period_seconds if deployment.bake_started_at else 0.0


def _has_reached(view: ServiceView, primary: Deployment, asked: Configuration, *, after: float, now: Instant) -> bool:
    """Whether `primary` alone is left and settled; with early success criteria, whether enough of its tasks are healthy."""
    early = asked.early_success_criteria
    if not early.enable:
        return len(view.deployments) == 1 and is_settled(view, after, now)
    if early.source_service_revision_cleanup == BLOCKING and len(view.deployments) != 1:
        return False
    healthy = sum(1 for task in view.tasks if task.deployment_id == primary.target_id and is_healthy(task, after, now))
    return healthy >= -(-view.service.desired_count * early.healthy_percent // 100)


def _after_completion(view: ServiceView, completed: Deployment, changed: dict[str, Deployment], now: Instant) -> Iterator[Change]:
    """What else is written when a deployment completes: where a rollback goes from now on, and the end of the one that it rolled back."""
    yield UpdateService(msgspec.structs.replace(view.service, completed_revision_id=completed.target_id), "a deployment completed")
    if view.undone is not None and view.undone.progress == deployment_model.ROLLBACK_IN_PROGRESS:
        undone = changed.get(view.undone.id, view.undone)
        reason = undone.rollback.reason if undone.rollback else ""
        yield rollback.ended(undone, deployment_model.ROLLBACK_SUCCESSFUL, reason=reason, now=now)


def _wake_at(view: ServiceView, deployment: Deployment, asked: Configuration, *, after: float, now: Instant) -> Instant:
    waits = [at for task in view.tasks if not task.healthy_since and (at := healthy_at(task, after)) > now]
    if traffic_shift.shifts(deployment) or deployment.stage_changes:
        waits.extend([at] if (at := traffic_shift.wake_at(deployment, asked)) > now else [])
    if not traffic_shift.shifts(deployment) and deployment.rollout_state == deployment_model.IN_PROGRESS and (at := bake_ends_at(deployment)) > now:
        waits.append(at)
    return min(waits, default=0.0)


def _inactive(deployment: Deployment, now: Instant) -> Deployment:
    return msgspec.structs.replace(deployment, status=deployment_model.INACTIVE, updated_at=now)


def _events(name: str, before: Deployment, after: Deployment) -> Iterator[Event]:
    if after.impaired and not before.impaired:
        yield Event(f"(service {name}) is unable to consistently start tasks successfully. {TROUBLESHOOTING}")
    if after.rollout_state == deployment_model.COMPLETED != before.rollout_state:
        yield Event(f"(service {name}) (deployment {after.shown_id}) deployment completed.")
