"""The audit log of one server: records in, each following the one before, on the disk within a second.

Owns: `Audit` (what the front door needs of one), `AuditLog`, `MemoryAudit`. Never decides what is worth a record, never reads one back.

`append` is cheap and does no IO: lines are gathered and written together by a thread. What cannot be written is kept, up to a bound, and written when
it can be; what goes beyond the bound is counted, and the count is recorded: nothing is lost without a word.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from homeport import log as program_log
from homeport.audit.record import BROKEN, LOST, MENDED, NO_HASH, SEGMENT, Record, digest, encode
from homeport.audit.segments import End, mend, name_of
from homeport.audit.writer import Batch, Writer
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError, ServiceUnavailableError

T = TypeVar("T")

FLUSH_SECONDS: Final = 0.25
"""How long lines are gathered before they are written; with a slow disk the next ones wait for those before."""
RETRY_SECONDS: Final = 1.0
"""Between two tries to write."""
ROOM_SECONDS: Final = 5.0
"""How long a call waits for room before it is refused."""
SEGMENT_SECONDS_MAX: Final = 86_400.0
"""At this age a segment is ended, so that retention by age can remove it."""
REFUSE: Final = "refuse"
SERVE: Final = "serve"
_log = program_log.logger("audit")


class AuditUnusableError(HomeportError):
    """The audit log cannot be opened."""


class Audit(Protocol):
    """Where records go."""

    life: str
    """What the ids of all requests of this server's life begin with."""

    @property
    def directory(self) -> Path | None:
        """Where the log lies, for those that read it; None for one that cannot be read back."""
        ...

    @property
    def admits(self) -> bool:
        """Whether there is room for another call's record."""
        ...

    async def room(self) -> None:
        """Return when there is. Raises ServiceUnavailableError when there is none in time."""
        ...

    def append(self, kind: str, **members: Any) -> int:
        """Note a record of `kind` with these members of `Record`; its number."""
        ...

    async def durable(self) -> None:
        """Return when everything noted so far is on the disk. Raises ServiceUnavailableError when it cannot be written."""
        ...


class MemoryAudit:
    """Records in a list: for simulations and tests, which ask for neither a disk nor a thread."""

    def __init__(self, clock: Clock, life: str = "") -> None:
        self.life = life
        self.records: list[Record] = []
        self._clock = clock
        self._hash = NO_HASH

    admits = True
    directory: Path | None = None

    async def room(self) -> None:
        """There is always some."""

    async def durable(self) -> None:
        """It never is, nor needs to be."""

    def append(self, kind: str, **members: Any) -> int:
        """As `Audit.append`."""
        record = Record(number=len(self.records) + 1, previous=self._hash, instant=self._clock.now(), kind=kind, **members)
        self._hash = digest(encode(record))
        self.records.append(record)
        return record.number


class AuditLog:
    """The log in a directory, which one server writes. `open` it before the first record, inside the running loop."""

    def __init__(self, directory: Path, *, clock: Clock, settings: Settings, life: str, facts: dict[str, Any]) -> None:
        """`life` is what this life's request ids begin with; `facts` of the server go into the first record of each segment."""
        self.directory = directory
        self.life = life
        self.head = End()
        """The last record that is on the disk."""
        self._clock = clock
        self._settings = settings
        self.facts = {"life": life, **facts}
        self._writer = Writer(directory)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._number, self._hash, self._instant = 0, NO_HASH, 0.0
        self._segment, self._segment_bytes, self._segment_began = "", 0, 0.0
        self._batches: list[Batch] = []
        self._pending_bytes = 0
        self._flusher: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._trouble = ""
        self._lost = 0
        self._closing = False

    def open(self) -> End:
        """Take up the log where it ends; what there was. Raises AuditUnusableError."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            end = mend(self.directory)
        except OSError as error:
            raise AuditUnusableError(f"the audit log in {self.directory} cannot be used: {error.strerror or error}") from None
        self._number, self._hash, self._instant = end.number, end.hash, end.instant
        self.head = end
        self._begin_segment({"unclean": True} if end.unclean else {})
        if end.torn_bytes:
            self.append(MENDED, facts={"bytes": end.torn_bytes})
        if end.problem:
            _log.error("the audit log does not hold: %s; it goes on in a new file", end.problem)
            self.append(BROKEN, facts={"problem": end.problem})
        return end

    # -- records ---------------------------------------------------------------------------------------------------------

    @property
    def admits(self) -> bool:
        """As `Audit.admits`."""
        settings = self._settings
        if self._trouble and settings.audit_write_failure == REFUSE:
            return False
        return self._pending_bytes < settings.audit_pending_bytes_max or settings.audit_write_failure == SERVE

    async def room(self) -> None:
        """As `Audit.room`."""
        deadline = self._clock.monotonic() + (0.0 if self._trouble else ROOM_SECONDS)
        while not self.admits:
            if self._clock.monotonic() >= deadline:
                why = f" ({self._trouble})" if self._trouble else ""
                raise ServiceUnavailableError(f"The audit log cannot be written{why}, and no call is served without a record. Try again.")
            await self._clock.sleep(FLUSH_SECONDS / 5)

    def append(self, kind: str, **members: Any) -> int:
        """As `Audit.append`."""
        if self._pending_bytes >= self._most:
            self._lost += 1
            return self._number
        if self._segment_bytes >= self._settings.audit_segment_bytes_max or self._clock.now() - self._segment_began >= SEGMENT_SECONDS_MAX:
            self._begin_segment()
        return self._add(kind, members)

    @property
    def _most(self) -> int:
        """What is kept at all: the records of calls that are being served when the bound is reached find room behind it."""
        return 2 * self._settings.audit_pending_bytes_max

    def _begin_segment(self, more: dict[str, Any] | None = None) -> None:
        self._segment, self._segment_bytes = name_of(self._number + 1), 0
        self._segment_began = self._clock.now()
        self._add(SEGMENT, {"facts": {**self.facts, **(more or {})}})

    def _add(self, kind: str, members: dict[str, Any]) -> int:
        number = self._number + 1
        instant = max(self._clock.now(), self._instant)
        line = encode(Record(number=number, previous=self._hash, instant=instant, kind=kind, **members))
        self._number, self._hash, self._instant = number, digest(line), instant
        size = len(line) + 1
        self._segment_bytes += size
        self._pending_bytes += size
        if not self._batches or self._batches[-1].segment != self._segment:
            self._batches.append(Batch(self._segment, []))
        self._batches[-1].lines.append(line + b"\n")
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush())
        return number

    # -- the disk --------------------------------------------------------------------------------------------------------

    async def durable(self) -> None:
        """As `Audit.durable`."""
        if self.head.number >= self._number:
            return
        if self._trouble:
            raise ServiceUnavailableError(f"The audit log cannot be written ({self._trouble}). Try again.")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._number, done))
        self._hurry()
        await done

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns, done by the thread that writes: never beside it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _hurry(self) -> None:
        if self._nap is not None:
            self._nap.cancel()

    async def _pause(self, seconds: float) -> None:
        if self._closing or self._waiting:
            return
        self._nap = asyncio.ensure_future(self._clock.sleep(seconds))
        await asyncio.wait((self._nap,))
        self._nap = None

    async def _flush(self) -> None:
        await self._pause(FLUSH_SECONDS)
        while self._batches:
            batches, self._batches = self._batches, []
            end = End(self._number, self._hash, self._instant)
            try:
                await self.in_thread(functools.partial(self._writer.write, batches))
            except OSError as error:
                self._failed(error.strerror or str(error), batches)
                if self._closing:
                    break
                await self._pause(RETRY_SECONDS)
                continue
            self._written(end)
            if self._batches:
                await self._pause(FLUSH_SECONDS)
        self._flusher = None

    def _written(self, end: End) -> None:
        self.head = end
        self._count_pending()
        ready = [done for number, done in self._waiting if number <= end.number]
        self._waiting = [item for item in self._waiting if item[0] > end.number]
        for done in ready:
            if not done.done():
                done.set_result(None)
        why, self._trouble = self._trouble, ""
        if why:
            _log.warning("the audit log can be written again")
        if self._lost:
            lost, self._lost = self._lost, 0
            self._add(LOST, {"facts": {"records": lost, "why": why or "the disk was too slow"}})

    def _count_pending(self) -> None:
        self._pending_bytes = sum(len(line) for batch in self._batches for line in batch.lines)

    def _failed(self, why: str, batches: list[Batch]) -> None:
        if not self._trouble:
            _log.error("the audit log cannot be written: %s", why)
        self._trouble = why
        if batches and self._batches and batches[-1].segment == self._batches[0].segment:
            self._batches[0].lines[:0] = batches.pop().lines
        self._batches[:0] = batches
        self._count_pending()
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            if not done.done():
                done.set_exception(ServiceUnavailableError(f"The audit log cannot be written ({why}). Try again."))

    async def close(self) -> None:
        """Write what is left, and let go of the files. What cannot be written is told to the program's log."""
        self._closing = True
        self._hurry()
        if self._flusher is not None:
            await self._flusher
        left = sum(len(batch.lines) for batch in self._batches) + self._lost
        if left:
            _log.error("the audit log ends without its last %d records, which could not be written: %s", left, self._trouble)
        await self.in_thread(self._writer.close)
        self._thread.shutdown()
