"""The task planner: what wanted and seen add up to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from homeport.errors import InvalidTransitionError
from homeport.model.ecs import task as model
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.planner.task import Placed, Seen, health_of, new_task, observed, resources, stop, with_status
from homeport.store.tables import guard_task

WEB: dict[str, Any] = {"name": "web", "image": "web:1", "essential": True, "cpu": 100, "memory": 200}
SIDE: dict[str, Any] = {"name": "side", "image": "side:1", "essential": False, "cpu": 10, "memory": 64, "memoryReservation": 32}


def definition(*containers: dict[str, Any], **document: Any) -> TaskDefinition:
    content = {"containerDefinitions": list(containers or (WEB, SIDE)), **document}
    cpu, memory = resources(content, {})
    return TaskDefinition(
        account="1" * 12,
        family="web",
        revision=3,
        status="ACTIVE",
        registered_at=1.0,
        registered_by="arn",
        document=msgspec.json.encode(content),
        network_mode="bridge",
        cpu=cpu,
        memory_mib=memory,
    )


def task(overrides: dict[str, Any] | None = None, instance_id: str = "b" * 32) -> Task:
    placed = Placed(cluster="default", instance_id=instance_id, launch_type="EC2", group="family:web")
    return new_task(definition(), placed, task_id="a" * 32, mint=iter(("c1", "c2")).__next__, now=10.0, overrides=overrides)


def test_new_task_takes_what_its_definition_says() -> None:
    made = task()
    assert (made.cpu, made.memory_mib, made.last_status, made.desired_status) == (110, 232, model.PENDING, model.RUNNING)
    assert [(c.name, c.id, c.essential, c.status) for c in made.containers] == [("web", "c1", True, "PENDING"), ("side", "c2", False, "PENDING")]


def test_overrides_change_what_a_task_takes() -> None:
    made = task({"containerOverrides": [{"name": "web", "cpu": 500, "memory": 1000}]})
    assert (made.cpu, made.memory_mib) == (510, 1032)
    assert made.containers[0].memory == "1000"
    assert task({"cpu": "256", "memory": "512"}).memory_mib == 512


def test_task_level_figures_win_over_the_containers() -> None:
    assert resources({"containerDefinitions": [WEB], "cpu": "1024", "memory": "2048"}, {}) == (1024, 2048)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([], model.PENDING),
        ([model.PENDING], model.PENDING),
        ([model.RUNNING], model.RUNNING),
        ([model.RUNNING, model.PENDING], model.RUNNING),
        ([model.RUNNING, model.STOPPED], model.STOPPED),
        ([model.STOPPED, model.RUNNING], model.STOPPED),
    ],
)
def test_reports_only_move_a_task_forward(reports: list[str], expected: str) -> None:
    current = task()
    for status in reports:
        following = observed(current, Seen(status=status), 20.0)
        guard_task(current, following)
        current = following
    assert current.last_status == expected


def test_a_repeated_report_changes_nothing() -> None:
    seen = Seen(status=model.RUNNING, containers={"web": {"status": "RUNNING", "runtime_id": "x"}})
    once = observed(task(), seen, 20.0)
    assert observed(once, seen, 30.0) is once
    assert once.version == 2
    assert once.started_at == 20.0


def test_an_essential_exit_is_told_with_its_code() -> None:
    running = observed(task(), Seen(status=model.RUNNING), 20.0)
    ended = observed(running, Seen(status=model.STOPPED, containers={"web": {"status": "STOPPED", "exit_code": 3}}), 30.0)
    assert (ended.stop_code, ended.stopped_reason, ended.desired_status) == (
        "EssentialContainerExited",
        "Essential container in task exited",
        "STOPPED",
    )
    assert [c.exit_code for c in ended.containers] == [3, None]
    assert {c.status for c in ended.containers} == {"STOPPED"}
    assert ended.stopped_at == 30.0


def test_exit_code_zero_is_kept() -> None:
    ended = observed(task(), Seen(status=model.STOPPED, containers={"web": {"status": "STOPPED", "exit_code": 0}}), 30.0)
    assert ended.containers[0].exit_code == 0
    assert ended.stop_code == "EssentialContainerExited"


def test_a_task_that_never_ran_failed_to_start_for_its_containers_reason() -> None:
    reason = "CannotPullContainerError: no such image"
    ended = observed(task(), Seen(status=model.STOPPED, containers={"web": {"status": "STOPPED", "reason": reason}}), 30.0)
    assert (ended.stop_code, ended.stopped_reason) == ("TaskFailedToStart", reason)


def test_the_end_of_an_inessential_container_is_no_start_of_the_task() -> None:
    reason = "Task dependencies cannot be resolved: container web waits for container side to reach SUCCESS, which cannot happen any more"
    seen = Seen(status=model.STOPPED, reason=reason, containers={"side": {"status": "STOPPED", "exit_code": 4}, "web": {"status": "STOPPED"}})
    ended = observed(task(), seen, 30.0)
    assert (ended.stop_code, ended.stopped_reason) == ("TaskFailedToStart", reason)


def test_stop_keeps_the_first_reason_and_waits_for_the_agent() -> None:
    running = observed(task(), Seen(status=model.RUNNING), 20.0)
    stopping = stop(running, stop_code="UserInitiated", reason="first", now=25.0)
    assert (stopping.last_status, stopping.desired_status, stopping.stopping_at) == (model.STOPPING, model.STOPPED, 25.0)
    assert stop(stopping, stop_code="ServiceSchedulerInitiated", reason="second", now=26.0) is stopping
    ended = observed(stopping, Seen(status=model.STOPPED), 27.0)
    assert (ended.stop_code, ended.stopped_reason, ended.last_status) == ("UserInitiated", "first", model.STOPPED)


def test_a_task_on_no_instance_stops_at_once() -> None:
    waiting = task(instance_id="")
    assert waiting.last_status == model.PROVISIONING
    assert stop(waiting, stop_code="UserInitiated", reason="r", now=11.0).last_status == model.STOPPED


def test_a_stopped_task_is_closed() -> None:
    ended = observed(task(), Seen(status=model.STOPPED), 20.0)
    assert observed(ended, Seen(status=model.RUNNING, reason="late"), 30.0) is ended
    assert with_status(ended, 40.0) is ended


def test_the_guard_refuses_a_way_back() -> None:
    ended = observed(task(), Seen(status=model.STOPPED), 20.0)
    with pytest.raises(InvalidTransitionError, match="may not go back"):
        guard_task(ended, msgspec.structs.replace(ended, last_status=model.RUNNING))
    with pytest.raises(InvalidTransitionError, match="may not leave STOPPED"):
        guard_task(ended, msgspec.structs.replace(ended, desired_status=model.RUNNING))


def test_health_is_the_worst_of_the_essential_checked_containers() -> None:
    healthy, unhealthy = (
        msgspec.structs.replace(task().containers[0], has_health_check=True, health_status=status) for status in (model.HEALTHY, model.UNHEALTHY)
    )
    unchecked = task().containers[0]
    assert health_of((unchecked,)) == model.UNKNOWN
    assert health_of((healthy, unchecked)) == model.HEALTHY
    assert health_of((healthy, unhealthy)) == model.UNHEALTHY
    assert health_of((healthy, msgspec.structs.replace(unhealthy, essential=False))) == model.HEALTHY
