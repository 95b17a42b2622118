"""One server among several: what it has beside a server that is alone.

Owns: `Fellowship`: its membership, what it asks of the leader, what it answers to the others. Never decides who leads: the store does.
Import it only where etcd is used, as `store.etcd`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from homeport.api.forward import PATIENCE_SECONDS, PAUSE_SECONDS, Forwarder
from homeport.api.server import Internal
from homeport.dispatcher.command import Command, carry_out, request_of, result_of
from homeport.dispatcher.departed import end_departed
from homeport.errors import HomeportError, LeadershipLostError, NotLeaderError, ServiceUnavailableError
from homeport.iam import sigv4
from homeport.log import logger
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.etcd.members import Members, Server
from homeport.store.etcd.room import keep_room
from homeport.store.replica import Replica

COMMAND_PATH: Final = "/homeport/command"
SERVERS_PATH: Final = "/homeport/servers"
LOOK_SECONDS: Final = 2.0
"""How long another server may take to tell its revision."""
RESIGN_SECONDS_MAX: Final = 5.0
"""How long a stopping server tries to resign; without etcd its lease ends by itself."""


_log: Final = logger("servers")


class Fellowship:
    """This server among the others. Make it inside the running loop; `start` and `close` it."""

    def __init__(
        self, replica: Replica, backend: EtcdBackend, *, keys: sigv4.Credentials, own_etcd: bool, http: aiohttp.ClientSession | None = None
    ) -> None:
        """`keys` is the root's, with which servers know each other; `own_etcd` says that etcd is Homeport's alone, to be kept in order by it.

        `http` is the way to the other servers, see `Forwarder`.
        """
        self._client = backend.client
        self._own_etcd = own_etcd
        self._replica = replica
        self._clock = clock = backend.clock
        self._keys = keys
        me = backend.candidate
        self._me = Server(me.name, me.address, os.getpid(), os.uname().nodename)
        self._members = Members(backend.client, backend.layout.prefix.decode(), clock=clock)
        self._keeping: asyncio.Task[None] | None = None
        self.forwarder = Forwarder(name=me.name, clock=clock, leader=self._leader_address, gone=self._depose, http=http)
        self.internal: dict[str, Internal] = {COMMAND_PATH: self._carry_out, SERVERS_PATH: self._tell_servers}

    def start(self) -> None:
        """Be listed among the servers."""
        self._keeping = asyncio.create_task(self._members.keep(self._me))

    async def close(self) -> None:
        """Be listed no more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            await self._members.leave()
        await self.forwarder.close()

    async def resign(self) -> None:
        """Let another server lead, so that what this one still does finds a leader."""
        try:
            await asyncio.wait_for(self._replica.resign(), RESIGN_SECONDS_MAX)
        except TimeoutError:
            return

    async def leading(self) -> AsyncIterator[bool]:
        """Whether this server leads, and again whenever that changes."""
        async for role in self._replica.roles():
            yield role.leading

    def leader_work(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What only a leader among several does."""
        departed = end_departed(self._replica, self._names, self._clock)
        return departed, keep_room(self._client, self._clock, ours=self._own_etcd)

    def health(self) -> dict[str, Any]:
        """Members of the answer of /health."""
        leader = self._replica.role.leader
        return {"server": self._me.name, "leader": leader.name if leader else ""}

    def _leader_address(self) -> str:
        leader = self._replica.role.leader
        return leader.address if leader else ""

    async def _depose(self, address: str) -> None:
        """The leader's address refuses connections. To be wrong costs an election."""
        leader = self._replica.role.leader
        if leader is None or leader.address != address or leader.name == self._me.name:
            return
        _log.warning("%s does not listen at %s any more; another server is to lead", leader.name, address)
        try:
            await self._replica.depose(leader)
        except HomeportError as error:
            _log.info("its leadership ends with its lease: %s", error)

    async def _names(self) -> frozenset[str]:
        return frozenset(server.name for server in await self._members.all())

    # -- commands of the dispatcher --------------------------------------------------------------------------------------

    async def commit(self, command: Command) -> Any:
        """Carry `command` out, here or on the leader.

        Raises SessionRefusedError, and ServiceUnavailableError when no leader took it in time.
        """
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._replica.update(command.apply, cause=command.cause)
            except NotLeaderError as error:
                leader = error.leader
            except LeadershipLostError:  # it may have been done, and may be done again
                leader = ""
            answer = await self._ask(leader, request_of(command), deadline) if leader else None
            if answer is not None:
                return result_of(answer)
            if self._clock.monotonic() >= deadline:
                raise ServiceUnavailableError("no leader took the change in time")
            await self._clock.sleep(PAUSE_SECONDS)

    async def _ask(self, leader: str, body: bytes, deadline: float) -> bytes | None:
        headers, give_up = self._signed(leader, COMMAND_PATH, body), self.forwarder.impatience(leader, deadline)
        try:
            status, _, answer = await self.forwarder.post(leader, COMMAND_PATH, headers=headers, body=body, give_up=give_up)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ConnectionRefusedError):
                await self.forwarder.refused(leader)
            return None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return answer if status == 200 else None

    def _signed(self, server: str, path: str, body: bytes) -> dict[str, str]:
        host = urlsplit(server).netloc
        request = sigv4.Request("POST", path.encode(), b"", {b"host": host.encode()}, hashlib.sha256(body).hexdigest())
        return {"Host": host, **sigv4.sign(request, self._keys, self._clock.now())}

    async def _carry_out(self, body: bytes) -> bytes:
        return await carry_out(self._replica, body)

    # -- who there is ----------------------------------------------------------------------------------------------------

    async def _tell_servers(self, body: bytes) -> bytes:
        """Every server with its revision and how far it is behind the leader; JSON."""
        del body
        servers = await self._members.all()
        revisions = await asyncio.gather(*(self.forwarder.revision(server.address, seconds=LOOK_SECONDS) for server in servers))
        leader = self._replica.role.leader
        newest = max((revision for revision in revisions if revision is not None), default=0)
        told = [
            {
                **msgspec.structs.asdict(server),
                "leads": leader is not None and leader.name == server.name,
                "answers": revision is not None,
                "revision": revision,
                "lag": None if revision is None else newest - revision,
            }
            for server, revision in zip(servers, revisions, strict=True)
        ]
        return msgspec.json.encode({"server": self._me.name, "leader": leader.name if leader else None, "revision": newest, "servers": told})
