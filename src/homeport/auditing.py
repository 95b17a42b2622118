"""The audit log of a server, put together: its files, its key, and what a crash took from it told from the journal.

Owns: `open_audit`, `ServerAudit`. Never decides what a record holds (`api/audit.py`), never writes a file itself (`audit`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from homeport.api.call import Context
from homeport.api.cloudtrail.journal import record_of
from homeport.api.cloudtrail.lookup import answered
from homeport.api.cloudtrail.public_key import QUESTION as KEY_QUESTION
from homeport.audit.checkpoint import Signer
from homeport.audit.keeping import Keeper
from homeport.audit.log import AuditLog
from homeport.audit.record import RECOVERED, Record, decode
from homeport.audit.segments import DIRECTORY, End, lines_backwards, segments
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import JournalPrunedError, SerializationError, ServiceUnavailableError
from homeport.ids import Ids
from homeport.log import logger
from homeport.model.installation import Installation
from homeport.store.journal import Journal

if TYPE_CHECKING:  # it brings gRPC, which a server that is alone does without
    from homeport.servers import Fellowship

AUDIT_PATH: Final = "/homeport/audit"
"""Where servers ask each other for what their logs have."""
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
    installation: Installation


class Peers:
    """The audit logs of the other servers, see `api.call.Others`."""

    def __init__(self, fellowship: Fellowship) -> None:
        self._fellowship = fellowship

    async def names(self) -> list[str]:
        """Those that live. Raises EtcdUnavailableError."""
        return sorted(await self._fellowship.others())

    async def ask(self, question: bytes) -> list[tuple[str, bytes | None]]:
        """Each of them. Raises EtcdUnavailableError."""
        return await self.ask_each(dict.fromkeys(await self.names(), question))

    async def ask_each(self, questions: Mapping[str, bytes]) -> list[tuple[str, bytes | None]]:
        """Each with a question of its own. Raises EtcdUnavailableError."""
        addresses = await self._fellowship.others()

        async def asked(name: str, question: bytes) -> tuple[str, bytes | None]:
            return name, await self._fellowship.ask(addresses[name], AUDIT_PATH, question) if name in addresses else None

        return list(await asyncio.gather(*(asked(name, question) for name, question in questions.items())))


class ServerAudit:
    """The log of this life of a server, and who keeps it in order."""

    def __init__(self, log: AuditLog, keeper: Keeper) -> None:
        self.log = log
        self.keeper = keeper
        self._keeping = asyncio.create_task(keeper.run())

    async def __aenter__(self) -> ServerAudit:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def beside(self, context: Context, fellowship: Fellowship) -> Context:
        """The context of a server among others, which ask for this log, and whose logs its calls may ask for."""
        fellowship.internal[AUDIT_PATH] = self.answer
        return dataclasses.replace(context, others=Peers(fellowship))

    async def answer(self, question: bytes) -> bytes:
        """What another server asks of this log. Raises SerializationError for what is no question."""
        if question == KEY_QUESTION:
            return self.keeper.signer.pem
        with contextlib.suppress(ServiceUnavailableError):  # what is on the disk is told all the same
            await self.log.durable()
        try:
            return await asyncio.to_thread(answered, self.log.directory, question)
        except (msgspec.MsgspecError, ValueError) as error:
            raise SerializationError(str(error)) from None

    async def close(self) -> None:
        """The last record, a last checkpoint over it, and the files are closed."""
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self.keeper.finish()
        await self.log.close()


async def open_audit(place: Place, journal: Journal, *, clock: Clock, settings: Settings, ids: Ids) -> ServerAudit:
    """Take up the server's log for another life. Raises AuditUnusableError, CheckpointError."""
    facts: dict[str, Any] = {"server": place.server, "installation": place.installation.id, "region": place.installation.region}
    log = AuditLog(place.data_dir / DIRECTORY, clock=clock, settings=settings, life=ids.uuid()[:LIFE_CHARACTERS], facts=facts)
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
            record = record_of(entry)
            if record is None or not record.request_id.startswith(end.life) or record.request_id in known:
                continue
            told = missing.setdefault(record.request_id, _members(record))
            if told["facts"] is not record.facts:
                told["facts"]["records"] += (record.facts or {})["records"]
        if len(entries) < ENTRIES:
            break
        revision = entries[-1].revision + 1
    for members in missing.values():
        log.append(RECOVERED, **members)
    return len(missing)


def _members(record: Record) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(record).items() if name not in ("number", "previous", "instant", "kind")}


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
