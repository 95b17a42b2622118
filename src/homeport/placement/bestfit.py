"""Which node has the least left of one resource and still fits: binpack without looking at every node.

Owns: `BestFit`, one for a partition and a resource. Per cell, nodes are kept in classes by the magnitude (bit length) of the *other*
resource, each class sorted by what is left of this one: all nodes of a higher class have enough of the other resource, so a search
is one bisection a class. Never trusts its order across a change: it replays the fleet's moves before it answers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

from homeport.placement import strategies
from homeport.placement.constraints import Demand
from homeport.placement.fleet import LABEL_BITS, Fleet, Node
from homeport.placement.partition import Cell, Partition
from homeport.placement.strategies import Criterion

_LABEL_MASK: Final = (1 << LABEL_BITS) - 1
_NEVER: Final = 1 << 256
"""Above every key."""

_NOWHERE: Final[tuple[list[int], int]] = ([], -1)

Classes = list[list[int]]
"""Index: bit length of the other resource. Keys: (what is left) << LABEL_BITS | label, ascending."""


class BestFit:
    """See the module. With `demand` it is that demand's own, and sets aside nodes that do not fit it until they change."""

    __slots__ = ("_built", "_by_memory", "_changed", "_classes", "_fleet", "_partition", "_places", "demand", "position")

    def __init__(self, fleet: Fleet, partition: Partition, resource: Criterion, demand: Demand | None = None) -> None:
        self._fleet = fleet
        self._partition = partition
        self._by_memory = resource == strategies.MEMORY
        self.demand = demand
        self.position = 0
        """How far it has followed `Fleet.moved`."""
        self._changed = 0
        self._built = -1
        self._classes: dict[Cell, Classes] = {}
        self._places: dict[Node, tuple[list[int], int]] = {}
        """Where a node is: its class and its key in it."""

    def sync(self) -> None:
        """Catch up with what was held and freed. The partition must be up to date."""
        moved, changed = self._fleet.moved, self._partition.changed
        end, changes = moved.base + len(moved.nodes), changed.end
        nodes = moved.since(self.position)
        if changes != self._changed and nodes is not None:
            came_or_went = changed.since(self._changed)
            nodes = None if came_or_went is None else nodes + came_or_went
        if nodes is None or self._built != self._partition.built or len(nodes) > len(self._partition.cell_of) + 64:
            self._build()
        elif len(nodes) == 1:
            self._move(nodes[0])
        else:
            for node in set(nodes):
                self._move(node)
        self.position = end
        self._changed = changes

    def search(self, cell: Cell, demand: Demand) -> tuple[int, Node] | None:
        """The node of the cell with the least left that fits, lowest id among equals, after its key; None when none fits."""
        if self._by_memory:
            amount, other = demand.memory, demand.cpu
        else:
            amount, other = demand.cpu, demand.memory
        floor = amount << LABEL_BITS
        best, found = _NEVER, None
        labels = self._fleet.labels
        for keys in self._classes[cell][other.bit_length() :]:
            if keys and keys[-1] >= floor:
                at = bisect_left(keys, floor)
                key = keys[at]
                while key < best:
                    node = labels[key & _LABEL_MASK]
                    if demand.fits(node):
                        best, found = key, node
                        break
                    if self.demand is not None:
                        # Of no use before it changes, and a change brings it back (`_move`).
                        del keys[at], self._places[node]
                    else:
                        at += 1
                    if at == len(keys):
                        break
                    key = keys[at]
        return None if found is None else (best, found)

    def _build(self) -> None:
        self._built = self._partition.built
        self._classes = {cell: [] for cell in self._partition.cells}
        self._places = {}
        for node, cell in self._partition.cell_of.items():
            keys, key = self._place(node, cell)
            keys.append(key)
            self._places[node] = (keys, key)
        for classes in self._classes.values():
            for keys in classes:
                keys.sort()

    def _move(self, node: Node) -> None:
        """Put the node where it belongs now, if anywhere."""
        old, old_key = self._places.get(node, _NOWHERE)
        cell = self._partition.cell_of.get(node)
        keys, key = self._place(node, cell) if cell is not None else _NOWHERE
        if key == old_key and keys is old:
            return
        if old_key >= 0 or old is not _NOWHERE[0]:
            del old[bisect_left(old, old_key)]
            del self._places[node]
        if cell is not None:
            insort(keys, key)
            self._places[node] = (keys, key)

    def _place(self, node: Node, cell: Cell) -> tuple[list[int], int]:
        amount, other = (node.memory, node.cpu) if self._by_memory else (node.cpu, node.memory)
        magnitude = other.bit_length() if other > 0 else 0
        classes = self._classes.get(cell)
        if classes is None:
            classes = self._classes[cell] = []
        while len(classes) <= magnitude:
            classes.append([])
        # A node that is over-committed cannot take anything, but an ordered key it must have.
        return classes[magnitude], (amount << LABEL_BITS) | node.label
