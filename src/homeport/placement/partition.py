"""The nodes that a request may use at all, split into cells by the attributes it is spread over.

Owns: `Partition` and `Cell`, shared by every request with the same static demand and the same spread attributes.
Never looks at resources or tasks: only an edit of an instance's record changes a partition, and it catches up before it is used.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Final

from homeport.placement.fleet import Fleet, History, Node, by_label

REBUILD_SHARE: Final = 4
"""Above one edit for this many nodes, building anew is cheaper than following."""


class Cell:
    """Nodes with the same values of the partition's attributes, in the order of their ids."""

    __slots__ = ("nodes", "value", "values")

    def __init__(self, values: tuple[str | None, ...]) -> None:
        self.values = values
        """Value of each of the partition's attributes; None where the nodes lack it."""
        self.value = values[0] if values else None
        self.nodes: list[Node] = []


class Partition:
    """See the module. A view of a partition follows `changed`, and starts anew when `built` grew."""

    __slots__ = ("_admits", "_attributes", "_fleet", "_position", "built", "cell_of", "cells", "changed")

    def __init__(self, fleet: Fleet, admits: Callable[[Node], bool], attributes: tuple[str, ...]) -> None:
        self._fleet = fleet
        self._admits = admits
        self._attributes = attributes
        self._position = -1
        self.built = 0
        """How often all cells were made anew."""
        self.changed = History()
        """Nodes that came, went or changed cells since."""
        self.cells: list[Cell] = []
        self.cell_of: dict[Node, Cell] = {}

    def sync(self) -> None:
        """Catch up with the edits of instances. Cheap when there were none."""
        edited = self._fleet.edited
        end = edited.base + len(edited.nodes)
        if end == self._position:
            return
        nodes = edited.since(self._position)
        if nodes is None or len(nodes) * REBUILD_SHARE > len(self._fleet.order) + REBUILD_SHARE:
            self._build()
        else:
            for node in nodes:
                self._follow(node)
        self._position = end

    def _build(self) -> None:
        self.built += 1
        self.cell_of = {}
        found: dict[tuple[str | None, ...], Cell] = {}
        for node in self._fleet.order:
            if self._admits(node):
                values = self._values(node)
                cell = found.get(values)
                if cell is None:
                    cell = found[values] = Cell(values)
                cell.nodes.append(node)
                self.cell_of[node] = cell
        self.cells = list(found.values())

    def _follow(self, node: Node) -> None:
        old = self.cell_of.get(node)
        values = self._values(node) if self._fleet.nodes.get(node.key) is node and self._admits(node) else None
        if (old.values if old is not None else None) == values:
            return
        self.changed.add(node)
        if old is not None:
            del self.cell_of[node]
            del old.nodes[bisect_left(old.nodes, node.label, key=by_label)]
            if not old.nodes:
                self.cells.remove(old)
        if values is not None:
            cell = next((cell for cell in self.cells if cell.values == values), None)
            if cell is None:
                cell = Cell(values)
                self.cells.append(cell)
            insort(cell.nodes, node, key=by_label)
            self.cell_of[node] = cell

    def _values(self, node: Node) -> tuple[str | None, ...]:
        get = node.attributes.get
        return tuple([get(name) for name in self._attributes])
