"""What one request demands of a node, compiled once: `Demand`.

Owns: the order of the requirements (ecs-reference 3.7: eligibility, resources, attributes, constraints) and their answers.
Never ranks nodes (`strategies.py` does) and never looks at more than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from homeport.model.ecs import container_instance as instance_model
from homeport.placement import query, reasons
from homeport.placement.fleet import WHOLE, Node, port_number
from homeport.placement.reasons import Obstacle
from homeport.placement.request import PlacementRequest

DISTINCT_INSTANCE: Final = "distinctInstance"
MEMBER_OF: Final = "memberOf"


class Demand:
    """The requirements of a request.

    An expression that does not parse is met by no instance: the API refuses such a one at the door, and a scheduler must not fail on it.
    """

    __slots__ = (
        "cpu",
        "daemon",
        "distinct",
        "dynamic",
        "gpus",
        "group",
        "launch_type",
        "memory",
        "ports",
        "provider",
        "requires",
        "special",
        "static",
        "static_key",
    )

    def __init__(self, request: PlacementRequest) -> None:
        self.cpu = request.cpu
        self.memory = request.memory_mib
        self.gpus = request.gpus
        self.ports = tuple(port_number(port, protocol) for port, protocol in request.host_ports)
        self.daemon = request.daemon
        self.launch_type = request.launch_type
        self.provider = request.capacity_provider
        self.requires = frozenset(request.required_attributes)
        self.group = request.task_group
        self.distinct = any(constraint.type == DISTINCT_INSTANCE for constraint in request.constraints)
        expressions = tuple(dict.fromkeys(c.expression for c in request.constraints if c.type == MEMBER_OF))
        queries = [_compile(expression) for expression in expressions]
        self.static = tuple(q for q in queries if not q.dynamic)
        """memberOf that only an edit of the instance's record can change."""
        self.dynamic = tuple(q for q in queries if q.dynamic)
        """memberOf that depends on the tasks of the node."""
        self.static_key = (self.launch_type, self.provider, self.requires, tuple(q.text for q in self.static))
        """What `admits` depends on; demands with equal keys share their partitions."""
        self.special = bool(self.gpus or self.ports or self.distinct or self.dynamic)
        """Whether `fits` must look at more than cpu and memory."""

    def admits(self, node: Node) -> bool:
        """Eligible, with the required attributes and the static memberOf: all that tasks coming and going leave as it is."""
        return node.usable and self.matches(node)

    def matches(self, node: Node) -> bool:
        """`admits` whether the node is usable at present or not."""
        if node.launch_type != self.launch_type or not self.requires <= node.tokens or not self.offers(node):
            return False
        return all(query.matches(node) for query in self.static)

    def offers(self, node: Node) -> bool:
        """Whether the node belongs to the capacity provider that is asked for, if one is."""
        return not self.provider or node.attributes.get(instance_model.CAPACITY_PROVIDER_ATTRIBUTE) == self.provider

    def fits(self, node: Node) -> bool:
        """Resources and the constraints that depend on the node's tasks."""
        return node.cpu >= self.cpu and node.memory >= self.memory and (not self.special or self.fits_special(node))

    def fits_special(self, node: Node) -> bool:
        """`fits` without cpu and memory."""
        return (
            (not self.gpus or node.gpus >= self.gpus)
            and (not self.ports or node.ports.keys().isdisjoint(self.ports))
            and (not self.distinct or self.group not in node.groups)
            and all(query.matches(node) for query in self.dynamic)
        )

    def failures(self, node: Node) -> Iterator[str]:
        """The reason of every requirement that the node fails, in the order in which they are checked."""
        record = node.record
        if record is None or record.status == instance_model.INACTIVE:
            yield reasons.INACTIVE
        elif record.status != instance_model.ACTIVE:
            yield record.status
        if record is not None and not record.agent_connected:
            yield reasons.AGENT
        if not self.offers(node):
            yield reasons.CAPACITY_PROVIDER
        if not self.daemon and node.wholes:
            yield reasons.DAEMON
        yield from self._short(node)
        if node.launch_type != self.launch_type or not self.requires <= node.tokens:
            yield reasons.ATTRIBUTE
        if not all(query.matches(node) for query in self.static + self.dynamic):
            yield reasons.MEMBER_OF
        if self.distinct and self.group in node.groups:
            yield reasons.DISTINCT_INSTANCE

    def obstacles(self, node: Node) -> Iterator[Obstacle]:
        """`failures` with what is needed, what is there, and what exactly is missing."""
        counted = {
            reasons.CPU: (self.cpu, node.cpu + node.wholes * WHOLE.cpu),
            reasons.MEMORY: (self.memory, node.memory + node.wholes * WHOLE.memory),
            reasons.GPU: (self.gpus, node.gpus),
        }
        for reason in self.failures(node):
            needed, available = counted.get(reason, (0, 0))
            yield Obstacle(reason, needed, available, self._detail(reason, node))

    def _detail(self, reason: str, node: Node) -> str:
        if reason == reasons.PORTS:
            taken = (port for port in self.ports if port in node.ports)
            return ", ".join(f"{port // 2}/{'udp' if port % 2 else 'tcp'}" for port in taken)
        if reason == reasons.ATTRIBUTE:
            launch_type = () if node.launch_type == self.launch_type else (f"launch type {self.launch_type}",)
            return ", ".join((*launch_type, *sorted(self.requires - node.tokens)))
        if reason == reasons.MEMBER_OF:
            return " and ".join(query.text for query in self.static + self.dynamic if not query.matches(node))
        return ""

    def _short(self, node: Node) -> Iterator[str]:
        """The resources that are missing. What the node keeps for daemons counts as free for a daemon: which of two comes first is no matter.
        A node that is whole for a daemon is short of that (`reasons.DAEMON`), and of what it would lack without it."""
        kept = [share for share in node.held.values() if self.daemon or share is WHOLE] if node.held else []
        if node.cpu + sum(share.cpu for share in kept) < self.cpu:
            yield reasons.CPU
        if node.memory + sum(share.memory for share in kept) < self.memory:
            yield reasons.MEMORY
        if any(node.ports.get(port, 0) > sum(port in share.ports for share in kept) for port in self.ports):
            yield reasons.PORTS
        if self.gpus and node.gpus + sum(share.gpus for share in kept) < self.gpus:
            yield reasons.GPU


def _compile(expression: str) -> query.Query:
    try:
        return query.parse(expression)
    except query.QueryError:
        return query.Query(expression, lambda subject: False, False)
