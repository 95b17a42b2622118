from __future__ import annotations

import msgspec
import pytest

from homeport.config import Settings
from homeport.model.change import Event, UpdateDeployment, UpdateTask
from homeport.planner.deployment import plan
from homeport.planner.failures import crash_seconds, throttle_seconds
from homeport.planner.service import ServiceView
from homeport.testing import records

T0 = records.NOW
LATER = T0 + 100
SETTINGS = Settings()
OLD = "9" * 19


def view(tasks=(), deployments=None, **fields):
    return ServiceView(service=records.service(**fields), deployments=deployments or (records.deployment(),), tasks=tuple(tasks))


def deployment_after(answer, deployment_id="1" * 19):
    return next((c.deployment for c in answer.changes if isinstance(c, UpdateDeployment) and c.deployment.id == deployment_id), None)


def never_ran(number, at, **fields):
    return records.task(
        number,
        last_status="STOPPED",
        desired_status="STOPPED",
        started_at=0.0,
        created_at=at - 0.5,
        stopped_at=at,
        stop_code="TaskFailedToStart",
        stopped_reason="CannotPullContainerError: no",
        **fields,
    )


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0), (2, 0), (3, 15), (4, 30), (5, 60), (9, 960), (10, 1620), (5000, 1620)])
def test_throttle_seconds(failures, seconds):
    assert throttle_seconds(failures, SETTINGS) == seconds


def test_a_healthy_task_is_marked_and_the_next_one_waited_for():
    young = records.task(2, started_at=T0 + 80)
    answer = plan(view([records.task(1), young]), (), settings=SETTINGS, now=LATER)
    assert answer.changes == (UpdateTask(records.task(1, healthy_since=LATER), "it counts as healthy"),)
    assert answer.wake_at == T0 + 120


def test_completed_when_all_desired_tasks_are_healthy():
    tasks = [records.task(n, healthy_since=T0 + 40) for n in (1, 2)]
    answer = plan(view(tasks), (), settings=SETTINGS, now=LATER)
    deployment = deployment_after(answer)
    assert (deployment.rollout_state, deployment.rollout_state_reason) == ("COMPLETED", "ECS deployment ecs-svc/1111111111111111111 completed.")
    assert deployment.finished_at == LATER
    assert Event("(service web) (deployment ecs-svc/1111111111111111111) deployment completed.") in answer.changes
    again = plan(view(tasks, (deployment,)), (), settings=SETTINGS, now=LATER + 1)
    assert again.changes == ()


def test_not_completed_while_an_old_task_lives():
    deployments = (records.deployment(id=OLD, status="ACTIVE"), records.deployment())
    tasks = [records.task(n, healthy_since=T0 + 40) for n in (1, 2)]
    going = records.task(3, deployment_id=OLD, desired_status="STOPPED", last_status="STOPPING")
    assert plan(view([*tasks, going], deployments), (), settings=SETTINGS, now=LATER).changes == ()


def test_an_old_deployment_is_over_with_its_last_task_and_the_new_one_completes_with_it():
    deployments = (records.deployment(id=OLD, status="ACTIVE"), records.deployment())
    tasks = [records.task(n, healthy_since=T0 + 40) for n in (1, 2)]
    answer = plan(view(tasks, deployments), (), settings=SETTINGS, now=LATER)
    assert deployment_after(answer, OLD).status == "INACTIVE"
    assert deployment_after(answer).rollout_state == "COMPLETED"


def test_launch_failures_are_counted_once_and_throttle_from_the_third_round():
    deployment = records.deployment()
    at = T0 + 1
    for round_number, delay in ((1, 0), (2, 0), (3, 15), (4, 30)):
        ended = [never_ran(n, T0 + n) for n in range(1, round_number + 1)]
        at = T0 + round_number + 0.2
        answer = plan(view(deployments=(deployment,)), ended, settings=SETTINGS, now=at)
        deployment = deployment_after(answer)
        assert (deployment.failed_tasks, deployment.failures_to_start) == (round_number, round_number)
        assert deployment.throttled_until == (at + delay if delay else 0.0)
        assert deployment_after(plan(view(deployments=(deployment,)), ended, settings=SETTINGS, now=at + 0.1)) is None


def test_tasks_of_one_round_raise_the_throttle_once():
    ended = [never_ran(n, T0 + 10 + n / 100) for n in range(1, 11)]
    deployment = deployment_after(plan(view(), ended, settings=SETTINGS, now=T0 + 11))
    assert (deployment.failed_tasks, deployment.failures_to_start) == (10, 1)


def crashed(number, at, exit_code=1, **fields):
    container = msgspec.structs.replace(records.task().containers[0], exit_code=exit_code)
    return records.task(
        number,
        last_status="STOPPED",
        desired_status="STOPPED",
        created_at=at - 0.5,
        started_at=at - 0.3,
        stopped_at=at,
        stop_code="EssentialContainerExited",
        containers=(container,),
        **fields,
    )


@pytest.mark.parametrize(("crashes", "seconds"), [(0, 0), (3, 0), (4, 0.5), (5, 1), (10, 32), (11, 60), (5000, 60)])
def test_crash_seconds(crashes, seconds):
    assert crash_seconds(crashes, SETTINGS) == seconds


def test_tasks_that_end_at_once_are_braked_from_the_fourth_round():
    deployment = records.deployment()
    for number in (1, 2, 3, 4):
        answer = plan(view(deployments=(deployment,)), [crashed(number, T0 + number)], settings=SETTINGS, now=T0 + number + 0.1)
        deployment = deployment_after(answer)
        assert (deployment.crashes, deployment.failed_tasks, deployment.failures_to_start) == (number, number, 0)
    assert deployment.throttled_until == T0 + 4.1 + 0.5
    assert not deployment.impaired
    other = records.task(9, started_at=T0 + 4.2)  # another task that runs does not lift the brake; one that is healthy does
    assert deployment_after(plan(view([other], (deployment,)), (), settings=SETTINGS, now=T0 + 4.3)) is None
    assert deployment_after(plan(view([other], (deployment,)), (), settings=SETTINGS, now=LATER)).crashes == 0


@pytest.mark.parametrize("exit_code", [130, 137, 143, None])
def test_a_killed_container_is_no_crash(exit_code):
    after = deployment_after(plan(view(), [crashed(1, T0 + 5, exit_code)], settings=SETTINGS, now=T0 + 6))
    assert (after.crashes, after.failed_tasks) == (0, 1)


def test_trouble_is_told_once_an_episode():
    ended = [never_ran(n, T0 + n) for n in (1, 2, 3)]
    answer = plan(view(), ended, settings=SETTINGS, now=T0 + 4)
    message = (
        "(service web) is unable to consistently start tasks successfully. "
        "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
    )
    assert [change for change in answer.changes if isinstance(change, Event)] == [Event(message)]
    more = plan(view(deployments=(deployment_after(answer),)), [*ended, never_ran(4, T0 + 20)], settings=SETTINGS, now=T0 + 21)
    assert not [change for change in more.changes if isinstance(change, Event)]


def test_a_task_that_runs_ends_the_throttle():
    deployment = records.deployment(failures_to_start=4, failed_tasks=4, throttled_until=LATER, impaired=True, ends_counted_at=T0 + 5)
    after = deployment_after(plan(view([records.task(1, started_at=T0 + 10)], (deployment,)), (), settings=SETTINGS, now=T0 + 11))
    assert (after.failures_to_start, after.throttled_until, after.impaired, after.failed_tasks) == (0, 0.0, False, 4)


def test_a_healthy_task_resets_failed_tasks():
    deployment = records.deployment(failed_tasks=4, ends_counted_at=T0 + 50)
    after = deployment_after(plan(view([records.task(1)], (deployment,)), (), settings=SETTINGS, now=LATER))
    assert after.failed_tasks == 0


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"stop_code": "EssentialContainerExited"}, 1),
        ({"stop_code": "EssentialContainerExited", "healthy_since": T0 + 45}, 0),
        ({"stop_code": "ServiceSchedulerInitiated", "stopped_reason": "Scaling activity initiated by (deployment x)"}, 0),
        ({"stop_code": "ServiceSchedulerInitiated", "stopped_reason": "Task failed container health checks"}, 1),
        ({"stop_code": "UserInitiated"}, 0),
    ],
)
def test_which_ends_of_running_tasks_are_failures(fields, failed):
    ended = records.task(1, last_status="STOPPED", desired_status="STOPPED", stopped_at=T0 + 60, **fields)
    after = deployment_after(plan(view(), [ended], settings=SETTINGS, now=LATER))
    assert (after.failed_tasks if after else 0) == failed
    assert (after.failures_to_start if after else 0) == 0


def test_a_deleted_service_has_nothing_to_report():
    assert plan(view(status="DRAINING"), [never_ran(1, T0 + 1)], settings=SETTINGS, now=LATER).changes == ()


def test_ends_without_effect_are_passed_over_for_good_when_there_are_many():
    ended = [
        records.task(n, last_status="STOPPED", desired_status="STOPPED", stopped_at=T0 + n, stop_code="UserInitiated", started_at=T0)
        for n in range(1, 60)
    ]
    after = deployment_after(plan(view(), ended, settings=SETTINGS, now=LATER))
    assert after == msgspec.structs.replace(records.deployment(), ends_counted_at=T0 + 59, updated_at=LATER)
