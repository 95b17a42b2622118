"""What a backend is: a few calls that make batches durable and give them back.

Owns: `Backend` and the values that cross it. Never knows records: rows and entries are bytes here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from homeport.model.record import Instant

NO_HASH = bytes(32)
"""The hash before the first entry."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The last transaction of a state: its revision, its instant and the hash of its journal entry."""

    revision: int = 0
    instant: Instant = 0.0
    hash: bytes = NO_HASH


class Anchor(msgspec.Struct, frozen=True, gc=False):
    """Revision and hash of the last journal entry that was removed; the chain starts behind it."""

    revision: int = 0
    hash: bytes = NO_HASH


class StoredRow(msgspec.Struct, frozen=True, gc=False):
    """A record as the backend keeps it."""

    id: int
    version: int
    """Version of the table's stored form."""
    revision: int
    """Revision of the record's last change."""
    record: bytes


class StoredEntry(msgspec.Struct, frozen=True, gc=False):
    """A journal entry as the backend keeps it."""

    revision: int
    payload: bytes
    hash: bytes


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch may have at most. A single transaction always fits."""

    transactions: int = 2_000
    records: int = 1_000_000
    """Rows that it writes."""
    bytes: int = 16 * 1_048_576
    """Of payloads and records, before merging."""


class Batch:
    """Transactions that become durable together. Several writes to one row are one write here; each transaction has its entry."""

    __slots__ = ("anchor", "bytes", "deletions", "entries", "head", "records", "rows")

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes, bytes]] = []
        """(revision, payload, hash), in order."""
        self.rows: dict[str, dict[int, tuple[int, int, int, bytes] | None]] = {}
        """Table → row id → (id, version, revision, record) to write, or None to delete."""
        self.deletions: list[tuple[str, str, int]] = []
        """(table, key, revision) of records deleted, so that a deleted record's story can be found."""
        self.head = Head()
        self.anchor: Anchor | None = None
        """Where the journal's chain starts from now on: for a copy of another state, whose oldest entries may be gone. None: where it did."""
        self.records = 0
        """Rows that are written."""
        self.bytes = 0
        """Bytes of payloads and records, before merging."""


class JournalSource(Protocol):
    """Journal entries to be read, from one place or several. Works without `load`."""

    async def entries(self, from_revision: int, limit: int) -> list[StoredEntry]:
        """Durable journal entries in order of revision, from `from_revision` on."""
        ...

    async def deletions(self, table: str, key: str) -> list[int]:
        """Revisions at which the record was deleted, oldest first, as far as the journal reaches."""
        ...

    async def deletions_after(self, table: str, revision: int) -> list[tuple[str, int]]:
        """(key, revision) of every deletion in `table` after `revision`, oldest first."""
        ...

    async def ends(self) -> tuple[Anchor, Head]:
        """The two ends of the journal's chain."""
        ...


class Backend(JournalSource, Protocol):
    """Where the state is kept. One store uses a backend at a time; calls of `commit` and `prune` never overlap."""

    @property
    def limits(self) -> BatchLimits:
        """How large a batch may be that is given to `commit`."""
        ...

    async def load(self, tables: tuple[str, ...]) -> Head:
        """Open for writing, with room for `tables`, and give the head. Raises StoreLockedError when another process holds it."""
        ...

    def rows(self, table: str) -> AsyncIterator[list[StoredRow]]:
        """All rows of a table, some at a time, so that a million never stand in memory twice. Only between `load` and the first commit."""
        ...

    async def commit(self, batch: Batch) -> None:
        """Return once the batch is durable. Raises CommitFailedError, after which none of it is there and never will be."""
        ...

    async def prune(self, through: int, limit: int) -> int:
        """Remove up to `limit` of the oldest journal entries, none newer than revision `through`; returns how many. Keeps the anchor."""
        ...

    async def scrub(self) -> None:
        """Leave nothing of what was removed or replaced in bytes that are not used any more, as far as that is this backend's to do."""
        ...

    async def close(self) -> None:
        """Let go of everything. `load` may follow."""
        ...


class TargetBackend(Backend, Protocol):
    """A backend into which another state can be copied."""

    async def clear(self) -> None:
        """Remove everything: an empty state, as before the first commit. Only between `load` and `close`. Raises as `commit`."""
        ...
