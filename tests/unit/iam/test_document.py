"""Policy documents that IAM refuses, each with its sentence, and those that look odd and are right."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from homeport.errors import MalformedPolicyDocumentError
from homeport.iam.document import Kind, parse

ALLOW = {"Effect": "Allow", "Action": "*", "Resource": "*"}
TRUST = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
SYNTAX = "Syntax errors in policy."


def whole(**statement: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{name: value for name, value in (ALLOW | statement).items() if value is not None}]}


REFUSED = [
    ("", SYNTAX),
    ("null", SYNTAX),
    ("[]", SYNTAX),
    ("{", SYNTAX),
    ('{"Statement": NaN}', SYNTAX),
    ('{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}', SYNTAX),
    ({"Version": "2012-10-17"}, SYNTAX),
    ({"Version": "2012-10-17", "Statement": []}, SYNTAX),
    ({"Version": "2012-10-17", "Statement": "x"}, SYNTAX),
    ({"Version": "2012-10-17", "Statement": ["x"]}, SYNTAX),
    ({"Version": "2012-10-17", "Statement": [ALLOW], "More": 1}, SYNTAX),
    ({"Version": "2012-10-18", "Statement": [ALLOW]}, "The policy must contain a valid version string."),
    ({"Version": "2012-10-17", "Id": 5, "Statement": [ALLOW]}, SYNTAX),
    (whole(Extra="x"), SYNTAX),
    (whole(Effect=None), "Missing required field Effect"),
    (whole(Effect="allow"), "Invalid effect: allow"),
    (whole(Action=None), "Policy statement must contain actions."),
    (whole(Action=[]), "Policy statement must contain actions."),
    (whole(Action=5), SYNTAX),
    (whole(Action=[5]), SYNTAX),
    (whole(Action="RunTask"), "Actions/Conditions must be prefaced by a vendor"),
    (whole(Action="e*s:RunTask"), "Action e*s:RunTask is not valid."),
    (whole(Action="ecs:Run Task"), "Action ecs:Run Task is not valid."),
    (whole(NotAction="ecs:*"), SYNTAX),
    (whole(Resource=None), "Policy statement must contain resources."),
    (whole(Resource="prod"), 'Resource prod must be in ARN format or "*".'),
    (whole(NotResource="*"), SYNTAX),
    (whole(Resource=[{"a": 1}]), SYNTAX),
    (whole(Principal="*"), "Policy document should not specify a principal."),
    (whole(NotPrincipal="*"), "Policy document should not specify a principal."),
    (whole(Sid="no spaces"), "Statement IDs (SID) must be alpha-numeric."),
    (whole(Sid=5), SYNTAX),
    ({"Version": "2012-10-17", "Statement": [ALLOW | {"Sid": "A"}, ALLOW | {"Sid": "A"}]}, "Statement IDs (SID) in a single policy must be unique."),
    (whole(Condition=[]), SYNTAX),
    (whole(Condition={"StringEquals": "x"}), SYNTAX),
    (whole(Condition={"StringEquals": {"aws:username": []}}), SYNTAX),
    (whole(Condition={"StringEquals": {"aws:username": [None]}}), SYNTAX),
    (whole(Condition={"StringEquals": {"aws:username": {"a": "b"}}}), SYNTAX),
    (whole(Condition={"StringEqual": {"aws:username": "x"}}), "Invalid Condition type : StringEqual."),
    (whole(Condition={"StringEquals": {"username": "x"}}), "Actions/Conditions must be prefaced by a vendor"),
]
REFUSED_TRUST = [
    (TRUST | {"Resource": "*"}, "Has prohibited field Resource"),
    (TRUST | {"NotResource": "*"}, "Has prohibited field Resource"),
    ({name: value for name, value in TRUST.items() if name != "Principal"}, "Missing required field Principal"),
    (TRUST | {"NotPrincipal": "*"}, "Missing required field Principal"),
    (TRUST | {"Action": "ecs:RunTask"}, "AssumeRole policy may only specify STS AssumeRole actions."),
    (TRUST | {"Principal": "nobody"}, "Invalid principal in policy"),
    (TRUST | {"Principal": {}}, "Invalid principal in policy"),
    (TRUST | {"Principal": {"Person": "x"}}, "Invalid principal in policy"),
    (TRUST | {"Principal": {"AWS": []}}, SYNTAX),
    (TRUST | {"Principal": {"AWS": "bob"}}, 'Invalid principal in policy: "AWS":"bob"'),
    (TRUST | {"Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}}, 'Invalid principal in policy: "AWS"'),
    (TRUST | {"Principal": {"AWS": "arn:aws:iam::1111:user/x"}}, 'Invalid principal in policy: "AWS"'),
    (TRUST | {"Principal": {"Service": "ecs"}}, 'Invalid principal in policy: "Service":"ecs"'),
    (TRUST | {"Principal": {"Service": "*"}}, 'Invalid principal in policy: "Service":"*"'),
    (TRUST | {"Principal": {"Federated": "*"}}, 'Invalid principal in policy: "Federated":"*"'),
    (TRUST | {"Principal": {"CanonicalUser": "79a5"}}, 'Invalid principal in policy: "CanonicalUser"'),
]
ACCEPTED = [
    {"Statement": ALLOW},
    {"Version": "2008-10-17", "Id": "x", "Statement": [ALLOW]},
    whole(Action="*:*"),
    whole(Action=["ecs:*", "iam:Get?ser"]),
    whole(Resource=["*", "arn:aws:ecs:*"]),
    whole(Sid=""),
    whole(Condition={"Bool": {"aws:SecureTransport": True}, "NumericLessThan": {"s3:max-keys": 10}}),
    whole(Condition={"ForAnyValue:StringLikeIfExists": {"aws:TagKeys": ["a", "b"]}}),
    whole(Condition={}),
]


@pytest.mark.parametrize(("document", "message"), REFUSED)
def test_refused(document: Any, message: str) -> None:
    with pytest.raises(MalformedPolicyDocumentError) as refused:
        parse(document if isinstance(document, str) else json.dumps(document))
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize(("statement", "message"), REFUSED_TRUST)
def test_refused_as_a_trust_policy(statement: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedPolicyDocumentError) as refused:
        parse(json.dumps({"Version": "2012-10-17", "Statement": [statement]}), kind=Kind.TRUST)
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize("document", ACCEPTED)
def test_accepted(document: Any) -> None:
    parse(json.dumps(document))


@pytest.mark.parametrize("depth", [13, 1_000, 100_000])
def test_nesting_is_refused_before_it_is_read(depth: int) -> None:
    with pytest.raises(MalformedPolicyDocumentError):
        parse('{"Statement":' + "[" * depth + "]" * depth + "}")


def test_brackets_in_a_text_are_no_nesting() -> None:
    parse(json.dumps(whole(Resource="arn:aws:ecs:r:1:task/" + "[{" * 50 + '\\"')))


@pytest.mark.parametrize("pattern", ["*a" * 500 + "b", "*a?" * 300 + "b", "?*" * 500 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """A matcher that backtracks would not end in a lifetime; this one is done in a fraction of a second of its own CPU time."""
    policy = parse(json.dumps(whole(Resource=f"arn:aws:ecs:::{pattern}")))
    began = time.process_time()
    assert not policy.statements[0].applies("arn:aws:ecs:::" + "a" * 2000, {})
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text", ["${" + " " * 120_000, "${ " * 40_000, "${a,'" + "''" * 60_000, "${a," + " " * 120_000, " " * 120_000 + "*", "$" * 120_000]
)
def test_no_value_can_hold_up_the_reading_of_a_policy(text):
    """White space does not count into a policy's size, so a value may be as long as a request: it is read in one pass."""
    began = time.process_time()
    parse(json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ecs:*", "Resource": f"arn:aws:ecs:{text}"}}))
    assert time.process_time() - began < 5
