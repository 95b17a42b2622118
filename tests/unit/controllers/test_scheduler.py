"""Tasks that wait for an instance of their capacity provider."""

from __future__ import annotations

import msgspec
import pytest

from homeport.api.ecs.run_task import run_task
from homeport.api.ecs.task import stop_task
from homeport.config import Settings
from homeport.errors import ClientError
from homeport.model.ecs.capacity_provider import CapacityProvider, ManagedScaling
from homeport.model.ecs.container_instance import Attribute
from homeport.model.ecs.task_definition import TaskDefinitionFamily
from homeport.store.tables import TASKS
from homeport.testing import records


def provider(*, enabled=True):
    scaling = ManagedScaling(enabled=enabled)
    return CapacityProvider(
        account=records.ACCOUNT, name="a", type="EC2_AUTOSCALING", status="ACTIVE", created_at=1.0, auto_scaling_group="g", managed_scaling=scaling
    )


def instance(number, **fields):
    attribute = Attribute(name="homeport.capacity-provider", value="a")
    return records.container_instance(id=f"{number:032x}", attributes=(attribute,), **fields)


async def open_cell(make_cell, *more, settings=None, enabled=True):
    cluster = records.cluster(capacity_providers=("a",))
    family = TaskDefinitionFamily(account=records.ACCOUNT, family="web", last_revision=1)
    return await make_cell(cluster, provider(enabled=enabled), family, *more, settings=settings)


async def run(cell, count=1):
    request = {"taskDefinition": "web:1", "count": count, "capacityProviderStrategy": [{"capacityProvider": "a", "weight": 1}]}
    return await cell.call("RunTask", run_task, request)


async def statuses(cell):
    return [task.last_status for task in sorted(await cell.all(TASKS), key=lambda task: task.created_at)]


async def test_a_task_waits_until_an_instance_of_its_provider_joins(make_cell):
    cell = await open_cell(make_cell)
    (task,) = (await run(cell))["tasks"]
    assert task["lastStatus"] == "PROVISIONING"
    assert "containerInstanceArn" not in task
    await cell.clock.advance(100)
    assert await statuses(cell) == ["PROVISIONING"]
    await cell.put(instance(7))
    await cell.clock.advance(5)
    (placed,) = await cell.all(TASKS)
    assert (placed.last_status, placed.container_instance_id) == ("RUNNING", f"{7:032x}")


async def test_the_first_come_is_served_first(make_cell):
    cell = await open_cell(make_cell)
    await run(cell)
    await cell.clock.advance(1)
    await run(cell)
    await cell.put(instance(7, memory_mib=128))
    await cell.clock.advance(5)
    assert await statuses(cell) == ["RUNNING", "PROVISIONING"]


async def test_who_waited_too_long_fails_to_start(make_cell):
    cell = await open_cell(make_cell, settings=Settings(provisioning_timeout_seconds=600))
    await run(cell)
    await cell.clock.advance(599)
    assert await statuses(cell) == ["PROVISIONING"]
    await cell.clock.advance(2)
    (task,) = await cell.all(TASKS)
    assert (task.last_status, task.stop_code, task.stopped_reason) == ("STOPPED", "TaskFailedToStart", "EMPTY CAPACITY PROVIDER")
    assert (task.started_at, task.execution_stopped_at) == (0.0, 0.0)


async def test_a_waiting_task_is_stopped_without_an_agent(make_cell):
    cell = await open_cell(make_cell)
    (task,) = (await run(cell))["tasks"]
    stopped = (await cell.call("StopTask", stop_task, {"task": task["taskArn"]}))["task"]
    assert (stopped["lastStatus"], stopped["stopCode"]) == ("STOPPED", "UserInitiated")


async def test_there_is_a_ceiling_and_a_refused_call_makes_nothing(make_cell):
    cell = await open_cell(make_cell, settings=Settings(provisioning_tasks_max=3))
    await run(cell, count=2)
    with pytest.raises(ClientError, match="limit of 3 tasks"):
        await run(cell, count=2)
    assert len(await cell.all(TASKS)) == 2


async def test_without_managed_scaling_nobody_waits(make_cell):
    cell = await open_cell(make_cell, enabled=False)
    answer = await run(cell)
    assert (answer["tasks"], answer["failures"][0]["reason"]) == ([], "EMPTY CAPACITY PROVIDER")


async def test_a_service_s_tasks_wait_too(make_cell):
    document = msgspec.json.encode({"capacityProviderStrategy": [{"capacityProvider": "a", "weight": 1}]})
    cell = await open_cell(make_cell, records.service(document=document, launch_type=""), records.deployment(launch_type=""))
    await cell.clock.advance(30)
    assert await statuses(cell) == ["PROVISIONING", "PROVISIONING"]
    await cell.put(instance(7))
    await cell.clock.advance(5)
    assert await statuses(cell) == ["RUNNING", "RUNNING"]
