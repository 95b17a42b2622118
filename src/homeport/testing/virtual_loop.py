"""An event loop on which time is a number: when nothing can run, it jumps to the next deadline. And what runs on it: processes that can be killed.

Owns: `VirtualLoop`, `Process`, `ProcessClock`, `Chance`.
Never sleeps, never opens a socket, never starts a thread.

Everything that a simulation does happens in one thread, in one order, so that the same seed gives the same run. `virtual_clock.VirtualClock` is the
other virtual clock: it moves when a test says so, on an ordinary loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextvars import Context, ContextVar
from typing import Any, Final, TypeVar

from homeport.ids import Ids
from homeport.virtual_clock import START

T = TypeVar("T")

KILL_ROUNDS_MAX: Final = 20
"""Turns of the loop in which a killed process's work must be gone."""

_running_process: ContextVar[Process | None] = ContextVar("process", default=None)


TURNS_MAX: Final = 20_000
"""Turns of the loop within a microsecond of virtual time; more means that something runs in circles."""


class LivelockError(Exception):
    """Something is always ready to run, and time stands still."""


class NothingLeftToDoError(Exception):
    """Every coroutine waits and no deadline will ever come."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. Time starts at 0.0 seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._turns = 0
        self._turned = 0.0
        # A real loop runs timers up to its clock's resolution early. Here that would be a turn in which no time passes.
        self._clock_resolution = 0.0
        self._paused: dict[Process, _Held] = {}
        self._selector = self  # the loop asks its selector to wait for its sockets; there are none here, so waiting is all of it
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Called by the loop with the time to its next deadline, when nothing else can run before it."""
        if timeout is None:
            raise NothingLeftToDoError
        self._turns += 1
        if self._now >= self._turned + 1e-6:
            self._turns, self._turned = 0, self._now
        elif self._turns > TURNS_MAX:
            handles: Iterable[asyncio.Handle] = (*getattr(self, "_ready"), *getattr(self, "_scheduled")[:3])  # noqa: B009
            raise LivelockError(f"time stands still at {self._now!r}; next to run: {[repr(handle)[:300] for handle in handles][:10]}")
        # The loop's own queues have no public names. It runs what lies before now, not at now.
        ready: deque[asyncio.Handle] = getattr(self, "_ready")  # noqa: B009
        scheduled: list[asyncio.TimerHandle] = getattr(self, "_scheduled")  # noqa: B009
        if not ready and scheduled:
            self._now = max(self._now, math.nextafter(scheduled[0].when(), math.inf))
        return []

    # -- processes that stand still --------------------------------------------------------------------------------------

    def pause(self, process: Process) -> None:
        """SIGSTOP: nothing of `process` runs until `wake`; what happens to it meanwhile waits. To be called from outside of it."""
        if process in self._paused or process.dead:
            return
        process.paused = True
        ready: deque[asyncio.Handle] = getattr(self, "_ready")  # noqa: B009
        scheduled: list[asyncio.TimerHandle] = getattr(self, "_scheduled")  # noqa: B009
        held = self._paused[process] = _Held([item for item in ready if _is_of(item, process)], [item for item in scheduled if _is_of(item, process)])
        others, later = [item for item in ready if not _is_of(item, process)], [item for item in scheduled if not _is_of(item, process)]
        ready.clear()
        ready.extend(others)
        scheduled[:] = later
        heapq.heapify(scheduled)
        for timer in held.timers:
            timer._scheduled = False  # type: ignore[attr-defined]  # so that the loop does not count it when it is cancelled
        self._call_soon = self._call_soon_or_hold

    def wake(self, process: Process) -> None:
        """SIGCONT: everything that waited is due."""
        held = self._paused.pop(process, None)
        if held is None:
            return
        process.paused = False
        ready: deque[asyncio.Handle] = getattr(self, "_ready")  # noqa: B009
        scheduled: list[asyncio.TimerHandle] = getattr(self, "_scheduled")  # noqa: B009
        ready.extend(held.ready)
        for timer in held.timers:
            if not timer.cancelled():
                timer._scheduled = True  # type: ignore[attr-defined]
                heapq.heappush(scheduled, timer)
        if not self._paused:
            del self._call_soon

    def wake_all(self) -> None:
        """Wake whatever stands still."""
        for process in tuple(self._paused):
            self.wake(process)

    def _call_soon_or_hold(self, callback: Any, args: Any, context: Context | None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        held = next((held for process, held in self._paused.items() if _is_of(handle, process)), None)
        ready: Any = getattr(self, "_ready") if held is None else held.ready  # noqa: B009
        ready.append(handle)
        return handle

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Called to wake a select that waits; this one never does."""


class _Held:
    """What a process that stands still would do."""

    def __init__(self, ready: list[asyncio.Handle], timers: list[asyncio.TimerHandle]) -> None:
        self.ready = ready
        self.timers = timers


def _is_of(handle: asyncio.Handle, process: Process) -> bool:
    context: Context = getattr(handle, "_context")  # noqa: B009
    return context.get(_running_process) is process


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    context: Context | None = options.get("context")
    process = _running_process.get() if context is None else context.get(_running_process)
    if process is not None:
        process.adopt(task)
    return task


class Process:
    """Coroutines that live and die together, as a program's do. What one of them starts belongs to the same process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        """Whether it stands still; `VirtualLoop.pause` says so."""
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Called for every task that the process starts."""
        if self.dead:
            task.cancel()
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """What is started inside belongs to this process."""
        token = _running_process.set(self)
        try:
            yield
        finally:
            _running_process.reset(token)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in this process."""
        with self.running():
            return asyncio.get_running_loop().create_task(work)

    async def kill(self) -> None:
        """End everything where it stands. Whoever kills must also see to it that nothing which still unwinds has an effect outside."""
        self.dead = True
        for _ in range(KILL_ROUNDS_MAX):
            if not self._tasks:
                return
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the event loop, no time
        raise RuntimeError(f"{self.name} does not die: {list(self._tasks)}")


def current_process() -> Process | None:
    """The process whose code runs now; None for the simulation itself."""
    return _running_process.get()


class ProcessClock:
    """A machine's clocks. `offset` is how far its wall clock is from the true time; a simulation changes it."""

    def __init__(self, loop: VirtualLoop, *, start: float = START) -> None:
        self._loop = loop
        self._start = start
        self.offset = 0.0

    def now(self) -> float:
        """Wall clock, seconds since the epoch."""
        return self._start + self._loop.time() + self.offset

    def monotonic(self) -> float:
        """Seconds since the simulation began."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Return when virtual time has moved so far."""
        await asyncio.sleep(max(0.0, seconds))  # noqa: TID251 - virtual time: this is a clock


class Chance:
    """Seeded dice. A child per purpose keeps one more throw in one place from changing the others."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids

    def child(self, purpose: str) -> Chance:
        """Dice of their own for `purpose`."""
        return Chance(self.ids.child(purpose))

    def happens(self, probability: float) -> bool:
        """True with that probability."""
        return probability > 0 and self.ids.uniform(0.0, 1.0) < probability

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`, each as likely."""
        return self.ids.uniform(low, high)

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + self.ids.choice(high - low + 1)

    def wait(self, mean: float) -> float:
        """Seconds to the next of events that come every `mean` seconds on average, at most five times that."""
        return min(5 * mean, -mean * math.log(1.0 - self.ids.uniform(0.0, 0.999)))

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[self.ids.choice(len(choices))]
