"""How long to wait before something that failed is tried again.

Owns: the growth of the delay, its chance and its ceiling, and the nudge that ends all delays. Never decides whether to try again.
"""

from __future__ import annotations

import asyncio
from typing import Final

from homeport.agent.settings import AgentSettings
from homeport.clock import Clock
from homeport.ids import Ids

GROWTH: Final = 1.5
JITTER: Final = 0.2
"""Share of a delay that is left to chance, so that agents that failed together do not come back together."""


class Backoff:
    """Delays between the attempts of one agent: `settings.backoff_base_seconds`, then half as long again each time, up to the ceiling."""

    def __init__(self, settings: AgentSettings, *, clock: Clock, ids: Ids) -> None:
        self._base_seconds = settings.backoff_base_seconds
        self._max_seconds = settings.backoff_max_seconds
        self._clock = clock
        self._ids = ids
        self._nudged = asyncio.Event()

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (from 1)."""
        grown = self._base_seconds * GROWTH ** min(max(failures - 1, 0), 60)
        return min(grown, self._max_seconds) * self._ids.uniform(1 - JITTER, 1 + JITTER)

    def nudge(self) -> None:
        """Something got through: whoever waits tries now."""
        self._nudged.set()
        self._nudged = asyncio.Event()

    async def wait(self, failures: int, *, patient: bool = False) -> None:
        """Wait that long, or until the next nudge; when `patient`, a nudge changes nothing (the answer was a no, not silence)."""
        seconds = self.delay(failures)
        if patient:
            await self._clock.sleep(seconds)
            return
        loop = asyncio.get_running_loop()
        waits = {loop.create_task(self._clock.sleep(seconds)), loop.create_task(_until(self._nudged))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def _until(event: asyncio.Event) -> None:
    await event.wait()
