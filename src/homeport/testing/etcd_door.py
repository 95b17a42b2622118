"""One server's way to the simulated etcd: what `store.etcd.client` takes for a member, with everything that happens to calls on their way.

Owns: `EtcdDoor` (one server's life), its members, streams and `DoorFaults`. Never knows what a call is for.

A call may be lost, late, or answered in vain; one whose caller gave up lands all the same, and one that was under way when its server died lands too.
That is what makes an outcome unknown.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, Final

import grpc
import msgspec

from homeport.errors import EtcdRefusedError
from homeport.store.etcd import messages
from homeport.store.etcd.client import Endpoint
from homeport.testing.etcd_state import EtcdState, Watcher
from homeport.testing.virtual_loop import Chance

KEEPALIVE_SECONDS: Final = 7.0
"""After how much silence a connection counts as broken."""
MEMBERS: Final = ("etcd1:2379", "etcd2:2379", "etcd3:2379")


class DoorFaults(msgspec.Struct, kw_only=True):
    """Probabilities per call, and delays in seconds, of one server's calls to etcd. Change it while the simulation runs."""

    latency_min: float = 0.0003
    latency_max: float = 0.002
    lost: float = 0.0
    """A call that never arrives."""
    answer_lost: float = 0.0
    """A call that has its effect, but whose answer never arrives."""
    late: float = 0.0
    """A call that arrives after up to `late_seconds_max`: its caller has given up by then, perhaps."""
    late_seconds_max: float = 6.0
    broken: float = 0.0
    """A call whose connection breaks at once; it may arrive all the same."""
    lag_seconds_max: float = 0.0
    """How late a watch may tell of a change."""
    cut: bool = False
    """While true nothing gets through, and nobody is told."""
    silent: str = ""
    """Address of a member that answers nothing."""
    crash_before: float = 0.0
    """The server dies with a Txn under way that never arrives."""
    crash_after: float = 0.0
    """The server dies with a Txn applied, before it learns so."""
    full: bool = False
    """While true etcd refuses to write for want of room."""

    @property
    def trouble(self) -> bool:
        """Whether commits may fail or wait."""
        return bool(self.lost or self.answer_lost or self.late or self.broken or self.cut or self.silent or self.full)

    def calm(self) -> None:
        """Nothing is wrong from now on."""
        for name, value in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            setattr(self, name, value)


class EtcdDoor:
    """The members as one life of one server reaches them. `fenced`: that life is over, and what still unwinds asks nothing."""

    def __init__(self, state: EtcdState, name: str, *, faults: DoorFaults, chance: Chance, crash: Callable[[], None]) -> None:
        """`crash` kills the server at the next turn of the loop."""
        self.state = state
        self.name = name
        self.faults = faults
        self.chance = chance
        self.crash = crash
        self.fenced = False
        self.members = tuple(SimulatedMember(address, self) for address in MEMBERS)
        self.streams: dict[WatchStream, None] = {}
        self._loop = asyncio.get_running_loop()
        self._outside = contextvars.Context()

    def later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function` later, whatever has become of the server by then."""
        self._loop.call_later(seconds, function, *arguments, context=self._outside)

    def latency(self) -> float:
        """Seconds that the next message takes."""
        return self.chance.between(self.faults.latency_min, self.faults.latency_max)

    def passes(self, member: str) -> bool:
        """Whether anything gets through to `member` and back."""
        return not self.faults.cut and self.faults.silent != member

    def die(self) -> None:
        """The server dies at this point."""
        if not self.fenced:
            self.fenced = True
            self.crash()

    def break_streams(self) -> None:
        """Every connection breaks."""
        for stream in tuple(self.streams):
            stream.snap()


class SimulatedMember(Endpoint):
    """A member of etcd as one server reaches it."""

    def __init__(self, address: str, door: EtcdDoor) -> None:
        # Not the parent's: that one opens a channel.
        self.address = address
        self.silent_until = 0.0
        self.channel = _Channel()
        self._door = door
        self.calls: dict[str, Any] = {name: self._unary(name) for name in ("Range", "Txn", "LeaseGrant", "LeaseRevoke", "Alarm", "Compact")}
        self.calls["Watch"] = lambda metadata: WatchStream(door, address)
        self.calls["LeaseKeepAlive"] = lambda timeout, metadata: _KeepAlive(self, timeout)

    def _unary(self, name: str) -> Callable[..., Any]:
        async def call(request: Any, timeout: float, metadata: Any) -> Any:
            del metadata
            return await self.ask(name, request, timeout)

        return call

    async def ask(self, name: str, request: Any, seconds: float) -> Any:
        """The answer to one call. Raises grpc.aio.AioRpcError as a channel does."""
        door, faults, chance = self._door, self._door.faults, self._door.chance
        loop = asyncio.get_running_loop()
        if door.fenced:
            await loop.create_future()
        answer: asyncio.Future[Any] = loop.create_future()
        if name == "Txn" and request.compare and chance.happens(faults.crash_before):
            door.die()
            await answer
        late = chance.happens(faults.late)
        delay = chance.between(0.1, faults.late_seconds_max) if late else door.latency()
        broken = chance.happens(faults.broken)
        if not chance.happens(faults.lost) and door.passes(self.address):
            # The request's own words, as they are now: on the wire nobody changes them any more.
            door.later(delay, self._arrive, name, request.SerializeToString(), answer)
        if broken:
            raise _error(grpc.StatusCode.UNAVAILABLE, "connection reset by peer")
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None

    def _arrive(self, name: str, sent: bytes, answer: asyncio.Future[Any]) -> None:
        door, faults, chance = self._door, self._door.faults, self._door.chance
        if not door.passes(self.address):
            return
        request = messages.CALLS[name][1].FromString(sent)
        try:
            result = self._apply(name, request)
            result.header.raft_term = door.state.term
        except EtcdRefusedError as error:
            result = _error(grpc.StatusCode[error.code], str(error))
        if name == "Txn" and request.compare and not door.fenced and chance.happens(faults.crash_after):
            door.die()
            return
        if not chance.happens(faults.answer_lost):
            door.later(door.latency(), self._answered, answer, result)

    def _answered(self, answer: asyncio.Future[Any], result: Any) -> None:
        if answer.done() or not self._door.passes(self.address):
            return
        if isinstance(result, grpc.aio.AioRpcError):
            answer.set_exception(result)
            answer.exception()  # its caller may have given up
        else:
            answer.set_result(result)

    def _apply(self, name: str, request: Any) -> Any:
        state, answer = self._door.state, messages.CALLS[name][2]()
        if name == "Range":
            return state.range(request)
        if self._door.faults.full and (
            name == "LeaseGrant" or any(item.WhichOneof("choice") == "request_put" for item in getattr(request, "success", ()))
        ):
            raise EtcdRefusedError("etcdserver: mvcc: database space exceeded", "RESOURCE_EXHAUSTED")
        if name == "Txn":
            return state.txn(self._door.name, request)
        if name == "LeaseGrant":
            answer.id, answer.ttl = state.grant(request.ttl), request.ttl
        elif name == "LeaseRevoke":
            state.revoke(request.id)
        elif name == "LeaseKeepAlive":
            answer.id, answer.ttl = request.id, state.renew(request.id)
        elif name == "Compact":
            state.compact(request.revision)
        return answer


class _Channel:
    """What a client closes."""

    async def close(self, grace: Any = None) -> None:
        """Nothing is open."""


class _KeepAlive:
    """A stream on which one renewal is asked for."""

    def __init__(self, member: SimulatedMember, seconds: float) -> None:
        self._member = member
        self._seconds = seconds
        self._request: Any = None

    async def write(self, request: Any) -> None:
        """Take the request."""
        self._request = request

    async def read(self) -> Any:
        """Send it and give the answer."""
        return await self._member.ask("LeaseKeepAlive", self._request, self._seconds)

    def cancel(self) -> None:
        """Nothing is open."""


class WatchStream:
    """A watch at one member: what it tells arrives in order, late, or not at all any more."""

    def __init__(self, door: EtcdDoor, member: str) -> None:
        self._door = door
        self._member = member
        self._told: list[Any] = []
        self._due = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._watcher: Watcher | None = None
        self._ended: Any = None
        self._cancelled = False
        door.streams[self] = None

    async def write(self, request: Any) -> None:
        """Begin the watch. Raises as a channel does."""
        if self._door.fenced:
            await asyncio.get_running_loop().create_future()
        if not self._door.passes(self._member):
            self._door.later(KEEPALIVE_SECONDS, self.snap)
            return
        self._door.later(self._door.latency(), self._begin, request.create_request)

    def _begin(self, request: Any) -> None:
        if self._cancelled or self._ended is not None:
            return
        self._tell(messages.WatchResponse(created=True))
        self._watcher = self._door.state.watch(request, self._happened)
        if self._watcher is None:
            self._tell(messages.WatchResponse(canceled=True, compact_revision=self._door.state.compacted))

    def _happened(self, revision: int, events: list[Any]) -> None:
        answer = messages.WatchResponse(events=events)
        answer.header.revision = revision
        self._tell(answer)

    def _tell(self, answer: Any) -> None:
        """Have it arrive, after everything that was told before."""
        door = self._door
        now = asyncio.get_running_loop().time()
        lag = door.chance.between(0.0, door.faults.lag_seconds_max) if door.faults.lag_seconds_max else 0.0
        self._due = max(self._due + 1e-6, now + door.latency() + lag)  # never two at one moment: timers of one moment have no order
        door.later(self._due - now, self._arrive, answer)

    def _arrive(self, answer: Any) -> None:
        if self._cancelled or self._ended is not None:
            return
        if not self._door.passes(self._member):
            self._stop()  # nothing that comes later may come without this
            self._door.later(KEEPALIVE_SECONDS, self.snap)
            return
        self._told.append(answer)
        self._wake()

    async def read(self) -> Any:
        """The next answer. Raises grpc.aio.AioRpcError when the connection broke, CancelledError when the stream was cancelled."""
        while not self._told:
            if self._cancelled:
                raise asyncio.CancelledError
            if self._ended is not None:
                raise self._ended
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._told.pop(0)

    def snap(self) -> None:
        """The connection breaks; what is under way is lost."""
        if self._ended is None:
            self._ended = _error(grpc.StatusCode.UNAVAILABLE, "connection lost")
            self._stop()
            self._wake()

    def cancel(self) -> None:
        """End it from this side."""
        if not self._cancelled:
            self._cancelled = True
            self._told.clear()
            self._stop()
            self._wake()

    def _stop(self) -> None:
        self._door.streams.pop(self, None)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            self._door.state.forget(watcher)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
