"""One sample of a pool, as tables: what is asked for, who leaves. The whole of it on a clock is in tests/unit/controllers/test_capacity.py."""

from __future__ import annotations

import pytest

from homeport.model.ecs.capacity_provider import CapacityProvider, InstanceSize, Leaving, ManagedScaling, ScalingState
from homeport.planner.capacity import SAMPLES_BELOW
from homeport.planner.managed_scaling import LEAVE_TOGETHER_MAX, Fleet, Machine, Member, View, sample
from homeport.testing import records

NOW = records.NOW + 10_000.0


def view(*tasks, waiting=0, fleet=None, **state):
    """A pool whose instances have so many `tasks`; `waiting` tasks fill an instance each."""
    provider = CapacityProvider(
        account=records.ACCOUNT,
        name="pool",
        type="EC2_AUTOSCALING",
        status="ACTIVE",
        created_at=records.NOW,
        managed_scaling=ManagedScaling(enabled=True),
        scaling=ScalingState(changed_at=records.NOW, **state),
    )
    instances = [records.container_instance(id=f"{number:032x}", ec2_instance_id=f"i-{number}") for number in range(len(tasks))]
    members = tuple(Member(instance=instance, tasks=count) for instance, count in zip(instances, tasks, strict=True))
    whole = tuple(records.task(number, cpu=4096, memory_mib=64) for number in range(waiting))
    return View(provider=provider, members=members, waiting=whole, fleet=fleet or Fleet())


@pytest.mark.parametrize(
    ("asked", "ask"),
    [
        (view(1, 1, waiting=2), 4),
        (view(1, 1, waiting=2, fleet=Fleet(desired=3)), 4),
        (view(1, 1, waiting=2, fleet=Fleet(desired=7)), 7),  # those that do not come are wanted all the same: never fewer than there are
        (view(1, 1, waiting=2, desired=7), 7),
        (view(1, 1), None),
        (view(1, 1, fleet=Fleet(desired=7)), None),
        (view(waiting=1), 2),
        (view(waiting=3, sizes=(InstanceSize(cpu=4096, memory_mib=8192),)), 3),
        (view(waiting=4, fleet=Fleet(sizes=(InstanceSize(cpu=8192, memory_mib=8192),))), 2),
    ],
)
def test_how_many_machines_are_asked_for(asked, ask):
    assert sample(asked, now=NOW).ask == ask


def test_what_leaves_counts_among_the_machines_and_not_among_the_instances():
    machines = (Machine(id="i-0", leaving=True), Machine(id="i-1"), Machine(id="i-elsewhere", leaving=True))
    found = sample(view(1, 1, waiting=1, fleet=Fleet(desired=3, machines=machines)), now=NOW)
    assert [(item.machine_id, item.instance_key != "", item.scale_in) for item in found.state.leaving] == [
        ("i-0", True, False),
        ("i-elsewhere", False, False),
    ]
    assert (found.state.instances, found.state.needed, found.ask) == (1, 2, 4)


@pytest.mark.parametrize(
    ("fleet", "gone", "ask"),
    [
        (Fleet(machines=(Machine(id="i-0"),)), {"i-9"}, 2),
        (Fleet(machines=(Machine(id="i-0"), Machine(id="i-9"))), set(), 3),
        (Fleet(), set(), 3),  # nobody says so
    ],
)
def test_what_leaves_and_is_not_listed_any_more_is_gone(fleet, gone, ask):
    found = sample(view(1, waiting=1, fleet=fleet, leaving=(Leaving(machine_id="i-9", instance_key="k", since=NOW),)), now=NOW)
    assert (found.gone, found.ask) == (gone, ask)
    assert [item.machine_id for item in found.state.leaving] == ["i-9"]  # until its instance is INACTIVE


def test_no_more_leave_together_than_can_be_drained_in_the_samples_own_transaction():
    found = sample(view(*[0] * 400, below=SAMPLES_BELOW), now=NOW)
    assert len(found.state.leaving) == LEAVE_TOGETHER_MAX
    assert all(item.scale_in for item in found.state.leaving)


def test_a_sample_that_finds_nothing_new_keeps_the_state_as_it_is():
    first = sample(view(1, 1), now=NOW)
    assert first.state.changed_at == NOW
    again = view(1, 1)
    provider = CapacityProvider(
        **{name: getattr(again.provider, name) for name in again.provider.__struct_fields__ if name != "scaling"}, scaling=first.state
    )
    known = View(provider=provider, members=again.members, waiting=())
    assert sample(known, now=NOW + 60).state is first.state
