"""The drain of an instance (ecs-reference 3.3) under combinations of the percentages, on a cell in memory: what runs at each second."""

from __future__ import annotations

import math

import pytest

from homeport.api.ecs import container_instance, run_task, service
from homeport.errors import InvalidParameterError
from homeport.store.tables import CONTAINER_INSTANCES, SERVICE_EVENTS, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

ONE, TWO = f"{1:032x}", f"{2:032x}"
DEADLOCK = "was unable to stop or start tasks during a deployment because of the service deployment configuration."


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    await cell.put(records.cluster(), records.task_definition(), records.container_instance(id=ONE), records.container_instance(id=TWO))
    cell.start()
    yield cell
    await cell.close()


async def state(cell, status, instance=ONE):
    request = {"containerInstances": [instance], "status": status}
    return await cell.call("UpdateContainerInstancesState", container_instance.update_container_instances_state, request)


async def deregister(cell, instance=ONE, **members):
    request = {"containerInstance": instance, **members}
    return await cell.call("DeregisterContainerInstance", container_instance.deregister_container_instance, request)


async def create(cell, desired, minimum=100, maximum=200):
    configuration = {"minimumHealthyPercent": minimum, "maximumPercent": maximum}
    request = {"serviceName": "web", "taskDefinition": "web", "desiredCount": desired, "deploymentConfiguration": configuration}
    await cell.call("CreateService", service.create_service, request)
    await cell.clock.advance(60)


async def running(cell, instance=""):
    return sum(task.last_status == "RUNNING" and instance in (task.container_instance_id, "") for task in await cell.all(TASKS))


@pytest.mark.parametrize(
    ("minimum", "maximum", "lowest", "highest", "ends"),
    [
        (100, 200, 4, 6, True),  # both replacements first
        (100, 125, 4, 5, True),  # one at a time
        (50, 100, 2, 4, True),  # stops first
        (50, 150, 2, 6, True),
        (75, 100, 3, 4, True),
        (0, 100, 2, 4, True),  # the tasks on the instance that stays are never touched
        (0, 200, 2, 6, True),
        (100, 100, 4, 4, False),  # the percentages forbid every step: said, not broken
    ],
)
async def test_running_tasks_are_replaced_within_the_percentages(cell, minimum, maximum, lowest, highest, ends):
    await create(cell, 4, minimum, maximum)
    assert await running(cell, ONE) == 2
    await state(cell, "DRAINING")
    seen = []
    for _ in range(200):
        await cell.clock.advance(1)
        seen.append(await running(cell))
    assert lowest <= min(seen)
    assert max(seen) <= highest
    assert await running(cell, ONE) == (0 if ends else 2)
    assert seen[-1] == 4
    told = [event.message for event in await cell.all(SERVICE_EVENTS)]
    assert any(DEADLOCK in text for text in told) is not ends
    (drained,) = [item for item in await cell.all(CONTAINER_INSTANCES) if item.id == ONE]
    assert drained.status == "DRAINING"  # until an operator acts


@pytest.mark.parametrize("maximum", [100, 125, 150, 200])
@pytest.mark.parametrize("minimum", [0, 50, 100])
@pytest.mark.parametrize("desired", [1, 2, 3, 5, 8])
async def test_a_drain_ends_within_its_bounds_or_says_that_they_forbid_it(cell, desired, minimum, maximum):
    lower, upper = math.ceil(desired * minimum / 100), math.floor(desired * maximum / 100)
    await create(cell, desired, minimum, maximum)
    source = ONE if await running(cell, ONE) else TWO
    there = await running(cell, source)
    await state(cell, "DRAINING", source)
    until, healthy, alive = cell.clock.now() + 600, [], []
    while cell.clock.now() < until and (deadline := cell.clock.next_deadline) is not None and deadline <= until:
        await cell.clock.jump()
        tasks = await cell.all(TASKS)
        healthy.append(sum(task.desired_status == "RUNNING" and task.last_status == "RUNNING" for task in tasks))
        alive.append(sum(task.desired_status == "RUNNING" for task in tasks))
    forbidden = lower == upper == desired
    assert min(healthy) >= lower
    assert max(alive) <= max(upper, desired)
    assert await running(cell, source) == (there if forbidden else 0)
    assert healthy[-1] == desired
    told = [event.message for event in await cell.all(SERVICE_EVENTS)]
    assert any(DEADLOCK in text for text in told) is forbidden


async def test_pending_service_tasks_stop_at_once_and_standalone_tasks_never(cell):
    cell.agents.start_seconds = 30.0
    await create(cell, 0)
    await cell.call("UpdateService", service.update_service, {"service": "web", "desiredCount": 4})
    await cell.call("RunTask", run_task.run_task, {"taskDefinition": "web", "count": 1})
    alone = next(task for task in await cell.all(TASKS) if not task.service)
    await state(cell, "DRAINING", alone.container_instance_id)
    there = [task for task in await cell.all(TASKS) if task.container_instance_id == alone.container_instance_id and task.service]
    assert there and all(task.desired_status == "STOPPED" for task in there)
    await cell.clock.advance(120)
    assert next(task for task in await cell.all(TASKS) if not task.service).last_status == "RUNNING"
    assert sum(task.service == "web" and task.last_status == "RUNNING" for task in await cell.all(TASKS)) == 4


async def test_nothing_new_comes_to_an_instance_that_drains_or_whose_agent_is_away(cell):
    await state(cell, "DRAINING")
    await cell.put(records.container_instance(id=TWO, agent_connected=False))
    answer = await cell.call("RunTask", run_task.run_task, {"taskDefinition": "web"})
    assert sorted(failure["reason"] for failure in answer["failures"]) == ["AGENT", "DRAINING"]
    await state(cell, "ACTIVE")
    assert (await cell.call("RunTask", run_task.run_task, {"taskDefinition": "web"}))["tasks"]


async def test_an_instance_whose_agent_is_away_keeps_its_tasks(cell):
    await create(cell, 4)
    (instance,) = [item for item in await cell.all(CONTAINER_INSTANCES) if item.id == ONE]
    await cell.put(records.container_instance(id=ONE, agent_connected=False, version=instance.version))
    await cell.clock.advance(300)
    assert await running(cell, ONE) == 2
    assert len(await cell.all(TASKS)) == 4


async def test_deregistration_needs_force_while_tasks_are_there_and_services_replace_what_it_orphans(cell):
    await create(cell, 4)
    with pytest.raises(InvalidParameterError, match="Found running tasks on the instance"):
        await deregister(cell)
    assert (await deregister(cell, force=True))["containerInstance"]["status"] == "INACTIVE"
    await cell.clock.advance(60)
    assert (await running(cell, ONE), await running(cell, TWO)) == (0, 4)
    assert (await state(cell, "DRAINING"))["failures"][0]["reason"] == "INACTIVE"
