"""The network of a simulation: calls and websockets between clients and whichever servers live now, with everything that networks do to them.

Owns: `Network`, `Link` (one machine's way to the others), `Ask` (a call), `VirtualSocket` (a client's websocket).
Never opens a socket; never looks into a message.

A call may be lost on its way there or back, come late, or come twice. A websocket is a stream: what is sent arrives in order or the stream breaks,
with what was under way lost; or it goes dead without a word. Repeated and reordered frames, which no stream does, can be had as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from homeport.agent.client import CallFailedError, UnreachableError
from homeport.testing.virtual_loop import Chance, Process

Event = MutableMapping[str, Any]
Application = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]

CONTENT_TYPE: Final = "application/x-amz-json-1.1"
TARGET_PREFIX: Final = "AmazonEC2ContainerServiceV20141113."
SERVICE_UNAVAILABLE: Final = 503
REFUSED: Final = "connection refused"


_OUTSIDE: Final = contextvars.Context()
"""What is on its way belongs to no process: it arrives whatever becomes of its sender."""


class NetworkFaults(msgspec.Struct, kw_only=True):
    """Probabilities per message, and delays in seconds. Change it while the simulation runs."""

    latency_min: float = 0.0003
    latency_max: float = 0.003
    call_lost: float = 0.0
    """A call that never arrives."""
    answer_lost: float = 0.0
    """A call that has its effect, but whose answer never arrives."""
    call_repeated: float = 0.0
    """A call that arrives a second time, later."""
    late: float = 0.0
    """A call, answer or frame that takes up to `late_seconds_max`."""
    late_seconds_max: float = 8.0
    frame_repeated: float = 0.0
    frame_reordered: float = 0.0
    """A frame that overtakes the one before it, if that is still under way."""
    connection_broken: float = 0.0
    """A frame at which the connection breaks; both ends learn it a little later."""
    connection_dead: float = 0.0
    """A frame from which on nothing arrives, in either direction, and nobody is told."""


SERVER: Final = "http://control-plane:8470"
"""Address of a server that is alone."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the API, or of one server to another (`path`)."""

    operation: str
    body: bytes
    to: str = SERVER
    """Address of the server."""
    invocation: str = ""
    """`amz-sdk-invocation-id`."""
    repeated: bool = True
    """Whether the network may deliver it twice, the second time after a later call of the same client."""
    path: str = "/"
    method: str = "POST"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Those that it has beside its operation's."""

    def scope(self) -> Event:
        """What an ASGI server makes of it."""
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"x-amz-target", (TARGET_PREFIX + self.operation).encode())]
        if self.invocation:
            headers.append((b"amz-sdk-invocation-id", self.invocation.encode()))
        headers.extend((name, value) for name, value in self.headers if name not in (b"content-type", b"x-amz-target"))
        path = self.path
        return {"type": "http", "method": self.method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}


class _Listener(msgspec.Struct, frozen=True):
    """A life of a server."""

    process: Process
    application: Application
    link: Link


class Link:
    """One machine's way to the others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cut = False
        """While true nothing gets through, and nobody is told."""
        self.sockets: dict[VirtualSocket, None] = {}


class Network:
    """Everything between the machines and the servers. `attach` a server's life to it, `detach` it when it dies."""

    def __init__(self, *, chance: Chance, faults: NetworkFaults) -> None:
        self.faults = faults
        self._chance = chance
        self._listeners: dict[str, _Listener] = {}
        self._exchanges: dict[asyncio.Future[tuple[int, bytes]], str] = {}
        self._sockets: dict[VirtualSocket, None] = {}
        self.calls = 0
        self.frames = 0

    def attach(self, address: str, server: Process, application: Application, *, link: Link) -> None:
        """`application` answers at `address` from now on; `link` is the way to its machine."""
        self._listeners[address] = _Listener(server, application, link)

    def refuse(self, address: str) -> None:
        """The server at `address` takes nothing new any more; what is under way goes on."""
        self._listeners.pop(address, None)

    def detach(self, address: str) -> None:
        """The server is gone: calls under way and connections break."""
        self._listeners.pop(address, None)
        for answer, asked in tuple(self._exchanges.items()):
            if asked == address and not answer.done():
                answer.set_exception(UnreachableError("connection reset by peer"))
        for socket in tuple(self._sockets):
            if socket.server == address:
                socket.snap()

    def listener(self, address: str) -> _Listener | None:
        """Who answers at `address`."""
        found = self._listeners.get(address)
        return found if found is not None and not found.process.dead else None

    def later(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Call `function` later, whatever has become of who asks for it: what is on its way arrives."""
        asyncio.get_running_loop().call_later(seconds, function, *arguments, context=_OUTSIDE)

    def latency(self) -> float:
        """Seconds that the next message takes."""
        faults = self.faults
        if self._chance.happens(faults.late):
            return self._chance.between(0.1, faults.late_seconds_max)
        return self._chance.between(faults.latency_min, faults.latency_max)

    # -- calls -----------------------------------------------------------------------------------------------------------

    async def call(self, link: Link, ask: Ask, *, timeout_seconds: float) -> dict[str, Any]:
        """The answer to one call. Raises CallFailedError for an error of the API, UnreachableError when no answer came."""
        operation = ask.operation
        try:
            async with asyncio.timeout(timeout_seconds):
                status, content = await self.exchange(link, ask)
        except TimeoutError:
            raise UnreachableError(f"{operation}: no answer within {timeout_seconds:g} s") from None
        decoded: dict[str, Any] = msgspec.json.decode(content) if content else {}
        if status == 200:
            return decoded
        code = str(decoded.get("__type", "")).rpartition("#")[2]
        if not code or status == SERVICE_UNAVAILABLE:
            raise UnreachableError(f"{operation}: HTTP status {status}")
        raise CallFailedError(code, str(decoded.get("message") or ""))

    async def exchange(self, link: Link, ask: Ask) -> tuple[int, bytes]:
        """Status and body of the answer to one call; waits for ever when it does not come. Raises UnreachableError when there is nobody."""
        self.calls += 1
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._exchanges[answer] = ask.to
        faults, chance = self.faults, self._chance
        try:
            if not chance.happens(faults.call_lost):
                self.later(self.latency(), self._arrive, link, ask, answer)
            if ask.repeated and chance.happens(faults.call_repeated):
                self.later(chance.between(0.01, faults.late_seconds_max), self._arrive, link, ask, None)
            return await answer
        finally:
            self._exchanges.pop(answer, None)

    def _arrive(self, link: Link, ask: Ask, answer: asyncio.Future[tuple[int, bytes]] | None) -> None:
        found = self.listener(ask.to)
        if link.cut or (found is not None and found.link.cut):
            return
        if found is None:
            if answer is not None and not answer.done():
                answer.set_exception(UnreachableError(f"{ask.operation}: {REFUSED}"))
            return
        found.process.spawn(self._serve(found, link, ask, answer))

    async def _serve(self, server: _Listener, link: Link, ask: Ask, answer: asyncio.Future[tuple[int, bytes]] | None) -> None:
        status, content = 0, b""

        async def receive() -> Event:
            return {"type": "http.request", "body": ask.body}

        async def send(event: Event) -> None:
            nonlocal status, content
            if event["type"] == "http.response.start":
                status = event["status"]
            else:
                content += event.get("body", b"")

        await server.application(ask.scope(), receive, send)
        if answer is not None and not self._chance.happens(self.faults.answer_lost):
            self.later(self.latency(), _answered, (link, server.link), answer, (status, content))

    # -- websockets ------------------------------------------------------------------------------------------------------

    async def connect(self, link: Link, url: str, *, timeout_seconds: float) -> VirtualSocket:
        """Open a websocket. Raises CallFailedError when the server refuses, UnreachableError when there is no connection."""
        parts = urlsplit(url)
        socket, path = VirtualSocket(self, link, f"{parts.scheme}://{parts.netloc}"), parts.path
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.sleep(self.latency())  # noqa: TID251 - virtual time on the simulation's loop
                found = self.listener(socket.server)
                if link.cut or (found is not None and found.link.cut):
                    await asyncio.get_running_loop().create_future()
                if found is None:
                    raise UnreachableError(f"{path}: {REFUSED}")
                socket.there, socket.process = found.link, found.process
                self._sockets[socket] = link.sockets[socket] = found.link.sockets[socket] = None
                found.process.spawn(socket.serve(found, path, parts.query))
                await socket.accepted
        except TimeoutError:
            socket.snap()
            raise UnreachableError(f"{path}: no answer within {timeout_seconds:g} s") from None
        except BaseException:
            socket.snap()
            raise
        return socket

    def forget(self, socket: VirtualSocket) -> None:
        """The connection is over at both ends."""
        self._sockets.pop(socket, None)
        socket.link.sockets.pop(socket, None)
        if socket.there is not None:
            socket.there.sockets.pop(socket, None)

    def dice(self) -> Chance:
        """The network's chance, for its sockets."""
        return self._chance


def _answered(links: tuple[Link, ...], answer: asyncio.Future[tuple[int, bytes]], result: tuple[int, bytes]) -> None:
    if not any(link.cut for link in links) and not answer.done():
        answer.set_result(result)


class _Pipe:
    """One direction of a connection: what goes in comes out later, in order."""

    __slots__ = ("_deliver", "_due", "_loop", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Any], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._waiting: deque[tuple[float, Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def put(self, item: Any, delay: float, *, overtake: bool = False) -> None:
        self._due = max(self._due, self._loop.time() + delay)
        self._waiting.append((self._due, item))
        if overtake and len(self._waiting) > 1:
            (first_due, first), (second_due, second) = self._waiting.pop(), self._waiting.pop()
            self._waiting.extend([(second_due, first), (first_due, second)])
        if self._timer is None:
            self._timer = self._loop.call_at(self._waiting[0][0], self._flow, context=_OUTSIDE)

    def _flow(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._deliver(self._waiting.popleft()[1])
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_at(self._waiting[0][0], self._flow, context=_OUTSIDE)

    def clear(self) -> None:
        self._waiting.clear()


class VirtualSocket:
    """A websocket: the client's end, as much of aiohttp's `ClientWebSocketResponse` as the agent uses, and the ASGI server's end."""

    def __init__(self, network: Network, link: Link, server: str) -> None:
        loop = asyncio.get_running_loop()
        self.link = link
        self.server = server
        """Address of the server."""
        self.there: Link | None = None
        """The server's way, once it answers."""
        self.process: Process | None = None
        """The server, once it answers."""
        self._network = network
        self._loop = loop
        self._up = _Pipe(loop, self._at_server)
        self._down = _Pipe(loop, self._at_client)
        self._server_inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._client_inbox: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.close_code: int | None = None
        self.dead = False
        """Nothing gets through any more and nobody knows."""
        self._server_gone = False
        self._status = 0

    # -- the client's end ------------------------------------------------------------------------------------------------

    async def receive(self, timeout: float | None = None) -> aiohttp.WSMessage:
        """The next frame; one of type CLOSED when it is over. Raises TimeoutError."""
        if self.close_code is not None and self._client_inbox.empty():
            return _CLOSED
        async with asyncio.timeout(timeout):
            return await self._client_inbox.get()

    def __aiter__(self) -> VirtualSocket:
        return self

    async def __anext__(self) -> aiohttp.WSMessage:
        """The next frame, until it is over."""
        frame = await self.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise StopAsyncIteration
        return frame

    async def send_str(self, text: str) -> None:
        """One text frame. Raises ConnectionResetError when it is known to be over."""
        if self.close_code is not None:
            raise ConnectionResetError("the connection is closed")
        self._carry(self._up, {"type": "websocket.receive", "text": text})

    async def close(self, *, code: int = 1000) -> None:
        """Say goodbye; the server learns it when the frame arrives."""
        if self.close_code is None:
            self.close_code = code
            if not self._silent:
                self._up.put({"type": "websocket.disconnect", "code": code}, self._network.latency())
            self._client_inbox.put_nowait(_CLOSED)

    def ping(self, seconds: float) -> None:
        """From now on ask every `seconds` whether the server is there; without an answer for half as long it is over at this end."""
        self._network.later(seconds, self._ping, seconds)

    def _ping(self, seconds: float) -> None:
        if self.close_code is None:
            self._network.later(seconds if self._answers else seconds / 2, self._ping if self._answers else self._pong_is_missing, seconds)

    def _pong_is_missing(self, seconds: float) -> None:
        if self.close_code is None and not self._answers:
            self._end_client(1006)
            if not self._silent:
                self._up.put({"type": "websocket.disconnect", "code": 1006}, self._network.latency())
        elif self.close_code is None:
            self._network.later(seconds, self._ping, seconds)

    @property
    def _answers(self) -> bool:
        return not self._silent and self.process is not None and not self.process.paused

    # -- what happens to it ----------------------------------------------------------------------------------------------

    def snap(self) -> None:
        """The connection breaks now: what is under way is lost, both ends learn it."""
        self._up.clear()
        self._down.clear()
        self._at_server({"type": "websocket.disconnect", "code": 1006})
        if not self.accepted.done():
            self.accepted.set_exception(UnreachableError("connection reset by peer"))
            self.accepted.exception()
        self._end_client(1006)
        self._network.forget(self)

    def _carry(self, pipe: _Pipe, frame: Any) -> None:
        network = self._network
        network.frames += 1
        faults, dice = network.faults, network.dice()
        if self._silent:
            return
        if dice.happens(faults.connection_dead):
            self.dead = True
            return
        if dice.happens(faults.connection_broken):
            self._network.later(dice.between(0.0, 1.0), self.snap)
            self.dead = True
            return
        pipe.put(frame, network.latency(), overtake=dice.happens(faults.frame_reordered))
        if dice.happens(faults.frame_repeated):
            pipe.put(frame, network.latency())

    # -- the server's end ------------------------------------------------------------------------------------------------

    @property
    def _silent(self) -> bool:
        """Whether nothing gets through."""
        return self.dead or self.link.cut or (self.there is not None and self.there.cut)

    async def serve(self, server: _Listener, path: str, query: str) -> None:
        """Run the server's handler of this connection; in the server's process."""
        scope: Event = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [],
            "extensions": {"websocket.http.response": {}},
        }
        self._server_inbox.put_nowait({"type": "websocket.connect"})
        try:
            with contextlib.suppress(OSError):  # a web server says nothing when its client has gone
                await server.application(scope, self._server_inbox_get, self._server_send)
        finally:
            self._server_gone = True
            if not self._silent:
                self._down.put(_CLOSED, self._network.latency())

    async def _server_inbox_get(self) -> Event:
        if self._server_gone and self._server_inbox.empty():
            return {"type": "websocket.disconnect", "code": 1006}
        return await self._server_inbox.get()

    async def _server_send(self, event: Event) -> None:
        kind = event["type"]
        if self._server_gone:
            raise ConnectionResetError("the agent has gone")
        if kind == "websocket.send":
            self._carry(self._down, aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, event["text"], None))
        elif kind == "websocket.close" and self.accepted.done():
            self._carry(self._down, aiohttp.WSMessage(aiohttp.WSMsgType.CLOSE, int(event.get("code", 1000)), None))
            self._at_server({"type": "websocket.disconnect", "code": int(event.get("code", 1000))})
        elif kind == "websocket.http.response.start":
            self._status = event["status"]
        else:
            self._down.put(event, self._network.latency())

    def _at_server(self, event: Event) -> None:
        if self._server_gone:
            return
        self._server_inbox.put_nowait(event)
        if event["type"] == "websocket.disconnect":
            self._server_gone = True

    def _at_client(self, frame: Any) -> None:
        if self._silent:
            return
        if isinstance(frame, aiohttp.WSMessage):
            if frame.type is aiohttp.WSMsgType.TEXT:
                self._client_inbox.put_nowait(frame)
            else:
                self._end_client(int(frame.data or 1006))
                self._network.forget(self)
        elif not self.accepted.done():
            if frame["type"] == "websocket.accept":
                self.accepted.set_result(None)
            else:
                name = next(iter(msgspec.json.decode(frame["body"]))) if frame.get("body") else "ServerException"
                self.accepted.set_exception(CallFailedError(name, f"HTTP status {self._status}"))
                self._at_server({"type": "websocket.disconnect", "code": 1006})

    def _end_client(self, code: int) -> None:
        if self.close_code is None:
            self.close_code = code
            self._client_inbox.put_nowait(_CLOSED)


_CLOSED: Final = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)
