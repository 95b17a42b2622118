"""Amazon Resource Names: how they are written and read.

Owns: the long ARN forms of ECS (ecs-reference: cluster/NAME, service/CLUSTER/NAME, task/CLUSTER/ID, …).
Never looks anything up: an ARN read here may name nothing.
"""

from __future__ import annotations

import msgspec


class Arn(msgspec.Struct, frozen=True):
    """arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE, where `resource` is for example `task/default/0123…`."""

    service: str
    region: str
    account: str
    resource: str
    partition: str = "aws"

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def parse_arn(text: str) -> Arn | None:
    """The parts of `text`, or None when it is no ARN (a short name, say)."""
    if not text.startswith("arn:"):
        return None
    parts = text.split(":", 5)
    if len(parts) != 6 or not parts[5]:
        return None
    return Arn(partition=parts[1], service=parts[2], region=parts[3], account=parts[4], resource=parts[5])


def _ecs(region: str, account: str, resource: str) -> str:
    return f"arn:aws:ecs:{region}:{account}:{resource}"


def rule_arn(region: str, account: str, name: str) -> str:
    """ARN of a rule, which is Homeport's own."""
    return f"arn:aws:homeport:{region}:{account}:rule/{name}"


def cluster_arn(region: str, account: str, cluster: str) -> str:
    """ARN of a cluster."""
    return _ecs(region, account, f"cluster/{cluster}")


def capacity_provider_arn(region: str, account: str, name: str) -> str:
    """ARN of a capacity provider."""
    return _ecs(region, account, f"capacity-provider/{name}")


def gateway_arn(region: str, account: str, name: str) -> str:
    """ARN of a gateway."""
    return _ecs(region, account, f"gateway/{name}")


def service_arn(region: str, account: str, cluster: str, service: str) -> str:
    """ARN of a service."""
    return _ecs(region, account, f"service/{cluster}/{service}")


def task_arn(region: str, account: str, cluster: str, task_id: str) -> str:
    """ARN of a task."""
    return _ecs(region, account, f"task/{cluster}/{task_id}")


def container_arn(region: str, account: str, cluster: str, task_id: str, container_id: str) -> str:
    """ARN of a container of a task."""
    return _ecs(region, account, f"container/{cluster}/{task_id}/{container_id}")


def container_instance_arn(region: str, account: str, cluster: str, instance_id: str) -> str:
    """ARN of a container instance."""
    return _ecs(region, account, f"container-instance/{cluster}/{instance_id}")


def task_definition_arn(region: str, account: str, family: str, revision: int) -> str:
    """ARN of one revision of a task definition."""
    return _ecs(region, account, f"task-definition/{family}:{revision}")


def daemon_task_definition_arn(region: str, reference: str) -> str:
    """ARN of one revision of a daemon task definition. `reference`: ACCOUNT/FAMILY:N."""
    return _of_key(region, "daemon-task-definition", reference)


def daemon_arn(region: str, key: str) -> str:
    """ARN of the daemon ACCOUNT/CLUSTER/NAME."""
    return _of_key(region, "daemon", key)


def daemon_deployment_arn(region: str, key: str) -> str:
    """ARN of the daemon deployment ACCOUNT/CLUSTER/DAEMON/ID."""
    return _of_key(region, "daemon-deployment", key)


def daemon_revision_arn(region: str, key: str) -> str:
    """ARN of the daemon revision ACCOUNT/CLUSTER/DAEMON/ID."""
    return _of_key(region, "daemon-revision", key)


def _of_key(region: str, kind: str, key: str) -> str:
    account, _, rest = key.partition("/")
    return _ecs(region, account, f"{kind}/{rest}")


def service_deployment_arn(region: str, account: str, cluster: str, service: str, deployment_id: str) -> str:
    """ARN of a service deployment."""
    return _ecs(region, account, f"service-deployment/{cluster}/{service}/{deployment_id}")


def service_revision_arn(region: str, account: str, cluster: str, service: str, deployment_id: str) -> str:
    """ARN of a service revision; it carries the same digits as `deployments[].id`, which Terraform relies on."""
    return _ecs(region, account, f"service-revision/{cluster}/{service}/{deployment_id}")


def task_set_arn(region: str, account: str, cluster: str, service: str, task_set_id: str) -> str:
    """ARN of a task set, whose id in the API is `ecs-svc/` and the digits `task_set_id`."""
    return _ecs(region, account, f"task-set/{cluster}/{service}/ecs-svc/{task_set_id}")


def root_arn(account: str) -> str:
    """ARN of an account's root principal."""
    return f"arn:aws:iam::{account}:root"


def user_arn(account: str, path: str, name: str) -> str:
    """ARN of a user; `path` begins and ends with a slash."""
    return f"arn:aws:iam::{account}:user{path}{name}"


def group_arn(account: str, path: str, name: str) -> str:
    """ARN of a group."""
    return f"arn:aws:iam::{account}:group{path}{name}"


def role_arn(account: str, path: str, name: str) -> str:
    """ARN of a role."""
    return f"arn:aws:iam::{account}:role{path}{name}"


def instance_profile_arn(account: str, path: str, name: str) -> str:
    """ARN of an instance profile."""
    return f"arn:aws:iam::{account}:instance-profile{path}{name}"


def policy_arn(account: str, path: str, name: str) -> str:
    """ARN of a managed policy; `account` is "aws" for Amazon's own."""
    return f"arn:aws:iam::{account}:policy{path}{name}"


def oidc_provider_arn(account: str, name: str) -> str:
    """ARN of an OpenID Connect provider; `name` is its issuer without the scheme."""
    return f"arn:aws:iam::{account}:oidc-provider/{name}"


def session_arn(account: str, role: str, session: str) -> str:
    """ARN of a session of a role, which carries no path."""
    return f"arn:aws:sts::{account}:assumed-role/{role}/{session}"
