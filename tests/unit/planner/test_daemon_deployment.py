"""What a daemon does next, as tables: starts, batches, bake time, failures, rollback, the end."""

from __future__ import annotations

import msgspec
import pytest

from homeport.config import Settings
from homeport.model.ecs.deployment import AlarmMonitor, CircuitBreaker
from homeport.model.ecs.task import Container
from homeport.planner.daemon_deployment import DaemonView, plan, share_of, was_lost
from homeport.planner.daemon_monitors import superseded
from homeport.testing import records

LATER = records.NOW + 100
NEW, OLD = "2" * 19, "1" * 19
CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)
COMPLETED = records.daemon_revision(id=OLD)


def at(number):
    return f"{records.ACCOUNT}/default/{number:032x}"


def configuration(percent=25.0, minutes=0, alarms=None):
    return msgspec.json.encode({"drainPercent": percent, "bakeTimeInMinutes": minutes, **({"alarms": alarms} if alarms else {})})


def task(number, instance=None, **fields):
    return records.daemon_task(number, **{"container_instance_id": f"{instance or number:032x}", **fields})


def old(number):
    return task(number, deployment_id=OLD, family="logs")


def decide(tasks, targets, *, draining=(), away=(), busy=(), refused=(), ended=(), bereft=(), completed=None, now=LATER, deployment=None, **daemon):
    """(instances that get a task, numbers of the stopped tasks, the plan). `targets`: numbers of instances; negative: agent away."""
    view = DaemonView(
        daemon=records.daemon(**daemon),
        deployment=deployment or records.daemon_deployment(),
        revision=records.daemon_revision(),
        tasks=tuple(tasks),
        targets={at(abs(n)): n > 0 for n in targets},
        draining=frozenset(at(n) for n in draining),
        away=frozenset(at(n) for n in away),
        busy=frozenset(at(n) for n in busy),
        refused={at(n): "RESOURCE:MEMORY" for n in refused},
        bereft=tuple(bereft),
        completed=completed,
    )
    answer = plan(view, ended, settings=Settings(), now=now)
    return [int(key[-32:], 16) for key in answer.starts], sorted(int(stop.task.id, 16) for stop in answer.stops), answer


@pytest.mark.parametrize(
    ("tasks", "targets", "starts", "status"),
    [
        ([], [], [], "SUCCESSFUL"),  # nowhere to go is all the way
        ([], [1, 2, 3], [1, 2, 3], "IN_PROGRESS"),
        ([1, 3], [1, 2, 3], [2], "IN_PROGRESS"),
        ([1], [1, -2], [], "SUCCESSFUL"),  # a machine that is away is not waited for
        ([1, 2], [1, -2], [], "SUCCESSFUL"),
        ([1, 2, 3], [1, 2, 3], [], "SUCCESSFUL"),
    ],
)
def test_every_connected_instance_gets_one_task(tasks, targets, starts, status):
    started, stopped, answer = decide([task(n) for n in tasks], targets)
    assert (started, stopped, answer.deployment.status) == (starts, [], status)
    assert answer.daemon.completed_revision_id == (NEW if status == "SUCCESSFUL" else "")


def test_a_deployment_begins_before_it_can_end():
    pending = records.daemon_deployment(status="PENDING", started_at=0.0)
    begun = decide([], [], deployment=pending)[2].deployment
    assert (begun.status, begun.started_at) == ("IN_PROGRESS", LATER)


def test_an_instance_never_has_two():
    assert decide([task(1), task(5, 1), task(6, 1, deployment_id=OLD)], [1])[:2] == ([], [5, 6])
    leaving = task(1, desired_status="STOPPED", last_status="STOPPING")
    assert decide([leaving], [1])[:2] == ([], []), "the next one waits until the last one is gone"


@pytest.mark.parametrize(
    ("percent", "count", "batch"), [(0.0, 4, 1), (10.0, 4, 1), (25.0, 4, 1), (25.0, 8, 2), (50.0, 5, 2), (99.9, 10, 9), (100.0, 5, 5)]
)
def test_an_update_takes_a_batch_at_a_time(percent, count, batch):
    numbers = range(1, count + 1)
    started, stopped, answer = decide([old(n) for n in numbers], numbers, deployment=records.daemon_deployment(configuration=configuration(percent)))
    assert (started, stopped) == ([], list(range(1, batch + 1)))
    assert (answer.deployment.steps, answer.deployment.status) == (1, "IN_PROGRESS")


def test_the_next_batch_waits_for_the_last_one():
    step = records.daemon_deployment(steps=1)
    leaving = task(1, deployment_id=OLD, desired_status="STOPPED", last_status="STOPPING")
    rest = [old(n) for n in (2, 3, 4)]
    assert decide([leaving, *rest], [1, 2, 3, 4], deployment=step)[:2] == ([], [])
    assert decide(rest, [1, 2, 3, 4], deployment=step)[:2] == ([1], [])
    assert decide([task(1, started_at=LATER - 1), *rest], [1, 2, 3, 4], deployment=step)[:2] == ([], []), "not healthy yet"
    assert decide([task(1), *rest], [1, 2, 3, 4], deployment=step)[:2] == ([], [2])


def test_an_old_task_that_does_not_serve_is_no_reason_to_wait():
    assert decide([task(1, deployment_id=OLD, last_status="PENDING", started_at=0.0), old(2)], [1, 2])[:2] == ([], [1])


def test_each_step_bakes_and_so_does_the_last():
    step = records.daemon_deployment(steps=1, configuration=configuration(50.0, minutes=2))
    tasks = [task(1), old(2)]
    _, stopped, answer = decide(tasks, [1, 2], deployment=step)
    assert (stopped, answer.deployment.bake_started_at, answer.wake_at) == ([], LATER, LATER + 120)
    assert decide(tasks, [1, 2], deployment=answer.deployment, now=LATER + 119)[1] == []
    _, stopped, answer = decide(tasks, [1, 2], deployment=answer.deployment, now=LATER + 120)
    assert (stopped, answer.deployment.steps, answer.deployment.bake_started_at) == ([2], 2, 0.0)
    done = [task(1), task(2)]
    answer = decide(done, [1, 2], deployment=answer.deployment, now=LATER + 200)[2]
    assert (answer.deployment.status, answer.deployment.bake_started_at) == ("IN_PROGRESS", LATER + 200)
    assert decide(done, [1, 2], deployment=answer.deployment, now=LATER + 320)[2].deployment.status == "SUCCESSFUL"


@pytest.mark.parametrize(("critical", "status"), [(True, "IN_PROGRESS"), (False, "SUCCESSFUL")])
def test_an_instance_without_room_holds_up_only_a_critical_daemon(critical, status):
    answer = decide([task(1)], [1, 2], refused=[2], critical=critical)[2]
    assert answer.deployment.status == status
    assert ("RESOURCE:MEMORY" in answer.deployment.status_reason) is critical


def test_where_it_does_not_belong_it_stops():
    assert decide([task(1), task(2)], [1])[:2] == ([], [2])


@pytest.mark.parametrize(("fields", "busy", "stops"), [({}, [2], []), ({}, [], [2]), ({"last_status": "PENDING"}, [2], [2])])
def test_on_an_instance_that_drains_it_goes_last(fields, busy, stops):
    assert decide([task(1), task(2, **fields)], [1], draining=[2], busy=busy)[1] == stops


def test_a_task_that_fails_its_check_is_replaced():
    sick = task(1, containers=CHECKED, health_status="UNHEALTHY")
    assert decide([sick], [1])[1] == [1]
    assert decide([task(1, containers=CHECKED, health_status="UNKNOWN")], [1])[2].deployment.status == "IN_PROGRESS"


def test_what_a_lost_critical_daemon_leaves_behind_stops():
    answer = decide([], [1], bereft=[records.task(7)])
    assert answer[:2] == ([1], [7])
    assert answer[2].stops[0].reason == "The critical daemon logs is not running on the container instance any more"


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"stop_code": "EssentialContainerExited"}, True),
        ({"stop_code": "UserInitiated"}, True),
        ({"stop_code": "ServiceSchedulerInitiated", "stopped_reason": "Scaling activity"}, False),
        ({"stop_code": "ServiceSchedulerInitiated", "stopped_reason": "Task failed container health checks"}, True),
        ({"stop_code": "TaskFailedToStart", "started_at": 0.0}, False),  # it never served
    ],
)
def test_which_ends_are_a_loss(fields, lost):
    assert was_lost(task(1, last_status="STOPPED", desired_status="STOPPED", **fields)) is lost


def failing(number, stopped_at):
    return task(number, last_status="STOPPED", desired_status="STOPPED", started_at=0.0, stopped_at=stopped_at, stop_code="TaskFailedToStart")


def test_three_failed_launches_roll_back_to_what_completed():
    ended = [failing(n, LATER - 4 + n) for n in (1, 2)]
    answer = decide([], [1, 2], ended=ended, completed=COMPLETED, completed_revision_id=OLD)[2]
    assert (answer.deployment.status, answer.deployment.circuit_breaker) == (
        "IN_PROGRESS",
        CircuitBreaker(status="MONITORING", failure_count=2, threshold=3),
    )
    answer = decide([], [1, 2], ended=[*ended, failing(3, LATER)], completed=COMPLETED, completed_revision_id=OLD)[2]
    assert answer.deployment.status == "ROLLBACK_IN_PROGRESS"
    assert answer.deployment.circuit_breaker.status == "TRIGGERED"
    assert (answer.deployment.rollback.revision_id, answer.deployment.rollback.capacity_providers) == (OLD, ("edge",))
    assert (answer.daemon.revision_id, answer.daemon.definitions) == (OLD, (COMPLETED.definition,))
    assert (answer.starts, answer.stops) == ((), ())


def test_a_first_deployment_that_fails_stops_and_keeps_no_room():
    answer = decide([], [1], ended=[failing(n, LATER) for n in (1, 2, 3)], share=share_of(records.daemon(), records.task_definition()))[2]
    assert (answer.deployment.status, answer.daemon.share) == ("STOPPED", None)
    assert "no daemon revision to roll back to" in answer.deployment.status_reason
    assert decide([], [1], deployment=answer.deployment)[:2] == ([], [])


def test_a_rollback_goes_by_batches_without_baking_and_succeeds():
    back = decide([], [1, 2], ended=[failing(n, LATER) for n in (1, 2, 3)], completed=COMPLETED, completed_revision_id=OLD)[2].deployment
    assert decide([old(2), task(1)], [1, 2], deployment=back, revision_id=OLD)[1] == [1]
    answer = decide([old(1), old(2)], [1, 2], deployment=back, revision_id=OLD, completed_revision_id=OLD)[2]
    assert (answer.deployment.status, answer.daemon.completed_revision_id) == ("ROLLBACK_SUCCESSFUL", OLD)


def test_a_rollback_whose_tasks_fail_as_well_has_failed():
    back = records.daemon_deployment(
        status="ROLLBACK_IN_PROGRESS", failed_tasks=2, circuit_breaker=CircuitBreaker(status="TRIGGERED", failure_count=3, threshold=3)
    )
    assert decide([], [1], deployment=back)[2].deployment.status == "ROLLBACK_IN_PROGRESS"
    answer = decide([], [1], deployment=back, ended=[failing(1, LATER)], completed=COMPLETED)[2]
    assert answer.deployment.status == "ROLLBACK_FAILED"


@pytest.mark.parametrize(
    ("monitor", "status"),
    [
        (AlarmMonitor(), "IN_PROGRESS"),  # nobody has read them yet
        (AlarmMonitor(seen_at=LATER), "SUCCESSFUL"),
        (AlarmMonitor(seen_at=LATER, in_alarm=("cpu",)), "ROLLBACK_IN_PROGRESS"),
        (AlarmMonitor(seen_at=LATER, in_alarm=("cpu",), ignored=True), "SUCCESSFUL"),
    ],
)
def test_alarms(monitor, status):
    watched = records.daemon_deployment(configuration=configuration(alarms={"alarmNames": ["cpu"], "enable": True}), alarms=monitor)
    answer = decide([task(1)], [1], deployment=watched, completed=COMPLETED, completed_revision_id=OLD)[2]
    assert answer.deployment.status == status
    assert answer.deployment.alarms.status == {"SUCCESSFUL": "DISABLED" if monitor.ignored else "MONITORING_COMPLETE"}.get(
        status, "TRIGGERED" if "ROLLBACK" in status else "MONITORING"
    )


def test_failed_launches_are_delayed():
    throttled = records.daemon_deployment(throttled_until=LATER + 5)
    started, stopped, answer = decide([old(2)], [1, 2], deployment=throttled)
    assert (started, stopped, answer.wake_at) == ([], [], LATER + 5)


def test_a_deleted_daemon_stops_its_tasks_and_is_over():
    pending = records.daemon_deployment(status="PENDING", revision_id="")
    _, stopped, answer = decide([task(1), old(2)], [1, 2], deployment=pending, status="DELETE_IN_PROGRESS")
    assert (stopped, answer.deployment.status, answer.over) == ([1, 2], "IN_PROGRESS", False)
    leaving = task(1, desired_status="STOPPED", last_status="STOPPING")
    going = answer.deployment
    assert decide([leaving], [1], deployment=going, status="DELETE_IN_PROGRESS")[2].over is False
    for tasks, away in (([], ()), ([leaving], [1])):  # what an agent that is away still has is not waited for
        answer = decide(tasks, [], away=away, deployment=going, status="DELETE_IN_PROGRESS")[2]
        assert (answer.stops, answer.deployment.status, answer.over) == ((), "SUCCESSFUL", True)


@pytest.mark.parametrize(("sources", "threshold"), [((), 20), ((OLD,), 5)])
def test_the_breaker_goes_by_how_many_can_fail_together(sources, threshold):
    """All instances of a first deployment, a batch of an update."""
    deployment = records.daemon_deployment(source_revision_ids=sources)
    answer = decide([], range(1, 41), deployment=deployment)[2]
    assert answer.deployment.circuit_breaker.threshold == threshold


def test_a_great_many_are_taken_in_portions():
    _, stopped, answer = decide([task(n) for n in range(1, 101)], [], deployment=records.daemon_deployment())
    assert (len(stopped), answer.more) == (30, True)
    started, _, answer = decide([], range(1, 101))
    assert (len(started), answer.more) == (30, True)


@pytest.mark.parametrize(
    ("status", "ended"),
    [("PENDING", "STOPPED"), ("IN_PROGRESS", "STOPPED"), ("ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED"), ("SUCCESSFUL", "SUCCESSFUL")],
)
def test_a_newer_deployment_ends_one_that_is_on_its_way(status, ended):
    assert superseded(records.daemon_deployment(status=status), LATER).status == ended


def test_twice_in_a_row_changes_nothing_the_second_time():
    first = decide([task(1), old(2)], [1, 2, 3], deployment=records.daemon_deployment(status="PENDING"))[2]
    stopped = {stop.task.id for stop in first.stops}
    tasks = [item for item in (task(1), old(2)) if item.id not in stopped] + [task(3, last_status="PENDING", started_at=0.0)]
    second = decide(tasks, [1, 2, 3], deployment=first.deployment)[2]
    third = decide(tasks, [1, 2, 3], deployment=second.deployment)[2]
    assert (third.deployment, third.starts, third.stops) == (second.deployment, (), ())


def test_a_step_of_many_is_taken_in_portions_without_waiting():
    numbers = range(1, 101)
    deployment = records.daemon_deployment(configuration=configuration(50.0))
    taken: set[int] = set()
    for portion in (30, 20):
        tasks = [msgspec.structs.replace(old(n), healthy_since=records.NOW) for n in numbers if n not in taken]
        tasks += [task(n, deployment_id=OLD, desired_status="STOPPED", last_status="STOPPING") for n in sorted(taken)]
        _, stopped, answer = decide(tasks, numbers, deployment=deployment)
        assert (len(stopped), answer.deployment.steps, answer.more) == (portion, 1, portion == 30)
        taken.update(stopped)
        deployment = answer.deployment
    assert len(taken) == 50
    tasks = [old(n) for n in numbers if n not in taken]
    assert decide(tasks, numbers, deployment=deployment)[1] == [], "the next step waits until the last one is done"


def test_when_to_look_again():
    pending = task(1, last_status="PENDING", started_at=0.0)
    assert decide([pending], [1])[2].wake_at == LATER + 40, "that it begins to run is not told"
    assert decide([task(1, started_at=LATER - 10)], [1])[2].wake_at == LATER + 30
    assert decide([task(1)], [1])[2].wake_at == 0.0
