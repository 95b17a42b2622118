"""When counts are enough to start what a service lacks, and when its tasks have to be looked at."""

from __future__ import annotations

import pytest

from homeport.controllers.service_launch import launch_of
from homeport.model.change import StartTask
from homeport.model.ecs.task import Container
from homeport.store.tables import SERVICES, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)
OTHER = "2" * 32


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    yield cell
    await cell.close()


async def launch(cell, *others, **fields):
    """`launch_of` a service that wants five tasks and has three; `others` are stored as well."""
    service = records.service(desired_count=5, **fields)
    await cell.put(records.container_instance(), records.deployment(), service, *(records.task(number) for number in (1, 2, 3)))
    await cell.put(*others)
    return await cell.store.update(lambda tx: launch_of(tx, tx.get(SERVICES, service.key)), cause="test")


async def test_a_service_that_only_lacks_tasks_starts_them_by_count(cell):
    found = await launch(cell)
    assert found.missing == 2
    assert [type(change) for change in found.plan.changes] == [StartTask, StartTask]


@pytest.mark.parametrize(
    "other",
    [
        records.task(3, desired_status="STOPPED"),
        records.task(3, health_status="UNHEALTHY", containers=CHECKED),
        records.container_instance(status="DRAINING"),
        records.container_instance(status="INACTIVE"),
        records.deployment(id="2" * 19, status="ACTIVE"),
        records.deployment(status="INACTIVE"),
        records.deployment(rollout_state="FAILED"),
        records.deployment(throttled_until=records.NOW * 2),
        records.deployment(strategy="BLUE_GREEN"),
        records.service(desired_count=5, rebalancing=5),
        records.service(desired_count=3),
        records.service(desired_count=2),
        records.service(desired_count=5, maximum_percent=60),
        records.service(desired_count=5, status="DRAINING"),
        records.service(desired_count=5, scheduling_strategy="DAEMON"),
        records.service(desired_count=5, deployment_controller="EXTERNAL"),
    ],
    ids=lambda record: f"{type(record).__name__} {getattr(record, 'status', '')}",
)
async def test_its_tasks_are_looked_at_when_anything_else_is_about(cell, other):
    assert await launch(cell, other) is None


async def test_what_concerns_none_of_its_tasks_changes_nothing(cell):
    gone = records.task(9, last_status="STOPPED", desired_status="STOPPED", health_status="UNHEALTHY", containers=CHECKED)
    found = await launch(
        cell,
        records.container_instance(id=OTHER, status="DRAINING"),
        records.deployment(id="2" * 19, status="INACTIVE"),
        records.task(8, service="other", deployment_id="3" * 19, health_status="UNHEALTHY", containers=CHECKED, desired_status="STOPPED"),
        gone,
    )
    assert found.missing == 2


async def test_a_service_without_tasks_is_looked_at(cell):
    service = records.service()
    await cell.put(records.deployment(), service)
    assert await cell.store.update(lambda tx: launch_of(tx, service), cause="test") is None


async def test_a_large_service_gets_all_its_tasks_and_no_more(cell):
    await cell.put(records.cluster(), records.container_instance(cpu=100_000, memory_mib=100_000), records.task_definition())
    cell.start()
    await cell.put(records.service(desired_count=200), records.deployment())
    await cell.clock.advance(60)
    tasks = await cell.all(TASKS)
    assert [task.last_status for task in tasks] == ["RUNNING"] * 200
    [service] = await cell.all(SERVICES)
    assert service.steady
