"""Decisions, case by case, from the IAM user guide: elements, evaluation within an account, across accounts, and the words of refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeport.iam.document import Kind, parse
from homeport.iam.evaluate import Policies, PolicyType, Request, evaluate, refusal
from homeport.iam.principal import Principal, PrincipalKind

ACCOUNT, OTHER = "111122223333", "444455556666"
ROOT = Principal(PrincipalKind.ROOT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
USER = Principal(PrincipalKind.USER, f"arn:aws:iam::{ACCOUNT}:user/bob", ACCOUNT)
SESSION = Principal(PrincipalKind.ROLE_SESSION, f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s1", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/app")
FEDERATED_USER = Principal(PrincipalKind.FEDERATED_USER, f"arn:aws:sts::{ACCOUNT}:federated-user/fred", ACCOUNT, USER.arn)
STRANGER = Principal(PrincipalKind.USER, f"arn:aws:iam::{OTHER}:user/eve", OTHER)
SERVICE = Principal(PrincipalKind.SERVICE, "ecs-tasks.amazonaws.com", "")
TOKEN = Principal(PrincipalKind.FEDERATED, f"arn:aws:iam::{ACCOUNT}:oidc-provider/ci.example", ACCOUNT)

PROD = f"arn:aws:ecs:eu-1:{ACCOUNT}:cluster/prod"
TASK = f"arn:aws:ecs:eu-1:{ACCOUNT}:task/prod/0123"
ALLOW, IMPLICIT, EXPLICIT = "allow", "implicit", "explicit"

Element = dict[str, Any]


def document(*statements: Element, version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> Element:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "*", resource: Any = "*", **more: Any) -> Element:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def without(statement: Element, name: str, **more: Any) -> Element:
    return {key: value for key, value in statement.items() if key != name} | more


STATEMENTS = [
    # statements of one identity policy, action, resource, what comes of it
    ([allow()], "ecs:RunTask", TASK, ALLOW),
    ([], "ecs:RunTask", TASK, IMPLICIT),
    ([allow("ecs:*")], "ecs:RunTask", TASK, ALLOW),
    ([allow("ecs:*")], "iam:GetUser", "*", IMPLICIT),
    ([allow("ECS:runtask")], "ecs:RunTask", TASK, ALLOW),
    ([allow("ecs:Run*")], "ecs:RunTask", TASK, ALLOW),
    ([allow("ecs:Run*")], "ecs:StartTask", TASK, IMPLICIT),
    ([allow("ecs:???Task")], "ecs:RunTask", TASK, ALLOW),
    ([allow("ecs:???Task")], "ecs:StopTask", TASK, IMPLICIT),
    ([allow("ecs:*Task*")], "ecs:DescribeTasks", TASK, ALLOW),
    ([allow(["ecs:RunTask", "ecs:StopTask"])], "ecs:StopTask", TASK, ALLOW),
    ([allow("*:*")], "ecs:StopTask", TASK, ALLOW),
    ([allow("ecs:RunTas")], "ecs:RunTask", TASK, IMPLICIT),
    ([allow("ecs:RunTask", PROD)], "ecs:RunTask", PROD, ALLOW),
    ([allow("ecs:RunTask", PROD)], "ecs:RunTask", PROD + "x", IMPLICIT),
    ([allow("ecs:RunTask", PROD)], "ecs:RunTask", "*", IMPLICIT),
    ([allow("ecs:RunTask", PROD.upper().replace("ARN", "arn"))], "ecs:RunTask", PROD, IMPLICIT),
    ([allow("ecs:*", f"arn:aws:ecs:*:{ACCOUNT}:task/prod/*")], "ecs:StopTask", TASK, ALLOW),
    ([allow("ecs:*", f"arn:aws:ecs:*:{ACCOUNT}:task/test/*")], "ecs:StopTask", TASK, IMPLICIT),
    ([allow("ecs:*", "arn:aws:ecs:*:*:task/*/0???")], "ecs:StopTask", TASK, ALLOW),
    ([allow("ecs:*", "arn:aws:ecs:*")], "ecs:StopTask", TASK, ALLOW),
    ([allow("ecs:*", "arn:aws:ecs")], "ecs:StopTask", TASK, ALLOW),
    ([allow("ecs:*", "arn:aws:s3")], "ecs:StopTask", TASK, IMPLICIT),
    ([allow("ecs:*", [PROD, "arn:aws:ecs:*:*:task/*"])], "ecs:StopTask", TASK, ALLOW),
    ([allow("ecs:*", "arn:aws:ecs:*:*:task*")], "ecs:StopTask", TASK, ALLOW),
    ([deny("ecs:StopTask"), allow()], "ecs:StopTask", TASK, EXPLICIT),
    ([allow(), deny("ecs:StopTask")], "ecs:StopTask", TASK, EXPLICIT),
    ([allow(), deny("ecs:StopTask")], "ecs:RunTask", TASK, ALLOW),
    ([allow(), deny("ecs:*", PROD)], "ecs:RunTask", TASK, ALLOW),
    ([allow(), deny("ecs:*", PROD)], "ecs:DeleteCluster", PROD, EXPLICIT),
    ([deny("ecs:*", PROD)], "ecs:RunTask", TASK, IMPLICIT),
    ([without(allow(), "Action", NotAction="iam:*")], "ecs:RunTask", TASK, ALLOW),
    ([without(allow(), "Action", NotAction="iam:*")], "iam:CreateUser", "*", IMPLICIT),
    ([without(allow(), "Action", NotAction=["iam:*", "ecs:Delete*"])], "ecs:DeleteCluster", PROD, IMPLICIT),
    ([allow(), without(deny(), "Action", NotAction="ecs:*")], "iam:CreateUser", "*", EXPLICIT),
    ([allow(), without(deny(), "Action", NotAction="ecs:*")], "ecs:RunTask", TASK, ALLOW),
    ([without(allow(), "Resource", NotResource=PROD)], "ecs:RunTask", TASK, ALLOW),
    ([without(allow(), "Resource", NotResource=PROD)], "ecs:DeleteCluster", PROD, IMPLICIT),
    ([without(allow(), "Resource", NotResource=[PROD, "arn:aws:ecs:*:*:task/*"])], "ecs:RunTask", TASK, IMPLICIT),
    ([allow(), without(deny(), "Resource", NotResource="arn:aws:ecs:*:*:task/*")], "ecs:DeleteCluster", PROD, EXPLICIT),
    ([allow(), without(deny(), "Resource", NotResource="arn:aws:ecs:*:*:task/*")], "ecs:StopTask", TASK, ALLOW),
    ([without(allow(), "Resource", NotResource="*")], "ecs:RunTask", TASK, IMPLICIT),
    ([allow(Condition={"StringEquals": {"aws:username": "bob"}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(Condition={"StringEquals": {"aws:username": "alice"}})], "ecs:RunTask", TASK, IMPLICIT),
    ([allow(Condition={"StringEquals": {"aws:username": ["alice", "bob"]}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(Condition={"StringEquals": {"AWS:USERNAME": "bob"}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(Condition={"StringEquals": {"aws:username": "bob", "aws:principaltag/team": "red"}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(Condition={"StringEquals": {"aws:username": "bob", "aws:PrincipalTag/team": "blue"}})], "ecs:RunTask", TASK, IMPLICIT),
    ([allow(Condition={"StringEquals": {"aws:username": "bob"}, "Bool": {"aws:SecureTransport": "true"}})], "ecs:RunTask", TASK, IMPLICIT),
    ([allow(Condition={"StringEquals": {"aws:username": "bob"}, "Bool": {"aws:SecureTransport": False}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(Condition={"ArnEquals": {"ecs:cluster": PROD}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(), deny(Condition={"ArnNotEquals": {"ecs:cluster": PROD}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(), deny(Condition={"ArnEquals": {"ecs:cluster": PROD}})], "ecs:RunTask", TASK, EXPLICIT),
    ([allow(), deny(Condition={"StringNotEquals": {"ecs:nothing": "x"}})], "ecs:RunTask", TASK, EXPLICIT),
    ([allow(), deny(Condition={"StringNotEqualsIfExists": {"ecs:nothing": "x"}})], "ecs:RunTask", TASK, EXPLICIT),
    ([allow(), deny(Condition={"Bool": {"aws:MultiFactorAuthPresent": "false"}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(), deny(Condition={"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}})], "ecs:RunTask", TASK, EXPLICIT),
    ([allow(Condition={"ForAllValues:StringEquals": {"aws:TagKeys": ["team", "stage"]}})], "ecs:TagResource", TASK, ALLOW),
    ([allow(Condition={"ForAllValues:StringEquals": {"aws:TagKeys": ["stage"]}})], "ecs:TagResource", TASK, IMPLICIT),
    ([allow("ecs:*", "arn:aws:ecs:*:*:task/${aws:PrincipalTag/cluster}/*")], "ecs:StopTask", TASK, ALLOW),
    ([allow("ecs:*", "arn:aws:ecs:*:*:task/${aws:PrincipalTag/none}/*")], "ecs:StopTask", TASK, IMPLICIT),
    ([allow("ecs:*", "arn:aws:ecs:*:*:task/${aws:PrincipalTag/none, 'prod'}/*")], "ecs:StopTask", TASK, ALLOW),
    ([allow(), deny("ecs:*", "arn:aws:ecs:*:*:task/${aws:PrincipalTag/none}/*")], "ecs:StopTask", TASK, ALLOW),
    ([allow(Condition={"IpAddress": {"aws:SourceIp": "100.64.0.0/10"}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(), deny(Condition={"NotIpAddress": {"aws:SourceIp": ["203.0.113.0/24", "198.51.100.0/24"]}})], "ecs:RunTask", TASK, EXPLICIT),
    ([allow(Condition={"DateLessThan": {"aws:CurrentTime": "2026-12-31T00:00:00Z"}})], "ecs:RunTask", TASK, ALLOW),
    ([allow(Condition={"DateGreaterThan": {"aws:CurrentTime": "2026-12-31T00:00:00Z"}})], "ecs:RunTask", TASK, IMPLICIT),
    (
        [allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}})],
        "iam:PassRole",
        "arn:aws:iam::1:role/x",
        ALLOW,
    ),
    (
        [allow("iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}})],
        "iam:PassRole",
        "arn:aws:iam::1:role/x",
        IMPLICIT,
    ),
]
CONTEXT = {
    "aws:username": "bob",
    "aws:principaltag/team": "red",
    "aws:principaltag/cluster": "prod",
    "aws:securetransport": "false",
    "aws:sourceip": "100.64.1.2",
    "aws:currenttime": "2026-06-01T00:00:00Z",
    "aws:tagkeys": ("team", "stage"),
    "ecs:cluster": PROD,
    "iam:passedtoservice": "ecs-tasks.amazonaws.com",
}

LAYERS = [
    # identity, boundary, session policies (None: none), what comes of it, which type decided
    ([allow()], None, None, ALLOW, PolicyType.IDENTITY),
    ([], None, None, IMPLICIT, PolicyType.IDENTITY),
    ([allow()], [allow()], None, ALLOW, PolicyType.IDENTITY),
    ([allow()], [allow("ecs:*")], None, ALLOW, PolicyType.IDENTITY),
    ([allow()], [allow("iam:*")], None, IMPLICIT, PolicyType.BOUNDARY),
    ([], [allow()], None, IMPLICIT, PolicyType.IDENTITY),
    ([allow()], [allow(), deny("ecs:RunTask")], None, EXPLICIT, PolicyType.BOUNDARY),
    ([allow()], None, [allow()], ALLOW, PolicyType.IDENTITY),
    ([allow()], None, [allow("iam:*")], IMPLICIT, PolicyType.SESSION),
    ([allow()], None, [], IMPLICIT, PolicyType.SESSION),
    ([], None, [allow()], IMPLICIT, PolicyType.IDENTITY),
    ([allow()], None, [allow(), deny("ecs:RunTask")], EXPLICIT, PolicyType.SESSION),
    ([allow()], [allow("ecs:*")], [allow("ecs:RunTask")], ALLOW, PolicyType.IDENTITY),
    ([allow()], [allow("ecs:*")], [allow("ecs:StopTask")], IMPLICIT, PolicyType.SESSION),
    ([allow()], [allow("iam:*")], [allow()], IMPLICIT, PolicyType.BOUNDARY),
    ([allow(), deny("ecs:*")], [allow()], [allow()], EXPLICIT, PolicyType.IDENTITY),
    ([deny("ecs:*")], [deny()], [deny()], EXPLICIT, PolicyType.IDENTITY),
]


def by(*statements: Element, principal: Any) -> list[Element]:
    """Statements of a resource's own policy."""
    return [statement | {"Principal": principal} for statement in statements]


def aws(*names: str) -> dict[str, Any]:
    return {"AWS": list(names)}


TO_USER, TO_ROLE, TO_SESSION = aws(USER.arn), aws(SESSION.source_arn), aws(SESSION.arn)
TO_ACCOUNT, TO_ACCOUNT_ROOT = aws(ACCOUNT), aws(ROOT.arn)
NO, YES = [deny("iam:Nothing")], [allow()]
WITHIN = [
    # caller, the resource's policy, identity, boundary, session, what comes of it: the guide's table of principals in one account
    (USER, by(allow(), principal=TO_USER), NO, None, None, ALLOW),
    (USER, by(allow(), principal=TO_USER), NO, NO, None, ALLOW),
    (USER, by(allow(), principal=TO_ACCOUNT), NO, None, None, IMPLICIT),
    (USER, by(allow(), principal=TO_ACCOUNT), YES, None, None, ALLOW),
    (USER, by(allow(), principal=TO_ACCOUNT_ROOT), NO, None, None, IMPLICIT),
    (USER, by(allow(), principal=TO_ACCOUNT_ROOT), YES, NO, None, IMPLICIT),
    (USER, by(allow(), principal="*"), NO, None, None, ALLOW),
    (USER, by(allow(), principal=aws("*")), NO, None, None, ALLOW),
    (USER, by(allow(), principal=TO_SESSION), NO, None, None, IMPLICIT),
    (USER, by(allow(), principal=TO_SESSION), YES, None, None, ALLOW),
    (USER, by(allow(), principal=aws(f"arn:aws:iam::{OTHER}:user/bob")), NO, None, None, IMPLICIT),
    (USER, by(deny(), principal=TO_USER), YES, None, None, EXPLICIT),
    (USER, by(deny(), principal=TO_ACCOUNT_ROOT), YES, None, None, EXPLICIT),
    (USER, by(deny(), principal="*"), YES, None, None, EXPLICIT),
    (USER, by(deny(), principal=TO_ROLE), YES, None, None, ALLOW),
    (USER, by(allow("ecs:StopTask"), principal=TO_USER), NO, None, None, IMPLICIT),
    (USER, by(allow(), principal=TO_USER), [deny("ecs:*")], None, None, EXPLICIT),
    (USER, by(allow(), principal=TO_USER), NO, [deny("ecs:*")], None, EXPLICIT),
    (SESSION, by(allow(), principal=TO_ROLE), NO, None, None, ALLOW),
    (SESSION, by(allow(), principal=TO_ROLE), NO, NO, None, IMPLICIT),
    (SESSION, by(allow(), principal=TO_ROLE), NO, YES, None, ALLOW),
    (SESSION, by(allow(), principal=TO_ROLE), NO, None, NO, IMPLICIT),
    (SESSION, by(allow(), principal=TO_ROLE), NO, None, YES, ALLOW),
    (SESSION, by(allow(), principal=TO_ROLE), NO, YES, NO, IMPLICIT),
    (SESSION, by(allow(), principal=TO_SESSION), NO, None, None, ALLOW),
    (SESSION, by(allow(), principal=TO_SESSION), NO, NO, NO, ALLOW),
    (SESSION, by(allow(), principal=TO_ACCOUNT), NO, None, None, IMPLICIT),
    (SESSION, by(allow(), principal=TO_ACCOUNT), YES, None, YES, ALLOW),
    (SESSION, by(allow(), principal=aws(f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s2")), NO, None, None, IMPLICIT),
    (SESSION, by(deny(), principal=TO_ROLE), YES, None, None, EXPLICIT),
    (SESSION, by(deny(), principal=TO_SESSION), YES, None, None, EXPLICIT),
    (SESSION, by(deny(), principal=aws(f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s2")), YES, None, None, ALLOW),
    (SESSION, by(allow(), principal=TO_ROLE) + by(allow(), principal=TO_SESSION), NO, NO, NO, ALLOW),
    (FEDERATED_USER, by(allow(), principal=TO_USER), NO, None, NO, IMPLICIT),
    (FEDERATED_USER, by(allow(), principal=TO_USER), NO, None, YES, ALLOW),
    (FEDERATED_USER, by(allow(), principal=aws(FEDERATED_USER.arn)), NO, None, NO, ALLOW),
    (ROOT, [], [], None, None, ALLOW),
    (ROOT, by(deny(), principal=TO_ACCOUNT_ROOT), [], None, None, EXPLICIT),
    (ROOT, by(deny(), principal="*"), [], None, None, EXPLICIT),
    (SERVICE, by(allow(), principal={"Service": "ecs-tasks.amazonaws.com"}), [], None, None, ALLOW),
    (SERVICE, by(allow(), principal={"Service": "ec2.amazonaws.com"}), [], None, None, IMPLICIT),
    (SERVICE, by(allow(), principal={"Service": ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"]}), [], None, None, ALLOW),
    (SERVICE, by(allow(), principal=TO_ACCOUNT), [], None, None, IMPLICIT),
    (SERVICE, by(deny(), principal={"Service": "ecs-tasks.amazonaws.com"}) + by(allow(), principal="*"), [], None, None, EXPLICIT),
    (SERVICE, [], [], None, None, IMPLICIT),
]

NOT_PRINCIPAL = [
    # caller, who is excluded from the Deny, whether it has a boundary, what comes of it (identity allows all)
    (USER, aws(USER.arn, ROOT.arn), False, ALLOW),
    (USER, aws(USER.arn), False, EXPLICIT),
    (USER, aws(ROOT.arn), False, EXPLICIT),
    (USER, aws(USER.arn, ROOT.arn), True, EXPLICIT),
    (USER, aws(f"arn:aws:iam::{ACCOUNT}:user/alice", ROOT.arn), False, EXPLICIT),
    (SESSION, aws(SESSION.arn, SESSION.source_arn, ROOT.arn), False, ALLOW),
    (SESSION, aws(SESSION.source_arn, ROOT.arn), False, EXPLICIT),
    (SESSION, aws(SESSION.arn, ROOT.arn), False, EXPLICIT),
    (SESSION, aws(SESSION.arn, SESSION.source_arn, ACCOUNT), False, ALLOW),
    (ROOT, aws(ROOT.arn), False, ALLOW),
    (ROOT, aws(USER.arn), False, EXPLICIT),
    (USER, "*", False, ALLOW),
]

ACROSS = [
    # caller of another account, the resource's policy, identity, boundary, session, what comes of it
    (STRANGER, [], YES, None, None, IMPLICIT),
    (STRANGER, by(allow(), principal=aws(STRANGER.arn)), NO, None, None, IMPLICIT),
    (STRANGER, by(allow(), principal=aws(STRANGER.arn)), YES, None, None, ALLOW),
    (STRANGER, by(allow(), principal=aws(STRANGER.arn)), YES, NO, None, IMPLICIT),
    (STRANGER, by(allow(), principal=aws(STRANGER.arn)), YES, None, NO, IMPLICIT),
    (STRANGER, by(allow(), principal=aws(OTHER)), YES, None, None, ALLOW),
    (STRANGER, by(allow(), principal=aws(f"arn:aws:iam::{OTHER}:root")), YES, None, None, ALLOW),
    (STRANGER, by(allow(), principal=aws(OTHER)), NO, None, None, IMPLICIT),
    (STRANGER, by(allow(), principal="*"), YES, None, None, ALLOW),
    (STRANGER, by(allow(), principal="*"), NO, None, None, IMPLICIT),
    (STRANGER, by(allow(), principal=TO_ACCOUNT), YES, None, None, IMPLICIT),
    (STRANGER, by(deny(), principal=aws(OTHER)) + by(allow(), principal="*"), YES, None, None, EXPLICIT),
    (STRANGER, by(allow(), principal=aws(OTHER)), [allow(), deny("ecs:*")], None, None, EXPLICIT),
    (Principal(PrincipalKind.ROOT, f"arn:aws:iam::{OTHER}:root", OTHER), [], [], None, None, IMPLICIT),
    (Principal(PrincipalKind.ROOT, f"arn:aws:iam::{OTHER}:root", OTHER), by(allow(), principal=aws(OTHER)), [], None, None, ALLOW),
]

TRUST = [
    # caller, whom the role trusts, identity policies, what comes of sts:AssumeRole
    (USER, TO_USER, NO, ALLOW),
    (USER, TO_ACCOUNT_ROOT, NO, IMPLICIT),
    (USER, TO_ACCOUNT_ROOT, YES, ALLOW),
    (USER, TO_ROLE, YES, IMPLICIT),
    (USER, aws(OTHER), YES, IMPLICIT),
    (SESSION, TO_ROLE, NO, ALLOW),
    (SESSION, TO_SESSION, NO, ALLOW),
    (ROOT, TO_USER, [], IMPLICIT),
    (ROOT, TO_ACCOUNT_ROOT, [], ALLOW),
    (STRANGER, aws(OTHER), YES, ALLOW),
    (STRANGER, aws(OTHER), NO, IMPLICIT),
    (STRANGER, aws(STRANGER.arn), NO, IMPLICIT),
    (STRANGER, TO_ACCOUNT_ROOT, YES, IMPLICIT),
    (SERVICE, {"Service": "ecs-tasks.amazonaws.com"}, [], ALLOW),
    (SERVICE, {"Service": "ec2.amazonaws.com"}, [], IMPLICIT),
    (SERVICE, TO_ACCOUNT_ROOT, [], IMPLICIT),
    (TOKEN, {"Federated": TOKEN.arn}, [], ALLOW),
    (TOKEN, {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/other.example"}, [], IMPLICIT),
    (TOKEN, TO_ACCOUNT_ROOT, [], IMPLICIT),
]


def policies(identity: list[Element], boundary: list[Element] | None = None, session: list[Element] | None = None) -> Policies:
    return Policies(
        identity=(parse(document(*identity)),) if identity else (),
        boundary=None if boundary is None else parse(document(*boundary)),
        session=None if session is None else (parse(document(*session)),) if session else (),
    )


def outcome(request: Request, applying: Policies, resource_policy: list[Element] | None = None) -> str:
    attached = parse(document(*resource_policy), kind=Kind.RESOURCE) if resource_policy else None
    decision = evaluate(request, applying, attached)
    return ALLOW if decision.allowed else EXPLICIT if decision.explicit else IMPLICIT


def ask(principal: Principal = USER, action: str = "ecs:RunTask", resource: str = TASK) -> Request:
    return Request(principal, action, resource, ACCOUNT, CONTEXT)


@pytest.mark.parametrize(("statements", "action", "resource", "expected"), STATEMENTS)
def test_statements(statements: list[Element], action: str, resource: str, expected: str) -> None:
    assert outcome(ask(action=action, resource=resource), policies(statements)) == expected


@pytest.mark.parametrize(("identity", "boundary", "session", "expected", "kind"), LAYERS)
def test_layers(identity: list[Element], boundary: list[Element] | None, session: list[Element] | None, expected: str, kind: PolicyType) -> None:
    decision = evaluate(ask(SESSION), policies(identity, boundary, session))
    assert (decision.allowed, decision.explicit, decision.type) == (expected == ALLOW, expected == EXPLICIT, kind)


@pytest.mark.parametrize(("caller", "resource_policy", "identity", "boundary", "session", "expected"), WITHIN)
def test_resource_policies_within_an_account(
    caller: Principal,
    resource_policy: list[Element],
    identity: list[Element],
    boundary: list[Element] | None,
    session: list[Element] | None,
    expected: str,
) -> None:
    assert outcome(ask(caller), policies(identity, boundary, session), resource_policy) == expected


@pytest.mark.parametrize(("caller", "resource_policy", "identity", "boundary", "session", "expected"), ACROSS)
def test_across_accounts(
    caller: Principal,
    resource_policy: list[Element],
    identity: list[Element],
    boundary: list[Element] | None,
    session: list[Element] | None,
    expected: str,
) -> None:
    assert outcome(ask(caller), policies(identity, boundary, session), resource_policy) == expected


@pytest.mark.parametrize(("caller", "spared", "bounded", "expected"), NOT_PRINCIPAL)
def test_not_principal_with_deny(caller: Principal, spared: Any, bounded: bool, expected: str) -> None:
    resource_policy = [without(deny(), "Principal", NotPrincipal=spared)]
    assert outcome(ask(caller), policies(YES, YES if bounded else None), resource_policy) == expected


@pytest.mark.parametrize(("caller", "trusted", "identity", "expected"), TRUST)
def test_assuming_a_role(caller: Principal, trusted: Any, identity: list[Element], expected: str) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/target"
    trust = parse(document({"Effect": "Allow", "Principal": trusted, "Action": "sts:*"}), kind=Kind.TRUST)
    decision = evaluate(Request(caller, "sts:AssumeRole", role, ACCOUNT, {}, trusts=True), policies(identity), trust)
    assert (ALLOW if decision.allowed else EXPLICIT if decision.explicit else IMPLICIT) == expected


def test_a_trust_policys_condition_holds() -> None:
    statement = {"Effect": "Allow", "Principal": TO_USER, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "s3cret"}}}
    trust = parse(document(statement), kind=Kind.TRUST)
    for given, allowed in (({"sts:externalid": "s3cret"}, True), ({"sts:externalid": "other"}, False), ({}, False)):
        request = Request(USER, "sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/target", ACCOUNT, given, trusts=True)
        assert evaluate(request, Policies(), trust).allowed is allowed


def test_2008_policies_know_no_variables() -> None:
    statement = allow("ecs:*", "arn:aws:ecs:*:*:task/${aws:PrincipalTag/cluster}/*")
    old = Policies((parse(document(statement, version="2008-10-17")),))
    assert not evaluate(ask(), old).allowed
    assert evaluate(ask(resource="arn:aws:ecs:r:1:task/${aws:PrincipalTag/cluster}/1"), old).allowed


@pytest.mark.parametrize(
    ("applying", "resource_policy", "because"),
    [
        (policies([]), None, "because no identity-based policy allows the ecs:RunTask action"),
        (policies([deny()]), None, "with an explicit deny in an identity-based policy"),
        (policies(YES, NO), None, "because no permissions boundary allows the ecs:RunTask action"),
        (policies(YES, [deny()]), None, "with an explicit deny in a permissions boundary"),
        (policies(YES, None, NO), None, "because no session policy allows the ecs:RunTask action"),
        (policies(YES, None, [deny()]), None, "with an explicit deny in a session policy"),
        (policies(YES), by(deny(), principal="*"), "with an explicit deny in a resource-based policy"),
    ],
)
def test_the_words_of_a_refusal(applying: Policies, resource_policy: list[Element] | None, because: str) -> None:
    attached = parse(document(*resource_policy), kind=Kind.RESOURCE) if resource_policy else None
    decision = evaluate(ask(SESSION), applying, attached)
    assert refusal(ask(SESSION), decision) == f"User: {SESSION.arn} is not authorized to perform: ecs:RunTask on resource: {TASK} {because}"


def test_the_words_when_a_resource_trusts_nobody() -> None:
    request = Request(USER, "sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/x", ACCOUNT, {}, trusts=True)
    assert refusal(request, evaluate(request, policies(YES))).endswith("because no resource-based policy allows the sts:AssumeRole action")


def test_a_decision_names_its_statement() -> None:
    named = parse(document(allow(Sid="A"), deny("ecs:RunTask", Sid="B")), name="mine")
    decision = evaluate(ask(), Policies((named,)))
    assert decision.policy is named
    assert decision.statement is not None
    assert decision.statement.sid == "B"
