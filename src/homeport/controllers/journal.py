"""Keeps the journal at its age: removes entries past their retention, hour by hour.

Owns: when the journal is pruned. Never touches a record; `store.journal` keeps the chain's anchor. It is no controller of the loop, since the
journal has no keys and its removal is no transaction.
"""

from __future__ import annotations

from typing import Final

from homeport import log
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError
from homeport.store.store import Store

PERIOD_SECONDS: Final = 3_600.0
PAUSE_SECONDS: Final = 0.5
"""Between two removals of `ENTRIES_A_TIME`, so that calls are not held up."""
ENTRIES_A_TIME: Final = 10_000

_log = log.logger("controllers.journal")


async def keep_journal(store: Store, clock: Clock, settings: Settings) -> None:
    """Run until cancelled: every hour, remove the entries that are older than `settings.journal_retention_seconds`."""
    while True:
        try:
            removed = await store.prune_journal(before=clock.now() - settings.journal_retention_seconds)
        except HomeportError as error:
            _log.warning("the journal could not be pruned and is tried again in an hour: %s", error)
            removed = 0
        await clock.sleep(PAUSE_SECONDS if removed >= ENTRIES_A_TIME else PERIOD_SECONDS)
