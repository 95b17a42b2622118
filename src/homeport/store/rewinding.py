"""A whole table taken back to an earlier revision, entry by entry from the newest on.

Owns: `Rewinding`. Never reads a backend: the journal hands it the entries. It costs a few microseconds for each entry since, where asking for one
record after the other costs a look into the journal for each change of each: better for many records, worse for few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from homeport.model.record import Record
from homeport.store.codec import ENCODER, Codec
from homeport.store.journal_entry import CREATE, DELETE, UPDATE, Entry, EntryChange, reverted
from homeport.store.table import Table


class _State(msgspec.Struct):
    """What is known of one record, on the way back."""

    fields: list[Any] | None
    """None: it does not exist there, or its fields are unknown, or `base` and `olds` tell them."""
    version: int
    since: int
    """Revision up to which entries are told of it already."""
    end: int = 0
    """The earliest revision whose change of it is undone here."""
    unknown: bool = False
    """Whether its fields cannot be told backwards."""
    base: Record | None = None
    """The record as it is now, as long as only single fields of it were another before: most are never taken apart as a whole."""
    olds: dict[int, Any] = msgspec.field(default_factory=dict)
    """Position → what `base` had there, in stored form."""

    def take_apart(self) -> None:
        """Have `fields` instead of `base`."""
        if self.base is not None:
            fields = self.fields = msgspec.msgpack.decode(ENCODER.encode(self.base))
            for position, old in self.olds.items():
                fields[position] = old
            self.base = None


class Rewinding:
    """The rows of one table on their way back from a moment that the caller saw."""

    def __init__(self, table: Table[Any], rows: dict[str, tuple[Record, int]]) -> None:
        """`rows`: key → (record, revision of its last change)."""
        self._table = table
        self._rows = rows
        self._states: dict[str, _State] = {}
        self._types = [(field.name, field.type) for field in msgspec.structs.fields(table.record)]

    def undo(self, entries: Sequence[Entry]) -> None:
        """Take back what `entries` did, the last first. The newest that there are come first, and none is left out between two calls."""
        for entry in reversed(entries):
            for change in entry.changes:
                if change.table == self._table.name:
                    self._undo(entry.revision, change)

    def _undo(self, revision: int, change: EntryChange) -> None:
        state = self._states.get(change.key)
        if state is None:
            state = self._states[change.key] = self._first(change.key)
        if state.since and revision > state.since:
            return  # done after the rows were looked at
        state.end = revision
        if state.base is not None and change.kind == UPDATE and change.version == state.version and self._all_old(change):
            for field in change.fields:
                state.olds[field.position] = field.old
            return
        state.take_apart()
        if change.kind == CREATE:
            state.fields, state.unknown = None, False
        elif change.kind == DELETE:
            state.fields = msgspec.msgpack.decode(change.record) if change.record is not None else None
            state.version, state.unknown = change.version, change.record is None
        else:
            if change.record is not None:
                state.fields, state.version, state.unknown = msgspec.msgpack.decode(change.record), change.version, False
            state.fields = reverted(state.fields, change) if state.version == change.version else None
            state.unknown = state.fields is None

    def _all_old(self, change: EntryChange) -> bool:
        """Whether every field of an update has its old value, in a place that records have today."""
        return all(field.old is not msgspec.UNSET and field.position < len(self._types) for field in change.fields)

    def _first(self, key: str) -> _State:
        row = self._rows.get(key)
        if row is None:
            return _State(None, self._table.version, 0)
        return _State(None, self._table.version, row[1], base=row[0])

    def records(self) -> tuple[dict[str, Record], dict[str, int]]:
        """(the records as they were, by key; those that cannot be told backwards: key → revision of the first change since)."""
        codec = Codec(self._table)
        found = {key: record for key, (record, _) in self._rows.items() if key not in self._states or not self._states[key].end}
        unknown = {}
        for key, state in self._states.items():
            if not state.end:
                continue
            if state.unknown:
                unknown[key] = state.end
            elif state.base is not None:
                found[key] = self._with_olds(codec, state.base, state)
            elif state.fields is not None:
                found[key] = codec.decode(state.version, ENCODER.encode(state.fields))
        return found, unknown

    def _with_olds(self, codec: Codec[Any], base: Record, state: _State) -> Record:
        """`base` with its old fields. Raises StoredFormError when it is no record of the table."""
        try:
            olds = {self._types[position][0]: msgspec.convert(old, self._types[position][1]) for position, old in state.olds.items()}
        except msgspec.ValidationError:  # then the codec says what is wrong
            state.take_apart()
            record: Record = codec.decode(state.version, ENCODER.encode(state.fields))
            return record
        return msgspec.structs.replace(base, **olds)
