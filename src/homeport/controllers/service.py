"""Keeps every service at its desired count: asks `planner/service.py` what to do, placement where, and commits both at once.

Owns: desiredStatus of surplus tasks, a service's `steady`, the events of starts and stops; with `service_tasks.py` the records of service tasks at
creation, `placement_failure` and the events of refusals. Never decides how many tasks run (the planner does) and never talks to an agent. Services
with task sets are for `task_set.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from homeport.config import Settings
from homeport.controllers.daemon import DaemonHints, makes_room, plan_daemon
from homeport.controllers.loop import Activation
from homeport.controllers.rebalancing import Rebalancing
from homeport.controllers.service_launch import launch_of
from homeport.controllers.service_tasks import ServiceTasks, Waiting
from homeport.ids import Ids
from homeport.model.change import Event, Plan, StartTask, StopTask, UpdateDeployment, UpdateService
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.placement.index import PlacementIndex
from homeport.planner import health, side_by_side
from homeport.planner import service as planner
from homeport.planner.rebalancing import unable_to_place
from homeport.planner.task import stop
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, DEPLOYMENTS, SERVICES, TASKS

NAME: Final = "service"

MANY_TASKS: Final = 10
TOGETHER_SECONDS: Final = 0.005
"""Per task of a service with `MANY_TASKS` or more: how much later than it could a coming of age is noticed, in company."""
TOGETHER_SECONDS_MAX: Final = 1.0

_STAYING = (instance_model.REGISTERING, instance_model.ACTIVE)


def service_view(reader: Reader, service: Service) -> planner.ServiceView:
    """What the planners read of `service` at this moment."""
    tasks = tuple(reader.find(TASKS, "service_live", service.key))
    prefix = f"{service.cluster_key}/"
    instances = [prefix + instance_id for instance_id in {task.container_instance_id for task in tasks} if instance_id]
    return planner.ServiceView(
        service=service,
        deployments=tuple(item for item in reader.find(DEPLOYMENTS, "service", service.key) if item.status != deployment_model.INACTIVE),
        tasks=tasks,
        draining=frozenset(key for key in instances if _drains(reader.get(CONTAINER_INSTANCES, key))),
    )


def is_note(change: Change) -> bool:
    """Whether a service's change is only what a controller wrote down of it."""
    before, after = change.before, change.after
    return isinstance(before, Service) and isinstance(after, Service) and planner.is_note(before, after)


def wake_at(view: planner.ServiceView, planned: Instant, *, healthy_after_seconds: float, now: Instant) -> Instant:
    """When to look at a service again, if its planner says `planned`.

    Not later than the first of its tasks that is on its way can come of age, since its RUNNING brings no activation (`health.concerns`). And in a
    service of many tasks somewhat later than planned, so that those which come of age one after another are looked at together.
    """
    if not planned and healthy_after_seconds >= health.NOTICED_LATER_SECONDS:
        waits = any(task.last_status != task_model.RUNNING and task.desired_status == task_model.RUNNING for task in view.tasks)
        planned = now + healthy_after_seconds if waits else 0.0
    count = len(view.tasks)
    return planned + min(TOGETHER_SECONDS_MAX, count * TOGETHER_SECONDS) if planned and count >= MANY_TASKS else planned


def _drains(instance: ContainerInstance | None) -> bool:
    return instance is None or instance.status not in _STAYING


class ServiceController:
    """The controller of services; its keys are those of `Service`."""

    name = NAME

    def __init__(self, *, placement: PlacementIndex, ids: Ids, settings: Settings) -> None:
        self._placement = placement
        self._ids = ids
        self._settings = settings
        self._tasks = ServiceTasks(placement=placement, ids=ids, settings=settings)
        self._waiting = Waiting()
        self._daemons = DaemonHints()
        after = settings.healthy_after_seconds
        self._rebalancing = Rebalancing(placement=placement, ids=ids.child("rebalancing"), healthy_after_seconds=after)

    def keys_of(self, change: Change) -> Iterable[str]:
        """The service that changed or whose task or deployment did; the services that wait for room when there may be some."""
        record = change.after or change.before
        if isinstance(record, Service):
            self._note_waiting(record, gone=change.after is None)
            self._daemons.note(record, gone=change.after is None)
            return () if is_note(change) or record.has_task_sets else (record.key,)
        if isinstance(record, Task):
            before, after = (item if isinstance(item, Task) else None for item in (change.before, change.after))
            stopped = after is None or after.last_status == task_model.STOPPED
            concerned = record.service and health.concerns(before, after, self._settings.healthy_after_seconds)
            keys = [*([record.service_key] if concerned else []), *self._daemons.of_task(record, stopped=stopped)]
            return [*keys, *self._waiting.of(record.cluster_key)] if makes_room(change) else keys
        if isinstance(record, Deployment):
            return (record.service_key,)
        if isinstance(record, ContainerInstance):
            return (*self._daemons.of_instance(change), *self._waiting.of(record.cluster_key))
        if isinstance(record, Daemon):
            return self._waiting.of(record.cluster_key)
        return ()

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every service that is not INACTIVE."""
        for service in reader.scan(SERVICES):
            if service.status != service_model.INACTIVE and not service.has_task_sets:
                self._note_waiting(service, gone=False)
                self._daemons.note(service, gone=False)
                yield service.key
        self._daemons.rebuild(reader)

    def _note_waiting(self, service: Service, *, gone: bool) -> None:
        if not self._waiting.note(service, gone=gone):
            self._tasks.forget(service.key)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Do what the planner says of the service `key`."""
        service = tx.get(SERVICES, key)
        if service is None or service.status == service_model.INACTIVE or service.has_task_sets:
            return Activation()
        launch = launch_of(tx, service)
        if launch is not None and self._apply(tx, launch.view, launch.plan, missing=launch.missing):
            return Activation()  # the new tasks bring the next look
        view = service_view(tx, service)

        def victims(tasks: Sequence[Task], count: int) -> Sequence[Task]:
            return self._tasks.victims(tx, service, tasks, count=count)

        if service.scheduling_strategy == service_model.DAEMON:
            view, plan = plan_daemon(tx, view, self._placement, healthy_after_seconds=self._settings.healthy_after_seconds)
        else:
            view, step = self._rebalancing.plan(tx, view, victims)
            decide = side_by_side.plan if side_by_side.applies(view) else planner.plan
            plan = step or decide(view, victims, healthy_after_seconds=self._settings.healthy_after_seconds, now=tx.now)
        if launch is None:
            self._apply(tx, view, plan)
        return Activation(wake_at=wake_at(view, plan.wake_at, healthy_after_seconds=self._settings.healthy_after_seconds, now=tx.now))

    def _apply(self, tx: Transaction, view: planner.ServiceView, plan: Plan, *, missing: int | None = None) -> bool:
        """Carry `plan` out; whether it started a task. `missing`: tasks that the service lacks, where the tasks of `view` do not say."""
        name = view.service.name
        starts = [change for change in plan.changes if isinstance(change, StartTask)]
        stops = [change for change in plan.changes if isinstance(change, StopTask)]
        events = [change for change in plan.changes if isinstance(change, Event)]
        for change in plan.changes:
            if isinstance(change, UpdateService):
                tx.put(SERVICES, change.service)
            elif isinstance(change, UpdateDeployment):
                tx.put(DEPLOYMENTS, change.deployment)
        for item in stops:
            tx.put(TASKS, stop(item.task, stop_code=item.stop_code, reason=item.reason, now=tx.now))
        if stops:
            events.insert(0, Event(planner.stopped(name, [item.task.id for item in stops], zone=stops[0].zone)))
        started, refusal = self._tasks.start(tx, view.service, starts, label=name)
        if started:
            events.insert(0, Event(planner.started(name, started, zone=starts[0].zone)))
        self._tasks.write_events(tx, view.service.key, events)
        if refusal is None:
            fewer = planner.has_fewer_than_desired(view, len(started)) if missing is None else len(started) < missing
            if len(started) == len(starts) and not fewer:
                self._tasks.set_failure(tx, view.service.key, "")
        elif starts[0].zone:
            # Nothing that is desired is missing, so this is no placement failure of the service; the sweep tries again.
            self._tasks.write_events(tx, view.service.key, [Event(unable_to_place(name, starts[0].zone), cause=f"rebalancing {starts[0].zone}")])
        elif not stops and not any(task.desired_status == task_model.STOPPED for task in view.tasks):
            # Otherwise a task that is on its way down still holds what the new one wants: its end brings the next try, and nobody need worry.
            self._tasks.refused(tx, view.service.key, refusal, label=name)
        return bool(started)
