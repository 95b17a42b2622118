"""Keeps the journal at its age and size: removes entries past their retention, and the oldest when it grows too large.

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

PERIOD_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.5
"""Between two removals of `ENTRIES_A_TIME`, so that calls are not held up."""
ENTRIES_A_TIME: Final = 10_000

_log = log.logger("controllers.journal")


async def keep_journal(store: Store, clock: Clock, settings: Settings) -> None:
    """Run until cancelled: every minute, remove entries older than `settings.journal_retention_seconds` and beyond `settings.journal_bytes_max`."""
    within_size = -1  # the revision at which it was
    while True:
        try:
            removed = await store.prune_journal(before=clock.now() - settings.journal_retention_seconds)
            if settings.journal_bytes_max and removed < ENTRIES_A_TIME and store.revision != within_size:
                looked_at = store.revision
                removed = await store.prune_journal_to(settings.journal_bytes_max)
                within_size = looked_at if removed < ENTRIES_A_TIME else within_size
        except HomeportError as error:
            _log.warning("the journal could not be pruned and is tried again in a minute: %s", error)
            removed = 0
        await clock.sleep(PAUSE_SECONDS if removed >= ENTRIES_A_TIME else PERIOD_SECONDS)
