from __future__ import annotations

from homeport.store.tables import CONTAINER_INSTANCES, SERVICES, TASKS
from homeport.testing import records

OTHER = "2" * 32


async def test_tasks_of_an_instance_that_left_are_ended_and_replaced(make_cell):
    cell = await make_cell(records.service(), records.deployment(), records.container_instance(id=OTHER, status="INACTIVE"))
    await cell.clock.advance(5)
    await cell.put(records.task(7, service="", group="family:web", deployment_id="", started_by="", container_instance_id=OTHER))
    await cell.put(records.container_instance(status="INACTIVE"))
    await cell.clock.settle()
    tasks = [task for task in await cell.all(TASKS) if task.service]
    assert {(task.last_status, task.stop_code, task.stopped_reason) for task in tasks} == {
        ("STOPPED", "TerminationNotice", "Host EC2 (instance i-0123456789abcdef0) terminated.")
    }
    (service,) = await cell.all(SERVICES)
    assert "No Container Instances were found" in service.placement_failure
    # The other instance left before its task was seen; the sweep finds it.
    await cell.clock.advance(11)
    assert (await cell.view(lambda reader: reader.get(TASKS, records.task(7).key))).last_status == "STOPPED"


async def test_when_it_left_is_noted_once(make_cell):
    cell = await make_cell()
    await cell.clock.advance(100)
    await cell.put(records.container_instance(status="INACTIVE"))
    await cell.clock.settle()
    (instance,) = await cell.all(CONTAINER_INSTANCES)
    assert abs(instance.left_at - cell.clock.now()) < 1
    await cell.clock.advance(100)
    (again,) = await cell.all(CONTAINER_INSTANCES)
    assert again == instance


async def test_more_tasks_than_one_transaction_holds(make_cell):
    cell = await make_cell(agents=False)
    for start in range(0, 200, 50):
        await cell.put(*(records.task(n, service="", deployment_id="", started_by="", cpu=0, memory_mib=1) for n in range(start, start + 50)))
    await cell.put(records.container_instance(status="INACTIVE"))
    await cell.clock.settle()
    assert {task.last_status for task in await cell.all(TASKS)} == {"STOPPED"}


async def test_an_instance_whose_agent_is_away_keeps_its_tasks(make_cell):
    cell = await make_cell(records.service(), records.deployment())
    await cell.clock.advance(5)
    await cell.put(records.container_instance(agent_connected=False))
    await cell.clock.advance(60)
    assert [task.last_status for task in await cell.all(TASKS)] == ["RUNNING", "RUNNING"]
