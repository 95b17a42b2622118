"""The embedded backend: one SQLite file, in WAL mode, synced at every commit.

Owns: `SqliteBackend`, the file's layout, its lock file. Never knows records: rows and entries are bytes here.

Rows are inserted on the event loop, which is cheaper than handing them over, and only COMMIT (which waits for the disk) runs in a thread. Tables
have integer row ids and no other index, so that a write costs the same at any size; keys are rebuilt from the records at load.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from homeport.errors import CommitFailedError, StoreClosedError, StoredFormError
from homeport.store.backend import NO_HASH, Anchor, Batch, BatchLimits, Head, StoredEntry, StoredRow
from homeport.store.lock import FileLock
from homeport.store.worker import Worker

FORMAT: Final = 1
"""Version of the file's layout, kept in `PRAGMA user_version`."""
PAGE_BYTES: Final = 8_192
"""Between what suits appending (16 KiB: a quarter less CPU than 4 KiB) and changing records far apart (16 KiB: half as much again)."""
CACHE_KIB: Final = 16_384
"""Page cache of the writing connection; a batch that fits is written once, at its commit."""
CHECKPOINT_BYTES: Final = 16 * 1_048_576
"""About how much is written to the WAL between two checkpoints."""
WAL_BYTES_KEPT: Final = 4 * CHECKPOINT_BYTES
"""To what the WAL is cut back after a time of heavy writing made it larger."""
COMMIT_BYTES: Final = 4 * PAGE_BYTES
"""What a commit writes beside its payload: the pages at the end of each table."""
LOAD_ROWS: Final = 1_000
"""Rows read at a time at load."""
BUSY_SECONDS: Final = 1.0
"""How long to wait for another program that has the file open, for example a shell."""
RESERVED: Final = frozenset({"journal", "deletions", "head"})
"""Tables of the file that are not tables of the store."""

_LAYOUT: Final = (
    "CREATE TABLE IF NOT EXISTS journal (revision INTEGER PRIMARY KEY, payload BLOB NOT NULL, hash BLOB NOT NULL)",
    'CREATE TABLE IF NOT EXISTS deletions (number INTEGER PRIMARY KEY, "table" TEXT NOT NULL, "key" TEXT NOT NULL, revision INTEGER NOT NULL)',
    "CREATE TABLE IF NOT EXISTS head (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, instant REAL NOT NULL, hash BLOB NOT NULL,"
    " anchor_revision INTEGER NOT NULL, anchor_hash BLOB NOT NULL)",
)
_ENTRIES: Final = "SELECT revision, CAST(payload AS BLOB), CAST(hash AS BLOB) FROM journal WHERE revision >= ? ORDER BY revision LIMIT ?"
_SET_HEAD: Final = "UPDATE head SET revision = ?, instant = ?, hash = ? WHERE one = 1"
_SET_ANCHOR: Final = "UPDATE head SET anchor_revision = ?, anchor_hash = ? WHERE one = 1"


class SqliteBackend:
    """State in the file `path`; `path`.lock says which process holds it."""

    limits = BatchLimits()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        self._connection: sqlite3.Connection | None = None
        self._durable = Head()
        self._worker: Worker | None = None
        self._checkpoints = _Checkpoints(self.path)

    async def load(self, tables: tuple[str, ...]) -> Head:
        """Open for writing.

        Raises StoreLockedError naming the pid when another process holds the file, and StoredFormError when a newer program laid it out or
        it is no file that SQLite can open for writing.
        """
        if RESERVED.intersection(tables):
            raise StoredFormError(f"no table may be called {' or '.join(sorted(RESERVED))}")
        try:
            self._lock.take()
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # for its owner alone; the WAL gets the same mode
            connection = self._connection = self._open()
            self._lay_out(connection, tables)
            head = self._durable = _head(connection)
        except (OSError, sqlite3.Error) as error:
            await self.close()
            raise StoredFormError(f"{self.path} cannot be used as the store: {getattr(error, 'strerror', None) or error}") from error
        except BaseException:
            await self.close()
            raise
        self._worker = Worker("store-commit")
        return head

    async def rows(self, table: str) -> AsyncIterator[list[StoredRow]]:
        """All rows of a table, a thousand at a time."""
        connection = self._connection
        if connection is None:
            raise StoreClosedError(f"{self.path} is not open")
        cursor = connection.execute(f'SELECT id, version, revision, record FROM "{table}"')
        while page := cursor.fetchmany(LOAD_ROWS):
            yield [StoredRow(*row) for row in page]

    def _open(self) -> sqlite3.Connection:
        connection = _connect(self.path, "rw")
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # counts for a new file only
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return connection

    def _lay_out(self, connection: sqlite3.Connection, tables: tuple[str, ...]) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise StoredFormError(f"{self.path} has layout {version}, but this program knows {FORMAT}; use a newer program")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _LAYOUT:
            connection.execute(statement)
        for name in tables:
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS "{name}"'
                " (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, revision INTEGER NOT NULL, record BLOB NOT NULL)"
            )
        head, anchor = Head(), Anchor()
        connection.execute(
            "INSERT OR IGNORE INTO head VALUES (1, ?, ?, ?, ?, ?)", (head.revision, head.instant, head.hash, anchor.revision, anchor.hash)
        )
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")

    async def commit(self, batch: Batch) -> None:
        """Return once the batch is on disk. Raises CommitFailedError, after which none of it is there and never will be."""
        worker = self._worker
        if worker is None:
            raise CommitFailedError("the store is closed")
        try:
            await self._checkpoints.finished()
            connection = self._connection or self._reopen()
            connection.execute("BEGIN IMMEDIATE")
            _insert(connection, batch)
            await worker.submit(connection.commit)
        except (sqlite3.Error, OSError) as error:
            if not self._committed_all_the_same(batch):
                raise CommitFailedError(f"the state could not be written to {self.path}: {error}") from error
        self._durable = batch.head
        if self._connection is not None:
            self._checkpoints.count(batch.bytes + COMMIT_BYTES, worker, self._connection)

    def _reopen(self) -> sqlite3.Connection:
        """Open the file again after an error. Raises CommitFailedError when it is not as this process left it: only a restart can tell then
        what is there."""
        connection = self._open()
        head = _head(connection)
        if head != self._durable:
            connection.close()
            raise CommitFailedError(f"{self.path} is at revision {head.revision}, not at {self._durable.revision} as expected: restart the server")
        self._connection = connection
        return connection

    def _committed_all_the_same(self, batch: Batch) -> bool:
        """After an error: drop the connection, with all that it holds, and see on a new one which commit was the last.

        When the file cannot be read either, the batch counts as failed; the next commit opens the file again and looks.
        """
        try:
            self._drop()
            connection = self._open()
            head = _head(connection)
        except (sqlite3.Error, OSError):
            return False
        if head in (batch.head, self._durable):
            self._connection = connection
        else:
            connection.close()
        return head == batch.head

    def _drop(self) -> None:
        """Forget the connection and whatever is uncommitted on it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                if connection.in_transaction:
                    connection.rollback()
            finally:
                connection.close()

    async def clear(self) -> None:
        """Remove everything. Raises CommitFailedError when that cannot be written."""
        connection = self._connection
        if connection is None or self._worker is None:
            raise CommitFailedError("the store is closed")
        await self._checkpoints.finished()
        try:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'head'")]
            connection.execute("BEGIN IMMEDIATE")
            for name in names:
                connection.execute(f'DELETE FROM "{name}"')
            connection.execute(_SET_HEAD, (0, 0.0, NO_HASH))
            connection.execute(_SET_ANCHOR, (0, NO_HASH))
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise CommitFailedError(f"{self.path} could not be cleared: {error}") from error
        self._durable = Head()

    async def prune(self, through: int, limit: int) -> int:
        """Remove the oldest entries. Raises CommitFailedError when that cannot be written."""
        if self._worker is None:
            raise CommitFailedError("the store is closed")
        await self._checkpoints.finished()
        return await self._worker.submit(lambda: self._prune(through, limit))

    def _prune(self, through: int, limit: int) -> int:
        try:
            connection = self._connection or self._reopen()
            anchor, _ = _ends(connection)
            last = min(through, anchor.revision + limit)
            found = connection.execute("SELECT hash FROM journal WHERE revision = ?", (last,)).fetchone()
            if found is None:
                return 0
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SET_ANCHOR, (last, found[0]))
            removed = connection.execute("DELETE FROM journal WHERE revision <= ?", (last,)).rowcount
            connection.execute("DELETE FROM deletions WHERE revision <= ?", (last,))
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise CommitFailedError(f"the journal in {self.path} could not be pruned: {error}") from error
        return removed

    async def scrub(self) -> None:
        """Write the file anew and empty its log. Raises CommitFailedError when that cannot be done, for example for want of room."""
        if self._worker is None:
            raise CommitFailedError("the store is closed")
        await self._checkpoints.finished()
        await self._worker.submit(self._scrub)

    def _scrub(self) -> None:
        try:
            connection = self._connection or self._reopen()
            connection.execute("VACUUM")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise CommitFailedError(f"{self.path} could not be written anew: {error}") from error
        if busy:
            raise CommitFailedError(f"{self.path} is being read by another program, so its log could not be emptied")

    async def entries(self, from_revision: int, limit: int) -> list[StoredEntry]:
        """Durable entries from `from_revision` on, as bytes whatever somebody who tampered with them made of them."""
        rows = await self._read(_ENTRIES, from_revision, limit)
        return [StoredEntry(*row) for row in rows]

    async def deletions(self, table: str, key: str) -> list[int]:
        """Revisions at which the record was deleted. Reads all deletions that the journal reaches back to."""
        return [row[0] for row in await self._read('SELECT revision FROM deletions WHERE "table" = ? AND "key" = ? ORDER BY number', table, key)]

    async def deletions_after(self, table: str, revision: int) -> list[tuple[str, int]]:
        """Deletions in `table` after `revision`."""
        return await self._read('SELECT "key", revision FROM deletions WHERE "table" = ? AND revision > ? ORDER BY number', table, revision)

    async def ends(self) -> tuple[Anchor, Head]:
        """The two ends of the chain."""
        return await asyncio.to_thread(self._reading, _ends)

    async def _read(self, statement: str, *values: Any) -> list[Any]:
        return await asyncio.to_thread(self._reading, lambda connection: connection.execute(statement, values).fetchall())

    def _reading(self, function: Callable[[sqlite3.Connection], Any]) -> Any:
        """What `function` reads on a connection of its own, which sees durable state only. Works on a stopped installation too."""
        with closing(_connect(self.path, "ro")) as connection:
            return function(connection)

    async def close(self) -> None:
        """Close the file and release its lock."""
        await self._checkpoints.close()
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()
        self._drop()
        self._lock.release()


class _Checkpoints:
    """Copies the WAL back into the file, so that no commit has to.

    SQLite starts the WAL anew only when a checkpoint has copied all of it and nobody wrote meanwhile. So the bulk is copied on a connection and
    in a thread of its own, while commits go on, and then the small rest in the commit thread, after a commit was acknowledged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = 0
        self._worker: Worker | None = None
        self._bulk: asyncio.Future[None] | None = None
        self._rest: asyncio.Future[None] | None = None

    def count(self, size: int, worker: Worker, connection: sqlite3.Connection) -> None:
        """A commit on `connection`, which `worker` ran, wrote about `size` bytes: start what is due."""
        self._bytes += size
        if self._bulk is not None and self._bulk.done():
            self._bulk = None
            self._bytes = 0
            self._rest = worker.submit(lambda: _checkpoint(connection))
        elif self._bytes >= CHECKPOINT_BYTES and self._bulk is None:
            self._worker = self._worker or Worker("store-checkpoint")
            self._bulk = self._worker.submit(self._copy)

    async def finished(self) -> None:
        """Return when the writing connection is free."""
        if self._rest is not None:
            rest, self._rest = self._rest, None
            await rest

    def _copy(self) -> None:
        with suppress(sqlite3.Error), closing(_connect(self._path, "rw")) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            _checkpoint(connection)

    async def close(self) -> None:
        """Finish what runs."""
        await self.finished()
        bulk, self._bulk = self._bulk, None
        if bulk is not None:
            await bulk
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()
        self._bytes = 0


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Copy back what can be copied now. A failure (the disk is full) costs nothing: the WAL keeps everything, and the next one tries again."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection that never makes the file. `mode` is rw or ro."""
    address = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _insert(connection: sqlite3.Connection, batch: Batch) -> None:
    for name, rows in batch.rows.items():
        connection.executemany(f'REPLACE INTO "{name}" VALUES (?, ?, ?, ?)', [row for row in rows.values() if row is not None])
        connection.executemany(f'DELETE FROM "{name}" WHERE id = ?', [(number,) for number, row in rows.items() if row is None])
    connection.executemany("INSERT INTO journal VALUES (?, ?, ?)", batch.entries)
    if batch.deletions:
        connection.executemany('INSERT INTO deletions ("table", "key", revision) VALUES (?, ?, ?)', batch.deletions)
    head = batch.head
    connection.execute(_SET_HEAD, (head.revision, head.instant, head.hash))
    if batch.anchor is not None:
        connection.execute(_SET_ANCHOR, (batch.anchor.revision, batch.anchor.hash))


def _head(connection: sqlite3.Connection) -> Head:
    return _ends(connection)[1]


def _ends(connection: sqlite3.Connection) -> tuple[Anchor, Head]:
    found = connection.execute("SELECT revision, instant, hash, anchor_revision, anchor_hash FROM head").fetchone()
    if found is None:
        raise StoredFormError("the head of the state is missing: the file was tampered with")
    revision, instant, digest, anchor_revision, anchor_hash = found
    return Anchor(anchor_revision, anchor_hash), Head(revision, instant, digest)
