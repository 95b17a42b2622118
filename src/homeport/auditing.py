"""The audit log of a server, put together: its files, its key, and what a crash took from it told from the journal.

Owns: `open_audit`, `ServerAudit`. Never decides what a record holds (`api/audit.py`), never writes a file itself (`audit`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from homeport.api.audit import READS
from homeport.api.protocol import model
from homeport.api.server import SERVICES
from homeport.audit.checkpoint import Signer
from homeport.audit.keeping import Keeper
from homeport.audit.log import AuditLog
from homeport.audit.record import RECOVERED, decode
from homeport.audit.segments import DIRECTORY, End, lines_backwards, segments
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import JournalPrunedError
from homeport.log import logger
from homeport.model import arn
from homeport.model.cause import REQUEST, Cause, parse_cause
from homeport.store.journal import Journal

OVERLAP_SECONDS: Final = 60.0
"""How long a call may take from its commit to its record."""
ENTRIES: Final = 1_000
ENTRIES_MAX: Final = 100_000
"""Journal entries that are looked through after a crash."""
LIFE_CHARACTERS: Final = 24
"""Of a request id: the rest counts the calls."""
_log = logger("audit")


class Place(NamedTuple):
    """Whose log it is."""

    data_dir: Path
    server: str
    installation: str


class ServerAudit:
    """The log of this life of a server, and who keeps it in order."""

    def __init__(self, log: AuditLog, keeper: Keeper) -> None:
        self.log = log
        self.keeper = keeper
        self._keeping = asyncio.create_task(keeper.run())

    async def close(self) -> None:
        """The last record, a last checkpoint over it, and the files are closed."""
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self.keeper.finish()
        await self.log.close()


async def open_audit(place: Place, journal: Journal, *, clock: Clock, settings: Settings, life: str) -> ServerAudit:
    """`life`: what the request ids of this life begin with. Raises AuditUnusableError, CheckpointError."""
    facts: dict[str, Any] = {"server": place.server, "installation": place.installation}
    log = AuditLog(place.data_dir / DIRECTORY, clock=clock, settings=settings, life=life, facts=facts)
    end = log.open()
    keeper = Keeper(log, Signer.open(place.data_dir, log.directory), clock=clock, settings=settings, journal=journal)
    await keeper.begin()
    if end.unclean and end.life:
        recovered = await recover(log, journal, end)
        if recovered:
            _log.warning("the records of %d changes were lost in a crash, and are told from the journal", recovered)
    return ServerAudit(log, keeper)


async def recover(log: AuditLog, journal: Journal, end: End) -> int:
    """Record the changes of the life that `end` is the end of which have no record of their own; how many."""
    since = end.instant - OVERLAP_SECONDS
    known = await asyncio.to_thread(_request_ids, log.directory, end, since)
    try:
        revision = await journal.revision_at(since) + 1
    except JournalPrunedError:
        return 0
    missing: dict[str, dict[str, Any]] = {}
    for _ in range(ENTRIES_MAX // ENTRIES):
        entries = await journal.entries(revision, ENTRIES)
        for entry in entries:
            cause = parse_cause(entry.cause)
            if cause.kind == REQUEST and cause.request_id.startswith(end.life) and cause.request_id not in known:
                told = missing.setdefault(cause.request_id, _members(cause, entry.instant, entry.revision))
                told["facts"]["records"] += [f"{change.kind} {change.table} {change.key}" for change in entry.changes]
        if len(entries) < ENTRIES:
            break
        revision = entries[-1].revision + 1
    for members in missing.values():
        log.append(RECOVERED, **members)
    return len(missing)


def _members(cause: Cause, instant: float, revision: int) -> dict[str, Any]:
    parsed = arn.parse_arn(cause.principal_arn)
    return {
        "service": next((service for service in SERVICES if cause.operation in model.load(service).operations), ""),
        "operation": cause.operation,
        "account": parsed.account if parsed is not None else "",
        "principal": cause.principal_arn,
        "request_id": cause.request_id,
        "read_only": cause.operation.startswith(READS),
        "status": 200,
        "facts": {"instant": instant, "revision": revision, "records": []},
    }


def _request_ids(directory: Path, end: End, since: float) -> set[str]:
    """Of the records up to `end` that are not older than `since`."""
    found: set[str] = set()
    for line in _backwards(directory, end.number):
        with contextlib.suppress(msgspec.MsgspecError):
            record = decode(line)
            if record.instant < since:
                break
            found.add(record.request_id)
    return found


def _backwards(directory: Path, number: int) -> Iterator[bytes]:
    for segment in reversed([item for item in segments(directory) if item.first <= number]):
        for _, line in lines_backwards(segment.path, segment.path.stat().st_size):
            yield line
