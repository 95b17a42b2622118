"""The journal: what changed, when, and what caused it, in a chain of hashes.

Owns: the form of an entry (`encode_entry`, `entry_change`), and the read side: `Journal`. Never writes to a backend.

An entry is a msgpack array: hash of the entry before, revision, instant, cause, changes. Each change names the revision of the same record's
change before it, so that a record's story is read back entry by entry, without an index to keep and without replaying anything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import compress, count
from operator import is_not
from typing import Any, Final, TypeVar

import msgspec

from homeport.errors import JournalPrunedError
from homeport.model.record import Instant, Record
from homeport.store.backend import Anchor, Backend, StoredEntry
from homeport.store.codec import ENCODER, Codec
from homeport.store.contents import FULL_EVERY, Contents
from homeport.store.table import Table
from homeport.store.transaction import Write

R = TypeVar("R", bound=Record)

READ_ENTRIES: Final = 1_000
"""Entries read at a time by `verify`."""

CREATE: Final = "create"
UPDATE: Final = "update"
DELETE: Final = "delete"


class FieldChange(msgspec.Struct, frozen=True, array_like=True):
    """A field of a record got a new value. `position` is the field's place in the stored array."""

    position: int
    name: str
    value: Any


class EntryChange(msgspec.Struct, frozen=True, array_like=True):
    """One record's change inside an entry."""

    table: str
    key: str
    version: int
    """Version of the table's stored form."""
    previous: int
    """Revision of this record's change before this one, 0 when there is none."""
    kind: str
    """create, update or delete."""
    fields: tuple[FieldChange, ...]
    """For an update: what is different."""
    record: bytes | None
    """The whole record after the change, in stored form: at creation and at every 16th change."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A transaction, as the journal has it."""

    previous_hash: bytes
    revision: int
    instant: Instant
    cause: str
    changes: tuple[EntryChange, ...]


class RecordChange(msgspec.Struct, frozen=True):
    """A step of a record's story."""

    revision: int
    instant: Instant
    cause: str
    kind: str
    """create, update or delete."""
    fields: tuple[tuple[str, Any], ...]
    """For an update: (name, new value) of the fields that changed, as stored."""
    record: Record | None
    """The record after it; None after a deletion, or where the journal no longer reaches back to a full record."""


class Verdict(msgspec.Struct, frozen=True):
    """What `verify` found. `problem` is "" when the chain holds; otherwise `revision` is the position of the first flaw."""

    entries: int
    problem: str = ""
    revision: int = 0


ENTRY_DECODER: Final = msgspec.msgpack.Decoder(Entry)


def entry_change(write: Write) -> tuple[Any, ...]:
    """The `EntryChange` of a net write whose `stored` is set, as a plain tuple for the encoder. Sets `write.full` when it has the whole record."""
    contents, row, stored = write.contents, write.row, write.stored
    if stored is None:
        return (contents.name, write.key, contents.version, row.revision, DELETE, (), None)
    if write.before is None:
        write.full = True
        return (contents.name, write.key, contents.version, row.revision, CREATE, (), stored)
    fields = changed_fields(write.before, write.after)
    if row.since_full + 1 >= FULL_EVERY:
        write.full = True
        return (contents.name, write.key, contents.version, row.revision, UPDATE, fields, stored)
    return (contents.name, write.key, contents.version, row.revision, UPDATE, fields, None)


def changed_fields(before: Record, after: Record | None) -> list[tuple[int, str, Any]]:
    """(position, name, new value) of every field in which the two differ."""
    names = before.__struct_fields__
    old, new = msgspec.structs.astuple(before), msgspec.structs.astuple(after)  # type: ignore[arg-type]  # never None for an update
    return [(position, names[position], new[position]) for position in compress(count(), map(is_not, old, new)) if old[position] != new[position]]


class Journal:
    """The read side."""

    def __init__(self, backend: Backend, contents: Mapping[str, Contents], settle: Callable[[], Awaitable[None]]) -> None:
        """`settle` returns once everything that the tables show is durable."""
        self._backend = backend
        self._contents = contents
        self._settle = settle

    async def entries(self, from_revision: int = 1, limit: int = READ_ENTRIES) -> list[Entry]:
        """Up to `limit` durable entries in order, from `from_revision` on."""
        return [ENTRY_DECODER.decode(stored.payload) for stored in await self._backend.entries(from_revision, limit)]

    async def verify(self) -> Verdict:
        """Walk the whole chain."""
        return await verify(self._backend)

    async def story(self, table: Table[R], key: str) -> list[RecordChange]:
        """Every change of one record, oldest first, as far back as the journal reaches; earlier records under the same key included."""
        await self._settle()
        ends = await self._backend.deletions(table.name, key)
        row = self._contents[table.name].rows.get(key)
        if row is not None and row.revision:
            ends.append(row.revision)
        story: list[RecordChange] = []
        for end in ends:
            story.extend(_tell(table, await self._chain(table, key, end=end, since=0)))
        return story

    async def record_at(self, table: Table[R], key: str, revision: int) -> R | None:
        """The record as it was right after `revision`, or None when it did not exist. Raises JournalPrunedError when that is too long ago."""
        await self._settle()
        row = self._contents[table.name].rows.get(key)
        if row is not None and 0 < row.revision <= revision:
            return row.record  # type: ignore[return-value]  # a table's rows hold its record type
        ends = [end for end in await self._backend.deletions(table.name, key) if end > revision]
        if row is not None and not ends:
            ends.append(row.revision)
        return await self._before(table, key, ends[0], revision) if ends else None

    async def records_at(self, table: Table[R], revision: int) -> list[R]:
        """Every record of the table as it was right after `revision`, in key order. Raises JournalPrunedError when that is too long ago."""
        await self._settle()
        ends: dict[str, int] = {}
        for key, deleted in await self._backend.deletions_after(table.name, revision):
            ends.setdefault(key, deleted)
        found: dict[str, R] = {}
        for key, row in list(self._contents[table.name].rows.items()):
            if row.revision <= revision:
                found[key] = row.record  # type: ignore[assignment]  # a table's rows hold its record type
            else:
                ends.setdefault(key, row.revision)
        for key, end in ends.items():
            record = await self._before(table, key, end, revision)
            if record is not None:
                found[key] = record
        return [found[key] for key in sorted(found)]

    async def _before(self, table: Table[R], key: str, end: int, revision: int) -> R | None:
        """The record at `revision`, told from the chain of changes that ends at `end` (later than `revision`)."""
        chain = await self._chain(table, key, end=end, since=revision)
        if not chain:
            raise JournalPrunedError(f"the journal does not reach back to revision {revision}")
        past = [(entry, change) for entry, change in chain if entry.revision <= revision]
        if not past:
            if chain[0][1].kind == CREATE:
                return None
            raise JournalPrunedError(f"the journal does not reach back to revision {revision}")
        last = _tell(table, past)[-1]
        if last.record is None and last.kind != DELETE:
            raise JournalPrunedError(f"the journal does not reach back to the state of revision {revision}")
        return last.record  # type: ignore[return-value]  # told from this table's entries

    async def _chain(self, table: Table[R], key: str, *, end: int, since: int) -> list[tuple[Entry, EntryChange]]:
        """The changes of one record up to revision `end`, oldest first; back to the last full record not newer than `since`, or to the first."""
        chain: list[tuple[Entry, EntryChange]] = []
        revision = end
        while revision:
            entries = await self.entries(revision, 1)
            if not entries or entries[0].revision != revision:
                break
            change = next((change for change in entries[0].changes if change.key == key and change.table == table.name), None)
            if change is None:
                break
            chain.append((entries[0], change))
            if since and revision <= since and change.record is not None:
                break
            revision = change.previous
        chain.reverse()
        return chain


def _tell(table: Table[R], chain: list[tuple[Entry, EntryChange]]) -> list[RecordChange]:
    """The chain with the record after each step."""
    codec = Codec(table)
    story: list[RecordChange] = []
    state: list[Any] | None = None
    for entry, change in chain:
        record: R | None = None
        if change.kind == DELETE:
            state = None
        elif change.record is not None:
            state = msgspec.msgpack.decode(change.record)
        elif state is not None:
            for field in change.fields:
                state[field.position] = field.value
        if state is not None:
            record = codec.decode(change.version, ENCODER.encode(state))
        fields = tuple((field.name, field.value) for field in change.fields)
        story.append(RecordChange(entry.revision, entry.instant, entry.cause, change.kind, fields, record))
    return story


async def verify(backend: Backend) -> Verdict:
    """Walk the chain from its anchor to its head and name the position of the first edit, loss or reorder."""
    anchor, head = await backend.ends()
    before: StoredEntry | Anchor = anchor
    checked = 0
    async for entry in _walk(backend, anchor.revision + 1):
        expected = before.revision + 1
        if entry.revision > head.revision:
            return Verdict(checked, f"entry {entry.revision} lies behind the head, which is {head.revision}", entry.revision)
        if entry.revision != expected:
            return Verdict(checked, f"entries {expected} to {entry.revision - 1} are missing", expected)
        try:
            read = ENTRY_DECODER.decode(entry.payload)
        except msgspec.MsgspecError as error:
            return Verdict(checked, f"entry {expected} was edited: it cannot be read ({error})", expected)
        if read.revision != expected:
            return Verdict(checked, f"entry {expected} is out of order: it was written as entry {read.revision}", expected)
        if hashlib.sha256(entry.payload).digest() != entry.hash:
            return Verdict(checked, f"entry {expected} was edited: its hash is another", expected)
        if read.previous_hash != before.hash:
            return Verdict(checked, f"entry {before.revision} was replaced: entry {expected} follows one with another hash", before.revision)
        checked += 1
        before = entry
    if before.revision != head.revision:
        return Verdict(checked, f"entries {before.revision + 1} to {head.revision} are missing", before.revision + 1)
    if before.hash != head.hash:
        return Verdict(checked, f"entry {before.revision} was replaced: the head has another hash", before.revision)
    return Verdict(checked)


async def _walk(backend: Backend, revision: int) -> AsyncIterator[StoredEntry]:
    while True:
        entries = await backend.entries(revision, READ_ENTRIES)
        for entry in entries:
            yield entry
        if len(entries) < READ_ENTRIES:
            return
        revision = entries[-1].revision + 1
