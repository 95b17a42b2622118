"""Starting a deployment: the new PRIMARY one, and what becomes of those before it.

Owns: `start`, `SUPERSEDED`. Never decides whether to start one: UpdateService does when a member asks for it, a failed deployment when it rolls back.
Source: ecs-reference 3.9 (a second update supersedes; the older service deployment ends STOPPED).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from homeport.model.ecs import deployment as model
from homeport.model.ecs.deployment import CircuitBreaker, Deployment
from homeport.model.ecs.service import Service
from homeport.model.record import Instant
from homeport.planner.deployment_configuration import Configuration, configuration_in
from homeport.planner.lifecycle_hook import closed

SUPERSEDED: Final = "A newer deployment of the service took its place."


def in_progress_reason(revision_id: str) -> str:
    """rolloutStateReason of a deployment that is on its way. `revision_id`: the digits of its service revision."""
    return f"ECS deployment ecs-svc/{revision_id} in progress."


def start(service: Service, before: Iterable[Deployment], deployment: Deployment) -> list[Deployment]:
    """The records that change when `deployment` (of `new_deployment`) is put in front of `before`, all other deployments of `service`; itself last.

    The PRIMARY one drains from now on and is over as a service deployment if it was not. So is the one that it was rolling back.
    """
    now = deployment.created_at
    changed, sources, source_id, undone = [], [], "", ""
    kept = [item for item in before if item.created_at >= service.created_at]
    for item in kept:
        if item.status == model.INACTIVE:
            continue
        sources.append(item)
        if item.id == deployment.rollback_of:  # whoever rolls it back has said what becomes of it
            source_id = item.id
            changed.append(msgspec.structs.replace(item, status=model.ACTIVE))
        elif item.status == model.PRIMARY:
            source_id, undone = item.id, item.rollback_of
            changed.append(_superseded(item, now))
        elif item.target_id == deployment.target_id:  # the new one takes up its tasks
            changed.append(msgspec.structs.replace(item, status=model.INACTIVE, updated_at=now))
    changed.extend(_rollback_cut_short(item, now) for item in kept if item.id == undone and item.progress == model.ROLLBACK_IN_PROGRESS)
    sources.sort(key=lambda item: item.created_at, reverse=True)
    revisions = tuple(dict.fromkeys(item.target_id for item in sources))
    return [*_merged(changed), msgspec.structs.replace(deployment, source_id=source_id, source_revision_ids=revisions)]


def _merged(changed: Iterable[Deployment]) -> list[Deployment]:
    return list({item.id: item for item in changed}.values())


def new_deployment(service: Service, deployment_id: str, now: Instant, *, revision_id: str = "") -> Deployment:
    """The PRIMARY deployment `deployment_id` (19 digits) of what `service` is now; PENDING until the controller takes it up.

    `revision_id`: digits of the service revision, if they are not its own.
    """
    asked = configuration_in(service)
    return Deployment(
        account=service.account,
        cluster=service.cluster,
        service=service.name,
        id=deployment_id,
        status=model.PRIMARY,
        family=service.family,
        revision=service.revision,
        created_at=now,
        updated_at=now,
        launch_type=service.launch_type,
        rollout_state_reason=in_progress_reason(revision_id or deployment_id),
        service_revision_id=revision_id or deployment_id,
        service_deployment_status=model.PENDING,
        configuration=service.deployment_configuration,
        strategy=asked.strategy,
        lifecycle_stage=_first_stage(asked),
        # Ends before its time belong to earlier deployments of its revision.
        ends_counted_at=now if revision_id and revision_id != deployment_id else 0.0,
    )


def _first_stage(asked: Configuration) -> str:
    """The stage that a deployment is made at: a rolling one with hooks starts no task before those of PRE_SCALE_UP have passed."""
    return model.PRE_SCALE_UP if asked.strategy == model.ROLLING and asked.lifecycle_hooks else ""


def _superseded(item: Deployment, now: Instant) -> Deployment:
    fields: dict[str, Any] = {"status": model.ACTIVE, "updated_at": now, "finished_at": item.finished_at or now, "throttled_until": 0.0}
    if item.progress not in model.TERMINAL:
        ended = model.ROLLBACK_FAILED if item.progress == model.ROLLBACK_IN_PROGRESS else model.STOPPED
        fields |= {"service_deployment_status": ended, "status_reason": SUPERSEDED, **monitors_over(item)}
    return msgspec.structs.replace(item, **fields)


def _rollback_cut_short(item: Deployment, now: Instant) -> Deployment:
    return msgspec.structs.replace(
        item, service_deployment_status=model.ROLLBACK_FAILED, status_reason=SUPERSEDED, finished_at=item.finished_at or now, updated_at=now
    )


def monitors_over(item: Deployment) -> dict[str, Any]:
    """The fields of `item`'s monitors and lifecycle hooks when they have nothing more to watch, or to hold up."""
    fields: dict[str, Any] = {}
    if item.circuit_breaker.status == model.MONITORING:
        fields["circuit_breaker"] = _over(item.circuit_breaker)
    if item.alarms.status == model.MONITORING:
        fields["alarms"] = msgspec.structs.replace(item.alarms, status=model.MONITORING_COMPLETE)
    if any(run.open for run in item.hooks):
        fields["hooks"] = closed(item.hooks)
    return fields


def _over(breaker: CircuitBreaker) -> CircuitBreaker:
    return msgspec.structs.replace(breaker, status=model.MONITORING_COMPLETE)
