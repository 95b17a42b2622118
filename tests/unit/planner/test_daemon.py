from __future__ import annotations

import pytest

from homeport.model.change import Event, StartTask, StopTask, UpdateService
from homeport.model.ecs.task import Container
from homeport.planner.daemon import DaemonView, plan
from homeport.planner.service import ServiceView
from homeport.testing import records

LATER = records.NOW + 100
NEW, OLD = "2" * 19, "1" * 19
CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)


def at(number):
    return f"{records.ACCOUNT}/default/{number:032x}"


def task(number, instance=None, **fields):
    """Task NUMBER, of the new deployment, on the instance of the same number unless told otherwise."""
    return records.task(number, **{"container_instance_id": f"{instance or number:032x}", "deployment_id": NEW, **fields})


def decide(tasks, targets, *, draining=(), busy=(), **fields):
    """(instances that get a task, numbers of the stopped tasks, the plan). `targets`: numbers of matching instances; negative: agent away."""
    deployments = fields.pop("deployments", None) or (records.deployment(id=OLD, status="ACTIVE"), records.deployment(id=NEW))
    service = records.service(**{"scheduling_strategy": "DAEMON", "maximum_percent": 100, "minimum_healthy_percent": 0, "desired_count": 0, **fields})
    base = ServiceView(service=service, deployments=deployments, tasks=tuple(tasks), draining=frozenset(at(n) for n in draining))
    view = DaemonView(service_view=base, targets={at(abs(n)): n > 0 for n in targets}, busy=frozenset(at(n) for n in busy))
    answer = plan(view, healthy_after_seconds=40.0, now=LATER)
    starts = [int(change.instance_key[-32:], 16) for change in answer.changes if isinstance(change, StartTask)]
    stops = sorted(int(change.task.id, 16) for change in answer.changes if isinstance(change, StopTask))
    return starts, stops, answer


def counted(answer):
    return next((change.service.desired_count for change in answer.changes if isinstance(change, UpdateService)), None)


def messages(answer):
    return [change.message for change in answer.changes if isinstance(change, Event)]


@pytest.mark.parametrize(
    ("tasks", "targets", "starts", "desired"),
    [
        ([], [], [], None),
        ([], [1, 2, 3], [1, 2, 3], 3),
        ([1, 3], [1, 2, 3], [2], 3),
        ([1], [1, -2], [], 1),  # a machine that is away gets no task and does not count
        ([1, 2], [1, -2], [], 2),  # but keeps the one that it has
    ],
)
def test_every_matching_instance_has_one_task(tasks, targets, starts, desired):
    answer = decide([task(n) for n in tasks], targets)
    assert answer[:2] == (starts, [])
    assert counted(answer[2]) == desired


def test_an_instance_never_keeps_two():
    assert decide([task(1), task(5, 1), task(6, 1, deployment_id=OLD)], [1])[:2] == ([], [5, 6])


@pytest.mark.parametrize(("minimum", "stops"), [(0, [1, 2, 3, 4]), (25, [1, 2, 3]), (50, [1, 2]), (75, [1]), (100, [])])
def test_an_update_stops_the_old_first_and_leaves_the_healthy_minimum(minimum, stops):
    old = [task(n, deployment_id=OLD) for n in (1, 2, 3, 4)]
    starts, stopped, answer = decide(old, [1, 2, 3, 4], minimum_healthy_percent=minimum)
    assert (starts, stopped) == (stops, stops)  # each that stops is replaced where it was
    assert any("because of the service deployment configuration" in text for text in messages(answer)) is (minimum == 100)


def test_an_update_goes_on_only_as_new_tasks_become_healthy():
    young = task(1, started_at=LATER - 1)
    old = [task(n, deployment_id=OLD) for n in (2, 3, 4)]
    assert decide([young, *old], [1, 2, 3, 4], minimum_healthy_percent=75)[:2] == ([], [])
    assert decide([task(1), *old], [1, 2, 3, 4], minimum_healthy_percent=75)[:2] == ([2], [2])


@pytest.mark.parametrize("fields", [{"throttled_until": LATER + 5}, {"rollout_state": "FAILED"}])
def test_nothing_old_stops_while_nothing_new_may_start(fields):
    deployments = (records.deployment(id=OLD, status="ACTIVE"), records.deployment(id=NEW, **fields))
    assert decide([task(1, deployment_id=OLD)], [1, 2], deployments=deployments)[:2] == ([], [])


def test_an_unhealthy_task_is_replaced_where_it_is():
    assert decide([task(1, containers=CHECKED, health_status="UNHEALTHY"), task(2)], [1, 2])[:2] == ([1], [1])


@pytest.mark.parametrize(("fields", "busy", "stops"), [({}, (1,), []), ({}, (), [1]), ({"last_status": "PENDING", "started_at": 0.0}, (1,), [1])])
def test_on_a_draining_instance_the_daemon_stops_last(fields, busy, stops):
    assert decide([task(1, **fields), task(2)], [2], draining=[1], busy=busy)[:2] == ([], stops)


def test_tasks_where_the_constraints_want_none_are_stopped_and_told():
    _, stops, answer = decide([task(1), task(2)], [2])
    assert stops == [1]
    assert [text for text in messages(answer) if "SERVICE_DAEMON_PLACEMENT_CONSTRAINT_VIOLATED" in text and f"(task {1:032x})" in text]


def test_a_protected_task_is_waited_for():
    protected = task(1, deployment_id=OLD, protected_until=LATER + 9)
    starts, stops, answer = decide([protected], [1])
    assert (starts, stops, answer.wake_at) == ([], [], LATER + 9)
    assert messages(answer) == ["(service web) was unable to scale in due to (reason 1 tasks under protection)."]


def test_steady_state_is_one_healthy_task_everywhere():
    only = (records.deployment(id=NEW),)
    _, _, answer = decide([task(1), task(2)], [1, 2], deployments=only, desired_count=2)
    assert messages(answer) == ["(service web) has reached a steady state."]
    assert not messages(decide([task(1), task(2, started_at=LATER - 1)], [1, 2], deployments=only, desired_count=2)[2])
    service = decide([task(1)], [1, 2], deployments=only, desired_count=1, steady=True)[2].changes[-1].service
    assert (service.desired_count, service.steady) == (2, False)


def test_a_deleted_daemon_stops_everywhere():
    assert decide([task(1), task(2)], [1, 2], status="DRAINING")[:2] == ([], [1, 2])
