"""A clock whose time is a number: it moves when a test says so, or jumps to the next deadline when nothing else can happen.

Owns: `VirtualClock`, the other implementation of `clock.Clock`. Never sleeps for real and never reads the machine's time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Any, Final

START: Final = 1_700_000_000.0
"""Where a virtual clock starts unless told otherwise: an instant of 2023, so that it looks like one."""
TURNS_MAX: Final = 100_000
"""Turns of the event loop that `settle` waits at most; more means that something runs in circles."""


class VirtualClock:
    """Wall and monotonic time in one number of seconds.

    It goes with programs whose only waits are the clock's sleeps and each other: a wait for a socket or a thread looks like "nothing else can
    happen" to it.
    """

    def __init__(self, start: float = START) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Seconds since the epoch, as far as this clock is concerned."""
        return self._now

    def monotonic(self) -> float:
        """The same number; it never runs backwards either."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved by `seconds`; for zero or less after one turn of the event loop."""
        if seconds <= 0:
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the event loop, no time
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        await future

    @property
    def next_deadline(self) -> float | None:
        """When the first sleeper wakes, or None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def settle(self) -> None:
        """Let every coroutine that can run do so, until all of them wait."""
        loop: Any = asyncio.get_running_loop()
        for _ in range(TURNS_MAX):
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the event loop, no time
            # The loop's queue of ready callbacks has no public name. Empty while this one runs means that nothing else can run.
            if not loop._ready:
                return
        raise RuntimeError(f"the programs did not come to rest in {TURNS_MAX} turns")

    async def jump(self) -> bool:
        """Settle, then move to the next deadline, wake who waits for it, and settle. False when nobody sleeps."""
        await self.settle()
        deadline = self.next_deadline
        if deadline is None:
            return False
        self._now = max(self._now, deadline)
        while (following := self.next_deadline) is not None and following <= self._now:
            heapq.heappop(self._sleepers)[2].set_result(None)
        await self.settle()
        return True

    async def advance(self, seconds: float) -> None:
        """Move by `seconds`, deadline by deadline, settling at each."""
        until = self._now + seconds
        await self.settle()
        while (deadline := self.next_deadline) is not None and deadline <= until:
            await self.jump()
        self._now = until
        await self.settle()

    async def run(self) -> None:
        """Jump whenever nothing else can happen, until cancelled: for programs that run on their own."""
        while True:
            if not await self.jump():
                await asyncio.sleep(0)  # noqa: TID251 - a turn of the event loop, no time
