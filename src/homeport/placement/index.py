"""The placement index: follows instances and tasks, and answers where a task can run. Read this first.

Owns: `PlacementIndex`, a Derived view of the store over all clusters. It reads records and returns answers; it never writes a record
and never reserves by itself: the caller puts the Task, and `change` follows in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task
from homeport.model.record import Instant, Record
from homeport.placement import query, reasons, strategies
from homeport.placement.constraints import Demand
from homeport.placement.fleet import Fleet, Node, port_number
from homeport.placement.reasons import Closest, Refusal
from homeport.placement.request import Placement, PlacementRequest
from homeport.placement.victims import choose_victims

PLANS_MAX: Final = 4096


class PlacementIndex:
    """See the module. One per server; `change` must see every write of the tables container_instances and tasks."""

    def __init__(self) -> None:
        self._fleets: dict[str, Fleet] = {}
        self._demands: dict[PlacementRequest, Demand] = {}

    # Following the records

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow one record from `before` to `after`; other tables are passed over. With the two exchanged it undoes exactly."""
        if table == "tasks":
            self._change_task(before, after)  # type: ignore[arg-type]  # the table's name says the type
        elif table == "container_instances":
            self._change_instance(before, after)  # type: ignore[arg-type]  # the table's name says the type

    def _change_instance(self, before: ContainerInstance | None, after: ContainerInstance | None) -> None:
        either = after or before
        if either is None:
            return
        fleet = self._fleet(either.cluster_key)
        fleet.edit(either.key, after)
        self._drop_if_empty(either.cluster_key, fleet)

    def _change_task(self, before: Task | None, after: Task | None) -> None:
        if before is not None and after is not None and _holding(before) == _holding(after):
            return
        if after is not None and after.container_instance_id and after.last_status != task_model.STOPPED:
            self._take(after)
        if before is not None and before.container_instance_id and before.last_status != task_model.STOPPED:
            self._give_back(before)

    def _take(self, task: Task) -> None:
        fleet = self._fleet(task.cluster_key)
        node = fleet.node(task.instance_key)
        if task.host_ports:
            node.hold_ports([port_number(use.port, use.protocol) for use in task.host_ports], 1)
        fleet.hold(node, task.cpu, task.memory_mib, task.gpus)
        if task.desired_status != task_model.STOPPED:
            fleet.count(node, task.group, 1)

    def _give_back(self, task: Task) -> None:
        fleet = self._fleet(task.cluster_key)
        node = fleet.node(task.instance_key)
        if task.host_ports:
            node.hold_ports([port_number(use.port, use.protocol) for use in task.host_ports], -1)
        fleet.free(node, task.cpu, task.memory_mib, task.gpus)
        if task.desired_status != task_model.STOPPED:
            fleet.count(node, task.group, -1)
        fleet.drop_if_empty(node)
        self._drop_if_empty(task.cluster_key, fleet)

    def _fleet(self, cluster_key: str) -> Fleet:
        fleet = self._fleets.get(cluster_key)
        if fleet is None:
            fleet = self._fleets[cluster_key] = Fleet()
        return fleet

    def _drop_if_empty(self, cluster_key: str, fleet: Fleet) -> None:
        if not fleet.nodes:
            del self._fleets[cluster_key]

    # Answering

    def place(self, request: PlacementRequest) -> Placement | Refusal:
        """Choose one instance for one task, or say of every instance why not."""
        fleet = self._fleets.get(request.cluster_key) or Fleet()
        demand = self._demand(request)
        nodes = [node for node in fleet.order if demand.admits(node) and demand.fits(node)]
        group = fleet.group(demand.group)
        chosen = strategies.choose_by_scan(nodes, strategies.criteria(request), fleet, group)
        fleet.forget_group(group)
        if chosen is None:
            return self._refusal(fleet, demand)
        return Placement(chosen.key, chosen.id)

    def explain(self, request: PlacementRequest, instance_key: str) -> str | None:
        """The first requirement that the instance fails, or None when it can take the task. MISSING: no such instance in the cluster."""
        fleet = self._fleets.get(request.cluster_key)
        node = fleet.nodes.get(instance_key) if fleet else None
        if node is None or node.record is None:
            return reasons.MISSING
        return next(self._demand(request).failures(node), None)

    def victims(self, request: PlacementRequest, tasks: Iterable[Task], count: int, *, now: Instant) -> list[str]:
        """Keys of at most `count` of `tasks` to stop when a service scales in, the first to go first; protected tasks are left out.

        `tasks` are those that may go, and are in the index; `request` gives the strategies and the group they were placed by.
        """
        fleet = self._fleets.get(request.cluster_key) or Fleet()
        group = fleet.group(request.task_group)
        chosen = choose_victims(fleet, group, strategies.criteria(request), tasks, count=count, now=now)
        fleet.forget_group(group)
        return chosen

    def matching(self, cluster_key: str, expression: str) -> list[str]:
        """Keys of the instances that match a cluster-query expression, by id; INACTIVE ones never do. Raises query.QueryError."""
        matches = query.parse(expression).matches
        fleet = self._fleets.get(cluster_key)
        if fleet is None:
            return []
        return [node.key for node in fleet.order if node.record and node.record.status != instance_model.INACTIVE and matches(node)]

    def holdings(self) -> dict[str, object]:
        """All that the index has learnt, for comparing two of them; nothing that could be rebuilt from it."""
        return {
            cluster: (
                {key: node.holdings() for key, node in fleet.nodes.items()},
                [node.id for node in fleet.order],
                {name: group.total for name, group in fleet.groups.items() if group.total},
            )
            for cluster, fleet in self._fleets.items()
        }

    def _demand(self, request: PlacementRequest) -> Demand:
        demand = self._demands.get(request)
        if demand is None:
            if len(self._demands) >= PLANS_MAX:
                del self._demands[next(iter(self._demands))]
            demand = self._demands[request] = Demand(request)
        return demand

    @staticmethod
    def _refusal(fleet: Fleet, demand: Demand) -> Refusal:
        def candidates() -> list[Node]:
            return [node for node in fleet.order if node.record and node.record.status != instance_model.INACTIVE]

        def find_reasons() -> tuple[tuple[str, str], ...]:
            return tuple((node.key, reason) for node in candidates() if (reason := next(demand.failures(node), None)) is not None)

        def find_closest() -> Closest:
            failed = [(not node.usable, list(demand.failures(node)), node) for node in candidates()]
            best = min(failed, key=lambda f: (f[0], len(f[1]), f[2].label), default=None)
            return Closest(best[2].id, best[1][0]) if best and best[1] else Closest("", "")

        return Refusal(find_reasons, find_closest)


def _holding(task: Task) -> tuple[object, ...]:
    """All of a task that the index goes by; a change that leaves it alone is none."""
    if not task.container_instance_id or task.last_status == task_model.STOPPED:
        return ()
    return (task.container_instance_id, task.desired_status, task.cpu, task.memory_mib, task.gpus, task.host_ports, task.group)
