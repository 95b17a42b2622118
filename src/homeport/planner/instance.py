"""What becomes of the tasks of an instance that left or drains: one pure function.

Owns: `plan`, and when an instance left. Never touches its status, which belongs to the operations on container instances.
Sources: ecs-reference 3.3 (deregistration by force orphans tasks: they leave the books and service schedulers replace them), 3.6 (reasons).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from homeport.model.change import Change, EndTask, Plan, UpdateInstance
from homeport.model.ecs import container_instance as model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task
from homeport.model.record import Instant

ENDS_MAX: Final = 80
"""Tasks ended in one activation; under a transaction's 100 records. The rest follows at once."""
FORGOTTEN: Final = "The container instance was deregistered."


def plan(instance: ContainerInstance | None, tasks: Sequence[Task], now: Instant) -> Plan:
    """End the `tasks` of an instance that is INACTIVE or forgotten, since no agent will report them any more; else leave them alone.

    Tasks on a DRAINING instance are for their services to replace; standalone ones stay until they end.
    """
    if instance is not None and instance.status != model.INACTIVE:
        return Plan()
    code, reason = _why(instance)
    changes: list[Change] = [EndTask(task, code, reason) for task in tasks[:ENDS_MAX]]
    if instance is not None and not instance.left_at:
        changes.append(UpdateInstance(msgspec.structs.replace(instance, left_at=now), "it left"))
    return Plan(tuple(changes))


def _why(instance: ContainerInstance | None) -> tuple[str, str]:
    """Stop code and reason. DeregisterContainerInstance leaves no tasks behind, so one that still has some ended with its machine. The reason is
    ECS's; the code is the one of its list that says so best, for no document joins the two."""
    if instance is None:
        return task_model.INFRASTRUCTURE_HEALTH, FORGOTTEN
    return task_model.TERMINATION_NOTICE, f"Host EC2 (instance {instance.ec2_instance_id}) terminated."
