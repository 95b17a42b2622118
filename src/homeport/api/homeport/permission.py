"""What a caller of Homeport's own operations must be allowed to do.

Owns: `asks`. Never decides. Each operation is an action of the prefix homeport, which has no resources but rules; what it tells of clusters and of
what is in them needs as well what the operations of Amazon ECS need that tell it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import lookup, permission
from homeport.api.homeport import join_token
from homeport.api.homeport.resource import Place, arn_of, meant
from homeport.api.permission import Ask
from homeport.api.protocol import json, model
from homeport.iam.actions import resource_types
from homeport.model import arn
from homeport.store.table import Reader
from homeport.store.tables import (
    CAPACITY_PROVIDERS,
    CLUSTERS,
    CONTAINER_INSTANCES,
    DAEMON_DEPLOYMENTS,
    DAEMON_REVISIONS,
    DAEMON_TASK_DEFINITIONS,
    DAEMONS,
    DEPLOYMENTS,
    EXPRESS_GATEWAY_SERVICES,
    GATEWAYS,
    RULES,
    SERVICE_REVISIONS,
    SERVICES,
    TASK_DEFINITIONS,
    TASK_SETS,
    TASKS,
)

_DESCRIBED_BY: Final = {
    CAPACITY_PROVIDERS.name: "DescribeCapacityProviders",
    CLUSTERS.name: "DescribeClusters",
    CONTAINER_INSTANCES.name: "DescribeContainerInstances",
    DAEMON_DEPLOYMENTS.name: "DescribeDaemonDeployments",
    DAEMON_REVISIONS.name: "DescribeDaemonRevisions",
    DAEMON_TASK_DEFINITIONS.name: "DescribeDaemonTaskDefinition",
    DAEMONS.name: "DescribeDaemon",
    DEPLOYMENTS.name: "DescribeServiceDeployments",
    EXPRESS_GATEWAY_SERVICES.name: "DescribeExpressGatewayService",
    GATEWAYS.name: "DescribeGateway",
    SERVICE_REVISIONS.name: "DescribeServiceRevisions",
    SERVICES.name: "DescribeServices",
    TASK_DEFINITIONS.name: "DescribeTaskDefinition",
    TASK_SETS.name: "DescribeTaskSets",
    TASKS.name: "DescribeTasks",
}
"""Table → the operation that tells what is in it."""


def asks(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Everything that the caller of `request` must be allowed, each of it. Raises ApiError for references that can name nothing."""
    resource = arn.rule_arn(call.region, call.account, request.name) if call.operation in _ON_RULES else "*"
    if call.operation == "DescribeInstanceIdentity" and _is_itself(call, request.identityId):
        return []
    return [Ask(f"homeport:{call.operation}", resource, {}), *_TOLD[call.operation](call, request, reader)]


def _is_itself(call: Call, identity_id: str | None) -> bool:
    """Whether a host asks about itself, which no policy forbids."""
    return call.session is not None and call.session.instance != "" and identity_id in (None, call.session.instance)


def _at(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """What the same read of the present needs."""
    operation = model.load().operations.get(request.operation)
    if operation is None:
        return []
    read = json.decode(operation, msgspec.json.encode(request.request or {}))
    return permission.asks(dataclasses.replace(call, operation=request.operation), read, reader)


def _history(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """What tells of each that is meant, or may have been."""
    return [_told_of(call, place) for place in meant(reader, call, request.resource, request.cluster)]


def _explanation(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """The resource, and every instance of its cluster with the tasks on it."""
    places = meant(reader, call, request.resource, request.cluster)
    clusters = dict.fromkeys(place.key.split("/")[1] for place in places if place.key.count("/") > 1)
    return [*(_told_of(call, place) for place in places), *(ask for cluster in clusters for ask in _whole(call, cluster))]


def _changes(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """All that is in the cluster."""
    return _whole(call, lookup.cluster_name(call, request.cluster))


def _update(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """The same: the steps are those of every service of the cluster."""
    given = request.request if isinstance(request.request, dict) else {}
    cluster = given.get("cluster")
    return _whole(call, lookup.cluster_name(call, cluster if isinstance(cluster, str) else None))


def _capacity(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """The capacity providers that are named, or all."""
    read = json.decode(model.load().operations["DescribeCapacityProviders"], msgspec.json.encode({"capacityProviders": request.capacityProviders}))
    return permission.asks(dataclasses.replace(call, operation="DescribeCapacityProviders"), read, reader)


def _token(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """To hand the role on, as who starts a machine with it must."""
    del reader
    return [Ask("iam:PassRole", join_token.role_arn_of(call.account, request.role), {"iam:passedtoservice": join_token.HOST_PRINCIPAL})]


def _nothing(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Nothing that an operation of Amazon ECS tells."""
    del call, request, reader
    return []


_OF_ACCOUNTS: Final = (
    "CloseAccount",
    "CreateAccount",
    "DeleteAccountQuota",
    "DescribeAccount",
    "ListAccountQuotas",
    "ListAccounts",
    "PutAccountQuota",
    "ReopenAccount",
)
"""Their handlers demand the management account of everybody, also of roots, who are not asked here."""


def _report(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Everything that rules look at, of the cluster or of all."""
    cluster = lookup.cluster_name(call, request.cluster) if request.cluster else "*"
    keys = {"ecs:cluster": arn.cluster_arn(call.region, call.account, cluster)}
    resources = {
        "DescribeTaskDefinition": "*",
        "DescribeDaemonTaskDefinition": f"arn:aws:ecs:{call.region}:{call.account}:daemon-task-definition/*",
        "DescribeServices": arn.service_arn(call.region, call.account, cluster, "*"),
        "DescribeTaskSets": arn.task_set_arn(call.region, call.account, cluster, "*", "*"),
        "DescribeDaemon": arn.daemon_arn(call.region, f"{call.account}/{cluster}/*"),
        "DescribeTasks": arn.task_arn(call.region, call.account, cluster, "*"),
    }
    return [Ask(f"ecs:{action}", resource, keys if cluster in resource else {}) for action, resource in resources.items()]


_ON_RULES: Final = ("PutRule", "DeleteRule")
_TOLD: Final[dict[str, Callable[[Call, Any, Reader], list[Ask]]]] = {
    "CreateJoinToken": _token,
    "DeleteJoinToken": _nothing,
    "DescribeAt": _at,
    "DescribeCapacity": _capacity,
    "DescribeHistory": _history,
    "DescribeInstanceIdentity": _nothing,
    "ExplainPlacement": _explanation,
    "ListInstanceIdentities": _nothing,
    "ListJoinTokens": _nothing,
    "PredictChanges": _changes,
    "PredictServiceUpdate": _update,
    **dict.fromkeys(_OF_ACCOUNTS, _nothing),
    "PutRule": _nothing,
    "DeleteRule": _nothing,
    "ListRules": _nothing,
    "TestRules": _report,
    "RevokeInstanceIdentity": _nothing,
}


def _told_of(call: Call, place: Place) -> Ask:
    if place.table is RULES:
        return Ask("homeport:ListRules", "*", {})
    action, resource = _DESCRIBED_BY[place.table.name], arn_of(call, place)
    parts = place.key.split("/")
    keys = {"ecs:cluster": arn.cluster_arn(call.region, *parts[:2])} if len(parts) > 2 else {}
    return Ask(f"ecs:{action}", resource if resource_types("ecs", action) else "*", keys)


def _whole(call: Call, cluster: str) -> list[Ask]:
    """Services, tasks and container instances of a cluster."""
    keys = {"ecs:cluster": arn.cluster_arn(call.region, call.account, cluster)}
    kinds = {"DescribeServices": arn.service_arn, "DescribeTasks": arn.task_arn, "DescribeContainerInstances": arn.container_instance_arn}
    return [Ask(f"ecs:{action}", name(call.region, call.account, cluster, "*"), keys) for action, name in kinds.items()]
