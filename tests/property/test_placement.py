"""Every decision of the index equals that of a naive search through the records, over random fleets and histories.

The reference below is written from ecs-reference 3.7 alone; it shares no code with `homeport.placement`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.ecs.service import PlacementConstraint, PlacementStrategy
from homeport.model.ecs.task import HostPortUse, Task
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import Placement, PlacementRequest

ACCOUNT, CLUSTER = "111122223333", "default"
CLUSTER_KEY = f"{ACCOUNT}/{CLUSTER}"
ZONE = "ecs.availability-zone"

# ------------------------------------------------------------------------------------------------------------ reference


class Records:
    """Instances and tasks as plain dicts, and answers by looking at all of them."""

    def __init__(self) -> None:
        self.instances: dict[str, ContainerInstance] = {}
        self.tasks: dict[str, Task] = {}

    def on(self, instance: ContainerInstance) -> list[Task]:
        return [t for t in self.tasks.values() if t.container_instance_id == instance.id and t.last_status != "STOPPED"]

    def wanted_on(self, instance: ContainerInstance, group: str) -> int:
        return sum(t.group == group and t.desired_status == "RUNNING" for t in self.on(instance))

    def first_failure(self, instance: ContainerInstance, request: PlacementRequest) -> str | None:  # noqa: C901 - a list of checks
        on = self.on(instance)
        attributes = {a.name: a.value for a in instance.attributes}
        if instance.status != "ACTIVE":
            return instance.status
        if not instance.agent_connected:
            return "AGENT"
        if instance.cpu - sum(t.cpu for t in on) < request.cpu:
            return "RESOURCE:CPU"
        if instance.memory_mib - sum(t.memory_mib for t in on) < request.memory_mib:
            return "RESOURCE:MEMORY"
        used = {(p, "tcp") for p in instance.reserved_tcp_ports} | {(u.port, u.protocol) for t in on for u in t.host_ports}
        if used & set(request.host_ports):
            return "RESOURCE:PORTS"
        if request.gpus and len(instance.gpu_ids) - sum(t.gpus for t in on) < request.gpus:
            return "RESOURCE:GPU"
        if request.launch_type != ("EXTERNAL" if "ecs.capability.external" in attributes else "EC2"):
            return "ATTRIBUTE"
        for required in request.required_attributes:
            name, equals, value = required.partition("=")
            if name not in attributes or (equals and attributes[name] != value):
                return "ATTRIBUTE"
        running = [t for t in on if t.desired_status == "RUNNING"]
        for constraint in request.constraints:
            if constraint.type == "memberOf" and not EXPRESSIONS[constraint.expression](attributes, running):
                return "MemberOf placement constraint unsatisfied."
        group = request.group or "service:" + request.service_key.rsplit("/", 1)[-1]
        if any(c.type == "distinctInstance" for c in request.constraints) and any(t.group == group for t in running):
            return "DistinctInstance placement constraint unsatisfied."
        return None

    def place(self, request: PlacementRequest) -> str | None:
        left = [i for i in self.instances.values() if self.first_failure(i, request) is None]
        group = request.group or "service:" + request.service_key.rsplit("/", 1)[-1]
        wanted = [(s.type, s.field) for s in request.strategies]
        if not wanted and request.service_key:
            wanted = [("spread", f"attribute:{ZONE}"), ("spread", "instanceId")]
        for kind, field in wanted:
            if left:
                score = self.scores(left, kind, field, group)
                left = [i for i in left if score[i.id] == min(score.values())]
        return min((i.id for i in left), default=None)

    def scores(self, left: list[ContainerInstance], kind: str, field: str, group: str) -> dict[str, Any]:
        if kind == "binpack":
            of = (lambda r: r.cpu) if field == "cpu" else (lambda r: r.memory_mib)
            return {i.id: of(i) - sum(of(t) for t in self.on(i)) for i in left}
        if kind == "random":
            total = sum(self.wanted_on(i, group) for i in self.instances.values())
            number = int.from_bytes(hashlib.blake2b(f"{group}/{total}".encode(), digest_size=8).digest(), "big")
            start = sorted(self.instances)[number % len(self.instances)]
            return {i.id: (i.id < start, int(i.id, 16)) for i in left}
        if field in ("instanceId", "host"):
            return {i.id: self.wanted_on(i, group) for i in left}
        name = field.removeprefix("attribute:")
        buckets: Counter[str] = Counter()
        for i in self.instances.values():
            if i.attribute(name) is not None:
                buckets[str(i.attribute(name))] += self.wanted_on(i, group)
        return {i.id: float("inf") if i.attribute(name) is None else buckets[str(i.attribute(name))] for i in left}


EXPRESSIONS: dict[str, Any] = {
    "attribute:disk == ssd": lambda a, running: a.get("disk") == "ssd",
    "attribute:disk != ssd and attribute:ecs.availability-zone in [a, b]": lambda a, running: (
        "disk" in a and a["disk"] != "ssd" and a.get(ZONE) in ("a", "b")
    ),
    "runningTasksCount < 2": lambda a, running: len(running) < 2,
    "task:group == service:web": lambda a, running: any(t.group == "service:web" for t in running),
    "not(task:group =~ service:.*)": lambda a, running: not any(t.group.startswith("service:") for t in running),
}

# -------------------------------------------------------------------------------------------------------------- inputs

_AMOUNTS = st.sampled_from([0, 1, 2, 3, 4, 7, 8])
_GROUPS = st.sampled_from(["service:web", "service:api", "family:job"])
_PORTS = st.lists(st.sampled_from([(80, "tcp"), (80, "udp"), (443, "tcp")]), max_size=1).map(tuple)


@st.composite
def instances(draw: st.DrawFn, number: int) -> ContainerInstance:
    attributes = [
        Attribute(name=name, value=value)
        for name, value in ((ZONE, draw(st.sampled_from(["a", "b", "c", ""]))), ("disk", draw(st.sampled_from(["ssd", "hdd", ""]))))
        if value
    ]
    if draw(st.integers(0, 9)) == 0:
        attributes.append(Attribute(name="ecs.capability.external"))
    return ContainerInstance(
        account=ACCOUNT,
        cluster=CLUSTER,
        id=f"{number * 0x0FEDCBA987654321FEDCBA987654321 % 2**128:032x}",
        ec2_instance_id=f"i-{number}",
        status=draw(st.sampled_from(["ACTIVE"] * 8 + ["DRAINING", "INACTIVE"])),
        registered_at=1.0,
        cpu=draw(st.sampled_from([4, 8, 8, 16])),
        memory_mib=draw(st.sampled_from([4, 8, 8, 16])),
        agent_connected=draw(st.integers(0, 9)) > 0,
        attributes=tuple(attributes),
        reserved_tcp_ports=draw(st.sampled_from([(), (), (80,)])),
        gpu_ids=draw(st.sampled_from([(), (), ("g0",)])),
    )


_STRATEGIES = st.sampled_from(
    [
        ("spread", "attribute:ecs.availability-zone"),
        ("spread", "attribute:disk"),
        ("spread", "instanceId"),
        ("spread", "host"),
        ("binpack", "cpu"),
        ("binpack", "memory"),
        ("random", ""),
    ]
).map(lambda p: PlacementStrategy(type=p[0], field=p[1]))

_CONSTRAINTS = st.sampled_from(
    [PlacementConstraint(type="distinctInstance")] + [PlacementConstraint(type="memberOf", expression=e) for e in EXPRESSIONS]
)


@st.composite
def requests(draw: st.DrawFn) -> PlacementRequest:
    group = draw(_GROUPS)
    service = group.startswith("service:")
    return PlacementRequest(
        cluster_key=CLUSTER_KEY,
        launch_type=draw(st.sampled_from(["EC2"] * 5 + ["EXTERNAL"])),
        cpu=draw(_AMOUNTS),
        memory_mib=draw(_AMOUNTS),
        host_ports=draw(_PORTS) if draw(st.booleans()) else (),
        required_attributes=draw(st.sampled_from([(), (), (), ("disk",), ("disk=ssd",)])),
        constraints=tuple(draw(st.lists(_CONSTRAINTS, max_size=2))) if draw(st.booleans()) else (),
        strategies=tuple(draw(st.lists(_STRATEGIES, max_size=3))),
        group=group if not service or draw(st.booleans()) else "",
        service_key=f"{CLUSTER_KEY}/{group.removeprefix('service:')}" if service else "",
        gpus=draw(st.sampled_from([0, 0, 0, 1])),
    )


class History:
    """Records, the index that follows them, and every change made, so that all can be undone."""

    def __init__(self, index: PlacementIndex) -> None:
        self.records = Records()
        self.index = index
        self.changes: list[tuple[str, Any, Any]] = []
        self.numbers = 0

    def apply(self, table: str, before: Any, after: Any) -> None:
        held: dict[str, Any] = self.records.tasks if table == "tasks" else self.records.instances
        record = after or before
        if after is None:
            del held[record.id]
        else:
            held[record.id] = after
        self.changes.append((table, before, after))
        self.index.change(table, before, after)

    def run(self, request: PlacementRequest, instance_id: str) -> None:
        self.numbers += 1
        self.apply(
            "tasks",
            None,
            Task(
                account=ACCOUNT,
                cluster=CLUSTER,
                id=f"{self.numbers:032x}",
                family="f",
                revision=1,
                desired_status="RUNNING",
                last_status="PENDING",
                created_at=float(self.numbers),
                group=request.group or "service:" + request.service_key.rsplit("/", 1)[-1],
                launch_type=request.launch_type,
                container_instance_id=instance_id,
                cpu=request.cpu,
                memory_mib=request.memory_mib,
                host_ports=tuple(HostPortUse(port=p, protocol=q) for p, q in request.host_ports),
                gpus=request.gpus,
                service=request.service_key.rsplit("/", 1)[-1] if request.service_key else "",
            ),
        )


def step(data: st.DataObject, history: History, palette: list[PlacementRequest]) -> None:
    """One random thing happens; every answer is compared."""
    records = history.records
    kind = data.draw(st.sampled_from(["place"] * 8 + ["stop", "stop", "wish", "edit", "edit", "start", "remove"]))
    if kind == "place":
        request = data.draw(st.sampled_from(palette))
        answer, expected = history.index.place(request), records.place(request)
        if expected is None:
            assert isinstance(answer, Refusal)
            assert answer.reasons == tuple(
                (i.key, records.first_failure(i, request)) for _, i in sorted(records.instances.items()) if i.status != "INACTIVE"
            )
            assert answer.summary()
        else:
            assert answer == Placement(f"{CLUSTER_KEY}/{expected}", expected)
            if data.draw(st.integers(0, 4)):
                history.run(request, expected)
    elif kind in ("stop", "wish", "remove") and records.tasks:
        task = records.tasks[data.draw(st.sampled_from(sorted(records.tasks)))]
        changed: dict[str, Any] = {"desired_status": "STOPPED"} if kind == "wish" else {"desired_status": "STOPPED", "last_status": "STOPPED"}
        history.apply("tasks", task, None if kind == "remove" else msgspec.structs.replace(task, **changed))
    elif kind == "start" and records.instances:
        history.run(data.draw(st.sampled_from(palette)), data.draw(st.sampled_from(sorted(records.instances))))
    elif kind == "edit":
        new = data.draw(instances(data.draw(st.integers(1, 12))))
        old = records.instances.get(new.id)
        if old is not None and data.draw(st.integers(0, 5)) == 0:
            history.apply("container_instances", old, None)
            for task in [t for t in records.tasks.values() if t.container_instance_id == new.id]:
                history.apply("tasks", task, None)
        else:
            history.apply("container_instances", old, new)


def begin(data: st.DataObject, index: PlacementIndex) -> tuple[History, list[PlacementRequest]]:
    history = History(index)
    for number in range(1, data.draw(st.integers(0, 12)) + 1):
        history.apply("container_instances", None, data.draw(instances(number)))
    return history, data.draw(st.lists(requests(), min_size=1, max_size=4))


@pytest.mark.parametrize("options", [{}, {"scan_nodes_max": 0}], ids=["scan", "views"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])
@given(data=st.data())
def test_decisions_equal_the_reference(data: st.DataObject, options: dict[str, Any]) -> None:
    history, palette = begin(data, PlacementIndex(**options))
    for _ in range(data.draw(st.integers(5, 40))):
        step(data, history, palette)
    fresh = PlacementIndex(**options)
    for task in history.records.tasks.values():
        fresh.change("tasks", None, task)
    for instance in history.records.instances.values():
        fresh.change("container_instances", None, instance)
    assert fresh.holdings() == history.index.holdings()


@pytest.mark.parametrize("options", [{}, {"scan_nodes_max": 0}], ids=["scan", "views"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])
@given(data=st.data())
def test_undoing_restores_the_index(data: st.DataObject, options: dict[str, Any]) -> None:
    index = PlacementIndex(**options)
    history, palette = begin(data, index)
    marks = []
    for _ in range(data.draw(st.integers(1, 20))):
        marks.append((len(history.changes), index.holdings(), [history.records.place(r) for r in palette]))
        step(data, history, palette)
    for length, holdings, answers in reversed(marks):
        while len(history.changes) > length:
            table, before, after = history.changes.pop()
            index.change(table, after, before)
        assert index.holdings() == holdings
        for request, expected in zip(palette, answers, strict=True):
            answer = index.place(request)
            assert (answer.instance_id if isinstance(answer, Placement) else None) == expected
