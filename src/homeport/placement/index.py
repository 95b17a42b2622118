"""The placement index: follows instances and tasks, and answers where a task can run. Read this first.

Owns: `PlacementIndex`, a Derived view of the store over all clusters. It reads records and returns answers; it never writes a record
and never reserves by itself: the caller puts the Task, and `change` follows in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon as ManagedDaemon
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.record import Instant, Record
from homeport.placement import daemons, query, reasons
from homeport.placement.constraints import Demand
from homeport.placement.daemons import Daemon
from homeport.placement.engine import SCAN_NODES_MAX, Engine, refusal
from homeport.placement.fleet import Fleet, Holding, Keeper, port_number
from homeport.placement.reasons import Closest, Obstacle, Refusal
from homeport.placement.request import Placement, PlacementRequest
from homeport.placement.strategies import ZONE_ATTRIBUTE
from homeport.placement.victims import Tally, choose_victims


class PlacementIndex:
    """See the module. One per server; `change` must see every write of the tables container_instances and tasks."""

    def __init__(self, *, scan_nodes_max: int = SCAN_NODES_MAX) -> None:
        """`scan_nodes_max`: up to so many instances in a cluster, look at all of them for each task."""
        self._engines: dict[str, Engine] = {}
        self._scan_nodes_max = scan_nodes_max
        # What DAEMON services and daemons keep, by cluster and name; each cluster's fleet refers to the inner dict, which outlives it.
        self._daemons: dict[str, dict[str, Keeper]] = {}

    # Following the records

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow one record from `before` to `after`; other tables are passed over. With the two exchanged it undoes exactly."""
        if table == "tasks":
            self._change_task(before, after)  # type: ignore[arg-type]  # the table's name says the type
        elif table == "container_instances":
            self._change_instance(before, after)  # type: ignore[arg-type]  # the table's name says the type
        elif table == "services":
            self._change_service(before, after)  # type: ignore[arg-type]  # the table's name says the type
        elif table == "daemons":
            self._change_daemon(before, after)  # type: ignore[arg-type]  # the table's name says the type

    def _change_service(self, before: Service | None, after: Service | None) -> None:
        old, new = daemons.follows(before), daemons.follows(after)
        service = after or before
        if old == new or service is None:
            return
        engine = self._engine(service.cluster_key)
        if old is not None:
            engine.fleet.keep_no_more(service.key)
        if new is not None:
            engine.fleet.keep(service.key, Daemon(new))
        if not engine.fleet.nodes:
            del self._engines[service.cluster_key]

    def _change_daemon(self, before: ManagedDaemon | None, after: ManagedDaemon | None) -> None:
        daemon = after or before
        if daemon is None or (before and after and (before.share, before.critical) == (after.share, after.critical)):
            return
        engine = self._engine(daemon.cluster_key)
        for name in daemons.keepers(before):
            engine.fleet.keep_no_more(name)
        for name, keeper in daemons.keepers(after).items():
            engine.fleet.keep(name, keeper)
        if not engine.fleet.nodes:
            del self._engines[daemon.cluster_key]

    def _change_instance(self, before: ContainerInstance | None, after: ContainerInstance | None) -> None:
        either = after or before
        if either is None:
            return
        engine = self._engine(either.cluster_key)
        engine.fleet.edit(either.key, after)
        if not engine.fleet.nodes:
            del self._engines[either.cluster_key]

    def _change_task(self, before: Task | None, after: Task | None) -> None:
        if (after or before) is not None and (after or before).daemon:  # type: ignore[union-attr]  # one of them is there
            self._change_ready(before, after)
        given, taken = _holding(before), _holding(after)
        if given is not None and taken is not None and given == taken and before and after and before.instance_key == after.instance_key:
            return
        if taken is not None and after is not None:
            fleet = self._engine(after.cluster_key).fleet
            fleet.reserve(fleet.node(after.instance_key), taken)
        if given is not None and before is not None:
            fleet = self._engine(before.cluster_key).fleet
            fleet.release(fleet.node(before.instance_key), given)
            if not fleet.nodes:
                del self._engines[before.cluster_key]

    def _change_ready(self, before: Task | None, after: Task | None) -> None:
        """Follow whether a daemon's task is RUNNING and wanted so."""
        for task, sign in ((after, 1), (before, -1)):
            other = before if sign > 0 else after
            if task is not None and _is_ready(task) and not (other is not None and _is_ready(other) and other.instance_key == task.instance_key):
                fleet = self._engine(task.cluster_key).fleet
                fleet.run(fleet.node(task.instance_key), task.group, sign)

    def _engine(self, cluster_key: str) -> Engine:
        engine = self._engines.get(cluster_key)
        if engine is None:
            engine = self._engines[cluster_key] = Engine(scan_nodes_max=self._scan_nodes_max)
            engine.fleet.daemons = self._daemons.setdefault(cluster_key, {})
        return engine

    # Answering

    def place(self, request: PlacementRequest) -> Placement | Refusal:
        """Choose one instance for one task, or say of every instance why not."""
        engine = self._engines.get(request.cluster_key)
        return engine.place(request) if engine is not None else refusal(Fleet(), Demand(request))

    def place_on(self, request: PlacementRequest, instance_key: str) -> Placement | Refusal:
        """The instance `instance_key`, if it can take the task; the Refusal names it and no other."""
        engine = self._engines.get(request.cluster_key)
        node = engine.fleet.nodes.get(instance_key) if engine is not None else None
        if engine is None or node is None:
            return Refusal(lambda: ((instance_key, reasons.MISSING),), lambda: Closest(instance_key.rpartition("/")[2], reasons.MISSING))
        failed = next(engine.plan(request).demand.failures(node), None)
        if failed is None:
            return node.placement
        return Refusal(lambda: ((instance_key, failed),), lambda: Closest(node.id, failed))

    def zones(self, request: PlacementRequest) -> dict[str, int]:
        """Every availability zone with an instance that suits the task → tasks of the request's group in it."""
        engine = self._engines.get(request.cluster_key)
        if engine is None:
            return {}
        counts = engine.fleet.buckets(engine.plan(request).group, ZONE_ATTRIBUTE)
        return {zone: counts.get(zone, 0) for zone in engine.zones(request)}

    def targets(self, request: PlacementRequest) -> dict[str, bool]:
        """Key of every ACTIVE instance whose launch type, attributes and memberOf suit the task, by id → whether its agent is connected."""
        engine = self._engines.get(request.cluster_key)
        if engine is None:
            return {}
        matches = engine.plan(request).demand.matches
        active = (node for node in engine.fleet.order if node.record and node.record.status == instance_model.ACTIVE)
        return {node.key: node.usable for node in active if matches(node)}

    def reserve(self, request: PlacementRequest, placement: Placement) -> None:
        """Book a placement without a Task record, as `change` does with one: for what-if questions and measurements. Undo with `release`."""
        engine = self._engines[request.cluster_key]
        engine.fleet.reserve(engine.fleet.nodes[placement.instance_key], engine.plan(request).holding)

    def release(self, request: PlacementRequest, placement: Placement) -> None:
        """Take back a `reserve`."""
        engine = self._engines[request.cluster_key]
        engine.fleet.release(engine.fleet.nodes[placement.instance_key], engine.plan(request).holding)

    def explain(self, request: PlacementRequest, instance_key: str) -> str | None:
        """The first requirement that the instance fails, or None when it can take the task. MISSING: no such instance in the cluster."""
        engine = self._engines.get(request.cluster_key)
        node = engine.fleet.nodes.get(instance_key) if engine is not None else None
        if engine is None or node is None or node.record is None:
            return reasons.MISSING
        return next(engine.plan(request).demand.failures(node), None)

    def obstacles(self, request: PlacementRequest, instance_key: str) -> tuple[Obstacle, ...]:
        """Every requirement that the instance fails, in the order of the checks; nothing when it can take the task. MISSING: no such instance."""
        engine = self._engines.get(request.cluster_key)
        node = engine.fleet.nodes.get(instance_key) if engine is not None else None
        if engine is None or node is None or node.record is None:
            return (Obstacle(reasons.MISSING),)
        return tuple(engine.plan(request).demand.obstacles(node))

    def victims(self, request: PlacementRequest, tasks: Iterable[Task], count: int, *, now: Instant) -> list[str]:
        """Keys of at most `count` of `tasks` to stop when a service scales in, the first to go first; protected tasks are left out.

        `tasks` are those that may go, and are in the index; `request` gives the strategies and the group they were placed by.
        """
        engine = self._engines.get(request.cluster_key) or Engine()
        plan = engine.plan(request)
        return choose_victims(Tally(engine.fleet, plan.group, plan.order), tasks, count=count, now=now)

    def matching(self, cluster_key: str, expression: str) -> list[str]:
        """Keys of the instances that match a cluster-query expression, by id; INACTIVE ones never do. Raises query.QueryError."""
        matches = query.parse(expression).matches
        engine = self._engines.get(cluster_key)
        if engine is None:
            return []
        return [node.key for node in engine.fleet.order if node.record and node.record.status != instance_model.INACTIVE and matches(node)]

    def holdings(self) -> dict[str, object]:
        """All that the index has learnt, for comparing two of them; nothing that could be rebuilt from it."""
        return {cluster: engine.fleet.holdings() for cluster, engine in self._engines.items()}


def _is_ready(task: Task) -> bool:
    return task.last_status == task_model.RUNNING == task.desired_status and bool(task.container_instance_id)


def _holding(task: Task | None) -> Holding | None:
    """What a task holds on its instance, or None: it is on none, STOPPED, or not there."""
    if task is None or not task.container_instance_id or task.last_status == task_model.STOPPED:
        return None
    ports = tuple([port_number(use.port, use.protocol) for use in task.host_ports]) if task.host_ports else ()
    return Holding(task.cpu, task.memory_mib, task.gpus, ports, task.group, task.desired_status != task_model.STOPPED)
