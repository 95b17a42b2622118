"""Task protection from the API to the scheduler, on a cell in memory."""

from __future__ import annotations

import pytest

from homeport.api.ecs import service, task_protection
from homeport.errors import ClusterNotFoundError, InvalidParameterError
from homeport.store.tables import SERVICE_EVENTS, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

BASE = "arn:aws:ecs:us-east-1:123456789012:task/default/"


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    service = records.service(desired_count=3)
    await cell.put(records.cluster(), records.container_instance(), records.task_definition(), service, records.deployment())
    cell.start()
    await cell.clock.advance(60)
    yield cell
    await cell.close()


async def update(cell, tasks, *, enabled=True, **members):
    request = {"cluster": "default", "tasks": tasks, "protectionEnabled": enabled, **members}
    return await cell.call("UpdateTaskProtection", task_protection.update_task_protection, request)


async def get(cell, tasks, **members):
    return await cell.call("GetTaskProtection", task_protection.get_task_protection, {"cluster": "default", "tasks": tasks, **members})


async def running(cell):
    return sorted(task.id for task in await cell.all(TASKS) if task.last_status == "RUNNING")


async def scale(cell, count):
    await cell.call("UpdateService", service.update_service, {"service": "web", "desiredCount": count})


async def test_a_protection_lasts_as_long_as_asked_and_two_hours_otherwise(cell):
    one, two, three = await running(cell)
    now = cell.clock.now()
    answer = await update(cell, [one, BASE + two])
    assert answer["failures"] == []
    assert [item["taskArn"] for item in answer["protectedTasks"]] == [BASE + one, BASE + two]
    assert all(item["protectionEnabled"] and 7200 <= item["expirationDate"] - now < 7201 for item in answer["protectedTasks"])
    (again,) = (await update(cell, [one], expiresInMinutes=1))["protectedTasks"]
    assert 60 <= again["expirationDate"] - now < 61
    off = {"taskArn": BASE + two, "protectionEnabled": False}
    assert (await update(cell, [two], enabled=False))["protectedTasks"] == [off]
    assert (await get(cell, [one, two, three]))["protectedTasks"] == [again, off, {"taskArn": BASE + three, "protectionEnabled": False}]
    await cell.clock.advance(61)
    assert (await get(cell, [one]))["protectedTasks"] == [{"taskArn": BASE + one, "protectionEnabled": False}]


async def test_what_cannot_be_protected_is_a_failure_of_its_own(cell):
    (one, *_) = await running(cell)
    await cell.put(records.task(7, service="", deployment_id="", group="family:web", started_by=""))
    await cell.put(records.task(8, desired_status="STOPPED", last_status="STOPPING"))
    answer = await update(cell, [f"{7:032x}", one, f"{8:032x}", "f" * 32])
    assert [item["taskArn"] for item in answer["protectedTasks"]] == [BASE + one]
    reasons = [(f"{7:032x}", "TASK_NOT_VALID"), (f"{8:032x}", "TASK_NOT_VALID"), ("f" * 32, "MISSING")]
    assert [(item["arn"], item["reason"]) for item in answer["failures"]] == [(BASE + task_id, reason) for task_id, reason in reasons]
    assert [item["reason"] for item in (await get(cell, [f"{7:032x}", "f" * 32]))["failures"]] == ["TASK_NOT_VALID", "MISSING"]


@pytest.mark.parametrize("minutes", [0, -1, 2881])
async def test_wrong_durations_are_refused(cell, minutes):
    with pytest.raises(InvalidParameterError):
        await update(cell, await running(cell), expiresInMinutes=minutes)
    assert not any(task.protected_until for task in await cell.all(TASKS))


async def test_wrong_numbers_of_tasks_and_unknown_clusters_are_refused(cell):
    for count in (0, 11):
        with pytest.raises(InvalidParameterError):
            await update(cell, [f"{n:032x}" for n in range(count)])
    with pytest.raises(InvalidParameterError):
        await get(cell, [f"{n:032x}" for n in range(101)])
    with pytest.raises(ClusterNotFoundError):
        await get(cell, ["f" * 32], cluster="nowhere")


async def test_without_tasks_those_that_are_protected_are_given(cell):
    one, two, _ = await running(cell)
    await update(cell, [two, one], expiresInMinutes=1)
    for asked in ({"cluster": "default"}, {"cluster": "default", "tasks": []}):
        answer = await cell.call("GetTaskProtection", task_protection.get_task_protection, asked)
        assert [item["taskArn"] for item in answer["protectedTasks"]] == [BASE + one, BASE + two]
        assert answer["failures"] == []
    await cell.clock.advance(61)
    assert (await get(cell, []))["protectedTasks"] == []


async def test_a_service_never_has_more_protected_tasks_than_it_is_to_have():
    cell = await MemoryCell.open()  # whose controllers rest, so that nothing stops the task that is one too many
    tasks = [records.task(number, last_status="RUNNING", desired_status="RUNNING") for number in range(1, 4)]
    await cell.put(records.cluster(), records.container_instance(), records.task_definition(), records.service(desired_count=2), *tasks)
    one, two, three = (task.id for task in tasks)
    answer = await update(cell, [one, two, three, one])
    assert [item["taskArn"] for item in answer["protectedTasks"]] == [BASE + one, BASE + two]
    assert [(item["arn"], item["reason"]) for item in answer["failures"]] == [(BASE + three, "DEPLOYMENT_BLOCKED")]
    assert (await update(cell, [one], expiresInMinutes=1))["failures"] == []
    await update(cell, [two], enabled=False)
    assert (await update(cell, [three]))["failures"] == []
    await cell.close()


async def test_a_daemon_services_tasks_may_all_be_protected(cell):
    await cell.put(records.service(name="logs", scheduling_strategy="DAEMON", desired_count=0))
    task = records.task(99, service="logs", group="service:logs")
    await cell.put(task)
    assert (await update(cell, [task.id]))["failures"] == []


async def test_scale_in_spares_the_protected_tasks_and_goes_on_the_moment_the_protection_ends(cell):
    one, two, _ = await running(cell)
    await update(cell, [one, two], expiresInMinutes=5)
    await scale(cell, 1)
    await cell.clock.advance(30)
    assert await running(cell) == [one, two]
    messages = [event.message for event in await cell.all(SERVICE_EVENTS)]
    assert messages.count("(service web) was unable to scale in due to (reason 1 tasks under protection).") == 1
    await cell.clock.advance(300)
    assert len(await running(cell)) == 1


async def test_the_end_of_the_protection_wakes_the_scheduler_without_a_sweep(cell):
    one, *_ = await running(cell)
    await update(cell, [one], expiresInMinutes=5)
    await scale(cell, 0)
    (left,) = [task for task in await cell.all(TASKS) if task.desired_status == "RUNNING"]
    await cell.clock.advance(300 - 0.1 + (left.protected_until - 300 - cell.clock.now()))
    assert [task.id for task in await cell.all(TASKS) if task.desired_status == "RUNNING"] == [one]
    await cell.clock.advance(0.2)
    assert [task.id for task in await cell.all(TASKS) if task.desired_status == "RUNNING"] == []


async def test_a_deployment_keeps_its_protected_old_task_and_completes_after_it(cell):
    one, *_ = await running(cell)
    await update(cell, [one], expiresInMinutes=10)
    await cell.call("UpdateService", service.update_service, {"service": "web", "forceNewDeployment": True})
    await cell.clock.advance(120)
    described = await cell.call("DescribeServices", service.describe_services, {"services": ["web"]})
    assert [(d["status"], d["runningCount"], d["rolloutState"]) for d in described["services"][0]["deployments"]] == [
        ("PRIMARY", 3, "IN_PROGRESS"),
        ("ACTIVE", 1, described["services"][0]["deployments"][1]["rolloutState"]),
    ]
    await cell.clock.advance(520)
    described = await cell.call("DescribeServices", service.describe_services, {"services": ["web"]})
    assert [(d["status"], d["runningCount"], d["rolloutState"]) for d in described["services"][0]["deployments"]] == [("PRIMARY", 3, "COMPLETED")]
