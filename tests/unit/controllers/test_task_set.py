"""The controller of task sets: what brings it, in how many steps, and what it leaves alone."""

from __future__ import annotations

import pytest

from homeport.api.ecs.operations import OPERATIONS
from homeport.controllers import task_set as controller
from homeport.store.tables import SERVICES, TASK_SETS, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

WHERE = {"cluster": "default", "service": "web"}


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    instances = [records.container_instance(id=f"{number:032x}") for number in range(1, 21)]
    await cell.put(records.cluster(), records.task_definition(), records.task_definition(revision=2), *instances)
    yield cell
    await cell.close()


async def call(cell, operation, **request):
    return await cell.call(operation, OPERATIONS[operation], request)


async def service(cell, desired, *scales):
    await call(cell, "CreateService", serviceName="web", desiredCount=desired, deploymentController={"type": "EXTERNAL"})
    made = []
    for number, scale in enumerate(scales, 1):
        request = {**WHERE, "taskDefinition": f"web:{number}", "scale": {"value": scale, "unit": "PERCENT"}}
        made.append((await call(cell, "CreateTaskSet", **request))["taskSet"])
    return made


def status(cell):
    (found,) = [item for item in cell.loop.status() if item.name == controller.NAME]
    return found


async def test_many_tasks_that_come_up_together_bring_few_activations(cell):
    cell.start()
    await service(cell, 400, 100.0)
    await cell.clock.advance(100)
    assert {item.stability_status for item in await cell.all(TASK_SETS)} == {"STEADY_STATE"}
    tasks = await cell.all(TASKS)
    assert (len(tasks), all(task.healthy_since for task in tasks)) == (400, True)
    assert status(cell).activations < 80
    assert not status(cell).errors


async def test_a_set_is_stable_when_its_last_task_runs_whatever_another_set_waits_for(cell):
    cell.start(agents=False)
    await service(cell, 2, 100.0, 50.0)
    await cell.clock.settle()
    tasks = sorted(await cell.all(TASKS), key=lambda task: (task.revision, task.id))
    await cell.report(tasks[0], "RUNNING")
    assert [item.stability_status for item in await cell.all(TASK_SETS)] == ["STABILIZING", "STABILIZING"]
    await cell.report(tasks[1], "RUNNING")
    of = {item.revision: item.stability_status for item in await cell.all(TASK_SETS)}
    assert of == {1: "STEADY_STATE", 2: "STABILIZING"}


async def test_the_first_task_that_runs_ends_the_delay_of_a_failing_set(cell):
    cell.start(agents=False)
    await service(cell, 2, 100.0)
    for _ in range(3):
        await cell.clock.settle()
        for task in [task for task in await cell.all(TASKS) if task.last_status == "PENDING"]:
            await cell.report(task, "STOPPED", reason="CannotPullContainerError: no such image")
        await cell.clock.advance(1)
    (failing,) = await cell.all(TASK_SETS)
    assert failing.failures_to_start >= 3 and failing.throttled_until > cell.clock.now()
    await cell.clock.advance(16)
    one, other = [task for task in await cell.all(TASKS) if task.last_status == "PENDING"]
    await cell.report(one, "RUNNING")
    (item,) = await cell.all(TASK_SETS)
    assert (item.failures_to_start, item.throttled_until) == (0, 0.0)
    assert other.last_status == "PENDING"


async def test_an_activation_holds_no_more_than_a_transaction_with_sets_that_all_change(cell):
    cell.start()
    made = await service(cell, 70, 100.0, 100.0)
    await cell.clock.advance(100)
    for item in made:
        await call(cell, "UpdateTaskSet", **WHERE, taskSet=item["id"], scale={"value": 0.0})
    await cell.clock.advance(100)
    assert {task.last_status for task in await cell.all(TASKS)} == {"STOPPED"}
    assert not status(cell).errors


async def test_twice_in_a_row_it_changes_nothing(cell):
    cell.start()
    await service(cell, 4, 100.0, 25.0)
    await cell.clock.advance(100)
    before = cell.store.revision
    cell.loop.mark(controller.NAME, records.service().key)
    await cell.clock.settle()
    assert cell.store.revision == before


async def test_services_with_deployments_are_none_of_its_business(cell):
    cell.start()
    await call(cell, "CreateService", serviceName="web", taskDefinition="web:1", desiredCount=3)
    await cell.clock.advance(100)
    assert status(cell).activations == 0
    (kept,) = await cell.all(SERVICES)
    assert kept.steady
