"""The change that `explain` suggests works, and no smaller one of those it lists does: 1,000 random clusters."""

from __future__ import annotations

import random
from itertools import combinations

import msgspec
import pytest
from tests.unit.placement.records import index_of, instance, request, task

from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.ecs.task import Task
from homeport.placement import explanation
from homeport.placement.explanation import Remedy, remedies
from homeport.placement.reasons import Refusal
from homeport.placement.request import Placement, PlacementRequest


def cluster(chance: random.Random) -> tuple[list[ContainerInstance], list[Task], PlacementRequest]:
    """Up to four instances that are nearly full, each hindered in its own way, and a task that is hard to place."""
    instances = [
        instance(
            number,
            zone=chance.choice("abc"),
            cpu=chance.choice([512, 1024, 2048]),
            memory_mib=chance.choice([512, 1024, 2048]),
            status=chance.choice(["ACTIVE", "ACTIVE", "ACTIVE", "DRAINING"]),
            agent_connected=chance.random() < 0.85,
            attributes={"disk": chance.choice(["ssd", "hdd"])} if chance.random() < 0.7 else {},
        )
        for number in range(1, chance.randint(1, 4) + 1)
    ]
    tasks = [
        task(
            100 * number + at,
            number,
            service=chance.choice(["web", "db", ""]),
            cpu=chance.choice([64, 128, 256, 512]),
            memory_mib=chance.choice([64, 128, 256, 512]),
            desired_status=chance.choice(["RUNNING", "RUNNING", "RUNNING", "STOPPED"]),
            ports=((80, "tcp"),) if chance.random() < 0.15 else (),
        )
        for number in range(1, len(instances) + 1)
        for at in range(chance.randint(0, 5))
    ]
    wanted = request(
        service="web",
        cpu=chance.choice([128, 512, 1024, 4096]),
        memory_mib=chance.choice([128, 512, 1024, 4096]),
        host_ports=((80, "tcp"),) if chance.random() < 0.3 else (),
        constraints=("attribute:disk == ssd",) if chance.random() < 0.3 else (),
        distinct=chance.random() < 0.3,
        required_attributes=("tier=gold",) if chance.random() < 0.2 else (),
    )
    return instances, tasks, wanted


def on(tasks: list[Task], where: ContainerInstance) -> list[Task]:
    return [item for item in tasks if item.instance_key == where.key]


def applied(remedy: Remedy, instances: list[ContainerInstance], tasks: list[Task], wanted: PlacementRequest) -> Placement | Refusal:
    """What placement says once the change was made to the whole cluster."""
    (where,) = [item for item in instances if item.key == remedy.instance_key]
    others = [item for item in instances if item is not where]
    changed, left, asked = where, [item for item in tasks if item.key not in remedy.task_keys], wanted
    if remedy.kind == explanation.CONNECT:
        changed = msgspec.structs.replace(where, agent_connected=True)
    elif remedy.kind == explanation.ACTIVATE:
        changed = msgspec.structs.replace(where, status="ACTIVE")
    elif remedy.kind == explanation.ATTRIBUTES:
        put = tuple(Attribute(name=name, value=value, custom=True) for name, value in remedy.attributes)
        changed = msgspec.structs.replace(where, attributes=where.attributes + put)
    elif remedy.kind == explanation.LOWER:
        asked = msgspec.structs.replace(wanted, cpu=remedy.cpu, memory_mib=remedy.memory_mib)
    elif remedy.kind == explanation.CONSTRAINTS:
        rest = tuple(item for item in wanted.constraints if (item.expression or item.type) not in remedy.constraints)
        asked = msgspec.structs.replace(wanted, constraints=rest)
    elif remedy.kind == explanation.ADD:
        others.append(msgspec.structs.replace(where, id="f" * 32, status="ACTIVE", agent_connected=True))
    return index_of(*others, changed, *left).place(asked)


def works(instances: list[ContainerInstance], tasks: list[Task], wanted: PlacementRequest) -> bool:
    return isinstance(index_of(*instances, *tasks).place(wanted), Placement)


def smaller_ones_that_work(least: Remedy, instances: list[ContainerInstance], tasks: list[Task], wanted: PlacementRequest) -> list[str]:
    """Changes of the listed kinds that come before `least` and would do; written from the definition, by trying."""
    found = []
    rank = explanation.KINDS.index(least.kind)
    for where in instances:
        others = [item for item in instances if item is not where]
        mine = on(tasks, where)
        if rank > 1 and works([*others, msgspec.structs.replace(where, agent_connected=True)], tasks, wanted):
            found.append(f"connect {where.id}")
        if rank > 2 and works([*others, msgspec.structs.replace(where, status="ACTIVE")], tasks, wanted):
            found.append(f"activate {where.id}")
        for kind, desired in ((explanation.WAIT, "STOPPED"), (explanation.STOP, "RUNNING")):
            among = [item for item in mine if item.desired_status == desired]
            limit = len(among) if rank > explanation.KINDS.index(kind) else least.size - 1 if least.kind == kind else 0
            for count in range(1, min(limit, len(among)) + 1):
                for gone in combinations(among, count):
                    if works(instances, [item for item in tasks if item not in gone], wanted):
                        found.append(f"{kind} {count} on {where.id}")
        if rank >= explanation.KINDS.index(explanation.LOWER):
            free_cpu = where.cpu - sum(item.cpu for item in mine)
            free_memory = where.memory_mib - sum(item.memory_mib for item in mine)
            cpu, memory_mib = min(wanted.cpu, free_cpu), min(wanted.memory_mib, free_memory)
            size = wanted.cpu - cpu + wanted.memory_mib - memory_mib
            small_enough = rank > explanation.KINDS.index(explanation.LOWER) or size < least.size
            lower = msgspec.structs.replace(wanted, cpu=cpu, memory_mib=memory_mib)
            if cpu >= 0 and memory_mib > 0 and small_enough and works(instances, tasks, lower):
                found.append(f"lower to {cpu}/{memory_mib}")
    return found


@pytest.mark.parametrize("first_seed", range(0, 1000, 100))
def test_the_suggested_change_works_and_no_smaller_one_does(first_seed):
    kinds: set[str] = set()
    for seed in range(first_seed, first_seed + 100):
        instances, tasks, wanted = cluster(random.Random(seed))
        if works(instances, tasks, wanted):
            assert any(not remedies(wanted, where, on(tasks, where)) for where in instances), seed
            continue
        listed = sorted((remedy for where in instances for remedy in remedies(wanted, where, on(tasks, where))), key=lambda remedy: remedy.order)
        for remedy in listed:
            assert isinstance(applied(remedy, instances, tasks, wanted), Placement), (seed, remedy)
        kinds |= {remedy.kind for remedy in listed}
        if listed:
            assert smaller_ones_that_work(listed[0], instances, tasks, wanted) == [], (seed, listed[0])
    assert len(kinds) >= 5


def test_an_obstacle_says_what_is_needed_and_what_is_there():
    index = index_of(instance(1, cpu=100, memory_mib=64), task(1, 1, cpu=60, memory_mib=64, ports=((80, "tcp"),)))
    wanted = request(cpu=50, memory_mib=32, host_ports=((80, "tcp"),), required_attributes=("tier=gold",), constraints=("attribute:disk == ssd",))
    found = index.obstacles(wanted, instance(1).key)
    assert [(item.reason, item.needed, item.available, item.detail) for item in found] == [
        ("RESOURCE:CPU", 50, 40, ""),
        ("RESOURCE:MEMORY", 32, 0, ""),
        ("RESOURCE:PORTS", 0, 0, "80/tcp"),
        ("ATTRIBUTE", 0, 0, "tier=gold"),
        ("MemberOf placement constraint unsatisfied.", 0, 0, "attribute:disk == ssd"),
    ]
