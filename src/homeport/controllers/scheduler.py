"""Gives an instance to the tasks that wait for capacity, first come first served, and ends those that waited too long.

Owns: `container_instance_id` of a task that was made without one, and the GPUs that its containers get there; both are set once. Never makes a
task and never stops one that has an instance.
Source: ecs-reference 3.2 and 3.6. A task waits as PROVISIONING when the capacity provider that its strategy chose has managed scaling and no room.

Tasks that ask for the same are served in the order of their creation: one that is refused holds up those behind it that ask for the same, no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.controllers.daemon import makes_room
from homeport.controllers.loop import Activation
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import PlacementRequest, placement_request
from homeport.planner.gpus import with_gpus
from homeport.planner.task import assigned, stop
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import CLUSTERS, CONTAINER_INSTANCES, SERVICES, TASK_DEFINITIONS, TASKS

NAME: Final = "scheduler"
TASKS_MAX: Final = 80
"""Tasks placed or ended in one activation; under a transaction's 100 records. The rest follows at once."""
EMPTY: Final = "EMPTY CAPACITY PROVIDER"
"""Why a task ends whose provider never got an instance."""


class SchedulerController:
    """The controller of waiting tasks; its keys are those of `Cluster`."""

    name = NAME

    def __init__(self, *, placement: PlacementIndex, settings: Settings) -> None:
        self._placement = placement
        self._settings = settings
        # Clusters with waiting tasks: a hint for `keys_of`, rebuilt by the sweep.
        self._waiting: set[str] = set()

    def keys_of(self, change: Change) -> Iterable[str]:
        """The cluster of a task that begins to wait; one with waiting tasks when an instance changes or a task frees its share."""
        record = change.after or change.before
        if isinstance(record, Task):
            if isinstance(change.after, Task) and waits(change.after):
                self._waiting.add(record.cluster_key)
                return (record.cluster_key,) if change.before is None else ()
            return (record.cluster_key,) if makes_room(change) and record.cluster_key in self._waiting else ()
        if isinstance(record, ContainerInstance | Daemon) and record.cluster_key in self._waiting:
            return (record.cluster_key,)
        return ()

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every cluster with a task that is PROVISIONING."""
        found = {cluster.key for cluster in reader.scan(CLUSTERS) if reader.count(TASKS, "cluster_last", f"{cluster.key}/{task_model.PROVISIONING}")}
        self._waiting = found
        return tuple(sorted(found))

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Place what fits and end what waited too long, in the cluster `key`."""
        tasks = [task for task in tx.find(TASKS, "cluster_last", f"{key}/{task_model.PROVISIONING}") if waits(task)]
        tasks.sort(key=lambda task: (task.created_at, task.id))
        refused: dict[PlacementRequest, Refusal] = {}
        done, wake_at = 0, 0.0
        for task in tasks:
            if done == TASKS_MAX:
                return Activation(mark=((NAME, key),))
            request = self._request(tx, task)
            ends_at = task.created_at + self._settings.provisioning_timeout_seconds
            found = refused.get(request) or self._placement.place(request)
            if not isinstance(found, Refusal):
                placed = assigned(task, found.instance_id, tx.now)
                if placed.gpus:
                    placed = with_gpus(placed, tx.get(CONTAINER_INSTANCES, placed.instance_key), tx.find(TASKS, "instance_live", placed.instance_key))
                tx.put(TASKS, placed)
                done += 1
            elif ends_at <= tx.now:
                reason = found.closest.reason or EMPTY
                tx.put(TASKS, stop(task, stop_code=task_model.TASK_FAILED_TO_START, reason=reason, now=tx.now))
                done += 1
            else:
                refused[request] = found
                wake_at = min(wake_at, ends_at) if wake_at else ends_at
        if not tasks:
            self._waiting.discard(key)
        return Activation(wake_at=wake_at)

    @staticmethod
    def _request(reader: Reader, task: Task) -> PlacementRequest:
        definition = reader.get(TASK_DEFINITIONS, task_definition_key(task.account, task.family, task.revision))
        service = reader.get(SERVICES, task.service_key) if task.service else None
        if service is not None:  # a task set's launch type need not be that of its service
            found = placement_request(service, definition, provider=task.capacity_provider)
            return msgspec.structs.replace(found, launch_type=task.launch_type)
        return standalone_request(task, definition)


def waits(task: Task) -> bool:
    """Whether `task` is wanted and has no instance yet."""
    return task.last_status == task_model.PROVISIONING and task.desired_status == task_model.RUNNING and not task.container_instance_id


def standalone_request(task: Task, definition: TaskDefinition | None) -> PlacementRequest:
    """What a waiting task of no service needs: what RunTask was asked for, as the task kept it."""
    return PlacementRequest(
        cluster_key=task.cluster_key,
        launch_type=task.launch_type,
        cpu=task.cpu,
        memory_mib=task.memory_mib,
        host_ports=tuple((use.port, use.protocol) for use in task.host_ports),
        required_attributes=definition.requires_attributes if definition else (),
        constraints=task.placement_constraints,
        strategies=task.placement_strategy,
        group=task.group,
        gpus=task.gpus,
        capacity_provider=task.capacity_provider,
    )
