"""Copies etcd's journal into this server's own file, beside the calls and behind them.

Owns: `JournalCopy`: where the next entries come from (what this server sees commit, else etcd, else another server's file), and what is done
when nobody has them. Never trims etcd; never writes anything into the file that does not continue its chain.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from homeport.config import Settings
from homeport.errors import HomeportError
from homeport.log import logger
from homeport.store.backend import Anchor, StoredEntry
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.etcd.journal_copies import Copies, Copy, MissingPart
from homeport.store.journal_chain import ChainError, instant_of
from homeport.store.journal_file import Gap, JournalFile
from homeport.store.journal_join import JoinedJournal
from homeport.store.journal_size import older_than, surplus

STEP_SECONDS: Final = 1.0
"""Between two looks for what is new: entries that come in it share a sync of the disk."""
SEARCH_SECONDS: Final = 5.0
"""Between two searches for entries that were missed."""
PUBLISH_SECONDS: Final = 5.0
"""Between two words on how far the file is, when it has moved."""
REST_SECONDS: Final = 600.0
"""The same when it has not: the word is also a sign of life."""
UPKEEP_SECONDS: Final = 60.0
"""Between two looks at the file's age, size and beginning."""
COPY_ENTRIES: Final = 500
"""Entries written at a time."""
OFFERED_BYTES_MAX: Final = 32 * 1_048_576
"""What may wait in memory. More is forgotten and read from etcd later."""
PRUNE_ENTRIES: Final = 10_000
FULL_PART: Final = 0.9
"""Older entries are fetched from others only up to this part of the age and size at which they would go again."""

_LOG: Final = logger("journal")


class Others(Protocol):
    """The files of the other servers."""

    async def holders(self) -> list[Copy]:
        """What each other server that lives has."""
        ...

    async def entries(self, holder: str, first: int, last: int, *, newest: bool = False) -> list[StoredEntry]:
        """Entries in order, none outside `first` to `last`, from the file of the server called `holder`: as many as fit an answer, counted from
        `first` on, or with `newest` from `last` back. Raises HomeportError when it does not answer."""
        ...


class JournalCopy:
    """This server's file and what fills it. `run` it beside the replica; `close` it after the replica."""

    def __init__(self, file: JournalFile, backend: EtcdBackend, settings: Settings) -> None:
        """`file` is open."""
        self.file = file
        self.met = False
        """Whether the file is known to have etcd's history, without a hole between the two."""
        self.source = JoinedJournal(file, backend, usable=lambda: self.met)
        """What there is to read, the file's and etcd's."""
        self._backend = backend
        self._settings = settings
        self._clock = backend.clock
        self._offered: deque[StoredEntry] = deque()
        self._offered_bytes = 0
        self._behind = True
        self._searching_since: float | None = None
        self._published: tuple[int, int] = (0, 0)
        self._publish_at = 0.0
        self._upkeep_at = 0.0
        self._complaint = ""

    def offer(self, entries: Iterable[StoredEntry]) -> None:
        """Entries that became durable in etcd. Cheap: they are written later."""
        for entry in entries:
            self._offered.append(entry)
            self._offered_bytes += len(entry.payload)
        while self._offered_bytes > OFFERED_BYTES_MAX:
            self._offered_bytes -= len(self._offered.popleft().payload)

    async def forget(self, through: int) -> None:
        """Keep no entry up to revision `through`: the file begins anew if it reaches back that far. To be called before `run`."""
        if not self.file.empty and self.file.anchor.revision < through:
            _LOG.warning("the own copy of the journal begins anew: it reached back to before revision %d", through)
            await self.file.begin_anew()
            self.met, self._behind = False, True

    def missed(self) -> None:
        """There are durable entries that were not offered."""
        self._behind = True

    async def run(self, others: Others) -> None:
        """Until cancelled. Trouble is told once and tried again; nobody waits for this."""
        copies = Copies(self._backend)
        while True:
            try:
                await self.step(others)
                await self._publish(copies)
            except (HomeportError, OSError, sqlite3.Error) as error:
                self._behind = True
                self._complain(f"the own copy of the journal does not go on: {error}")
            else:
                if self.met:
                    self._complaint = ""
            await self._clock.sleep(STEP_SECONDS if self.met or self._searching_since is None else SEARCH_SECONDS)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _LOG.warning(text)

    async def step(self, others: Others) -> None:
        """Write what is new. Raises HomeportError when something of it does not work at the moment."""
        if not self.met:
            await self._meet(others)
        if self.met:
            await self._write_offered()
            if self._behind:
                await self._catch_up()
        now = self._clock.monotonic()
        if self.met and now >= self._upkeep_at:
            self._upkeep_at = now + UPKEEP_SECONDS
            await self._prune()
            await self._reach_back(others)

    # ------------------------------------------------------------------------------------------------------ the newest

    async def _write_offered(self) -> None:
        file = self.file
        while self._offered:
            some: list[StoredEntry] = []
            expected = file.head.revision + 1
            while self._offered and len(some) < COPY_ENTRIES and self._offered[0].revision <= expected:
                entry = self._offered.popleft()
                self._offered_bytes -= len(entry.payload)
                if entry.revision == expected:
                    some.append(entry)
                    expected += 1
            if some:
                await self._append(some)
            elif self._offered:
                self._behind = True
                return

    async def _catch_up(self) -> None:
        """Read from etcd what was not offered."""
        while True:
            entries = await self._backend.entries(self.file.head.revision + 1, COPY_ENTRIES)
            if entries and entries[0].revision != self.file.head.revision + 1:
                self.met = False  # trimmed there: look for it elsewhere
                return
            if entries:
                await self._append(entries)
            if len(entries) < COPY_ENTRIES:
                self._behind = False
                return

    async def _append(self, entries: Sequence[StoredEntry]) -> None:
        try:
            await self.file.append(entries)
        except ChainError:
            self.met = False  # another history, or a broken one: `_meet` finds out
            raise

    # ------------------------------------------------------------------------------------------------- what was missed

    async def _meet(self, others: Others) -> None:
        """See whether the file has etcd's history, and close the hole between the two, if there is one."""
        file = self.file
        anchor, head = await self._backend.ends()
        if file.head.revision > head.revision or not await self._is_same(anchor):
            name = await file.set_aside("replaced")
            _LOG.error("the own copy of the journal belongs to another history than etcd's (a backup was restored?); it was set aside as %s", name)
        if file.empty and anchor.revision:
            await file.begin_at(anchor)
        if file.head.revision < anchor.revision and not await self._fill(anchor, others) and not await self._give_up(anchor):
            return
        self.met, self._behind, self._searching_since = True, True, None

    async def _is_same(self, anchor: Anchor) -> bool:
        """Whether etcd has the file's newest entry. True when etcd does not have it any more: what follows it will tell."""
        head = self.file.head
        if head.revision == anchor.revision:
            return head.hash == anchor.hash
        if head.revision < anchor.revision:
            return True
        entries = await self._backend.entries(head.revision, 1)
        return not entries or entries[0].revision != head.revision or entries[0].hash == head.hash

    async def _fill(self, anchor: Anchor, others: Others) -> bool:
        """Fetch the entries up to `anchor` from another server; whether that worked. They count only when they lead exactly there."""
        file, origin = self.file, self.file.head
        for copy in await others.holders():
            if not copy.first <= origin.revision + 1 <= copy.through:
                continue
            try:
                while file.head.revision < anchor.revision:
                    entries = await others.entries(copy.name, file.head.revision + 1, anchor.revision)
                    if not entries:
                        break
                    await file.append(entries)
            except HomeportError as error:
                _LOG.warning("%s could not give what is missing in the own copy of the journal: %s", copy.name, error)
            if (file.head.revision, file.head.hash) == (anchor.revision, anchor.hash):
                _LOG.info("entries %d to %d of the journal came from %s", origin.revision + 1, anchor.revision, copy.name)
                return True
            await file.cut_back(origin)
        return False

    async def _give_up(self, anchor: Anchor) -> bool:
        """Nobody has what is missing: go on without it, if that has been so for long enough."""
        file, now = self.file, self._clock.monotonic()
        first, last = file.head.revision + 1, anchor.revision
        if self._searching_since is None:
            self._searching_since = now
        if now - self._searching_since < self._settings.journal_gap_patience_seconds:
            self._complain(f"the own copy of the journal lacks entries {first} to {last}, which etcd does not keep any more and no server gives")
            return False
        aside = await file.set_aside("gap")
        await file.begin_at(anchor)
        await file.note(Gap(first, last, anchor.hash, self._clock.now(), aside))
        _LOG.error(
            "journal entries %d to %d were lost to this server: its copy goes on behind revision %d, hash %s; what came before is in %s",
            first,
            last,
            last,
            anchor.hash.hex(),
            aside,
        )
        return True

    async def _reach_back(self, others: Others) -> None:
        """Fetch what another server's file has before the beginning of this one, as far as it would be kept here."""
        file = self.file
        for copy in await others.holders() if file.anchor.revision else ():
            try:
                while copy.first <= file.anchor.revision <= copy.through and not await self._is_full():
                    first = max(copy.first, file.anchor.revision - COPY_ENTRIES + 1)
                    entries = await others.entries(copy.name, first, file.anchor.revision, newest=True)
                    if not entries:
                        break
                    await file.extend_back(entries)
            except HomeportError as error:
                _LOG.info("older entries of the journal did not come from %s: %s", copy.name, error)

    async def _is_full(self) -> bool:
        file, settings = self.file, self._settings
        oldest = await file.entries(file.anchor.revision + 1, 1)
        if oldest and instant_of(oldest[0]) < self._clock.now() - settings.journal_retention_seconds * FULL_PART:
            return True
        return bool(settings.journal_bytes_max) and await surplus(file, int(settings.journal_bytes_max * FULL_PART)) > file.anchor.revision

    # ----------------------------------------------------------------------------------------------------------- upkeep

    async def _prune(self) -> None:
        file, settings = self.file, self._settings
        before = self._clock.now() - settings.journal_retention_seconds
        through = await older_than(file, before)
        if settings.journal_bytes_max:
            through = max(through, await surplus(file, settings.journal_bytes_max))
        while through > file.anchor.revision and await file.prune_through(through, PRUNE_ENTRIES):
            pass
        await file.forget_gaps(before)

    async def _publish(self, copies: Copies) -> None:
        """Say how far the file is, if that is due."""
        file, now = self.file, self._clock.monotonic()
        stands = (file.anchor.revision, file.head.revision)
        if not self.met or now < self._publish_at - (REST_SECONDS - PUBLISH_SECONDS if stands != self._published else 0.0):
            return
        gaps = tuple(MissingPart(gap.first, gap.last, gap.hash.hex()) for gap in file.gaps())
        await copies.publish(Copy(self._backend.candidate.name, stands[0] + 1, stands[1], self._clock.now(), gaps))
        self._published, self._publish_at = stands, now + REST_SECONDS

    async def close(self) -> None:
        """Write what was offered and close the file."""
        try:
            if self.met:
                await asyncio.shield(self._write_offered())
        except HomeportError as error:
            _LOG.warning("the last entries were not written into the own copy of the journal; etcd has them: %s", error)
        await self.file.close()
