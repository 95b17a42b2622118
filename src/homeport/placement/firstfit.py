"""The first node that fits, by fewest tasks of the group and then by id: spread over instances without looking at every node.

Owns: `FirstFit`, one for a plan. Per cell a cursor runs over the nodes that have no task of the group: everything before it either has
one or did not fit, and what became possible again since (found in the fleet's `freed` history) waits in a heap. Nodes with tasks of the
group wait in a heap for each number of tasks, built only when no node without one is left.
Never looks at the nodes that stay as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

from homeport.placement.constraints import Demand
from homeport.placement.fleet import Fleet, Group, GroupWatcher, Node, by_label
from homeport.placement.partition import Cell, Partition

_END: Final = 1 << 256
"""Above every label."""
_HEAP_SLACK: Final = 64


class Front:
    """One cell: the cursor over the nodes at level 0 and the heaps of labels (level: how many tasks of the group a node has)."""

    __slots__ = ("at", "cell", "cursor", "levels", "returned")

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.at = 0
        self.cursor = -1
        """Label of the node at `at`: those below it are passed. -1 before the start."""
        self.returned: list[int] = []
        """Labels below the cursor that may fit at level 0 again."""
        self.levels: dict[int, list[int]] | None = None
        """Level → labels, for levels above 0; entries may be out of date, none is missing that fits."""

    def realign(self) -> None:
        """Nodes came or went: the cursor stays at its label. Those that came before it are brought to `FirstFit` by the fleet's history."""
        self.at = 0 if self.cursor < 0 else bisect_left(self.cell.nodes, self.cursor, key=by_label)


class FirstFit(GroupWatcher):
    """See the module. `by_level` False: the tasks of the group do not matter, every node is at level 0."""

    __slots__ = (
        "_built",
        "_by_level",
        "_changed",
        "_demand",
        "_fleet",
        "_fronts",
        "_group",
        "_levelled",
        "_only_empty",
        "_partition",
        "_position",
        "_watched",
    )

    def __init__(self, fleet: Fleet, partition: Partition, demand: Demand, group: Group, *, by_level: bool) -> None:
        self._fleet = fleet
        self._partition = partition
        self._demand = demand
        self._group = group.name
        self._watched = group
        self._by_level = by_level
        self._only_empty = demand.distinct
        self._levelled = False
        """Whether any front has levels."""
        self._fronts: dict[Cell, Front] = {}
        self._position = 0
        self._changed = 0
        self._built = -1

    def watch(self) -> None:
        """Hear of the group from now on: for a view that lasts. One that does not is right for searches of this moment only."""
        if self._by_level:
            self._watched.watchers.append(self)

    def sync(self) -> None:
        """Catch up with what was freed and with the partition, which must be up to date itself."""
        freed, partition = self._fleet.freed, self._partition
        end, changes = freed.base + len(freed.nodes), partition.changed.end
        if end == self._position and changes == self._changed and self._built == partition.built:
            return
        nodes = freed.since(self._position)
        if nodes is None or self._built != partition.built or len(nodes) > len(partition.cell_of) + _HEAP_SLACK:
            self._built = partition.built
            self._fronts = {}
            self._levelled = False
        else:
            if changes != self._changed:
                for front in self._fronts.values():
                    front.realign()
            for node in nodes:  # an edited node is among them
                self._consider(node)
        self._position, self._changed = end, changes

    def search_all(self, cells: Iterable[Cell]) -> Node | None:
        """The node with the fewest tasks of the group, lowest id among equals, that fits in any of the cells; None when none does."""
        best, found = 0, None
        for cell in cells:
            answer = self.search(cell)
            if answer is not None:
                level, node = answer
                if found is None or level < best or (level == best and node.label < found.label):
                    best, found = level, node
        return found

    def search(self, cell: Cell) -> tuple[int, Node] | None:
        """(level, node) of the fitting node with the fewest tasks of the group, lowest id among equals; None when none fits."""
        front = self._fronts.get(cell)
        if front is None:
            front = self._fronts[cell] = Front(cell)
        demand, group, by_level = self._demand, self._group, self._by_level
        returned = front.returned
        while returned:
            member = self._member(returned[0], cell)
            if member is not None and (not by_level or group not in member.groups) and demand.fits(member):
                return 0, member
            heappop(returned)
        cpu, memory, special = demand.cpu, demand.memory, demand.special
        nodes = cell.nodes
        at, end = front.at, len(nodes)
        while at < end:
            node = nodes[at]
            if (
                node.cpu >= cpu
                and node.memory >= memory
                and not (by_level and group in node.groups)
                and not (special and not demand.fits_special(node))
            ):
                front.at, front.cursor = at, node.label
                return 0, node
            at += 1
        front.at, front.cursor = at, _END
        if not by_level or self._only_empty:
            return None
        return self._search_levels(front)

    def _search_levels(self, front: Front) -> tuple[int, Node] | None:
        levels = front.levels
        if levels is None:
            levels = front.levels = {}
            self._levelled = True
            for node in front.cell.nodes:
                level = node.groups.get(self._group)
                if level:
                    levels.setdefault(level, []).append(node.label)
        while levels:
            level = min(levels)
            labels = levels[level]
            while labels:
                member = self._member(labels[0], front.cell)
                if member is not None and member.groups.get(self._group) == level and self._demand.fits(member):
                    return level, member
                heappop(labels)
            del levels[level]
        return None

    def _member(self, label: int, cell: Cell) -> Node | None:
        """The node with that label, if it is still in the cell."""
        node = self._fleet.labels.get(label)
        return node if node is not None and self._partition.cell_of.get(node) is cell else None

    def counted(self, node: Node, before: int, after: int) -> None:
        """GroupWatcher: the node is at another level now."""
        if after and not self._levelled:
            return
        cell = self._partition.cell_of.get(node)
        front = self._fronts.get(cell) if cell is not None else None
        if front is not None and (after == 0 or front.levels is not None):
            self._return(front, node, after)

    def _consider(self, node: Node) -> None:
        """The node may fit where it did not."""
        cell = self._partition.cell_of.get(node)
        front = self._fronts.get(cell) if cell is not None else None
        if front is not None and self._demand.fits(node):
            self._return(front, node, node.groups.get(self._group, 0) if self._by_level else 0)

    def _return(self, front: Front, node: Node, level: int) -> None:
        """Make sure that a search at `level` meets the node."""
        if level == 0:
            if node.label >= front.cursor:
                return
            waiting = front.returned
        elif front.levels is None:
            return
        else:
            waiting = front.levels.setdefault(level, [])
        heappush(waiting, node.label)
        if len(waiting) > 2 * len(front.cell.nodes) + _HEAP_SLACK:
            waiting[:] = set(waiting)
            heapify(waiting)
