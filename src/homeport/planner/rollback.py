"""What follows when a deployment fails or is to be stopped: it launches nothing more, or an older service revision takes its place.

Owns: `Failure`, `failure_of`, `failed`, `roll_back`, `ended`, and the words that go with them. Never counts failures and never reads an alarm.
Source: ecs-reference 3.9: a rollback goes to the revision that completed last; with none the deployment just fails; a rollback that fails is not
rolled back again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from homeport.model.change import Change, Event, RollBack, UpdateDeployment
from homeport.model.ecs import deployment as model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.record import Instant
from homeport.planner.deployment_configuration import Configuration
from homeport.planner.deployment_start import monitors_over, new_deployment, start
from homeport.planner.lifecycle_hook import failed_run
from homeport.planner.service import ServiceView
from homeport.planner.service_revision import put_back

NOTHING_TO_GO_BACK_TO: Final = "No deployment of the service has completed before, so there is no service revision to roll back to."


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a deployment does not go on."""

    told: str
    """How the event goes on after "deployment failed: "; "" for a stop, which is no failure."""
    rollout: str
    """rolloutStateReason."""
    monitor: str
    """Who found it, as rolloutStateReason of a rollback begins."""
    status: str
    """statusReason, without what becomes of it."""
    rollback: bool
    """Whether it shall be rolled back."""


def failure_of(deployment: Deployment, asked: Configuration) -> Failure | None:
    """Why `deployment` shall not go on; None: it may. The first monitor that found something decides, with its own flag about rolling back."""
    if deployment.rollout_state != model.IN_PROGRESS or deployment.progress in model.TERMINAL:
        return None
    if deployment.lifecycle_stage == model.CLEAN_UP and not deployment.rollback_of:
        return None  # what it could go back to is being taken down
    if deployment.progress in (model.ROLLBACK_REQUESTED, model.STOP_REQUESTED):
        wanted = deployment.progress == model.ROLLBACK_REQUESTED
        return Failure(
            told="", rollout="Service deployment stopped by the user.", monitor="ECS deployment stop", status="by the user", rollback=wanted
        )
    if deployment.circuit_breaker.status == model.TRIGGERED:
        return Failure(
            told="tasks failed to start.",
            rollout="ECS deployment circuit breaker: tasks failed to start.",
            monitor="ECS deployment circuit breaker",
            status="because the circuit breaker threshold was exceeded",
            rollback=asked.deployment_circuit_breaker.rollback,
        )
    if deployment.alarms.status == model.TRIGGERED:
        return Failure(
            told="alarm detected.",
            rollout=f"ECS deployment alarms: {', '.join(deployment.alarms.triggered)} in ALARM.",
            monitor="ECS deployment alarms",
            status=f"because of alarms in ALARM: {', '.join(deployment.alarms.triggered)}",
            rollback=asked.alarms.rollback,
        )
    return _hook_failure(deployment)


def _hook_failure(deployment: Deployment) -> Failure | None:
    run = failed_run(deployment)
    if run is None:
        return None
    what = "timed out" if run.status == model.TIMED_OUT else "failed"
    named = f"lifecycle hook {run.target or run.id} {what} at {run.stage}"
    return Failure(
        told=f"{named}.",
        rollout=f"ECS deployment {named}. {run.reason}".strip(),
        monitor="ECS deployment lifecycle hook",
        status=f"because the {named}",
        rollback=True,
    )


def failed(view: ServiceView, deployment: Deployment, failure: Failure, *, undone: Deployment | None, now: Instant) -> list[Change]:
    """What becomes of `deployment` of the service of `view`, whose `rollback_to` is what a rollback would go to.

    `undone`: the deployment that `deployment` rolls back, if it is a rollback itself.
    """
    service, revision = view.service, view.rollback_to
    over = msgspec.structs.replace(
        deployment,
        rollout_state=model.FAILED,
        rollout_state_reason=failure.rollout,
        throttled_until=0.0,
        updated_at=now,
        **monitors_over(deployment),
    )
    events: list[Change] = []
    if failure.told:
        events.append(Event(f"(service {service.name}) (deployment {over.shown_id}) deployment failed: {failure.told}"))
    if failure.rollback and not deployment.rollback_of and revision is not None and revision.id != deployment.target_id:
        back = model.Rollback(reason=f"Service deployment rolled back {failure.status}.", started_at=now, service_revision_id=revision.id)
        over = msgspec.structs.replace(
            over, service_deployment_status=model.ROLLBACK_IN_PROGRESS, status_reason=f"Rolling back {failure.status}.", rollback=back
        )
        events.append(Event(f"(service {service.name}) rolling back to deployment ecs-svc/{revision.id}."))
        reason = f"{failure.monitor}: rolling back to deploymentId ecs-svc/{revision.id}."
        return [*events, RollBack(over, revision, reason)]
    reason = f"Service deployment stopped {failure.status}."
    if failure.rollback and not deployment.rollback_of:
        reason = f"{reason} {NOTHING_TO_GO_BACK_TO}"
    over = msgspec.structs.replace(over, service_deployment_status=model.STOPPED, status_reason=reason, finished_at=now)
    changes: list[Change] = [*events, UpdateDeployment(over, failure.rollout)]
    if undone is not None:
        changes.append(ended(undone, model.ROLLBACK_FAILED, reason=f"Rollback failed {failure.status}.", now=now))
    return changes


def roll_back(
    service: Service, before: Iterable[Deployment], change: RollBack, *, deployment_id: str, now: Instant
) -> tuple[Service, list[Deployment]]:
    """`service` consisting of the older revision again, and the deployments that change; the new one has the digits `deployment_id`.

    `before`: the deployments of `service` that are not INACTIVE.
    """
    back = msgspec.structs.replace(put_back(service, change.revision), steady=False)
    failed_one = change.deployment
    if failed_one.rollback is not None:
        failed_one = msgspec.structs.replace(failed_one, rollback=msgspec.structs.replace(failed_one.rollback, deployment_id=deployment_id))
    made = new_deployment(back, deployment_id, now, revision_id=change.revision.id)
    made = msgspec.structs.replace(
        made, rollback_of=failed_one.id, rollout_state_reason=change.reason, strategy=failed_one.strategy, lifecycle_stage=""
    )
    return back, start(back, [failed_one if item.id == failed_one.id else item for item in before], made)


def ended(undone: Deployment, status: str, *, reason: str, now: Instant) -> UpdateDeployment:
    """`undone` when its rollback has: with `status` ROLLBACK_SUCCESSFUL or ROLLBACK_FAILED."""
    after = msgspec.structs.replace(undone, service_deployment_status=status, status_reason=reason, finished_at=now, updated_at=now)
    return UpdateDeployment(after, reason)
