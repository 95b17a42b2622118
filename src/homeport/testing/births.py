"""What must hold of a task at the commit that makes it: where it stands, and which tags it got.

Owns: `EXPRESSIONS` (the memberOf expressions of a simulation, each with its meaning), `Births`. Never trusts the product's evaluation of either:
what an expression means and which tags are propagated is written down again (ecs-reference 3.7, 3.20).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.service import PlacementConstraint, Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import task_definition_key
from homeport.testing.definitions import RACK

Attributes = dict[str, str]
Records = dict[str, dict[str, Any]]

ZONE: Final = "ecs.availability-zone"
EXPRESSIONS: Final[dict[str, Callable[[Attributes], bool]]] = {
    f"attribute:{ZONE} == us-east-1a": lambda held: held[ZONE] == "us-east-1a",
    f"attribute:{ZONE} == us-east-1b": lambda held: held[ZONE] == "us-east-1b",
    f"attribute:{ZONE} != us-east-1c": lambda held: held[ZONE] != "us-east-1c",
    f"attribute:{ZONE} in [us-east-1b, us-east-1c]": lambda held: held[ZONE] in ("us-east-1b", "us-east-1c"),
    f"attribute:{RACK} exists": lambda held: RACK in held,
    f"attribute:{RACK} == one": lambda held: held.get(RACK) == "one",
    f"attribute:{RACK} in [one, two]": lambda held: held.get(RACK) in ("one", "two"),
    f"attribute:{RACK} == three or attribute:{ZONE} == us-east-1a": lambda held: held.get(RACK) == "three" or held[ZONE] == "us-east-1a",
}
"""memberOf expression → whether an instance with these attributes is a member."""
_SCHEDULERS: Final = ("controller/service", "controller/task_set")


def suits(instance: ContainerInstance, expressions: Iterable[str]) -> bool:
    """Whether `instance` is a member of all of `expressions`."""
    held = {attribute.name: attribute.value for attribute in instance.attributes}
    return all(EXPRESSIONS[text](held) for text in expressions)


def expressions_of(records: Records, task: Task | Service, constraints: Iterable[PlacementConstraint]) -> list[str]:
    """The memberOf expressions of `constraints` and of the definition of `task`."""
    definition = records["task_definitions"].get(task_definition_key(task.account, task.family, task.revision))
    return [item.expression for item in constraints if item.type == "memberOf"] + list(definition.placement_constraints if definition else ())


class Births:
    """Looks at every task that is made. `made_on` is read when a call that made tasks is acknowledged."""

    def __init__(self, records: Records) -> None:
        """`records`: table → key → durable record, as they are after the commit that is looked at."""
        self._records = records
        self.made_on: dict[str, ContainerInstance] = {}
        """Key of a standalone task → its instance as it was at the commit that made the task."""

    def problem(self, task: Task, actor: str, siblings: Iterable[Task]) -> str:
        """What is wrong with a new task; "" when nothing. `siblings`: all tasks of its service that are not STOPPED."""
        instance = self._records["container_instances"].get(task.instance_key)
        if instance is None:
            return "" if not task.container_instance_id else f"task {task.id} was made on an instance that does not exist"
        if task.capacity_provider and instance.capacity_provider != task.capacity_provider:
            return f"task {task.id} of capacity provider {task.capacity_provider} was made on an instance of {instance.capacity_provider or 'none'}"
        if actor not in _SCHEDULERS:
            self.made_on[task.key] = instance
            return ""
        service = self._records["services"][task.service_key]
        unmet = [text for text in expressions_of(self._records, task, service.placement_constraints) if not suits(instance, (text,))]
        if unmet:
            return f"task {task.id} of service {service.name} was put on instance {instance.id}, which is no member of {unmet[0]}"
        distinct = any(item.type == "distinctInstance" for item in service.placement_constraints)
        here = [other for other in siblings if other.instance_key == task.instance_key and other.desired_status == "RUNNING"]
        if distinct and len(here) > 1:
            return f"instance {instance.id} has two tasks of service {service.name}, which wants distinct instances"
        expected = self._tags(service, task)
        return "" if dict(task.tags) == expected else f"task {task.id} of service {service.name} has the tags {task.tags}, not {expected}"

    def _tags(self, service: Service, task: Task) -> dict[str, str]:
        definition = self._records["task_definitions"][task_definition_key(task.account, task.family, task.revision)]
        tags: dict[str, str] = {}
        if service.propagate_tags == "SERVICE":
            tags.update(service.tags)
        elif service.propagate_tags == "TASK_DEFINITION":
            tags.update(definition.tags)
        if service.enable_ecs_managed_tags:
            tags["aws:ecs:clusterName"], tags["aws:ecs:serviceName"] = service.cluster, service.name
        return tags


def lost_attributes(before: ContainerInstance, after: ContainerInstance) -> set[str]:
    """Names of custom attributes that a registration took away: none may be."""
    return {item.name for item in before.attributes if item.custom} - {item.name for item in after.attributes}
