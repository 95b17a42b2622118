"""The instances of one cluster with what their tasks hold: the books that every placement reads.

Owns: `Node`, `Group`, `Fleet` and their arithmetic. Everything here is a function of the records alone, so that applying a change
backwards restores it exactly. Never chooses an instance and never holds a view that could be rebuilt (`partition.py` does).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, Protocol

import msgspec

from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.placement.request import Placement

LABEL_BITS: Final = 128
_LABEL_BYTES: Final = LABEL_BITS // 8
HISTORY_MAX: Final = 65_536
"""Entries that a history keeps; a view that fell further behind is built anew."""

by_label = attrgetter("label")


def label_of(instance_id: str) -> int:
    """A number below 2**LABEL_BITS that orders as instance ids do; 32 hexadecimal digits are the number itself."""
    if len(instance_id) == 2 * _LABEL_BYTES:
        try:
            return int(instance_id, 16)
        except ValueError:
            pass
    raw = instance_id.encode()
    if len(raw) > _LABEL_BYTES:
        raw = hashlib.blake2b(raw, digest_size=_LABEL_BYTES).digest()
    return int.from_bytes(raw.ljust(_LABEL_BYTES, b"\0"), "big")


def port_number(port: int, protocol: str) -> int:
    """A port and its protocol as one number."""
    return port * 2 + (protocol == "udp")


def _same_for_placement(one: ContainerInstance, other: ContainerInstance) -> bool:
    """Whether two forms of a record differ only in what no requirement and no query asks for, as with sessions and health reports."""
    return (
        one.status == other.status
        and one.agent_connected == other.agent_connected
        and one.attributes == other.attributes
        and one.cpu == other.cpu
        and one.memory_mib == other.memory_mib
        and one.gpu_ids == other.gpu_ids
        and one.reserved_tcp_ports == other.reserved_tcp_ports
        and one.reserved_udp_ports == other.reserved_udp_ports
        and one.agent_version == other.agent_version
        and one.ec2_instance_id == other.ec2_instance_id
        and one.registered_at == other.registered_at
    )


class Node:
    """One instance. `cpu`, `memory` and `gpus` are what is free; they go below zero where an instance shrank under its tasks.

    It exists while the instance's record or a task on it does; `record` is None for tasks whose instance is not (yet) there.
    """

    __slots__ = (
        "attributes", "cpu", "gpus", "groups", "held", "id", "key", "label", "launch_type", "placement",
        "memory", "ports", "ready", "record", "running", "tasks", "tokens", "usable",
    )  # fmt: skip

    def __init__(self, key: str) -> None:
        self.key = key
        self.id = key.rsplit("/", 1)[-1]
        self.label = label_of(self.id)
        self.placement = Placement(key, self.id)
        """The answer that names this node."""
        self.record: ContainerInstance | None = None
        self.usable = False
        """ACTIVE with a connected agent."""
        self.launch_type = ""
        self.cpu = 0
        self.memory = 0
        self.gpus = 0
        self.ports: dict[int, int] = {}
        """port_number → holders, the agent's reserved ports included."""
        self.tasks = 0
        """Tasks that hold resources: last status not STOPPED."""
        self.running = 0
        """Those of them whose desired status is RUNNING."""
        self.groups: dict[str, int] = {}
        """Group → those of `running` in it."""
        self.held: dict[str, Holding] = {}
        """Service key, or name of a daemon's keeper → what is kept free here for its task; it is not in `cpu`, `memory`, `gpus`, and is in
        `ports`."""
        self.ready: dict[str, int] = {}
        """Group of a daemon → its tasks here that are RUNNING and wanted so."""
        self.attributes: dict[str, str] = {}
        self.tokens: frozenset[str] = frozenset()
        """`name` and `name=value` of every attribute."""

    @property
    def wholes(self) -> int:
        """How many critical daemons have the node for themselves, since they do not run on it yet."""
        return sum(1 for share in self.held.values() if share is WHOLE) if self.held else 0

    @property
    def agent_connected(self) -> bool:
        """For query.Subject."""
        return self.record is not None and self.record.agent_connected

    @property
    def agent_version(self) -> str:
        """For query.Subject."""
        return self.record.agent_version if self.record else ""

    @property
    def ec2_instance_id(self) -> str:
        """For query.Subject."""
        return self.record.ec2_instance_id if self.record else ""

    @property
    def registered_at(self) -> float:
        """For query.Subject."""
        return self.record.registered_at if self.record else 0.0

    def follow(self, record: ContainerInstance | None) -> None:
        """Take over a new form of the instance's record; what tasks hold stays."""
        if self.record is not None:
            self._register(self.record, -1)
        self.record = record
        if record is None:
            self.usable, self.launch_type, self.attributes, self.tokens = False, "", {}, frozenset()
            return
        self._register(record, 1)
        self.usable = record.status == instance_model.ACTIVE and record.agent_connected
        self.launch_type = record.launch_type
        self.attributes = {attribute.name: attribute.value for attribute in record.attributes}
        self.tokens = frozenset(self.attributes) | {f"{name}={value}" for name, value in self.attributes.items()}

    def _register(self, record: ContainerInstance, sign: int) -> None:
        self.cpu += sign * record.cpu
        self.memory += sign * record.memory_mib
        self.gpus += sign * len(record.gpu_ids)
        self.hold_ports([port_number(port, "tcp") for port in record.reserved_tcp_ports], sign)
        self.hold_ports([port_number(port, "udp") for port in record.reserved_udp_ports], sign)

    def hold_ports(self, ports: Iterable[int], sign: int) -> None:
        """Count one holder more (`sign` 1) or fewer (-1) for each port."""
        for port in ports:
            holders = self.ports.get(port, 0) + sign
            if holders:
                self.ports[port] = holders
            else:
                self.ports.pop(port, None)

    def holdings(self) -> tuple[object, ...]:
        """All that placement knows of the node, to compare two fleets."""
        return (self.record, self.cpu, self.memory, self.gpus, dict(self.ports), self.tasks, self.running, dict(self.groups))


class History:
    """The nodes that something happened to, in order, for views that catch up before they are used. Old entries are dropped."""

    __slots__ = ("base", "nodes")

    def __init__(self) -> None:
        self.base = 0
        """Position of nodes[0]."""
        self.nodes: list[Node] = []

    @property
    def end(self) -> int:
        """The position after the newest entry."""
        return self.base + len(self.nodes)

    def add(self, node: Node) -> None:
        """Append an entry."""
        if len(self.nodes) >= HISTORY_MAX:
            self.base += len(self.nodes)
            self.nodes = []
        self.nodes.append(node)

    def since(self, position: int) -> list[Node] | None:
        """The entries from `position` on, or None when some of them were dropped."""
        return None if position < self.base else self.nodes[position - self.base :]


class Holding(msgspec.Struct, frozen=True, gc=False):
    """What one task holds on its node until it is STOPPED."""

    cpu: int
    memory: int
    gpus: int
    ports: tuple[int, ...]
    """By port_number."""
    group: str
    wanted: bool
    """Desired status RUNNING: it counts in its group."""


WHOLE: Final = Holding(1 << 40, 1 << 40, 0, (), "", False)
"""All of a node, whatever its size."""


class Group:
    """The tasks of one task group in one cluster whose desired status is RUNNING."""

    __slots__ = ("buckets", "name", "plans", "total", "watchers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        self.buckets: dict[str, dict[str, int]] = {}
        """Attribute name → value → tasks on instances with that value; only for attributes that were asked for."""
        self.watchers: list[GroupWatcher] = []
        self.plans = 0
        """Plans that refer to this object, which therefore must stay the group's one."""


class GroupWatcher:
    """A view that must hear at once when a node's count of the group's tasks changed."""

    __slots__ = ()

    def counted(self, node: Node, before: int, after: int) -> None:
        """`node` went from `before` to `after` tasks of the group."""
        raise NotImplementedError  # an interface: each view says what the count means to it


class Keeper(Protocol):
    """A DAEMON service or a daemon (`daemons.py`)."""

    @property
    def group(self) -> str:
        """The group of its tasks."""
        ...

    @property
    def holding(self) -> Holding:
        """What is kept free for its task."""
        ...

    def keeps(self, node: Node) -> bool:
        """Whether the node has to keep it."""
        ...


class Fleet:
    """The nodes of one cluster by key and in the order of their ids, and the cluster's groups."""

    __slots__ = ("daemons", "edited", "freed", "groups", "labels", "moved", "nodes", "order", "recording", "recording_moves")

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.order: list[Node] = []
        self.labels: dict[int, Node] = {}
        self.groups: dict[str, Group] = {}
        self.daemons: dict[str, Keeper] = {}
        """Service key → DAEMON service, and name → what a daemon keeps; `keep` and `keep_no_more` write it."""
        self.recording = False
        """Whether any view reads `edited` and `freed`; small fleets need none."""
        self.recording_moves = False
        """Whether any view reads `moved`."""
        self.edited = History()
        """Nodes whose record changed, appeared or went."""
        self.freed = History()
        """Nodes that may take now what they could not before: something was released, or the record changed."""
        self.moved = History()
        """Nodes whose free cpu or memory changed either way."""

    def node(self, key: str) -> Node:
        """The node of an instance key; made when missing."""
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = Node(key)
            insort(self.order, node, key=by_label)
            self.labels[node.label] = node
        return node

    def drop_if_empty(self, node: Node) -> None:
        """Forget a node that has neither record nor tasks."""
        if node.record is None and not node.tasks:
            del self.nodes[node.key]
            del self.labels[node.label]
            del self.order[bisect_left(self.order, node.label, key=by_label)]

    def group(self, name: str) -> Group:
        """The group of that name; made when missing."""
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group(name)
        return group

    def forget_group(self, group: Group) -> None:
        """Forget a group that has neither tasks nor plans."""
        if not group.total and not group.plans:
            self.groups.pop(group.name, None)

    def buckets(self, group: Group, attribute: str) -> dict[str, int]:
        """Tasks of the group by the value of an attribute; counted at the first question and kept from then on."""
        counts = group.buckets.get(attribute)
        if counts is None:
            counts = group.buckets[attribute] = {}
            if group.total:
                for node in self.order:
                    here = node.groups.get(group.name, 0)
                    value = node.attributes.get(attribute)
                    if here and value is not None:
                        counts[value] = counts.get(value, 0) + here
        return counts

    def edit(self, key: str, record: ContainerInstance | None) -> None:
        """The instance's record is now `record` (None: deleted)."""
        node = self.node(key)
        if node.record is not None and record is not None and _same_for_placement(node.record, record):
            node.record = record
            return
        old = node.attributes
        node.follow(record)
        if node.attributes != old:
            self._rebucket(node, old)
        for service_key in self.daemons:
            self._keep(node, service_key)
        if self.recording:
            self.edited.add(node)
            self.freed.add(node)
        if self.recording_moves:
            self.moved.add(node)
        self.drop_if_empty(node)

    def _rebucket(self, node: Node, old: dict[str, str]) -> None:
        """The node's attributes changed: its tasks move to other buckets."""
        for name, here in node.groups.items():
            for attribute, counts in self.groups[name].buckets.items():
                before, after = old.get(attribute), node.attributes.get(attribute)
                if before is not None:
                    counts[before] -= here
                if after is not None:
                    counts[after] = counts.get(after, 0) + here

    def keep(self, key: str, daemon: Keeper) -> None:
        """From now on the nodes keep the share of the DAEMON service `key` where it has no task."""
        self.daemons[key] = daemon
        for node in self.order:
            self._keep(node, key)

    def keep_no_more(self, key: str) -> None:
        """The service `key` is gone, or about to come back with another share."""
        if self.daemons.pop(key, None) is not None:
            for node in self.order:
                self._keep(node, key)

    def _keep(self, node: Node, key: str) -> None:
        daemon, held = self.daemons.get(key), node.held.get(key)
        keeps = daemon is not None and daemon.keeps(node)
        if daemon is not None and keeps and held is None:
            node.held[key] = daemon.holding
            self._take(node, daemon.holding, 1)
        elif held is not None and not keeps:
            del node.held[key]
            self._take(node, held, -1)

    def run(self, node: Node, name: str, sign: int) -> None:
        """One task of the daemon with the group `name` more (`sign` 1) or fewer (-1) is RUNNING on the node and wanted so."""
        before = node.ready.get(name, 0)
        if before + sign:
            node.ready[name] = before + sign
        else:
            del node.ready[name]
        if not (before and before + sign):
            self._keep_of(node, name)

    def _keep_of(self, node: Node, name: str) -> None:
        """Look again whether the node keeps what the daemons with the group `name` want kept."""
        for key, daemon in self.daemons.items():
            if daemon.group == name:
                self._keep(node, key)

    def _take(self, node: Node, share: Holding, sign: int) -> None:
        node.cpu -= sign * share.cpu
        node.memory -= sign * share.memory
        node.gpus -= sign * share.gpus
        node.hold_ports(share.ports, sign)
        if self.recording_moves:
            self.moved.add(node)
        if self.recording and sign < 0:
            self.freed.add(node)

    def reserve(self, node: Node, holding: Holding) -> None:
        """A task takes its share of the node."""
        node.cpu -= holding.cpu
        node.memory -= holding.memory
        node.tasks += 1
        if holding.gpus:
            node.gpus -= holding.gpus
        if holding.ports:
            node.hold_ports(holding.ports, 1)
        if self.recording_moves:
            self.moved.add(node)
        if holding.wanted:
            self._count(node, holding.group, 1)

    def release(self, node: Node, holding: Holding) -> None:
        """A task gives its share back. A node that neither record nor task needs is forgotten."""
        node.cpu += holding.cpu
        node.memory += holding.memory
        node.tasks -= 1
        if holding.gpus:
            node.gpus += holding.gpus
        if holding.ports:
            node.hold_ports(holding.ports, -1)
        if self.recording_moves:
            self.moved.add(node)
        if holding.wanted:
            self._count(node, holding.group, -1)
        if self.recording:
            self.freed.add(node)
        if node.record is None:
            self.drop_if_empty(node)

    def _count(self, node: Node, name: str, sign: int) -> None:
        """One task of the group more (`sign` 1) or fewer (-1) is wanted RUNNING on the node."""
        group = self.groups.get(name) or self.group(name)
        before = node.groups.get(name, 0)
        after = before + sign
        if after:
            node.groups[name] = after
        else:
            del node.groups[name]
        node.running += sign
        group.total += sign
        for attribute, counts in group.buckets.items():
            value = node.attributes.get(attribute)
            if value is not None:
                counts[value] = counts.get(value, 0) + sign
        for watcher in group.watchers:
            watcher.counted(node, before, after)
        if self.daemons and not (before and after):
            self._keep_of(node, name)
        if not group.total:
            self.forget_group(group)

    def holdings(self) -> tuple[object, ...]:
        """All that the fleet knows, to compare two of them; nothing that could be rebuilt from it."""
        return (
            {key: node.holdings() for key, node in self.nodes.items()},
            [node.id for node in self.order],
            {name: group.total for name, group in self.groups.items() if group.total},
        )
