"""The store: view, update, watch.

Owns: the order of transactions, group commit, and what happens when a commit fails. Never decides what should change.
Reads: the tables in memory. Writes: them, and the backend in batches.

`update` runs its function at once and puts the result into the batch that waits; one committer makes batch after batch durable and only then lets
the callers go on. What is newer than the durable head is kept with its before-images, so that a failed commit can be taken back to the last.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec

from homeport.clock import Clock
from homeport.errors import CommitFailedError, StoreClosedError
from homeport.model.record import Instant
from homeport.store.backend import Backend, Batch, Head
from homeport.store.codec import ENCODER, Codec
from homeport.store.contents import Contents, Row
from homeport.store.journal import Journal
from homeport.store.journal_entry import entry_change
from homeport.store.journal_size import older_than, surplus
from homeport.store.table import Commit, Derived, Reader, Table, Transaction
from homeport.store.transaction import StoreReader, StoreTransaction, Write, change_of, require_bytes
from homeport.store.watch import RecentCommits, Watch

T = TypeVar("T")

NOT_STORED: Final = "a transaction before this one could not be stored; try again"
INSTANT_STEP_SECONDS: Final = 1e-6
"""Least time between the instants of two transactions."""
PRUNE_ENTRIES: Final = 10_000
"""Journal entries removed between two commits, so that pruning holds up no call for long."""
FREEZE_RECORDS_MIN: Final = 10_000
"""From so many records on, loading tells the garbage collector to leave them alone."""


class Stats(msgspec.Struct, frozen=True):
    """What the store holds. `records` counts them per table."""

    revision: int
    records: dict[str, int]


class _Group:
    """A batch with the transactions that are in it and everybody who waits for it."""

    __slots__ = ("batch", "commits", "transactions", "waiters")

    def __init__(self) -> None:
        self.batch = Batch()
        self.transactions: list[StoreTransaction] = []
        self.commits: list[Commit] = []
        self.waiters: list[asyncio.Future[CommitFailedError | None]] = []
        """One future a caller, so that a caller that is cancelled cancels nobody else's. (One subclassed future for all costs 5 µs a caller.)"""

    def outcome(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[CommitFailedError | None]:
        """Done when the batch is durable (None) or failed (why)."""
        waiter: asyncio.Future[CommitFailedError | None] = loop.create_future()
        self.waiters.append(waiter)
        return waiter

    def settle(self, error: CommitFailedError | None) -> None:
        """Tell everybody who waits."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(error)


class Store:
    """All state of one cell, in memory, with a backend under it. Made by `open`."""

    def __init__(self, backend: Backend, *, tables: Sequence[Table[Any]], clock: Clock, derived: Sequence[Derived]) -> None:
        """Use `open`."""
        self._backend = backend
        self._limits = backend.limits
        self._clock = clock
        self._derived = tuple(derived)
        self._contents = {table.name: Contents(table) for table in tables}
        self._newest = Head()
        self._durable = Head()
        self._waiting: deque[_Group] = deque()
        self._flying: _Group | None = None
        self._wake: asyncio.Future[None] | None = None
        self._errands: deque[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = deque()
        self._watches: set[Watch] = set()
        self._recent = RecentCommits(0)
        self._loop = asyncio.get_running_loop()
        self._committer: asyncio.Task[None] | None = None
        self._closed = False
        self.journal = Journal(backend, self._contents, self._settled)

    @classmethod
    async def open(cls, backend: Backend, *, tables: Sequence[Table[Any]], clock: Clock, derived: Sequence[Derived] = ()) -> Store:
        """A store with everything loaded from `backend`.

        Raises StoreLockedError when another process holds the backend, and StoredFormError for state that this program cannot read.
        """
        store = cls(backend, tables=tables, clock=clock, derived=derived)
        head = await backend.load(tuple(table.name for table in tables))
        try:
            await store._load(head)
        except BaseException:
            await backend.close()
            raise
        store._committer = asyncio.create_task(store._commit_forever(), name="store-committer")
        return store

    async def _load(self, head: Head) -> None:
        self._newest = self._durable = head
        self._recent = RecentCommits(head.revision)
        collecting = gc.isenabled()
        gc.disable()  # a million records are made here and none of them is garbage
        try:
            for name, contents in self._contents.items():
                codec = Codec(contents.table)
                key_of = contents.table.key
                loaded: dict[str, Row] = {}
                async for page in self._backend.rows(name):
                    for stored in page:
                        record = codec.decode(stored.version, stored.record)
                        loaded[key_of(record)] = Row(record, stored.id, stored.revision)
                contents.fill(loaded)
                for record in contents.scan("", "") if self._derived else ():
                    for derived in self._derived:
                        derived.change(name, None, record)
            if sum(len(contents.rows) for contents in self._contents.values()) >= FREEZE_RECORDS_MIN:
                gc.freeze()
        finally:
            if collecting:
                gc.enable()

    @property
    def revision(self) -> int:
        """Revision of the last durable transaction."""
        return self._durable.revision

    @property
    def stats(self) -> Stats:
        """How much there is, the newest state counted."""
        return Stats(self._durable.revision, {name: len(contents.rows) for name, contents in self._contents.items()})

    async def view(self, function: Callable[[Reader], T]) -> T:
        """What `function` says of the newest state. It runs at once; its answer leaves when that state is durable (at once, if it is).

        When a commit fails meanwhile the function runs again on what is left, so it should only read. What it raises is raised.
        """
        while True:
            self._require_open()
            reader = StoreReader(self._contents, self._newest.revision)
            try:
                result = function(reader)
            except Exception:
                if await self._settled():
                    raise
                continue
            if await self._settled():
                return result

    async def view_local(self, function: Callable[[Reader], T]) -> T:
        """As `view`. On one of several servers: of its own copy, without asking whether that is the newest state; for who acts by transactions."""
        return await self.view(function)

    async def update(self, function: Callable[[Transaction], T], *, cause: str) -> T:
        """Run `function` as one transaction and return what it returns, once it is durable. `cause` says who wanted it, for the journal.

        It runs at once, and later transactions see it at once. What it raises undoes it and is raised. Writes that change nothing make no
        revision. Raises TransactionTooLargeError for more than 100 records or 1 MiB, and CommitFailedError (temporary) when it, or one
        before it that it may have seen, could not be made durable. A caller that is cancelled while it waits does not know the outcome.
        """
        self._require_open()
        newest = self._newest
        now = max(self._clock.now(), newest.instant + INSTANT_STEP_SECONDS)
        transaction = StoreTransaction(self._contents, newest.revision, now=now, derived=self._derived)
        try:
            result = function(transaction)
            writes = transaction.finish()
            if writes:
                self._append(transaction, writes, cause)
        except BaseException:
            transaction.undo()
            if not await self._settled():
                raise self._unsettled() from None
            raise
        if not writes:
            if not await self._settled():
                raise self._unsettled()
            return result
        error = await self._waiting[-1].outcome(self._loop)
        if error is not None:
            raise type(error)(str(error))
        return result

    def _append(self, transaction: StoreTransaction, writes: list[Write], cause: str) -> None:
        """Give the transaction its revision and put it at the end of the last batch that waits. Changes nothing when it raises."""
        newest = self._newest
        revision = newest.revision + 1
        instant = transaction.now
        size = 0
        changes = []
        for write in writes:
            if write.after is not None:
                write.stored = ENCODER.encode(write.after)
                size += len(write.stored)
            changes.append(entry_change(write))
        require_bytes(size)
        payload = ENCODER.encode((newest.hash, revision, instant, cause, changes))
        group = self._group(len(writes), size + len(payload))
        batch = group.batch
        for write in writes:
            row, contents = write.row, write.contents
            row.revision = revision
            row.since_full = 0 if write.full else row.since_full + 1
            rows = batch.rows.get(contents.name)
            if rows is None:
                rows = batch.rows[contents.name] = {}
            if row.id not in rows:
                batch.records += 1
            if write.stored is None:
                rows[row.id] = None
                batch.deletions.append((contents.name, write.key, revision))
            else:
                rows[row.id] = (row.id, contents.version, revision, write.stored)
        head = Head(revision, instant, hashlib.sha256(payload).digest())
        batch.entries.append((revision, payload, head.hash))
        batch.head = self._newest = head
        batch.bytes += size + len(payload)
        group.transactions.append(transaction)
        group.commits.append(Commit(revision, instant, cause, tuple(map(change_of, writes))))

    def _group(self, records: int, size: int) -> _Group:
        """The group that takes the next transaction, which writes `records` and has `size` bytes."""
        waiting, limits = self._waiting, self._limits
        if waiting:
            group = waiting[-1]
            batch = group.batch
            fits = batch.records + records <= limits.records and batch.bytes + size <= limits.bytes
            if fits and len(group.transactions) < limits.transactions:
                return group
        group = _Group()
        waiting.append(group)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        return group

    async def _settled(self) -> bool:
        """Wait until everything that the tables show now is durable; False when it failed and was undone."""
        group = self._waiting[-1] if self._waiting else self._flying
        return group is None or await group.outcome(self._loop) is None

    def _unsettled(self) -> CommitFailedError:
        """What a transaction is told that wrote nothing, but met a state that is not to be."""
        return CommitFailedError(NOT_STORED)

    async def _commit_forever(self) -> None:
        while True:
            while self._errands:
                await self._run_errand()
            if not self._waiting:
                if self._closed:
                    return
                self._wake = self._loop.create_future()
                await self._wake
                continue
            group = self._flying = self._waiting.popleft()
            try:
                await self._backend.commit(group.batch)
            except Exception as error:
                self._take_back(error if isinstance(error, CommitFailedError) else CommitFailedError(f"{type(error).__name__}: {error}"))
            else:
                self._flying = None
                self._durable = group.batch.head
                self._committed(group.batch)
                self._recent.extend(group.commits)
                for watch in sorted(self._watches, key=attrgetter("number")):
                    watch.offer(group.commits)
                group.settle(None)

    def _committed(self, batch: Batch) -> None:
        """`batch` is durable; for a store that has more to do with it."""

    def _take_back(self, error: CommitFailedError) -> None:
        """Undo everything that is not durable, newest first, and tell its callers."""
        groups = ([self._flying] if self._flying is not None else []) + list(self._waiting)
        self._flying = None
        self._waiting.clear()
        for group in reversed(groups):
            for transaction in reversed(group.transactions):
                transaction.undo()
        self._newest = self._durable
        for group in groups:
            group.settle(error)

    async def _run_errand(self) -> None:
        errand, answer = self._errands.popleft()
        try:
            result = await errand()
        except Exception as error:  # handed to whoever waits for the answer
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)

    async def prune_journal(self, before: Instant) -> int:
        """Remove journal entries older than `before` (an instant) and return how many; call again while it returns 10,000."""
        self._require_open()
        through = await older_than(self._backend, before)
        anchor, _ = await self._backend.ends()
        return await self._prune_through(through) if through > anchor.revision else 0

    async def prune_journal_to(self, bytes_max: int) -> int:
        """Remove the oldest journal entries until about `bytes_max` bytes remain, and return how many; call again while it returns 10,000."""
        self._require_open()
        through = await surplus(self._backend, bytes_max)
        anchor, _ = await self._backend.ends()
        return await self._prune_through(through) if through > anchor.revision else 0

    async def prune_journal_through(self, through: int) -> int:
        """Remove journal entries up to revision `through` and return how many; call again until it returns 0."""
        self._require_open()
        anchor, _ = await self._backend.ends()
        return await self._prune_through(through) if through > anchor.revision else 0

    async def forget_copies(self, through: int) -> None:
        """Keep no entry up to revision `through` in copies of the journal that this server has beside the store, which is none."""

    async def scrub(self) -> None:
        """Nothing that was removed or replaced is left in bytes that the backend does not use any more. May take as long as a load."""
        self._require_open()
        await self._errand(self._backend.scrub)

    async def _prune_through(self, through: int) -> int:
        return await self._errand(lambda: self._backend.prune(through, PRUNE_ENTRIES))

    async def _errand(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, done between two commits."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._errands.append((work, answer))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        return await answer

    def watch(self, from_revision: int | None = None) -> Watch:
        """Durable commits in order, without gaps: those newer than `from_revision` (the revision that the caller has seen), or from now on.

        Raises WatchLostError when commits that old are not kept any more; the caller starts again from a view.
        """
        self._require_open()
        missed = [] if from_revision is None else self._recent.after(from_revision)
        watch = Watch(self._watches)
        watch.offer(missed)
        return watch

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the store is closed")

    async def close(self) -> None:
        """Make durable what waits, end the watches and let go of the backend. Later calls raise StoreClosedError."""
        if self._closed:
            return
        self._closed = True
        await self._shut()

    async def _shut(self) -> None:
        """The rest of `close`, after which no call is taken any more."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        if self._committer is not None:
            await self._committer
        for watch in tuple(self._watches):
            watch.close()
        await self._backend.close()
