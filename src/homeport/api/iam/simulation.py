"""What the policies would say: SimulateCustomPolicy and SimulatePrincipalPolicy, decided by the engine that decides for real.

Owns: the reading of the two requests and the form of their results.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from homeport.api.authority import Authority
from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.entity import GROUP, ROLE, USER
from homeport.errors import InvalidInputError, NoSuchEntityError
from homeport.iam.document import Kind, Policy, parse
from homeport.iam.evaluate import Decision, Policies, PolicyType, Request, evaluate
from homeport.iam.principal import Principal, PrincipalKind
from homeport.model import arn
from homeport.store.table import Reader, Table
from homeport.store.tables import GROUPS, MANAGED_POLICIES

_TYPES: Final = {
    PolicyType.IDENTITY: "IAM Policy",
    PolicyType.BOUNDARY: "IAM Policy",
    PolicyType.RESOURCE: "Resource Policy",
    PolicyType.SESSION: "IAM Policy",
}


async def simulate_custom_policy(call: Call, request: Any) -> dict[str, Any]:
    """SimulateCustomPolicy: for the policies of the request."""
    caller = _caller(request.CallerArn, call.account)
    return _answer(call, request, caller, Policies(_parsed(request.PolicyInputList, "PolicyInputList"), _boundary(request)))


async def simulate_principal_policy(call: Call, request: Any) -> dict[str, Any]:
    """SimulatePrincipalPolicy: for those of a user, group or role, and more of the request. Raises NoSuchEntityError for an unknown ARN."""
    found = await call.view(lambda reader: _of_entity(reader, call, request.PolicySourceArn))
    more = _parsed(request.PolicyInputList, "PolicyInputList")
    boundary = _boundary(request) or found.boundary
    caller = _caller(request.CallerArn or request.PolicySourceArn, call.account)
    return _answer(call, request, caller, Policies((*found.identity, *more), boundary))


def _of_entity(reader: Reader, call: Call, source_arn: str) -> Policies:
    """The policies of an entity, from the very view that compiles them for callers."""
    parsed = arn.parse_arn(source_arn)
    noun, _, rest = parsed.resource.partition("/") if parsed else ("", "", "")
    kind = {"user": USER, "group": GROUP, "role": ROLE}.get(noun)
    record = reader.get(kind.table, f"{call.account}/{rest.rpartition('/')[2].lower()}") if kind is not None else None
    if kind is None or record is None or entity.arn_of(kind, record) != source_arn:  # the caller was asked for this very ARN
        raise NoSuchEntityError(f"The entity with ARN {source_arn} cannot be found.")
    authority = Authority()
    followed: tuple[Table[Any], ...] = (MANAGED_POLICIES, GROUPS)
    for each in followed:
        for other in reader.find(each, "account", call.account):
            authority.change(each.name, None, other)
    return authority.of(record)


def _caller(caller_arn: str | None, account: str) -> Principal:
    if not caller_arn:
        return Principal(PrincipalKind.USER, f"arn:aws:iam::{account}:user/anonymous", account)
    parsed = arn.parse_arn(caller_arn)
    if parsed is None or parsed.service not in ("iam", "sts"):
        raise InvalidInputError(f"Invalid Entity Arn: {caller_arn} does not clearly define entity type and name.")
    return Principal(PrincipalKind.USER, caller_arn, parsed.account)


def _parsed(documents: Sequence[str] | None, name: str) -> tuple[Policy, ...]:
    return tuple(parse(document, name=f"{name}.{number}") for number, document in enumerate(documents or (), 1))


def _boundary(request: Any) -> Policy | None:
    given = _parsed(request.PermissionsBoundaryPolicyInputList, "PermissionsBoundaryPolicyInputList")
    return given[0] if given else None


def _answer(call: Call, request: Any, caller: Principal, policies: Policies) -> dict[str, Any]:
    resource_policy = parse(request.ResourcePolicy, kind=Kind.RESOURCE, name="ResourcePolicy") if request.ResourcePolicy else None
    context = _context(request.ContextEntries or ())
    account = (arn.parse_arn(request.ResourceOwner or "") or arn.Arn("", "", caller.account, "x")).account
    pairs = itertools.product(request.ActionNames, request.ResourceArns or ["*"])
    numbered, more = entity.page(
        call, request, enumerate(pairs), key=lambda each: f"{each[0]:06d}", filters=(request.ActionNames, request.ResourceArns)
    )
    results = []
    for _, (action, resource) in numbered:
        if ":" not in action:
            raise InvalidInputError(f"Invalid action: {action}")
        wanted = Request(caller, action, resource, account, context)
        results.append(_result(wanted, evaluate(wanted, policies, resource_policy), policies))
    return {"EvaluationResults": results, **more}


def _result(request: Request, decision: Decision, policies: Policies) -> dict[str, Any]:
    matched = [{"SourcePolicyId": decision.policy.name, "SourcePolicyType": _TYPES[decision.type]}] if decision.policy is not None else []
    answer: dict[str, Any] = {
        "EvalActionName": request.action,
        "EvalResourceName": request.resource,
        "EvalDecision": "allowed" if decision.allowed else "explicitDeny" if decision.explicit else "implicitDeny",
        "MatchedStatements": matched,
        "MissingContextValues": [],
    }
    if policies.boundary is not None:
        by_boundary = evaluate(request, Policies((policies.boundary,)))
        answer["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": by_boundary.allowed}
    return answer


def _context(entries: Iterable[Any]) -> dict[str, str | tuple[str, ...]]:
    found: dict[str, str | tuple[str, ...]] = {}
    for entry in entries:
        values = tuple(entry.ContextKeyValues or ())
        if entry.ContextKeyName and values:
            listed = str(entry.ContextKeyType or "").endswith("List")
            found[entry.ContextKeyName.lower()] = values if listed else values[0]
    return found
