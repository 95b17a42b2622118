"""PlacementIndex: requirements and their reasons, strategies, victims, filters."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.placement.records import CLUSTER, index_of, instance, request, task

from homeport.model.ecs.task import Task
from homeport.placement import reasons
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import Placement, PlacementRequest


def chosen(index: PlacementIndex, wanted: PlacementRequest) -> int:
    """The number of the chosen instance."""
    placement = index.place(wanted)
    assert isinstance(placement, Placement), placement
    assert placement.instance_key == f"{CLUSTER}/{placement.instance_id}"
    return int(placement.instance_id, 16)


def refused(index: PlacementIndex, wanted: PlacementRequest) -> Refusal:
    refusal = index.place(wanted)
    assert isinstance(refusal, Refusal), refusal
    return refusal


def key(number: int) -> str:
    return f"{CLUSTER}/{number:032x}"


REASONS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"cpu": 255}, {}, "RESOURCE:CPU", "has insufficient CPU units available"),
    ({"memory_mib": 511}, {}, "RESOURCE:MEMORY", "has insufficient memory available"),
    ({"reserved_tcp_ports": (80,)}, {"host_ports": ((80, "tcp"),)}, "RESOURCE:PORTS", "is already using a port required by your task"),
    ({"reserved_udp_ports": (53,)}, {"host_ports": ((53, "udp"),)}, "RESOURCE:PORTS", "is already using a port required by your task"),
    ({}, {"gpus": 1}, "RESOURCE:GPU", "has insufficient GPU resource available"),
    ({}, {"required_attributes": ("gpu",)}, "ATTRIBUTE", "is missing an attribute required by your task"),
    ({"attributes": {"disk": "hdd"}}, {"required_attributes": ("disk=ssd",)}, "ATTRIBUTE", "is missing an attribute required by your task"),
    ({"attributes": {"ecs.capability.external": ""}}, {}, "ATTRIBUTE", "is missing an attribute required by your task"),
    ({"agent_connected": False}, {}, "AGENT", 'encountered error "AGENT"'),
    ({"status": "DRAINING"}, {}, "DRAINING", 'encountered error "DRAINING"'),
    (
        {},
        {"constraints": ("attribute:ecs.availability-zone == b",)},
        "MemberOf placement constraint unsatisfied.",
        'encountered error "MemberOf placement constraint unsatisfied."',
    ),
    (
        {},
        {"constraints": ("runningTasksCount > 0",)},
        "MemberOf placement constraint unsatisfied.",
        'encountered error "MemberOf placement constraint unsatisfied."',
    ),
    ({}, {"constraints": ("not an expression",)}, "MemberOf placement constraint unsatisfied.", 'encountered error "MemberOf'),
]


@pytest.mark.parametrize(("fields", "wanted", "reason", "phrase"), REASONS)
def test_every_refusal_has_its_reason(fields: dict[str, Any], wanted: dict[str, Any], reason: str, phrase: str) -> None:
    index = index_of(instance(1, **fields))
    refusal = refused(index, request(**wanted))
    assert refusal.reasons == ((key(1), reason),)
    assert index.explain(request(**wanted), key(1)) == reason
    assert refusal.closest.phrase.startswith(phrase)
    assert refusal.summary() == (
        "was unable to place a task because no container instance met all of its requirements. "
        f"The closest matching (container-instance {1:032x}) {refusal.closest.phrase}. "
        "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
    )


def test_distinct_instance_goes_by_desired_status() -> None:
    wanted = request(service="web", distinct=True)
    running = task(1, 1, service="web")
    index = index_of(instance(1), running)
    assert refused(index, wanted).reasons == ((key(1), "DistinctInstance placement constraint unsatisfied."),)
    assert chosen(index, request(service="api", distinct=True)) == 1
    index.change("tasks", running, msgspec.structs.replace(running, desired_status="STOPPED"))
    assert chosen(index, wanted) == 1


def test_an_empty_cluster_says_so() -> None:
    refusal = refused(PlacementIndex(), request())
    assert refusal.reasons == ()
    assert refusal.closest.instance_id == ""
    assert "Reason: No Container Instances were found in your cluster." in refusal.summary()
    gone = index_of(instance(1, status="INACTIVE", agent_connected=False))
    assert refused(gone, request()).reasons == ()
    assert gone.explain(request(), key(1)) == "INACTIVE"
    assert gone.explain(request(), key(2)) == "MISSING"
    assert "No Container Instances" in refused(gone, request()).summary()


def test_the_closest_is_connected_and_fails_least() -> None:
    index = index_of(instance(1, agent_connected=False), instance(2, cpu=1, memory_mib=1), instance(3, memory_mib=1), instance(4, cpu=1))
    refusal = refused(index, request())
    assert refusal.closest.instance_id == f"{3:032x}"
    assert [reason for _, reason in refusal.reasons] == ["AGENT", "RESOURCE:CPU", "RESOURCE:MEMORY", "RESOURCE:CPU"]


def test_resources_are_held_until_stopped() -> None:
    first = task(1, 1, cpu=4000, ports=((80, "tcp"),))
    index = index_of(instance(1), first)
    wanted = request(host_ports=((80, "tcp"),))
    assert refused(index, wanted).reasons == ((key(1), "RESOURCE:CPU"),)
    stopping = msgspec.structs.replace(first, desired_status="STOPPED", cpu=256)
    index.change("tasks", first, stopping)
    assert refused(index, wanted).reasons == ((key(1), "RESOURCE:PORTS"),)
    assert chosen(index, request(host_ports=((80, "udp"),))) == 1
    index.change("tasks", stopping, msgspec.structs.replace(stopping, last_status="STOPPED"))
    assert chosen(index, wanted) == 1


def test_external_instances_take_external_tasks_only() -> None:
    index = index_of(instance(1), instance(2, attributes={"ecs.capability.external": ""}))
    assert chosen(index, request(launch_type="EXTERNAL")) == 2
    assert chosen(index, request()) == 1


def test_clusters_are_apart() -> None:
    index = index_of(instance(1, cluster="other"))
    refused(index, request())
    assert chosen_id(index, request(cluster_key="111122223333/other")) == f"{1:032x}"


def chosen_id(index: PlacementIndex, wanted: PlacementRequest) -> str:
    placement = index.place(wanted)
    assert isinstance(placement, Placement)
    return placement.instance_id


@pytest.mark.parametrize(
    ("strategies", "expected"),
    [
        ("binpack=memory", 3),
        ("binpack=cpu", 2),
        ("spread=instanceId", 1),
        ("spread=host", 1),
        ("spread=attribute:ecs.availability-zone", 3),
        ("spread=attribute:rack", 2),
        ("spread=attribute:ecs.availability-zone,binpack=memory", 3),
        ("spread=instanceId,binpack=memory", 3),
        ("", 1),
    ],
)
def test_strategies(strategies: str, expected: int) -> None:
    index = index_of(
        instance(1, zone="a"),
        instance(2, zone="a", cpu=2048, attributes={"rack": "r"}),
        instance(3, zone="b", memory_mib=1024),
        instance(4, zone=""),
        task(1, 2, group="family:web", cpu=0, memory_mib=0),
    )
    assert chosen(index, request(strategies=strategies)) == expected


def test_a_service_without_strategies_spreads_over_zones_then_instances() -> None:
    index = index_of(instance(1, zone="a"), instance(2, zone="a"), instance(3, zone="b"))
    order = []
    for number in range(6):
        order.append(chosen(index, request(service="web")))
        index.change("tasks", None, task(number, order[-1], service="web"))
    assert order == [1, 3, 2, 3, 1, 3]


def test_random_is_reproducible_and_moves_with_the_group() -> None:
    index = index_of(*(instance(number) for number in range(1, 17)))
    seen = set()
    for number in range(30):
        node = chosen(index, request(service="web", strategies="random"))
        assert node == chosen(index, request(service="web", strategies="random"))
        seen.add(node)
        index.change("tasks", None, task(number, node, service="web", cpu=0, memory_mib=0))
    assert len(seen) > 8


def victims(index: PlacementIndex, wanted: PlacementRequest, tasks: list[Task], count: int) -> list[int]:
    return [int(k.rsplit("/", 1)[1], 16) for k in index.victims(wanted, tasks, count, now=1_800_000_000.0)]


def test_victims_mirror_the_default() -> None:
    tasks = [task(n, on, service="web") for n, on in enumerate((1, 1, 2, 3, 3), start=1)]
    index = index_of(instance(1, zone="a"), instance(2, zone="a"), instance(3, zone="b"), *tasks)
    assert victims(index, request(service="web"), tasks, 5) == [2, 5, 3, 4, 1]


def test_victims_of_binpack_leave_the_emptiest_instance() -> None:
    tasks = [task(1, 1, service="web"), task(2, 2, service="web"), task(3, 2, service="web", memory_mib=1024)]
    index = index_of(instance(1, memory_mib=2048), instance(2, memory_mib=2048), *tasks)
    assert victims(index, request(service="web", strategies="binpack=memory"), tasks, 3) == [1, 3, 2]


def test_victims_that_serve_least_go_first_and_protected_ones_stay() -> None:
    tasks = [
        task(1, 1, service="web"),
        task(2, 1, service="web", protected_until=1_900_000_000.0, last_status="PENDING"),
        task(3, 2, service="web"),
        task(4, 3, service="web", health_status="UNHEALTHY"),
        task(5, 3, service="web", last_status="PENDING"),
    ]
    index = index_of(instance(1), instance(2, status="DRAINING"), instance(3, zone="b"), *tasks)
    assert victims(index, request(service="web"), tasks, 10) == [5, 4, 3, 1]
    assert victims(index, request(service="web"), tasks, 2) == [5, 4]


def test_matching() -> None:
    index = index_of(instance(2), instance(1, zone="b"), instance(3, status="INACTIVE"), instance(4, status="DRAINING"))
    assert index.matching(CLUSTER, "attribute:ecs.availability-zone == a") == [key(2), key(4)]
    assert index.matching(CLUSTER, "agentConnected == true") == [key(1), key(2), key(4)]
    assert index.matching("111122223333/none", "agentConnected == true") == []


def test_tasks_may_come_before_their_instance() -> None:
    index = index_of(task(1, 1, cpu=4000), instance(1))
    assert refused(index, request()).reasons == ((key(1), "RESOURCE:CPU"),)


def test_binpack_looks_again_after_a_release_or_an_edit_of_its_last_choice() -> None:
    """The last choice is taken again without a search only while nothing but its own bookings happened to it."""
    wanted = request(strategies="binpack=memory")
    first, second = instance(1, memory_mib=2048), instance(2, memory_mib=4096)
    booked = task(1, 1, memory_mib=1024)
    index = index_of(first, second, booked, instance(3, memory_mib=1536), scan_nodes_max=0)
    assert chosen(index, wanted) == 1
    index.change("tasks", booked, None)
    assert chosen(index, wanted) == 3
    index.change("container_instances", instance(3, memory_mib=1536), instance(3, memory_mib=1536, status="DRAINING"))
    assert chosen(index, wanted) == 1
    index.change("tasks", None, task(2, 1))
    assert chosen(index, wanted) == 1


@pytest.mark.parametrize("strategies", ["", "spread=instanceId", "binpack=memory", "random"])
def test_a_task_never_comes_to_another_account_s_instance_of_a_cluster_of_the_same_name(strategies):
    other = "444455556666"
    index = index_of(instance(1, cpu=256, memory_mib=512), instance(2, account=other))
    theirs = request(strategies=strategies, cluster_key=f"{other}/default")
    assert chosen(index, request(strategies=strategies)) == 1
    placed = index.place(theirs)
    assert isinstance(placed, Placement) and placed.instance_key == f"{other}/default/{2:032x}"
    index.change("tasks", None, task(7, 1))
    assert [failed for failed, _ in refused(index, request(strategies=strategies)).reasons] == [key(1)]  # the other one is not even looked at
    assert list(index.targets(request())) == [key(1)] and index.matching(CLUSTER, "agentConnected == true") == [key(1)]
    assert index.explain(request(), f"{other}/default/{2:032x}") == reasons.MISSING
