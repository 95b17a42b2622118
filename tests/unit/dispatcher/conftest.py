"""Fixtures of the dispatcher's tests: a started dispatcher on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from unit.dispatcher.cell import Cell, instance

from homeport.config import Settings
from homeport.model import arn
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import CLUSTERS, CONTAINER_INSTANCES, TABLES, TASK_DEFINITIONS
from homeport.testing import records
from homeport.virtual_clock import VirtualClock


@pytest.fixture
def settings() -> Settings:
    """The defaults."""
    return Settings()


@pytest.fixture
async def cell(settings: Settings) -> AsyncIterator[Cell]:
    """A started dispatcher; cluster `default`, one instance, one task definition."""
    clock = VirtualClock()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)

    def write(tx: Any) -> None:
        tx.put(CLUSTERS, records.cluster())
        tx.put(CONTAINER_INSTANCES, instance())
        tx.put(TASK_DEFINITIONS, records.task_definition())

    await store.update(write, cause="test")
    made = Cell(store, clock, settings)
    await made.dispatcher.start()
    await clock.settle()
    yield made
    for agent in made.agents:
        await agent.close()
    await made.dispatcher.close()
    await store.close()


@pytest.fixture
def task_arn() -> Callable[[int], str]:
    """number → the ARN of that task."""
    return lambda number: arn.task_arn(records.REGION, records.ACCOUNT, "default", f"{number:032x}")
