"""A store that several servers have: one leads and changes it, the others follow, and each answers reads from its own copy.

Owns: `Replica`: which role this server has, what a view waits for, and how roles change. Never forwards a call: an update on a follower says who
leads.

It is the same object in both roles, with the same tables, derived views and watches, so that nobody who holds it needs to know. A follower's copy
moves by what etcd's watch brings; a leader's by its own transactions. Between the two the copy stands still: a new leader first reaches the head that
nobody else can move any more, and one that was deposed first takes back what is not durable, then follows on from where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec

from homeport.clock import Clock
from homeport.errors import CommitFailedError, EtcdRefusedError, HomeportError, LeadershipLostError, NoQuorumError, NotLeaderError
from homeport.log import logger
from homeport.model.record import Record
from homeport.store.backend import Batch, Head, StoredEntry, StoredRow
from homeport.store.barrier import Arrivals, Barrier, Truth
from homeport.store.etcd.backend import EtcdBackend, Snapshot
from homeport.store.etcd.follow import Followed, Follower
from homeport.store.etcd.journal_copy import JournalCopy
from homeport.store.journal import Journal
from homeport.store.leader import Leader, Leadership
from homeport.store.mirror import Mirror
from homeport.store.store import Store
from homeport.store.table import Derived, Reader, Table, Transaction
from homeport.store.transaction import StoreReader
from homeport.store.watch import RecentCommits

T = TypeVar("T")

_LOG: Final = logger("store")

READ_SECONDS: Final = 4.0
"""How long a view waits for etcd's word, and then for the copy to reach it, before it fails with NoQuorumError. (A question that was under way
already may take as long again.)"""
VIEW_SECONDS_MAX: Final = 7.5
"""How long a view may take in all before it fails with NoQuorumError. On a leader that is deposed meanwhile several waits come one after another:
for its last commits, for etcd's word, for the next role, and once more for etcd's word. With this a read is answered, or 503, within 8 s."""
RETRY_SECONDS: Final = 0.2
"""Pause before this server stands for leader again after its election came to nothing."""
OUT_OF_RANGE: Final = "OUT_OF_RANGE"
"""gRPC's name of etcd's answer to a read at a revision that it no longer keeps."""


class Role(msgspec.Struct, frozen=True):
    """What this server is now."""

    leading: bool
    leader: Leader | None
    """Who leads, as far as is known here; this server itself when `leading`."""


class Replica(Store):
    """A `Store` on etcd, in one of two roles. Made by `join`."""

    def __init__(self, backend: EtcdBackend, *, tables: Sequence[Table[Any]], clock: Clock, derived: Sequence[Derived]) -> None:
        """Use `join`."""
        super().__init__(backend, tables=tables, clock=clock, derived=derived)
        self._etcd = backend
        self._mirror = Mirror(self._contents, self._derived)
        self._barrier = Barrier(backend, seconds=READ_SECONDS)
        self._arrivals = Arrivals(backend.clock, seconds=READ_SECONDS, late=self._lagging)
        self._leadership: Leadership | None = None
        self._refusing = False
        self._follower: Follower | None = None
        self._following: asyncio.Task[None] | None = None
        self._campaigning: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._local = False
        self.copy: JournalCopy | None = None
        """This server's own file of the journal, if it has one."""

    @classmethod
    async def join(
        cls, backend: EtcdBackend, *, tables: Sequence[Table[Any]], clock: Clock, derived: Sequence[Derived] = (), local_reads: bool = False
    ) -> Replica:
        """A copy of what etcd has, following, and standing for leader from now on.

        With `local_reads` views answer from the copy as it is. Raises EtcdUnavailableError, StoredFormError.
        """
        replica = cls(backend, tables=tables, clock=clock, derived=derived)
        replica._local = local_reads
        try:
            snapshot = await replica._load_copy()
        except BaseException:
            await backend.close()
            raise
        replica._committer = asyncio.create_task(replica._commit_forever(), name="store-committer")
        replica._start_following(snapshot.head, snapshot.position, snapshot.leader)
        replica._campaigning = asyncio.create_task(replica._campaign(), name="store-campaign")
        return replica

    def keep_journal(self, copy: JournalCopy) -> None:
        """From now on tell `copy` of every commit, and read the journal there first. The caller runs and closes it."""
        self.copy = copy
        copy.missed()
        self.journal = Journal(copy.source, self._contents, self._settled)

    async def _load_copy(self) -> Snapshot:
        """The first load. It comes to nothing, and begins anew by way of `_read_anew`, when etcd is compacted meanwhile."""
        snapshot = await self._etcd.snapshot()
        try:
            await self._load(snapshot.head)
        except EtcdRefusedError as error:
            if error.code != OUT_OF_RANGE:
                raise
            snapshot = await self._read_anew()
        return snapshot

    # ------------------------------------------------------------------------------------------------------------ role

    @property
    def role(self) -> Role:
        """What this server is now."""
        if self._leadership is not None:
            return Role(not self._refuses, self._etcd.candidate)
        return Role(False, self._follower.leader if self._follower is not None else None)

    @property
    def _refuses(self) -> bool:
        return self._leadership is None or self._refusing or self._leadership.lost.is_set()

    async def roles(self) -> AsyncIterator[Role]:
        """The role now, and again whenever it is another."""
        seen: Role | None = None
        while not self._closed:
            if self.role != seen:
                seen = self.role
                yield seen
            else:
                await self._move()

    async def _move(self) -> None:
        """Return when the role may be another."""
        await self._moved.wait()

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def resign(self) -> None:
        """Lead no more, and never again: finish the commits under way, let another server lead, and follow it. Nothing to do for a follower."""
        self._refusing = True
        self._tell()
        await self._stop_campaigning()
        if self._leadership is not None:
            await self._step_down(self._leadership)
        else:
            await self._follow_again()

    async def depose(self, leader: Leader) -> bool:
        """Let somebody else lead now: for a server that knows that `leader` is gone, because its address refuses connections.

        Without it that takes until the leader's lease ends. True when the leader was deposed. Being wrong is safe and costs an election.
        Raises EtcdUnavailableError.
        """
        return await self._etcd.election.depose(leader)

    async def _stop_campaigning(self) -> None:
        campaigning, self._campaigning = self._campaigning, None
        if campaigning is not None:
            campaigning.cancel()
            await asyncio.wait((campaigning,))

    async def _campaign(self) -> None:
        """Stand for leader, lead until that is over, and again."""
        while True:
            try:
                leadership = await self._etcd.election.acquire(self._etcd.candidate)
            except HomeportError as error:
                _LOG.warning("cannot stand for leader: %s", error)
                await self._etcd.clock.sleep(RETRY_SECONDS)
                continue
            try:
                await self._begin(leadership)
            except HomeportError as error:
                _LOG.warning("elected, but cannot lead: %s", error)
                await leadership.resign()
                await self._follow_again()
                await self._etcd.clock.sleep(RETRY_SECONDS)
                continue
            except asyncio.CancelledError:
                await leadership.resign()
                raise
            await leadership.lost.wait()
            self._tell()
            await self._step_down(leadership)

    async def _begin(self, leadership: Leadership) -> None:
        """From follower to leader: reach the head, which nobody else moves any more, then move it."""
        _, head = await self._etcd.ends()
        await self.reach(head.revision)
        await self._stop_following()
        head = await self._etcd.lead(leadership)
        if head != self._durable:
            raise CommitFailedError(f"the copy is at revision {self._durable.revision}, not at {head.revision}")
        self._newest = head
        self._leadership = leadership
        self._tell()

    async def _step_down(self, leadership: Leadership) -> None:
        """From leader to follower: wait for the commits under way (which fail by now, if the leadership is lost), then follow on from there."""
        while self._waiting or self._flying is not None:
            await Store._settled(self)
        resigning = asyncio.create_task(leadership.resign())
        if not leadership.lost.is_set():
            await resigning
        self._leadership = None
        self._etcd.stop_leading()
        self._start_following(self._durable, self._etcd.position, None)
        await resigning

    # -------------------------------------------------------------------------------------------------------- following

    def _start_following(self, head: Head, position: int, leader: Leader | None) -> None:
        self._follower = Follower(self._etcd, head=head, position=position, leader=leader)
        self._following = asyncio.create_task(self._follow(), name="store-follow")
        self._tell()

    async def _follow_again(self) -> None:
        """After an election that came to nothing."""
        self._etcd.stop_leading()
        if self._following is None:
            await self._refresh()
            self._following = asyncio.create_task(self._follow(), name="store-follow")

    async def _stop_following(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.wait((following,))
        if self._follower is not None:
            self._follower.close()

    async def _follow(self) -> None:
        while True:
            follower = self._follower
            if follower is None:
                return
            leader = follower.leader
            try:
                for followed in await follower.changes():
                    self._take(followed)
            except Exception as error:  # compacted, replaced by a backup, a form that only the rows can tell, or a mistake of ours: none may end this
                _LOG.warning("the copy of the state is read anew: %s: %s", type(error).__name__, error)
                follower.close()
                await self._refresh()
            if self._follower is not follower or follower.leader != leader:
                self._tell()

    async def _refresh(self) -> None:
        """Read everything anew and follow on from there; as often as it takes."""
        while True:
            try:
                snapshot = await self._read_anew()
            except HomeportError as error:  # etcd does not answer, or has what this program cannot read
                _LOG.warning("the copy of the state cannot be read: %s", error)
                await self._etcd.clock.sleep(RETRY_SECONDS)
            else:
                self._follower = Follower(self._etcd, head=snapshot.head, position=snapshot.position, leader=snapshot.leader)
                return

    def _take(self, followed: Followed) -> None:
        """The leader's commits become this copy's."""
        commits = self._mirror.apply(followed.entries, followed.rows)
        self._newest = self._durable = followed.head
        if self.copy is not None:
            self.copy.offer(followed.entries)
        self._recent.extend(commits)
        for watch in sorted(self._watches, key=attrgetter("number")):
            watch.offer(commits)
        self._arrivals.reached(followed.head.revision)

    def _committed(self, batch: Batch) -> None:
        if self.copy is not None:
            self.copy.offer(StoredEntry(*entry) for entry in batch.entries)

    async def _read_anew(self) -> Snapshot:
        """Make the tables equal to what etcd has now. Watchers are lost: nobody knows the commits in between."""
        while True:
            snapshot = await self._etcd.snapshot()
            try:
                fresh = {name: await self._differences(name) for name in self._contents}
            except EtcdRefusedError as error:
                if error.code != OUT_OF_RANGE:
                    raise
                continue  # compacted while it was read
            break
        for name, (keys, changed) in fresh.items():
            self._mirror.replace(name, keys, changed)
        self._newest = self._durable = snapshot.head
        self._recent = RecentCommits(snapshot.head.revision)
        if self.copy is not None:
            self.copy.missed()
        for watch in sorted(self._watches, key=attrgetter("number")):
            watch.lose()
        self._arrivals.reached(snapshot.head.revision)
        return snapshot

    async def _differences(self, name: str) -> tuple[set[str], dict[str, tuple[StoredRow, Record]]]:
        """(every key that the table has in etcd, the rows that are other than here by key)."""
        keys: set[str] = set()
        changed: dict[str, tuple[StoredRow, Record]] = {}
        async for page in self._etcd.rows(name):
            for stored in page:
                key, record = self._mirror.decode(name, stored)
                keys.add(key)
                if self._mirror.differs(name, stored, key):
                    changed[key] = (stored, record)
        return keys, changed

    async def reach(self, revision: int) -> None:
        """Return when the copy has reached `revision`. Raises NoQuorumError when it does not in time."""
        if self._durable.revision < revision:
            self._require_open()
            await self._arrivals.wait(revision)

    def _lagging(self) -> None:
        if self._follower is not None:
            self._follower.kick()

    # ----------------------------------------------------------------------------------------------------------- verbs

    async def view(self, function: Callable[[Reader], T]) -> T:
        """What `function` says of the newest state that any server had acknowledged when it was called, or of a newer one.

        Raises NoQuorumError (temporary) when etcd does not say in time which state that is. With `local_reads` as `view_local`.
        """
        if self._local:
            return await self.view_local(function)
        try:
            async with asyncio.timeout(VIEW_SECONDS_MAX) as limit:
                result, error = await self._linearizable(function)
        except TimeoutError as late:
            if not limit.expired():
                raise
            raise NoQuorumError(f"nobody confirmed for {VIEW_SECONDS_MAX} s that this server's state is the newest") from late
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # a result, when there is no error

    async def _linearizable(self, function: Callable[[Reader], T]) -> tuple[T | None, Exception | None]:
        """What `function` gives or raises, once it is known that it met the newest state."""
        while True:
            leadership = self._leadership
            if leadership is not None:
                found = self._try(function)
                if await self._settled():
                    return found
                await self._stepped_down(leadership)
            else:
                truth = await self._barrier.ask()
                await self.reach(truth.revision)
                if self._leadership is None:
                    return self._try(function)

    async def view_local(self, function: Callable[[Reader], T]) -> T:
        """What `function` says of this server's copy, which may be behind what another server has acknowledged; never of what is not durable."""
        while True:
            leadership = self._leadership
            result, error = self._try(function)
            if leadership is None or await Store._settled(self):
                break
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # a result, when there is no error

    def _try(self, function: Callable[[Reader], T]) -> tuple[T | None, Exception | None]:
        self._require_open()
        try:
            return function(StoreReader(self._contents, self._newest.revision)), None
        except Exception as error:  # raised by the caller of this, once it is known that the state it met is the state
            return None, error

    async def update(self, function: Callable[[Transaction], T], *, cause: str) -> T:
        """As `Store.update`, on the leader. Raises NotLeaderError, with the leader's address, on a follower; nothing was done then.

        Raises LeadershipLostError when the transaction was not made durable because this server was deposed, and CommitUnknownError when
        nobody could tell in time; the caller may ask the new leader.
        """
        self._require_open()
        self._require_leading()
        return await super().update(function, cause=cause)

    def _require_leading(self) -> None:
        if self._refuses:
            leader = self._follower.leader if self._leadership is None and self._follower is not None else None
            raise NotLeaderError(leader.address if leader is not None else "")

    async def _settled(self) -> bool:
        """Wait until everything that the tables show is durable and known to be the newest state; False when it is not."""
        leadership = self._leadership
        if self._local:
            return await super()._settled()
        if leadership is None:
            truth = await self._barrier.ask()
            await self.reach(truth.revision)
            return True
        question = asyncio.ensure_future(self._barrier.ask())
        question.add_done_callback(_seen)
        try:
            if not await super()._settled():
                return False
            if (await question).leadership == leadership.create_revision:
                return True
        finally:
            question.cancel()
        leadership.lost.set()
        return False

    def _unsettled(self) -> CommitFailedError:
        """As for any store; but when this server was deposed meanwhile, the caller may ask the new leader: nothing was written."""
        return LeadershipLostError("this server does not lead any more; nothing was changed") if self._refuses else super()._unsettled()

    async def _stepped_down(self, leadership: Leadership) -> None:
        """After a view that came to nothing: return at once if this server still leads, else when it follows."""
        while self._leadership is leadership and leadership.lost.is_set() and not self._closed:
            await self._move()

    async def prune_journal(self, before: float) -> int:
        """As `Store.prune_journal`, on the leader. Raises NotLeaderError on a follower."""
        self._require_leading()
        return await super().prune_journal(before)

    async def prune_journal_through(self, through: int) -> int:
        """As `Store.prune_journal_through`, on the leader. Raises NotLeaderError on a follower."""
        self._require_leading()
        return await super().prune_journal_through(through)

    async def forget_copies(self, through: int) -> None:
        """As `Store.forget_copies`: this server's own file, if it has one."""
        if self.copy is not None:
            await self.copy.forget(through)

    async def scrub(self) -> None:
        """As `Store.scrub`, on the leader. Raises NotLeaderError on a follower."""
        self._require_leading()
        await super().scrub()

    async def trim_journal(self, through: int) -> int:
        """Remove etcd's entries up to revision `through`, which others keep; how many were, some thousand at most. Raises as `prune_journal`."""
        self._require_leading()
        return await self._prune_through(through)

    async def _shut(self) -> None:
        self._tell()  # nobody waits for a role any more
        await self._stop_campaigning()
        await self._stop_following()
        await self._barrier.close()
        await self._arrivals.close()
        await super()._shut()  # makes durable what waits; the backend resigns, if this server leads


def _seen(question: asyncio.Future[Truth]) -> None:
    """Nobody may be left to wait for the answer; that is no reason to complain that nobody read it."""
    if not question.cancelled():
        question.exception()
