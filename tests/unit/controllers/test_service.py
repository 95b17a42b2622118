from __future__ import annotations

import msgspec
import pytest

from homeport.config import Settings
from homeport.controllers.service_tasks import task_tags
from homeport.model.ecs.task import HostPortUse, Task
from homeport.model.ecs.task_definition import HostPort
from homeport.planner.health import is_healthy
from homeport.store.tables import CONTAINER_INSTANCES, DEPLOYMENTS, SERVICE_EVENTS, SERVICES, TASKS
from homeport.testing import records

NEW = "2" * 19


async def states(cell):
    return sorted(task.last_status for task in await cell.all(TASKS))


async def messages(cell):
    return [event.message for event in await cell.all(SERVICE_EVENTS)]


async def only(cell, table):
    (record,) = await cell.all(table)
    return record


async def test_a_service_gets_its_tasks_in_the_next_commit(make_cell):
    cell = await make_cell(records.service(), records.deployment(), agents=False)
    first, second = await cell.all(TASKS)
    assert first.created_at - records.NOW < 0.001
    assert {(t.last_status, t.group, t.started_by, t.service, t.container_instance_id) for t in (first, second)} == {
        ("PENDING", "service:web", f"ecs-svc/{'1' * 19}", "web", "1" * 32)
    }
    assert await messages(cell) == [f"(service web) has started 2 tasks: (task {first.id}) (task {second.id})."] or await messages(cell) == [
        f"(service web) has started 2 tasks: (task {second.id}) (task {first.id})."
    ]


async def test_steady_state_and_completion_come_after_the_waiting_time(make_cell):
    cell = await make_cell(records.service(), records.deployment())
    await cell.clock.advance(2)
    assert await states(cell) == ["RUNNING", "RUNNING"]
    assert (await only(cell, SERVICES)).steady is False
    await cell.clock.advance(40)
    assert (await only(cell, SERVICES)).steady is True
    assert (await only(cell, DEPLOYMENTS)).rollout_state == "COMPLETED"
    assert {"(service web) has reached a steady state.", f"(service web) (deployment ecs-svc/{'1' * 19}) deployment completed."} < set(
        await messages(cell)
    )
    assert all(task.healthy_since for task in await cell.all(TASKS))


async def test_a_killed_task_is_replaced_without_the_clock_moving(make_cell):
    cell = await make_cell(records.service(desired_count=1), records.deployment())
    await cell.clock.advance(60)
    (task,) = await cell.all(TASKS)
    before = cell.clock.now()
    await cell.report(task, "STOPPED")
    assert cell.clock.now() == before
    assert await states(cell) == ["PENDING", "STOPPED"]


async def test_scale_out_and_in(make_cell):
    cell = await make_cell(records.service(desired_count=3), records.deployment())
    await cell.clock.advance(2)
    for count in (20, 0):
        await cell.put(msgspec.structs.replace(await only(cell, SERVICES), desired_count=count))
        await cell.clock.advance(5)
        assert (await states(cell)).count("RUNNING") == count
    assert sum("has stopped" in message for message in await messages(cell)) == 1


async def test_more_tasks_than_one_transaction_holds(make_cell):
    definition = records.task_definition(cpu=0, memory_mib=8)
    cell = await make_cell(definition, records.service(desired_count=150), records.deployment())
    await cell.clock.advance(2)
    assert (await states(cell)).count("RUNNING") == 150
    await cell.clock.advance(42)  # 40 s of waiting time, and the second by which a service of many tasks is looked at later
    assert all(task.healthy_since for task in await cell.all(TASKS))
    assert (await only(cell, SERVICES)).steady is True
    assert (await only(cell, DEPLOYMENTS)).rollout_state == "COMPLETED"


async def test_a_refusal_is_told_once_and_placed_when_room_comes(make_cell):
    cell = await make_cell(records.task_definition(memory_mib=8000), records.service(), records.deployment())
    await cell.clock.advance(5)
    assert await states(cell) == ["RUNNING"]
    closest = f"The closest matching (container-instance {'1' * 32}) has insufficient memory available."
    refused = f"(service web) was unable to place a task because no container instance met all of its requirements. {closest}"
    help_text = " For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
    assert (await only(cell, SERVICES)).placement_failure == refused + help_text
    await cell.clock.advance(600)
    assert (await messages(cell)).count(refused + help_text) == 1
    await cell.clock.advance(21_600)
    assert (await messages(cell)).count(refused + help_text) == 2
    before = cell.clock.now()
    await cell.put(records.container_instance(id="2" * 32))
    await cell.clock.settle()
    assert cell.clock.now() == before
    assert await states(cell) == ["PENDING", "RUNNING"]
    assert (await only(cell, SERVICES)).placement_failure == ""


async def test_an_empty_cluster_is_told_as_such(make_cell):
    cell = await make_cell(records.container_instance(status="INACTIVE", left_at=1.0), records.service(), records.deployment())
    assert "Reason: No Container Instances were found in your cluster." in (await messages(cell))[0]
    assert await cell.all(TASKS) == []


async def test_a_fixed_port_waits_for_the_old_task_without_an_event(make_cell):
    definition = records.task_definition(host_ports=(HostPort(port=80, protocol="tcp"),))
    service = records.service(desired_count=1, minimum_healthy_percent=0, maximum_percent=100)
    cell = await make_cell(definition, service, records.deployment())
    await cell.clock.advance(2)
    (task,) = await cell.all(TASKS)
    assert task.host_ports == (HostPortUse(port=80, protocol="tcp"),)
    await cell.put(records.deployment(status="ACTIVE"), records.deployment(id=NEW))
    await cell.clock.advance(1)
    assert await states(cell) == ["STOPPING"]
    await cell.clock.advance(3)
    assert await states(cell) == ["RUNNING", "STOPPED"]
    assert not [message for message in await messages(cell) if "unable to place" in message]


async def test_a_rolling_update_ends_with_one_deployment(make_cell):
    cell = await make_cell(records.service(), records.deployment(), records.task_definition(revision=2))
    await cell.clock.advance(50)
    service = await only(cell, SERVICES)
    await cell.put(
        msgspec.structs.replace(service, revision=2, steady=False),
        records.deployment(status="ACTIVE"),
        records.deployment(id=NEW, revision=2),
    )
    await cell.clock.advance(2)
    assert (await states(cell)) == ["RUNNING"] * 4
    await cell.clock.advance(50)
    assert sorted((task.revision, task.last_status) for task in await cell.all(TASKS)) == [(1, "STOPPED")] * 2 + [(2, "RUNNING")] * 2
    old, new = sorted(await cell.all(DEPLOYMENTS), key=lambda item: item.id)
    assert (old.status, new.status, new.rollout_state) == ("INACTIVE", "PRIMARY", "COMPLETED")


async def test_failed_launches_are_throttled(make_cell):
    cell = await make_cell(records.service(desired_count=1), records.deployment(), agents=True)
    cell.agents.failure = "CannotPullContainerError: no such image"
    for task in await cell.all(TASKS):
        assert task.last_status == "PENDING"
    await cell.clock.advance(3.5)
    assert len(await cell.all(TASKS)) == 3
    await cell.clock.advance(14)
    assert len(await cell.all(TASKS)) == 3
    await cell.clock.advance(1.5)
    assert len(await cell.all(TASKS)) == 4
    assert (await only(cell, DEPLOYMENTS)).impaired
    assert sum("unable to consistently start tasks" in message for message in await messages(cell)) == 1
    cell.agents.failure = ""
    await cell.clock.advance(60)
    assert (await states(cell)).count("RUNNING") == 1
    assert (await only(cell, DEPLOYMENTS)).failures_to_start == 0


async def test_tasks_of_a_draining_instance_move(make_cell):
    cell = await make_cell(records.service(), records.deployment())
    await cell.clock.advance(60)
    await cell.put(records.container_instance(id="2" * 32))
    instance = next(item for item in await cell.all(CONTAINER_INSTANCES) if item.id == "1" * 32)
    await cell.put(msgspec.structs.replace(instance, status="DRAINING"))
    await cell.clock.settle()
    assert (await states(cell)) == ["PENDING", "PENDING", "RUNNING", "RUNNING"]
    await cell.clock.advance(60)
    assert {task.container_instance_id for task in await cell.all(TASKS) if task.last_status == "RUNNING"} == {"2" * 32}
    assert (await only(cell, SERVICES)).steady


async def test_a_deleted_service_drains_and_becomes_inactive(make_cell):
    cell = await make_cell(records.service(), records.deployment())
    await cell.clock.advance(60)
    await cell.put(msgspec.structs.replace(await only(cell, SERVICES), status="DRAINING", desired_count=0))
    await cell.clock.advance(5)
    service = await only(cell, SERVICES)
    assert (service.status, service.drained_at > 0) == ("INACTIVE", True)
    assert await states(cell) == ["STOPPED", "STOPPED"]
    assert {(task.stop_code, task.stopped_reason) for task in await cell.all(TASKS)} == {
        ("ServiceSchedulerInitiated", f"Scaling activity initiated by (deployment ecs-svc/{'1' * 19})")
    }
    assert (await only(cell, DEPLOYMENTS)).status == "INACTIVE"


async def test_only_the_newest_hundred_events_are_kept(make_cell):
    cell = await make_cell(records.service(desired_count=1), records.deployment(), settings=Settings(start_throttle_max_seconds=0.0))
    for _ in range(120):
        (task,) = [task for task in await cell.all(TASKS) if task.last_status != "STOPPED"]
        await cell.report(task, "STOPPED")
    events = await cell.all(SERVICE_EVENTS)
    assert len(events) == 100
    assert events[-1].number == (await only(cell, SERVICES)).events_written


def test_tags_of_a_task():
    definition = records.task_definition(tags=(("d", "1"),))
    service = records.service(tags=(("s", "1"),))
    assert task_tags(service, definition) == ()
    assert task_tags(msgspec.structs.replace(service, propagate_tags="SERVICE"), definition) == (("s", "1"),)
    managed = msgspec.structs.replace(service, propagate_tags="TASK_DEFINITION", enable_ecs_managed_tags=True)
    assert task_tags(managed, definition) == (("d", "1"), ("aws:ecs:clusterName", "default"), ("aws:ecs:serviceName", "web"))


@pytest.mark.parametrize(("desired", "minimum", "maximum"), [(4, 75, 150), (10, 50, 100), (3, 0, 100), (5, 100, 125), (2, 100, 200)])
async def test_no_commit_of_a_rolling_update_leaves_the_bounds(make_cell, desired, minimum, maximum):
    service = records.service(desired_count=desired, minimum_healthy_percent=minimum, maximum_percent=maximum)
    cell = await make_cell(service, records.deployment(), records.task_definition(revision=2))
    await cell.clock.advance(60)
    tasks = {task.key: task for task in await cell.all(TASKS)}
    watch = cell.store.watch()
    stored = await only(cell, SERVICES)
    await cell.put(
        msgspec.structs.replace(stored, revision=2, steady=False),
        records.deployment(status="ACTIVE"),
        records.deployment(id=NEW, revision=2),
    )
    await cell.clock.advance(600)
    watch.close()
    most, least = 0, desired
    async for commit in watch:
        tasks.update((change.key, change.after) for change in commit.changes if isinstance(change.after, Task))
        most = max(most, sum(task.last_status in ("PENDING", "RUNNING") for task in tasks.values()))
        least = min(least, sum(is_healthy(task, 40.0, commit.now) for task in tasks.values()))
    assert sorted(task.revision for task in tasks.values() if task.last_status == "RUNNING") == [2] * desired
    assert most <= desired * maximum // 100
    assert least >= -(-desired * minimum // 100)
