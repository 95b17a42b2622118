"""The task sets of a service for those who explain: which set the next task would be of, and what holds each back.

Owns: `next_set`, `waiting_on`. Never decides: `planner/task_set.py` has the counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from homeport.model.ecs import task_set as model
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_set import TaskSet
from homeport.model.record import Instant
from homeport.planner.task_set import desired_count_of, in_order
from homeport.store.table import Reader
from homeport.store.tables import TASK_SETS


def next_set(reader: Reader, service: Service, live: Sequence[Task]) -> TaskSet | None:
    """The set that would get the service's next task: the first that has too few of `live`, else the first of all; None without sets."""
    sets = in_order(reader.find(TASK_SETS, "service", service.key))
    short = (item for item in sets if _count(item, live) < desired_count_of(service, item))
    return next(short, sets[0] if sets else None)


def waiting_on(reader: Reader, service: Service, live: Sequence[Task], *, now: Instant) -> Iterator[str]:
    """What besides room decides whether another task of each set is started now. `live`: the service's tasks that are wanted RUNNING."""
    sets = in_order(reader.find(TASK_SETS, "service", service.key))
    if not sets:
        yield "a task set: the service has none"
    for item in sets:
        name, wanted = f"the task set {item.shown_id} ({item.family}:{item.revision})", desired_count_of(service, item)
        if item.status == model.DRAINING:
            yield f"nothing: {name} is DRAINING and starts nothing"
        elif item.throttled_until > now:
            yield f"the launch throttle of {name}, until {item.throttled_until:.0f}, after {item.failures_to_start or item.crashes} failed rounds"
        elif _count(item, live) >= wanted:
            yield f"nothing: {name} has the {wanted} tasks that {item.scale:g} % of the desired count of {service.desired_count} are"


def _count(task_set: TaskSet, live: Sequence[Task]) -> int:
    return sum(1 for task in live if task.deployment_id == task_set.id)
