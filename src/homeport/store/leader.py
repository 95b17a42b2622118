"""Who leads: one key in etcd, bound to a lease, that at most one server holds.

Owns: `Leader`, `Leadership`, the lease's renewal. Never decides what a leader does.

The key's create revision is the number of a leadership: every Txn of a leader compares it, so that one that was deposed changes nothing, however
late its calls arrive. Being late with a renewal therefore costs nothing but time: a leadership ends when etcd says so, not when a clock does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import msgspec

from homeport.clock import Clock
from homeport.errors import EtcdRefusedError, EtcdUnavailableError
from homeport.store.etcd import messages
from homeport.store.etcd.client import RETRY_SECONDS, EtcdClient, delete, equal, get, put
from homeport.store.etcd.feed import Feed

LEASE_SECONDS: Final = 3
"""Time to live of a leader's lease: how long after a leader's death another may lead. (etcd's own new leader gives every lease its whole time
anew: see `Fellowship._watch_leader`.)"""
RENEWALS: Final = 6
"""Renewals in a time to live: so many that a leader that was held up loses little of it to the pause between two."""
RENEWAL_SECONDS: Final = 1.0
"""How long a member may take for one. A silent one leaves time for the next member."""
POLL_SECONDS: Final = 0.5
"""How often a waiting server looks at the key, beside watching it: a watch at a silent member tells nothing."""


class Leader(msgspec.Struct, frozen=True):
    """The value of the leader key."""

    name: str
    address: str = ""
    """Where its API is reached by other servers."""


def decode_leader(value: bytes) -> Leader:
    """The leader that a value names; one without a name when it cannot be read."""
    try:
        return msgspec.json.decode(value, type=Leader)
    except msgspec.MsgspecError:
        return Leader("")


class Leadership:
    """This server leads, until `lost` is set."""

    def __init__(self, client: EtcdClient, key: bytes, *, lease: int, seconds: float, create_revision: int) -> None:
        """Use `acquire`."""
        self._client = client
        self.key = key
        self.lease = lease
        self.create_revision = create_revision
        """The number of this leadership; a later one has a greater number."""
        self.lost = asyncio.Event()
        self._renewing = asyncio.create_task(self._renew(seconds), name="leader-lease")

    async def _renew(self, seconds: float) -> None:
        pause = seconds / RENEWALS
        while True:
            await self._client.clock.sleep(pause)
            pause = seconds / RENEWALS
            try:
                left = await self._client.keep_alive(self.lease, seconds=RENEWAL_SECONDS)
            except EtcdUnavailableError:
                pause = RETRY_SECONDS
                continue
            except EtcdRefusedError:
                left = 0
            if left <= 0:
                self.lost.set()
                return

    async def resign(self) -> None:
        """Let another server lead at once, if etcd can be reached; else when the lease ends. Sets `lost`."""
        self.lost.set()
        self._renewing.cancel()
        await asyncio.wait((self._renewing,))
        compare = [equal(self.key, create_revision=self.create_revision)]
        with suppress(EtcdUnavailableError, EtcdRefusedError):
            await self._client.txn(messages.TxnRequest(compare=compare, success=[delete(self.key)]))
            await self._client.revoke(self.lease)


class Election:
    """A key that servers compete for."""

    def __init__(self, client: EtcdClient, key: bytes, *, clock: Clock, lease_seconds: int = LEASE_SECONDS) -> None:
        self._client = client
        self._key = key
        self._clock = clock
        self._lease_seconds = lease_seconds

    async def leader(self) -> Leader | None:
        """Who leads. Raises EtcdUnavailableError when nobody can tell."""
        answer = await self._client.read(messages.RangeRequest(key=self._key))
        return decode_leader(answer.kvs[0].value) if answer.kvs else None

    async def attempt(self, candidate: Leader) -> Leadership | None:
        """Lead, if nobody does; None when somebody does.

        Raises EtcdUnavailableError when that cannot be told now, and EtcdRefusedError. The lease of an attempt whose outcome is unknown is
        not renewed, so that a key that it made goes away by itself.
        """
        answer = await self._client.read(messages.RangeRequest(key=self._key))
        if answer.kvs:
            return None
        lease, seconds = await self._client.grant(self._lease_seconds)
        value = msgspec.json.encode(candidate)
        request = messages.TxnRequest(compare=[equal(self._key, create_revision=0)], success=[put(self._key, value, lease)], failure=[get(self._key)])
        answer = await self._client.read(request, name="Txn", patience=seconds / 2)
        if answer.succeeded:
            created = answer.header.revision
        else:
            found = answer.responses[0].response_range.kvs
            if not found or found[0].lease != lease:  # somebody else was faster (or was, and went)
                with suppress(EtcdUnavailableError, EtcdRefusedError):
                    await self._client.revoke(lease)
                return None
            created = found[0].create_revision  # an earlier try of this Txn did it
        return Leadership(self._client, self._key, lease=lease, seconds=seconds, create_revision=created)

    async def depose(self, leader: Leader) -> bool:
        """Take the leader key from `leader`, so that nobody waits for its lease: for those who know that it is gone. True when that was done.

        Being wrong costs an election and nothing else: who is deposed notices at its next Txn. Raises as `attempt`.
        """
        answer = await self._client.read(messages.RangeRequest(key=self._key))
        if not answer.kvs or decode_leader(answer.kvs[0].value) != leader:
            return False
        compare = [equal(self._key, create_revision=answer.kvs[0].create_revision)]
        return bool((await self._client.txn(messages.TxnRequest(compare=compare, success=[delete(self._key)]))).succeeded)

    async def acquire(self, candidate: Leader) -> Leadership:
        """Lead, as soon as nobody else does. Waits for ever, and through any trouble with etcd but a refusal (EtcdRefusedError)."""
        while True:
            try:
                leadership = await self.attempt(candidate)
                if leadership is not None:
                    return leadership
                await self._gone()
            except EtcdUnavailableError:
                await self._clock.sleep(RETRY_SECONDS)

    async def _gone(self) -> None:
        """Return when there is no leader key, or may be none. Raises EtcdUnavailableError."""
        answer = await self._client.read(messages.RangeRequest(key=self._key))
        if not answer.kvs:
            return
        feed = Feed(self._client, self._key, b"", start=answer.header.revision + 1)
        watching = asyncio.create_task(self._deleted(feed))
        try:
            while answer.kvs and not watching.done():
                polling = asyncio.create_task(self._clock.sleep(POLL_SECONDS))
                try:
                    await asyncio.wait((watching, polling), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    polling.cancel()
                if not watching.done():
                    answer = await self._client.read(messages.RangeRequest(key=self._key))
        finally:
            feed.close()
            watching.cancel()
            await asyncio.wait((watching,))
            if not watching.cancelled():
                watching.exception()  # compacted or refused: the caller looks at the key again anyway

    async def _deleted(self, feed: Feed) -> None:
        while True:
            if any(event.type == messages.DELETE for event in await feed.events()):
                return
