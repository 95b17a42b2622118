"""May the caller do what the request wants: the step between reading a request and handling it.

Owns: `Ask`, `Guard`. Never says what an operation needs (`api/SERVICE/permission.py` does) nor how a decision falls (`iam.evaluate` does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs

from homeport.api import own_instance
from homeport.errors import AccessDeniedError, ExpiredTokenError, UnrecognizedClientError
from homeport.iam.evaluate import Decision, PolicyType, Request, evaluate, refusal
from homeport.iam.principal import Principal, PrincipalKind
from homeport.iam.wildcard import Context as Keys
from homeport.model import arn
from homeport.model.ecs.task import STOPPED
from homeport.store.tables import TASKS

if TYPE_CHECKING:
    from homeport.api.authority import Authority
    from homeport.api.call import Call
    from homeport.api.signature import Verifier
    from homeport.iam.session import Session
    from homeport.store.table import Reader


class Ask(NamedTuple):
    """One thing that must be allowed."""

    action: str
    """"ecs:RunTask"."""
    resource: str
    """An ARN, or "*"."""
    context: Keys
    """Condition keys in lower case, beside those that every request has."""
    trusts: bool = False
    """`resource` is a role, which must itself trust the caller with `action`."""


Asks = Callable[["Call", Any, "Reader"], list[Ask]]
"""(call, request, reader) → everything that must be allowed."""


class Origin(NamedTuple):
    """Where a request comes from."""

    address: str
    secure: bool
    agent: str
    now: float


class Ruling(NamedTuple):
    """What the policies said of a request, for its record."""

    allowed: bool
    by: str
    """The type of policy that decided."""
    explicit: bool
    policy: str
    """Name or ARN of the policy that decided, "" when none did."""
    action: str
    resource: str
    resources: tuple[str, ...]
    """Of everything that was asked."""


class SessionVerifier:
    """The check of an agent's websockets: a good signature, and a principal that may do what the connection is for, on that instance.

    What is asked is named as the connection acts on it: by the members that its path has, under this region and the caller's account.
    """

    def __init__(self, verifier: Verifier, guard: Guard, *, region: str) -> None:
        self._verifier = verifier
        self._guard = guard
        self._region = region

    def verify(
        self, method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], origin: tuple[str, bool] = ("", False)
    ) -> tuple[str, str, str]:
        """(account, principal ARN, identity of a host or "") behind the handshake of a client at `origin` (address, whether over TLS).

        The principal of a host is its role: reports of many hosts become one transaction, which names one principal. Whether the host may speak for
        the instance, the dispatcher asks where it opens the session. Raises as `Verifier.verify`, and AccessDeniedError.
        """
        caller = self._verifier.handshake(method, path, query, headers)
        if caller.session is not None and caller.session.task:
            raise AccessDeniedError("The credentials of a task open no connection of an agent.")
        if not self._guard.needs_none(caller.arn, caller.account):
            asked = self._asks(path, parse_qs(query.decode("latin-1")), caller.account)
            asking = principal_of(caller.arn, caller.account, caller.session)
            self._guard.judge(asking, self._region, asked, origin=Origin(*origin, "", self._verifier.now()), session=caller.session)
        if caller.session is not None and caller.session.instance:
            return caller.account, caller.session.source_arn, caller.session.instance
        return caller.account, caller.arn, ""

    def _asks(self, path: str, query: Mapping[str, Sequence[str]], account: str) -> list[Ask]:
        door = _DOORS.get(path)
        if door is None:  # another spelling of a path, such as /%61cs/ws, leads to the same door
            raise AccessDeniedError("The path of the connection is none of an agent's.")
        named = arn.parse_arn(query.get(door.instance, [""])[0])
        parts = named.resource.split("/") if named is not None else []
        if len(parts) != 3:
            return [Ask(door.action, "*", {})]
        cluster = arn.cluster_arn(self._region, account, parts[1])
        asked = [Ask(door.action, arn.container_instance_arn(self._region, account, parts[1], parts[2]), {"ecs:cluster": cluster})]
        if door.reports and query.get(door.reports) == ["1"]:
            asked += [Ask(f"ecs:{action}", cluster, {}) for action in ("SubmitTaskStateChange", "SubmitContainerStateChange")]
        return asked


class _Door(NamedTuple):
    """What a path's connections are for, and where their query names the instance."""

    action: str
    instance: str
    reports: str = ""
    """The member with which an agent asks to hand in its reports over the connection."""


_DOORS: Final = {
    "/acs/ws": _Door("ecs:Poll", "containerInstanceArn", "stateReports"),
    "/tcs/ws": _Door("ecs:StartTelemetrySession", "containerInstance"),
}


class Guard:
    """Asks the policies. The root of an account may do everything in it and is never asked."""

    def __init__(self, authority: Authority, asks: Mapping[str, Asks], *, organization: str = "") -> None:
        """`asks`: service → what its operations need. `organization`: what policies know all accounts of the installation by (aws:PrincipalOrgID)."""
        self._authority = authority
        self._asks = asks
        self._organization = organization

    def needs_none(self, principal_arn: str, account: str) -> bool:
        """Whether the caller is its account's root."""
        return principal_arn == arn.root_arn(account)

    def user_id(self, principal_arn: str) -> str:
        """The unique id of a user, "" for who is none."""
        user = self._authority.user(principal_arn)
        return user.id if user is not None else ""

    async def check(self, call: Call, request: Any, *, service: str, origin: Origin) -> Ruling | None:
        """What allowed it, if the caller of `call` may do what `request` wants. Raises AccessDeniedError with the reason."""
        asks = self._asks.get(service, _of_service(service))
        session = call.session
        if session is not None:
            _require_callable(session, service, call.operation)
        principal = principal_of(call.principal_arn, call.account, session)

        def decide(reader: Reader) -> Ruling | None:
            own_instance.require_known(reader, session)
            _require_task(reader, session)
            return self.judge(principal, call.region, asks(call, request, reader), origin=origin, session=session)

        return await call.view(decide)

    def judge(self, principal: Principal, region: str, asks: Sequence[Ask], *, origin: Origin, session: Session | None = None) -> Ruling | None:
        """What allowed the first of `asks`, if `principal` may do all of them; None for no asks. Raises AccessDeniedError with the reason."""
        policies = self._authority.policies(principal, session=session.policies if session is not None else None)
        shared = self.context(principal, region, origin)
        if session is not None:
            shared.update(_session_keys(session))
        first: Ruling | None = None
        stale = session is not None and not self._authority.is_there(session.source_arn, session.source_id)
        for ask in asks:
            account = _account_of(ask.resource, principal.account)
            wanted = Request(principal, ask.action, ask.resource, account, {**shared, "aws:resourceaccount": account, **ask.context}, ask.trusts)
            role = self._authority.role(ask.resource) if ask.trusts else None
            trust = self._authority.trust(role) if role is not None else None
            decision = _NOT_THERE if stale else evaluate(wanted, policies, trust)
            if not decision.allowed:
                raise AccessDeniedError(refusal(wanted, decision), ruling=_ruling(decision, ask, asks), refused=(wanted, decision))
            first = first or _ruling(decision, ask, asks)
        return first

    def context(self, principal: Principal, region: str, origin: Origin) -> dict[str, str | tuple[str, ...]]:
        """The condition keys that every request has."""
        found: dict[str, str | tuple[str, ...]] = {
            "aws:currenttime": datetime.fromtimestamp(origin.now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "aws:epochtime": str(int(origin.now)),
            "aws:securetransport": "true" if origin.secure else "false",
            "aws:requestedregion": region,
            "aws:viaawsservice": "false",
        }
        if self._organization:
            found["aws:resourceorgid"] = self._organization
        if principal.kind is not PrincipalKind.FEDERATED:  # who only has a token is no principal of an account yet
            found["aws:principalarn"] = principal.source_arn or principal.arn
            found["aws:principalaccount"], found["aws:principaltype"] = principal.account, principal.kind.value
            if self._organization:
                found["aws:principalorgid"] = self._organization
        if origin.address:
            found["aws:sourceip"] = origin.address
        if origin.agent:
            found["aws:useragent"] = origin.agent
        user, role = self._authority.user(principal.arn), self._authority.role(principal.source_arn)
        if user is not None:
            found["aws:username"], found["aws:userid"] = user.name, user.id
        if role is not None:
            found["aws:userid"] = f"{role.id}:{principal.arn.rpartition('/')[2]}"
        for owner in (role, user):
            found |= {f"aws:principaltag/{key.lower()}": value for key, value in (owner.tags if owner is not None else ())}
        return found


def _ruling(decision: Decision, ask: Ask, asks: Sequence[Ask]) -> Ruling:
    policy = decision.policy.name if decision.policy is not None else ""
    resources = tuple(dict.fromkeys(each.resource for each in asks if each.resource != "*"))
    return Ruling(decision.allowed, decision.type.value, decision.explicit, policy, ask.action, ask.resource, resources)


_KINDS: Final = {
    "user": PrincipalKind.USER,
    "assumed-role": PrincipalKind.ROLE_SESSION,
    "federated-user": PrincipalKind.FEDERATED_USER,
    "oidc-provider": PrincipalKind.FEDERATED,
}


_NOT_THERE: Final = Decision(False, PolicyType.IDENTITY)


def _require_task(reader: Reader, session: Session | None) -> None:
    """A session that was made for a task ends with it, whatever its token says."""
    if session is None or not session.task:
        return
    task = reader.get(TASKS, session.task)
    if task is None or task.last_status == STOPPED:
        raise ExpiredTokenError


def _require_callable(session: Session, service: str, operation: str) -> None:
    """A user's own session, made without a second factor, and a federated user's cannot call IAM, and hardly STS.

    Source: STS's API reference, GetSessionToken and GetFederationToken.
    """
    if session.kind == "assumed-role":
        return
    if service == "iam":
        raise UnrecognizedClientError
    free = ("GetCallerIdentity",) if session.kind == "federated-user" else ("AssumeRole", "GetCallerIdentity")
    if service == "sts" and operation not in free:
        raise AccessDeniedError(f"Cannot call {operation} with session credentials")


def _session_keys(session: Session) -> dict[str, str | tuple[str, ...]]:
    """The condition keys that a session adds; its tags come before those of its role or user."""
    issued = datetime.fromtimestamp(session.issued_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    found: dict[str, str | tuple[str, ...]] = {"aws:tokenissuetime": issued, "aws:multifactorauthpresent": "false"}
    found |= dict(session.claims)
    if session.kind == "federated-user":
        found["aws:userid"] = f"{session.account}:{session.name}"
    if session.source_identity:
        found["aws:sourceidentity"] = session.source_identity
    return found | {f"aws:principaltag/{key.lower()}": value for key, value in session.tags}


def principal_of(principal_arn: str, account: str, session: Session | None = None) -> Principal:
    """The caller behind an ARN; with temporary credentials also who is behind the session."""
    if principal_arn == arn.root_arn(account):
        return Principal(PrincipalKind.ROOT, principal_arn, account)
    parsed = arn.parse_arn(principal_arn)
    kind = parsed.resource.partition("/")[0] if parsed else ""
    return Principal(
        _KINDS.get(kind, PrincipalKind.USER),
        principal_arn,
        account,
        session.source_arn if session is not None and session.source_arn != principal_arn else "",
    )


def _of_service(service: str) -> Asks:
    """For a service whose operations have no resources: the action of the operation's name."""
    return lambda call, _request, _reader: [Ask(f"{service}:{call.operation}", "*", {})]


def _account_of(resource: str, default: str) -> str:
    parsed = arn.parse_arn(resource)
    return parsed.account if parsed is not None and parsed.account else default
