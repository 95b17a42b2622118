"""A thin etcd client: one call, one attempt, at one member; a failure moves the next attempt to the next member.

Owns: channels, deadlines, which member is asked, and what a failed call means. Never retries a write: only its caller can know what that would do.
It is made inside the running event loop, which gRPC's channels are bound to.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import msgspec

from homeport.clock import Clock
from homeport.errors import EtcdRefusedError, EtcdUnavailableError
from homeport.store.etcd import messages

CALL_SECONDS: Final = 2.0
"""How long one attempt may take; a member that is paused or cut off costs this much once."""
LOOK_SECONDS: Final = 5.0
"""Between two looks whether the files of certificates were replaced."""
RETIRED_SECONDS: Final = 60.0
"""How long calls of before such a change may go on."""
PATIENCE_SECONDS: Final = 8.0
"""How long reads go on trying, member after member."""
SILENT_SECONDS: Final = 5.0
"""How long a member that let a call time out is passed over."""
RETRY_SECONDS: Final = 0.05
"""Pause between two attempts."""
HAS_LEADER: Final = (("hasleader", "true"),)
"""A member that sees no leader of etcd refuses calls with this at once, instead of letting them wait."""
KEEPALIVE_MILLISECONDS: Final = 5_500
"""etcd ends connections that ask for a sign of life more often than every 5 s."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", 1_500),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)
REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Answers that mean: this call changed nothing and never will. After every other failure the outcome is unknown."""


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM form. Without `ca` the system's certificates are trusted; `certificate` and `key` show who we are."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> Any:
        """What a channel wants. Raises OSError for a file that cannot be read."""
        read = [path.read_bytes() if path is not None else None for path in (self.ca, self.key, self.certificate)]
        return grpc.ssl_channel_credentials(*read)

    def stamp(self) -> tuple[tuple[int, int] | None, ...]:
        """What tells whether a file was replaced."""
        return tuple(_stamp(path) for path in (self.ca, self.certificate, self.key) if path is not None)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


class Endpoint:
    """One member, as the configuration names it: `http://host:port`, `https://host:port` or `host:port`."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        parts = urlsplit(address if "://" in address else f"{'http' if tls is None else 'https'}://{address}")
        self.address = parts.netloc
        self.secure = parts.scheme == "https"
        self.silent_until = 0.0
        """Monotonic instant before which it is asked only when there is no other."""
        self.connect((tls or Tls()).credentials() if self.secure else None)

    def connect(self, credentials: Any) -> None:
        """A new channel, for all calls that begin from now on; whoever had the one of before closes it."""
        if credentials is None:
            self.channel: Any = grpc.aio.insecure_channel(self.address, options=OPTIONS)
        else:
            self.channel = grpc.aio.secure_channel(self.address, credentials, options=OPTIONS)
        self.calls: dict[str, Any] = {}
        for name, (path, request, response) in messages.CALLS.items():
            make = {"LeaseKeepAlive": self.channel.stream_stream, "Watch": self.channel.stream_stream, "Snapshot": self.channel.unary_stream}
            call = make.get(name, self.channel.unary_unary)
            self.calls[name] = call(path, request_serializer=request.SerializeToString, response_deserializer=response.FromString)


class EtcdClient:
    """Calls to the members of one etcd cluster."""

    def __init__(self, endpoints: Sequence[str | Endpoint], *, clock: Clock, tls: Tls | None = None, call_seconds: float = CALL_SECONDS) -> None:
        """`endpoints`: the members' addresses, or ways to them that were made before (a simulation's). Raises ValueError when there are none."""
        if not endpoints:
            raise ValueError("etcd needs at least one endpoint")
        self.clock = clock
        self._call_seconds = call_seconds
        self._endpoints = [address if isinstance(address, Endpoint) else Endpoint(address, tls) for address in endpoints]
        self._current = 0
        self.term = 0
        """The newest election of etcd's own leader that an answer told of."""
        self.term_since = -math.inf
        """When that was first heard; not before the second term that was heard of."""
        self._silenced: dict[Callable[[Endpoint], None], None] = {}
        self._tls = tls
        self._stamp = tls.stamp() if tls is not None else ()
        self._look_at = clock.monotonic() + LOOK_SECONDS
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked next."""
        return self._endpoints[self._current]

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All members of the configuration."""
        return tuple(self._endpoints)

    def when_silent(self, tell: Callable[[Endpoint], None]) -> None:
        """Call `tell` with every member that lets a call time out, or to which there is a new channel, until `no_more`: for streams, which would
        wait at it for seconds more."""
        self._silenced[tell] = None

    def no_more(self, tell: Callable[[Endpoint], None]) -> None:
        """Call `tell` no more."""
        self._silenced.pop(tell, None)

    def leave(self, endpoint: Endpoint, *, silent: bool = False) -> None:
        """`endpoint` failed: ask the next one, unless somebody has moved on already. One that was `silent` is passed over for a while."""
        now = self.clock.monotonic()
        if silent:
            endpoint.silent_until = now + SILENT_SECONDS
        if self.endpoint is endpoint:
            count = len(self._endpoints)
            others = [(self._current + step) % count for step in range(1, count + 1)]
            self._current = next((number for number in others if self._endpoints[number].silent_until <= now), others[0])

    async def call(self, name: str, request: Any, *, seconds: float | None = None, at: Endpoint | None = None) -> Any:
        """One attempt of the call `name`.

        Raises EtcdRefusedError when nothing was changed and never will be, and EtcdUnavailableError when the outcome is unknown.
        """
        self._take_replaced()
        endpoint = at or self.endpoint
        try:
            answer = await endpoint.calls[name](request, timeout=seconds or self._call_seconds, metadata=HAS_LEADER)
        except grpc.aio.AioRpcError as error:
            raise self.failure(error, endpoint) from None
        if answer.header.raft_term > self.term:
            self._note_term(answer.header.raft_term)
        return answer

    def _take_replaced(self) -> None:
        """Connect anew, once, when a certificate was replaced. Calls under way end on the connections of before, streams begin again."""
        now = self.clock.monotonic()
        if self._tls is None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        found = self._tls.stamp()
        if found == self._stamp or None in found:
            return
        try:
            credentials, self._stamp = self._tls.credentials(), found
        except OSError:  # it may not be read: the next look may
            return
        for endpoint in self._endpoints:
            if endpoint.secure:
                task = asyncio.create_task(self._retire(endpoint.channel))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
                endpoint.connect(credentials)
                for tell in tuple(self._silenced):
                    tell(endpoint)

    async def _retire(self, channel: Any) -> None:
        try:
            await self.clock.sleep(RETIRED_SECONDS)  # gRPC's own grace does not see the calls that wait in other tasks
        finally:
            await channel.close(grace=None)

    def _note_term(self, term: int) -> None:
        if self.term:
            self.term_since = self.clock.monotonic()
        self.term = term

    def failure(self, error: Any, endpoint: Endpoint) -> EtcdRefusedError | EtcdUnavailableError:
        """What a gRPC error at `endpoint` means. Moves on to another member when this one does not work."""
        code, details = error.code(), error.details()
        if code in REFUSALS:
            return EtcdRefusedError(f"etcd at {endpoint.address} refused: {details}", code.name)
        silent = code is grpc.StatusCode.DEADLINE_EXCEEDED
        self.leave(endpoint, silent=silent)
        for tell in tuple(self._silenced) if silent else ():
            tell(endpoint)
        return EtcdUnavailableError(f"etcd at {endpoint.address} does not answer: {code.name}: {details}")

    async def txn(self, request: Any, *, seconds: float | None = None) -> Any:
        """One attempt of a Txn, as `call`."""
        return await self.call("Txn", request, seconds=seconds)

    async def read(self, request: Any, *, name: str = "Range", patience: float = PATIENCE_SECONDS) -> Any:
        """A read (or another call that may be repeated), tried at one member after the other for `patience` seconds.

        Raises EtcdUnavailableError when none answered, and EtcdRefusedError.
        """
        deadline = self.clock.monotonic() + patience
        while True:
            try:
                return await self.call(name, request)
            except EtcdUnavailableError:
                if self.clock.monotonic() >= deadline:
                    raise
            await self.clock.sleep(RETRY_SECONDS)

    async def pages(self, key: bytes, end: bytes, *, revision: int = 0, limit: int = 1_000) -> AsyncIterator[list[Any]]:
        """All keys from `key` up to `end`, as they were at `revision` (0: when the first page was read), `limit` at a time."""
        while True:
            answer = await self.read(messages.RangeRequest(key=key, range_end=end, revision=revision, limit=limit))
            revision = revision or answer.header.revision
            if answer.kvs:
                yield list(answer.kvs)
            if not answer.more:
                return
            key = answer.kvs[-1].key + b"\0"

    async def grant(self, seconds: int) -> tuple[int, int]:
        """A new lease: its id and its time to live in seconds (etcd may give more than was asked). One attempt."""
        answer = await self.call("LeaseGrant", messages.CALLS["LeaseGrant"][1](ttl=seconds))
        return answer.id, answer.ttl

    async def keep_alive(self, lease: int, *, seconds: float) -> int:
        """Renew a lease; the time to live that it has again, 0 when it is gone. One attempt, as `call`."""
        endpoint = self.endpoint
        stream = endpoint.calls["LeaseKeepAlive"](timeout=seconds, metadata=HAS_LEADER)
        try:
            await stream.write(messages.CALLS["LeaseKeepAlive"][1](id=lease))
            answer = await stream.read()
        except grpc.aio.AioRpcError as error:
            raise self.failure(error, endpoint) from None
        except asyncio.InvalidStateError:  # the stream ended before the request was written
            answer = grpc.aio.EOF
        finally:
            stream.cancel()
        if answer is grpc.aio.EOF:
            self.leave(endpoint)
            raise EtcdUnavailableError(f"etcd at {endpoint.address} ended the stream")
        return int(answer.ttl)

    async def revoke(self, lease: int) -> None:
        """End a lease and delete the keys bound to it. One attempt."""
        await self.call("LeaseRevoke", messages.CALLS["LeaseRevoke"][1](id=lease))

    async def close(self) -> None:
        """Close every channel; calls under way fail."""
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for endpoint in self._endpoints:
            await endpoint.channel.close(grace=None)


def equal(key: bytes, *, create_revision: int | None = None, mod_revision: int | None = None) -> Any:
    """A comparison: the key has this create revision (0: it is not there), or this mod revision."""
    if mod_revision is not None:
        return messages.Compare(result=messages.EQUAL, target=messages.MOD_REVISION, key=key, mod_revision=mod_revision)
    return messages.Compare(result=messages.EQUAL, target=messages.CREATE_REVISION, key=key, create_revision=create_revision or 0)


def get(key: bytes) -> Any:
    """An operation of a Txn: read a key."""
    return messages.RequestOp(request_range=messages.RangeRequest(key=key))


def get_range(key: bytes, end: bytes, *, limit: int = 0) -> Any:
    """An operation of a Txn: read the keys from `key` up to `end`."""
    return messages.RequestOp(request_range=messages.RangeRequest(key=key, range_end=end, limit=limit))


def put(key: bytes, value: bytes, lease: int = 0) -> Any:
    """An operation of a Txn: write a key."""
    return messages.RequestOp(request_put=messages.PutRequest(key=key, value=value, lease=lease))


def delete(key: bytes, end: bytes = b"") -> Any:
    """An operation of a Txn: delete a key, or all from `key` up to `end`."""
    return messages.RequestOp(request_delete_range=messages.DeleteRangeRequest(key=key, range_end=end))
