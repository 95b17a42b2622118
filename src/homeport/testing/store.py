"""What tests of the store and of its users need: a small table, a backend whose commits wait, a view that follows.

Owns: `Thing`, `THINGS`, `GatedBackend`, `Tally`, `UnconfirmedStore`. Never stores anything itself: a gated backend passes everything on to a real
one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from homeport.errors import CommitFailedError, InvalidTransitionError, NoQuorumError
from homeport.model.record import Record
from homeport.store.backend import Anchor, Backend, Batch, BatchLimits, Head, StoredEntry, StoredRow
from homeport.store.store import Store
from homeport.store.table import Reader, Table

T = TypeVar("T")


class Part(Record, frozen=True):
    """A record inside a record."""

    name: str
    weight: float = 0.0


class Thing(Record, frozen=True):
    """A record with something of everything."""

    name: str
    color: str = ""
    size: int = 0
    labels: tuple[str, ...] = ()
    blob: bytes = b""
    parts: tuple[Part, ...] = ()


def guard_thing(before: Thing | None, after: Thing | None) -> None:
    """A thing never shrinks below zero, and one that is nailed down is not deleted."""
    if after is not None and after.size < 0:
        raise InvalidTransitionError(f"thing {after.name}: size may not be {after.size}")
    if after is None and before is not None and before.color == "nailed":
        raise InvalidTransitionError(f"thing {before.name} is nailed down")


THINGS = Table(
    "things",
    Thing,
    lambda r: r.name,
    indexes={"color": lambda r: (r.color,) if r.color else (), "label": lambda r: r.labels},
    guard=guard_thing,
)
OTHERS = Table("others", Thing, lambda r: r.name)


class Tally:
    """A derived view: how many records there are, and how often `change` was called."""

    def __init__(self) -> None:
        self.records: Counter[tuple[str, Record]] = Counter()
        self.calls = 0

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow one record."""
        self.calls += 1
        if before is not None:
            self.records[table, before] -= 1
            if not self.records[table, before]:
                del self.records[table, before]
        if after is not None:
            self.records[table, after] += 1


class GatedBackend:
    """A backend whose commits wait while the gate is shut, or fail. `commits` has the size of each batch that came."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.gate = asyncio.Event()
        self.gate.set()
        self.commits: list[int] = []
        self.failure = ""
        """When not "": commits fail with this text."""

    @property
    def limits(self) -> BatchLimits:
        """Passed on."""
        return self.backend.limits

    async def load(self, tables: tuple[str, ...]) -> Head:
        """Passed on."""
        return await self.backend.load(tables)

    def rows(self, table: str) -> AsyncIterator[list[StoredRow]]:
        """Passed on."""
        return self.backend.rows(table)

    async def commit(self, batch: Batch) -> None:
        """Passed on when the gate is open; CommitFailedError when `failure` says so."""
        self.commits.append(len(batch.entries))
        await self.gate.wait()
        if self.failure:
            raise CommitFailedError(self.failure)
        await self.backend.commit(batch)

    async def prune(self, through: int, limit: int) -> int:
        """Passed on."""
        return await self.backend.prune(through, limit)

    async def entries(self, from_revision: int, limit: int) -> list[StoredEntry]:
        """Passed on."""
        return await self.backend.entries(from_revision, limit)

    async def deletions(self, table: str, key: str) -> list[int]:
        """Passed on."""
        return await self.backend.deletions(table, key)

    async def deletions_after(self, table: str, revision: int) -> list[tuple[str, int]]:
        """Passed on."""
        return await self.backend.deletions_after(table, revision)

    async def ends(self) -> tuple[Anchor, Head]:
        """Passed on."""
        return await self.backend.ends()

    async def close(self) -> None:
        """Passed on."""
        await self.backend.close()


class UnconfirmedStore(Store):
    """`store`, on a server whose copy nobody confirms to be the newest: what asks for that fails, its own copy answers, changes go through."""

    def __init__(self, store: Store) -> None:
        self.__dict__ = store.__dict__

    async def view(self, function: Callable[[Reader], T]) -> T:
        """Raises NoQuorumError."""
        raise NoQuorumError("nobody confirmed that this server's state is the newest")

    async def view_local(self, function: Callable[[Reader], T]) -> T:
        """As `Store.view`."""
        return await super().view(function)
