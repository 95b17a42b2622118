"""What the controllers of services have in common: the making of tasks that placement finds room for, victims, events, and refusals.

Owns: the records of service tasks at creation, a service's `placement_failure`, the hint of which services wait for room. Never decides how many
tasks run: planners do.

A task that no instance can take is not created: the refusal stays on the service and becomes its event. It is tried again when an instance of the
cluster changes, when a task of the cluster stops, and at the sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from homeport.config import Settings
from homeport.controllers.service_capacity import Share, in_turn, service_tasks
from homeport.controllers.service_event import write_event
from homeport.ids import Ids
from homeport.model.change import Event, StartTask
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import PlacementConstraint, Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.record import Tags
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import placement_request
from homeport.planner.gpus import with_gpus
from homeport.planner.task import Placed, new_task
from homeport.planner.version_consistency import digests_of
from homeport.store.table import Transaction
from homeport.store.tables import CONTAINER_INSTANCES, SERVICE_REVISIONS, SERVICES, TASK_DEFINITIONS, TASKS


class Waiting:
    """Services that wait for room, by cluster: a hint for `keys_of`, rebuilt by the sweep."""

    def __init__(self) -> None:
        self._keys: dict[str, set[str]] = {}

    def note(self, service: Service, *, gone: bool) -> bool:
        """Remember or forget `service`; whether it waits."""
        waiting = self._keys.setdefault(service.cluster_key, set())
        if service.placement_failure and not gone:
            waiting.add(service.key)
            return True
        waiting.discard(service.key)
        return False

    def of(self, cluster_key: str) -> Iterable[str]:
        """Keys of the services of a cluster that wait."""
        return self._keys.get(cluster_key, ())


class ServiceTasks:
    """See the module. A `service` argument may be a stand-in for the stored one, which says what the tasks of one version of it are like."""

    def __init__(self, *, placement: PlacementIndex, ids: Ids, settings: Settings) -> None:
        self._placement = placement
        self._ids = ids
        self._settings = settings
        # When each refusal was last worked out in words, which costs a look at every instance.
        self._explained_at: dict[str, float] = {}

    def victims(self, tx: Transaction, service: Service, tasks: Sequence[Task], *, count: int) -> Sequence[Task]:
        """`count` of `tasks`, the one to stop first in front."""
        if not tasks or count <= 0:
            return ()
        definition = tx.get(TASK_DEFINITIONS, task_definition_key(service.account, service.family, service.revision))
        strategy = service.capacity_provider_strategy
        keys = self._placement.victims(placement_request(service, definition), tasks, len(tasks) if strategy else count, now=tx.now)
        by_key = {task.key: task for task in tasks}
        ordered = [by_key[key] for key in keys]
        return in_turn(strategy, ordered, service_tasks(tx, service))[:count] if strategy else ordered

    def start(self, tx: Transaction, service: Service, starts: Sequence[StartTask], *, label: str) -> tuple[list[str], Refusal | None]:
        """Create what can be placed: the ids of the new tasks, and the first refusal, if there was one. `label`: the service in events."""
        started: list[str] = []
        refusal: Refusal | None = None
        for deployment_id in dict.fromkeys(item.deployment.id for item in starts):
            made, refused = self._start(tx, service, [item for item in starts if item.deployment.id == deployment_id], label=label)
            started += made
            refusal = refusal or refused
        return started, refusal

    def _start(self, tx: Transaction, service: Service, starts: Sequence[StartTask], *, label: str) -> tuple[list[str], Refusal | None]:
        """As `start`, for tasks of one deployment."""
        started: list[str] = []
        deployment = starts[0].deployment
        definition = tx.get(TASK_DEFINITIONS, task_definition_key(deployment.account, deployment.family, deployment.revision))
        if definition is None:
            message = f"(service {label}) cannot start tasks: task definition {deployment.family}:{deployment.revision} was deleted."
            self.write_events(tx, service.key, [Event(message, cause="task definition")])
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
        if task.gpus and task.container_instance_id:
            task = with_gpus(task, tx.get(CONTAINER_INSTANCES, task.instance_key), tx.find(TASKS, "instance_live", task.instance_key))
        tx.put(TASKS, task)
        return task

    def write_events(self, tx: Transaction, key: str, events: Iterable[Event]) -> None:
        """Write `events` of the service `key`."""
        service = tx.get(SERVICES, key)
        for event in events:
            if service is not None:
                service = write_event(tx, service, event, ids=self._ids, repeat_seconds=self._settings.event_repeat_seconds)

    def refused(self, tx: Transaction, key: str, refusal: Refusal, *, label: str) -> None:
        """Keep the refusal on the service and tell it: always when it is the first of an episode, later only another reason or after the
        repeat time."""
        service = tx.get(SERVICES, key)
        if service is None:
            return
        explained_at = self._explained_at.get(key)
        if service.placement_failure and explained_at is not None and tx.now - explained_at < self._settings.sweep_seconds:
            return
        self._explained_at[key] = tx.now
        message = f"(service {label}) {refusal.summary()}"
        repeat_seconds = self._settings.event_repeat_seconds if service.placement_failure else 0.0
        write_event(tx, service, Event(message, f"placement {refusal.closest.reason}"), ids=self._ids, repeat_seconds=repeat_seconds)
        self.set_failure(tx, key, message)

    def set_failure(self, tx: Transaction, key: str, message: str) -> None:
        """Keep `message` as the service's placement failure; "": there is none."""
        service = tx.get(SERVICES, key)
        if service is not None and service.placement_failure != message:
            tx.put(SERVICES, msgspec.structs.replace(service, placement_failure=message))

    def forget(self, key: str) -> None:
        """The service `key` waits no more."""
        self._explained_at.pop(key, None)


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
