"""Keeps tables equal to what another server commits, from journal entries and stored rows.

Owns: how an entry is applied to the tables, and how tables are made equal to a state read anew. Never waits, never talks to etcd.
A record's state after an entry is the stored row, when the entry was the last to change it; else the whole record in the entry; else the record
before with the entry's fields put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from homeport.errors import StoredFormError
from homeport.model.record import Record
from homeport.store.backend import StoredEntry, StoredRow
from homeport.store.codec import ENCODER, Codec
from homeport.store.contents import FULL_EVERY, Contents, Row
from homeport.store.journal_entry import DELETE, ENTRY_DECODER, EntryChange
from homeport.store.table import Change, Commit, Derived

Rows = Mapping[str, Mapping[int, StoredRow | None]]
"""Table → row id → the row, or None when it is gone."""


class Mirror:
    """Applies commits of another server to `contents`, and tells `derived`."""

    def __init__(self, contents: Mapping[str, Contents], derived: Sequence[Derived]) -> None:
        self._contents = contents
        self._derived = derived
        self._codecs = {name: Codec(table.table) for name, table in contents.items()}

    def apply(self, entries: Iterable[StoredEntry], rows: Rows) -> list[Commit]:
        """Apply commits in order; `rows` is what the last of them left. What readers see must not be read in between.

        Raises StoredFormError for what this program cannot read (tables must be read anew then: some commits may be applied).
        """
        last = self._last(rows)
        return [self._commit(entry, last) for entry in entries]

    def _last(self, rows: Rows) -> dict[tuple[str, str], tuple[StoredRow, Record]]:
        """(table, key) → the row and its record."""
        found = {}
        for name, stored in rows.items():
            contents = self._contents.get(name)
            if contents is None:
                continue  # a table that a newer program has
            codec, key_of = self._codecs[name], contents.table.key
            for row in stored.values():
                if row is not None:
                    record = codec.decode(row.version, row.record)
                    found[name, key_of(record)] = (row, record)
        return found

    def _commit(self, stored: StoredEntry, last: Mapping[tuple[str, str], tuple[StoredRow, Record]]) -> Commit:
        try:
            entry = ENTRY_DECODER.decode(stored.payload)
        except msgspec.MsgspecError as error:
            raise StoredFormError(f"journal entry {stored.revision} cannot be read: {error}") from error
        changes = []
        for change in entry.changes:
            contents = self._contents.get(change.table)
            if contents is None:
                continue
            row = contents.rows.get(change.key)
            before = row.record if row is not None else None
            found = last.get((change.table, change.key))
            after = self._after(change, before, found[1] if found is not None and found[0].revision == entry.revision else None)
            self._set(contents, change.key, after, number=found[0].id if found is not None else 0, revision=entry.revision)
            changes.append(Change(change.table, change.key, before, after))
        return Commit(entry.revision, entry.instant, entry.cause, tuple(changes))

    def _after(self, change: EntryChange, before: Record | None, final: Record | None) -> Record | None:
        if change.kind == DELETE:
            return None
        if final is not None:
            return final
        if change.record is not None:
            return self._decode(change, change.record)
        if before is None or change.version != self._contents[change.table].version:
            raise StoredFormError(f"table {change.table}: a change of {change.key!r} does not fit what is here")
        state: list[Any] = msgspec.msgpack.decode(ENCODER.encode(before))
        for field in change.fields:
            if field.position >= len(state):
                raise StoredFormError(f"table {change.table}: a change of {change.key!r} does not fit what is here")
            state[field.position] = field.value
        return self._decode(change, ENCODER.encode(state))

    def _decode(self, change: EntryChange, stored: bytes) -> Record:
        record: Record = self._codecs[change.table].decode(change.version, stored)
        return record

    def _set(self, contents: Contents, key: str, after: Record | None, *, number: int, revision: int) -> None:
        """Make `after` the record under `key`."""
        row = contents.rows.get(key)
        if row is None:
            before = None
            if after is None:
                return
            contents.next_id = max(contents.next_id, number + 1)
            contents.insert(key, Row(after, number, revision))
        else:
            before = row.record
            if after is None:
                contents.remove(key)
            else:
                if number and number != row.id:
                    contents.next_id = max(contents.next_id, number + 1)
                    row.id = number
                row.revision = revision
                row.since_full = FULL_EVERY
                contents.replace(key, row, after)
        for derived in self._derived:
            derived.change(contents.name, before, after)

    def differs(self, name: str, stored: StoredRow, key: str) -> bool:
        """Whether the row under `key` is not the stored one."""
        row = self._contents[name].rows.get(key)
        return row is None or row.revision != stored.revision or row.id != stored.id

    def decode(self, name: str, stored: StoredRow) -> tuple[str, Record]:
        """(key, record) of a stored row. Raises StoredFormError."""
        record = self._codecs[name].decode(stored.version, stored.record)
        return self._contents[name].table.key(record), record

    def replace(self, name: str, keys: set[str], changed: Mapping[str, tuple[StoredRow, Record]]) -> None:
        """Make the table have exactly `keys`, of which `changed` are other than before."""
        contents = self._contents[name]
        for key in [key for key in contents.rows if key not in keys]:
            self._set(contents, key, None, number=0, revision=0)
        for key, (stored, record) in changed.items():
            self._set(contents, key, record, number=stored.id, revision=stored.revision)
