"""How far each server's own file of journal entries is, and what etcd need not keep any more because all of them have it.

Owns: `Copy`, `Copies`, `held_by_all`, and the leader's loop `keep_trimmed`. Never reads a file: each server says what its own has, durably.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError
from homeport.log import logger
from homeport.model.record import Instant
from homeport.store.etcd import messages
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.etcd.client import delete, put
from homeport.store.etcd.layout import end_of
from homeport.store.journal_size import older_than

LOOK_SECONDS: Final = 10.0
"""Between two looks of the leader."""
STEP_PART: Final = 10
"""Etcd is trimmed when it has a tenth more entries than should stay: a Txn for each few entries would cost more than they do."""
ENTRIES_A_TIME: Final = 10_000

_LOG: Final = logger("journal")


class MissingPart(msgspec.Struct, frozen=True):
    """Entries that a server does not have and found nowhere."""

    first: int
    last: int
    hash: str
    """Of entry `last`, in hexadecimal."""


class Copy(msgspec.Struct, frozen=True):
    """What a server has in its file: every entry from `first` up to `through`, on its disk."""

    name: str
    first: int
    through: int
    instant: Instant
    """When the server said so."""
    gaps: tuple[MissingPart, ...] = ()


class Copies:
    """What the servers say of their files."""

    def __init__(self, backend: EtcdBackend) -> None:
        self._client = backend.client
        self._prefix = backend.layout.copies

    async def all(self) -> list[Copy]:
        """Each server's, by name. Raises EtcdUnavailableError."""
        answer = await self._client.read(messages.RangeRequest(key=self._prefix, range_end=end_of(self._prefix)))
        found = []
        for kv in answer.kvs:
            try:
                found.append(msgspec.json.decode(kv.value, type=Copy))
            except msgspec.MsgspecError:  # of a later program
                continue
        return found

    async def publish(self, copy: Copy) -> None:
        """Say what this server has. Raises EtcdUnavailableError, EtcdRefusedError."""
        await self._client.txn(messages.TxnRequest(success=[put(self._prefix + copy.name.encode(), msgspec.json.encode(copy))]))

    async def forget(self, names: Iterable[str]) -> None:
        """Servers that are gone. Raises EtcdUnavailableError, EtcdRefusedError."""
        await self._client.txn(messages.TxnRequest(success=[delete(self._prefix + name.encode()) for name in names]))


def held_by_all(copies: Iterable[Copy], living: Iterable[str], *, since: Instant) -> int:
    """The revision up to which every server that counts has the entries; 0 when one of them does not say what it has.

    Those count that live and those that were seen after `since`.
    """
    lives = frozenset(living)
    told = {copy.name: copy.through for copy in copies if copy.name in lives or copy.instant >= since}
    known = told.keys() | lives
    return min((told.get(name, 0) for name in known), default=0)


def to_trim(*, anchor: int, head: int, held: int, keep: int) -> int:
    """The revision up to which etcd's entries (after `anchor`, up to `head`) go when `held` need not stay; the anchor when it is not worth it yet."""
    through = min(held, head - keep)
    return through if through - anchor >= max(1, keep // STEP_PART) else anchor


class Trimmer:
    """Trims etcd's entries, on the leader."""

    def __init__(
        self, backend: EtcdBackend, settings: Settings, *, living: Callable[[], Awaitable[frozenset[str]]], prune: Callable[[int], Awaitable[int]]
    ) -> None:
        """`living` tells which servers live; `prune` removes entries up to a revision, some thousand at a time, and returns how many."""
        self._backend = backend
        self._copies = Copies(backend)
        self._settings = settings
        self._living = living
        self._prune = prune

    async def run(self, clock: Clock) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look(clock.now())
            except HomeportError as error:
                _LOG.warning("etcd's journal could not be trimmed and is looked at again soon: %s", error)
            await clock.sleep(LOOK_SECONDS)

    async def look(self, now: Instant) -> int:
        """Trim what is due; the entries removed. Raises HomeportError when etcd does not do it.

        What is too old goes whoever lacks it, but not before this server has it.
        """
        since = now - self._settings.journal_member_seconds
        copies, living = await self._copies.all(), await self._living()
        gone = [copy.name for copy in copies if copy.instant < since and copy.name not in living]
        if gone:
            await self._copies.forget(gone)
        anchor, head = await self._backend.ends()
        held = held_by_all(copies, living, since=since)
        mine = next((copy.through for copy in copies if copy.name == self._backend.candidate.name), 0)
        if mine > held:
            held = max(held, min(mine, await older_than(self._backend, now - self._settings.journal_etcd_retention_seconds)))
        through = to_trim(anchor=anchor.revision, head=head.revision, held=held, keep=self._settings.journal_etcd_entries)
        removed = 0
        while through > anchor.revision + removed:
            some = await self._prune(through)
            if not some:
                break
            removed += some
        return removed
