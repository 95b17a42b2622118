"""RunTask and StartTask on a cell in memory: what a caller may override and what is refused, by its name and without a trace."""

from __future__ import annotations

import msgspec
import pytest

from homeport.api.ecs.run_task import run_task
from homeport.api.ecs.service import create_service
from homeport.errors import ClientError, InvalidParameterError, UnsupportedFeatureError
from homeport.store.tables import TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    await cell.put(records.cluster(), records.container_instance(), records.task_definition())
    yield cell
    await cell.close()


async def run(cell, **request):
    return await cell.call("RunTask", run_task, {"taskDefinition": "web", **request})


def container(cell_definition, **override):
    name = msgspec.json.decode(cell_definition.document)["containerDefinitions"][0]["name"]
    return {"containerOverrides": [{"name": name, **override}]}


@pytest.mark.parametrize(
    "override",
    [
        {"cpu": -1},
        {"memory": -1},
        {"memory": 5},
        {"memoryReservation": -5},
        {"environment": [{"name": "", "value": "a"}]},
        {"environment": [{"value": "a"}]},
    ],
)
async def test_an_override_that_no_definition_may_have_is_refused(cell, override):
    with pytest.raises(InvalidParameterError, match="Invalid override for container"):
        await run(cell, overrides=container(records.task_definition(), **override))
    assert not await cell.all(TASKS)


@pytest.mark.parametrize("text", ["²", "9" * 4400, "9" * 30, "-1", "0", "1.5", "1 GiB"])
@pytest.mark.parametrize("member", ["cpu", "memory"])
async def test_an_amount_that_is_no_number_is_refused(cell, member, text):
    with pytest.raises(InvalidParameterError, match=f"overrides.{member}"):
        await run(cell, overrides={member: text})
    assert not await cell.all(TASKS)


async def test_amounts_with_a_unit_are_taken_as_in_a_task_definition(cell):
    (task,) = (await run(cell, overrides={"cpu": ".25 vCPU", "memory": "0.5 GB"}))["tasks"]
    assert (task["cpu"], task["memory"]) == ("256", "512")
    assert (task["overrides"]["cpu"], task["overrides"]["memory"]) == ("256", "512")


async def test_a_group_has_a_bound(cell):
    with pytest.raises(InvalidParameterError, match="Invalid group"):
        await run(cell, group="x" * 301)


@pytest.mark.parametrize("revision", ["9" * 5000, "0" * 5000 + "1", "²", "0", "-1", "12345678", ""])
async def test_a_revision_that_is_no_number_is_refused(cell, revision):
    with pytest.raises(InvalidParameterError, match="Invalid revision number"):
        await run(cell, taskDefinition=f"web:{revision}")
    with pytest.raises(ClientError):
        await run(cell, taskDefinition="web:9999999")


async def test_a_default_strategy_of_the_cluster_is_not_passed_over(cell):
    await cell.put(
        records.cluster(capacity_providers=("FARGATE",), default_capacity_provider_strategy=b'[{"capacityProvider":"FARGATE","weight":1,"base":0}]')
    )
    with pytest.raises(UnsupportedFeatureError, match="capacity provider FARGATE is not built yet"):
        await run(cell)
    with pytest.raises(UnsupportedFeatureError, match="FARGATE"):
        await cell.call("CreateService", create_service, {"serviceName": "s", "taskDefinition": "web", "desiredCount": 1})
    assert len((await run(cell, launchType="EC2"))["tasks"]) == 1
