"""Placement strategies as criteria, and the plain way of choosing: look at every node.

Owns: `Criterion`, how a request's strategies become criteria, and `choose_by_scan`, which defines the right answer for every other way.
Never checks a requirement: it gets nodes that meet them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from homeport.placement.fleet import LABEL_BITS, Fleet, Group, Node, by_label
from homeport.placement.request import PlacementRequest

ZONE_ATTRIBUTE: Final = "ecs.availability-zone"

INSTANCE: Final = "instance"
CPU: Final = "cpu"
MEMORY: Final = "memory"
RANDOM: Final = "random"
_ATTRIBUTE: Final = "attribute:"

Criterion = str
"""INSTANCE, CPU, MEMORY, RANDOM, or `attribute:NAME`. Each keeps the nodes where its number is lowest."""

LAST_CHOICE: Final = 1 << 62
"""The number of a node that lacks the attribute it would be spread by (ecs-reference 3.7)."""


def criteria(request: PlacementRequest) -> tuple[Criterion, ...]:
    """The request's strategies in order, without repetitions; for a service without any, zone and then instance.

    A standalone task without strategies has no criterion: the lowest instance id that can take it does. After `random` nothing is
    left to decide, and a strategy that the API would have refused decides nothing.
    """
    if not request.strategies:
        return (_ATTRIBUTE + ZONE_ATTRIBUTE, INSTANCE) if request.service_key else ()
    found: list[Criterion] = []
    for strategy in request.strategies:
        criterion = _criterion(strategy.type, strategy.field)
        if criterion and criterion not in found:
            found.append(criterion)
        if criterion == RANDOM:
            break
    return tuple(found)


def _criterion(kind: str, field: str) -> Criterion:
    if kind == "random":
        return RANDOM
    if kind == "binpack":
        return {"cpu": CPU, "memory": MEMORY}.get(field.lower(), "")
    if kind == "spread":
        if field.lower() in ("instanceid", "host"):
            return INSTANCE
        return field if field.startswith(_ATTRIBUTE) else ""
    return ""


def attribute_of(criterion: Criterion) -> str | None:
    """The attribute's name of a spread over an attribute, else None."""
    return criterion.removeprefix(_ATTRIBUTE) if criterion.startswith(_ATTRIBUTE) else None


def turn(fleet: Fleet, group: Group) -> int:
    """The label at which the group's next `random` choice starts; it takes the first node from there on, round the ring of labels.

    Each node is as likely as another, and the start changes with the group's number of tasks, so that it needs no state of its own.
    """
    if not fleet.order:
        return 0
    digest = hashlib.blake2b(f"{group.name}/{group.total}".encode(), digest_size=8).digest()
    return fleet.order[int.from_bytes(digest, "big") % len(fleet.order)].label


def measure(criterion: Criterion, fleet: Fleet, group: Group) -> Callable[[Node], int]:
    """The number by which a criterion compares nodes."""
    if criterion == CPU:
        return lambda node: node.cpu
    if criterion == MEMORY:
        return lambda node: node.memory
    if criterion == INSTANCE:
        name = group.name
        return lambda node: node.groups.get(name, 0)
    if criterion == RANDOM:
        start = turn(fleet, group)
        return lambda node: (node.label - start) % (1 << LABEL_BITS)
    attribute = criterion.removeprefix(_ATTRIBUTE)
    counts = fleet.buckets(group, attribute)
    return lambda node: counts.get(node.attributes[attribute], 0) if attribute in node.attributes else LAST_CHOICE


def choose_by_scan(nodes: Sequence[Node], order: Sequence[Criterion], *, fleet: Fleet, group: Group) -> Node | None:
    """The node that is left when each criterion keeps its best equivalence class; the lowest id of those left. None for no nodes."""
    left = list(nodes)
    for criterion in order:
        if len(left) < 2:
            break
        number = measure(criterion, fleet, group)
        numbers = [number(node) for node in left]
        best = min(numbers)
        left = [node for node, value in zip(left, numbers, strict=True) if value == best]
    return min(left, key=by_label, default=None)
