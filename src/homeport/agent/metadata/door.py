"""The agent's listening sockets for containers: credentials over HTTP, and the control plane's API passed on byte by byte.

Owns: `Doors`, the reading of a request and the words of each answer. Never knows how packets come here (rules.py) nor whose a container is
(credentials.py). Source of the bodies: the upstream agent's credentials endpoint, agent-protocol.md 8.1.

One request a connection, and of a request only its first line counts: a path is taken letter by letter, so there is nothing to decode, join or
normalise. The API's bytes are passed on as they are: a signature covers the host that the client named.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from homeport.agent.metadata.credentials import PATH, Holder, Registry
from homeport.errors import HomeportError

HEAD_BYTES_MAX: Final = 4096
"""Of a request, all headers with it; SDKs send a few hundred."""
HEAD_SECONDS_MAX: Final = 5.0
"""The upstream agent's read timeout."""
CLOSE_SECONDS_MAX: Final = 1.0
"""How long the last bytes of a connection may take."""
CONNECTIONS_MAX: Final = 256
"""At one time, of all containers together, for each of the two."""
CONNECTIONS_PER_SOURCE_MAX: Final = 64
"""Of one container, so that none can shut the others out."""
PIECE_BYTES: Final = 65_536

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Streams]]
"""Opens a connection to the control plane. Raises HomeportError."""

_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,1023}) HTTP/1\.[01]")
_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What goes back."""

    status: str
    body: bytes
    type: str = "application/json"


class _Error(msgspec.Struct):
    """The upstream agent's error body."""

    code: str
    message: str
    HTTPErrorCode: int


NOT_FOUND: Final = Answer("404 Not Found", b"404 page not found\n", "text/plain; charset=utf-8")
NOT_ALLOWED: Final = Answer("405 Method Not Allowed", b"405 method not allowed\n", "text/plain; charset=utf-8")
BAD_REQUEST: Final = Answer("400 Bad Request", b"400 Bad Request\n", "text/plain; charset=utf-8")


def _error(status: str, code: str, words: str) -> Answer:
    return Answer(status, msgspec.json.encode(_Error(code, f"CredentialsV2Request: {words}", int(status[:3]))))


NO_ID: Final = _error("400 Bad Request", "NoIdInRequest", "No Credential ID in the request")
UNKNOWN_ID: Final = _error("400 Bad Request", "InvalidIdInRequest", "Credentials not found")
UNINITIALIZED: Final = _error("503 Service Unavailable", "CredentialsUninitialized", "Credentials uninitialized for ID")


def answer(line: bytes, find: Callable[[str], Holder | None]) -> Answer:
    """The answer to a request's first line. `find`: the holder of an id that the caller may have."""
    found = _LINE.fullmatch(line)
    if found is None:
        return BAD_REQUEST
    method, path = found[1], found[2].decode("ascii")
    if path != PATH[:-1] and not path.startswith(PATH):
        return NOT_FOUND
    if method != b"GET":
        return NOT_ALLOWED
    credentials_id = path.removeprefix(PATH[:-1]).removeprefix("/")
    if not credentials_id:
        return NO_ID
    holder = find(credentials_id)
    if holder is None:
        return UNKNOWN_ID
    given = holder.credentials
    if given is None:
        return UNINITIALIZED
    body = {
        "RoleArn": holder.role_arn,
        "AccessKeyId": given.accessKeyId,
        "SecretAccessKey": given.secretAccessKey,
        "Token": given.sessionToken,
        "Expiration": given.expiration,
    }
    return Answer("200 OK", msgspec.json.encode(body))


class Ports(NamedTuple):
    """Where the two doors of one address listen."""

    credentials: int
    api: int


class Doors:
    """The doors of one agent, each pair opened when it is first needed."""

    def __init__(self, registry: Registry, dial: Dial) -> None:
        self._registry = registry
        self._dial = dial
        self._ports: dict[str, Ports] = {}
        self._servers: list[asyncio.Server] = []
        self._open: dict[tuple[str, str], int] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._told: dict[str, str] = {}
        """Credentials id → the access key id that was last handed out, so that each set is logged once."""

    async def open(self, address: str, *, host: bool = False) -> Ports:
        """Listen at `address` unless that is done, and say on which ports. `host`: for the host's own network. Raises OSError."""
        if address not in self._ports:

            async def credentials(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._guarded("credentials", writer, lambda peer: self._serve(reader, writer, peer, host=host))

            async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._guarded("api", writer, lambda peer: self._pass_on(reader, writer, peer, host=host))

            one = await asyncio.start_server(credentials, address, 0, limit=HEAD_BYTES_MAX)
            two = await asyncio.start_server(api, address, 0, limit=PIECE_BYTES)
            self._servers += [one, two]
            self._ports[address] = Ports(*(server.sockets[0].getsockname()[1] for server in (one, two)))
        return self._ports[address]

    async def close(self) -> None:
        """Close every door, and what came in by them."""
        for server in self._servers:
            server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._servers, self._ports = [], {}

    async def _guarded(self, what: str, writer: asyncio.StreamWriter, work: Callable[[str], Awaitable[None]]) -> None:
        """`work` for a caller that has not too many connections; the socket is closed after it, whatever happens."""
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        peer = writer.get_extra_info("peername")[0]
        mine, all_of_it = (what, peer), (what, "")
        try:
            if self._open.get(mine, 0) >= CONNECTIONS_PER_SOURCE_MAX or self._open.get(all_of_it, 0) >= CONNECTIONS_MAX:
                return
            for key in (mine, all_of_it):
                self._open[key] = self._open.get(key, 0) + 1
            try:
                await work(peer)
            finally:
                for key in (mine, all_of_it):
                    self._open[key] -= 1
                    if not self._open[key]:
                        del self._open[key]
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the caller's own affair
        finally:
            await _closed(writer)

    # -- credentials -----------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str, *, host: bool) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS_MAX)
        except asyncio.LimitOverrunError:
            told = BAD_REQUEST
        else:
            told = answer(head.partition(b"\r\n")[0], lambda credentials_id: self._registry.answer(credentials_id, peer, host=host))
            self._note(head, peer, told, host=host)
        writer.write(
            f"HTTP/1.1 {told.status}\r\nContent-Type: {told.type}\r\nContent-Length: {len(told.body)}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
            + told.body
        )
        await asyncio.wait_for(writer.drain(), HEAD_SECONDS_MAX)

    def _note(self, head: bytes, peer: str, told: Answer, *, host: bool) -> None:
        """Log who was given which credentials, each set once, and what was refused; never the id, and nothing secret."""
        holder = None
        if told.status.startswith("200"):
            holder = self._registry.answer(head.split(b" ", 2)[1].decode().removeprefix(PATH), peer, host=host)
        if holder is None or holder.credentials is None:
            _log.debug("a request from %s for credentials was answered with %s", peer, told.status)
            return
        key = holder.credentials.accessKeyId
        if self._told.get(holder.task_arn) != key:
            if len(self._told) >= CONNECTIONS_MAX:
                self._told.clear()
            self._told[holder.task_arn] = key
            _log.info("credentials of task %s (role %s, key %s) were asked for by %s", holder.task_arn, holder.role_arn, key, peer)

    # -- the API ---------------------------------------------------------------------------------------------------------

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str, *, host: bool) -> None:
        if not host and self._registry.at(peer) is None:
            return
        try:
            theirs, ours = await self._dial()
        except HomeportError as error:
            _log.info("a connection of %s to the API could not be passed on: %s", peer, error)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, ours))
                group.create_task(_pump(theirs, writer))
        except* OSError:
            pass
        finally:
            await _closed(ours)


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until what was written has left, or never will."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), CLOSE_SECONDS_MAX)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every byte, and then the end."""
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:  # TLS knows no half of an end
        writer.close()
