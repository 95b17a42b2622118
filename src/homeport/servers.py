"""One server among several: what it has beside a server that is alone.

Owns: `Fellowship`: its membership, what it asks of the leader, what it answers to the others. Never decides who leads: the store does.
Import it only where etcd is used, as `store.etcd`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from homeport.api.forward import PATIENCE_SECONDS, PAUSE_SECONDS, Forwarder
from homeport.api.server import SERVERS_PATH, Internal
from homeport.config import Settings
from homeport.dispatcher.command import Command, carry_out, request_of, result_of
from homeport.dispatcher.departed import end_departed
from homeport.errors import HomeportError, LeadershipLostError, NotLeaderError, SerializationError, ServiceUnavailableError
from homeport.iam import sigv4
from homeport.log import logger
from homeport.store.backend import StoredEntry
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.etcd.journal_copies import Copies, Copy, Trimmer
from homeport.store.etcd.members import Members, Server
from homeport.store.etcd.room import keep_room
from homeport.store.leader import LEASE_SECONDS, Leader
from homeport.store.replica import Replica

T = TypeVar("T")

COMMAND_PATH: Final = "/homeport/command"
JOURNAL_PATH: Final = "/homeport/journal"
ENTRIES_MAX: Final = 500
"""Journal entries in an answer to another server."""
ENTRIES_BYTES_MAX: Final = 4 * 1_048_576
"""About how large such an answer may get."""
ENTRIES_SECONDS: Final = 10.0
"""How long another server may take for it."""
LOOK_SECONDS: Final = 2.0
"""How long another server may take to tell its revision."""
WATCH_SECONDS: Final = 0.5
"""Between two looks whether the leader answers, and how long it may take to."""
LOOKS_APART_SECONDS_MAX: Final = 4 * WATCH_SECONDS
"""Between the ends of two looks; more means that this server itself stood still."""
RESIGN_SECONDS_MAX: Final = 5.0
"""How long a stopping server tries to resign; without etcd its lease ends by itself."""


_ENTRIES_ASKED: Final = msgspec.msgpack.Encoder()
_ENTRIES_WANTED: Final = msgspec.msgpack.Decoder(tuple[int, int, bool])
_ENTRIES_TOLD: Final = msgspec.msgpack.Decoder(list[tuple[int, bytes, bytes]])
_log: Final = logger("servers")


class Silence:
    """For how long the leader has not answered this server, and whether it is to be deposed for that. All times are monotonic, in seconds.

    The lease ends by itself, but etcd's new leader gives every lease its whole time anew, so that who is silent already leads that much longer.
    While etcd's leader stays the lease alone decides: a leader that etcd hears and we do not is none to depose.
    """

    def __init__(self, now: float) -> None:
        self._leader: Leader | None = None
        self._heard_at = self._looked_at = now

    def is_over_long(self, leader: Leader, *, answered: bool, term_since: float, now: float) -> bool:
        """Note a look at `leader`. True, once, when it has been silent for its lease's time while etcd's own leader changed, at `term_since`.

        Time in which nobody looked is not its silence: this server stood still, or was as busy.
        """
        looked_at, self._looked_at = self._looked_at, now
        if answered or leader != self._leader or now - looked_at > LOOKS_APART_SECONDS_MAX:
            self._leader, self._heard_at = leader, now
        elif term_since > self._heard_at and now - self._heard_at >= LEASE_SECONDS:
            self._heard_at = now
            return True
        return False


class Fellowship:
    """This server among the others. Make it inside the running loop; `start` and `close` it."""

    def __init__(
        self,
        replica: Replica,
        backend: EtcdBackend,
        *,
        keys: sigv4.Credentials,
        own_etcd: bool,
        http: aiohttp.ClientSession | None = None,
        secure: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """`keys` is the root's, with which servers know each other; `own_etcd` says that etcd is Homeport's alone, to be kept in order by it.

        `http` is the way to the other servers and `secure` how it is secured, see `Forwarder`. The journal's copy is the replica's, if it has one.
        """
        self._backend = backend
        self._client = backend.client
        self._own_etcd = own_etcd
        self._replica = replica
        self._clock = clock = backend.clock
        self._keys = keys
        me = backend.candidate
        self._me = Server(me.name, me.address, os.getpid(), os.uname().nodename)
        self._members = Members(backend.client, backend.layout.prefix.decode(), clock=clock)
        self._keeping: asyncio.Task[None] | None = None
        self.forwarder = Forwarder(
            name=me.name, clock=clock, leader=self._leader_address, gone=self._depose, secret=keys.secret_access_key, http=http, secure=secure
        )
        self.internal: dict[str, Internal] = {
            COMMAND_PATH: self._carry_out,
            SERVERS_PATH: self._tell_servers,
            JOURNAL_PATH: self._tell_entries,
        }
        self._copying: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Be listed among the servers, and copy the journal."""
        self._keeping = asyncio.create_task(self._members.keep(self._me))
        self._watching = asyncio.create_task(self._watch_leader())
        if self._replica.copy is not None:
            self._copying = asyncio.create_task(self._replica.copy.run(self))

    async def close(self) -> None:
        """Be listed no more."""
        for task in (self._copying, self._watching):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
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

    def leader_work(self, settings: Settings) -> Sequence[Coroutine[Any, Any, None]]:
        """What only a leader among several does."""
        departed = end_departed(self._replica, self._names, self._clock)
        trimmer = Trimmer(self._backend, settings, living=self._names, prune=self._replica.trim_journal)
        return departed, keep_room(self._client, self._clock, ours=self._own_etcd), trimmer.run(self._clock)

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
        await self._try_to_depose(leader)

    async def _watch_leader(self) -> None:
        silence = Silence(self._clock.monotonic())
        while True:
            await self._clock.sleep(WATCH_SECONDS)
            leader = self._replica.role.leader
            if leader is None or leader.name == self._me.name:
                silence = Silence(self._clock.monotonic())
                continue
            answered = await self.forwarder.revision(leader.address, seconds=WATCH_SECONDS) is not None
            if silence.is_over_long(leader, answered=answered, term_since=self._client.term_since, now=self._clock.monotonic()):
                _log.warning("%s is silent at %s, and etcd has another leader; another server is to lead", leader.name, leader.address)
                await self._try_to_depose(leader)

    async def _try_to_depose(self, leader: Leader) -> None:
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

        async def attempt() -> Any:
            return await self._replica.update(command.apply, cause=command.cause)

        return await self.on_leader(attempt, COMMAND_PATH, request_of(command), read=result_of)

    async def on_leader(self, attempt: Callable[[], Awaitable[T]], path: str, body: bytes, *, read: Callable[[bytes], T]) -> T:
        """What `attempt` returns here, or what `read` makes of the leader's answer to `body` at `path`. What is asked may be done twice.

        Raises what the two raise, and ServiceUnavailableError when no leader took it in time.
        """
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await attempt()
            except NotLeaderError as error:
                leader = error.leader
            except LeadershipLostError:  # it may have been done, and may be done again
                leader = ""
            answer = await self._ask(leader, path, body, deadline=deadline) if leader else None
            if answer is not None:
                return read(answer)
            if self._clock.monotonic() >= deadline:
                raise ServiceUnavailableError("no leader took the change in time")
            await self._clock.sleep(PAUSE_SECONDS)

    async def _ask(self, leader: str, path: str, body: bytes, *, deadline: float) -> bytes | None:
        headers, give_up = self._signed(leader, path, body), self.forwarder.impatience(leader, deadline)
        try:
            status, _, answer = await self.forwarder.post(leader, path, headers=headers, body=body, give_up=give_up)
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

    # -- the journal's copies --------------------------------------------------------------------------------------------

    async def holders(self) -> list[Copy]:
        """What the other servers that live have of the journal. Raises EtcdUnavailableError."""
        living = {server.name for server in await self._members.all()} - {self._me.name}
        return [copy for copy in await Copies(self._backend).all() if copy.name in living]

    async def entries(self, holder: str, first: int, last: int, *, newest: bool = False) -> list[StoredEntry]:
        """Journal entries from the file of another server, see `journal_copy.Others`. Raises ServiceUnavailableError when it does not give them."""
        address = next((server.address for server in await self._members.all() if server.name == holder), "")
        body = _ENTRIES_ASKED.encode((first, last, newest))
        end = self._clock.monotonic() + ENTRIES_SECONDS
        try:
            headers = self._signed(address, JOURNAL_PATH, body)
            status, _, answer = await self.forwarder.post(
                address, JOURNAL_PATH, headers=headers, body=body, give_up=lambda: self._clock.monotonic() >= end
            )
            if status == 200:
                return [StoredEntry(*entry) for entry in _ENTRIES_TOLD.decode(answer)]
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise ServiceUnavailableError(f"{holder} does not tell its journal: {error}") from error
        raise ServiceUnavailableError(f"{holder} does not tell its journal: it answers {status}")

    async def _tell_entries(self, body: bytes) -> bytes:
        """Entries of this server's own file; msgpack. Raises SerializationError for a question that is none."""
        try:
            first, last, newest = _ENTRIES_WANTED.decode(body)
        except msgspec.MsgspecError as error:
            raise SerializationError(str(error)) from error
        if newest:
            first = max(first, last - ENTRIES_MAX + 1)
        copy = self._replica.copy
        found = await copy.file.entries(first, max(0, min(ENTRIES_MAX, last - first + 1))) if copy is not None else []
        answer: list[StoredEntry] = []
        size = 0
        for entry in reversed(found) if newest else found:
            size += len(entry.payload)
            if answer and size > ENTRIES_BYTES_MAX:
                break
            answer.append(entry)
        return _ENTRIES_ASKED.encode([(entry.revision, entry.payload, entry.hash) for entry in (reversed(answer) if newest else answer)])

    # -- the audit logs --------------------------------------------------------------------------------------------------

    async def others(self) -> dict[str, str]:
        """Name → address of the other servers that live. Raises EtcdUnavailableError."""
        return {server.name: server.address for server in await self._members.all() if server.name != self._me.name}

    async def ask(self, address: str, path: str, body: bytes) -> bytes | None:
        """What another server answers; None when it does not, in time."""
        end = self._clock.monotonic() + ENTRIES_SECONDS
        try:
            headers = self._signed(address, path, body)
            status, _, answer = await self.forwarder.post(address, path, headers=headers, body=body, give_up=lambda: self._clock.monotonic() >= end)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return answer if status == 200 else None

    # -- who there is ----------------------------------------------------------------------------------------------------

    async def _tell_servers(self, body: bytes) -> bytes:
        """Every server with its revision, how far it is behind the leader, and what it has of the journal; JSON."""
        del body
        servers = await self._members.all()
        copies = {copy.name: copy for copy in await Copies(self._backend).all()}
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
                "journal": copies.get(server.name),
            }
            for server, revision in zip(servers, revisions, strict=True)
        ]
        return msgspec.json.encode({"server": self._me.name, "leader": leader.name if leader else None, "revision": newest, "servers": told})
