"""Policy decisions a CPU-second, warm: the policies are compiled, each (action) was asked before.

Owns: the policies and requests of the bench `iam`. Never checks answers: tests/unit/iam and tests/property/test_iam_evaluate.py do.
"""

from __future__ import annotations

import json
import time

from homeport.iam.document import parse
from homeport.iam.evaluate import Policies, Request, evaluate
from homeport.iam.principal import Principal, PrincipalKind

ACCOUNT = "111122223333"
SECONDS = 1.0
CALLER = Principal(PrincipalKind.ROLE_SESSION, f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/ci-7", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/deployer")
CONTEXT: dict[str, str | tuple[str, ...]] = {
    "aws:principalarn": CALLER.source_arn,
    "aws:principaltag/team": "web",
    "aws:sourceip": "100.64.1.2",
    "aws:securetransport": "true",
    "aws:currenttime": "2026-06-01T00:00:00Z",
    "aws:tagkeys": ("team", "stage"),
    "aws:requesttag/team": "web",
    "ecs:cluster": f"arn:aws:ecs:eu-1:{ACCOUNT}:cluster/prod",
    "ecs:service": f"arn:aws:ecs:eu-1:{ACCOUNT}:service/prod/web-7",
}


def allow(action: object, resource: object, **conditions: object) -> dict[str, object]:
    """One Allow statement."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, "Condition": conditions}


PLAIN = [allow("ecs:*", "*")]
TEAM = [
    allow(["ecs:Describe*", "ecs:List*"], "*"),
    allow(
        ["ecs:UpdateService", "ecs:RunTask", "ecs:StopTask", "ecs:TagResource"],
        "arn:aws:ecs:*:*:*/prod/${aws:PrincipalTag/team}-*",
        ArnEquals={"ecs:cluster": f"arn:aws:ecs:*:{ACCOUNT}:cluster/prod"},
        StringEquals={"aws:RequestTag/team": "${aws:PrincipalTag/team}"},
    ),
    allow("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/web-*", StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    {
        "Effect": "Deny",
        "NotAction": "iam:*",
        "Resource": "*",
        "Condition": {"NotIpAddress": {"aws:SourceIp": ["100.64.0.0/10", "127.0.0.0/8"]}},
    },
]
MANY = [allow("ecs:UpdateService", f"arn:aws:ecs:*:*:service/prod/app{number}-*") for number in range(100)] + TEAM


def _policies(*documents: list[dict[str, object]]) -> Policies:
    parsed = tuple(parse(json.dumps({"Version": "2012-10-17", "Statement": statements})) for statements in documents)
    return Policies(identity=parsed, boundary=parsed[0] if len(parsed) > 1 else None)


def rate(policies: Policies) -> float:
    """Decisions a CPU-second for UpdateService on the caller's service."""
    request = Request(CALLER, "ecs:UpdateService", f"arn:aws:ecs:eu-1:{ACCOUNT}:service/prod/web-7", ACCOUNT, CONTEXT)
    if not evaluate(request, policies).allowed:
        raise RuntimeError("the bench's own caller is refused")
    decided, began = 0, time.process_time()
    while time.process_time() - began < SECONDS:
        for _ in range(500):
            evaluate(request, policies)
        decided += 500
    return decided / (time.process_time() - began)


CASES = [
    ("one statement", _policies(PLAIN), None),
    ("a team's policies with conditions, variables and a boundary", _policies(PLAIN, TEAM), 20_000),
    ("104 statements", _policies(MANY), None),
]


def run() -> list[dict[str, object]]:
    """Rows {bench, case, value, unit, floor, target}."""
    return [
        {"bench": "iam", "case": case, "value": round(rate(policies)), "unit": "1/CPU-s", "floor": floor, "target": None}
        for case, policies, floor in CASES
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
