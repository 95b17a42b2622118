"""Amazon's managed policies that users of ECS refer to, as Amazon publishes them.

Owns: `AMAZON_POLICIES`: ARN → JSON. Source: the AWS managed policy reference guide.
"""

from __future__ import annotations

import json
from typing import Any, Final


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _allow(actions: list[str] | str, resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource, **more}


AMAZON_POLICIES: Final[dict[str, str]] = {
    "arn:aws:iam::aws:policy/AdministratorAccess": _policy(_allow("*")),
    "arn:aws:iam::aws:policy/IAMFullAccess": _policy(
        _allow(
            [
                "iam:*",
                "organizations:DescribeAccount",
                "organizations:DescribeOrganization",
                "organizations:DescribeOrganizationalUnit",
                "organizations:DescribePolicy",
                "organizations:ListChildren",
                "organizations:ListParents",
                "organizations:ListPoliciesForTarget",
                "organizations:ListRoots",
                "organizations:ListPolicies",
                "organizations:ListTargetsForPolicy",
            ]
        )
    ),
    "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy": _policy(
        _allow(
            [
                "ecr:GetAuthorizationToken",
                "ecr:BatchCheckLayerAvailability",
                "ecr:GetDownloadUrlForLayer",
                "ecr:BatchGetImage",
                "logs:CreateLogStream",
                "logs:PutLogEvents",
            ]
        )
    ),
    "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role": _policy(
        _allow(
            [
                "ec2:DescribeTags",
                "ecs:CreateCluster",
                "ecs:DeregisterContainerInstance",
                "ecs:DiscoverPollEndpoint",
                "ecs:Poll",
                "ecs:RegisterContainerInstance",
                "ecs:StartTelemetrySession",
                "ecs:UpdateContainerInstancesState",
                "ecs:Submit*",
                "ecr:GetAuthorizationToken",
                "ecr:BatchCheckLayerAvailability",
                "ecr:GetDownloadUrlForLayer",
                "ecr:BatchGetImage",
                "logs:CreateLogStream",
                "logs:PutLogEvents",
            ]
        ),
        _allow(
            "ecs:TagResource",
            Condition={"StringEquals": {"ecs:CreateAction": ["CreateCluster", "RegisterContainerInstance"]}},
        ),
    ),
}
