"""The journal is kept at its age and its size."""

from __future__ import annotations

import asyncio

from homeport.config import Settings
from homeport.controllers.journal import PERIOD_SECONDS, keep_journal
from homeport.model.ecs.cluster import Cluster
from homeport.store.tables import CLUSTERS
from homeport.testing.cell import MemoryCell


async def kept(settings: Settings, *, entries: int, seconds: float) -> tuple[int, int]:
    """(oldest, newest) entry that is left of so many, one a second, after further `seconds`."""
    cell = await MemoryCell.open(settings=settings)
    for number in range(entries):
        name = f"{number}-{'x' * 200}"
        await cell.store.update(lambda tx, n=name: tx.put(CLUSTERS, Cluster(account="1", name=n, status="ACTIVE", created_at=1.0)), cause="test")
        await cell.clock.advance(1.0)
    keeping = asyncio.create_task(keep_journal(cell.store, cell.clock, settings))
    await cell.clock.advance(seconds)
    await cell.clock.advance(PERIOD_SECONDS)
    keeping.cancel()
    left = await cell.store.journal.entries(1, 10_000)
    assert not (await cell.store.journal.verify()).problem
    await cell.close()
    return (left[0].revision, left[-1].revision) if left else (0, 0)


async def test_what_is_older_than_the_retention_goes():
    settings = Settings(journal_retention_seconds=1_000.0, journal_bytes_max=0)
    oldest, newest = await kept(settings, entries=300, seconds=850.0)
    assert newest == 300 and 150 < oldest <= 300


async def test_what_is_beyond_the_size_goes_whatever_its_age():
    oldest, newest = await kept(Settings(journal_bytes_max=50_000), entries=300, seconds=1.0)
    assert newest == 300 and 150 < oldest < 270


async def test_without_a_bound_everything_young_stays():
    assert await kept(Settings(journal_bytes_max=0), entries=50, seconds=1.0) == (1, 50)
