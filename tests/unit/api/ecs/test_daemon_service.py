"""DAEMON services from the API to placement, on a cell in memory."""

from __future__ import annotations

from collections import Counter

import pytest

from homeport.api.ecs import container_instance, run_task, service
from homeport.errors import InvalidParameterError, UnsupportedFeatureError
from homeport.model.ecs.container_instance import Attribute
from homeport.store.tables import SERVICE_EVENTS, SERVICES, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

ARM = (Attribute(name="arch", value="arm"),)
ONLY_ARM = [{"type": "memberOf", "expression": "attribute:arch == arm"}]


def instance(number, **fields):
    return records.container_instance(id=f"{number:032x}", **fields)


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    big = records.task_definition(family="big", cpu=4096, memory_mib=8192)
    await cell.put(records.cluster(), records.task_definition(), records.task_definition(revision=2), big, *(instance(n) for n in (1, 2, 3)))
    cell.start()
    yield cell
    await cell.close()


async def create(cell, name="web", **members):
    request = {"serviceName": name, "taskDefinition": "web:1", "schedulingStrategy": "DAEMON", **members}
    return (await cell.call("CreateService", service.create_service, request))["service"]


async def update(cell, **members):
    return (await cell.call("UpdateService", service.update_service, {"service": "web", **members}))["service"]


async def describe(cell):
    return (await cell.call("DescribeServices", service.describe_services, {"services": ["web"]}))["services"][0]


async def where(cell, name="web", status="RUNNING"):
    """Instance number → tasks of the service that are wanted RUNNING."""
    tasks = [task for task in await cell.all(TASKS) if task.service == name and task.desired_status == status]
    return dict(sorted(Counter(int(task.container_instance_id, 16) for task in tasks).items()))


async def test_one_task_on_every_instance_and_the_count_is_worked_out(cell):
    made = await create(cell, desiredCount=17)
    assert (made["schedulingStrategy"], made["desiredCount"]) == ("DAEMON", 3)
    shown = made["deploymentConfiguration"]
    assert (shown["maximumPercent"], shown["minimumHealthyPercent"]) == (100, 0)
    await cell.clock.advance(50)
    found = await describe(cell)
    assert (found["desiredCount"], found["runningCount"], found["pendingCount"]) == (3, 3, 0)
    assert found["deployments"][0]["rolloutState"] == "COMPLETED"
    assert await where(cell) == {1: 1, 2: 1, 3: 1}
    assert (await update(cell, desiredCount=1))["desiredCount"] == 3
    for strategy, names in (("DAEMON", 1), ("REPLICA", 0)):
        answer = await cell.call("ListServices", service.list_services, {"schedulingStrategy": strategy})
        assert len(answer["serviceArns"]) == names


@pytest.mark.parametrize(
    "members",
    [
        {"placementStrategy": [{"type": "random"}]},
        {"deploymentController": {"type": "EXTERNAL"}},
        {"deploymentController": {"type": "CODE_DEPLOY"}},
        {"deploymentConfiguration": {"maximumPercent": 200}},
        {"deploymentConfiguration": {"strategy": "BLUE_GREEN"}},
        {"launchType": "FARGATE"},
        {"capacityProviderStrategy": [{"capacityProvider": "x"}]},
        {"availabilityZoneRebalancing": "ENABLED"},
    ],
)
async def test_what_does_not_go_with_a_daemon_is_refused(cell, members):
    with pytest.raises(InvalidParameterError):
        await create(cell, **members)
    assert await cell.all(SERVICES) == []
    await create(cell)
    if "launchType" not in members:
        with pytest.raises((InvalidParameterError, UnsupportedFeatureError)):  # the latter while a member is not built for any service
            await update(cell, **members)


async def test_a_new_instance_gets_its_daemon_before_anything_else_can_take_the_room(cell):
    await create(cell, taskDefinition="big:1")
    await cell.clock.advance(50)
    await cell.call("CreateService", service.create_service, {"serviceName": "r", "taskDefinition": "web:1", "desiredCount": 4})
    run = {"taskDefinition": "web:1", "count": 1}
    # In the very transaction that brings the instance the room is kept: a RunTask right behind it finds none.
    await cell.put(instance(4))
    answer = await cell.call("RunTask", run_task.run_task, run)
    assert not answer["tasks"] and answer["failures"]
    await cell.clock.advance(5)
    assert await where(cell) == {1: 1, 2: 1, 3: 1, 4: 1}
    assert await where(cell, "r") == {}


async def test_a_daemon_without_room_waits_keeps_its_share_and_is_told(cell):
    replicas = {"serviceName": "r", "taskDefinition": "big:1", "desiredCount": 3}
    await cell.call("CreateService", service.create_service, replicas)
    await cell.clock.advance(5)
    await create(cell)
    await cell.clock.advance(5)
    assert (await describe(cell))["desiredCount"] == 3
    assert await where(cell) == {}
    assert any("unable to place a task" in event.message for event in await cell.all(SERVICE_EVENTS) if event.service == "web")
    (first, *_) = [task for task in await cell.all(TASKS) if task.service == "r"]
    await cell.report(first, "STOPPED")
    await cell.clock.advance(5)
    assert sum((await where(cell)).values()) == 1  # and its replacement, which was first in line, does not fit any more
    assert sum((await where(cell, "r")).values()) == 2


async def test_an_update_rolls_instance_by_instance_at_the_minimum(cell):
    await create(cell, deploymentConfiguration={"minimumHealthyPercent": 66})
    await cell.clock.advance(50)
    await update(cell, taskDefinition="web:2")
    lowest = 3
    for _ in range(200):
        await cell.clock.advance(1)
        live = [task for task in await cell.all(TASKS) if task.last_status in ("PENDING", "RUNNING")]
        assert max(Counter(task.container_instance_id for task in live).values()) == 1
        lowest = min(lowest, sum(task.last_status == "RUNNING" for task in live))
    assert lowest == 2
    assert {task.revision for task in await cell.all(TASKS) if task.desired_status == "RUNNING"} == {2}
    assert (await describe(cell))["deployments"][0]["rolloutState"] == "COMPLETED"


async def test_a_changed_constraint_stops_the_tasks_that_it_forbids(cell):
    await create(cell)
    await cell.clock.advance(50)
    await cell.put(instance(2, attributes=ARM))
    answer = await update(cell, placementConstraints=ONLY_ARM)
    assert answer["desiredCount"] == 1
    await cell.clock.advance(10)
    assert await where(cell) == {2: 1}
    events = [event.message for event in await cell.all(SERVICE_EVENTS)]
    assert sum("SERVICE_DAEMON_PLACEMENT_CONSTRAINT_VIOLATED" in text for text in events) == 1
    await cell.put(instance(3, attributes=ARM))
    await cell.clock.advance(5)
    assert await where(cell) == {2: 1, 3: 1}


async def test_on_a_draining_instance_the_daemon_goes_when_the_replicas_are_gone(cell):
    await create(cell)
    await cell.call("CreateService", service.create_service, {"serviceName": "r", "taskDefinition": "web:1", "desiredCount": 3})
    await cell.clock.advance(50)
    drain = {"containerInstances": [f"{1:032x}"], "status": "DRAINING"}
    await cell.call("UpdateContainerInstancesState", container_instance.update_container_instances_state, drain)
    await cell.clock.advance(20)  # the replacement is not healthy yet
    assert (await where(cell))[1] == 1
    assert (await where(cell, "r"))[1] == 1
    await cell.clock.advance(40)
    ended = {task.service: task for task in await cell.all(TASKS) if task.container_instance_id == f"{1:032x}"}
    assert ended["r"].stopped_at and ended["r"].stopped_at <= ended["web"].stopping_at < ended["r"].stopped_at + 1
    assert (await describe(cell))["desiredCount"] == 2


async def test_a_daemon_is_deleted_without_force(cell):
    await create(cell)
    await cell.clock.advance(50)
    await cell.call("DeleteService", service.delete_service, {"service": "web"})
    await cell.clock.advance(10)
    assert {item.status for item in await cell.all(SERVICES)} == {"INACTIVE"}
    assert await where(cell) == {}
    rebuilt = type(cell.context.placement)()
    for table in ("container_instances", "tasks", "services"):
        for row in cell.store._contents[table].rows.values():
            rebuilt.change(table, None, row.record)
    assert rebuilt.holdings() == cell.context.placement.holdings()
