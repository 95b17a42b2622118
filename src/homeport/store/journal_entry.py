"""The form of a journal entry.

Owns: `Entry` and its parts, how a transaction's writes become one (`entry_change`), and `reverted`. Never reads or writes a backend.

An entry is a msgpack array: hash of the entry before, revision, instant, cause, changes. Each change names the revision of the same record's
change before it, so that a record's story is read back entry by entry, without an index to keep and without replaying anything else.
"""

from __future__ import annotations

from itertools import compress, count
from operator import is_not
from typing import Any, Final

import msgspec

from homeport.model.record import Instant, Record
from homeport.store.codec import ENCODER
from homeport.store.contents import FULL_EVERY
from homeport.store.transaction import Write

DELETED_BYTES_MAX: Final = 8_192
"""Up to what size a deleted record is kept in the entry of its deletion: a hundred of them must fit a transaction."""
CREATE: Final = "create"
UPDATE: Final = "update"
DELETE: Final = "delete"


class FieldChange(msgspec.Struct, frozen=True, array_like=True):
    """A field of a record got a new value. `position` is the field's place in the stored array."""

    position: int
    name: str
    value: Any
    old: Any = msgspec.UNSET
    """The value before, so that the state before a change is known when everything older was pruned; UNSET in entries of older programs."""


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
    """The whole record, in stored form: after the change at creation and at every 16th change, before it at a deletion (if not too large)."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A transaction, as the journal has it."""

    previous_hash: bytes
    revision: int
    instant: Instant
    cause: str
    changes: tuple[EntryChange, ...]


ENTRY_DECODER: Final = msgspec.msgpack.Decoder(Entry)


def entry_change(write: Write) -> tuple[Any, ...]:
    """The `EntryChange` of a net write whose `stored` is set, as a plain tuple for the encoder. Sets `write.full` when it has the whole record."""
    contents, row, stored = write.contents, write.row, write.stored
    if stored is None:
        last = ENCODER.encode(write.before)
        return (contents.name, write.key, contents.version, row.revision, DELETE, (), last if len(last) <= DELETED_BYTES_MAX else None)
    if write.before is None:
        write.full = True
        return (contents.name, write.key, contents.version, row.revision, CREATE, (), stored)
    fields = changed_fields(write.before, write.after)
    if row.since_full + 1 >= FULL_EVERY:
        write.full = True
        return (contents.name, write.key, contents.version, row.revision, UPDATE, fields, stored)
    return (contents.name, write.key, contents.version, row.revision, UPDATE, fields, None)


def changed_fields(before: Record, after: Record | None) -> list[tuple[int, str, Any, Any]]:
    """(position, name, new value, old value) of every field in which the two differ."""
    names = before.__struct_fields__
    old, new = msgspec.structs.astuple(before), msgspec.structs.astuple(after)  # type: ignore[arg-type]  # never None for an update
    different = (position for position in compress(count(), map(is_not, old, new)) if old[position] != new[position])
    return [(position, names[position], new[position], old[position]) for position in different]


def reverted(state: list[Any] | None, change: EntryChange) -> list[Any] | None:
    """The fields before an update after which they were `state`, if that can be told."""
    if state is None or any(field.old is msgspec.UNSET or field.position >= len(state) for field in change.fields):
        return None
    before = list(state)
    for field in change.fields:
        before[field.position] = field.old
    return before
