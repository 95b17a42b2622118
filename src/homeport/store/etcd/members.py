"""Which servers there are: one key each in etcd, bound to a lease that the server renews as long as it lives.

Owns: `Server`, `Members`. Never decides anything from who is there: the dispatcher and the command line do. The keys lie beside the state, not in it,
so that no follower sees them come and go.
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeport.clock import Clock
from homeport.errors import EtcdRefusedError, EtcdUnavailableError
from homeport.log import logger
from homeport.store.etcd import messages
from homeport.store.etcd.client import EtcdClient, put
from homeport.store.etcd.layout import end_of

LEASE_SECONDS: Final = 5
"""How long a server that was killed is still listed."""
RENEWALS: Final = 3
"""Renewals in a lease's time."""

_LOG: Final = logger("store")


class Server(msgspec.Struct, frozen=True):
    """A server that runs."""

    name: str
    address: str
    """Where its API is reached by the others."""
    pid: int = 0
    host: str = ""
    """Name of its machine, so that somebody there can make sense of `pid`."""


class Members:
    """The servers of the installation under `prefix`."""

    def __init__(self, client: EtcdClient, prefix: str, *, clock: Clock) -> None:
        """`prefix` is that of the state, for example `/homeport/`; the members are under `/homeport-members/`."""
        self._client = client
        self._prefix = f"{prefix.rstrip('/')}-members/".encode()
        self._clock = clock
        self._lease = 0

    async def all(self) -> list[Server]:
        """Every server that lives, by name. Raises EtcdUnavailableError."""
        answer = await self._client.read(messages.RangeRequest(key=self._prefix, range_end=end_of(self._prefix)))
        found = []
        for kv in answer.kvs:
            try:
                found.append(msgspec.json.decode(kv.value, type=Server))
            except msgspec.MsgspecError:  # of a later program
                continue
        return sorted(found, key=lambda server: server.name)

    async def keep(self, server: Server) -> None:
        """Be listed as `server`, until cancelled."""
        while True:
            try:
                self._lease, seconds = await self._client.grant(LEASE_SECONDS)
                entry = put(self._prefix + server.name.encode(), msgspec.json.encode(server), self._lease)
                await self._client.txn(messages.TxnRequest(success=[entry]))
                await self._renew(seconds)
            except (EtcdUnavailableError, EtcdRefusedError) as error:
                _LOG.debug("this server is not listed at the moment: %s", error)
                await self._clock.sleep(LEASE_SECONDS / RENEWALS)

    async def _renew(self, seconds: int) -> None:
        """Return when the lease is gone."""
        pause = seconds / RENEWALS
        while True:
            await self._clock.sleep(pause)
            try:
                left = await self._client.keep_alive(self._lease, seconds=pause)
            except EtcdUnavailableError:
                continue
            if left <= 0:
                return

    async def leave(self) -> None:
        """Be listed no more, if etcd can be reached."""
        if self._lease:
            try:
                await self._client.revoke(self._lease)
            except (EtcdUnavailableError, EtcdRefusedError):
                return
