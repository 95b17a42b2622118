"""The state as it was after an earlier revision, for functions that read it as they would read the newest.

Owns: `view_at`, `PastReader`. Never writes; never shows anything of another revision.

What a function needs is found out by running it: a read of what is not there yet ends the run, the journal is asked for it, and the function runs
again. So a look at one task costs that task's history, and only a function that walks a table costs the table's.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from homeport.model.record import Record
from homeport.store.journal import Journal
from homeport.store.table import Reader, Table

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class _NotReadError(Exception):
    """A record, or a table (key None), is needed that the reader does not have yet."""

    def __init__(self, table: Table[Any], key: str | None) -> None:
        super().__init__(table.name, key)
        self.table = table
        self.key = key


async def view_at(journal: Journal, revision: int, function: Callable[[Reader], T]) -> T:
    """What `function` says of the state right after `revision`. It runs several times, in another thread, so it must only read.

    Raises JournalPrunedError when the journal does not reach back that far or the revision has not been yet, and what `function` raises.
    """
    await journal.require(revision)
    reader = PastReader(revision)
    while True:
        try:
            return await asyncio.to_thread(function, reader)
        except _NotReadError as missing:
            if missing.key is None:
                records = await journal.records_at(missing.table, revision)
                await asyncio.to_thread(reader.add_table, missing.table, records)
            else:
                reader.add_record(missing.table, missing.key, await journal.record_at(missing.table, missing.key, revision))


class PastReader:
    """`table.Reader` over what was added to it. Reading anything else raises an error that only `view_at` understands."""

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._records: dict[tuple[str, str], Record | None] = {}
        self._tables: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, list[str]] = {}
        self._indexes: dict[tuple[str, str], dict[str, list[str]]] = {}

    def add_record(self, table: Table[R], key: str, record: R | None) -> None:
        """From now on `get` knows the record; None: there was none."""
        self._records[table.name, key] = record

    def add_table(self, table: Table[R], records: list[R]) -> None:
        """From now on every read of the table is known. `records` are all of it, in key order."""
        rows = self._tables[table.name] = {table.key(record): record for record in records}
        self._keys[table.name] = list(rows)

    @property
    def revision(self) -> int:
        """The revision whose state this is."""
        return self._revision

    def get(self, table: Table[R], key: str) -> R | None:
        """The record under `key`, or None."""
        rows = self._tables.get(table.name)
        if rows is not None:
            return rows.get(key)
        if (table.name, key) not in self._records:
            raise _NotReadError(table, key)
        return self._records[table.name, key]  # type: ignore[return-value]  # added with its table

    def scan(self, table: Table[R], prefix: str = "", after: str = "") -> Iterator[R]:
        """Records whose key starts with `prefix` and is greater than `after`, in key order."""
        rows, keys = self._table(table)
        position = max(bisect_left(keys, prefix), bisect_right(keys, after))
        return (rows[key] for key in _while_prefix(keys, position, prefix))

    def find(self, table: Table[R], index: str, value: str, after: str = "") -> Iterator[R]:
        """Records under `value` of the named index, with key greater than `after`, in key order."""
        keys = self._index(table, index).get(value, [])
        rows = self._tables[table.name]
        return (rows[key] for key in keys[bisect_right(keys, after) :])

    def count(self, table: Table[R], index: str, value: str) -> int:
        """How many records `find` would give."""
        return len(self._index(table, index).get(value, ()))

    def _table(self, table: Table[R]) -> tuple[dict[str, R], list[str]]:
        rows = self._tables.get(table.name)
        if rows is None:
            raise _NotReadError(table, None)
        return rows, self._keys[table.name]

    def _index(self, table: Table[R], index: str) -> dict[str, list[str]]:
        """The index, built at its first use: most functions use one of a table's many."""
        rows, keys = self._table(table)
        found = self._indexes.get((table.name, index))
        if found is None:
            found = self._indexes[table.name, index] = {}
            extract = table.indexes[index]
            for key in keys:
                for value in extract(rows[key]):
                    found.setdefault(value, []).append(key)
        return found


def _while_prefix(keys: list[str], position: int, prefix: str) -> Iterator[str]:
    while position < len(keys) and keys[position].startswith(prefix):
        yield keys[position]
        position += 1
