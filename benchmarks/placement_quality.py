"""How well tasks are packed and spread: instances in use against offline packings, skew between zones, refusals that were wrong.

Owns: the trace of the bench `placement_quality` (made from `SEED`, its digest in every row) and the offline packings it is held against.
Measures answers, not time: the figures are the same on every machine.

The trace has 100,000 arrivals of 60 shapes and their ends; a quarter of the tasks stays for long, the others come and go, and the load swings
between half and nearly all of what it reaches. It is played on 2,000 instances in three zones:

- **packed**: every task binpack by memory. At each of `SAMPLES` moments the instances in use are counted, and the very tasks that run then are
  packed anew offline: by best-fit decreasing (largest share of an instance first; each to the instance with the least left, in memory or in both,
  whichever packs better) and by the linear bound (the most of cpu and memory that is needed, over the largest instances, as if tasks could be
  cut; where sizes are mixed it is loose, since both packings fill small instances first).
- **spread**: the same tasks as 250 services without strategies, so over zones and then instances; ends come as scale-in, which asks placement for
  the victim. After every step that could do better the skew of the service is the difference between its fullest and its emptiest zone.
- **scarce**: a fleet of an eighth, so that many are refused; every refusal is checked against every instance by plain comparison.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
from benchmarks.placement import ACCOUNT, CLUSTER, CLUSTER_KEY

from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.ecs.service import PlacementStrategy
from homeport.model.ecs.task import Task
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import Placement, PlacementRequest

SEED: Final = 20_261_124
TASKS: Final = 100_000
INSTANCES: Final = 2_000
SERVICES: Final = 250
SAMPLES: Final = 60
ZONES: Final = "abc"
SIZES: Final = ((4096, 8192), (4096, 16384), (8192, 16384), (8192, 32768), (16384, 65536))
"""(CPU units, MiB) of the mixed fleet's instances."""
CPUS: Final = (64, 128, 256, 512, 1024, 2048)
MEMORIES_PER_CPU: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""MiB a CPU unit: from computing to caching."""


class Arrival(NamedTuple):
    """One task of the trace, and when it ends; times in seconds."""

    at: float
    ends_at: float
    cpu: int
    memory_mib: int
    service: int


def trace() -> list[Arrival]:
    """The 100,000 arrivals in order of time."""
    chance = random.Random(SEED)
    shapes = [(cpu, max(64, round(cpu * ratio * chance.uniform(0.6, 1.0)))) for cpu in CPUS for ratio in MEMORIES_PER_CPU for _ in range(2)]
    weights = [1.0 / cpu**0.5 for cpu, _ in shapes]  # many small ones, few large ones
    of_service = chance.choices(shapes, weights, k=SERVICES)
    arrivals, now = [], 0.0
    for number in range(TASKS):
        day = 0.75 + 0.25 * (1 if (number // (TASKS // 8)) % 2 else -1)  # by turns half the rate and the full one
        now += chance.expovariate(day)
        lives = chance.expovariate(1 / 110_000) if chance.random() < 0.25 else chance.expovariate(1 / 9_000)
        service = chance.randrange(SERVICES)
        arrivals.append(Arrival(now, now + lives, *of_service[service], service))
    return arrivals


def digest(arrivals: Sequence[Arrival]) -> str:
    """Twelve hexadecimal digits that change with the trace."""
    return hashlib.sha256(msgspec.json.encode(arrivals)).hexdigest()[:12]


def fleet(count: int, *, mixed: bool) -> list[ContainerInstance]:
    """`count` instances in three zones, all of one size or of five."""
    chance = random.Random(SEED + 1)
    return [
        ContainerInstance(
            account=ACCOUNT,
            cluster=CLUSTER,
            id=f"{chance.getrandbits(128):032x}",
            ec2_instance_id=f"i-{number:017x}",
            status="ACTIVE",
            registered_at=1.0,
            cpu=cpu,
            memory_mib=memory,
            agent_connected=True,
            attributes=(Attribute(name="ecs.availability-zone", value=ZONES[number % 3]),),
        )
        for number in range(count)
        for cpu, memory in [chance.choice(SIZES) if mixed else (8192, 16384)]
    ]


def index_of(instances: Sequence[ContainerInstance]) -> PlacementIndex:
    """A placement index that has seen `instances`."""
    index = PlacementIndex()
    for instance in instances:
        index.change("container_instances", None, instance)
    return index


def wanted(arrival: Arrival, *strategies: PlacementStrategy) -> PlacementRequest:
    """What the task asks of an instance."""
    return PlacementRequest(
        cluster_key=CLUSTER_KEY,
        cpu=arrival.cpu,
        memory_mib=arrival.memory_mib,
        strategies=strategies,
        service_key=f"{CLUSTER_KEY}/s{arrival.service}",
    )


def steps(arrivals: Sequence[Arrival]) -> Iterator[tuple[bool, int]]:
    """(whether it ends, number of the arrival), in order of time."""
    ends: list[tuple[float, int]] = []
    for number, arrival in enumerate(arrivals):
        while ends and ends[0][0] <= arrival.at:
            yield True, heapq.heappop(ends)[1]
        yield False, number
        heapq.heappush(ends, (arrival.ends_at, number))


# Offline packings


def best_fit_decreasing(tasks: Sequence[Arrival], instances: Sequence[ContainerInstance]) -> int:
    """Instances that best-fit decreasing needs, by the better of two meanings of "best": least memory left, and least left of both together."""
    return min(_pack(tasks, instances, cpu_weight=0.0), _pack(tasks, instances, cpu_weight=2.0))


def _pack(tasks: Sequence[Arrival], instances: Sequence[ContainerInstance], *, cpu_weight: float) -> int:
    """Each task, the largest share first, goes where `memory + cpu_weight * cpu` that is left is least of those that can take it."""
    cpu_all, memory_all = max(i.cpu for i in instances), max(i.memory_mib for i in instances)
    free = [(instance.cpu, instance.memory_mib) for instance in instances]
    left = sorted((memory + cpu_weight * cpu, number) for number, (cpu, memory) in enumerate(free))
    used = set()
    for task in sorted(tasks, key=lambda task: -max(task.cpu / cpu_all, task.memory_mib / memory_all)):
        size = task.memory_mib + cpu_weight * task.cpu
        at = bisect_left(left, (size, -1))
        while free[left[at][1]][0] < task.cpu or free[left[at][1]][1] < task.memory_mib:
            at += 1
        before, number = left.pop(at)
        free[number] = (free[number][0] - task.cpu, free[number][1] - task.memory_mib)
        insort(left, (before - size, number))
        used.add(number)
    return len(used)


def linear_bound(tasks: Sequence[Arrival], instances: Sequence[ContainerInstance]) -> int:
    """Instances that are needed at least, even if tasks could be cut: the largest ones first, for cpu and for memory apart."""

    def needed(amount: int, sizes: list[int]) -> int:
        count = 0
        for size in sorted(sizes, reverse=True):
            if amount <= 0:
                break
            amount -= size
            count += 1
        return count

    return max(
        needed(sum(task.cpu for task in tasks), [instance.cpu for instance in instances]),
        needed(sum(task.memory_mib for task in tasks), [instance.memory_mib for instance in instances]),
    )


# The three plays


class Packed(NamedTuple):
    """Means over the samples."""

    against_bfd: float
    against_bound: float
    refused: int


def packed(arrivals: Sequence[Arrival], instances: Sequence[ContainerInstance]) -> Packed:
    """Play the trace under binpack by memory."""
    index = index_of(instances)
    rule = PlacementStrategy(type="binpack", field="memory")
    placed: dict[int, tuple[PlacementRequest, Placement]] = {}
    in_use: dict[str, int] = {}
    against_bfd, against_bound, refused = [], [], 0
    for ends, number in steps(arrivals):
        if ends:
            if number in placed:
                request, placement = placed.pop(number)
                index.release(request, placement)
                in_use[placement.instance_key] -= 1
                if not in_use[placement.instance_key]:
                    del in_use[placement.instance_key]
            continue
        request = wanted(arrivals[number], rule)
        found = index.place(request)
        if isinstance(found, Refusal):
            refused += 1
            continue
        index.reserve(request, found)
        placed[number] = (request, found)
        in_use[found.instance_key] = in_use.get(found.instance_key, 0) + 1
        if number % (TASKS // SAMPLES) == TASKS // SAMPLES - 1:
            running = [arrivals[at] for at in placed]
            against_bfd.append(len(in_use) / best_fit_decreasing(running, instances))
            against_bound.append(len(in_use) / linear_bound(running, instances))
    return Packed(sum(against_bfd) / len(against_bfd), sum(against_bound) / len(against_bound), refused)


def spread(arrivals: Sequence[Arrival], instances: Sequence[ContainerInstance]) -> tuple[int, int]:
    """Play the trace as services that scale out and in: (worst skew between zones of any service after any step, refusals)."""
    index = index_of(instances)
    zone_of = {instance.key: str(instance.attribute("ecs.availability-zone")) for instance in instances}
    tasks: list[dict[str, Task]] = [{} for _ in range(SERVICES)]
    zones = [dict.fromkeys(ZONES, 0) for _ in range(SERVICES)]
    worst, refused = 0, 0
    for ends, number in steps(arrivals):
        service = arrivals[number].service
        request = wanted(arrivals[number])
        if ends:
            if not tasks[service]:
                continue
            (key,) = index.victims(request, tasks[service].values(), 1, now=1.0)
            task = tasks[service].pop(key)
            index.change("tasks", task, None)
            zones[service][zone_of[task.instance_key]] -= 1
        else:
            found = index.place(request)
            if isinstance(found, Refusal):
                refused += 1
                continue
            task = task_of(arrivals[number], number, found)
            index.change("tasks", None, task)
            tasks[service][task.key] = task
            zones[service][zone_of[found.instance_key]] += 1
        worst = max(worst, max(zones[service].values()) - min(zones[service].values()))
    return worst, refused


def task_of(arrival: Arrival, number: int, placement: Placement) -> Task:
    """The record of a running task."""
    return Task(
        account=ACCOUNT, cluster=CLUSTER, id=f"{number:032x}", family="f", revision=1, desired_status="RUNNING", last_status="RUNNING",
        created_at=1.0 + number, group=f"service:s{arrival.service}", launch_type="EC2", container_instance_id=placement.instance_id,
        cpu=arrival.cpu, memory_mib=arrival.memory_mib, service=f"s{arrival.service}",
    )  # fmt: skip


def scarce(arrivals: Sequence[Arrival], instances: Sequence[ContainerInstance]) -> tuple[int, int]:
    """Play the trace under binpack on a fleet that is too small: (refusals, refusals although an instance had room)."""
    index = index_of(instances)
    free = {instance.key: [instance.cpu, instance.memory_mib] for instance in instances}
    rule = PlacementStrategy(type="binpack", field="memory")
    placed: dict[int, tuple[PlacementRequest, Placement]] = {}
    refused, wrong = 0, 0
    for ends, number in steps(arrivals):
        arrival = arrivals[number]
        if ends:
            if number in placed:
                request, placement = placed.pop(number)
                index.release(request, placement)
                free[placement.instance_key][0] += arrival.cpu
                free[placement.instance_key][1] += arrival.memory_mib
            continue
        request = wanted(arrival, rule)
        found = index.place(request)
        if isinstance(found, Refusal):
            refused += 1
            wrong += any(cpu >= arrival.cpu and memory >= arrival.memory_mib for cpu, memory in free.values())
            continue
        index.reserve(request, found)
        placed[number] = (request, found)
        free[found.instance_key][0] -= arrival.cpu
        free[found.instance_key][1] -= arrival.memory_mib
    return refused, wrong


def run() -> list[dict[str, object]]:
    """Rows {bench, case, value, unit, floor, target, trace}."""
    arrivals = trace()
    name = digest(arrivals)
    rows: list[dict[str, object]] = []

    def row(case: str, value: float, unit: str, floor: float | None = None) -> None:
        rows.append(
            {"bench": "placement_quality", "case": case, "value": round(value, 4), "unit": unit, "floor": floor, "target": None, "trace": name}
        )

    for kind, mixed in (("equal instances", False), ("five sizes of instances", True)):
        result = packed(arrivals, fleet(INSTANCES, mixed=mixed))
        row(f"binpack, {kind}: in use against best-fit decreasing", result.against_bfd, "ratio", 1.10)
        row(f"binpack, {kind}: in use against the linear bound", result.against_bound, "ratio")
        row(f"binpack, {kind}: refused", result.refused, "tasks")
    worst, refused = spread(arrivals, fleet(INSTANCES, mixed=True))
    row("spread: worst skew between zones of a service", worst, "tasks", 1)
    row("spread: refused", refused, "tasks")
    refused, wrong = scarce(arrivals, fleet(INSTANCES // 8, mixed=True))
    row("too small a fleet: refused", refused, "tasks")
    row("too small a fleet: refused although an instance had room", wrong, "tasks", 0)
    return rows


if __name__ == "__main__":
    for shown in run():
        print(shown)
