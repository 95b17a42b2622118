"""The placement engine of one cluster: from a request to the chosen node. Read this after `index.py`.

Owns: `Engine`, which keeps a plan for each request it has seen, and `Plan`, which picks the way of choosing:

- a small fleet, or criteria in an order that no structure serves: look at every node (`strategies.choose_by_scan`);
- otherwise the partition's cells with the fewest tasks of the group are searched, and the best of their answers is taken:
  by `FirstFit` (lowest id, or fewest tasks on the instance), by `BestFit` (binpack), or round the ring of ids (random).

All ways give the same answer. Never writes to the fleet.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from homeport.model.ecs import container_instance as instance_model
from homeport.placement import strategies
from homeport.placement.bestfit import BestFit
from homeport.placement.constraints import Demand
from homeport.placement.firstfit import FirstFit
from homeport.placement.fleet import LABEL_BITS, Fleet, Holding, Node, by_label
from homeport.placement.partition import Cell, Partition
from homeport.placement.reasons import Closest, Refusal
from homeport.placement.request import Placement, PlacementRequest
from homeport.placement.strategies import LAST_CHOICE

PLANS_MAX: Final = 4096
PARTITIONS_MAX: Final = 256
BEST_FITS_MAX: Final = 64
SCAN_NODES_MAX: Final = 32
"""Up to this many nodes it is quicker to look at all of them, and no view takes memory."""


class Engine:
    """See the module."""

    def __init__(self, *, scan_nodes_max: int = SCAN_NODES_MAX) -> None:
        self.fleet = Fleet()
        self._scan_nodes_max = scan_nodes_max
        self._plans: dict[PlacementRequest, Plan] = {}
        self._partitions: dict[tuple[object, ...], Partition] = {}
        self._best_fits: dict[tuple[Partition, str, Demand | None], BestFit] = {}

    def place(self, request: PlacementRequest) -> Placement | Refusal:
        """Choose one instance for one task, or say of every instance why not."""
        plan = self._plans.get(request) or self.plan(request)
        node = plan.scan() if len(self.fleet.order) <= self._scan_nodes_max else plan.choose()
        if node is None:
            return refusal(self.fleet, plan.demand)
        return node.placement

    def plan(self, request: PlacementRequest) -> Plan:
        """The plan of a request; made when missing, and the oldest one dropped when there are too many."""
        plan = self._plans.get(request)
        if plan is None:
            if len(self._partitions) >= PARTITIONS_MAX or len(self._best_fits) >= BEST_FITS_MAX:
                self._drop_views()
            elif len(self._plans) >= PLANS_MAX:
                self._plans.pop(next(iter(self._plans))).close()
            plan = self._plans[request] = Plan(self, request)
        return plan

    def zones(self, request: PlacementRequest) -> list[str]:
        """The availability zones of the nodes that suit the request, whether they have room or not."""
        demand = self.plan(request).demand
        if len(self.fleet.order) <= self._scan_nodes_max:
            found = (node.attributes.get(strategies.ZONE_ATTRIBUTE) for node in self.fleet.order if demand.admits(node))
        else:
            partition = self.partition(demand, (strategies.ZONE_ATTRIBUTE,))
            partition.sync()
            found = (cell.value for cell in partition.cells)
        return sorted({zone for zone in found if zone})

    def partition(self, demand: Demand, attributes: tuple[str, ...]) -> Partition:
        """The partition for a static demand and spread attributes."""
        key = (demand.static_key, attributes)
        partition = self._partitions.get(key)
        if partition is None:
            self.fleet.recording = True
            partition = self._partitions[key] = Partition(self.fleet, demand.admits, attributes)
        return partition

    def best_fit(self, partition: Partition, resource: str, demand: Demand) -> BestFit:
        """The binpack order of a partition; a demand for more than cpu and memory gets its own."""
        own = demand if demand.special else None
        best_fit = self._best_fits.get((partition, resource, own))
        if best_fit is None:
            self.fleet.recording_moves = True
            best_fit = self._best_fits[partition, resource, own] = BestFit(self.fleet, partition, resource, own)
        return best_fit

    def forget_best_fit(self, best_fit: BestFit) -> None:
        """A demand's own binpack order goes with its plan; shared ones stay."""
        if best_fit.demand is not None:
            self._best_fits = {key: known for key, known in self._best_fits.items() if known is not best_fit}

    def _drop_views(self) -> None:
        """Too many partitions: forget them all, and the plans that refer to them; what is in use comes back at its next request."""
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
        self._partitions.clear()
        self._best_fits.clear()


class Plan:
    """How one request is placed. It refers to views of the fleet, which it makes when it first needs them."""

    __slots__ = (
        "_attributes", "_best_fit", "_counts", "_edited", "_engine", "_first_fit", "_fleet", "_hint", "_left", "_moved", "_partition", 
        "_rest", "_way", "demand", "group", "holding", "order",
    )  # fmt: skip

    def __init__(self, engine: Engine, request: PlacementRequest) -> None:
        self._engine = engine
        self._fleet = engine.fleet
        self.demand = Demand(request)
        self.order = strategies.criteria(request)
        self.group = engine.fleet.group(self.demand.group)
        self.group.plans += 1
        self.holding = Holding(request.cpu, request.memory_mib, request.gpus, self.demand.ports, self.demand.group, True)
        leading = [strategies.attribute_of(criterion) for criterion in self.order]
        count = next((at for at, name in enumerate(leading) if name is None), len(leading))
        self._attributes = tuple(name for name in leading[:count] if name is not None)
        self._rest = self.order[count:]
        self._way = self._choose_way()
        self._partition: Partition | None = None
        self._counts: dict[str, int] | None = None
        """The group's tasks by the value of the one attribute."""
        self._first_fit: FirstFit | None = None
        self._best_fit: BestFit | None = None
        self._hint: Node | None = None
        """The last answer of a binpack over the whole partition, what it had left then, and how far the histories were."""
        self._left = 0
        self._moved = 0
        self._edited = 0

    def close(self) -> None:
        """The plan is dropped: nothing refers to it any more."""
        self.group.plans -= 1
        if self._first_fit in self.group.watchers:
            self.group.watchers.remove(self._first_fit)
        if self._best_fit is not None:
            self._engine.forget_best_fit(self._best_fit)
        self._fleet.forget_group(self.group)

    def scan(self) -> Node | None:
        """Choose by looking at every node."""
        demand = self.demand
        nodes = [node for node in self._fleet.order if demand.fits(node) and demand.admits(node)]
        return strategies.choose_by_scan(nodes, self.order, fleet=self._fleet, group=self.group)

    def choose(self) -> Node | None:
        """Choose by the views of a large fleet."""
        partition = self._partition
        if partition is None:
            partition = self._partition = self._engine.partition(self.demand, self._attributes)
        partition.sync()
        return self._way(partition)

    def _choose_way(self) -> Callable[[Partition], Node | None]:
        criterion = self._rest[0] if self._rest else ""
        binpack = criterion in (strategies.CPU, strategies.MEMORY)
        if len(self._rest) > 1 or (self.demand.dynamic and binpack):
            return self._scan_cells
        if criterion == strategies.RANDOM:
            return self._ring
        return self._best if binpack else self._first

    def _scan_cells(self, partition: Partition) -> Node | None:
        """Look at every node of the cells with the fewest tasks; where none fits, of the next."""
        demand = self.demand
        cpu, memory = demand.cpu, demand.memory
        for cells in self._cells(partition):
            nodes = [node for cell in cells for node in cell.nodes if node.cpu >= cpu and node.memory >= memory]
            if demand.special:
                nodes = [node for node in nodes if demand.fits_special(node)]
            if nodes:
                return strategies.choose_by_scan(nodes, self._rest, fleet=self._fleet, group=self.group)
        return None

    def _fewest(self, partition: Partition) -> list[Cell]:
        """The cells with the fewest tasks of the plan's group; for the common spread over one attribute without sorting the others."""
        cells = partition.cells
        if not self._attributes:
            return cells
        if len(self._attributes) > 1:
            return self._cells(partition)[0]
        counts = self._counts
        if counts is None:
            counts = self._counts = self._fleet.buckets(self.group, self._attributes[0])
        fewest: list[Cell] = []
        low = LAST_CHOICE
        for cell in cells:
            value = cell.value
            number = LAST_CHOICE if value is None else counts.get(value, 0)
            if number < low:
                low = number
                fewest = [cell]
            elif number == low:
                fewest.append(cell)
        return fewest

    def _cells(self, partition: Partition) -> list[list[Cell]]:
        """The partition's cells in groups, the ones with the fewest tasks of the plan's group first."""
        if not self._attributes or not partition.cells:
            return [partition.cells]
        buckets = [self._fleet.buckets(self.group, name) for name in self._attributes]
        numbered: dict[tuple[int, ...], list[Cell]] = {}
        for cell in partition.cells:
            number = tuple([LAST_CHOICE if v is None else b.get(v, 0) for v, b in zip(cell.values, buckets, strict=True)])
            numbered.setdefault(number, []).append(cell)
        return [numbered[number] for number in sorted(numbered)]

    def _first(self, partition: Partition) -> Node | None:
        first_fit = self._first_fit
        if first_fit is None:
            first_fit = FirstFit(self._fleet, partition, self.demand, self.group, by_level=bool(self._rest))
            if not self.demand.dynamic:  # what depends on other groups' tasks is searched anew each time
                first_fit.watch()
                self._first_fit = first_fit
        first_fit.sync()
        found = first_fit.search_all(self._fewest(partition))
        if found is None and self._attributes:
            for cells in self._cells(partition)[1:]:
                found = first_fit.search_all(cells)
                if found is not None:
                    break
        return found

    def _best(self, partition: Partition) -> Node | None:
        hint, resource = self._hint, self._rest[0]
        if hint is not None and self._hint_holds(hint, resource):
            return hint
        best_fit = self._best_fit
        if best_fit is None:
            best_fit = self._best_fit = self._engine.best_fit(partition, resource, self.demand)
        best_fit.sync()
        self._hint = None
        for cells in self._cells(partition):
            answers = [answer for cell in cells if (answer := best_fit.search(cell, self.demand)) is not None]
            if answers:
                found = min(answers)[1] if len(answers) > 1 else answers[0][1]
                if not self._attributes:
                    self._hint, self._moved, self._edited = found, best_fit.position, self._fleet.edited.end
                    self._left = found.memory if resource == strategies.MEMORY else found.cpu
                return found
        return None

    def _hint_holds(self, hint: Node, resource: str) -> bool:
        """Whether the last answer is the answer again: it alone changed since, it has no more left than then, and it still fits."""
        moved = self._fleet.moved
        left = hint.memory if resource == strategies.MEMORY else hint.cpu
        if (
            moved.base + len(moved.nodes) != self._moved + 1
            or moved.nodes[-1] is not hint
            or left > self._left
            or self._fleet.edited.end != self._edited
            or not self.demand.fits(hint)
        ):
            return False
        self._moved += 1
        self._left = left
        return True

    def _ring(self, partition: Partition) -> Node | None:
        """The first node that fits from the group's turn on."""
        start = strategies.turn(self._fleet, self.group)
        fits = self.demand.fits
        for cells in self._cells(partition):
            found: list[Node] = []
            for cell in cells:
                at = bisect_left(cell.nodes, start, key=by_label)
                node = next((node for node in cell.nodes[at:] if fits(node)), None) or next((node for node in cell.nodes[:at] if fits(node)), None)
                if node is not None:
                    found.append(node)
            if found:
                return min(found, key=lambda node: (node.label - start) % (1 << LABEL_BITS))
        return None


def refusal(fleet: Fleet, demand: Demand) -> Refusal:
    """The answer when no node can take the task."""

    def candidates() -> list[Node]:
        return [node for node in fleet.order if node.record and node.record.status != instance_model.INACTIVE and demand.offers(node)]

    def find_reasons() -> tuple[tuple[str, str], ...]:
        return tuple((node.key, reason) for node in candidates() if (reason := next(demand.failures(node), None)) is not None)

    def find_closest() -> Closest:
        failed = [(not node.usable, list(demand.failures(node)), node) for node in candidates()]
        best = min(failed, key=lambda f: (f[0], len(f[1]), f[2].label), default=None)
        return Closest(best[2].id, best[1][0]) if best and best[1] else Closest("", "")

    return Refusal(find_reasons, find_closest)
