"""Follows every service's deployments: health of tasks, failures, rollout states, the end of old ones; `planner/deployment.py` decides.

Owns: deployment rolloutState, failedTasks, throttle and status, and tasks' `healthy_since`. Never starts or stops a task.
It stands before `controllers/service.py` in the loop, so that a failed launch is counted before the next one is tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from homeport.config import Settings
from homeport.controllers.loop import Activation
from homeport.controllers.service import is_note, service_view, wake_at
from homeport.controllers.service_event import write_event
from homeport.ids import Ids
from homeport.model.change import Event, UpdateDeployment, UpdateTask
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.planner import deployment as planner
from homeport.planner import health
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import DEPLOYMENTS, SERVICES, TASKS

NAME: Final = "deployment"


class DeploymentController:
    """The controller of deployments; its keys are those of `Service`, since a service's deployments move together."""

    name = NAME

    def __init__(self, *, ids: Ids, settings: Settings) -> None:
        self._ids = ids
        self._settings = settings
        # Services whose last launches failed: there the first task that runs ends the throttle. A hint for `keys_of`, rebuilt by the sweep.
        self._failing: set[str] = set()

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
        return task.service_key in self._failing or health.concerns(before, after, self._settings.healthy_after_seconds)

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every service that is not INACTIVE."""
        return (service.key for service in reader.scan(SERVICES) if service.status != service_model.INACTIVE)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Bring the deployments of the service `key` up to what its tasks say."""
        service = tx.get(SERVICES, key)
        if service is None or service.status != service_model.ACTIVE:
            return Activation()
        view = service_view(tx, service)
        primary = view.primary
        if primary is None:
            return Activation()
        plan = planner.plan(view, self._ended(tx, primary), settings=self._settings, now=tx.now)
        if primary.failures_to_start:
            self._failing.add(key)
        else:
            self._failing.discard(key)
        for change in plan.changes:
            match change:
                case UpdateTask(task=task):
                    tx.put(TASKS, task)
                case UpdateDeployment(deployment=deployment):
                    tx.put(DEPLOYMENTS, deployment)
                    if deployment.failures_to_start and deployment.id == primary.id:
                        self._failing.add(key)
                case Event():
                    service = write_event(tx, service, change, ids=self._ids, repeat_seconds=self._settings.event_repeat_seconds)
                case _:
                    raise TypeError(f"{type(change).__name__} is not for a deployment to do")
        marked = sum(1 for change in plan.changes if isinstance(change, UpdateTask))
        return Activation(
            wake_at=wake_at(view, plan.wake_at, healthy_after_seconds=self._settings.healthy_after_seconds, now=tx.now),
            mark=((NAME, key),) if marked >= planner.HEALTH_WRITES_MAX else (),  # there may be more
        )

    @staticmethod
    def _ended(tx: Transaction, deployment: Deployment) -> Iterable[Task]:
        stopped = tx.find(TASKS, "started_by", f"{deployment.account}/{deployment.cluster}/{deployment.shown_id}/{task_model.STOPPED}")
        # `startedBy` is free text in RunTask, so the deployment is compared as well.
        return (task for task in stopped if task.stopped_at > deployment.ends_counted_at and task.deployment_id == deployment.target_id)
