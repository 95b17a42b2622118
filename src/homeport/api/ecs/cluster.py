"""Operations on clusters: create, describe, list, update, delete.

Owns: the `Cluster` records and their form in the API. Never counts by hand: every count comes from an index.
Source: ecs-reference 3.1.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import account_setting, lookup, page, quota
from homeport.api.ecs import cluster_input as given
from homeport.api.ecs.cluster_capacity import capacity_json, with_capacity
from homeport.api.ecs.tag_rules import tags_json, tags_of
from homeport.errors import (
    ApiError,
    ClientError,
    ClusterContainsCapacityProviderError,
    ClusterContainsContainerInstancesError,
    ClusterContainsServicesError,
    ClusterContainsTasksError,
    ClusterNotFoundError,
    InvalidParameterError,
)
from homeport.model import arn
from homeport.model.ecs import account_setting as account_setting_model
from homeport.model.ecs import cluster as model
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.record import Tags
from homeport.store.table import Reader, Transaction
from homeport.store.tables import (
    CAPACITY_PROVIDERS,
    CLUSTERS,
    CONTAINER_INSTANCES,
    DAEMONS,
    EXPRESS_GATEWAY_SERVICES,
    GATEWAY_ASSOCIATIONS,
    SERVICES,
    TASKS,
)

DESCRIBE_MAX: Final = 100
NAMED_BLOCKERS_MAX: Final = 5
"""How many of the resources that keep a cluster from being deleted are named in the error."""

INCLUDES: Final = ("ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS")
_AFTER_CHANGE: Final = ("CONFIGURATIONS", "SETTINGS", "TAGS")
"""What the answers of create and update show."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")

_PENDING = (task_model.PROVISIONING, task_model.PENDING, task_model.ACTIVATING)
_PRESENT = (instance_model.REGISTERING, instance_model.ACTIVE, instance_model.DRAINING, instance_model.DEREGISTERING)


async def create_cluster(call: Call, request: Any) -> dict[str, Any]:
    """CreateCluster: make a cluster (`default` when no name is given); an ACTIVE one of that name is returned as it is."""
    name = request.clusterName or lookup.DEFAULT_CLUSTER
    if not _NAME.fullmatch(name):
        raise InvalidParameterError("Cluster names must have 1 to 255 letters (uppercase and lowercase), numbers, hyphens or underscores.")
    wanted = Cluster(
        account=call.account,
        name=name,
        status=model.ACTIVE,
        created_at=0.0,
        settings=given.settings_of(request.settings) if request.settings else (),
        configuration=given.configuration_of(request.configuration),
        service_connect_defaults=given.service_connect_of(request.serviceConnectDefaults),
        tags=tags_of(request.tags, tags_max=call.settings.tags_max),
    )

    def create(tx: Transaction) -> dict[str, Any]:
        existing = tx.get(CLUSTERS, wanted.key)
        if existing is not None and existing.status != model.INACTIVE:
            return cluster_json(tx, call, existing, include=_AFTER_CHANGE)
        quota.refuse_more_clusters(tx, call)
        cluster = msgspec.structs.replace(wanted, created_at=tx.now, settings=wanted.settings or _first_settings(tx, call))
        cluster = with_capacity(tx, call, cluster=cluster, request=request)
        tx.put(CLUSTERS, cluster)
        return cluster_json(tx, call, cluster, include=_AFTER_CHANGE)

    return {"cluster": await call.update(create)}


def default_cluster(tx: Transaction, call: Call) -> Cluster:
    """The cluster `default`, made in `tx` when there is none (the first container instance of an account brings it into being)."""
    key = f"{call.account}/{lookup.DEFAULT_CLUSTER}"
    existing = tx.get(CLUSTERS, key)
    if existing is not None and existing.status != model.INACTIVE:
        return existing
    quota.refuse_more_clusters(tx, call)
    made = Cluster(account=call.account, name=lookup.DEFAULT_CLUSTER, status=model.ACTIVE, created_at=tx.now, settings=_first_settings(tx, call))
    tx.put(CLUSTERS, made)
    return made


async def describe_clusters(call: Call, request: Any) -> dict[str, Any]:
    """DescribeClusters: up to 100 clusters (none named: `default`); what is missing comes back in `failures`."""
    references: list[str | None] = list(request.clusters or [None])
    include = _includes(request.include)
    if len(references) > DESCRIBE_MAX:
        raise InvalidParameterError(f"Clusters cannot have more than {DESCRIBE_MAX} elements.")

    def describe(reader: Reader) -> dict[str, Any]:
        found, failures = [], []
        for name in dict.fromkeys(lookup.cluster_name(call, reference) for reference in references):
            cluster = reader.get(CLUSTERS, f"{call.account}/{name}")
            if cluster is None:
                failures.append({"arn": arn.cluster_arn(call.region, call.account, name), "reason": "MISSING"})
            else:
                found.append(cluster_json(reader, call, cluster, include=include))
        return {"clusters": found, "failures": failures}

    return await call.view(describe)


async def list_clusters(call: Call, request: Any) -> dict[str, Any]:
    """ListClusters: ARNs of the ACTIVE clusters, by name, in pages of up to 100."""
    limit = page.limit_of(request.maxResults)
    after = pagination.open_token(call, request.nextToken)

    def names(reader: Reader) -> Iterator[str]:
        prefix = f"{call.account}/"
        clusters = reader.scan(CLUSTERS, prefix, prefix + after if after else "")
        return (cluster.name for cluster in clusters if cluster.status != model.INACTIVE)

    def list_page(reader: Reader) -> dict[str, Any]:
        found, last = pagination.paginate(names(reader), limit=limit, key=str)
        arns = [arn.cluster_arn(call.region, call.account, name) for name in found]
        return {"clusterArns": arns, **page.next_page(call, last)}

    return await call.view(list_page)


async def update_cluster(call: Call, request: Any) -> dict[str, Any]:
    """UpdateCluster: settings, configuration, Service Connect defaults; an empty namespace clears the last. Absent members stay."""
    changed: dict[str, Any] = {}
    if request.configuration is not None:
        changed["configuration"] = given.configuration_of(request.configuration)
    if request.serviceConnectDefaults is not None:
        changed["service_connect_defaults"] = given.service_connect_of(request.serviceConnectDefaults)
    return await _change(call, request, changed)


async def update_cluster_settings(call: Call, request: Any) -> dict[str, Any]:
    """UpdateClusterSettings: containerInsights."""
    return await _change(call, request, {})


async def put_cluster_capacity_providers(call: Call, request: Any) -> dict[str, Any]:
    """PutClusterCapacityProviders: these providers and this default strategy instead of what the cluster has."""

    def put(tx: Transaction) -> dict[str, Any]:
        cluster = lookup.cluster_of(tx, call, request.cluster)
        cluster = with_capacity(tx, call, cluster=cluster, request=request)
        tx.put(CLUSTERS, cluster)
        return cluster_json(tx, call, cluster, include=("ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "TAGS"))

    return {"cluster": await call.update(put)}


async def _change(call: Call, request: Any, changed: dict[str, Any]) -> dict[str, Any]:
    given.settings_of(request.settings)  # what is wrong is told before what is missing

    def change(tx: Transaction) -> dict[str, Any]:
        cluster = lookup.cluster_of(tx, call, request.cluster)
        cluster = msgspec.structs.replace(cluster, settings=given.settings_of(request.settings, before=cluster.settings), **changed)
        tx.put(CLUSTERS, cluster)
        return cluster_json(tx, call, cluster, include=_AFTER_CHANGE)

    return {"cluster": await call.update(change)}


async def delete_cluster(call: Call, request: Any) -> dict[str, Any]:
    """DeleteCluster: an empty cluster becomes INACTIVE; one that is INACTIVE already is returned as it is.

    Raises the ClusterContains… errors, in ECS's order, naming what stands in the way.
    """

    def delete(tx: Transaction) -> dict[str, Any]:
        cluster = tx.get(CLUSTERS, f"{call.account}/{lookup.cluster_name(call, request.cluster)}")
        if cluster is None:
            raise ClusterNotFoundError
        if cluster.status != model.INACTIVE:
            _refuse_if_in_use(tx, call, cluster)
            cluster = msgspec.structs.replace(cluster, status=model.INACTIVE, capacity_providers=(), default_capacity_provider_strategy=b"")
            tx.put(CLUSTERS, cluster)
            for association in list(tx.find(GATEWAY_ASSOCIATIONS, "cluster", cluster.key)):
                tx.delete(GATEWAY_ASSOCIATIONS, association.key)
        return cluster_json(tx, call, cluster, include=())

    return {"cluster": await call.update(delete)}


def _refuse_if_in_use(reader: Reader, call: Call, cluster: Cluster) -> None:
    where = (call.region, cluster.account, cluster.name)
    instances = (i.id for status in _PRESENT for i in reader.find(CONTAINER_INSTANCES, "cluster_status", f"{cluster.key}/{status}"))
    _refuse(
        ClusterContainsContainerInstancesError,
        "The Cluster cannot be deleted while Container Instances are active or draining.",
        (arn.container_instance_arn(*where, instance_id) for instance_id in instances),
    )
    services = (
        s.name
        for status in (service_model.ACTIVE, service_model.DRAINING)
        for s in reader.find(SERVICES, "cluster_status", f"{cluster.key}/{status}")
    )
    express = (s.name for s in reader.scan(EXPRESS_GATEWAY_SERVICES, f"{cluster.key}/"))
    names = (arn.service_arn(*where, name) for name in itertools.chain(services, express))
    _refuse(ClusterContainsServicesError, "The Cluster cannot be deleted while Services are active.", names)
    if (daemon := next(iter(reader.scan(DAEMONS, f"{cluster.key}/")), None)) is not None:
        raise ClientError(f"The Cluster cannot be deleted while Daemons are active. {arn.daemon_arn(call.region, daemon.key)}")
    live = (status for status in task_model.ORDER if status != task_model.STOPPED)
    tasks = (task.id for status in live for task in reader.find(TASKS, "cluster_last", f"{cluster.key}/{status}"))
    _refuse(ClusterContainsTasksError, "The Cluster cannot be deleted while Tasks are active.", (arn.task_arn(*where, task_id) for task_id in tasks))
    own = (arn.capacity_provider_arn(call.region, p.account, p.name) for p in reader.find(CAPACITY_PROVIDERS, "cluster", cluster.key))
    _refuse(ClusterContainsCapacityProviderError, "The Cluster cannot be deleted while it has capacity providers of managed instances.", own)


def _refuse(error: type[ApiError], sentence: str, blockers: Iterator[str]) -> None:
    """Raise `error` when there is a blocker. ECS's sentence stays whole; the names follow it."""
    first = next(blockers, None)
    if first is None:
        return
    named = [first, *(name for _, name in zip(range(NAMED_BLOCKERS_MAX - 1), blockers, strict=False))]
    more = " and more" if next(blockers, None) is not None else ""
    raise error(f"{sentence} In the way: {', '.join(named)}{more}.")


def cluster_json(reader: Reader, call: Call, cluster: Cluster, *, include: Collection[str]) -> dict[str, Any]:
    """The API's `cluster`. Tags, settings and statistics are empty lists unless `include` names them, as ECS has it."""
    rendered: dict[str, Any] = {
        "clusterArn": arn.cluster_arn(call.region, cluster.account, cluster.name),
        "clusterName": cluster.name,
        "status": cluster.status,
        "registeredContainerInstancesCount": _count_instances(reader, cluster),
        "runningTasksCount": reader.count(TASKS, "cluster_last", f"{cluster.key}/{task_model.RUNNING}"),
        "pendingTasksCount": sum(reader.count(TASKS, "cluster_last", f"{cluster.key}/{status}") for status in _PENDING),
        "activeServicesCount": reader.count(SERVICES, "cluster_status", f"{cluster.key}/{service_model.ACTIVE}"),
        "statistics": _statistics(reader, cluster) if "STATISTICS" in include else [],
        "tags": tags_json(cluster.tags) if "TAGS" in include else [],
        "settings": [{"name": name, "value": value} for name, value in cluster.settings] if "SETTINGS" in include else [],
        **capacity_json(reader, cluster, with_attachments="ATTACHMENTS" in include),
    }
    if cluster.configuration and "CONFIGURATIONS" in include:
        rendered["configuration"] = msgspec.Raw(cluster.configuration)
    if cluster.service_connect_defaults:
        rendered["serviceConnectDefaults"] = msgspec.Raw(cluster.service_connect_defaults)
    return rendered


def _count_instances(reader: Reader, cluster: Cluster) -> int:
    return sum(
        reader.count(CONTAINER_INSTANCES, "cluster_status", f"{cluster.key}/{status}") for status in (instance_model.ACTIVE, instance_model.DRAINING)
    )


_LAUNCH_WORDS: Final = {"EC2": "EC2", "FARGATE": "Fargate", "EXTERNAL": "External"}


def _statistics(reader: Reader, cluster: Cluster) -> list[dict[str, str]]:
    """Counts by launch type, under ECS's names (`runningEC2TasksCount`, …). The only counts that walk over records, so only on demand."""
    running = _by_launch_type(reader.find(TASKS, "cluster_last", f"{cluster.key}/{task_model.RUNNING}"))
    pending = _by_launch_type(task for status in _PENDING for task in reader.find(TASKS, "cluster_last", f"{cluster.key}/{status}"))
    active = _by_launch_type(reader.find(SERVICES, "cluster_status", f"{cluster.key}/{service_model.ACTIVE}"))
    draining = _by_launch_type(reader.find(SERVICES, "cluster_status", f"{cluster.key}/{service_model.DRAINING}"))
    figures = (
        ("running{}TasksCount", running),
        ("pending{}TasksCount", pending),
        ("active{}ServiceCount", active),
        ("draining{}ServiceCount", draining),
    )
    return [{"name": name.format(word), "value": str(counts[kind])} for name, counts in figures for kind, word in _LAUNCH_WORDS.items()]


def _by_launch_type(records: Iterable[Task] | Iterable[Service]) -> Counter[str]:
    return Counter(record.launch_type for record in records)


def _includes(given: list[str] | None) -> tuple[str, ...]:
    for name in given or ():
        if name not in INCLUDES:
            raise InvalidParameterError(f"include should be one of [{','.join(INCLUDES)}]")
    return tuple(given or ())


def _first_settings(tx: Transaction, call: Call) -> Tags:
    """Those of a new cluster that was given none: what the account's settings say."""
    name = account_setting_model.CONTAINER_INSIGHTS
    return ((name, account_setting.effective(tx, name, account=call.account, principal_arn=call.principal_arn)),)
