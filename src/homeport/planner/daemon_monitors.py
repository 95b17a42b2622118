"""How a daemon deployment fails or completes: its circuit breaker, its alarms, and what follows from them.

Owns: `counted`, `failure_of`, `failed`, `completed`, `superseded`. Never starts or stops a task (`planner/daemon_deployment.py` does).
Source: the service model's documentation of DaemonDeployment. The breaker is always on, there is no member to configure it; its threshold is that of
a service's (ours).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.model.ecs import daemon_deployment as model
from homeport.model.ecs import deployment as service_deployment_model
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment, DaemonRollback, configuration_of
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.deployment import AlarmMonitor, CircuitBreaker
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.planner import circuit_breaker, failures
from homeport.planner.deployment_configuration import Breaker

MONITORING: Final = service_deployment_model.MONITORING
TRIGGERED: Final = service_deployment_model.TRIGGERED
MONITORING_COMPLETE: Final = service_deployment_model.MONITORING_COMPLETE

BREAKER: Final = Breaker(enable=True, rollback=True)
BREAKER_REASON: Final = "The daemon deployment circuit breaker was triggered: tasks failed to start."
SUPERSEDED: Final = "A newer deployment of the daemon took its place."
NOTHING_TO_GO_BACK_TO: Final = "No deployment of the daemon has completed, so there is no daemon revision to roll back to."
ROLLBACK_FAILED: Final = "Tasks of the daemon revision that was rolled back to failed as well."


class Moments(msgspec.Struct, frozen=True):
    """The tasks that tell how a deployment fares."""

    live: Sequence[Task]
    ended: Iterable[Task]


def counted(deployment: DaemonDeployment, instances: int, tasks: Moments, *, settings: Settings, now: Instant) -> DaemonDeployment:
    """`deployment` begun, watched, and with its counters brought up to `tasks`. `instances`: how many of those that it
    is for may fail together."""
    if deployment.status == model.PENDING:
        deployment = msgspec.structs.replace(deployment, status=model.IN_PROGRESS, started_at=now, updated_at=now)
    if deployment.status == model.IN_PROGRESS:
        deployment = msgspec.structs.replace(
            deployment,
            circuit_breaker=circuit_breaker.watching(deployment.circuit_breaker, BREAKER, instances),
            alarms=_watched(deployment),
        )
    found = list(
        failures.moments(deployment, tasks.live, tasks.ended, healthy_after_seconds=settings.healthy_after_seconds, now=now),
    )
    tallied = failures.count(deployment, found, BREAKER, settings=settings, now=now)
    alarms = tallied.alarms
    if alarms.status == MONITORING and alarms.in_alarm and not alarms.ignored and tallied.circuit_breaker.status != TRIGGERED:
        tallied = msgspec.structs.replace(tallied, alarms=msgspec.structs.replace(alarms, status=TRIGGERED, triggered=alarms.in_alarm))
    return tallied


def _watched(deployment: DaemonDeployment) -> AlarmMonitor:
    asked, monitor = configuration_of(deployment.configuration), deployment.alarms
    if monitor.status == TRIGGERED:
        return monitor
    watched = asked.watches and not monitor.ignored
    return msgspec.structs.replace(monitor, status=MONITORING if watched else service_deployment_model.DISABLED)


def failure_of(before: DaemonDeployment, after: DaemonDeployment) -> str:
    """Why the deployment has failed, or "". `before`: as it is stored; what is not begun there cannot have failed."""
    if before.status == model.ROLLBACK_IN_PROGRESS:
        return ROLLBACK_FAILED if after.failed_tasks >= max(1, after.circuit_breaker.threshold) else ""
    if before.status != model.IN_PROGRESS:
        return ""
    if after.circuit_breaker.status == TRIGGERED:
        return BREAKER_REASON
    return f"Alarms were in state ALARM: {', '.join(after.alarms.triggered)}." if after.alarms.status == TRIGGERED else ""


def failed(
    daemon: Daemon, deployment: DaemonDeployment, reason: str, *, completed: DaemonRevision | None, now: Instant
) -> tuple[Daemon, DaemonDeployment]:
    """Daemon and deployment after a failure: on the way back to `completed`, or stopped where they are when there is none."""
    over = _monitors_over(deployment)
    if deployment.status == model.ROLLBACK_IN_PROGRESS:
        return daemon, msgspec.structs.replace(over, status=model.ROLLBACK_FAILED, status_reason=reason, finished_at=now, updated_at=now)
    if completed is None or completed.id == daemon.revision_id:
        text = f"{reason} {NOTHING_TO_GO_BACK_TO}"
        ended = msgspec.structs.replace(over, status=model.STOPPED, status_reason=text, stopped_at=now, finished_at=now, updated_at=now)
        return msgspec.structs.replace(daemon, share=None), ended
    rollback = DaemonRollback(reason=reason, started_at=now, revision_id=completed.id, capacity_providers=completed.capacity_providers)
    back = msgspec.structs.replace(
        over,
        status=model.ROLLBACK_IN_PROGRESS,
        status_reason=reason,
        rollback=rollback,
        updated_at=now,
        bake_started_at=0.0,
        step_left=0,
        failed_tasks=0,
        failures_to_start=0,
        crashes=0,
        throttled_until=0.0,
        impaired=False,
        ends_counted_at=now,
    )
    return with_revision(daemon, completed, completed=completed), back


def with_revision(daemon: Daemon, revision: DaemonRevision, *, completed: DaemonRevision | None) -> Daemon:
    """`daemon`, whose instances are to get `revision`; `completed` is what a rollback would go to."""
    definitions = dict.fromkeys(item.definition for item in (revision, completed) if item is not None)
    return msgspec.structs.replace(
        daemon,
        revision_id=revision.id,
        capacity_providers=revision.capacity_providers,
        critical=revision.critical,
        definitions=tuple(definitions),
    )


def completed(deployment: DaemonDeployment, now: Instant) -> DaemonDeployment:
    """`deployment` when every instance has what it is to have."""
    over = _monitors_over(deployment)
    if deployment.status == model.ROLLBACK_IN_PROGRESS:
        return msgspec.structs.replace(over, status=model.ROLLBACK_SUCCESSFUL, finished_at=now, updated_at=now)
    return msgspec.structs.replace(over, status=model.SUCCESSFUL, status_reason="", finished_at=now, updated_at=now)


def superseded(deployment: DaemonDeployment, now: Instant) -> DaemonDeployment:
    """`deployment` when another one takes its place; the same when it is over."""
    if deployment.status in model.TERMINAL:
        return deployment
    over = _monitors_over(deployment)
    if deployment.status == model.ROLLBACK_IN_PROGRESS:
        return msgspec.structs.replace(over, status=model.ROLLBACK_FAILED, status_reason=SUPERSEDED, finished_at=now, updated_at=now)
    return msgspec.structs.replace(over, status=model.STOPPED, status_reason=SUPERSEDED, stopped_at=now, finished_at=now, updated_at=now)


def _monitors_over(deployment: DaemonDeployment) -> DaemonDeployment:
    breaker, alarms = deployment.circuit_breaker, deployment.alarms
    return msgspec.structs.replace(deployment, circuit_breaker=_over(breaker), alarms=_over(alarms))


def _over(monitor: CircuitBreaker | AlarmMonitor) -> CircuitBreaker | AlarmMonitor:
    return msgspec.structs.replace(monitor, status=MONITORING_COMPLETE) if monitor.status == MONITORING else monitor
