"""What runs on the leader alone: started when this server begins to lead, stopped when it ends.

Owns: `while_leading`. Never decides who leads: the store does, and refuses what a server that does not lead wants to change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

from homeport import log

_log: Final = log.logger("controllers")

Work = Callable[[], Sequence[Coroutine[Any, Any, None]]]
"""Makes what is to run, anew for each time of leading, so that nothing of an earlier time is believed."""


async def while_leading(leading: AsyncIterator[bool], work: Work) -> None:
    """Run `work` whenever `leading` last said True. Until `leading` ends or this is cancelled."""
    running: list[asyncio.Task[None]] = []
    try:
        async for leads in leading:
            if leads and not running:
                _log.info("this server leads")
                running = [asyncio.create_task(_logged(part)) for part in work()]
            elif not leads and running:
                _log.info("this server leads no more")
                await _end(running)
                running = []
    finally:
        await _end(running)


async def _logged(part: Coroutine[Any, Any, None]) -> None:
    try:
        await part
    except asyncio.CancelledError:
        raise
    except Exception:
        _log.exception("a part of the leader ended by itself")


async def _end(running: list[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
