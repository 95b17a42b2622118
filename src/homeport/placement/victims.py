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


class _Tally:
    """The group's counts and the nodes' free amounts as they will be once the victims chosen so far are gone."""

    def __init__(self, fleet: Fleet, group: Group, order: tuple[Criterion, ...]) -> None:
        self.order = order
        self.name = group.name
        self.buckets = {a: dict(fleet.buckets(group, a)) for c in order if (a := strategies.attribute_of(c)) is not None}
        self.here: Counter[str] = Counter()
        self.freed: Counter[tuple[str, str]] = Counter()

    def rank(self, task: Task, node: Node | None) -> tuple[int, ...]:
        """Lower goes first: every criterion of placement with its sign turned."""
        if node is None:
            return ()
        return tuple(-self._number(criterion, task, node) for criterion in self.order)

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
        if node is None:
            return
        self.here[node.key] += 1
        self.freed[node.key, "cpu"] += task.cpu
        self.freed[node.key, "memory"] += task.memory_mib
        for attribute, counts in self.buckets.items():
            value = node.attributes.get(attribute)
            if value in counts:
                counts[value] -= 1


def choose_victims(fleet: Fleet, group: Group, order: tuple[Criterion, ...], tasks: Iterable[Task], *, count: int, now: Instant) -> list[str]:
    """Keys of at most `count` of `tasks` in the order in which they go; tasks protected after `now` are skipped.

    A heap holds one entry a node. Taking a task lowers the rank of other nodes at most (their buckets empty), so an entry that is out of
    date is too good, never too bad: it is looked at again before it is used.
    """
    tally = _Tally(fleet, group, order)
    waiting: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.protected_until <= now:
            waiting[task.instance_key].append(task)

    def entry(key: str) -> tuple[tuple[int, tuple[int, ...], float, str], str]:
        task, node = waiting[key][-1], fleet.nodes.get(key)
        return (usefulness(task, node), tally.rank(task, node), -task.created_at, task.id), key

    for key, there in waiting.items():
        node = fleet.nodes.get(key)
        there.sort(key=lambda t: (usefulness(t, node), tally.rank(t, node), -t.created_at, t.id), reverse=True)  # noqa: B023 - used at once
    heap = [entry(key) for key in waiting]
    heapq.heapify(heap)
    chosen: list[str] = []
    while heap and len(chosen) < count:
        held, key = heap[0]
        fresh = entry(key)
        if fresh[0] != held:
            heapq.heapreplace(heap, fresh)
            continue
        task = waiting[key].pop()
        chosen.append(task.key)
        tally.remove(task, fleet.nodes.get(key))
        if waiting[key]:
            heapq.heapreplace(heap, entry(key))
        else:
            heapq.heappop(heap)
    return chosen
