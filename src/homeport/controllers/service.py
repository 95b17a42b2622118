"""Keeps every service at its desired count: asks `planner/service.py` what to do, placement where, and commits both at once.

Owns: the records of service tasks at creation, desiredStatus of surplus tasks, a service's `placement_failure` and `steady`, the events of starts,
stops and refusals. Never decides how many tasks run (the planner does) and never talks to an agent.

A task that no instance can take is not created: the refusal stays on the service and becomes its event. It is tried again when an
instance of the cluster changes, when a task of the cluster stops, and at the sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.controllers.daemon import DaemonHints, plan_daemon
from homeport.controllers.loop import Activation
from homeport.controllers.rebalancing import Rebalancing
from homeport.controllers.service_capacity import Share, in_turn, service_tasks
from homeport.controllers.service_event import write_event
from homeport.ids import Ids
from homeport.model.change import Event, Plan, StartTask, StopTask, UpdateDeployment, UpdateService
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import PlacementConstraint, Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.record import Instant, Tags
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import placement_request
from homeport.planner import health
from homeport.planner import service as planner
from homeport.planner.rebalancing import unable_to_place
from homeport.planner.task import Placed, new_task, stop
from homeport.planner.version_consistency import digests_of
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, DEPLOYMENTS, SERVICE_REVISIONS, SERVICES, TASK_DEFINITIONS, TASKS

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
        # Services that wait for room, by cluster: a hint for `keys_of`, rebuilt by the sweep.
        self._waiting: dict[str, set[str]] = {}
        self._daemons = DaemonHints()
        after = settings.healthy_after_seconds
        self._rebalancing = Rebalancing(placement=placement, ids=ids.child("rebalancing"), healthy_after_seconds=after)
        # When each refusal was last worked out in words, which costs a look at every instance.
        self._explained_at: dict[str, float] = {}

    def keys_of(self, change: Change) -> Iterable[str]:
        """The service that changed or whose task or deployment did; the services that wait for room when there may be some."""
        record = change.after or change.before
        if isinstance(record, Service):
            self._note_waiting(record, gone=change.after is None)
            self._daemons.note(record, gone=change.after is None)
            return () if is_note(change) else (record.key,)
        if isinstance(record, Task):
            before, after = (item if isinstance(item, Task) else None for item in (change.before, change.after))
            stopped = after is None or after.last_status == task_model.STOPPED
            concerned = record.service and health.concerns(before, after, self._settings.healthy_after_seconds)
            keys = [*([record.service_key] if concerned else []), *self._daemons.of_task(record, stopped=stopped)]
            return [*keys, *self._waiting.get(record.cluster_key, ())] if stopped else keys
        if isinstance(record, Deployment):
            return (record.service_key,)
        if isinstance(record, ContainerInstance):
            return (*self._daemons.of_instance(change), *self._waiting.get(record.cluster_key, ()))
        return ()

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every service that is not INACTIVE."""
        for service in reader.scan(SERVICES):
            if service.status != service_model.INACTIVE:
                self._note_waiting(service, gone=False)
                self._daemons.note(service, gone=False)
                yield service.key
        self._daemons.rebuild(reader)

    def _note_waiting(self, service: Service, *, gone: bool) -> None:
        waiting = self._waiting.setdefault(service.cluster_key, set())
        if service.placement_failure and not gone:
            waiting.add(service.key)
        else:
            waiting.discard(service.key)
            self._explained_at.pop(service.key, None)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Do what the planner says of the service `key`."""
        service = tx.get(SERVICES, key)
        if service is None or service.status == service_model.INACTIVE:
            return Activation()
        view = service_view(tx, service)

        def victims(tasks: Sequence[Task], count: int) -> Sequence[Task]:
            return self._victims(tx, service, tasks, count)

        if service.scheduling_strategy == service_model.DAEMON:
            view, plan = plan_daemon(tx, view, self._placement, healthy_after_seconds=self._settings.healthy_after_seconds)
        else:
            view, step = self._rebalancing.plan(tx, view, victims)
            plan = step or planner.plan(view, victims, healthy_after_seconds=self._settings.healthy_after_seconds, now=tx.now)
        self._apply(tx, view, plan)
        return Activation(wake_at=wake_at(view, plan.wake_at, healthy_after_seconds=self._settings.healthy_after_seconds, now=tx.now))

    def _victims(self, tx: Transaction, service: Service, tasks: Sequence[Task], count: int) -> Sequence[Task]:
        if not tasks or count <= 0:
            return ()
        definition = tx.get(TASK_DEFINITIONS, task_definition_key(service.account, service.family, service.revision))
        strategy = service.capacity_provider_strategy
        keys = self._placement.victims(placement_request(service, definition), tasks, len(tasks) if strategy else count, now=tx.now)
        by_key = {task.key: task for task in tasks}
        ordered = [by_key[key] for key in keys]
        return in_turn(strategy, ordered, service_tasks(tx, service))[:count] if strategy else ordered

    def _apply(self, tx: Transaction, view: planner.ServiceView, plan: Plan) -> None:
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
        started, refusal = self._start(tx, view.service, starts)
        if started:
            events.insert(0, Event(planner.started(name, started, zone=starts[0].zone)))
        self._write_events(tx, view.service.key, events)
        if refusal is None:
            if len(started) == len(starts) and not planner.has_fewer_than_desired(view, len(started)):
                self._set_failure(tx, view.service.key, "")
        elif starts[0].zone:
            # Nothing that is desired is missing, so this is no placement failure of the service; the sweep tries again.
            self._write_events(tx, view.service.key, [Event(unable_to_place(name, starts[0].zone), cause=f"rebalancing {starts[0].zone}")])
        elif not stops and not any(task.desired_status == task_model.STOPPED for task in view.tasks):
            # Otherwise a task that is on its way down still holds what the new one wants: its end brings the next try, and nobody need worry.
            self._refused(tx, view.service.key, refusal)

    def _write_events(self, tx: Transaction, key: str, events: Iterable[Event]) -> None:
        service = tx.get(SERVICES, key)
        for event in events:
            if service is not None:
                service = write_event(tx, service, event, ids=self._ids, repeat_seconds=self._settings.event_repeat_seconds)

    def _start(self, tx: Transaction, service: Service, starts: Sequence[StartTask]) -> tuple[list[str], Refusal | None]:
        """Create what can be placed: the ids of the new tasks, and the first refusal, if there was one."""
        started: list[str] = []
        if not starts:
            return started, None
        deployment = starts[0].deployment
        definition = tx.get(TASK_DEFINITIONS, task_definition_key(deployment.account, deployment.family, deployment.revision))
        if definition is None:
            message = f"(service {service.name}) cannot start tasks: task definition {deployment.family}:{deployment.revision} was deleted."
            self._write_events(tx, service.key, [Event(message, cause="task definition")])
            return started, None
        refusal: Refusal | None = None
        share = Share(tx, service, deployment, waiting_max=self._settings.provisioning_tasks_max)
        for item in starts:
            provider = share.next()
            request = placement_request(service, definition, provider=provider)
            if item.zone:
                request = msgspec.structs.replace(request, constraints=(*request.constraints, in_zone(item.zone)))
            found = self._placement.place_on(request, item.instance_key) if item.instance_key else self._placement.place(request)
            if isinstance(found, Refusal) and (item.zone or not share.may_wait(provider)):
                refusal = refusal or found
                if not item.instance_key:
                    break  # the next one is the same wish
            else:
                wanted = msgspec.structs.replace(
                    self._placed(tx, service, deployment, definition), instance_id="" if isinstance(found, Refusal) else found.instance_id
                )
                started.append(self._create(tx, definition, msgspec.structs.replace(wanted, capacity_provider=provider)).id)
        return started, refusal

    @staticmethod
    def _placed(tx: Transaction, service: Service, deployment: Deployment, definition: TaskDefinition) -> Placed:
        return Placed(
            cluster=service.cluster,
            instance_id="",
            launch_type=deployment.launch_type or "EC2",
            group=f"service:{service.name}",
            started_by=deployment.shown_id,
            service=service.name,
            deployment_id=deployment.target_id,
            tags=task_tags(service, definition),
            enable_execute_command=service.enable_execute_command,
            digests=digests_of(tx.get(SERVICE_REVISIONS, f"{service.key}/{deployment.target_id}")),
        )

    def _create(self, tx: Transaction, definition: TaskDefinition, placed: Placed) -> Task:
        task = new_task(definition, placed, task_id=self._ids.hex(32), mint=self._ids.uuid, now=tx.now)
        tx.put(TASKS, task)
        return task

    def _refused(self, tx: Transaction, key: str, refusal: Refusal) -> None:
        """Keep the refusal on the service and tell it: always when it is the first of an episode, later only another reason or after the
        repeat time."""
        service = tx.get(SERVICES, key)
        if service is None:
            return
        explained_at = self._explained_at.get(key)
        if service.placement_failure and explained_at is not None and tx.now - explained_at < self._settings.sweep_seconds:
            return
        self._explained_at[key] = tx.now
        message = f"(service {service.name}) {refusal.summary()}"
        repeat_seconds = self._settings.event_repeat_seconds if service.placement_failure else 0.0
        write_event(tx, service, Event(message, f"placement {refusal.closest.reason}"), ids=self._ids, repeat_seconds=repeat_seconds)
        self._set_failure(tx, key, message)

    def _set_failure(self, tx: Transaction, key: str, message: str) -> None:
        service = tx.get(SERVICES, key)
        if service is not None and service.placement_failure != message:
            tx.put(SERVICES, msgspec.structs.replace(service, placement_failure=message))


def in_zone(zone: str) -> PlacementConstraint:
    """The constraint that allows instances of `zone` only."""
    quoted = zone.replace("'", "\\'")
    return PlacementConstraint(type="memberOf", expression=f"attribute:ecs.availability-zone == '{quoted}'")


def task_tags(service: Service, definition: TaskDefinition) -> Tags:
    """The tags of a service's task: propagated ones and, when asked for, the managed ones."""
    propagated = {"SERVICE": service.tags, "TASK_DEFINITION": definition.tags}.get(service.propagate_tags, ())
    if not service.enable_ecs_managed_tags:
        return propagated
    return (*propagated, ("aws:ecs:clusterName", service.cluster), ("aws:ecs:serviceName", service.name))
