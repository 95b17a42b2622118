"""Placements a CPU-second on 10,000 instances: identical, heterogeneous binpack, spread over zones and instances, churn.

Owns: the fleets and loads of the bench `placement`. Every placement is measured with its booking in the index (`reserve`, which `change`
uses for a Task record as well). Never checks answers: tests/property/test_placement.py does.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable

from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.ecs.service import PlacementStrategy
from homeport.model.ecs.task import Task
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import Placement, PlacementRequest

INSTANCES = 10_000
ACCOUNT, CLUSTER = "111122223333", "bench"
CLUSTER_KEY = f"{ACCOUNT}/{CLUSTER}"
SHAPES = [(cpu, memory) for cpu in (64, 128, 256, 512, 1024) for memory in (128, 256, 512, 1024, 2048)]


def fleet(chance: random.Random, *, uniform: bool = False) -> PlacementIndex:
    """10,000 instances in three zones."""
    index = PlacementIndex()
    for number in range(INSTANCES):
        cpu, memory = (8192, 32768) if uniform else chance.choice([(2048, 4096), (4096, 8192), (4096, 16384), (8192, 32768), (16384, 65536)])
        record = ContainerInstance(
            account=ACCOUNT,
            cluster=CLUSTER,
            id=f"{chance.getrandbits(128):032x}",
            ec2_instance_id=f"i-{number:017x}",
            status="ACTIVE",
            registered_at=1.0,
            cpu=cpu,
            memory_mib=memory,
            reserved_tcp_ports=(22, 2375, 2376, 51678, 51679),
            agent_connected=True,
            agent_version="1.89.1",
            attributes=(Attribute(name="ecs.availability-zone", value="abc"[number % 3]), Attribute(name="ecs.os-type", value="linux")),
        )
        index.change("container_instances", None, record)
    return index


def wanted(cpu: int, memory: int, name: str, *strategies: tuple[str, str]) -> PlacementRequest:
    """A service's request."""
    return PlacementRequest(
        cluster_key=CLUSTER_KEY,
        cpu=cpu,
        memory_mib=memory,
        required_attributes=("ecs.os-type",),
        strategies=tuple(PlacementStrategy(type=kind, field=field) for kind, field in strategies),
        service_key=f"{CLUSTER_KEY}/{name}",
    )


def measure(index: PlacementIndex, requests: list[PlacementRequest]) -> float:
    """Place and book each; placements a CPU-second. The first of each kind, which builds the views, is in the measure."""
    gc.collect()
    started = time.process_time()
    for request in requests:
        placement = index.place(request)
        if isinstance(placement, Refusal):
            raise RuntimeError(placement.summary())
        index.reserve(request, placement)
    return len(requests) / (time.process_time() - started)


def identical() -> float:
    """One service of 100,000 equal tasks, packed by memory."""
    return measure(fleet(random.Random(1)), [wanted(256, 512, "web", ("binpack", "memory"))] * 100_000)


def identical_default() -> float:
    """The same without strategies: over zones, then instances."""
    return measure(fleet(random.Random(1), uniform=True), [wanted(256, 512, "web")] * 100_000)


def heterogeneous() -> float:
    """25 shapes in random order, packed by memory."""
    chance = random.Random(2)
    kinds = [wanted(cpu, memory, f"s{cpu}-{memory}", ("binpack", "memory")) for cpu, memory in SHAPES]
    return measure(fleet(chance), chance.choices(kinds, k=60_000))


def spread() -> float:
    """200 services of different shapes, interleaved, spread over zones, then over instances."""
    chance = random.Random(3)
    rule = (("spread", "attribute:ecs.availability-zone"), ("spread", "instanceId"))
    kinds = [wanted(*chance.choice(SHAPES), f"s{number}", *rule) for number in range(200)]
    return measure(fleet(chance), chance.choices(kinds, k=120_000))


def churn() -> float:
    """A loaded cluster packed by memory: pairs of one release and one placement a CPU-second."""
    chance = random.Random(4)
    index = fleet(chance)
    kinds = [wanted(cpu, memory, f"s{cpu}-{memory}", ("binpack", "memory")) for cpu, memory in SHAPES]
    placed: list[tuple[PlacementRequest, Placement]] = []
    for request in chance.choices(kinds, k=60_000):
        placement = index.place(request)
        if isinstance(placement, Placement):
            index.reserve(request, placement)
            placed.append((request, placement))
    pairs = [(chance.randrange(len(placed)), request) for request in chance.choices(kinds, k=30_000)]
    started = time.process_time()
    for at, request in pairs:
        index.release(*placed[at])
        placement = index.place(request)
        if isinstance(placement, Refusal):
            raise RuntimeError(placement.summary())
        index.reserve(request, placement)
        placed[at] = (request, placement)
    return len(pairs) / (time.process_time() - started)


def records() -> float:
    """As `spread`, but each placement becomes a Task record that `change` follows, as in a transaction."""
    chance = random.Random(3)
    index = fleet(chance)
    kinds = [wanted(*chance.choice(SHAPES), f"s{number}") for number in range(200)]
    chosen = chance.choices(kinds, k=30_000)
    started = time.process_time()
    for number, request in enumerate(chosen):
        placement = index.place(request)
        assert isinstance(placement, Placement)
        task = Task(
            account=ACCOUNT, cluster=CLUSTER, id=f"{number:032x}", family="f", revision=1, desired_status="RUNNING", last_status="PROVISIONING",
            created_at=1.0, group=request.task_group, launch_type="EC2", container_instance_id=placement.instance_id,
            cpu=request.cpu, memory_mib=request.memory_mib, service="s",
        )  # fmt: skip
        index.change("tasks", None, task)
    return len(chosen) / (time.process_time() - started)


def single() -> float:
    """One instance, as on a laptop."""
    index = PlacementIndex()
    index.change("container_instances", None, next(iter(fleet_records())))
    return measure(index, [wanted(0, 1, "web")] * 20_000)


def fleet_records() -> list[ContainerInstance]:
    """One big instance."""
    return [
        ContainerInstance(
            account=ACCOUNT, cluster=CLUSTER, id="0" * 32, ec2_instance_id="i-1", status="ACTIVE", registered_at=1.0, cpu=4096,
            memory_mib=65536, agent_connected=True, attributes=(Attribute(name="ecs.os-type", value="linux"),),
        )
    ]  # fmt: skip


CASES: list[tuple[str, Callable[[], float], int | None, int | None]] = [
    ("identical", identical, 100_000, 400_000),
    ("identical, default strategy", identical_default, None, None),
    ("heterogeneous exact binpack", heterogeneous, 50_000, 200_000),
    ("spread az+instance, 200 services", spread, 100_000, 400_000),
    ("release and place, loaded, binpack", churn, None, None),
    ("spread az+instance with Task records", records, None, None),
    ("one instance", single, None, None),
]


def run() -> list[dict[str, object]]:
    """Rows {bench, case, value, unit, floor, target}; no floor or target where none was set."""
    return [
        {"bench": "placement", "case": case, "value": round(function()), "unit": "1/CPU-s", "floor": floor, "target": target}
        for case, function, floor, target in CASES
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
