"""A server's own file of journal entries, where the state itself lies in etcd: a chain without holes, and what is known of those before it.

Owns: `JournalFile`: what may be put into the file (what continues its chain at either end, nothing else), and its gaps. Never decides from
where entries come.

It has the layout of a SQLite store without tables, so that whatever reads, verifies and prunes such a store's journal does the same with it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from homeport.errors import CommitFailedError, StoredFormError
from homeport.model.record import Instant
from homeport.store.backend import Anchor, Batch, Head, StoredEntry
from homeport.store.journal_chain import deletions_of, require_chain, require_chain_before
from homeport.store.sqlite import SqliteBackend

FILE_NAME: Final = "journal.sqlite"
"""In a server's data directory."""
_GAPS: Final = (
    "CREATE TABLE IF NOT EXISTS gaps"
    " (last INTEGER PRIMARY KEY, first INTEGER NOT NULL, hash BLOB NOT NULL, instant REAL NOT NULL, aside TEXT NOT NULL)"
)


class Gap(msgspec.Struct, frozen=True):
    """Entries that this server missed and no other could give."""

    first: int
    last: int
    hash: bytes
    """Of entry `last`: with it the anchor behind which the file goes on."""
    instant: Instant
    """When that was found."""
    aside: str = ""
    """Name of the file that has the entries before `first`, in the same directory; "" for none."""


class JournalFile(SqliteBackend):
    """The entries behind `ends()[0]` up to `ends()[1]`, each following the one before. One server writes it; anyone may read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.anchor = Anchor()
        """The end of the chain that lies behind the oldest entry."""
        self.head = Head()
        """The newest entry; durable."""

    @property
    def empty(self) -> bool:
        """Whether it holds no entry and does not say where to begin."""
        return not self.head.revision

    async def open(self) -> None:
        """Take the file; make it when there is none. Damaged ones are set aside, since it is a copy.

        Raises StoreLockedError, and StoredFormError when it cannot be made.
        """
        try:
            await self._take()
        except StoredFormError:
            await self.close()
            if not self.path.exists():
                raise
            put_aside(self.path, "damaged")
            await self._take()

    async def _take(self) -> None:
        await self.load(())
        try:
            self._sql().execute(_GAPS)
            self.anchor, self.head = await self.ends()
            await self._shrink_gaps()
        except sqlite3.Error as error:
            raise StoredFormError(f"{self.path} cannot be used as the journal's copy: {error}") from error

    async def append(self, entries: Sequence[StoredEntry]) -> None:
        """Make the next entries durable. Raises ChainError when they do not continue the file, and CommitFailedError."""
        batch = Batch()
        batch.head = require_chain(entries, self.head)
        batch.entries = [(entry.revision, entry.payload, entry.hash) for entry in entries]
        batch.deletions = deletions_of(entries)
        batch.bytes = sum(len(entry.payload) for entry in entries)
        await self.commit(batch)
        self.head = batch.head

    async def extend_back(self, entries: Sequence[StoredEntry]) -> None:
        """Make the entries up to the anchor durable, too. Raises ChainError when the anchor does not follow them, and CommitFailedError."""
        batch = Batch()
        anchor = batch.anchor = require_chain_before(entries, self.anchor)
        batch.head = self.head
        batch.entries = [(entry.revision, entry.payload, entry.hash) for entry in entries]
        batch.deletions = deletions_of(entries)
        await self.commit(batch)
        self.anchor = anchor
        await self._shrink_gaps()

    async def begin_at(self, anchor: Anchor) -> None:
        """Let an empty file begin behind `anchor`. Raises CommitFailedError."""
        batch = Batch()
        batch.head, batch.anchor = Head(anchor.revision, 0.0, anchor.hash), anchor
        await self.commit(batch)
        self.anchor, self.head = anchor, batch.head

    async def cut_back(self, head: Head) -> None:
        """Forget the entries after `head`: they turned out to belong to another history. Raises CommitFailedError."""
        await self._transact(
            ("DELETE FROM journal WHERE revision > ?", (head.revision,)),
            ("DELETE FROM deletions WHERE revision > ?", (head.revision,)),
            ("UPDATE head SET revision = ?, instant = ?, hash = ?", (head.revision, head.instant, head.hash)),
        )
        self.head = self._durable = head

    async def set_aside(self, why: str) -> str:
        """Give the file another name and begin an empty one that knows of the same gaps; the name. Raises CommitFailedError, StoredFormError."""
        gaps = self.gaps()
        await self.close()
        name = put_aside(self.path, why)
        await self._take()
        for gap in gaps:
            await self.note(gap)
        return name

    async def begin_anew(self) -> None:
        """Remove the file and those that were set aside, and have an empty one. Raises StoredFormError."""
        await self.close()
        for path in (*sorted(self.path.parent.glob(f"{self.path.name}.*-*")), self.path):  # the file last: as long as it is there, this is to be done
            for suffix in ("-wal", "-shm", ""):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        await self._take()

    async def note(self, gap: Gap) -> None:
        """Remember a gap. Raises CommitFailedError."""
        await self._transact(("REPLACE INTO gaps VALUES (?, ?, ?, ?, ?)", (gap.last, gap.first, gap.hash, gap.instant, gap.aside)))

    def gaps(self) -> list[Gap]:
        """Every gap, oldest first."""
        rows = self._sql().execute("SELECT first, last, hash, instant, aside FROM gaps ORDER BY last").fetchall()
        return [Gap(*row) for row in rows]

    async def _shrink_gaps(self) -> None:
        """What the file has by now is no gap any more."""
        await self._transact(
            ("DELETE FROM gaps WHERE first > ?", (self.anchor.revision,)),
            ("UPDATE gaps SET last = ?, hash = ? WHERE last > ?", (self.anchor.revision, self.anchor.hash, self.anchor.revision)),
        )

    async def prune_through(self, revision: int, limit: int) -> int:
        """As `prune`; keeps `anchor` true."""
        removed = await self.prune(revision, limit)
        if removed:
            self.anchor, _ = await self.ends()
        return removed

    async def forget_gaps(self, before: Instant) -> None:
        """Forget gaps found before an instant, and files that were set aside before it. Raises CommitFailedError."""
        if any(gap.instant < before for gap in self.gaps()):
            await self._transact(("DELETE FROM gaps WHERE instant < ?", (before,)))
        for path in self.path.parent.glob(f"{self.path.name}.*-*"):
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    async def _transact(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        await self._checkpoints.finished()
        try:
            connection = self._sql()
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._drop()
            raise CommitFailedError(f"{self.path} could not be written: {error}") from error

    def _sql(self) -> sqlite3.Connection:
        """The writing connection, outside transactions; one call after the other uses it."""
        if self._worker is None:
            raise CommitFailedError(f"{self.path} is not open")
        return self._connection or self._reopen()


def put_aside(path: Path, why: str) -> str:
    """Rename the file to `path`.WHY-NUMBER; the new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):  # its log first: it must never be taken for a new file's
        source = path.with_name(path.name + suffix)
        if source.exists():
            os.replace(source, aside.with_name(aside.name + suffix))
    return aside.name
