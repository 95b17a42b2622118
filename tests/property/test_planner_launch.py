"""A service that only lacks tasks: counts give the same plan as all of its tasks do."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.planner import service as planner
from homeport.planner.launch import plan_launch
from homeport.planner.service import ServiceView
from homeport.testing import records

HEALTHY_AFTER = 40.0


def no_victims(tasks, count):
    assert not tasks or not count, "a service that lacks tasks stops none"
    return ()


@settings(max_examples=300, deadline=None)
@given(
    seen=st.lists(st.tuples(st.sampled_from(("PROVISIONING", "PENDING", "RUNNING")), st.floats(0, 100), st.booleans()), min_size=1, max_size=60),
    missing=st.integers(1, 100),
    percentages=st.tuples(st.integers(0, 100), st.integers(100, 250)),
    steady=st.booleans(),
    throttled=st.floats(-5, 5),
    rollout=st.sampled_from(("IN_PROGRESS", "COMPLETED", "FAILED")),
)
def test_counts_give_the_plan_that_the_tasks_give(seen, missing, percentages, steady, throttled, rollout):
    tasks = tuple(
        records.task(
            number,
            last_status=status,
            observed_status=status if status == "RUNNING" else "",
            container_instance_id="" if status == "PROVISIONING" else "1" * 32,
            started_at=records.NOW - age if status == "RUNNING" else 0.0,
            protected_until=records.NOW + 60 if protected else 0.0,
        )
        for number, (status, age, protected) in enumerate(seen, 1)
    )
    service = records.service(
        desired_count=len(tasks) + missing, minimum_healthy_percent=percentages[0], maximum_percent=percentages[1], steady=steady
    )
    primary = records.deployment(rollout_state=rollout, throttled_until=records.NOW + throttled)
    view = ServiceView(service=service, deployments=(primary,), tasks=tasks)
    expected = planner.plan(view, no_victims, healthy_after_seconds=HEALTHY_AFTER, now=records.NOW)
    found = plan_launch(service, primary, len(tasks), now=records.NOW)
    if found is None:
        assert not any(isinstance(change, planner.StartTask) for change in expected.changes)
    else:
        assert found.changes == expected.changes
        assert msgspec.structs.replace(expected, changes=(), wake_at=0.0) == msgspec.structs.replace(found, changes=(), wake_at=0.0)
