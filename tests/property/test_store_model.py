"""Random transactions on every backend against a plain dict, aborted ones, failed commits and restarts included."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.errors import CommitFailedError, InvalidTransitionError
from homeport.store.backend import Backend
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.table import Reader, Table, Transaction
from homeport.testing.store import OTHERS, THINGS, GatedBackend, Tally, Thing, guard_thing
from homeport.virtual_clock import VirtualClock

TABLES = (THINGS, OTHERS)
NAMES = ("a", "a/1", "a/10", "a/2", "b", "ä")
COLORS = ("", "red", "blue", "nailed")

things = st.builds(
    Thing,
    name=st.sampled_from(NAMES),
    color=st.sampled_from(COLORS),
    size=st.integers(-1, 20),
    labels=st.lists(st.sampled_from("xyz"), unique=True, max_size=3).map(tuple),
)


class Put(msgspec.Struct, frozen=True):
    table: int
    thing: Thing


class Delete(msgspec.Struct, frozen=True):
    table: int
    name: str


class Script(msgspec.Struct, frozen=True):
    """One transaction: its writes, and whether its function raises after them."""

    writes: tuple[Put | Delete, ...]
    aborts: bool


class Together(msgspec.Struct, frozen=True):
    """Transactions that are started at once, and whether their commit fails."""

    scripts: tuple[Script, ...]
    fails: bool


class Restart(msgspec.Struct, frozen=True):
    pass


writes = st.one_of(st.builds(Put, st.integers(0, 1), things), st.builds(Delete, st.integers(0, 1), st.sampled_from(NAMES)))
scripts = st.builds(Script, st.lists(writes, max_size=6).map(tuple), st.sampled_from((False, False, False, True)))
steps = st.one_of(
    st.builds(Together, st.lists(scripts, min_size=1, max_size=6).map(tuple), st.sampled_from((False, False, False, True))),
    st.builds(Together, st.lists(scripts, min_size=1, max_size=6).map(tuple), st.just(False)),
    st.builds(Restart),
)

State = dict[tuple[str, str], Thing]


class AbortError(Exception):
    pass


def perform(script: Script, tx: Transaction) -> None:
    for write in script.writes:
        if isinstance(write, Put):
            tx.put(TABLES[write.table], write.thing)
        else:
            tx.delete(TABLES[write.table], write.name)
    if script.aborts:
        raise AbortError


def expected_after(script: Script, state: State) -> State:
    """What the plain dict says; the same dict when the transaction changes nothing."""
    after = dict(state)
    for write in script.writes:
        if isinstance(write, Put):
            if after.get((TABLES[write.table].name, write.thing.name)) == write.thing:
                continue
            if write.table == 0:
                guard_thing(None, write.thing)
            after[TABLES[write.table].name, write.thing.name] = write.thing
        else:
            before = after.pop((TABLES[write.table].name, write.name), None)
            if write.table == 0:
                guard_thing(before, None)
    if script.aborts:
        raise AbortError
    return after


def everything(reader: Reader) -> State:
    return {(table.name, thing.name): thing for table in TABLES for thing in reader.scan(table)}


def check_reads(reader: Reader, state: State) -> None:
    """Every read agrees with a plain filter over the dict."""
    for table in TABLES:
        records = sorted((thing for (name, _), thing in state.items() if name == table.name), key=lambda thing: thing.name)
        assert list(reader.scan(table)) == records
        for after in NAMES:
            assert list(reader.scan(table, after=after)) == [t for t in records if t.name > after]
            assert list(reader.scan(table, "a/", after)) == [t for t in records if t.name.startswith("a/") and t.name > after]
            assert reader.get(table, after) == state.get((table.name, after))
        for index, extract in table.indexes.items():
            for value in (*COLORS[1:], *"xyz"):
                found = [t for t in records if value in extract(t)]
                assert list(reader.find(table, index, value)) == found
                assert list(reader.find(table, index, value, after="a/10")) == [t for t in found if t.name > "a/10"]
                assert reader.count(table, index, value) == len(found)


class Run:
    """A store, the dict, and the dict as it was at each revision."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        self.make = make
        self.clock = VirtualClock()
        self.history: list[State] = [{}]
        self.seen: list[int] = []

    async def open(self) -> None:
        self.tally = Tally()
        self.gated = GatedBackend(self.make())
        self.store = await Store.open(self.gated, tables=TABLES, clock=self.clock, derived=(self.tally,))
        self.watch = self.store.watch(self.store.revision)

    async def close(self) -> None:
        await self.store.close()
        async for commit in self.watch:
            self.seen.append(commit.revision)

    async def together(self, step: Together) -> None:
        state, states, outcomes = self.history[-1], [], []
        for script in step.scripts:
            try:
                after = expected_after(script, state)
            except (AbortError, InvalidTransitionError) as error:
                outcomes.append(type(error))
                continue
            outcomes.append(type(None))
            if after != state:
                states.append(after)
                state = after
        self.gated.failure = "as the test wants it" if step.fails else ""
        updates = (self.store.update(lambda tx, script=script: perform(script, tx), cause="property") for script in step.scripts)
        results = await asyncio.gather(*updates, return_exceptions=True)
        if step.fails and states:
            # Those before the first write depend on nothing that failed, unless they were decided after it.
            assert CommitFailedError in {type(result) for result in results}
        else:
            assert [type(result) for result in results] == outcomes
            self.history.extend(states)

    async def check(self) -> None:
        state = self.history[-1]
        await self.store.view(lambda r: check_reads(r, state))
        assert self.store.revision == len(self.history) - 1
        assert self.tally.records == {(table, thing): 1 for (table, _), thing in state.items()}

    async def check_journal(self) -> None:
        assert (await self.store.journal.verify()).problem == ""
        for revision, state in enumerate(self.history):
            for table in TABLES:
                expected = sorted((thing for (name, _), thing in state.items() if name == table.name), key=lambda thing: thing.name)
                assert await self.store.journal.records_at(table, revision) == expected
        table: Table[Any] = THINGS
        for name in NAMES:
            story = await self.store.journal.story(table, name)
            changes = [
                (number, now.get(("things", name)))
                for number, (before, now) in enumerate(zip(self.history, self.history[1:], strict=False), 1)
                if before.get(("things", name)) != now.get(("things", name))
            ]
            assert [(change.revision, change.record) for change in story] == changes


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=st.lists(steps, max_size=12))
def test_a_store_is_a_dict_with_a_history(kind: str, plan: list[Together | Restart]) -> None:
    async def main(directory: str) -> None:
        memory = MemoryBackend()
        run = Run(lambda: memory if kind == "memory" else SqliteBackend(Path(directory) / "state.db"))
        await run.open()
        for step in plan:
            if isinstance(step, Together):
                await run.together(step)
            else:
                await run.close()
                await run.open()
            await run.check()
        await run.check_journal()
        await run.close()
        assert run.seen == list(range(1, len(run.history)))

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
