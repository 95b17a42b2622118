"""The one clock.

Owns: every reading of time and every sleep. Never decides anything.
No other module of this package may import `time` or sleep through `asyncio`; pure code receives `now` as data.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the programs need of time. `virtual_clock.VirtualClock` is the other implementation."""

    def now(self) -> float:
        """Wall clock: seconds since 1970-01-01T00:00:00Z, with fraction."""
        ...

    def monotonic(self) -> float:
        """Seconds since an unknown start; never runs backwards. For leases, liveness and timeouts."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` (at once if it is zero or less)."""
        ...


class SystemClock:
    """The machine's clocks and the running event loop's sleep."""

    def now(self) -> float:
        """Wall clock, seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Monotonic clock, seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(max(0.0, seconds))

    def sleep_blocking(self, seconds: float) -> None:
        """Sleep in a program that has no event loop (the command line)."""
        time.sleep(max(0.0, seconds))
