"""May this caller do this: one pure decision over all policies that apply.

Owns: the order of the policy types and which of them must agree. Never knows where policies are kept or how a call is answered.
Source: IAM user guide, "Policy evaluation logic", "Policy evaluation for requests within a single account" (the table of resource-based policies
and principals) and "Cross-account policy evaluation logic". Organizations' policies do not exist here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from homeport.iam.document import Policy, Statement
from homeport.iam.principal import Grant, Principal, PrincipalKind
from homeport.iam.wildcard import Context


class PolicyType(StrEnum):
    """The types of policies, in the words of a refusal."""

    IDENTITY = "identity-based policy"
    RESOURCE = "resource-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"


_WITHOUT_POLICIES: Final = (PrincipalKind.SERVICE, PrincipalKind.FEDERATED)  # only a resource's own policy can allow them anything


@dataclass(frozen=True, slots=True)
class Policies:
    """Every policy that applies to a caller.

    `boundary` is None where there is none (no limit), `session` None where the session was made without policies of its own (no limit); an empty
    `session` allows nothing.
    """

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants.

    `action` as in policies ("ecs:RunTask"), `resource` an ARN, or "*" for an action that has none; `account` the twelve digits of the account that
    the resource is in; `context` condition keys in lower case. `trusts` marks an action that the resource's own policy must allow, whatever the
    caller's say: assuming a role.
    """

    principal: Principal
    action: str
    resource: str
    account: str
    context: Context
    trusts: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer: `allowed`; the type of policy that decided; whether a Deny statement did, or nothing that allows; the statement that decided,
    if one did, with the policy that it stands in."""

    allowed: bool
    type: PolicyType
    explicit: bool = False
    policy: Policy | None = None
    statement: Statement | None = None


def evaluate(request: Request, policies: Policies, resource_policy: Policy | None = None) -> Decision:
    """Whether `request` is allowed by the policies of its caller and, where the resource has one, `resource_policy`. Never raises."""
    action = request.action.lower()
    denied = _denied(request, action, policies, resource_policy)
    if denied is not None:
        return denied
    grant, granting = _granted(request, action, resource_policy)
    abroad = request.account != request.principal.account
    if granting is None and (request.trusts or abroad or request.principal.kind in _WITHOUT_POLICIES):
        return Decision(False, PolicyType.RESOURCE)
    if request.principal.kind is PrincipalKind.ROOT:
        return Decision(True, PolicyType.IDENTITY)
    if granting is not None and _enough(grant, request.principal, abroad=abroad):
        return granting
    return _by_own_policies(request, action, policies, None if abroad or grant is not Grant.ROLE else granting)


def _denied(request: Request, action: str, policies: Policies, resource_policy: Policy | None) -> Decision | None:
    """The first Deny statement that applies, whichever policy it stands in."""
    groups = (
        (PolicyType.IDENTITY, policies.identity),
        (PolicyType.BOUNDARY, () if policies.boundary is None else (policies.boundary,)),
        (PolicyType.SESSION, policies.session or ()),
    )
    for kind, group in groups:
        for policy in group:
            for statement in policy.covering(action):
                if statement.deny and statement.applies(request.resource, request.context):
                    return Decision(False, kind, True, policy, statement)
    for statement in resource_policy.covering(action) if resource_policy is not None else ():
        bounded = policies.boundary is not None
        if (
            statement.deny
            and statement.principals is not None
            and statement.principals.denies(request.principal, bounded=bounded)
            and statement.applies(request.resource, request.context)
        ):
            return Decision(False, PolicyType.RESOURCE, True, resource_policy, statement)
    return None


def _granted(request: Request, action: str, resource_policy: Policy | None) -> tuple[Grant, Decision | None]:
    """The most direct Allow of the resource's own policy."""
    best: tuple[Grant, Decision | None] = (Grant.NONE, None)
    for statement in resource_policy.covering(action) if resource_policy is not None else ():
        if statement.deny or statement.principals is None:
            continue
        grant = statement.principals.grant(request.principal)
        if grant > best[0] and statement.applies(request.resource, request.context):
            best = (grant, Decision(True, PolicyType.RESOURCE, False, resource_policy, statement))
    return best


def _enough(grant: Grant, principal: Principal, *, abroad: bool) -> bool:
    """Whether the resource's policy alone decides."""
    if principal.kind in _WITHOUT_POLICIES:
        return True
    return grant is Grant.DIRECT and not abroad


def _by_own_policies(request: Request, action: str, policies: Policies, granting: Decision | None) -> Decision:
    """Identity policies (unless the resource's policy stands in for them), then boundary, then session policies: all must allow."""
    allowed = granting or _allowed(request, action, PolicyType.IDENTITY, policies.identity)
    if allowed is None:
        return Decision(False, PolicyType.IDENTITY)
    if policies.boundary is not None and _allowed(request, action, PolicyType.BOUNDARY, (policies.boundary,)) is None:
        return Decision(False, PolicyType.BOUNDARY)
    if policies.session is not None and _allowed(request, action, PolicyType.SESSION, policies.session) is None:
        return Decision(False, PolicyType.SESSION)
    return allowed


def _allowed(request: Request, action: str, kind: PolicyType, group: Iterable[Policy]) -> Decision | None:
    for policy in group:
        for statement in policy.covering(action):
            if not statement.deny and statement.applies(request.resource, request.context):
                return Decision(True, kind, False, policy, statement)
    return None


def refusal(request: Request, decision: Decision) -> str:
    """The sentence of an AccessDenied error: who, what, on which resource, and which type of policy refused.

    Source: IAM user guide, "Troubleshoot access denied error messages".
    """
    if request.principal.kind is PrincipalKind.FEDERATED:  # nobody that we know: STS tells them no more
        return f"Not authorized to perform {request.action}"
    article = "an" if decision.type is PolicyType.IDENTITY else "a"
    because = (
        f"with an explicit deny in {article} {decision.type}"
        if decision.explicit
        else f"because no {decision.type} allows the {request.action} action"
    )
    return f"User: {request.principal.arn} is not authorized to perform: {request.action} on resource: {request.resource} {because}"
