"""Follows container instances on behalf of their tasks: ends the tasks of one that left, and has services look when one drains.

Owns: the end of tasks whose instance is gone, and the instance's `left_at`. Never changes anything else of an instance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from homeport.controllers import deployment as deployment_controller
from homeport.controllers import service as service_controller
from homeport.controllers import task_set as task_set_controller
from homeport.controllers.loop import Activation
from homeport.model.change import EndTask, UpdateInstance
from homeport.model.ecs import container_instance as model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.planner import instance as planner
from homeport.planner.task import lost
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, TASKS

NAME: Final = "instance"

_QUIET = (model.REGISTERING, model.REGISTRATION_FAILED)


class InstanceController:
    """The controller of instances; its keys are those of `ContainerInstance`."""

    name = NAME

    def keys_of(self, change: Change) -> Iterable[str]:
        """An instance that is new, gone, or of another status than before."""
        before, after = change.before, change.after
        if not isinstance(before or after, ContainerInstance):
            return ()
        if isinstance(before, ContainerInstance) and isinstance(after, ContainerInstance) and before.status == after.status:
            return ()
        return (change.key,)

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every instance that drains or has left."""
        staying = (*_QUIET, model.ACTIVE)
        return (instance.key for instance in reader.scan(CONTAINER_INSTANCES) if instance.status not in staying)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """End what can be reported no more, and name the services that have tasks there."""
        instance = tx.get(CONTAINER_INSTANCES, key)
        tasks = list(tx.find(TASKS, "instance_live", key))
        plan = planner.plan(instance, tasks, tx.now)
        ends = 0
        for change in plan.changes:
            if isinstance(change, EndTask):
                tx.put(TASKS, lost(change.task, stop_code=change.stop_code, reason=change.reason, now=tx.now))
                ends += 1
            elif isinstance(change, UpdateInstance):
                tx.put(CONTAINER_INSTANCES, change.instance)
        services = sorted({task.service_key for task in tasks if task.service})
        names = (deployment_controller.NAME, service_controller.NAME, task_set_controller.NAME)
        mark = [(name, service) for service in services for name in names]
        if 0 < ends < len(tasks):
            mark.append((NAME, key))
        return Activation(mark=tuple(mark))
