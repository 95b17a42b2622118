"""A cell with one instance and the task definition `web:1`, its controllers and simulated agents running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from homeport.config import Settings
from homeport.testing import records
from homeport.testing.cell import MemoryCell


@pytest.fixture
async def make_cell() -> AsyncIterator[Callable[..., Awaitable[MemoryCell]]]:
    cells: list[MemoryCell] = []

    async def make(*more: object, agents: bool = True, settings: Settings | None = None) -> MemoryCell:
        cell = await MemoryCell.open(settings=settings)
        cells.append(cell)
        await cell.put(records.cluster(), records.container_instance(), records.task_definition(), *more)
        cell.start(agents=agents)
        await cell.clock.settle()
        return cell

    yield make
    for cell in cells:
        await cell.close()
