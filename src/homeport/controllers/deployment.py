"""Follows every service's deployments: health of tasks, failures, rollout states, rollbacks, the end of old ones; `planner/deployment.py` decides.

Owns: a deployment's states, counters, throttle and monitors, the deployments that roll others back with what of the service goes back, and tasks'
`healthy_since`. Never starts or stops a task.
It stands before `controllers/service.py` in the loop, so that a failed launch is counted before the next one is tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.controllers.loop import Activation
from homeport.controllers.service import is_note, service_view, wake_at
from homeport.controllers.service_event import write_event
from homeport.controllers.traffic import Traffic, Unrouted
from homeport.ids import Ids
from homeport.model.change import Change as PlannedChange
from homeport.model.change import Event, RollBack, UpdateDeployment, UpdateRevision, UpdateService, UpdateTask
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.service_revision import ServiceRevision
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import task_definition_key
from homeport.planner import deployment as planner
from homeport.planner import health
from homeport.planner.rollback import roll_back
from homeport.planner.service import ServiceView
from homeport.planner.version_consistency import needs_digests
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import DEPLOYMENTS, SERVICE_REVISIONS, SERVICES, TASK_DEFINITIONS, TASKS

NAME: Final = "deployment"


class DeploymentController:
    """The controller of deployments; its keys are those of `Service`, since a service's deployments move together."""

    name = NAME

    def __init__(self, *, ids: Ids, settings: Settings, traffic: Traffic | None = None) -> None:
        self._ids = ids
        self._settings = settings
        self._traffic = traffic or Unrouted()
        # Services whose last launches failed: there the first task that runs ends the throttle. A hint for `keys_of`, rebuilt by the sweep.
        self._failing: set[str] = set()
        # Services whose revision waits for the digests of its first task. A hint as well.
        self._unpinned: set[str] = set()

    def keys_of(self, change: Change) -> Iterable[str]:
        """The service whose task, deployment or own record changed."""
        record = change.after or change.before
        if isinstance(record, Task):
            return (record.service_key,) if record.service and self._concerned(record, change) else ()
        if isinstance(record, Deployment):
            return (record.service_key,)
        return (record.key,) if isinstance(record, Service) and not is_note(change) else ()

    def _concerned(self, task: Task, change: Change) -> bool:
        before, after = (item if isinstance(item, Task) else None for item in (change.before, change.after))
        if before is None and after is not None and after.last_status in (task_model.PROVISIONING, task_model.PENDING):
            return False  # it has no moments yet
        return (
            task.service_key in self._failing
            or task.service_key in self._unpinned
            or health.concerns(before, after, self._settings.healthy_after_seconds)
        )

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every service that is not INACTIVE."""
        return (service.key for service in reader.scan(SERVICES) if service.status != service_model.INACTIVE)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Bring the deployments of the service `key` up to what its tasks say."""
        service = tx.get(SERVICES, key)
        if service is None or service.status != service_model.ACTIVE:
            return Activation()
        view = self._view(tx, service)
        primary = view.primary
        if primary is None:
            return Activation()
        counted = planner.counted_in(view)
        ended = (task for item in counted for task in self._ended(tx, item))
        plan = planner.plan(view, ended, settings=self._settings, now=tx.now)
        if view.service_revision is not None and not any(isinstance(change, UpdateRevision) for change in plan.changes):
            self._unpinned.add(key)
        else:
            self._unpinned.discard(key)
        after = {change.deployment.id: change.deployment for change in plan.changes if isinstance(change, UpdateDeployment)}
        if any(item.failures_to_start or after.get(item.id, item).failures_to_start for item in counted):
            self._failing.add(key)
        else:
            self._failing.discard(key)
        for change in plan.changes:
            service = self._apply(tx, service, change)
        marked = sum(1 for change in plan.changes if isinstance(change, UpdateTask))
        return Activation(
            wake_at=wake_at(view, plan.wake_at, healthy_after_seconds=self._settings.healthy_after_seconds, now=tx.now),
            mark=((NAME, key),) if marked >= planner.HEALTH_WRITES_MAX else (),  # there may be more
        )

    def _view(self, tx: Transaction, service: Service) -> ServiceView:
        """What the planner reads, with what a rollback would go to, what it undoes, and where the traffic goes."""
        view = service_view(tx, service)
        primary = view.primary
        if primary is None:
            return view
        revision = tx.get(SERVICE_REVISIONS, f"{service.key}/{primary.target_id}")
        if revision is not None and needs_digests(revision):
            view = msgspec.structs.replace(view, service_revision=revision)
        if primary.rollout_state != deployment_model.IN_PROGRESS:
            return view
        undone = tx.get(DEPLOYMENTS, f"{service.key}/{primary.rollback_of}") if primary.rollback_of else None
        traffic = self._traffic.in_effect(tx, service) if primary.weights else None
        return msgspec.structs.replace(view, undone=undone, rollback_to=rollback_target(tx, service), traffic=traffic)

    def _apply(self, tx: Transaction, service: Service, change: PlannedChange) -> Service:
        """Carry one change out; the service as it is stored afterwards."""
        match change:
            case UpdateTask(task=task):
                tx.put(TASKS, task)
            case UpdateDeployment(deployment=deployment):
                tx.put(DEPLOYMENTS, deployment)
            case UpdateRevision(revision=revision):
                tx.put(SERVICE_REVISIONS, revision)
            case UpdateService(service=changed):
                # The events that this activation wrote before are counted in `service` only.
                service = msgspec.structs.replace(changed, events_written=service.events_written)
                tx.put(SERVICES, service)
            case RollBack():
                before = [item for item in tx.find(DEPLOYMENTS, "service", service.key) if item.status != deployment_model.INACTIVE]
                service, deployments = roll_back(service, before, change, deployment_id=self._ids.digits(19), now=tx.now)
                tx.put(SERVICES, service)
                for item in deployments:
                    tx.put(DEPLOYMENTS, item)
            case Event():
                return write_event(tx, service, change, ids=self._ids, repeat_seconds=self._settings.event_repeat_seconds)
            case _:
                raise TypeError(f"{type(change).__name__} is not for a deployment to do")
        return service

    @staticmethod
    def _ended(tx: Transaction, deployment: Deployment) -> Iterable[Task]:
        stopped = tx.find(TASKS, "started_by", f"{deployment.account}/{deployment.cluster}/{deployment.shown_id}/{task_model.STOPPED}")
        # `startedBy` is free text in RunTask, so the deployment is compared as well.
        return (task for task in stopped if task.stopped_at > deployment.ends_counted_at and task.deployment_id == deployment.target_id)


def rollback_target(reader: Reader, service: Service) -> ServiceRevision | None:
    """The service revision that completed last, if there is one and its task definition is still there."""
    revision = reader.get(SERVICE_REVISIONS, f"{service.key}/{service.completed_revision_id}") if service.completed_revision_id else None
    if revision is None or reader.get(TASK_DEFINITIONS, task_definition_key(revision.account, revision.family, revision.revision)) is None:
        return None
    return revision
