"""The backend that keeps everything in this process: for tests, simulation and trying things out.

Owns: `MemoryBackend`. Never survives its process; a second store opened on the same object after the first was closed finds its state.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator
from typing import Final

from homeport.errors import CommitFailedError, StoreLockedError
from homeport.store.backend import Anchor, Batch, BatchLimits, Head, StoredEntry, StoredRow

MEMORY_ENTRIES_MAX: Final = 100_000
"""Journal entries that are kept; older ones are pruned."""


class MemoryBackend:
    """Rows and entries in lists and dicts."""

    limits = BatchLimits()

    def __init__(self, *, entries_max: int = MEMORY_ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._rows: dict[str, dict[int, StoredRow]] = {}
        self._entries: list[StoredEntry] = []
        self._deletions: list[tuple[str, str, int]] = []
        self._anchor = Anchor()
        self._head = Head()
        self._held = False
        self.fail_next: str = ""
        """When not "": the next commit fails with this text, as a full disk would make it fail."""

    async def load(self, tables: tuple[str, ...]) -> Head:
        """The head. Raises StoreLockedError while another store has this backend open."""
        if self._held:
            raise StoreLockedError("this memory backend", None)
        self._held = True
        for name in tables:
            self._rows.setdefault(name, {})
        return self._head

    async def rows(self, table: str) -> AsyncIterator[list[StoredRow]]:
        """All rows of a table."""
        yield list(self._rows[table].values())

    async def commit(self, batch: Batch) -> None:
        """Take the batch. Gives the event loop a turn, as a backend that writes would, so that callers cannot rely on its speed."""
        turn = asyncio.get_running_loop().create_future()
        turn.get_loop().call_soon(turn.set_result, None)
        await turn
        if self.fail_next:
            text, self.fail_next = self.fail_next, ""
            raise CommitFailedError(text)
        for name, rows in batch.rows.items():
            table = self._rows[name]
            for number, row in rows.items():
                if row is None:
                    table.pop(number, None)
                else:
                    table[number] = StoredRow(*row)
        self._entries.extend(StoredEntry(*entry) for entry in batch.entries)
        self._deletions.extend(batch.deletions)
        self._head = batch.head
        self._anchor = batch.anchor or self._anchor
        if len(self._entries) > self._entries_max:
            await self.prune(self._head.revision, len(self._entries) - self._entries_max)

    async def clear(self) -> None:
        """Remove everything."""
        self._rows = {name: {} for name in self._rows}
        self._entries, self._deletions = [], []
        self._anchor, self._head = Anchor(), Head()

    async def prune(self, through: int, limit: int) -> int:
        """Remove the oldest entries."""
        number = min(limit, bisect_left(self._entries, through + 1, key=_revision))
        if number:
            last = self._entries[number - 1]
            self._anchor = Anchor(last.revision, last.hash)
            del self._entries[:number]
            self._deletions = [deletion for deletion in self._deletions if deletion[2] > last.revision]
        return number

    async def entries(self, from_revision: int, limit: int) -> list[StoredEntry]:
        """Entries from `from_revision` on."""
        start = bisect_left(self._entries, from_revision, key=_revision)
        return self._entries[start : start + limit]

    async def deletions(self, table: str, key: str) -> list[int]:
        """Revisions at which the record was deleted."""
        return [revision for name, deleted, revision in self._deletions if name == table and deleted == key]

    async def deletions_after(self, table: str, revision: int) -> list[tuple[str, int]]:
        """Deletions in `table` after `revision`."""
        return [(key, deleted) for name, key, deleted in self._deletions if name == table and deleted > revision]

    async def ends(self) -> tuple[Anchor, Head]:
        """The two ends of the chain."""
        return self._anchor, self._head

    async def scrub(self) -> None:
        """Nothing is left of what was removed."""

    async def close(self) -> None:
        """Let another store open this backend."""
        self._held = False


def _revision(entry: StoredEntry) -> int:
    return entry.revision
