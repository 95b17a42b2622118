"""A mirror that is given what a leader's backend was given shows the same as the leader: tables, indexes, derived views, commits."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_store_model import TABLES, Together, check_reads, everything, perform, scripts

from homeport.store.backend import Batch, Head, StoredEntry, StoredRow
from homeport.store.contents import Contents
from homeport.store.memory import MemoryBackend
from homeport.store.mirror import Mirror
from homeport.store.store import Store
from homeport.store.transaction import StoreReader
from homeport.testing.store import Tally
from homeport.virtual_clock import VirtualClock


class Recorder(MemoryBackend):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []

    async def commit(self, batch: Batch) -> None:
        await super().commit(batch)
        self.batches.append(batch)


class Copy:
    """Tables that a mirror keeps."""

    def __init__(self) -> None:
        self.contents = {table.name: Contents(table) for table in TABLES}
        self.tally = Tally()
        self.mirror = Mirror(self.contents, (self.tally,))
        self.head = Head()

    @property
    def reader(self) -> StoreReader:
        return StoreReader(self.contents, self.head.revision)


def rows_of(batch: Batch) -> dict[str, dict[int, StoredRow | None]]:
    """As a follower gets them: etcd tells of no deletion of a row that never was there."""
    return {name: {number: None if row is None else StoredRow(*row) for number, row in rows.items()} for name, rows in batch.rows.items()}


steps = st.lists(st.builds(Together, st.lists(scripts, min_size=1, max_size=12).map(tuple), st.just(False)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(plan=steps, seen=st.integers(0, 8))
def test_a_mirror_shows_what_the_leader_has(plan: list[Together], seen: int) -> None:
    async def main() -> None:
        backend, tally, copy = Recorder(), Tally(), Copy()
        store = await Store.open(backend, tables=TABLES, clock=VirtualClock(), derived=(tally,))
        watch = store.watch()
        for step in plan:
            updates = (store.update(lambda tx, script=script: perform(script, tx), cause="property") for script in step.scripts)
            await asyncio.gather(*updates, return_exceptions=True)
        commits = []
        for batch in backend.batches:
            commits += copy.mirror.apply([StoredEntry(*entry) for entry in batch.entries], rows_of(batch))
            copy.head = batch.head
        state = await store.view(everything)
        check_reads(copy.reader, state)
        assert copy.tally.records == tally.records
        assert commits == list(watch._commits)
        for name, contents in copy.contents.items():  # what a new leader writes fits what is stored
            leader = store._contents[name]
            assert {key: (row.id, row.revision) for key, row in contents.rows.items()} == {
                key: (row.id, row.revision) for key, row in leader.rows.items()
            }
            assert contents.next_id > max((row.id for row in leader.rows.values()), default=0)

        # Another copy that saw only the first batches is made equal to what is stored now.
        late = Copy()
        for batch in backend.batches[:seen]:
            late.mirror.apply([StoredEntry(*entry) for entry in batch.entries], rows_of(batch))
        for table in TABLES:
            stored = [row async for page in backend.rows(table.name) for row in page]
            found = {key: (row, record) for row in stored for key, record in [late.mirror.decode(table.name, row)]}
            changed = {key: item for key, item in found.items() if late.mirror.differs(table.name, item[0], key)}
            late.mirror.replace(table.name, set(found), changed)
        check_reads(late.reader, state)
        assert late.tally.records == tally.records
        await store.close()

    asyncio.run(main())
