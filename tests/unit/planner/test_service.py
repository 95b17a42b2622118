from __future__ import annotations

import msgspec
import pytest

from homeport.model.change import Event, StartTask, StopTask, UpdateDeployment, UpdateService
from homeport.model.ecs.task import Container
from homeport.planner.service import Bounds, ServiceView, bounds, plan, started, stopped
from homeport.testing import records

T0 = records.NOW
LATER = T0 + 100  # every RUNNING task of the builders is healthy by then
NEW, OLD = "2" * 19, "1" * 19
CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)


def in_order(tasks, count):
    return list(tasks)[:count]


def view(tasks=(), *, deployments=None, draining=(), **fields):
    return ServiceView(
        service=records.service(**fields),
        deployments=(records.deployment(),) if deployments is None else deployments,
        tasks=tuple(tasks),
        draining=frozenset(draining),
    )


def rolling(old, new, **fields):
    """A deployment NEW that replaces OLD; `old` and `new` are the tasks' numbers."""
    deployments = (records.deployment(id=OLD, status="ACTIVE"), records.deployment(id=NEW))
    tasks = [records.task(n, deployment_id=OLD) for n in old] + [records.task(n, deployment_id=NEW) for n in new]
    return view(tasks, deployments=deployments, **fields)


def decide(a_view, now=LATER):
    """(number of starts, numbers of the stopped tasks, other changes, wake_at)."""
    answer = plan(a_view, in_order, healthy_after_seconds=40.0, now=now)
    starts = sum(isinstance(change, StartTask) for change in answer.changes)
    stops = [int(change.task.id, 16) for change in answer.changes if isinstance(change, StopTask)]
    rest = [change for change in answer.changes if not isinstance(change, StartTask | StopTask)]
    return starts, stops, rest, answer.wake_at


@pytest.mark.parametrize(
    ("desired", "minimum", "maximum", "expected"),
    [
        (4, 100, 200, Bounds(4, 8)),
        (3, 100, 125, Bounds(3, 3)),
        (1, 50, 150, Bounds(1, 1)),
        (5, 50, 150, Bounds(3, 7)),
        (10, 0, 100, Bounds(0, 10)),
        (0, 100, 200, Bounds(0, 0)),
    ],
)
def test_bounds_round_as_ecs_does(desired, minimum, maximum, expected):
    assert bounds(records.service(desired_count=desired, minimum_healthy_percent=minimum, maximum_percent=maximum)) == expected


def test_missing_tasks_are_started():
    assert decide(view(desired_count=3)) == (3, [], [], 0.0)
    assert decide(view([records.task(1)], desired_count=3, steady=False))[0] == 2


def test_starts_come_in_portions():
    assert decide(view(desired_count=500))[0] == 40


def test_a_task_that_ended_is_replaced_at_once_even_at_maximum_percent_100():
    assert decide(view([records.task(1)], desired_count=2, maximum_percent=100, minimum_healthy_percent=100))[0] == 1


def test_a_task_on_its_way_down_neither_counts_nor_blocks():
    going = records.task(2, desired_status="STOPPED", last_status="STOPPING")
    assert decide(view([records.task(1), going], desired_count=2, maximum_percent=100))[0] == 1


def test_steady_state_is_told_once():
    tasks = [records.task(1), records.task(2)]
    _, _, rest, _ = decide(view(tasks))
    assert rest == [UpdateService(records.service(steady=True), "steady state reached"), Event("(service web) has reached a steady state.")]
    assert decide(view(tasks, steady=True)) == (0, [], [], 0.0)
    assert decide(view([records.task(1)], steady=True))[2] == [UpdateService(records.service(steady=False), "no longer in steady state")]


def test_it_looks_again_when_a_task_comes_of_age():
    assert decide(view([records.task(1), records.task(2, started_at=T0 + 5)]), now=T0 + 10) == (0, [], [], T0 + 40)


def test_scale_in_takes_starting_tasks_first_and_any_age_of_running_ones():
    tasks = [records.task(1), records.task(2), records.task(3, last_status="PENDING", started_at=0.0)]
    assert decide(view(tasks, desired_count=2))[1] == [3]
    assert decide(view(tasks, desired_count=1))[1] == [3, 1]
    assert decide(view(tasks, desired_count=0))[1] == [3, 1, 2]
    assert decide(view(tasks, desired_count=0), now=T0 + 1)[1] == [3, 1, 2]


def test_scale_in_never_goes_below_the_lower_bound_of_healthy_tasks():
    young = {"started_at": LATER - 1}
    tasks = [records.task(1), records.task(2), records.task(3, **young), records.task(4, **young)]
    assert decide(view(tasks, desired_count=2))[1] == [3, 4]


def test_an_update_surges_first_then_old_tasks_go_as_new_ones_are_healthy():
    assert decide(rolling([1, 2], []))[:2] == (2, [])
    assert decide(rolling([1, 2], [3, 4]), now=T0 + 10)[:2] == (0, [])
    assert decide(rolling([1, 2], [3, 4]))[:2] == (0, [1, 2])


def test_an_update_soon_after_the_start_does_not_empty_the_service():
    assert decide(rolling([1, 2], []), now=T0 + 1)[:2] == (2, [])


def test_starting_tasks_of_an_older_deployment_stop_at_once():
    pending = records.task(1, deployment_id=OLD, last_status="PENDING", started_at=0.0)
    deployments = (records.deployment(id=OLD, status="ACTIVE"), records.deployment(id=NEW))
    assert decide(view([pending], deployments=deployments))[:2] == (2, [1])


def test_without_surge_room_old_tasks_stop_down_to_the_lower_bound():
    fields = {"desired_count": 4, "minimum_healthy_percent": 50, "maximum_percent": 100}
    assert decide(rolling([1, 2, 3, 4], [], **fields))[:2] == (2, [1, 2])


@pytest.mark.parametrize(("desired", "minimum", "maximum"), [(2, 100, 100), (3, 100, 125), (1, 50, 150)])
def test_percentages_that_forbid_every_step_are_told(desired, minimum, maximum):
    numbers = list(range(1, desired + 1))
    fields = {"desired_count": desired, "minimum_healthy_percent": minimum, "maximum_percent": maximum}
    starts, stops, rest, _ = decide(rolling(numbers, [], **fields))
    assert (starts, stops) == (0, [])
    assert rest[0].message.startswith("(service web) was unable to stop or start tasks during a deployment because of the service deployment")
    assert rest[0].cause == f"configuration {NEW}"
    assert decide(rolling(numbers, [], **fields), now=T0 + 1)[2] == []  # tasks may still come of age: not told yet


def test_the_throttle_holds_starts_back_until_its_end():
    throttled = (records.deployment(throttled_until=LATER + 15),)
    assert decide(view(deployments=throttled)) == (0, [], [], LATER + 15)
    assert decide(view(deployments=throttled), now=LATER + 15)[0] == 2


def test_a_failed_deployment_launches_nothing():
    assert decide(view(deployments=(records.deployment(rollout_state="FAILED"),)))[0] == 0


def test_an_unhealthy_task_is_replaced_first_and_stopped_when_the_new_one_is_healthy():
    sick = records.task(1, containers=CHECKED, health_status="UNHEALTHY")
    assert decide(view([sick, records.task(2)]))[:2] == (1, [])
    assert decide(view([sick, records.task(2), records.task(3, last_status="PENDING", started_at=0.0)]))[:2] == (0, [])
    answer = plan(view([sick, records.task(2), records.task(3)]), in_order, healthy_after_seconds=40.0, now=LATER)
    assert [change.reason for change in answer.changes if isinstance(change, StopTask)] == ["Task failed container health checks"]


def test_with_no_room_unhealthy_tasks_go_one_by_one():
    sick = [records.task(n, containers=CHECKED, health_status="UNHEALTHY") for n in (1, 2)]
    assert decide(view(sick, maximum_percent=100))[:2] == (1, [1])
    going = records.task(1, desired_status="STOPPED", last_status="STOPPING")
    pending = records.task(3, last_status="PENDING", started_at=0.0)
    assert decide(view([going, sick[1], pending], maximum_percent=100))[:2] == (0, [])
    assert decide(view([sick[1], pending], maximum_percent=100))[:2] == (1, [2])


def test_tasks_on_a_draining_instance_are_replaced_under_both_bounds():
    gone = "123456789012/default/" + "9" * 32
    there = {"container_instance_id": "9" * 32}
    tasks = [records.task(1, **there), records.task(2)]
    assert decide(view(tasks, draining=[gone]))[:2] == (1, [])
    assert decide(view([*tasks, records.task(3)], draining=[gone]))[:2] == (0, [1])
    assert decide(view([records.task(1, last_status="PENDING", started_at=0.0, **there), records.task(2)], draining=[gone]))[:2] == (1, [1])


def test_protected_tasks_that_placement_withholds_are_not_stopped():
    answer = plan(view([records.task(1), records.task(2)], desired_count=0), lambda tasks, count: (), healthy_after_seconds=40.0, now=LATER)
    assert not [change for change in answer.changes if isinstance(change, StopTask)]


PROTECTED = {"protected_until": LATER + 600}
BLOCKED = "(service web) was unable to scale in due to (reason {} tasks under protection)."


def unprotected(tasks, count):
    return [task for task in tasks if task.protected_until <= LATER][:count]


@pytest.mark.parametrize(
    ("protected", "desired", "stops", "withheld"),
    [((), 1, [1, 2], 0), ((1,), 1, [2, 3], 0), ((1, 2), 1, [3], 1), ((1, 2, 3), 1, [], 2), ((1, 2, 3), 3, [], 0), ((2,), 0, [1, 3], 1)],
)
def test_scale_in_passes_protected_tasks_over_and_says_when_they_hold_it_up(protected, desired, stops, withheld):
    tasks = [records.task(n, **(PROTECTED if n in protected else {})) for n in (1, 2, 3)]
    answer = plan(view(tasks, desired_count=desired, steady=desired == 3), unprotected, healthy_after_seconds=40.0, now=LATER)
    assert [int(change.task.id, 16) for change in answer.changes if isinstance(change, StopTask)] == stops
    events = [change.message for change in answer.changes if isinstance(change, Event) and "protection" in change.message]
    assert events == ([BLOCKED.format(withheld)] if withheld else [])
    assert answer.wake_at == (LATER + 600 if withheld else 0.0)


@pytest.mark.parametrize(
    ("fields", "stops"),
    [({}, []), ({"last_status": "PENDING", "started_at": 0.0}, []), ({"protected_until": LATER}, [1]), ({"protected_until": LATER - 1}, [1])],
)
def test_a_deployment_waits_for_a_protected_task_and_only_while_it_is_protected(fields, stops):
    a_view = rolling([1], [2], desired_count=1)
    old = msgspec.structs.replace(a_view.tasks[0], **{**PROTECTED, **fields})
    assert decide(msgspec.structs.replace(a_view, tasks=(old, a_view.tasks[1])))[1] == stops


def test_a_drain_waits_for_a_protected_task_while_its_replacement_runs():
    gone = f"{records.ACCOUNT}/default/{'9' * 32}"
    staying = records.task(1, container_instance_id="9" * 32, **PROTECTED)
    assert decide(view([staying], draining=[gone], desired_count=1))[:2] == (1, [])
    assert decide(view([staying, records.task(2)], draining=[gone], desired_count=1))[1] == []


def test_an_unhealthy_task_goes_in_spite_of_its_protection():
    tasks = [records.task(1, containers=CHECKED, health_status="UNHEALTHY", **PROTECTED), records.task(2)]
    answer = plan(view(tasks, desired_count=1), unprotected, healthy_after_seconds=40.0, now=LATER)
    assert [int(change.task.id, 16) for change in answer.changes if isinstance(change, StopTask)] == [1]


def test_a_deletion_stops_protected_tasks():
    assert decide(view([records.task(1, **PROTECTED)], status="DRAINING", desired_count=0))[1] == [1]


def test_a_deleted_service_stops_everything_then_becomes_inactive():
    fields = {"status": "DRAINING", "desired_count": 0}
    assert decide(view([records.task(1), records.task(2)], **fields))[:2] == (0, [1, 2])
    unplaced = records.task(1, desired_status="STOPPED", last_status="PENDING")
    assert plan(view([unplaced], **fields), in_order, healthy_after_seconds=40.0, now=LATER).waiting_on == ("tasks that are not STOPPING yet",)
    stopping = records.task(1, desired_status="STOPPED", last_status="STOPPING")
    answer = plan(view([stopping], **fields), in_order, healthy_after_seconds=40.0, now=LATER)
    assert answer.changes == (
        UpdateService(records.service(status="INACTIVE", desired_count=0, drained_at=LATER), "every task is STOPPING or STOPPED"),
        UpdateDeployment(
            records.deployment(
                status="INACTIVE",
                updated_at=LATER,
                finished_at=LATER,
                service_deployment_status="STOPPED",
                status_reason="The service was deleted.",
            ),
            "the service was deleted",
        ),
    )


def test_an_inactive_service_is_left_alone():
    assert plan(view([records.task(1)], status="INACTIVE"), in_order, healthy_after_seconds=40.0, now=LATER).changes == ()


def test_event_wording():
    assert started("web", ["a", "b"]) == "(service web) has started 2 tasks: (task a) (task b)."
    assert stopped("web", ["a"]) == "(service web) has stopped 1 running tasks: (task a)."
