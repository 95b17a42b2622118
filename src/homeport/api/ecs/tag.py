"""Operations on tags: put, remove, list, for every resource that can have them.

Owns: which ARN means which record. Never checks a tag itself: `tag_rules.py` does.
Source: ecs-reference 3.20.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.api.ecs.capacity_provider import name_in
from homeport.api.ecs.tag_rules import merged, tags_json, tags_of, without
from homeport.errors import ApiError, ClientError, InvalidParameterError, ResourceNotFoundError
from homeport.model.arn import Arn, parse_arn
from homeport.model.ecs.capacity_provider import CapacityProvider
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.express_gateway_service import ExpressGatewayService
from homeport.model.ecs.gateway import Gateway
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.ecs.task_set import TaskSet
from homeport.model.record import Tags
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import (
    CAPACITY_PROVIDERS,
    CLUSTERS,
    CONTAINER_INSTANCES,
    DAEMON_TASK_DEFINITIONS,
    DAEMONS,
    EXPRESS_GATEWAY_SERVICES,
    GATEWAYS,
    SERVICES,
    TASK_DEFINITIONS,
    TASK_SETS,
    TASKS,
)

Taggable = (
    CapacityProvider
    | Cluster
    | ContainerInstance
    | Daemon
    | DaemonTaskDefinition
    | ExpressGatewayService
    | Gateway
    | Service
    | Task
    | TaskDefinition
    | TaskSet
)

_IN_CLUSTER: Final[dict[str, Table[Any]]] = {"service": SERVICES, "daemon": DAEMONS, "task": TASKS, "container-instance": CONTAINER_INSTANCES}
_DEFINITIONS: Final[dict[str, Table[Any]]] = {"task-definition": TASK_DEFINITIONS, "daemon-task-definition": DAEMON_TASK_DEFINITIONS}
_INACTIVE: Final = "INACTIVE"


async def tag_resource(call: Call, request: Any) -> dict[str, Any]:
    """TagResource: put tags over those that are there. Raises LimitExceededError above 50, ResourceNotFoundError for an unknown ARN."""
    given = tags_of(request.tags, tags_max=call.settings.tags_max)

    def tag(tx: Transaction) -> None:
        table, record = _resource(tx, call, request.resourceArn, ResourceNotFoundError)
        _put(tx, table, record, merged(record.tags, given, tags_max=call.settings.tags_max))

    await call.update(tag)
    return {}


async def untag_resource(call: Call, request: Any) -> dict[str, Any]:
    """UntagResource: remove tags by key; a key that is not there is no error."""

    def untag(tx: Transaction) -> None:
        table, record = _resource(tx, call, request.resourceArn, ResourceNotFoundError)
        _put(tx, table, record, without(record.tags, request.tagKeys))

    await call.update(untag)
    return {}


async def list_tags_for_resource(call: Call, request: Any) -> dict[str, Any]:
    """ListTagsForResource: all tags. Raises ClientError for an unknown ARN: the operation models no better error."""
    return await call.view(lambda reader: {"tags": tags_json(_resource(reader, call, request.resourceArn, ClientError)[1].tags)})


def resource_tags(reader: Reader, call: Call, text: str) -> Tags:
    """The tags of what an ARN names; none for what does not exist or cannot have any."""
    try:
        return tuple(_resource(reader, call, text, ResourceNotFoundError)[1].tags)
    except ApiError:
        return ()


def _put(tx: Transaction, table: Table[Any], record: Taggable, tags: Tags) -> None:
    if tags != record.tags:
        tx.put(table, msgspec.structs.replace(record, tags=tags))


def _resource(reader: Reader, call: Call, text: str, missing: type[ApiError]) -> tuple[Table[Any], Taggable]:
    """The table and record that an ARN names. Raises InvalidParameterError for no ARN or an untaggable kind, else `missing`."""
    arn = parse_arn(text)
    if arn is None or arn.service != "ecs":
        raise InvalidParameterError(f"Invalid ARN: {text}")
    kind = arn.resource.partition("/")[0]
    if kind == "cluster":
        return CLUSTERS, lookup.cluster_of(reader, call, text)
    if kind == "capacity-provider":
        return CAPACITY_PROVIDERS, _found(reader.get(CAPACITY_PROVIDERS, f"{call.account}/{name_in(call, text)}"), text, missing)
    if kind == "gateway":
        return GATEWAYS, _found(reader.get(GATEWAYS, f"{call.account}/{lookup.gateway_name(call, text)}"), text, missing)
    if kind in _DEFINITIONS:
        family, revision = lookup.split_task_definition(call, text, kind=kind)
        table = _DEFINITIONS[kind]
        return table, _found(reader.get(table, f"{call.account}/{family}:{revision or 0:07d}"), text, missing)
    if kind == "task-set":
        return TASK_SETS, _found(reader.get(TASK_SETS, _task_set_key(reader, call, arn)), text, missing)
    if kind not in _IN_CLUSTER:
        raise InvalidParameterError(f"Resources of the type {kind} cannot be tagged.")
    table, key = _IN_CLUSTER[kind], _key_in_cluster(reader, call, arn)
    if kind == "service" and (express := reader.get(EXPRESS_GATEWAY_SERVICES, key)) is not None:
        return EXPRESS_GATEWAY_SERVICES, express
    return table, _found(reader.get(table, key), text, missing)


def _found(record: Any, text: str, missing: type[ApiError]) -> Any:
    if record is None or (not isinstance(record, TaskDefinition) and getattr(record, "status", "") == _INACTIVE):
        raise missing(f"The specified resource was not found: {text}")
    return record


def _task_set_key(reader: Reader, call: Call, arn: Arn) -> str:
    """The store key of `task-set/CLUSTER/SERVICE/ecs-svc/ID`."""
    parts = arn.resource.split("/")
    if len(parts) != 5 or not all(parts) or parts[3] != "ecs-svc" or lookup.own_arn(call, str(arn)) is None:
        raise InvalidParameterError(f"Invalid ARN: {arn}")
    return f"{lookup.cluster_of(reader, call, parts[1]).key}/{parts[2]}/{parts[4]}"


def _key_in_cluster(reader: Reader, call: Call, arn: Arn) -> str:
    """The store key of a resource inside a cluster. The old ARN form, without the cluster's name, cannot be tagged (as in ECS)."""
    kind, *parts = arn.resource.split("/")
    if len(parts) != 2:
        raise InvalidParameterError("Long arn format must be used for tagging operations")
    cluster = lookup.cluster_of(reader, call, parts[0])
    read = {
        "service": lookup.service_key,
        "daemon": lookup.daemon_key,
        "task": lookup.task_key,
        "container-instance": lookup.container_instance_key,
    }
    return read[kind](call, cluster, str(arn))
