"""A state copied from one backend into another: records, journal, chain, deletions, anchor. tests/integration has it on etcd."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from homeport.errors import CommitFailedError, StoredFormError
from homeport.model.ecs.cluster import Cluster
from homeport.model.installation import Installation
from homeport.store.backend import BatchLimits, TargetBackend
from homeport.store.copying import TABLE_NAMES, BrokenCopyError, NotEmptyError, NothingToCopyError, copy_state
from homeport.store.journal import verify
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.tables import CLUSTERS, INSTALLATION, TABLES
from homeport.virtual_clock import VirtualClock

MAKERS: dict[str, Callable[[Path], TargetBackend]] = {
    "memory": lambda path: MemoryBackend(),
    "sqlite": lambda path: SqliteBackend(path / "target.sqlite"),
}


@pytest.fixture(params=MAKERS)
def target(request, tmp_path) -> TargetBackend:
    return MAKERS[request.param](tmp_path)


def cluster(name: str, status: str = "ACTIVE") -> Cluster:
    return Cluster(account="1", name=name, status=status, created_at=1.0)


@asynccontextmanager
async def opened(backend: Any) -> AsyncIterator[Store]:
    store = await Store.open(backend, tables=TABLES, clock=VirtualClock())
    try:
        yield store
    finally:
        await store.close()


async def fill(backend: Any, *, clusters: int = 50, prune: int = 0) -> None:
    """An installation with some history: created, changed, deleted."""
    async with opened(backend) as store:
        await store.update(
            lambda tx: tx.put(INSTALLATION, Installation(id="i", account="1", region="us-east-1", created_at=1.0)), cause="server start"
        )
        for number in range(clusters):
            await store.update(lambda tx, n=number: tx.put(CLUSTERS, cluster(f"c{n}")), cause="create")
            if number % 3 == 0:
                await store.update(lambda tx, n=number: tx.put(CLUSTERS, cluster(f"c{n}", "INACTIVE")), cause="change")
            if number % 5 == 0:
                await store.update(lambda tx, n=number: tx.delete(CLUSTERS, f"1/c{n}"), cause="delete")
        if prune:
            await backend.prune(prune, 10_000)


async def copied(source: Any, target: Any, **options: Any) -> Any:
    head = await source.load(TABLE_NAMES)
    try:
        return await copy_state(source, head, target, **options)
    finally:
        await source.close()
        await target.close()


async def shown(backend: Any) -> Any:
    """Everything that a store on `backend` tells: records, rows, entries, the past of each cluster."""
    async with opened(backend) as store:
        clusters = await store.view(lambda reader: list(reader.scan(CLUSTERS)))
        anchor, head = await backend.ends()
        entries = await backend.entries(1, 100_000)
        past = await store.journal.records_at(CLUSTERS, max(anchor.revision, head.revision // 2))
        stories = {n: await store.journal.story(CLUSTERS, f"1/c{n}") for n in (0, 3, 4, 15)}
        return clusters, entries, anchor, head, past, stories


@pytest.mark.parametrize("prune", [0, 20])
async def test_the_copy_tells_everything_that_the_source_does_and_goes_on(target, prune):
    source = MemoryBackend()
    await fill(source, prune=prune)
    result = await copied(source, target)
    assert await shown(source) == await shown(target)
    assert result.revision == (await source.ends())[1].revision
    async with opened(target) as store:
        await store.update(lambda tx: tx.put(CLUSTERS, cluster("after")), cause="after")
        assert not (await store.journal.verify()).problem
        assert store.revision == result.revision + 1


async def test_what_is_there_is_not_overwritten_unless_asked(target):
    source, other = MemoryBackend(), MemoryBackend()
    await fill(source)
    await fill(other, clusters=3)
    await copied(other, target)
    with pytest.raises(NotEmptyError):
        await copied(source, target)
    assert await shown(target) == await shown(other)
    await copied(source, target, replace=True)
    assert await shown(target) == await shown(source)


async def test_an_empty_store_is_not_copied(target):
    source = MemoryBackend()
    with pytest.raises(NothingToCopyError):
        await copied(source, target)


class Breaking:
    """Passes on to a target, in small batches, whose commits fail after some."""

    limits = BatchLimits(transactions=10, records=10, bytes=4_000)

    def __init__(self, target: Any, commits: int) -> None:
        self._target = target
        self._left = commits

    async def commit(self, batch: Any) -> None:
        """Fail when the time has come."""
        if not self._left:
            raise CommitFailedError("the disk is full")
        self._left -= 1
        await self._target.commit(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


@pytest.mark.parametrize("commits", [0, 1, 2, 5, 9, 12])
async def test_a_copy_that_was_broken_off_is_no_state_and_can_be_made_again(target, commits):
    source = MemoryBackend()
    await fill(source)
    with pytest.raises(CommitFailedError):
        await copied(source, Breaking(target, commits))
    if commits:
        with pytest.raises(StoredFormError, match="not finished"):
            async with opened(target):
                pass
    await copied(source, target)
    assert await shown(target) == await shown(source)


async def test_a_broken_chain_is_not_copied(target):
    source = MemoryBackend()
    await fill(source)
    entry = source._entries[9]
    payload = entry.payload.replace(b"create", b"update", 1)
    source._entries[9] = type(entry)(entry.revision, payload, hashlib.sha256(payload).digest())
    with pytest.raises(BrokenCopyError, match="revision 10"):
        await copied(source, target)
    assert (await verify(target)).entries == 0
