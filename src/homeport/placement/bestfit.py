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

Classes = list[list[int]]
"""Index: bit length of the other resource. Keys: (what is left) << LABEL_BITS | label, ascending."""


class BestFit:
    """See the module."""

    __slots__ = ("_by_memory", "_classes", "_fleet", "_partition", "_places", "_version", "position")

    def __init__(self, fleet: Fleet, partition: Partition, resource: Criterion) -> None:
        self._fleet = fleet
        self._partition = partition
        self._by_memory = resource == strategies.MEMORY
        self.position = -1
        """How far it has followed `Fleet.moved`."""
        self._version = -1
        self._classes: dict[Cell, Classes] = {}
        self._places: dict[Node, tuple[list[int], int]] = {}
        """Where a node is: its class and its key in it."""

    def sync(self) -> None:
        """Catch up with what was held and freed. The partition must be up to date."""
        moved = self._fleet.moved
        end = moved.base + len(moved.nodes)
        nodes = moved.since(self.position) if self._version == self._partition.version else None
        if nodes is None or len(nodes) > len(self._places) + 64:
            self._build()
        elif len(nodes) == 1:
            self._move(nodes[0])
        else:
            for node in set(nodes):
                self._move(node)
        self.position = end

    def search(self, cell: Cell, demand: Demand) -> tuple[int, Node] | None:
        """The node of the cell with the least left that fits, lowest id among equals, after its key; None when none fits."""
        if self._by_memory:
            amount, other = demand.memory, demand.cpu
        else:
            amount, other = demand.cpu, demand.memory
        floor = amount << LABEL_BITS
        best, found = _NEVER, None
        magnitude = other.bit_length()
        labels = self._fleet.labels
        for keys in self._classes[cell][magnitude:]:
            if keys and keys[-1] >= floor:
                at = bisect_left(keys, floor)
                key = keys[at]
                while key < best:
                    node = labels[key & _LABEL_MASK]
                    if demand.fits(node):
                        best, found = key, node
                        break
                    at += 1
                    if at == len(keys):
                        break
                    key = keys[at]
        return None if found is None else (best, found)

    def _build(self) -> None:
        self._version = self._partition.version
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
        place = self._places.get(node)
        if place is None:
            return
        old, old_key = place
        keys, key = self._place(node, self._partition.cell_of[node])
        if key != old_key or keys is not old:
            del old[bisect_left(old, old_key)]
            insort(keys, key)
            self._places[node] = (keys, key)

    def _place(self, node: Node, cell: Cell) -> tuple[list[int], int]:
        amount, other = (node.memory, node.cpu) if self._by_memory else (node.cpu, node.memory)
        magnitude = other.bit_length() if other > 0 else 0
        classes = self._classes[cell]
        while len(classes) <= magnitude:
            classes.append([])
        # A node that is over-committed cannot take anything, but an ordered key it must have.
        return classes[magnitude], (amount << LABEL_BITS) | node.label
