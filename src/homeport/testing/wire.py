"""The cheapest possible client ends of HTTP and of a websocket, for thousands of simulated agents in one process.

Owns: `HttpPool` (signed calls of the ECS API over a few kept connections) and `WebSocketClient`. They speak to Homeport's own server alone and
understand what that sends: answers with a length, whole frames. Never use them against anything else.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import urlencode, urlsplit

import msgspec

from homeport.clock import Clock
from homeport.errors import HomeportError
from homeport.iam import sigv4

TARGET_PREFIX: Final = "AmazonEC2ContainerServiceV20141113."
CONTENT_TYPE: Final = b"application/x-amz-json-1.1"
_KEY: Final = "c2ltdWxhdGVkLWFnZW50IQ=="
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10

Answered = Callable[[int, bytes], None]
"""(HTTP status, body) of an answer; status 0 when the connection was lost before there was one."""


class WireError(HomeportError):
    """The server could not be reached, or refused a call or a connection. `status` is that of HTTP, 0 for none."""

    def __init__(self, what: str, status: int, body: bytes) -> None:
        super().__init__(f"{what}: HTTP status {status}: {body[:300].decode('utf-8', 'replace')}")
        self.status = status


class _HttpConnection(asyncio.Protocol):
    """One kept connection with at most one call under way."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._received = b""
        self.transport: asyncio.Transport | None = None
        self.answered: Answered | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of it, but have all of it.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.lower().find(b"\r\ncontent-length:")
        length = int(head[at + 17 :].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._received = b""
        answered, self.answered = self.answered, None
        self._pool.free(self)
        if answered is not None:
            answered(int(head[9:12]), rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._pool.lost(self)
        answered, self.answered = self.answered, None
        if answered is not None:
            answered(0, b"")


class HttpPool:
    """Signed calls over at most `connections` connections; what finds none free waits in order."""

    def __init__(self, endpoint: str, credentials: sigv4.Credentials, *, clock: Clock, connections: int) -> None:
        place = urlsplit(endpoint)
        self._host = place.hostname or "127.0.0.1"
        self._port = place.port or 80
        self._authority = place.netloc.encode()
        self._credentials = credentials
        self._clock = clock
        self._free: list[_HttpConnection] = []
        self._missing = connections
        self._waiting: deque[tuple[bytes, Answered]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self.calls = 0
        """Calls that were answered or lost."""

    def send(self, operation: str, body: bytes, answered: Answered) -> None:
        """Call `operation` with an encoded body; `answered` gets what comes."""
        covered = {b"host": self._authority, b"content-type": CONTENT_TYPE, b"x-amz-target": (TARGET_PREFIX + operation).encode()}
        request = sigv4.Request("POST", b"/", b"", covered, hashlib.sha256(body).hexdigest())
        signed = sigv4.sign(request, self._credentials, self._clock.now())
        head = b"".join(
            [
                b"POST / HTTP/1.1\r\n",
                *(b"%b: %b\r\n" % pair for pair in covered.items()),
                *(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in signed.items()),
                b"content-length: %d\r\n\r\n" % len(body),
            ]
        )
        self._waiting.append((head + body, answered))
        self._feed()

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The answer of one call. Raises WireError."""
        done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def answered(status: int, body: bytes) -> None:
            if not done.done():
                done.set_result((status, body))

        self.send(operation, msgspec.json.encode(parameters), answered)
        status, body = await done
        if status != 200:
            raise WireError(operation, status, body)
        answer: dict[str, Any] = msgspec.json.decode(body)
        return answer

    @property
    def waiting(self) -> int:
        """Calls that have no connection yet."""
        return len(self._waiting)

    def _feed(self) -> None:
        while self._waiting and self._free:
            connection = self._free.pop()
            if connection.transport is None:
                continue
            request, connection.answered = self._waiting.popleft()
            connection.transport.write(request)
        if self._waiting and self._missing:
            self._missing -= 1
            opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: _HttpConnection(self), self._host, self._port)
        except OSError:
            await self._clock.sleep(0.2)
            self._missing += 1
        else:
            self._free.append(connection)
        self._feed()

    def free(self, connection: _HttpConnection) -> None:
        """A connection's answer is here."""
        self.calls += 1
        self._free.append(connection)
        self._feed()

    def lost(self, connection: _HttpConnection) -> None:
        """A connection is over."""
        self._missing += 1
        if connection in self._free:
            self._free.remove(connection)
        self._feed()


class WebSocketClient(asyncio.Protocol):
    """One websocket. `heard` gets each text frame, `ended` the end (HTTP status of a refusal, else 0), once."""

    def __init__(self, request: bytes, *, heard: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        """`request`: the handshake, encoded (`handshake`)."""
        self._request = request
        self._heard = heard
        self._ended = ended
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.open = False
        """Whether the handshake has succeeded and nothing ended it yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        # uvloop's transports are no subclasses of it, but have all of it.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take whole frames off the front."""
        received = self._received + data if self._received else data
        if not self.open:
            head, end, received = received.partition(b"\r\n\r\n")
            if not end:
                self._received = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._end(int(head[9:12]))
                return
            self.open = True
        while (taken := _frame(received)) is not None:
            code, payload, size = taken
            received = received[size:]
            if code == _TEXT:
                self._heard(payload)
            elif code == _PING:
                self._write(_PONG, payload)
            elif code == _CLOSE:
                self._write(_CLOSE, payload)
                self._end(0)
                return
        self._received = received

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever the reason."""
        self._end(0)

    def send(self, text: bytes) -> None:
        """One text frame."""
        if self.open:
            self._write(_TEXT, text)

    def close(self) -> None:
        """Say goodbye and end."""
        if self.open:
            self._write(_CLOSE, b"\x03\xe8")
        self._end(0)

    def _write(self, code: int, payload: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        size = len(payload)
        # A client's frames are masked. A mask of zeros is one, and spares the work.
        if size < 126:
            head = bytes((0x80 | code, 0x80 | size))
        elif size < 65_536:
            head = bytes((0x80 | code, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | code, 0x80 | 127)) + size.to_bytes(8, "big")
        self._transport.write(head + b"\0\0\0\0" + payload)

    def _end(self, status: int) -> None:
        transport, self._transport, self.open = self._transport, None, False
        if transport is not None:
            transport.close()
            self._ended(status)


def handshake(endpoint: str, query: Mapping[str, str], credentials: sigv4.Credentials, *, now: float) -> bytes:
    """The signed request for the websocket ENDPOINTws?QUERY."""
    place = urlsplit(f"{endpoint.rstrip('/')}/ws")
    encoded = urlencode(query).encode()
    covered = {b"host": place.netloc.encode()}
    signed = sigv4.sign(sigv4.Request("GET", place.path.encode(), encoded, covered, sigv4.EMPTY_BODY_SHA256), credentials, now)
    lines = [
        f"GET {place.path}?{encoded.decode()} HTTP/1.1",
        f"Host: {place.netloc}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {_KEY}",
        *(f"{name}: {value}" for name, value in signed.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _frame(data: bytes) -> tuple[int, bytes, int] | None:
    """(opcode, payload, size of the frame) of the first frame in `data`, None when it is not all there."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    end = start + size
    if len(data) < start or len(data) < end:
        return None
    return data[0] & 15, data[start:end], end
