"""The journal's read side: what changed, when, and what caused it, in a chain of hashes.

Owns: `Journal` (stories, the state of the past) and `verify`. Never writes to a backend; `journal_entry.py` has the form of an entry.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from homeport.errors import JournalPrunedError
from homeport.model.record import Instant, Record
from homeport.store.backend import Anchor, Head, JournalSource, StoredEntry
from homeport.store.codec import ENCODER, Codec
from homeport.store.contents import Contents
from homeport.store.journal_entry import CREATE, DELETE, ENTRY_DECODER, UPDATE, Entry, EntryChange, reverted
from homeport.store.rewinding import Rewinding
from homeport.store.table import Table

R = TypeVar("R", bound=Record)

READ_ENTRIES: Final = 1_000
"""Entries read at a time by `verify`."""
CHANGES_WORTH_AN_ENTRY: Final = 10
"""Looking up a record's change costs about as much as reading so many entries in a row."""
INSTANT_SLACK_SECONDS: Final = 5e-7
"""Instants are told to the microsecond, which is also the least time between two of them."""


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
    """The record after it; None after a deletion, or where the journal does not tell it."""
    before: Record | None = None
    """The record before it; None before a creation, or where the journal does not tell it."""


class Verdict(msgspec.Struct, frozen=True):
    """What `verify` found. `problem` is "" when the chain holds; otherwise `revision` is the position of the first flaw."""

    entries: int
    problem: str = ""
    revision: int = 0


class Journal:
    """The read side."""

    def __init__(self, backend: JournalSource, contents: Mapping[str, Contents], settle: Callable[[], Awaitable[bool]]) -> None:
        """`settle` returns True once everything that the tables show is durable, False when some of it was undone."""
        self._backend = backend
        self._contents = contents
        self._settle = settle

    async def entries(self, from_revision: int = 1, limit: int = READ_ENTRIES) -> list[Entry]:
        """Up to `limit` durable entries in order, from `from_revision` on."""
        return [ENTRY_DECODER.decode(stored.payload) for stored in await self._backend.entries(from_revision, limit)]

    async def verify(self) -> Verdict:
        """Walk the whole chain."""
        return await verify(self._backend)

    async def head(self) -> tuple[int, str]:
        """(revision, hash in hexadecimal) of the last durable entry."""
        _, head = await self._backend.ends()
        return head.revision, head.hash.hex()

    async def hash_at(self, revision: int) -> str:
        """Hash of an entry, in hexadecimal; "" when it is not there (any more, or yet)."""
        return (await hash_at(self._backend, revision)).hex()

    async def revision_at(self, instant: Instant) -> int:
        """The last revision that was there at `instant`, 0 when it lies before the first. Raises JournalPrunedError when that is too long ago."""
        anchor, head = await self._backend.ends()
        low, high = anchor.revision, head.revision
        if instant >= head.instant:
            return high
        while low < high:  # instants grow with revisions
            middle = (low + high + 1) // 2
            entries = await self.entries(middle, 1)
            if entries and entries[0].instant <= instant + INSTANT_SLACK_SECONDS:
                low = middle
            else:
                high = middle - 1
        if low == anchor.revision and low:
            raise JournalPrunedError(f"the journal does not reach back that far; its oldest entry is {low + 1}")
        return low

    async def instant_of(self, revision: int) -> Instant:
        """When `revision` was made, 0.0 when the journal does not have it."""
        entries = await self.entries(revision, 1) if revision else []
        return entries[0].instant if entries and entries[0].revision == revision else 0.0

    async def require(self, revision: int) -> None:
        """Return when the state right after `revision` can be told. Raises JournalPrunedError when it lies before the journal or has not been yet."""
        anchor, head = await self._backend.ends()
        if revision < anchor.revision:
            raise JournalPrunedError(f"the journal does not reach back to revision {revision}; its oldest entry is {anchor.revision + 1}")
        if revision > head.revision:
            raise JournalPrunedError(f"revision {revision} has not been yet; the last is {head.revision}")

    async def story(self, table: Table[R], key: str) -> list[RecordChange]:
        """Every change of one record, oldest first, as far back as the journal reaches; earlier records under the same key included."""
        row, ends = await self._now(table, key)
        ends = [end for end in ends if row is None or end != row[1]]
        story: list[RecordChange] = []
        for end in ends:
            story.extend(_tell(table, await self._chain(table, key, end=end, since=0), None))
        if row is not None and row[1]:
            story.extend(_tell(table, await self._chain(table, key, end=row[1], since=0), row[0]))
        return story

    async def record_at(self, table: Table[R], key: str, revision: int) -> R | None:
        """The record as it was right after `revision`, or None when it did not exist. Raises JournalPrunedError when that is too long ago."""
        row, deletions = await self._now(table, key)
        if row is not None and 0 < row[1] <= revision:
            return row[0]
        end = next((deleted for deleted in deletions if deleted > revision), None)
        if end is not None:
            return await self._before(table, key, end=end, revision=revision)
        return await self._before(table, key, end=row[1], revision=revision, record=row[0]) if row is not None else None

    async def records_at(self, table: Table[R], revision: int) -> list[R]:
        """Every record of the table as it was right after `revision`, in key order. Raises JournalPrunedError when that is too long ago."""
        while True:
            rows = [(key, row.record, row.revision) for key, row in self._contents[table.name].rows.items()]
            if await self._settle():
                break
        _, head = await self._backend.ends()
        changed = sum(1 for _, _, last in rows if last > revision)
        if changed * CHANGES_WORTH_AN_ENTRY > head.revision - revision:
            return await self._rewound(table, revision, {key: (record, last) for key, record, last in rows}, head.revision)
        found: dict[str, R] = {}
        ends: dict[str, tuple[int, R | None]] = {}
        # What was deleted since the rows were looked at is told from there as well, to the same end.
        for key, deleted in await self._backend.deletions_after(table.name, revision):
            ends.setdefault(key, (deleted, None))
        for key, record, last in rows:
            if last <= revision:
                found[key] = record  # type: ignore[assignment]  # a table's rows hold its record type
            else:
                ends.setdefault(key, (last, record))  # type: ignore[arg-type]  # the same
        for key, (end, after) in ends.items():
            if key not in found:
                past = await self._before(table, key, end=end, revision=revision, record=after)
                if past is not None:
                    found[key] = past
        return [found[key] for key in sorted(found)]

    async def _rewound(self, table: Table[R], revision: int, rows: dict[str, tuple[Record, int]], head: int) -> list[R]:
        """As `records_at`, by taking back every entry from `head` on; what takes long runs in another thread, so that calls go on."""
        rewinding = Rewinding(table, rows)
        last = head
        while last > revision:
            first = max(revision + 1, last - READ_ENTRIES + 1)
            entries = [entry for entry in await self.entries(first, last - first + 1) if entry.revision <= last]
            if not entries or entries[0].revision != first:
                raise JournalPrunedError(f"the journal does not reach back to revision {revision}")
            await asyncio.to_thread(rewinding.undo, entries)
            last = first - 1
        found, unknown = await asyncio.to_thread(rewinding.records)
        for key, end in unknown.items():
            past = await self._before(table, key, end=end, revision=revision)
            if past is not None:
                found[key] = past
        return await asyncio.to_thread(lambda: [found[key] for key in sorted(found)])  # type: ignore[misc]  # a table's rows hold its record type

    async def _now(self, table: Table[R], key: str) -> tuple[tuple[R, int] | None, list[int]]:
        """(the record and the revision of its last change, if there is one; revisions of the deletions before it), all durable."""
        while True:
            row = self._contents[table.name].rows.get(key)
            now = (row.record, row.revision) if row is not None else None
            if await self._settle():
                break
        return now, await self._backend.deletions(table.name, key)  # type: ignore[return-value]  # a table's rows hold its record type

    async def _before(self, table: Table[R], key: str, *, end: int, revision: int, record: R | None = None) -> R | None:
        """The record at `revision`, told from the changes that end at `end` (later than `revision`), after which it was `record` (None: unknown).

        Backwards by the old values, as far as they are there; else forwards from the last whole record before.
        """
        version = table.version
        state = _plain(record)
        while True:
            entry, change = await self._change(table, key, end)
            if change is None or entry is None:
                raise JournalPrunedError(f"the journal does not reach back to revision {revision}")
            if change.kind == CREATE:
                return None
            if change.record is not None:
                state, version = msgspec.msgpack.decode(change.record), change.version
            if change.kind == UPDATE:
                state = reverted(state, change) if version == change.version else None
            if change.previous <= revision:
                break
            end = change.previous
        if state is not None:
            return Codec(table).decode(version, ENCODER.encode(state))
        chain = await self._chain(table, key, end=change.previous, since=revision)
        told = _tell(table, chain, None)[-1].record if chain else None
        if told is None:
            raise JournalPrunedError(f"the journal does not reach back to the state of revision {revision}")
        return told  # type: ignore[return-value]  # told from this table's entries

    async def _change(self, table: Table[R], key: str, revision: int) -> tuple[Entry | None, EntryChange | None]:
        """The entry of `revision` and what it says of the record; (None, None) when it is not there (any more)."""
        entries = await self.entries(revision, 1)
        if not entries or entries[0].revision != revision:
            return None, None
        return entries[0], next((change for change in entries[0].changes if change.key == key and change.table == table.name), None)

    async def _chain(self, table: Table[R], key: str, *, end: int, since: int) -> list[tuple[Entry, EntryChange]]:
        """The changes of one record up to revision `end`, oldest first; back to the last full record not newer than `since`, or to the first."""
        chain: list[tuple[Entry, EntryChange]] = []
        revision = end
        while revision:
            entry, change = await self._change(table, key, revision)
            if entry is None or change is None:
                break
            chain.append((entry, change))
            if since and revision <= since and change.record is not None:
                break
            revision = change.previous
        chain.reverse()
        return chain


def _plain(record: Record | None) -> list[Any] | None:
    """The fields of a record as they are stored."""
    return None if record is None else msgspec.msgpack.decode(ENCODER.encode(record))


def _tell(table: Table[R], chain: list[tuple[Entry, EntryChange]], last: R | None) -> list[RecordChange]:
    """The chain with the record before and after each step. `last`: the record after the last one, if it is known."""
    states = _states(table, chain, last)
    codec = Codec(table)
    records = [codec.decode(version, ENCODER.encode(state)) if state is not None else None for state, version in states]
    return [
        RecordChange(
            revision=entry.revision,
            instant=entry.instant,
            cause=entry.cause,
            kind=change.kind,
            fields=tuple((field.name, field.value) for field in change.fields),
            record=records[number + 1],
            before=records[number],
        )
        for number, (entry, change) in enumerate(chain)
    ]


def _states(table: Table[R], chain: list[tuple[Entry, EntryChange]], last: R | None) -> list[tuple[list[Any] | None, int]]:
    """The record's fields (None: there is none, or unknown) and their version: before the first step, and after each."""
    states: list[tuple[list[Any] | None, int]] = [(None, table.version)]
    for _, change in chain:
        state, version = states[-1]
        if change.kind == DELETE:
            state = None
        elif change.record is not None:
            state, version = msgspec.msgpack.decode(change.record), change.version
        elif state is not None:
            state = list(state)
            for field in change.fields:
                state[field.position] = field.value
        states.append((state, version))
    if last is not None:
        states[-1] = (_plain(last), table.version)
    for number in range(len(chain) - 1, -1, -1):  # what lies before the first whole record is told backwards, by the old values
        change = chain[number][1]
        if states[number][0] is None and change.kind == UPDATE and states[number + 1][1] == change.version:
            states[number] = (reverted(states[number + 1][0], change), change.version)
        elif states[number][0] is None and change.kind == DELETE and change.record is not None:
            states[number] = (msgspec.msgpack.decode(change.record), change.version)
    return states


async def verify(backend: JournalSource) -> Verdict:
    """Walk the chain from its anchor to its head and name the position of the first edit, loss or reorder.

    A store that is in use may grow and be pruned meanwhile: what looks like a flaw at either end is one only if the ends have not moved.
    """
    while True:
        anchor, head = await backend.ends()
        verdict = await _follow(backend, anchor, head)
        if verdict.problem and (await backend.ends())[0] != anchor:
            continue  # pruned while it was read
        return verdict


async def _follow(backend: JournalSource, anchor: Anchor, head: Head) -> Verdict:
    """One walk from `anchor` on; it must reach `head`, and may go on as far as the head of then."""
    before: StoredEntry | Anchor = anchor
    checked, newest = 0, head
    async for entry in _walk(backend, anchor.revision + 1):
        if entry.revision > newest.revision:
            _, newest = await backend.ends()  # an entry and the head that reaches it are written together, so the head of now counts
        problem, position = _flaw(before, entry, newest)
        if problem:
            return Verdict(checked, problem, position)
        if entry.revision == head.revision and entry.hash != head.hash:
            return Verdict(checked, f"entry {entry.revision} was replaced: the head has another hash", entry.revision)
        checked += 1
        before = entry
    if before.revision < head.revision:
        return Verdict(checked, f"entries {before.revision + 1} to {head.revision} are missing", before.revision + 1)
    return Verdict(checked)


def _flaw(before: StoredEntry | Anchor, entry: StoredEntry, head: Head) -> tuple[str, int]:
    """What is wrong with `entry`, which is said to follow `before`, and where; "" when nothing is."""
    expected = before.revision + 1
    if entry.revision > head.revision:
        return f"entry {entry.revision} lies behind the head, which is {head.revision}", entry.revision
    if entry.revision != expected:
        return f"entries {expected} to {entry.revision - 1} are missing", expected
    try:
        read = ENTRY_DECODER.decode(entry.payload)
    except msgspec.MsgspecError as error:
        return f"entry {expected} was edited: it cannot be read ({error})", expected
    if read.revision != expected:
        return f"entry {expected} is out of order: it was written as entry {read.revision}", expected
    if hashlib.sha256(entry.payload).digest() != entry.hash:
        return f"entry {expected} was edited: its hash is another", expected
    if read.previous_hash != before.hash:
        return f"entry {before.revision} was replaced: entry {expected} follows one with another hash", before.revision
    return "", 0


async def _walk(backend: JournalSource, revision: int) -> AsyncIterator[StoredEntry]:
    while True:
        entries = await backend.entries(revision, READ_ENTRIES)
        for entry in entries:
            yield entry
        if len(entries) < READ_ENTRIES:
            return
        revision = entries[-1].revision + 1


async def difference(file: JournalSource, tail: JournalSource) -> Verdict:
    """Where two journals that should be parts of one history tell something different. Both have whole chains (`verify`).

    `entries` counts what both have. So the newest that both have decides, and the first difference is found by halving.
    """
    (begin, end), (anchor, head) = await file.ends(), await tail.ends()
    low, high = max(begin.revision, anchor.revision), min(end.revision, head.revision)
    common = max(0, high - low)
    if low > high or await hash_at(file, high) == await hash_at(tail, high):
        if end.revision > head.revision:
            return Verdict(common, f"entries {head.revision + 1} to {end.revision} are not known there", head.revision + 1)
        return Verdict(common)
    while low < high:
        middle = (low + high) // 2
        if await hash_at(file, middle) == await hash_at(tail, middle):
            low = middle + 1
        else:
            high = middle
    return Verdict(common, f"entry {high} is another there", high)


async def hash_at(source: JournalSource, revision: int) -> bytes:
    """The hash of entry `revision`, which may be the last that was removed; b"" when it is not there."""
    anchor, _ = await source.ends()
    if anchor.revision == revision:
        return anchor.hash
    entries = await source.entries(revision, 1)
    return entries[0].hash if entries and entries[0].revision == revision else b""
