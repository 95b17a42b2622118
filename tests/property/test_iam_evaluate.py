"""The decision engine against a slow, plain reference that reads the JSON anew for each question."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.iam.document import Kind, parse
from homeport.iam.evaluate import Policies, Request, evaluate
from homeport.iam.principal import Principal, PrincipalKind
from homeport.iam.wildcard import Pattern

HERE, THERE = "111122223333", "444455556666"
CALLERS = [
    Principal(PrincipalKind.ROOT, f"arn:aws:iam::{HERE}:root", HERE),
    Principal(PrincipalKind.USER, f"arn:aws:iam::{HERE}:user/a", HERE),
    Principal(PrincipalKind.USER, f"arn:aws:iam::{THERE}:user/a", THERE),
    Principal(PrincipalKind.ROLE_SESSION, f"arn:aws:sts::{HERE}:assumed-role/r/s", HERE, f"arn:aws:iam::{HERE}:role/r"),
    Principal(PrincipalKind.ROLE_SESSION, f"arn:aws:sts::{THERE}:assumed-role/r/s", THERE, f"arn:aws:iam::{THERE}:role/r"),
    Principal(PrincipalKind.SERVICE, "ecs-tasks.amazonaws.com", ""),
]
NAMED = sorted({name for caller in CALLERS for name in (caller.arn, caller.source_arn, caller.account) if name and "amazonaws" not in name})


# --- the reference: as the guide tells it, word by word ---


@cache
def glob(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return glob(pattern[1:], text) or (bool(text) and glob(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and glob(pattern[1:], text[1:])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def holds(operator: str, values: list[str], given_value: Any) -> bool:
    name = operator.split(":")[-1]
    if name == "Null":
        return (given_value is None) == (values[0] == "true")
    exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    agree = {
        "StringEquals": lambda one: one in values,
        "StringNotEquals": lambda one: one not in values,
        "StringLike": lambda one: any(glob(value, one) for value in values),
        "StringNotLike": lambda one: not any(glob(value, one) for value in values),
    }[name]
    if operator.startswith("ForAllValues:"):
        return given_value is None or all(agree(one) for one in listed(given_value))
    if operator.startswith("ForAnyValue:"):
        return exists if given_value is None else any(agree(one) for one in listed(given_value))
    if given_value is None:
        return exists or "Not" in name
    return bool(agree(given_value))


def matches(statement: dict[str, Any], request: Request) -> bool:
    acts = any(glob(pattern.lower(), request.action.lower()) for pattern in listed(statement.get("Action", statement.get("NotAction"))))
    reaches = any(glob(pattern, request.resource) for pattern in listed(statement.get("Resource", statement.get("NotResource"))))
    return (
        acts is ("Action" in statement)
        and reaches is ("Resource" in statement)
        and all(
            holds(operator, listed(values), request.context.get(key.lower()))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def effects(policies: list[Any], request: Request) -> set[str]:
    return {statement["Effect"] for policy in policies for statement in policy["Statement"] if matches(statement, request)}


def names(statement: dict[str, Any], caller: Principal) -> set[str]:
    """How a Principal element means the caller: everybody, account, role, self."""
    element = statement["Principal"]
    if element == "*":
        return {"everybody"}
    if caller.kind is PrincipalKind.SERVICE:
        return {"self"} if caller.arn in element.get("Service", []) else set()
    aws = element.get("AWS", [])
    found = {"account"} if caller.account in aws or f"arn:aws:iam::{caller.account}:root" in aws else set()
    return found | ({"self"} if caller.arn in aws else set()) | ({"role"} if caller.source_arn and caller.source_arn in aws else set())


def reference(request: Request, identity: list[Any], boundary: Any, session: list[Any] | None, resource: Any) -> bool:
    caller = request.principal
    every = [*identity, *([boundary] if boundary else []), *(session or [])]
    if "Deny" in effects(every, request):
        return False
    meant: set[str] = set()
    for statement in resource["Statement"] if resource else []:
        if matches(statement, request) and (how := names(statement, caller)):
            if statement["Effect"] == "Deny":
                return False
            meant |= how
    if caller.kind is PrincipalKind.SERVICE:
        return bool(meant)
    same = caller.account == request.account
    if (request.trusts or not same) and not meant:
        return False
    if caller.kind is PrincipalKind.ROOT:
        return True
    if same and "self" in meant:
        return True
    if not (same and meant & {"role", "everybody"}) and "Allow" not in effects(identity, request):
        return False
    return (boundary is None or "Allow" in effects([boundary], request)) and (session is None or "Allow" in effects(session, request))


# --- what is asked ---

texts = st.text("ab:/", max_size=4)
wild = st.text("ab*?:/", max_size=4)
actions = st.sampled_from(["*", "s:*", "s:a*", "s:?b", "s:ab", "t:*", "S:AB"])
resources = st.builds(lambda tail: f"arn:aws:s:::{tail}", wild) | st.just("*")
keys = st.sampled_from(["k:one", "k:many", "K:One"])
operators = st.sampled_from(
    [
        *(
            prefix + name + suffix
            for prefix in ("", "ForAllValues:", "ForAnyValue:")
            for name in ("StringEquals", "StringNotEquals")
            for suffix in ("", "IfExists")
        ),
        *("StringLike", "StringNotLike", "ForAllValues:StringLike", "ForAnyValue:StringNotLike", "StringLikeIfExists"),
    ]
)
nulls = st.tuples(st.just("Null"), st.dictionaries(keys, st.sampled_from(["true", "false"]), min_size=1, max_size=1))
conditions = st.lists(
    nulls | st.tuples(operators, st.dictionaries(keys, st.lists(wild, min_size=1, max_size=2), min_size=1, max_size=1)), max_size=2
).map(dict)


def one_or_many(values: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=3)


@st.composite
def statements(draw: st.DrawFn, *, attached: bool = False) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    statement[draw(st.sampled_from(["Action", "Action", "NotAction"]))] = draw(one_or_many(actions))
    statement[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(one_or_many(resources))
    if condition := draw(conditions):
        statement["Condition"] = condition
    if attached:
        aws = st.lists(st.sampled_from(NAMED), min_size=1, max_size=2).map(lambda many: {"AWS": many})
        statement["Principal"] = draw(st.just("*") | aws | st.just({"Service": ["ecs-tasks.amazonaws.com"]}))
    return statement


def documents(*, attached: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(statements(attached=attached), min_size=1, max_size=3).map(lambda many: {"Version": "2012-10-17", "Statement": many})


@st.composite
def requests(draw: st.DrawFn) -> Request:
    caller = draw(st.sampled_from(CALLERS))
    context: dict[str, str | tuple[str, ...]] = {}
    if draw(st.booleans()):
        context["k:one"] = draw(texts)
    if draw(st.booleans()):
        context["k:many"] = tuple(draw(st.lists(texts, min_size=1, max_size=3)))
    action = draw(st.sampled_from(["s:ab", "s:AB", "s:bb", "t:ab"]))
    return Request(caller, action, f"arn:aws:s:::{draw(texts)}", HERE, context, trusts=draw(st.booleans()))


def plain(operator_keys: dict[str, Any]) -> bool:
    """Whether a Condition asks a multivalued key with a plain operator, which the guide leaves open."""
    return any(not operator.startswith("For") and operator != "Null" and "k:many" in keys for operator, keys in operator_keys.items())


@settings(max_examples=600, deadline=None)
@given(
    requests(),
    st.lists(documents(), max_size=2),
    st.none() | documents(),
    st.none() | st.lists(documents(), max_size=2),
    st.none() | documents(attached=True),
)
def test_as_the_reference_says(request: Request, identity: list[Any], boundary: Any, session: list[Any] | None, resource: Any) -> None:
    every = [*identity, *([boundary] if boundary else []), *(session or []), *([resource] if resource else [])]
    if any(plain(statement.get("Condition", {})) for document in every for statement in document["Statement"]):
        return
    own = Policies(
        tuple(parse(json.dumps(document)) for document in identity),
        None if boundary is None else parse(json.dumps(boundary)),
        None if session is None else tuple(parse(json.dumps(document)) for document in session),
    )
    attached = None if resource is None else parse(json.dumps(resource), kind=Kind.RESOURCE)
    assert evaluate(request, own, attached).allowed is reference(request, identity, boundary, session, resource)


@settings(max_examples=1000, deadline=None)
@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_patterns_match_as_the_plain_definition_says(pattern: str, text: str) -> None:
    assert Pattern(pattern, wildcards=True, variables=False).matches(text, {}) is glob(pattern, text)
