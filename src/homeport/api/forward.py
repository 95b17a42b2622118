"""A call that changes something, on a server that does not lead: sent to the leader as it came, and the leader's answer sent back.

Owns: `Forwarder`: how often and how long a leader is looked for, and which failure may be tried again. Never changes a call: the original headers and
body go on, so that the leader verifies the same signature.

What is tried again must have one effect. That is so when nothing was done (nobody leads, no connection was made, the leader says that it leads no
more), and when the call is one that may be repeated: it has an invocation, under which the first answer is kept, or is a report of an agent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import msgspec

from homeport.api import origin
from homeport.api.exchange import FORWARDED, Exchange, Relayed
from homeport.clock import Clock
from homeport.errors import CommitUnknownError, LeadershipLostError, MisdirectedError, NotLeaderError, ServiceUnavailableError

PATIENCE_SECONDS: Final = 8.0
"""How long a change waits for a leader that takes it, in all."""
TRY_SECONDS: Final = 4.0
"""How long one try at a leader may take: one that is paused or cut off does not refuse, it is silent. Its successor leads by then."""
GONE_SECONDS: Final = 0.4
"""How long a leader's address must refuse connections before it counts as gone: one that was elected while it starts listens soon."""
PAUSE_SECONDS: Final = 0.05
"""Between two looks for the leader."""
MISDIRECTED: Final = 421
"""HTTP status of a server that does not lead (any more)."""
_OWN_HEADERS: Final = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"expect", b"te", b"upgrade", origin.HEADER))
"""Headers that belong to one connection or to servers, not to the call."""
_NOBODY: Final = "No server leads at the moment, or none that can be reached from here. Nothing was changed; try again."
_UNKNOWN: Final = "The leader was lost while it worked on this call. Whether it was done cannot be told; look before you try again."


class _TryAgainError(Exception):
    """The leader did not take the call; it may be tried again."""


class Forwarder:
    """Runs handlers here and, when this server does not lead, elsewhere. Make it inside the running loop."""

    def __init__(
        self,
        *,
        name: str,
        clock: Clock,
        leader: Callable[[], str],
        gone: Callable[[str], Awaitable[None]],
        secret: str = "",
        http: aiohttp.ClientSession | None = None,
        secure: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """`name` is this server's; `leader` says the address of the leader's API as far as it is known now, or "".

        `gone` is called with the address of a leader where nobody listened for `GONE_SECONDS`. `secret` is the root key's. `http` is the way to
        the other servers: by default a pool of connections. `secure` gives this server's certificate and whom it trusts, as they are now;
        None for plain HTTP.
        """
        self._name = name
        self._secret = secret
        self._secure = secure
        self._gone = gone
        self._refusing: tuple[str, float] = ("", 0.0)
        self._clock = clock
        self._leader = leader
        self._http = http or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
        )

    async def run(self, exchange: Exchange, attempt: Callable[[], Awaitable[Any]], *, repeatable: bool) -> Any:
        """What `attempt` answers, or `Relayed` from the leader.

        Raises what `attempt` or the search for a leader raises: ServiceUnavailableError after `PATIENCE_SECONDS`; MisdirectedError at once
        when another server sent the call here.
        """
        sent_here = FORWARDED in exchange.headers
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await attempt()
            except NotLeaderError as error:
                leader = error.leader
            except LeadershipLostError as error:
                if isinstance(error, CommitUnknownError) and not repeatable:
                    raise
                leader = ""
            if sent_here:
                raise MisdirectedError("This server does not lead any more.")
            if leader:
                try:
                    return await self._relay(leader, exchange, repeatable=repeatable, deadline=deadline)
                except _TryAgainError:
                    pass
            if self._clock.monotonic() >= deadline:
                raise ServiceUnavailableError(_NOBODY)
            await self._clock.sleep(PAUSE_SECONDS)

    async def _relay(self, leader: str, exchange: Exchange, *, repeatable: bool, deadline: float) -> Relayed:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.headers.items() if name not in _OWN_HEADERS]
        headers.append((FORWARDED.decode(), self._name))
        headers.append((origin.HEADER.decode(), self._origin(exchange)))
        give_up = self.impatience(leader, deadline) if repeatable else lambda: self._clock.monotonic() >= deadline
        try:
            status, answered, body = await self.post(leader, "/", headers=dict(headers), body=exchange.body, give_up=give_up)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ConnectionRefusedError):
                await self.refused(leader)
            raise _TryAgainError from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if repeatable:
                raise _TryAgainError from error
            raise ServiceUnavailableError(_UNKNOWN) from error
        if status == MISDIRECTED:
            raise _TryAgainError
        return Relayed(status, answered.get("x-amzn-requestid", exchange.request_id), body)

    def _origin(self, exchange: Exchange) -> str:
        client = exchange.scope.get("client")
        secure = exchange.scope.get("scheme") == "https"
        return origin.sealed(self._secret, exchange.headers.get(b"authorization", b""), client[0] if client else "", secure=secure)

    def origin(self, exchange: Exchange) -> tuple[str, bool] | None:
        """(address, over TLS) of the client whose call another server sent here; None for a call that came by itself."""
        return origin.told(self._secret, exchange.headers)

    def impatience(self, server: str, deadline: float) -> Callable[[], bool]:
        """When to give up a call that may be repeated: after `TRY_SECONDS`, or when another server turns out to lead."""
        end = min(deadline, self._clock.monotonic() + TRY_SECONDS)
        return lambda: self._clock.monotonic() >= end or self._leader() not in ("", server)

    async def post(
        self, server: str, path: str, *, headers: Mapping[str, str], body: bytes, give_up: Callable[[], bool]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """POST to another server: (status, headers, body). Raises aiohttp.ClientError, and TimeoutError when `give_up` says so first."""
        posting = asyncio.ensure_future(self._post(server + path, headers, body))
        try:
            while not posting.done():
                await asyncio.wait((posting,), timeout=PAUSE_SECONDS)
                if not posting.done() and give_up():
                    raise TimeoutError(f"{server} does not answer")
            return posting.result()
        finally:
            posting.cancel()

    async def refused(self, server: str) -> None:
        """Nobody listens at `server`, which should lead. Another server leads sooner when it is known to be gone than when its lease must end."""
        now = self._clock.monotonic()
        address, since = self._refusing
        if address != server or now - since > PATIENCE_SECONDS:
            self._refusing = (server, now)
        elif now - since >= GONE_SECONDS:
            self._refusing = ("", 0.0)
            await self._gone(server)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        async with self._http.post(url, data=body, headers=headers, allow_redirects=False, ssl=self._trusted()) as response:
            return response.status, response.headers, await response.read()

    def _trusted(self) -> ssl.SSLContext | bool:
        # With each call, so that a connection made after a change is made with the newest; aiohttp keeps a pool for each context.
        return self._secure() if self._secure is not None else True

    async def revision(self, server: str, *, seconds: float) -> int | None:
        """The revision that another server has; None when it does not say so in `seconds`."""
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with self._http.get(f"{server}/health", timeout=timeout, allow_redirects=False, ssl=self._trusted()) as response:
                return int(msgspec.json.decode(await response.read())["revision"])
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
            return None

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()
