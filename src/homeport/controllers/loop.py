"""The only loop of the control plane: dirty keys and a period → activate(key) → commit → remember the last result.

Owns: `Loop`, the contract `Controller`, `Activation`, `ControllerStatus`. Never knows what a controller is for, never tells it what happened:
a controller is told which key to look at, re-reads, and decides from state. The next activation is the retry.

One watcher marks the keys that each commit's changes concern; a timer marks the keys whose `wake_at` has come, and every key once a sweep.
Marked keys are activated at once, each in a transaction of its own, many of them at a time, so that the store makes them durable together.
What the loop keeps in memory (marks and timers) is rebuilt by marking everything at start, and when the watch was lost.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec

from homeport.clock import Clock
from homeport.errors import HomeportError, WatchLostError
from homeport.model.record import Instant
from homeport.store.store import Store
from homeport.store.table import Change, Commit, Reader, Transaction

CONCURRENT_ACTIVATIONS_MAX: Final = 256
"""Activations whose transactions may wait for the disk together."""
BUSY_SECONDS: Final = 0.005
"""Activations that took longer than this together are followed by a pause, in which marks of one key come together."""
PAUSE_RATIO: Final = 1.0
"""That pause, as a multiple of the time they took: at most half of the event loop is for controllers."""
PAUSE_SECONDS_MAX: Final = 0.02
"""And its bound: a round over a thousand services takes many seconds, in which everything else had its turns already (`SLICE_SECONDS`)."""
SLICE_SECONDS: Final = 0.01
"""Activations that took longer than this since the event loop looked at sockets last are followed one by one, with a look after each."""
SWEEP_PAUSE_RATIO: Final = 15.0
"""The same for a sweep, which can wait: a sixteenth of the event loop, even if a sweep of a very large installation then takes longer."""
SWEPT_TOGETHER_MAX: Final = 8
"""Keys of a sweep that are activated before keys that changed get their turn again."""
STARTED_TOGETHER_MAX: Final = 8
"""Activations that run before the event loop looks at sockets again: of services with a thousand tasks each about 8 ms."""

_log = logging.getLogger("homeport.controllers")


class Activation(msgspec.Struct, frozen=True):
    """What an activation leaves for the loop to do."""

    wake_at: Instant = 0.0
    """Activate the same key again at this instant; 0.0: only when something changes, or at the sweep."""
    mark: tuple[tuple[str, str], ...] = ()
    """(controller's name, key) of keys that this activation found to be worth a look."""


class Controller(Protocol):
    """One concern. Its methods are plain functions; `activate` runs inside a transaction."""

    @property
    def name(self) -> str:
        """The word that stands in causes, logs and `mark`."""
        ...

    def keys_of(self, change: Change) -> Iterable[str]:
        """The keys that a record's change makes worth a look. Too many are harmless."""
        ...

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every key, for the sweep."""
        ...

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Bring `key` one step on. Must be safe to call at any time, for any key."""
        ...


class ControllerStatus(msgspec.Struct):
    """How a controller fares; `homeport status` and the tests read it."""

    name: str
    activations: int = 0
    errors: int = 0
    last_activation_at: Instant = 0.0
    last_key: str = ""
    last_error: str = ""
    """What the last failed activation raised, with its key; "" when the last activation of every key succeeded or none failed yet."""


class Loop:
    """Runs `controllers`. For one commit they are activated in the order given: put first what the others build on."""

    def __init__(self, *, store: Store, controllers: Sequence[Controller], clock: Clock, sweep_seconds: float) -> None:
        self._store = store
        self._controllers = {controller.name: controller for controller in controllers}
        self._clock = clock
        self._sweep_seconds = sweep_seconds
        self._status = {controller.name: ControllerStatus(controller.name) for controller in controllers}
        # Marked keys by controller, in the order they were marked; a dict is an ordered set. Those that only the sweep marked wait for the others.
        self._marked: dict[str, dict[str, None]] = {controller.name: {} for controller in controllers}
        self._swept: dict[tuple[str, str], None] = {}
        self._timers: list[tuple[Instant, str, str]] = []
        self._wake_at: dict[tuple[str, str], Instant] = {}
        self._work = asyncio.Event()
        self._timer_changed = asyncio.Event()
        self._room = asyncio.Semaphore(CONCURRENT_ACTIVATIONS_MAX)
        self._running: set[asyncio.Task[None]] = set()
        self._spent_seconds = 0.0
        self._swept_seconds = 0.0
        self._resting = False

    async def run(self) -> None:
        """Run until cancelled or until the store is closed."""
        helpers = [asyncio.create_task(self._keep_time()), asyncio.create_task(self._work_off())]
        following = asyncio.create_task(self._follow())
        try:
            done, _ = await asyncio.wait([following, *helpers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (following, *helpers, *self._running):
                task.cancel()

    def status(self) -> list[ControllerStatus]:
        """A copy of every controller's last results."""
        return [msgspec.structs.replace(status) for status in self._status.values()]

    @property
    def idle(self) -> bool:
        """Whether no key is marked and no activation is under way (timers may be pending)."""
        return not self._running and not self._swept and not any(self._marked.values())

    @property
    def next_wake_at(self) -> Instant:
        """The first instant at which a key is to be activated without anything having changed; 0.0: none is."""
        return min(self._wake_at.values(), default=0.0)

    def mark(self, name: str, key: str) -> None:
        """Have `key` of the controller `name` activated soon; an unknown controller is no error, since it may not be part of this server."""
        marked = self._marked.get(name)
        if marked is not None:
            marked[key] = None
            self._work.set()

    async def _follow(self) -> None:
        while True:
            watch = self._store.watch()
            try:
                await self._mark_all()
                async for commit in watch:
                    self._mark_commit(commit)
                return
            except WatchLostError:
                _log.warning("the controllers fell behind the store; looking at every key")
            finally:
                watch.close()

    def _mark_commit(self, commit: Commit) -> None:
        for change in commit.changes:
            for name, controller in self._controllers.items():
                for key in controller.keys_of(change):
                    self.mark(name, key)

    async def _mark_all(self) -> None:
        def every_key(reader: Reader) -> list[tuple[str, list[str]]]:
            return [(name, list(controller.keys(reader))) for name, controller in self._controllers.items()]

        # Of this server's copy: activations read again. Whether etcd confirms it in time must not end the loop.
        for name, keys in await self._store.view_local(every_key):
            self._swept.update(dict.fromkeys((name, key) for key in keys))
        self._work.set()

    async def _keep_time(self) -> None:
        # The sweep goes by the monotonic clock: a wall clock that is set back delays timers, but never the sweep, which makes up for them.
        next_sweep = self._clock.monotonic() + self._sweep_seconds
        while True:
            wait_seconds = next_sweep - self._clock.monotonic()
            if wait_seconds <= 0:
                await self._mark_all()
                next_sweep = self._clock.monotonic() + self._sweep_seconds
                continue
            now = self._clock.now()
            self._mark_due(now)
            if self._timers:
                wait_seconds = min(wait_seconds, self._timers[0][0] - now)
            self._timer_changed.clear()
            await self._sleep_or_change(wait_seconds)

    def _mark_due(self, now: Instant) -> None:
        while self._timers and self._timers[0][0] <= now:
            at, name, key = heapq.heappop(self._timers)
            # An activation since then may have asked for another instant; only the newest wish counts.
            if self._wake_at.get((name, key)) == at:
                del self._wake_at[name, key]
                self.mark(name, key)

    async def _sleep_or_change(self, seconds: float) -> None:
        waits = {asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._timer_changed.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _set_timer(self, name: str, key: str, at: Instant) -> None:
        if not at:
            self._wake_at.pop((name, key), None)
            return
        if self._wake_at.get((name, key)) == at:
            return
        self._wake_at[name, key] = at
        heapq.heappush(self._timers, (at, name, key))
        if self._timers[0] == (at, name, key):
            self._timer_changed.set()

    async def _work_off(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            spent, self._spent_seconds = self._spent_seconds, 0.0
            if spent > BUSY_SECONDS:  # never on a virtual clock, where work takes no time
                await self._clock.sleep(min(spent * PAUSE_RATIO, PAUSE_SECONDS_MAX))
            await self._work_off_marked()
            if self._swept and not self._resting:
                await self._sweep()

    async def _sweep(self) -> None:
        """Activate some of the swept keys. What changed meanwhile comes before the next ones."""
        for name, key in list(itertools.islice(self._swept, SWEPT_TOGETHER_MAX)):
            del self._swept[name, key]
            await self._start(name, key, swept=True)
        await self._breathe()
        spent, self._swept_seconds = self._swept_seconds, 0.0
        if spent <= BUSY_SECONDS:
            self._work.set()
            return
        self._resting = True
        rest = asyncio.create_task(self._rest(spent * SWEEP_PAUSE_RATIO))
        self._running.add(rest)
        rest.add_done_callback(self._running.discard)

    async def _rest(self, seconds: float) -> None:
        """Hold the sweep up, and nothing else."""
        await self._clock.sleep(seconds)
        self._resting = False
        self._work.set()

    async def _work_off_marked(self) -> None:
        for name in self._controllers:
            marked, self._marked[name] = self._marked[name], {}
            started, together = 0, STARTED_TOGETHER_MAX
            for key in marked:
                self._swept.pop((name, key), None)
                await self._start(name, key)
                started += 1
                if started >= together:
                    before = self._spent_seconds
                    await self._breathe()
                    # Activations that start tasks take ten times as long as those that find nothing to do.
                    together = 1 if self._spent_seconds - before > SLICE_SECONDS * started / STARTED_TOGETHER_MAX else STARTED_TOGETHER_MAX
                    started = 0

    async def _start(self, name: str, key: str, *, swept: bool = False) -> None:
        await self._room.acquire()
        # Tasks start in the order they are made, so the transactions run in the order of marking.
        task = asyncio.create_task(self._activate(name, key, swept=swept))
        self._running.add(task)
        task.add_done_callback(self._finished)

    async def _breathe(self) -> None:
        """Let the activations that were started, and whatever else waits, have the event loop."""
        await self._clock.sleep(0)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._room.release()

    async def _activate(self, name: str, key: str, *, swept: bool) -> None:
        try:
            await self._store.update(self._activation(name, key, swept=swept), cause=f"controller/{name} {key}")
        except Exception as error:
            status = self._status[name]
            status.errors += 1
            status.last_error = f"{key}: {error}"
            # The sweep is the retry: nothing is retried here, so that a key that always fails costs one activation a period.
            passes = isinstance(error, HomeportError) and error.temporary
            level = logging.WARNING if passes else logging.ERROR
            _log.log(level, "controller/%s could not bring %s on: %s", name, key, error, exc_info=None if passes else error)

    def _activation(self, name: str, key: str, *, swept: bool) -> Callable[[Transaction], None]:
        controller, status = self._controllers[name], self._status[name]

        def activate(tx: Transaction) -> None:
            began = self._clock.monotonic()
            status.activations += 1
            status.last_activation_at, status.last_key = tx.now, key
            result = controller.activate(tx, key)
            self._set_timer(name, key, result.wake_at)
            for other, its_key in result.mark:
                self.mark(other, its_key)
            spent = self._clock.monotonic() - began
            if swept:
                self._swept_seconds += spent
            else:
                self._spent_seconds += spent

        return activate
