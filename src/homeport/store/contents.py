"""What one table holds in memory: rows by key, keys in order, indexes.

Owns: `Row` and `Contents`. Never knows transactions, revisions in flight or backends; whoever changes it also undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from homeport.model.record import Record
from homeport.store.ordered import OrderedKeys
from homeport.store.table import Table

FULL_EVERY = 16
"""The journal has a record in full at its creation and at every 16th change."""


class Row(msgspec.Struct, gc=False):
    """A record with what the backend and the journal need to know of it."""

    record: Record
    id: int
    """Number of the row in the backend's table; never used twice."""
    revision: int = 0
    """Revision of its last journal entry, 0 when it has none yet."""
    since_full: int = FULL_EVERY
    """Changes since the journal had the record in full. A row just loaded starts at the bound, so that what this program writes as changed
    fields always follows a full record that this program wrote."""


class Contents:
    """The rows of one table and everything that finds them."""

    __slots__ = ("_extractors", "indexes", "keys", "name", "next_id", "rows", "table", "version")

    def __init__(self, table: Table[Any]) -> None:
        self.table = table
        self.name = table.name
        self.version = table.version
        self.rows: dict[str, Row] = {}
        self.keys = OrderedKeys()
        self.indexes: dict[str, dict[str, OrderedKeys]] = {name: {} for name in table.indexes}
        self._extractors: list[tuple[dict[str, OrderedKeys], Callable[[Any], Iterable[str]]]] = [
            (self.indexes[name], extract) for name, extract in table.indexes.items()
        ]
        self.next_id = 1

    def fill(self, rows: dict[str, Row]) -> None:
        """Take over `rows` (key → row, in any order) as the whole contents; for load."""
        keys = sorted(rows)
        self.rows = rows
        self.keys = OrderedKeys(keys)
        collected: list[tuple[dict[str, list[str]], Callable[[Any], Iterable[str]]]] = [({}, extract) for _, extract in self._extractors]
        for key in keys:
            record = rows[key].record
            for lists, extract in collected:
                for value in extract(record):
                    members = lists.get(value)
                    if members is None:
                        lists[value] = [key]
                    else:
                        members.append(key)
        for (found, _), (lists, _) in zip(self._extractors, collected, strict=True):
            found.update((value, OrderedKeys(members)) for value, members in lists.items())
        self.next_id = 1 + max((row.id for row in rows.values()), default=0)

    def insert(self, key: str, row: Row) -> None:
        """Add a row whose key is not there."""
        self.rows[key] = row
        self.keys.add(key)
        record = row.record
        for found, extract in self._extractors:
            for value in extract(record):
                members = found.get(value)
                if members is None:
                    found[value] = OrderedKeys((key,))
                else:
                    members.add(key)

    def remove(self, key: str) -> Row:
        """Take out a row that is there."""
        row = self.rows.pop(key)
        self.keys.remove(key)
        for found, extract in self._extractors:
            for value in extract(row.record):
                _leave(found, value, key)
        return row

    def replace(self, key: str, row: Row, record: Record) -> None:
        """Put `record` in the place of the row's record; both have the same key."""
        before = row.record
        row.record = record
        for found, extract in self._extractors:
            old, new = extract(before), extract(record)
            if old == new:
                continue
            new = tuple(new)
            old = tuple(old)
            for value in old:
                if value not in new:
                    _leave(found, value, key)
            for value in new:
                if value not in old:
                    members = found.get(value)
                    if members is None:
                        found[value] = OrderedKeys((key,))
                    else:
                        members.add(key)

    def take_id(self) -> int:
        """A row number that was never used."""
        number = self.next_id
        self.next_id = number + 1
        return number

    def scan(self, prefix: str, after: str) -> Iterator[Any]:
        """Records whose key starts with `prefix` and is greater than `after`, in key order."""
        rows = self.rows
        for key in self.keys.walk(prefix, after):
            row = rows.get(key)
            if row is not None:
                yield row.record

    def find(self, index: str, value: str, after: str) -> Iterator[Any]:
        """Records under `value` of `index` with key greater than `after`, in key order. Raises KeyError when there is no such index."""
        members = self.indexes[index].get(value)
        return self._found(members, after) if members is not None else iter(())

    def _found(self, members: OrderedKeys, after: str) -> Iterator[Any]:
        rows = self.rows
        for key in members.walk("", after):
            row = rows.get(key)
            if row is not None:
                yield row.record

    def count(self, index: str, value: str) -> int:
        """How many records `find` would give. Raises KeyError when there is no such index."""
        members = self.indexes[index].get(value)
        return members.size if members is not None else 0


def _leave(found: dict[str, OrderedKeys], value: str, key: str) -> None:
    members = found[value]
    members.remove(key)
    if not members.size:
        del found[value]
