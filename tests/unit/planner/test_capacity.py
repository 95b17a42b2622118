from __future__ import annotations

import pytest

from homeport.model.ecs.capacity_provider import ManagedScaling
from homeport.planner.capacity import SAMPLES_BELOW, Instance, Pool, Samples, Size, Waiting, instances_needed, plan, reservation

SMALL, LARGE = Size(1024, 2048), Size(4096, 8192)
NOW = 10_000.0


def pool(*tasks, age=1_000.0):
    return [Instance(f"i{number}", NOW - age, count) for number, count in enumerate(tasks)]


def decide(instances, further=0, *, below=SAMPLES_BELOW, **scaling):
    settings = ManagedScaling(enabled=True, **scaling)
    return plan(settings, Pool(instances=tuple(instances), further=further), samples=Samples(below), now=NOW)


@pytest.mark.parametrize(("needed", "there", "percent"), [(0, 0, 100.0), (1, 0, 200.0), (3, 2, 150.0), (1, 4, 25.0), (2, 2, 100.0)])
def test_the_reservation(needed, there, percent):
    assert reservation(needed, there) == percent


@pytest.mark.parametrize(
    ("waiting", "types", "needed"),
    [
        ([], [SMALL], 0),
        ([Waiting(Size(512, 512), 5)], [SMALL], 3),
        ([Waiting(Size(0, 1000), 5)], [SMALL], 3),
        ([Waiting(Size(512, 512), 5)], [SMALL, LARGE], 1),
        ([Waiting(Size(2048, 512), 5)], [SMALL, LARGE], 0),
        ([Waiting(Size(512, 512), 5), Waiting(Size(1024, 100), 4)], [SMALL], 4),
        ([Waiting(Size(1, 1, ports=frozenset({(80, "tcp")})), 3)], [SMALL], 3),
        ([Waiting(Size(1, 1, 1), 3)], [SMALL], 0),
        ([Waiting(Size(1, 1), 3)], [], 0),
    ],
)
def test_how_many_further_instances_waiting_tasks_need(waiting, types, needed):
    assert instances_needed(waiting, types) == needed


@pytest.mark.parametrize(
    ("instances", "further", "scaling", "desired"),
    [
        (pool(), 0, {}, 0),
        (pool(), 1, {}, 2),
        (pool(), 5, {}, 5),
        (pool(1, 1), 3, {}, 5),
        (pool(1, 1), 1, {"step_min": 4}, 6),
        (pool(1, 1), 9, {"step_max": 2}, 4),
        (pool(1, 1), 1, {"target_capacity": 50}, 6),
        (pool(1, 1), 0, {"target_capacity": 50}, 4),
        (pool(1, 1, 1, 1), 0, {"target_capacity": 10, "step_max": 3}, 7),
        (pool(1, 1), 0, {}, 2),
    ],
)
def test_scaling_out(instances, further, scaling, desired):
    found = decide(instances, further, **scaling)
    assert (found.desired, found.remove) == (desired, ())


def test_a_young_instance_holds_the_next_step_up():
    assert decide(pool(1, age=100.0), 3).desired == 1
    assert decide(pool(1, age=100.0), 3, warmup_seconds=60).desired == 4


def test_the_pool_shrinks_after_fifteen_samples_by_half_of_the_excess():
    instances, samples, sizes = pool(1, 0, 0, 0, 0, 0, 0, 0, 0), Samples(), []
    settings = ManagedScaling(enabled=True)
    for _ in range(SAMPLES_BELOW + 5):
        found = plan(settings, Pool(instances=tuple(instances)), samples=samples, now=NOW)
        instances, samples = [i for i in instances if i.id not in found.remove], found.samples
        sizes.append(len(instances))
    assert sizes == [9] * 14 + [5, 3, 2, 1, 1, 1]
    assert [i.id for i in instances] == ["i0"]


def test_a_need_begins_the_count_anew():
    assert decide(pool(1, 0), 2).samples == Samples(0)
    assert decide(pool(1, 1), below=7).samples == Samples(0), "in a row means that one at the target begins anew"
    assert decide(pool(1, 0), below=0).samples == Samples(1)


@pytest.mark.parametrize("target", [1, 50, 99, 100])
def test_only_instances_without_tasks_go(target):
    assert decide(pool(3, 1, 2, 0)).remove == ("i3",)
    for busy in range(5):
        for idle in range(5):
            found = decide(pool(*[1] * busy, *[0] * idle), target_capacity=target)
            assert set(found.remove) <= {f"i{number}" for number in range(busy, busy + idle)}
