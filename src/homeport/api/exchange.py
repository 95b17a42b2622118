"""One request on its way through the front door.

Owns: `Exchange`, what its steps leave in it, `Elsewhere`, and where a request comes from. Never decides anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple, Protocol

from homeport.api.call import Handler
from homeport.api.permission import Origin, Ruling
from homeport.api.protocol import model
from homeport.api.signature import Principal, joined

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FORWARDED: Final = b"x-homeport-forwarded"
"""Header of a call that another server sent on, with its name: such a call is never sent on again."""
_SECURE: Final = ("https", "wss")


class Disconnected(Exception):
    """The client went away before its request was complete; nobody waits for an answer."""


class Route(NamedTuple):
    """Where a target leads; `handler` is None for an operation that is not built yet."""

    operation: model.Operation
    handler: Handler | None


class Relayed(NamedTuple):
    """The leader's answer to a call that was sent on to it."""

    status: int
    request_id: str
    body: bytes


class Exchange:
    """One request on its way through the steps; each step fills in what the next ones need."""

    __slots__ = (
        "answer",
        "body",
        "code",
        "error",
        "form",
        "headers",
        "now",
        "principal",
        "receive",
        "request",
        "request_id",
        "route",
        "ruling",
        "scope",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, *, request_id: str, now: float) -> None:
        self.scope = scope
        self.receive = receive
        self.request_id = request_id
        self.now = now
        self.headers: dict[bytes, bytes] = joined(scope["headers"])
        self.body = b""
        self.form: Mapping[str, str] | None = None
        """The fields of a request in the query protocol; None for one in JSON."""
        self.route: Route | None = None
        self.principal: Principal | None = None
        self.request: Any = None
        self.answer: Any = None
        self.status = 200
        self.code = ""
        self.error: Exception | None = None
        """What ended the chain."""
        self.ruling: Ruling | None = None
        """What allowed the call, where policies were asked."""


class Elsewhere(Protocol):
    """Runs a call here or on the leader; `api/forward.py` has the one that there is."""

    async def run(self, exchange: Exchange, attempt: Callable[[], Awaitable[Any]], *, repeatable: bool) -> Any:
        """What `attempt` answers, or `Relayed`."""
        ...

    def origin(self, exchange: Exchange) -> tuple[str, bool] | None:
        """(address, over TLS) of the client whose call another server sent here; None for a call that came by itself."""
        ...


def came_from(scope: Scope, headers: Mapping[bytes, bytes], now: float) -> Origin:
    """Where a request comes from, by its connection. `now`: when it came, seconds since the epoch."""
    client = scope.get("client")
    return Origin(client[0] if client else "", scope.get("scheme") in _SECURE, headers.get(b"user-agent", b"").decode("latin-1"), now)
