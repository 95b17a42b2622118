"""What the audit log is told of a call: made at the one place where every call's end is known.

Owns: `Recorder`: which calls get a record, and what stands in it. Never decides a call, never writes a file, never passes on what is sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec

from homeport.api.cloudtrail.journal import READS
from homeport.api.permission import Origin, Ruling
from homeport.api.protocol import json, public
from homeport.audit.log import Audit
from homeport.audit.record import CALL, CONNECTION, SERVERS, Decision, SessionFacts
from homeport.errors import AccessDeniedError, ApiError, ExpiredTokenError, HomeportError, RuleViolatedError, ThrottlingError
from homeport.model import arn

if TYPE_CHECKING:
    from homeport.api.exchange import Exchange
    from homeport.api.permission import Guard
    from homeport.api.signature import Principal, Verifier

CREDENTIALS: Final = frozenset(
    (
        "AssumeRole",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "GetFederationToken",
        "GetSessionToken",
        "AssumeRoot",
        "Join",
        "RenewInstanceCredentials",
    )
)
"""Operations that give out credentials and leave no trace in the journal: nobody gets an answer before its record is on the disk."""
_CLAIMED: Final = re.compile(rb"Credential=((?:AKIA|ASIA)[A-Z0-9]{12,124})/")
"""An access key id as a request names it. What does not look like one may be a secret in the wrong place, and is not written down."""
_CHARACTERS_MAX: Final = 1024
_CONNECTION_MEMBERS: Final = ("cluster", "clusterArn", "containerInstance", "containerInstanceArn", "agentVersion")
_UNREAD: Final = "The request does not fit the operation's model."
_FREE: Final = Decision(allowed=True, by="root")


class Recorder:
    """Makes records of calls."""

    def __init__(self, audit: Audit, verifier: Verifier, guard: Guard | None) -> None:
        self.audit = audit
        self._verifier = verifier
        self._guard = guard

    def note(self, exchange: Exchange, origin: Origin) -> Awaitable[None] | None:
        """Record how a call ended. What this gives must be waited for before the answer leaves."""
        found, request = exchange.route, exchange.request
        expired = exchange.error.principal if isinstance(exchange.error, ExpiredTokenError) else None
        members = self._caller(exchange.principal or expired, exchange.headers)
        if found is not None:
            operation = found.operation
            members["service"], members["operation"] = operation.model.signing_name, operation.name
            if request is not None and (_is_proven(exchange) or exchange.status == 200):
                members["parameters"] = public.request_of(operation, request)
            if operation.name.startswith(READS):
                members["read_only"] = True
            elif exchange.status == 200:
                members["response"] = public.answer_of(operation, exchange.body if exchange.form is None else json.encode(exchange.answer))
        if exchange.code:
            members["error"], members["message"] = exchange.code, _message(exchange)
        decision, resources = _decision(exchange)
        self.audit.append(
            CALL,
            address=origin.address,
            secure=origin.secure,
            agent=origin.agent[:_CHARACTERS_MAX],
            status=exchange.status,
            request_id=exchange.request_id,
            decision=decision,
            resources=resources,
            **members,
        )
        if exchange.status == 200 and found is not None and found.operation.name in CREDENTIALS:
            return self.audit.durable()
        return None

    def note_servers(self, exchange: Exchange, origin: Origin) -> None:
        """Record that a path between servers was refused to somebody."""
        self.audit.append(
            SERVERS,
            address=origin.address,
            secure=origin.secure,
            agent=origin.agent[:_CHARACTERS_MAX],
            operation=str(exchange.scope["path"])[:_CHARACTERS_MAX],
            status=exchange.status,
            error=exchange.code,
            request_id=exchange.request_id,
            **self._caller(exchange.principal, exchange.headers),
        )

    def note_connection(self, scope: Mapping[str, Any], opened: Opening, headers: Mapping[bytes, bytes], origin: Origin) -> None:
        """Record that an agent's websocket was opened, or refused."""
        principal: Principal | None = None
        try:
            path = scope.get("raw_path") or scope["path"].encode()
            principal = self._verifier.handshake("GET", path.decode("latin-1"), scope["query_string"], scope["headers"])
        except HomeportError:  # that is what the record is about
            principal = None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        parameters = {name: query[name][0][:_CHARACTERS_MAX] for name in _CONNECTION_MEMBERS if name in query}
        self.audit.append(
            CONNECTION,
            service="ecs",
            operation={"/acs/ws": "Poll", "/tcs/ws": "StartTelemetrySession"}.get(scope["path"], ""),
            address=origin.address,
            secure=origin.secure,
            agent=origin.agent[:_CHARACTERS_MAX],
            read_only=True,
            parameters=msgspec.Raw(msgspec.json.encode(parameters)) if principal is not None else None,
            status=opened.status,
            error=opened.error,
            message=opened.message if principal is not None else "",
            request_id=opened.request_id,
            decision=Decision(allowed=not opened.error) if principal is not None else None,
            **self._caller(principal, headers),
        )

    def _caller(self, principal: Principal | None, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
        """Who called, as far as that is proven; else which key is named, and whose that is."""
        if principal is None:
            claimed = _CLAIMED.search(headers.get(b"authorization", b""))
            if claimed is None:
                return {}
            access_key_id = claimed[1].decode()
            return {"access_key_id": access_key_id, "account": self._verifier.account_of(access_key_id)}
        members: dict[str, Any] = {"account": principal.account, "principal": principal.arn, "access_key_id": principal.access_key_id}
        session = principal.session
        if self._guard is not None and (found := self._guard.user_id(principal.arn)):
            members["principal_id"] = found
        if principal.identity is not None:
            members["principal_id"] = principal.identity.principal_id
        if session is not None:
            members["session"] = SessionFacts(session.source_arn, session.source_id, float(session.issued_at), session.source_identity)
        return members


class Opening:
    """How the opening of a websocket ended, seen in what its handler sends."""

    __slots__ = ("error", "message", "request_id", "settled", "status")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.status, self.error, self.message = 101, "", ""
        self.settled = False

    def see(self, message: Mapping[str, Any]) -> bool:
        """Look at a message; True when it says how the opening ended, once."""
        if self.settled:
            return False
        kind = message["type"]
        if kind == "websocket.http.response.start":
            self.status = message["status"]
            self.error = next((value.decode() for name, value in message["headers"] if name == b"x-amzn-errortype"), "Refused")
            return False
        if kind == "websocket.http.response.body":
            self.message = _refusal_text(message.get("body", b""))
        elif kind == "websocket.close":
            self.status, self.error = 403, str(message.get("reason") or "Refused")
        self.settled = True
        return True


def _refusal_text(body: bytes) -> str:
    try:
        return next(iter(msgspec.json.decode(body, type=dict[str, str]).values()), "")[:_CHARACTERS_MAX]
    except msgspec.MsgspecError:
        return ""


def _message(exchange: Exchange) -> str:
    """What the caller was told, without what is sensitive: words that quote an unread request are left out."""
    error = exchange.error
    if not isinstance(error, ApiError):
        return ""
    if isinstance(error, RuleViolatedError):
        return error.recorded[:_CHARACTERS_MAX]
    if isinstance(error, AccessDeniedError | ExpiredTokenError):
        return error.message[:_CHARACTERS_MAX]
    if exchange.route is None or not _is_proven(exchange):
        return ""  # its words may quote what nobody signed
    if exchange.route.handler is None or isinstance(error, ThrottlingError):
        return error.message
    if exchange.request is None:
        return _UNREAD
    return public.without_secrets(error.message, exchange.route.operation, exchange.request)[:_CHARACTERS_MAX]


def _is_proven(exchange: Exchange) -> bool:
    """Whether somebody was found to have made the request; an operation that takes no signature finds out itself, or refuses."""
    return exchange.principal is not None and exchange.principal.arn != ""


def _decision(exchange: Exchange) -> tuple[Decision | None, tuple[str, ...]]:
    """(what the policies said, the resources that they were asked about)."""
    ruling, error = exchange.ruling, exchange.error
    if isinstance(error, AccessDeniedError):
        refused: Ruling | None = error.ruling
        return (_of(refused), refused.resources) if refused is not None else (Decision(allowed=False), ())
    if ruling is not None:
        return _of(ruling), ruling.resources
    principal = exchange.principal
    if principal is not None and exchange.request is not None and principal.arn == arn.root_arn(principal.account):
        return _FREE, ()
    return None, ()


def _of(ruling: Ruling) -> Decision:
    return Decision(ruling.allowed, ruling.by, ruling.explicit, ruling.policy, ruling.action, ruling.resource)
