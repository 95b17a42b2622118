"""Scale-in victims equal those of a naive greedy choice that recounts everything for each of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.placement.records import index_of, instance, request, task

from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task

ZONE = "ecs.availability-zone"
NOW = 1_800_000_000.0


def naive(strategies: str, instances: dict[str, ContainerInstance], everyone: list[Task], may_go: list[Task], count: int) -> list[str]:
    left, gone = [t for t in may_go if t.protected_until <= NOW], []

    def badness(candidate: Task) -> tuple[Any, ...]:
        there = instances[candidate.container_instance_id]
        stay = [t for t in everyone if t.key not in gone]
        if candidate.last_status == "PENDING":
            kind = 3
        elif candidate.health_status == "UNHEALTHY":
            kind = 2
        else:
            kind = int(there.status != "ACTIVE")
        numbers = []
        for strategy in (strategies or f"spread=attribute:{ZONE},spread=instanceId").split(","):
            name, _, field = strategy.partition("=")
            if name == "binpack":
                of = {"cpu": lambda r: r.cpu, "memory": lambda r: r.memory_mib}[field]
                numbers.append(of(there) - sum(of(t) for t in stay if t.container_instance_id == there.id) + of(candidate))
            elif field == "instanceId":
                numbers.append(sum(t.container_instance_id == there.id and t.service == "web" for t in stay))
            else:
                zone = there.attribute(ZONE)
                bucket = sum(t.service == "web" and instances[t.container_instance_id].attribute(ZONE) == zone for t in stay)
                numbers.append(10**9 if zone is None else bucket)
        return (kind, numbers, candidate.created_at)

    while left and len(gone) < count:
        worst = max(left, key=badness)
        left.remove(worst)
        gone.append(worst.key)
    return gone


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_victims_equal_a_naive_choice(data: st.DataObject) -> None:
    instances = [
        instance(n, zone=data.draw(st.sampled_from(["a", "b", ""])), status=data.draw(st.sampled_from(["ACTIVE"] * 4 + ["DRAINING"])))
        for n in range(1, data.draw(st.integers(1, 5)) + 1)
    ]
    tasks = [
        task(
            n,
            data.draw(st.integers(1, len(instances))),
            service=data.draw(st.sampled_from(["web", "web", "web", "api"])),
            memory_mib=data.draw(st.sampled_from([128, 512])),
            cpu=data.draw(st.sampled_from([64, 128])),
            last_status=data.draw(st.sampled_from(["RUNNING"] * 6 + ["PENDING"])),
            health_status=data.draw(st.sampled_from(["UNKNOWN"] * 6 + ["UNHEALTHY"])),
            protected_until=data.draw(st.sampled_from([0.0] * 6 + [NOW + 1])),
        )
        for n in range(1, data.draw(st.integers(0, 16)) + 1)
    ]
    strategies = data.draw(
        st.sampled_from(["", "binpack=memory", "binpack=cpu,spread=instanceId", "spread=instanceId", f"spread=attribute:{ZONE},binpack=memory"])
    )
    may_go = [t for t in tasks if t.service == "web" and data.draw(st.integers(0, 5))]
    count = data.draw(st.integers(0, 18))
    index = index_of(*instances, *tasks)
    chosen = index.victims(request(service="web", strategies=strategies), may_go, count, now=NOW)
    assert chosen == naive(strategies, {i.id: i for i in instances}, tasks, may_go, count)
