"""What a table is: a name, a record type, a key, indexes, a guard, a stored form with a version.

Owns: `Table`, `Change`, and the protocols `Reader`, `Transaction` and `Derived` that the rest of the house is written against.
Never holds data: `store.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from homeport.model.record import Instant, Record
from homeport.model.secret import Sealed

R = TypeVar("R", bound=Record)

Upgrade = Callable[[list[Any]], list[Any]]
"""From the stored array of one version to that of the next."""


class Table(Generic[R]):
    """A declaration. Two tables are the same when their names are."""

    def __init__(
        self,
        name: str,
        record: type[R],
        key: Callable[[R], str],
        *,
        indexes: Mapping[str, Callable[[R], Iterable[str]]] | None = None,
        guard: Callable[[R | None, R | None], None] | None = None,
        upgrades: tuple[Upgrade, ...] = (),
    ) -> None:
        """`indexes`: name → the values a record is found under (none, one or many).

        `guard(before, after)` is called at every put and delete; it raises InvalidTransitionError to refuse the whole transaction.
        `upgrades[n]` turns stored version n + 1 into n + 2, so the current version is `len(upgrades) + 1`.
        """
        self.name = name
        self.record = record
        self.key = key
        self.indexes: Mapping[str, Callable[[R], Iterable[str]]] = indexes or {}
        self.guard = guard
        self.upgrades = upgrades
        self.sealed = tuple(field.name for field in msgspec.structs.fields(record) if field.type == Sealed)
        """Fields that are sealed: what is stored has them in no other form."""

    @property
    def version(self) -> int:
        """The version of the stored form that is written."""
        return len(self.upgrades) + 1

    def __repr__(self) -> str:
        return f"Table({self.name})"


class Change(msgspec.Struct, frozen=True):
    """One record's change in a commit. `before` is None at creation, `after` at deletion."""

    table: str
    key: str
    before: Record | None
    after: Record | None


class Commit(msgspec.Struct, frozen=True):
    """A durable transaction, as `watch` delivers it."""

    revision: int
    now: Instant
    cause: str
    changes: tuple[Change, ...]


class Reader(Protocol):
    """Reads of one moment. Everything is in key order."""

    @property
    def revision(self) -> int:
        """Revision of the last transaction that this reader sees."""
        ...

    def get(self, table: Table[R], key: str) -> R | None:
        """The record under `key`, or None."""
        ...

    def scan(self, table: Table[R], prefix: str = "", after: str = "") -> Iterator[R]:
        """Records whose key starts with `prefix` and is greater than `after`, in key order."""
        ...

    def find(self, table: Table[R], index: str, value: str, after: str = "") -> Iterator[R]:
        """Records under `value` of the named index, with key greater than `after`, in key order."""
        ...

    def count(self, table: Table[R], index: str, value: str) -> int:
        """How many records `find` would give; O(1)."""
        ...


class Transaction(Reader, Protocol):
    """Reads that see the transaction's own writes, and the writes."""

    @property
    def now(self) -> Instant:
        """The transaction's instant: later than every earlier transaction's, the same at each reading."""
        ...

    def put(self, table: Table[R], record: R) -> None:
        """Create or replace the record under its key. A record equal to the stored one is no write."""
        ...

    def delete(self, table: Table[R], key: str) -> None:
        """Remove the record, if it is there."""
        ...


class Derived(Protocol):
    """A view that is kept beside the tables and must never differ from them (placement's fleet, counts).

    `change` is called synchronously for every write inside a transaction, in order, and with `before` and `after` exchanged, in reverse
    order, when the transaction is undone; at load it is called once per record with `before` None. It must not fail.
    """

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow one record from `before` to `after`."""
        ...
