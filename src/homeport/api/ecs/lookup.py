"""From what a caller wrote (a short name, an id, an ARN) to a store key or a record.

Owns: the reading of references to clusters, gateways, roles, container instances, services, daemons, tasks and task definitions, and the errors for
wrong ones.
Never renders anything and never writes. A reference of another account, region or cluster is an error, as it is in ECS: a key made
from it would name something else.
"""

from __future__ import annotations

import re
from typing import Final

from homeport.api.call import Call
from homeport.errors import ClientError, ClusterNotFoundError, GatewayNotFoundError, InvalidParameterError
from homeport.model.arn import Arn, parse_arn
from homeport.model.ecs import cluster as cluster_model
from homeport.model.ecs import task_definition as definition_model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.gateway import Gateway
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.store.table import Reader
from homeport.store.tables import CLUSTERS, GATEWAYS, TASK_DEFINITION_FAMILIES, TASK_DEFINITIONS

DEFAULT_CLUSTER: Final = "default"
"""The cluster of a call that names none."""

_CLUSTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_GATEWAY_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+", re.ASCII)
_SERVICE_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ID_LENGTHS = (32, 36)
_SHORT_FAMILY_MAX: Final = 32
"""Up to so many ACTIVE revisions are walked through the index; above it the walk goes down from the newest number."""
_REVISION = re.compile(r"[1-9][0-9]{0,6}")
"""Seven digits at most, as in the store's keys: Python refuses to read a number of thousands of digits. No zeros before them: a revision has
one name, which policies go by."""

TASK_DEFINITION_MISSING: Final = "Unable to describe task definition."
"""DescribeTaskDefinition's words."""
TASK_DEFINITION_NOT_FOUND: Final = "TaskDefinition not found."
"""The words of RunTask, StartTask, CreateService and UpdateService."""


def own_arn(call: Call, text: str) -> Arn | None:
    """`text` as an ARN of ECS in this partition, account and region; None for anything else."""
    arn = parse_arn(text)
    return arn if arn and (arn.partition, arn.service, arn.region, arn.account) == ("aws", "ecs", call.region, call.account) else None


def part_key(call: Call, text: str, kind: str) -> str:
    """Store key of a deployment or revision by its ARN, `kind`/CLUSTER/OWNER/ID. Raises InvalidParameterError for any other text."""
    arn = own_arn(call, text)
    parts = arn.resource.split("/") if arn else []
    if len(parts) != 4 or parts[0] != kind:
        raise InvalidParameterError(f"Invalid identifier: {text} is no ARN of a {kind.replace('-', ' ')} of this account and region")
    return f"{call.account}/{'/'.join(parts[1:])}"


def cluster_name(call: Call, reference: str | None) -> str:
    """The name in `reference` (a name or an ARN; None or "" means `default`).

    Raises InvalidParameterError when it can be no cluster of this account and region.
    """
    if not reference:
        return DEFAULT_CLUSTER
    name = _name(call, reference, "cluster")
    if not _CLUSTER_NAME.fullmatch(name):
        raise InvalidParameterError(f"Cluster must match ^[a-zA-Z0-9\\-_]{{1,255}}$, but was {name}")
    return name


def cluster_of(reader: Reader, call: Call, reference: str | None) -> Cluster:
    """The ACTIVE cluster that `reference` names. Raises ClusterNotFoundError, or InvalidParameterError for a malformed reference."""
    cluster = reader.get(CLUSTERS, f"{call.account}/{cluster_name(call, reference)}")
    if cluster is None or cluster.status == cluster_model.INACTIVE:
        raise ClusterNotFoundError
    return cluster


def gateway_name(call: Call, reference: str) -> str:
    """The name in `reference` (a name or an ARN). Raises InvalidParameterError when it can be no gateway of this account and region."""
    name = _name(call, reference, "gateway")
    if not _GATEWAY_NAME.fullmatch(name):
        raise InvalidParameterError("Gateway names must have 1 to 255 letters (uppercase and lowercase), numbers, hyphens or underscores.")
    return name


def gateway_of(reader: Reader, call: Call, reference: str) -> Gateway:
    """The gateway that `reference` names. Raises GatewayNotFoundError, or InvalidParameterError for a malformed reference."""
    gateway = reader.get(GATEWAYS, f"{call.account}/{gateway_name(call, reference)}")
    if gateway is None:
        raise GatewayNotFoundError
    return gateway


def role_arn(member: str, reference: str) -> str:
    """`reference`, the value of `member`, when it is the ARN of a role; raises InvalidParameterError otherwise."""
    if not _ROLE.fullmatch(reference):
        raise InvalidParameterError(f"{member} must be the ARN of an IAM role, but was {reference}")
    return reference


def container_instance_key(call: Call, cluster: Cluster, reference: str) -> str:
    """Store key of the container instance `reference` (an id or an ARN). Raises InvalidParameterError for a malformed or foreign one."""
    return f"{cluster.key}/{_member_id(call, cluster, reference, 'container-instance')}"


def task_key(call: Call, cluster: Cluster, reference: str) -> str:
    """Store key of the task `reference` (an id or an ARN). Raises InvalidParameterError for a malformed or foreign one."""
    return f"{cluster.key}/{_member_id(call, cluster, reference, 'task')}"


def service_key(call: Call, cluster: Cluster, reference: str) -> str:
    """Store key of the service `reference` (a name or an ARN). Raises InvalidParameterError for a malformed or foreign one."""
    name = _member(call, cluster, reference, "service")
    if not _SERVICE_NAME.fullmatch(name):
        raise InvalidParameterError(f"Invalid identifier: Service must match ^[a-zA-Z0-9\\-_]{{1,255}}$, but was {name}")
    return f"{cluster.key}/{name}"


def daemon_key(call: Call, cluster: Cluster, reference: str) -> str:
    """Store key of the daemon `reference` (a name or an ARN). Raises InvalidParameterError for a malformed or foreign one."""
    return f"{cluster.key}/{_member(call, cluster, reference, 'daemon')}"


def task_definition_of(reader: Reader, call: Call, reference: str, *, missing: str = TASK_DEFINITION_MISSING) -> TaskDefinition:
    """The revision that `reference` names: `family` (its latest ACTIVE revision), `family:revision` or an ARN; of any status.

    Raises ClientError with the words of `missing` when there is none, InvalidParameterError for a malformed reference.
    """
    family, revision = split_task_definition(call, reference)
    found = (
        latest_active(reader, call.account, family)
        if revision is None
        else reader.get(TASK_DEFINITIONS, task_definition_key(call.account, family, revision))
    )
    if found is None:
        raise ClientError(missing)
    return found


def split_task_definition(call: Call, reference: str, *, kind: str = "task-definition") -> tuple[str, int | None]:
    """(family, revision or None) of `reference`. Raises InvalidParameterError when it can name no task definition of this account.

    `kind`: the word in its ARN, daemon-task-definition for those of daemons.
    """
    family, separator, number = _name(call, reference, kind).partition(":")
    if not family:
        raise InvalidParameterError("TaskDefinition can not be blank.")
    if not separator:
        return family, None
    if not _REVISION.fullmatch(number):
        raise InvalidParameterError(f"Invalid revision number. Number: {number}")
    return family, int(number)


def latest_active(reader: Reader, account: str, family: str) -> TaskDefinition | None:
    """The ACTIVE revision of `family` with the greatest number, or None."""
    index_value = f"{account}/{family}/{definition_model.ACTIVE}"
    count = reader.count(TASK_DEFINITIONS, "family_status", index_value)
    if not count:
        return None
    if count > _SHORT_FAMILY_MAX:
        counter = reader.get(TASK_DEFINITION_FAMILIES, f"{account}/{family}")
        for revision in range(counter.last_revision if counter else 0, 0, -1):
            found = reader.get(TASK_DEFINITIONS, task_definition_key(account, family, revision))
            if found is not None and found.status == definition_model.ACTIVE:
                return found
    newest = None
    for newest in reader.find(TASK_DEFINITIONS, "family_status", index_value):  # noqa: B007 - the last one is wanted
        pass
    return newest


def _name(call: Call, reference: str, kind: str) -> str:
    """What stands behind `kind/` in an ARN of a thing that is in no cluster; anything else as it is."""
    if not reference.startswith("arn:"):
        return reference
    parts = _resource(call, reference, kind)
    if len(parts) != 1:
        raise InvalidParameterError("Invalid identifier: Unexpected number of separators")
    return parts[0]


def _member_id(call: Call, cluster: Cluster, reference: str, kind: str) -> str:
    found = _member(call, cluster, reference, kind)
    if len(found) not in _ID_LENGTHS:
        name = "containerInstanceId" if kind == "container-instance" else f"{kind}Id"
        raise InvalidParameterError(f"{name} length should be one of [32,36]")
    return found


def _member(call: Call, cluster: Cluster, reference: str, kind: str) -> str:
    """Name or id of a thing inside `cluster`. The long ARN form names the cluster, the old short one does not."""
    if not reference.startswith("arn:"):
        if "/" in reference or not reference:
            raise InvalidParameterError("Invalid identifier: Unexpected number of separators")
        return reference
    parts = _resource(call, reference, kind)
    if len(parts) == 2 and parts[0] != cluster.name:
        raise InvalidParameterError(f"Invalid identifier: Identifier is for cluster {parts[0]}. Your cluster is {cluster.name}")
    if len(parts) > 2:
        raise InvalidParameterError("Invalid identifier: Unexpected number of separators")
    return parts[-1]


def _resource(call: Call, reference: str, kind: str) -> list[str]:
    """The parts behind `kind/` of an ECS ARN of this account and region."""
    arn = parse_arn(reference)
    if arn is None or (arn.partition, arn.service) != ("aws", "ecs"):
        raise InvalidParameterError(f"Invalid identifier: {reference} is no ARN of Amazon ECS")
    if arn.region != call.region:
        raise InvalidParameterError(f"Invalid identifier: Identifier is for {arn.region}. Your region is {call.region}")
    if arn.account != call.account:
        raise InvalidParameterError(f"Invalid identifier: Identifier is for account {arn.account}. Your accountId is {call.account}")
    head, *parts = arn.resource.split("/")
    if head != kind:
        raise InvalidParameterError(f"Unsupported resource type: {head}")
    if not parts or not all(parts):
        raise InvalidParameterError("Invalid identifier: Unexpected number of separators")
    return parts
