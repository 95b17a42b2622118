"""Copies a whole state, records and journal with its chain, from one backend into another.

Owns: `copy_state`. Never decodes a record: rows and entries go over as they are, so that the chain's hashes stay true.

The order keeps a copy that was broken off from being taken for a state: one row that no program reads is there first, and is replaced by the
installation's own row, which comes last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from homeport.errors import HomeportError
from homeport.store.backend import Anchor, Backend, Batch, BatchLimits, Head, JournalSource, StoredRow, TargetBackend
from homeport.store.codec import UNFINISHED
from homeport.store.journal import READ_ENTRIES, verify
from homeport.store.journal_entry import ENTRY_DECODER
from homeport.store.tables import INSTALLATION, TABLES

TABLE_NAMES: Final = tuple(table.name for table in TABLES)


class NothingToCopyError(HomeportError):
    """The source holds no installation."""


class NotEmptyError(HomeportError):
    """The target holds a state already."""


class BrokenCopyError(HomeportError):
    """The copy's chain does not hold: the source's does not."""


class Copied(msgspec.Struct, frozen=True):
    """What a copy consists of."""

    revision: int
    records: int
    entries: int


async def copy_state(
    source: Backend, source_head: Head, target: TargetBackend, *, replace: bool = False, journal: JournalSource | None = None
) -> Copied:
    """Copy what `source`, which is open and stands still at `source_head`, holds into `target`, which is not open yet; closes neither.

    With `replace` what the target holds goes. `journal` is the source's with what lies elsewhere of it; by default its own.
    Raises NothingToCopyError, NotEmptyError, BrokenCopyError, and what the backends raise.
    """
    journal = journal or source
    anchor, _ = await journal.ends()
    founding = [row async for page in source.rows(INSTALLATION.name) for row in page]
    if not founding or any(row.version == UNFINISHED for row in founding):
        raise NothingToCopyError("there is no installation in the store to copy from")
    head = await target.load(TABLE_NAMES)
    if not replace and head.revision and not await _is_unfinished(target):
        raise NotEmptyError("the store to copy to is not empty; nothing was changed there")
    await target.clear()
    writer = _Writer(target, Head(revision=anchor.revision, hash=anchor.hash), anchor)
    await writer.row(INSTALLATION.name, msgspec.structs.replace(founding[0], version=UNFINISHED))
    await writer.flush()
    for table in TABLES:
        if table is not INSTALLATION:
            async for page in source.rows(table.name):
                for row in page:
                    await writer.row(table.name, row)
    await writer.flush()
    await _copy_journal(journal, writer, anchor, source_head)
    for row in founding:
        await writer.row(INSTALLATION.name, row)
    writer.head = source_head
    await writer.flush()
    verdict = await verify(target)
    if verdict.problem:
        await target.clear()
        raise BrokenCopyError(f"the journal to copy is broken at revision {verdict.revision}: {verdict.problem}; nothing was kept of the copy")
    return Copied(source_head.revision, writer.records - 1, verdict.entries)


async def _is_unfinished(target: TargetBackend) -> bool:
    """Whether what the target holds is a copy that was broken off."""
    return any([row.version == UNFINISHED async for page in target.rows(INSTALLATION.name) for row in page])


async def _copy_journal(source: JournalSource, writer: _Writer, anchor: Anchor, head: Head) -> None:
    deletions = [(name, key, revision) for name in TABLE_NAMES for key, revision in await source.deletions_after(name, anchor.revision)]
    deletions.sort(key=lambda deletion: deletion[2])
    position = 0
    async for revision, payload, digest in _entries(source, anchor.revision + 1, head.revision):
        gone = []
        while position < len(deletions) and deletions[position][2] <= revision:
            gone.append(deletions[position])
            position += 1
        await writer.entry((revision, payload, digest), gone)


async def _entries(source: JournalSource, first: int, last: int) -> AsyncIterator[tuple[int, bytes, bytes]]:
    while first <= last:
        found = await source.entries(first, READ_ENTRIES)
        for entry in found:
            if entry.revision <= last:
                yield entry.revision, entry.payload, entry.hash
        if not found:
            return
        first = found[-1].revision + 1


class _Writer:
    """Gathers rows and entries into batches that the target takes."""

    def __init__(self, target: Backend, head: Head, anchor: Anchor) -> None:
        self._target = target
        self._limits: BatchLimits = target.limits
        self._anchor = anchor
        self._batch = Batch()
        self.head = head
        """What the target's head is after the next batch."""
        self.records = 0
        """Rows written so far."""

    async def row(self, table: str, row: StoredRow) -> None:
        """Write a row."""
        await self._room(1, len(row.record))
        self._batch.rows.setdefault(table, {})[row.id] = (row.id, row.version, row.revision, row.record)
        self._batch.records += 1
        self._batch.bytes += len(row.record)
        self.records += 1

    async def entry(self, entry: tuple[int, bytes, bytes], deletions: Sequence[tuple[str, str, int]]) -> None:
        """Write the next journal entry, with the deletions that it tells of."""
        revision, payload, digest = entry
        await self._room(0, len(payload))
        try:
            instant = ENTRY_DECODER.decode(payload).instant
        except msgspec.MsgspecError:
            raise BrokenCopyError(f"the journal to copy is broken at revision {revision}: the entry cannot be read") from None
        self._batch.entries.append(entry)
        self._batch.deletions.extend(deletions)
        self._batch.bytes += len(payload)
        self.head = Head(revision, instant, digest)

    async def _room(self, records: int, size: int) -> None:
        batch, limits = self._batch, self._limits
        full = batch.records + records > limits.records or batch.bytes + size > limits.bytes or len(batch.entries) >= limits.transactions
        if full and (batch.records or batch.entries):
            await self.flush()

    async def flush(self) -> None:
        """Write what was gathered."""
        batch, self._batch = self._batch, Batch()
        batch.head, batch.anchor = self.head, self._anchor
        await self._target.commit(batch)
