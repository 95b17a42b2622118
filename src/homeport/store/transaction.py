"""Reads and writes of one moment, and how a transaction is undone.

Owns: `StoreReader`, `StoreTransaction`, the bounds of a transaction. Never waits, never does IO, never reads a clock.
Writes go into the tables at once, with a log of what was there before; undoing walks the log backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from homeport.errors import StoreClosedError, TransactionTooLargeError
from homeport.model.record import Instant, Record
from homeport.store.contents import Contents, Row
from homeport.store.table import Change, Derived, Table

R = TypeVar("R", bound=Record)

TRANSACTION_RECORDS_MAX: Final = 100
"""Records that one transaction may write."""
TRANSACTION_BYTES_MAX: Final = 1_048_576
"""Bytes that the stored forms of a transaction's records may have together."""


class StoreReader:
    """`table.Reader` over the newest state. Use it inside the function it was given to, and use up its iterators there."""

    __slots__ = ("_contents", "_revision")

    def __init__(self, contents: Mapping[str, Contents], revision: int) -> None:
        self._contents = contents
        self._revision = revision

    @property
    def revision(self) -> int:
        """Revision of the last transaction that this reader sees."""
        return self._revision

    def get(self, table: Table[R], key: str) -> R | None:
        """The record under `key`, or None."""
        row = self._contents[table.name].rows.get(key)
        return None if row is None else row.record  # type: ignore[return-value]  # a table's rows hold its record type

    def scan(self, table: Table[R], prefix: str = "", after: str = "") -> Iterator[R]:
        """Records whose key starts with `prefix` and is greater than `after`, in key order."""
        return self._contents[table.name].scan(prefix, after)

    def find(self, table: Table[R], index: str, value: str, after: str = "") -> Iterator[R]:
        """Records under `value` of the named index, with key greater than `after`, in key order. Raises KeyError for an unknown index."""
        return self._contents[table.name].find(index, value, after)

    def count(self, table: Table[R], index: str, value: str) -> int:
        """How many records `find` would give; O(1)."""
        return self._contents[table.name].count(index, value)


class Write(msgspec.Struct, gc=False):
    """One write of a transaction, with what it takes to undo it."""

    contents: Contents
    key: str
    row: Row
    before: Record | None
    after: Record | None
    row_revision: int
    """The row's `revision` before the transaction."""
    row_since_full: int
    """The row's `since_full` before the transaction."""
    stored: bytes | None = None
    """Stored form of `after`, once it is known that the transaction commits."""
    full: bool = False
    """Whether the journal entry has the whole record."""


class StoreTransaction(StoreReader):
    """`table.Transaction`: reads that see its own writes, and the writes. Dead once its function returned."""

    __slots__ = ("_deleted", "_derived", "_done", "_now", "writes")

    def __init__(self, contents: Mapping[str, Contents], revision: int, *, now: Instant, derived: Sequence[Derived]) -> None:
        self._contents = contents
        self._revision = revision
        self._now = now
        self._derived = derived
        self._done = False
        self._deleted: dict[tuple[str, str], Row] = {}
        """Rows that this transaction deleted, so that a record deleted and put again stays one row."""
        self.writes: list[Write] = []
        """Every write, in order."""

    @property
    def now(self) -> Instant:
        """The transaction's instant."""
        return self._now

    def put(self, table: Table[R], record: R) -> None:
        """Create or replace the record under its key. A record equal to the stored one is no write.

        Raises ValueError for an empty key, and what the table's guard raises; the transaction is undone then.
        """
        if self._done:
            raise StoreClosedError("a transaction cannot be used after its function returned")
        contents = self._contents[table.name]
        key = table.key(record)
        row = contents.rows.get(key)
        if row is None:
            if not key:
                raise ValueError(f"table {table.name}: a record's key may not be empty")
            if table.guard is not None:
                table.guard(None, record)
            row = self._deleted.pop((contents.name, key), None) if self._deleted else None
            if row is None:
                row = Row(record, contents.take_id())
            row.record = record
            before = None
            contents.insert(key, row)
        else:
            before = row.record
            if before == record:
                return
            if table.guard is not None:
                table.guard(before, record)  # type: ignore[arg-type]  # a table's rows hold its record type
            contents.replace(key, row, record)
        self.writes.append(Write(contents, key, row, before, record, row.revision, row.since_full))
        for derived in self._derived:
            derived.change(contents.name, before, record)

    def delete(self, table: Table[R], key: str) -> None:
        """Remove the record, if it is there. Raises what the table's guard raises; the transaction is undone then."""
        if self._done:
            raise StoreClosedError("a transaction cannot be used after its function returned")
        contents = self._contents[table.name]
        row = contents.rows.get(key)
        if row is None:
            return
        before = row.record
        if table.guard is not None:
            table.guard(before, None)  # type: ignore[arg-type]  # a table's rows hold its record type
        contents.remove(key)
        self._deleted[contents.name, key] = row
        self.writes.append(Write(contents, key, row, before, None, row.revision, row.since_full))
        for derived in self._derived:
            derived.change(contents.name, before, None)

    def finish(self) -> list[Write]:
        """No more writes; the net writes, one a record, in the order in which the records were first written.

        Raises TransactionTooLargeError for more than 100 records.
        """
        self._done = True
        writes = self.writes
        if len(writes) == 1:
            return writes
        net: dict[tuple[str, str], Write] = {}
        for write in writes:
            place = (write.contents.name, write.key)
            first = net.get(place)
            net[place] = write if first is None else msgspec.structs.replace(write, before=first.before)
        result = [write for write in net.values() if write.before != write.after]
        if len(result) > TRANSACTION_RECORDS_MAX:
            raise TransactionTooLargeError(f"a transaction wrote {len(result)} records; {TRANSACTION_RECORDS_MAX} are allowed")
        return result

    def undo(self) -> None:
        """Put everything back, last write first."""
        self._done = True
        for write in reversed(self.writes):
            contents, row = write.contents, write.row
            row.revision, row.since_full = write.row_revision, write.row_since_full
            if write.before is None:
                contents.remove(write.key)
            elif write.after is None:
                row.record = write.before
                contents.insert(write.key, row)
            else:
                contents.replace(write.key, row, write.before)
            for derived in self._derived:
                derived.change(contents.name, write.after, write.before)
        self.writes.clear()


def change_of(write: Write) -> Change:
    """A net write as a watcher sees it."""
    return Change(write.contents.name, write.key, write.before, write.after)


def require_bytes(size: int) -> None:
    """Raise TransactionTooLargeError when stored forms of `size` bytes are more than one transaction may write."""
    if size > TRANSACTION_BYTES_MAX:
        raise TransactionTooLargeError(f"a transaction wrote {size} bytes; {TRANSACTION_BYTES_MAX} are allowed")
