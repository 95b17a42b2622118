"""What must hold of services with task sets, after every commit and at rest, written down again beside the code that it checks.

Owns: `task_set_problem` (after a commit), `shortage`, `at_rest`. Never trusts the planner's arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from homeport.model.ecs.service import Service
from homeport.model.ecs.task import RANK, Task
from homeport.testing.definitions import UNSTEADY

Records = dict[str, dict[str, Any]]

SETS_MAX: Final = 5
_OCCUPYING: Final = RANK["RUNNING"]


def share(service: Service, task_set: Any) -> int:
    """How many tasks a set is to have (ecs-reference 3.9): its part of the desired count, rounded up."""
    if task_set.status == "DRAINING" or service.status != "ACTIVE":
        return 0
    exact = Decimal(service.desired_count) * Decimal(repr(task_set.scale)) / 100
    return int(exact.to_integral_value(ROUND_CEILING))


def sets_of(records: Records, service: Service) -> list[Any]:
    """The durable sets of a service."""
    return [item for item in records["task_sets"].values() if item.service_key == service.key]


def task_set_problem(records: Records, service: Service, tasks: Sequence[Task], born: Sequence[Task]) -> str:
    """What is wrong with the sets of `service` after a commit of their controller; "" when nothing.

    `tasks`: the service's that are not STOPPED. `born`: those that the commit made.
    """
    sets = {item.id: item for item in sets_of(records, service)}
    if len(sets) > SETS_MAX:
        return f"service {service.name} has {len(sets)} task sets"
    if sum(item.status == "PRIMARY" for item in sets.values()) > 1:
        return f"service {service.name} has two PRIMARY task sets"
    for task in tasks:
        if task.desired_status == "RUNNING" and task.deployment_id not in sets:
            return f"task {task.id} of service {service.name} is wanted and has no task set"
    for item in sets.values():
        if not any(task.deployment_id == item.id for task in born):
            continue
        own = [task for task in tasks if task.deployment_id == item.id]
        good = sum(task.desired_status == "RUNNING" and _stays(records, task) and task.health_status != "UNHEALTHY" for task in own)
        occupied = sum(RANK[task.last_status] <= _OCCUPYING for task in own)
        wanted = share(service, item)
        if good > wanted or occupied > 2 * wanted:
            return f"task set {item.id} of service {service.name} has {good} good tasks of {wanted}, {occupied} in all, after a start"
        if any(task.started_by != item.shown_id or (task.family, task.revision) != (item.family, item.revision) for task in own):
            return f"a task of task set {item.id} is not of its version"
    return ""


def _stays(records: Records, task: Task) -> bool:
    instance = records["container_instances"].get(task.instance_key)
    return instance is not None and instance.status == "ACTIVE"


def shortage(records: Records, service: Service, tasks: Sequence[Task], now: float) -> str:
    """What the sets lack without a reason; "" when nothing."""
    if service.placement_failure or any(task.desired_status == "STOPPED" for task in tasks):
        return ""
    for item in sets_of(records, service):
        own = [task for task in tasks if task.deployment_id == item.id]
        occupied = sum(RANK[task.last_status] <= _OCCUPYING for task in own)
        if len(own) < share(service, item) and item.throttled_until <= now - 1.0 and occupied < 2 * share(service, item):
            return f"has {len(own)} of {share(service, item)} tasks in the task set {item.id}"
    return ""


def situation(records: Records, service: Service) -> tuple[Any, ...]:
    """What a shortage is measured against: another wish starts the wait anew."""
    return tuple((item.id, item.scale, item.status) for item in sets_of(records, service))


def at_rest(records: Records, service: Service, tasks: Iterable[Task]) -> Iterable[str]:
    """Everything about the sets of `service` that is not where it is wanted, in words. `tasks`: those that are wanted RUNNING."""
    kept = list(tasks)
    for item in sets_of(records, service):
        if item.status == "DRAINING":
            yield f"the task set {item.id} of service {service.name} is still DRAINING"
        own = [task for task in kept if task.deployment_id == item.id]
        running = sum(task.last_status == "RUNNING" for task in own)
        if item.family in UNSTEADY or service.placement_failure:
            continue
        if running != share(service, item) or len(own) != running:
            yield f"the task set {item.id} ({item.family}) of service {service.name} runs {running} of {share(service, item)}, {len(own)} wanted"
        elif any(not _stays(records, task) for task in own):
            yield f"the task set {item.id} of service {service.name} still has tasks on draining instances"
        elif item.stability_status != "STEADY_STATE":
            yield f"the task set {item.id} of service {service.name} is as it is wanted and yet {item.stability_status}"
