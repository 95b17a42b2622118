"""The front door: an HTTP request in, one handler called, its answer out.

Owns: `Application` (bare ASGI), `STEPS` (the chain that every call passes), request ids, `/health`.
Never decides what an operation does, never touches a record. A websocket goes to its handler as it comes: the handler verifies the handshake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from homeport import log
from homeport.api import faults, origin, trusted
from homeport.api.audit import Opening, Recorder
from homeport.api.body import read_body
from homeport.api.call import Call, Context, Handler
from homeport.api.cloudtrail import input as cloudtrail_input
from homeport.api.connection import SERVER_CERTIFICATE, BoundedHttp
from homeport.api.exchange import FORWARDED, Disconnected, Elsewhere, Exchange, Message, Receive, Relayed, Route, Scope, Send, came_from
from homeport.api.invocation import REPEATABLE, Invocation, invocation_of
from homeport.api.permission import Guard, Origin, Ruling
from homeport.api.protocol import json, model, query
from homeport.api.refusal import with_message
from homeport.api.requestlog import Answered, RequestLog
from homeport.api.signature import Principal, Verifier, joined
from homeport.api.throttle import Throttle
from homeport.audit.log import SERVE
from homeport.errors import (
    AccessDeniedError,
    ApiError,
    HomeportError,
    InvalidParameterError,
    SerializationError,
    ThrottlingError,
    UnknownOperationError,
)
from homeport.iam import sigv4
from homeport.model import arn

AsgiHandler = Callable[[Scope, Receive, Send], Awaitable[None]]

SERVICES: Final = ("ecs", "homeport", "iam", "sts", "cloudtrail")
"""The models whose operations this front door has. A request says by target, or by action and version, which it means, and is signed for it."""
UNSIGNED: Final = frozenset({("homeport", "Join"), ("homeport", "RenewInstanceCredentials")})
"""Operations, by signing name, whose handlers find out themselves who asks: by a token, or a proof in the request."""
NOBODY: Final = Principal("", "")
"""The principal of such a call."""
CA_PATH: Final = "/ca.pem"
"""Where anybody may ask whom to trust here."""
REWORDED: Final[Mapping[str, Callable[[InvalidParameterError], ApiError]]] = {"cloudtrail": cloudtrail_input.reworded}
"""Services, by signing name, that have codes of their own for what violates the model."""
REQUEST_ID: Final = "homeport.request_id"
"""Key under which a websocket's scope holds the id of the handshake's request."""

SERVER_OPTIONS: Final[Mapping[str, Any]] = {
    "http": BoundedHttp,
    "ws": "websockets-sansio",
    "lifespan": "off",  # `homeport.server` starts and stops the parts
    "log_config": None,  # uvicorn's warnings go the way of ours
    "log_level": "warning",
    "access_log": False,  # requestlog.py does it for a tenth of the price
    "proxy_headers": False,  # a signature covers the host that the client used, and nothing here asks for the client's address
    "server_header": False,
    "date_header": True,  # SDKs correct a skewed clock by it
    "timeout_keep_alive": 75,  # longer than the clients' own 15 to 60 s, so that none sends into a connection that is just being closed
    "timeout_graceful_shutdown": 3,  # without it one idle keep-alive connection holds up the end for ever
    "ws_ping_interval": None,  # the agents' protocol has heartbeats of its own
    "ws_max_size": 16 * 1024 * 1024,
    "ws_per_message_deflate": False,  # neither agent offers compression; state per connection is saved
}
"""What uvicorn must be told so that this application gets its requests cheaply."""

_log = log.logger("api")


SERVERS_PATH: Final = "/homeport/servers"
KEYS_PATH: Final = "/homeport/keys"
_ASKED_BY_COMMANDS: Final = frozenset((SERVERS_PATH, KEYS_PATH))
"""What the command line asks. Every other path between servers takes, over TLS, a server's certificate as well."""


Internal = Callable[[bytes], Awaitable[bytes]]
"""What one server asks of another: body in, body out; raises HomeportError."""


class Application:
    """The ASGI application of one server."""

    def __init__(
        self,
        context: Context,
        operations: Mapping[str, Mapping[str, Handler]],
        *,
        verifier: Verifier,
        guard: Guard | None = None,
        websockets: Mapping[str, AsgiHandler],
        request_log: RequestLog | None = None,
        elsewhere: Elsewhere | None = None,
        internal: Mapping[str, Internal] | None = None,
        health: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """`operations`: service (of `SERVICES`) → name → handler; `websockets`: path → ASGI handler, which verifies the handshake itself.

        No `guard`: whoever has a key may do everything. No `request_log`: no log. With several servers `elsewhere` runs the calls, and `internal`
        has what other servers ask (path → function, with the root key's signature). `health` adds members to the answer of /health.
        Raises KeyError for a handler of an operation that no model has.
        """
        services = {name: model.load(name) for name in SERVICES}
        unknown = {f"{service}:{name}" for service, built in operations.items() for name in built if name not in services[service].operations}
        if unknown:
            raise KeyError(f"no such operations: {', '.join(sorted(unknown))}")
        self.context = context
        self.verifier = verifier
        self.guard = guard
        self.routes: dict[bytes, Route] = {}
        """By X-Amz-Target."""
        self.actions: dict[tuple[str, str], Route] = {}
        """By Action and Version, for the query protocol."""
        for service, modelled in services.items():
            for name, operation in modelled.operations.items():
                found = Route(operation, operations.get(service, {}).get(name))
                if modelled.protocol == "query":
                    self.actions[name, modelled.version] = found
                else:
                    for prefix in {modelled.target_prefix, modelled.target_prefix.rpartition(".")[2]}:  # some SDKs leave the package of Java out
                        self.routes[f"{prefix}.{name}".encode()] = found
        self._websockets = websockets
        self._request_log = request_log
        self.elsewhere = elsewhere
        factor = context.settings.request_throttling_factor
        self.throttle = Throttle(factor) if factor > 0 else None
        self._internal = internal or {}
        self._more_health = health
        self._started = context.clock.now()
        # Unique because of the random half, cheap because of the counted one.
        self._request_id_prefix = context.audit.life if context.audit is not None else context.ids.uuid()[:24]
        self._requests = 0
        self._recorder = Recorder(context.audit, verifier, guard) if context.audit is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/health" and scope["method"] == "GET":
            await self._respond(send, self._next_request_id(), 200, self._health())
            return
        if scope["path"] == CA_PATH and scope["method"] == "GET":
            await self._respond(send, self._next_request_id(), 200, trusted.pem(self.context.trusted).encode(), b"application/x-pem-file")
            return
        internal = self._internal.get(scope["path"])
        if internal is not None:
            await self._between_servers(internal, scope, receive, send)
            return
        clock = self.context.clock
        began = clock.monotonic()
        exchange = Exchange(scope, receive, request_id=self._next_request_id(), now=clock.now())
        try:
            for step in STEPS:
                waiting = step(self, exchange)
                if waiting is not None:
                    await waiting
            body = exchange.body
        except Disconnected:
            return
        except Exception as error:  # the last net: whatever it was, the client gets an answer
            body = self._fault(error, exchange)
        if self._recorder is not None and not isinstance(exchange.answer, Relayed):  # who carried it out has the record
            recorded = self._recorder.note(exchange, origin_of(self, exchange))
            if recorded is not None:
                body = await self._when_recorded(recorded, exchange, body)
        await self._respond(send, exchange.request_id, exchange.status, body, json.CONTENT_TYPE if exchange.form is None else query.CONTENT_TYPE)
        self._note(exchange, clock.monotonic() - began)

    async def _when_recorded(self, recorded: Awaitable[None], exchange: Exchange, body: bytes) -> bytes:
        """The answer, once its record is on the disk; a refusal when it cannot be written."""
        try:
            await recorded
        except HomeportError as error:
            if self.context.settings.audit_write_failure != SERVE:
                return self._fault(error, exchange)
        return body

    async def _between_servers(self, internal: Internal, scope: Scope, receive: Receive, send: Send) -> None:
        """Another server, or the command line, asks; only the root of the account that manages the installation may."""
        exchange = Exchange(scope, receive, request_id=self._next_request_id(), now=self.context.clock.now())
        try:
            await read_body(self, exchange)
            if scope["path"] not in _ASKED_BY_COMMANDS:
                require_server(scope)
            verify_signature(self, exchange)
            principal = exchange.principal
            if principal is None or principal.session is not None or principal.arn != arn.root_arn(self.context.management):
                raise AccessDeniedError("Only the management account's root may ask this, with a key of its own.")
            body = await internal(exchange.body)
        except Disconnected:
            return
        except Exception as error:  # as in `_http`
            body = self._fault(error, exchange)
            if self._recorder is not None:
                self._recorder.note_servers(exchange, origin_of(self, exchange))
        await self._respond(send, exchange.request_id, exchange.status, body)

    async def _respond(self, send: Send, request_id: str, status: int, body: bytes, content_type: bytes = json.CONTENT_TYPE) -> None:
        headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            (b"x-amzn-requestid", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _fault(self, error: Exception, exchange: Exchange) -> bytes:
        """Note the fault in `exchange` and give the body of its answer; what nobody expected goes to the log with its traceback."""
        found = faults.fault(error)
        exchange.status, exchange.code, exchange.error = found.status, found.code, error
        if found.unexpected:
            fields = {"requestId": exchange.request_id, "operation": exchange.route.operation.name if exchange.route else ""}
            _log.error("a request failed: %s", error, exc_info=error, extra={"fields": fields})
        if exchange.form is None:
            return found.body
        modelled = exchange.route.operation.model if exchange.route else None
        exchange.status, exchange.code, body = query.fault(found, modelled, exchange.request_id)
        return body

    def _note(self, exchange: Exchange, seconds: float) -> None:
        if self._request_log is None:
            return
        operation = exchange.route.operation.name if exchange.route else ""
        account = exchange.principal.account if exchange.principal else ""
        self._request_log.write(Answered(exchange.now, exchange.request_id, operation, account, exchange.status, exchange.code, seconds))

    def _next_request_id(self) -> str:
        self._requests += 1
        return f"{self._request_id_prefix}{self._requests:012x}"

    def _health(self) -> bytes:
        context = self.context
        facts = {
            "status": "ok",
            "region": context.region,
            "installationId": context.installation_id,
            "revision": context.store.revision,
            "started": self._started,
        }
        return msgspec.json.encode({**facts, **self._more_health()})

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the connection to the handler of its path, with the request's id in the scope."""
        handler = self._websockets.get(scope["path"])
        if handler is None:
            await receive()  # websocket.connect
            await send({"type": "websocket.close"})  # before acceptance: the client gets status 403
            return
        scope[REQUEST_ID] = self._next_request_id()
        await handler(scope, receive, self._watched(scope, send) if self._recorder is not None else send)

    def _watched(self, scope: Scope, send: Send) -> Send:
        """`send`, of which the recorder learns how the opening ended."""
        opened = Opening(scope[REQUEST_ID])

        async def watched(message: Message) -> None:
            if opened.see(message) and self._recorder is not None:
                headers = joined(scope["headers"])
                self._recorder.note_connection(scope, opened, headers, came_from(scope, headers, self.context.clock.now()))
            await send(message)

        return watched

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._request_log is not None:
            self._request_log.flush()
        await send({"type": "lifespan.shutdown.complete"})


def make_room(application: Application, exchange: Exchange) -> Awaitable[None] | None:
    """Wait while the audit log has no room for the record of another call."""
    audit = application.context.audit
    return None if audit is None or audit.admits else audit.room()


def require_server(scope: Scope) -> None:
    """Return if a server of the installation is at the other end, as far as TLS can show it. Raises AccessDeniedError.

    Without TLS only this machine reaches us, and the root key's seal and signature decide alone.
    """
    if scope.get("scheme") == "https" and not scope.get(SERVER_CERTIFICATE):
        raise AccessDeniedError("Only a server of this installation may send this, with its certificate.")


def refuse_pretenders(application: Application, exchange: Exchange) -> None:
    """A call that says that a server sent it on must come from one."""
    del application
    if FORWARDED in exchange.headers or origin.HEADER in exchange.headers:
        require_server(exchange.scope)


def route(application: Application, exchange: Exchange) -> None:
    """Find the operation that the request names."""
    scope = exchange.scope
    content_type = exchange.headers.get(b"content-type", b"")
    kind = content_type if content_type == json.CONTENT_TYPE else content_type.partition(b";")[0].strip().lower()
    if kind == query.FORM:
        exchange.form = {}  # so that every error from here on is XML
    if scope["method"] != "POST" or scope["path"] != "/":
        raise UnknownOperationError("Requests of this API are POST /, with the operation in the header X-Amz-Target, or in a form as Action.")
    if kind == query.FORM:
        exchange.form = query.fields(exchange.body)
        exchange.route = _action(application, exchange.form)
        return
    if kind != json.CONTENT_TYPE:
        raise UnknownOperationError(f"The content type of this API is {json.CONTENT_TYPE.decode()}.")
    target = exchange.headers.get(b"x-amz-target")
    found = application.routes.get(target) if target else None
    if found is None:
        raise UnknownOperationError(f"Unknown operation: {target[:200].decode('latin-1')}" if target else "The header X-Amz-Target is missing.")
    exchange.route = found


def _action(application: Application, form: Mapping[str, str]) -> Route:
    action, version = form.get("Action", "")[:200], form.get("Version", "")[:200]
    found = application.actions.get((action, version))
    if found is None:
        raise UnknownOperationError(f"Could not find operation {action} for version {version}" if action else "The parameter Action is missing.")
    return found


def verify_signature(application: Application, exchange: Exchange) -> None:
    """Find out who calls, and that the request is theirs."""
    scope = exchange.scope
    modelled = exchange.route.operation.model if exchange.route else None
    service = modelled.signing_name if modelled else SERVICES[0]
    if exchange.route is not None and (exchange.route.operation.unsigned or (service, exchange.route.operation.name) in UNSIGNED):
        exchange.principal = NOBODY
        return
    signed = sigv4.Request(scope["method"], scope["raw_path"], scope["query_string"], exchange.headers, hashlib.sha256(exchange.body).hexdigest())
    exchange.principal = application.verifier.principal(signed, service=service, is_global=modelled is not None and modelled.is_global)
    if application.context.last_uses is not None:
        application.context.last_uses.note(exchange.principal, service, exchange.now)


def throttle(application: Application, exchange: Exchange) -> None:
    """Refuse what the account asks too fast. The server that was asked first has counted a call that another one sent on."""
    found, principal = exchange.route, exchange.principal
    if application.throttle is None or found is None or principal is None:
        return
    if application.elsewhere is not None and FORWARDED in exchange.headers:
        return
    if not application.throttle.admit(principal.account, found.operation.name, application.context.clock.monotonic()):
        raise ThrottlingError


def refuse_not_built(application: Application, exchange: Exchange) -> None:
    """Say of an operation that is not built that it is not, whatever its parameters: that is what its caller needs to know."""
    if exchange.route is not None and exchange.route.handler is None:
        raise faults.not_built(exchange.route.operation)


def decode(application: Application, exchange: Exchange) -> None:
    """Turn the body into the operation's request, checked against the model."""
    if exchange.route is None:
        raise SerializationError("no operation")
    operation = exchange.route.operation
    try:
        exchange.request = json.decode(operation, exchange.body) if exchange.form is None else query.decode(operation, exchange.form)
    except InvalidParameterError as error:
        reword = REWORDED.get(operation.model.signing_name)
        raise reword(error) if reword is not None else error from None


def identify(application: Application, exchange: Exchange) -> Awaitable[None] | None:
    """Find out who calls an operation whose requests carry a token of an identity provider instead of a signature."""
    operation = exchange.route.operation if exchange.route is not None else None
    if operation is None or not operation.unsigned or (operation.model.signing_name, operation.name) in UNSIGNED:
        return None
    return _identify(application, exchange)


async def _identify(application: Application, exchange: Exchange) -> None:
    exchange.principal = await application.verifier.identify(exchange.request)


def authorize(application: Application, exchange: Exchange) -> Awaitable[None] | None:
    """Let pass what the caller's policies allow. The account's root has none and may do everything."""
    found, principal, guard = exchange.route, exchange.principal, application.guard
    if (
        guard is None
        or found is None
        or principal is None
        or principal is NOBODY
        or (principal.session is None and guard.needs_none(principal.arn, principal.account))
    ):
        return None
    service = found.operation.model.signing_name
    call = _call(application, exchange, "")
    return _ruled(exchange, call, guard.check(call, exchange.request, service=service, origin=origin_of(application, exchange)))


async def _ruled(exchange: Exchange, call: Call, checking: Awaitable[Ruling | None]) -> None:
    try:
        exchange.ruling = await checking
    except AccessDeniedError as error:
        if not call.settings.encoded_authorization_messages or call.identity is not None:  # who shows a token is told nothing
            raise
        raise await with_message(call, error) from None


def origin_of(application: Application, exchange: Exchange) -> Origin:
    """Where a request comes from: the client, also when another server sent its call here."""
    own = came_from(exchange.scope, exchange.headers, exchange.now)
    told = application.elsewhere.origin(exchange) if application.elsewhere is not None and FORWARDED in exchange.headers else None
    return own if told is None else own._replace(address=told[0], secure=told[1])


def _call(application: Application, exchange: Exchange, invocation: str) -> Call:
    if exchange.route is None or exchange.principal is None:
        raise SerializationError("no operation")
    return Call(
        context=application.context,
        operation=exchange.route.operation.name,
        request_id=exchange.request_id,
        account=exchange.principal.account,
        principal_arn=exchange.principal.arn,
        session=exchange.principal.session,
        identity=exchange.principal.identity,
        invocation=Invocation(invocation) if invocation else None,
    )


async def handle(application: Application, exchange: Exchange) -> None:
    """Call the operation's handler."""
    found, principal = exchange.route, exchange.principal
    if found is None or found.handler is None or principal is None:
        raise SerializationError("no operation")
    handler = found.handler
    invocation = invocation_of(found.operation.name, principal, exchange.headers, exchange.body)

    def attempt() -> Awaitable[Any]:
        return handler(_call(application, exchange, invocation), exchange.request)

    if application.elsewhere is None:
        exchange.answer = await attempt()
    else:
        repeatable = bool(invocation) or found.operation.name in REPEATABLE
        exchange.answer = await application.elsewhere.run(exchange, attempt, repeatable=repeatable)


def encode(application: Application, exchange: Exchange) -> None:
    """Turn the handler's answer into the body of the response; the leader's goes on as it came."""
    answer = exchange.answer
    if isinstance(answer, Relayed):
        exchange.status, exchange.request_id, exchange.body = answer
        if answer.status != 200:
            exchange.code = "relayed"
    elif exchange.form is not None and exchange.route is not None:
        exchange.body = query.encode(exchange.route.operation, answer, exchange.request_id)
    else:
        exchange.body = json.encode(answer)


STEPS: Final[tuple[Callable[[Application, Exchange], Awaitable[None] | None], ...]] = (
    make_room,
    read_body,
    route,
    refuse_pretenders,
    verify_signature,
    throttle,
    refuse_not_built,
    decode,
    identify,
    authorize,
    handle,
    encode,
)
"""The chain that every call passes, in order. An error of any step ends it, and becomes the answer."""
