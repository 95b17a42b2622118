"""Controllers keep no progress in memory: stopped and started anew at any moments, they end where they would have ended."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.api.ecs import service as handlers
from homeport.store.tables import DEPLOYMENTS, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell


async def story(pauses: list[tuple[float, float]], *, desired: int, scaled: int) -> None:
    cell = await MemoryCell.open()
    await cell.put(records.cluster(), records.task_definition(), records.task_definition(revision=2))
    await cell.put(*(records.container_instance(id=digit * 32) for digit in "12"))
    agents = asyncio.create_task(cell.agents.run())
    await cell.call("CreateService", handlers.create_service, {"serviceName": "web", "taskDefinition": "web:1", "desiredCount": desired})
    for number, (runs, rests) in enumerate(pauses):
        if number == 1:
            await cell.call("UpdateService", handlers.update_service, {"service": "web", "taskDefinition": "web:2", "desiredCount": scaled})
        loop = asyncio.create_task(cell.new_loop().run())
        await cell.clock.advance(runs)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await cell.clock.advance(rests)
    loop = asyncio.create_task(cell.new_loop().run())
    await cell.clock.advance(300)
    running = [task for task in await cell.all(TASKS) if task.last_status != "STOPPED"]
    assert [(task.revision, task.last_status) for task in running] == [(2, "RUNNING")] * scaled
    primary = next(item for item in await cell.all(DEPLOYMENTS) if item.status == "PRIMARY")
    assert primary.rollout_state == "COMPLETED"
    assert [item.status for item in await cell.all(DEPLOYMENTS)].count("INACTIVE") == 1
    for task in (loop, agents):
        task.cancel()
    await asyncio.gather(loop, agents, return_exceptions=True)
    await cell.close()


PAUSES = st.lists(st.tuples(st.sampled_from((0.0, 0.5, 1.5, 41.0)), st.sampled_from((0.0, 1.0, 50.0))), min_size=2, max_size=6)


@given(pauses=PAUSES, desired=st.integers(0, 6), scaled=st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_a_rolling_update_survives_restarts_of_the_controllers(pauses, desired, scaled):
    asyncio.run(story(pauses, desired=desired, scaled=scaled))
