"""The past, told from a journal that is pruned, against snapshots taken then: random changes, restarts and prunings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import JournalPrunedError
from homeport.store import journal
from homeport.store.memory import MemoryBackend
from homeport.store.past import view_at
from homeport.store.store import Store
from homeport.store.table import Reader
from homeport.testing.store import OTHERS, THINGS, Part, Thing
from homeport.virtual_clock import VirtualClock

NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, st.integers(0, 3), st.sampled_from(["red", "green"])),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.just("many"), NAMES, st.integers(1, 20)),
        st.tuples(st.just("prune"), st.integers(0, 40)),
        st.tuples(st.just("restart")),
    ),
    max_size=25,
)


def everything(reader: Reader) -> Any:
    """What a reader shows, by every way of reading."""
    return (
        reader.revision,
        list(reader.scan(THINGS)),
        list(reader.scan(THINGS, "b")),
        list(reader.scan(THINGS, "", "b")),
        [reader.get(THINGS, name) for name in "abcdx"],
        {(index, value): list(reader.find(THINGS, index, value)) for index in THINGS.indexes for value in VALUES},
        {(index, value): list(reader.find(THINGS, index, value, "b")) for index in THINGS.indexes for value in VALUES},
        {(index, value): reader.count(THINGS, index, value) for index in THINGS.indexes for value in VALUES},
        list(reader.scan(OTHERS)),
    )


VALUES = ("red", "green", "0", "1", "even", "odd", "")


class Run:
    """One history."""

    def __init__(self) -> None:
        self.backend, self.clock = MemoryBackend(), VirtualClock()
        self.snapshots: dict[int, Any] = {}
        self.store: Store

    async def open(self) -> None:
        self.store = await Store.open(self.backend, tables=(THINGS, OTHERS), clock=self.clock)

    async def step(self, step: tuple[Any, ...]) -> None:
        kind, *rest = step
        if kind == "put":
            await self.put(thing(*rest))
        elif kind == "delete":
            await self.store.update(lambda tx: tx.delete(THINGS, rest[0]), cause="delete")
        elif kind == "many":
            for count in range(rest[1]):
                await self.put(thing(rest[0], count, "red"))
        elif kind == "prune":
            anchor, head = await self.backend.ends()
            if anchor.revision < head.revision:
                await self.backend.prune(min(head.revision, anchor.revision + rest[0]), 10_000)
        else:
            await self.store.close()
            await self.open()
        self.snapshots[self.store.revision] = await self.store.view(everything)

    async def put(self, record: Thing) -> None:
        await self.store.update(lambda tx: tx.put(THINGS, record), cause="put")
        self.snapshots[self.store.revision] = await self.store.view(everything)

    async def check(self) -> None:
        anchor, _ = await self.backend.ends()
        for revision, then in self.snapshots.items():
            if revision < anchor.revision:
                with pytest.raises(JournalPrunedError):
                    await view_at(self.store.journal, revision, everything)
                continue
            for worth in (0, 10**9):  # one record after the other, and entry after entry
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(journal, "CHANGES_WORTH_AN_ENTRY", worth)
                    assert await view_at(self.store.journal, revision, everything) == then
        for name in "abcd":
            for change in await self.store.journal.story(THINGS, name):
                assert change.kind != "update" or (change.before is not None and change.record is not None)
                assert change.kind != "delete" or change.before is not None


def thing(name: str, size: int, color: str) -> Thing:
    parts = tuple(Part(name=f"part{number}", weight=size / 2) for number in range(size % 3))
    return Thing(name=name, size=size, color=color, labels=(str(size % 2), "odd" if size % 2 else "even"), parts=parts)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_kept_revision_is_told_as_it_was(steps):
    async def run() -> None:
        this = Run()
        await this.open()
        for step in steps:
            await this.step(step)
        await this.check()
        await this.store.close()

    asyncio.run(run())
