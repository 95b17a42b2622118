"""The arithmetic of task sets as tables, and what their planner answers."""

from __future__ import annotations

import msgspec
import pytest

from homeport.config import Settings
from homeport.model.change import Event, ForgetTaskSet, StartTask, StopTask, UpdateTask, UpdateTaskSet
from homeport.model.ecs.task import Container
from homeport.planner.task_set import TaskSetView, computed_desired_count, in_order, is_steady, plan
from homeport.testing import records

T0 = records.NOW
LATER = T0 + 100  # every RUNNING task of the builders is healthy by then
INSTANCE = f"{records.ACCOUNT}/default/{'1' * 32}"
CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)


def first(tasks, count):
    return list(tasks)[:count]


def view(tasks=(), *, desired=4, draining=(), minimum=100, maximum=200, **fields):
    service = records.service(
        desired_count=desired, deployment_controller="EXTERNAL", minimum_healthy_percent=minimum, maximum_percent=maximum, family="", revision=0
    )
    return TaskSetView(service=service, task_set=records.task_set(**fields), tasks=tuple(tasks), draining=frozenset(draining))


def some(count, **fields):
    return [records.task(number, healthy_since=T0 + 40, **fields) for number in range(1, count + 1)]


def answer(a_view, ended=(), now=LATER):
    return plan(a_view, first, ended, settings=Settings(), now=now)


def decide(a_view, ended=(), now=LATER):
    """(number of starts, numbers of the stopped tasks)."""
    changes = answer(a_view, ended, now).changes
    return sum(isinstance(change, StartTask) for change in changes), [int(c.task.id, 16) for c in changes if isinstance(c, StopTask)]


def stored(a_view, ended=(), now=LATER):
    """The set as it is after the plan."""
    changed = [change.task_set for change in answer(a_view, ended, now).changes if isinstance(change, UpdateTaskSet)]
    return changed[0] if changed else a_view.task_set


def told(a_view, ended=(), now=LATER):
    return [change.message for change in answer(a_view, ended, now).changes if isinstance(change, Event)]


@pytest.mark.parametrize(
    ("desired", "scale", "expected"),
    [
        (6, 20.0, 2),  # 1.2, the documentation's own example
        (0, 100.0, 0),
        (10, 0.0, 0),
        (10, 100.0, 10),
        (10, 50.0, 5),
        (10, 0.1, 1),
        (1, 1.0, 1),
        (3, 33.0, 1),
        (3, 33.4, 2),
        (3, 66.7, 3),
        (7, 99.9, 7),
        (10, 30.0, 3),
        (1000, 0.7, 7),  # of the decimal number: the nearest binary fraction is a little more
        (1000, 28.7, 287),
        (100, 57.0, 57),
        (1_000_000, 0.0001, 1),
    ],
)
def test_the_computed_desired_count_is_rounded_up(desired, scale, expected):
    assert computed_desired_count(desired, scale) == expected


def test_the_computed_desired_count_never_falls_as_the_scale_grows():
    for desired in range(1, 41):
        counts = [computed_desired_count(desired, tenths / 10) for tenths in range(1001)]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, desired)
        assert all(count * 1000 >= desired * tenths > (count - 1) * 1000 for tenths, count in enumerate(counts) if tenths)


@pytest.mark.parametrize(
    ("scale", "running", "starts", "stops"),
    [(100.0, 0, 4, 0), (50.0, 0, 2, 0), (30.0, 0, 2, 0), (100.0, 4, 0, 0), (50.0, 4, 0, 2), (0.0, 4, 0, 4), (0.0, 0, 0, 0), (75.0, 1, 2, 0)],
)
def test_a_set_gets_its_share_of_the_desired_count(scale, running, starts, stops):
    started, stopped = decide(view(some(running), scale=scale))
    assert (started, len(stopped)) == (starts, stops)


def test_a_deleted_set_stops_all_its_tasks_protected_ones_too_and_then_goes():
    kept = view([*some(2), records.task(3, protected_until=LATER + 60)], status="DRAINING")
    assert decide(kept) == (0, [1, 2, 3])
    going = records.task(1, desired_status="STOPPED", last_status="RUNNING")
    assert answer(view([going], status="DRAINING")).changes == ()
    gone = view([msgspec.structs.replace(going, last_status="STOPPING")], status="DRAINING")
    (change,) = answer(gone).changes
    assert isinstance(change, ForgetTaskSet)


def test_scale_in_leaves_protected_tasks_and_says_so():
    protected = records.task(2, protected_until=LATER + 60, healthy_since=T0 + 40)
    a_view = view([records.task(1, healthy_since=T0 + 40), protected], scale=0.0)
    # Placement's answer for tasks in reality leaves protected ones out.
    changes = plan(a_view, lambda tasks, count: [t for t in tasks if not t.protected_until][:count], (), settings=Settings(), now=LATER).changes
    assert [int(change.task.id, 16) for change in changes if isinstance(change, StopTask)] == [1]
    assert f"(service web, taskSet ecs-svc/{'1' * 19}) was unable to scale in due to (reason 1 tasks under protection)." in [
        change.message for change in changes if isinstance(change, Event)
    ]


@pytest.mark.parametrize(("minimum", "maximum", "expected"), [(100, 200, (4, [])), (0, 100, (0, [1, 2, 3, 4])), (50, 100, (0, [1, 2]))])
def test_tasks_on_a_draining_instance_are_replaced_under_the_percentages_of_the_share(minimum, maximum, expected):
    draining = view(some(4), draining=[INSTANCE], minimum=minimum, maximum=maximum)
    started, stopped = decide(draining)
    if minimum == 100:
        assert (started, stopped) == expected
    else:
        # What stops makes room at once: the stopped no longer count for the upper bound.
        assert stopped == expected[1]
        assert started == len(stopped)


def test_an_unhealthy_task_is_replaced_first():
    sick = records.task(1, containers=CHECKED, health_status="UNHEALTHY")
    fit = [records.task(n, containers=CHECKED, health_status="HEALTHY", healthy_since=T0 + 1) for n in (2, 3, 4)]
    assert decide(view([sick, *fit])) == (1, [])
    assert decide(view([sick, *fit, records.task(5, containers=CHECKED, health_status="HEALTHY", healthy_since=T0 + 1)])) == (0, [1])


@pytest.mark.parametrize(
    ("tasks", "draining", "expected"),
    [
        (some(4), [], "STEADY_STATE"),
        (some(3), [], "STABILIZING"),
        (some(5), [], "STABILIZING"),
        ([*some(3), records.task(4, last_status="PENDING", started_at=0.0)], [], "STABILIZING"),
        (some(4), [INSTANCE], "STABILIZING"),
        ([*some(3), records.task(4, containers=CHECKED, health_status="UNKNOWN")], [], "STABILIZING"),
        ([*some(3), records.task(4, containers=CHECKED, health_status="HEALTHY", healthy_since=T0)], [], "STEADY_STATE"),
        ([*some(4), records.task(5, desired_status="STOPPED", last_status="STOPPING")], [], "STEADY_STATE"),
    ],
)
def test_stability_follows_the_documented_conditions(tasks, draining, expected):
    before = "STABILIZING" if expected == "STEADY_STATE" else "STEADY_STATE"
    after = stored(view(tasks, draining=draining, stability_status=before))
    assert (after.stability_status, after.stability_status_at) == (expected, LATER)


def test_a_set_without_a_share_is_steady_with_no_task():
    assert stored(view(scale=0.0)).stability_status == "STEADY_STATE"
    assert told(view(scale=0.0)) == [f"(service web, taskSet ecs-svc/{'1' * 19}) has reached a steady state."]


def ended(number, at, **fields):
    return records.task(
        number,
        desired_status="STOPPED",
        last_status="STOPPED",
        started_at=0.0,
        stopped_at=at,
        stop_code="TaskFailedToStart",
        created_at=at - 1,
        **fields,
    )


def test_launches_that_fail_are_counted_once_and_delay_the_next():
    a_view = view(failures_to_start=2, failed_tasks=2, scale=25.0)
    failed = [ended(1, LATER - 1)]
    after = stored(a_view, failed)
    assert (after.failures_to_start, after.failed_tasks, after.impaired) == (3, 3, True)
    assert after.throttled_until == LATER + 15
    assert decide(a_view, failed) == (0, [])
    assert any("is unable to consistently start tasks successfully" in message for message in told(a_view, failed))
    again = view(failures_to_start=3, failed_tasks=3, impaired=True, throttled_until=LATER + 15, ends_counted_at=after.ends_counted_at, scale=25.0)
    assert stored(again, failed) == again.task_set
    assert answer(again, failed).wake_at == LATER + 15
    assert decide(again, failed, now=LATER + 16) == (1, [])


def test_another_set_is_not_delayed_by_them():
    assert decide(view(scale=25.0)) == (1, [])


def test_healthy_tasks_are_marked_and_many_of_them_before_anything_else_happens():
    fresh = [records.task(number) for number in range(1, 5)]
    marked = [change for change in answer(view(fresh)).changes if isinstance(change, UpdateTask)]
    assert [change.task.healthy_since for change in marked] == [LATER] * 4
    many = view([records.task(number) for number in range(1, 101)], desired=200)
    found = answer(many)
    assert sum(isinstance(change, UpdateTask) for change in found.changes) == 80
    assert not any(isinstance(change, StartTask) for change in found.changes)
    assert found.wake_at == LATER


def test_no_plan_holds_more_than_a_transaction():
    grown = answer(view(some(0), desired=1000))
    assert sum(isinstance(change, StartTask) for change in grown.changes) == 40
    shrunk = answer(view(some(300), desired=0))
    assert sum(isinstance(change, StopTask) for change in shrunk.changes) == 40


def test_the_primary_set_is_served_first_and_then_the_oldest():
    sets = [records.task_set(id=str(n) * 19, created_at=T0 + n, status="PRIMARY" if n == 3 else "ACTIVE") for n in (2, 1, 3)]
    assert [item.id[0] for item in in_order(sets)] == ["3", "1", "2"]


def test_the_service_is_steady_when_all_its_sets_are():
    service = records.service(deployment_controller="EXTERNAL")
    steady, not_yet = records.task_set(stability_status="STEADY_STATE"), records.task_set(id="2" * 19)
    assert is_steady(service, [steady])
    assert not is_steady(service, [steady, not_yet])
    assert not is_steady(service, [])
