"""Which tasks a service gives up when it scales in: the mirror of placement.

Owns: the order of ecs-reference 3.7: tasks that serve least first (not yet RUNNING, UNHEALTHY, on an instance that is not ACTIVE), then
spread → the fullest bucket, binpack → the instance that will have the most left, none → fullest zone, then fullest instance; among
equals the newest task. Never stops anything.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable

from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.placement import strategies
from homeport.placement.fleet import Fleet, Group, Node
from homeport.placement.strategies import Criterion

_NOT_RUNNING = 0
_UNHEALTHY = 1
_LEAVING = 2
_SERVING = 3


def usefulness(task: Task, node: Node | None) -> int:
    """Lower goes first."""
    if task_model.RANK[task.last_status] < task_model.RANK[task_model.RUNNING]:
        return _NOT_RUNNING
    if task.health_status == task_model.UNHEALTHY:
        return _UNHEALTHY
    if node is None or node.record is None or node.record.status != instance_model.ACTIVE:
        return _LEAVING
    return _SERVING


class Tally:
    """The counts of a group and the free amounts of its nodes as they will be once the victims chosen so far are gone."""

    def __init__(self, fleet: Fleet, group: Group, order: tuple[Criterion, ...]) -> None:
        self.fleet = fleet
        self.order = order
        self.name = group.name
        self.attributes = [name for criterion in order if (name := strategies.attribute_of(criterion)) is not None]
        self.buckets = {name: dict(fleet.buckets(group, name)) for name in self.attributes}
        self.here: Counter[str] = Counter()
        self.freed: Counter[tuple[str, str]] = Counter()

    def rank(self, task: Task, node: Node | None, *, with_attributes: bool) -> tuple[int, ...]:
        """Lower goes first: every criterion of placement with its sign turned."""
        if node is None:
            return ()
        return tuple([-self._number(c, task, node) for c in self.order if with_attributes or strategies.attribute_of(c) is None])

    def _number(self, criterion: Criterion, task: Task, node: Node) -> int:
        if criterion == strategies.CPU:
            return node.cpu + self.freed[node.key, "cpu"] + task.cpu
        if criterion == strategies.MEMORY:
            return node.memory + self.freed[node.key, "memory"] + task.memory_mib
        if criterion == strategies.INSTANCE:
            return node.groups.get(self.name, 0) - self.here[node.key]
        attribute = strategies.attribute_of(criterion)
        if attribute is None:
            return 0  # random: any; the newest goes
        value = node.attributes.get(attribute)
        return strategies.LAST_CHOICE if value is None else self.buckets[attribute].get(value, 0)

    def remove(self, task: Task, node: Node | None) -> None:
        """The task is chosen."""
        if node is None:
            return
        self.here[node.key] += 1
        self.freed[node.key, "cpu"] += task.cpu
        self.freed[node.key, "memory"] += task.memory_mib
        for attribute, counts in self.buckets.items():
            value = node.attributes.get(attribute)
            if value in counts:
                counts[value] -= 1


_Entry = tuple[int, tuple[int, ...], float, str, str]
"""usefulness, rank without attributes, age, task id, instance key: lower goes first."""


def choose_victims(tally: Tally, tasks: Iterable[Task], *, count: int, now: Instant) -> list[str]:
    """Keys of at most `count` of `tasks` in the order in which they go; tasks protected after `now` are skipped.

    Nodes with equal values of the attributes form a cell with a heap of its own, one entry a node: inside a cell a choice changes the
    rank of the chosen task's node alone, so no entry is ever out of date, and only the cells' first entries are compared anew.
    """
    fleet = tally.fleet
    waiting: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.protected_until <= now:
            waiting[task.instance_key].append(task)

    def entry(key: str, task: Task) -> _Entry:
        node = fleet.nodes.get(key)
        return usefulness(task, node), tally.rank(task, node, with_attributes=False), -task.created_at, task.id, key

    cells: dict[tuple[str | None, ...], list[_Entry]] = defaultdict(list)
    for key, there in waiting.items():
        entries = {task.id: entry(key, task) for task in there}
        there.sort(key=lambda task, known=entries: known[task.id], reverse=True)  # type: ignore[misc]  # bound per loop
        node = fleet.nodes.get(key)
        cells[tuple(node.attributes.get(name) if node else None for name in tally.attributes)].append(entries[there[-1].id])
    heaps = list(cells.values())
    for heap in heaps:
        heapq.heapify(heap)

    def worth(heap: list[_Entry]) -> tuple[int, tuple[int, ...], float, str]:
        useful, _, age, task_id, key = heap[0]
        return useful, tally.rank(waiting[key][-1], fleet.nodes.get(key), with_attributes=True), age, task_id

    chosen: list[str] = []
    while heaps and len(chosen) < count:
        heap = min(heaps, key=worth)
        key = heap[0][-1]
        task = waiting[key].pop()
        chosen.append(task.key)
        tally.remove(task, fleet.nodes.get(key))
        if waiting[key]:
            heapq.heapreplace(heap, entry(key, waiting[key][-1]))
        else:
            heapq.heappop(heap)
            if not heap:
                heaps.remove(heap)
    return chosen
