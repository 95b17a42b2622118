"""Operations on capacity providers: create, update, delete, describe.

Owns: the `CapacityProvider` records and their form in the API. Never associates one with a cluster (`cluster_capacity.py` does).
Source: ecs-reference 3.2. What is asked for is done at once, so every update status that is shown is a final one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import capacity_provider_input as given
from homeport.api.ecs import lookup, page
from homeport.api.ecs.tag_rules import tags_json, tags_of
from homeport.errors import ClientError, InvalidParameterError, UnsupportedFeatureError
from homeport.model import arn
from homeport.model.ecs import capacity_provider as model
from homeport.model.ecs.capacity_provider import CapacityProvider
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import CAPACITY_PROVIDERS, CLUSTERS, DAEMONS, SERVICES, TASK_SETS, TASKS

DESCRIBE_MAX: Final = 100
PAGE_MAX: Final = 10
MISSING: Final = "The specified capacity provider does not exist. Specify a valid name or ARN and try again."
EXISTS: Final = (
    "The specified capacity provider already exists. To change the configuration of an existing capacity provider, update the capacity provider."
)


def name_in(call: Call, reference: str) -> str:
    """The name in a name or an ARN. Raises InvalidParameterError for an ARN of something else, another account or region."""
    if not reference.startswith("arn:"):
        return reference
    found = lookup.own_arn(call, reference)
    kind, _, name = found.resource.partition("/") if found else ("", "", "")
    if kind != "capacity-provider" or not name:
        raise InvalidParameterError(f"Invalid identifier: {reference} is no ARN of a capacity provider of this account and region")
    return name


def active(reader: Reader, call: Call, reference: str) -> CapacityProvider | None:
    """The ACTIVE provider that `reference` names, or None; a built-in one has no record."""
    found = reader.get(CAPACITY_PROVIDERS, f"{call.account}/{name_in(call, reference)}")
    return found if found is not None and found.status == model.ACTIVE else None


def capacity_provider_json(call: Call, provider: CapacityProvider, *, with_tags: bool) -> dict[str, Any]:
    """The API's `capacityProvider`."""
    shown: dict[str, Any] = {
        "capacityProviderArn": arn.capacity_provider_arn(call.region, provider.account, provider.name),
        "name": provider.name,
        "status": provider.status,
        "type": provider.type,
        "updateStatus": provider.update_status,
        "tags": tags_json(provider.tags) if with_tags else [],
    }
    if provider.cluster:
        shown["cluster"] = provider.cluster
    if provider.type == model.MANAGED_INSTANCES:
        shown["managedInstancesProvider"] = msgspec.Raw(provider.managed_instances)
        return shown
    scaling = provider.managed_scaling
    shown["autoScalingGroupProvider"] = {
        "autoScalingGroupArn": provider.auto_scaling_group,
        "managedScaling": {
            "status": _switch(scaling.enabled),
            "targetCapacity": scaling.target_capacity,
            "minimumScalingStepSize": scaling.step_min,
            "maximumScalingStepSize": scaling.step_max,
            "instanceWarmupPeriod": scaling.warmup_seconds,
        },
        "managedTerminationProtection": _switch(provider.termination_protection),
        "managedDraining": _switch(provider.managed_draining),
    }
    return shown


def _switch(on: bool) -> str:  # noqa: FBT001 - a value, not a mode
    return "ENABLED" if on else "DISABLED"


def _built_in_json(call: Call, name: str) -> dict[str, Any]:
    shown = {"capacityProviderArn": arn.capacity_provider_arn(call.region, call.account, name), "name": name, "type": name}
    return {**shown, "status": model.ACTIVE, "tags": []}


async def create_capacity_provider(call: Call, request: Any) -> dict[str, Any]:
    """CreateCapacityProvider: a provider of an Auto Scaling group, or one of managed instances in one cluster; the same again gives it as it is."""
    wanted = _wanted(call, request)

    def create(tx: Transaction) -> dict[str, Any]:
        provider = wanted
        if provider.cluster:
            provider = msgspec.structs.replace(provider, cluster=lookup.cluster_of(tx, call, request.cluster).name)
        existing = tx.get(CAPACITY_PROVIDERS, provider.key)
        if existing is not None and existing.status != model.INACTIVE:
            if msgspec.structs.replace(existing, created_at=0.0, update_status=provider.update_status, scaling=provider.scaling) != provider:
                raise ClientError(EXISTS)
            return {"capacityProvider": capacity_provider_json(call, existing, with_tags=True)}
        _refuse_shared_group(tx, provider)
        provider = msgspec.structs.replace(provider, created_at=tx.now)
        tx.put(CAPACITY_PROVIDERS, provider)
        return {"capacityProvider": capacity_provider_json(call, provider, with_tags=True)}

    return await call.update(create)


def _wanted(call: Call, request: Any) -> CapacityProvider:
    group, instances = request.autoScalingGroupProvider, request.managedInstancesProvider
    if (group is None) == (instances is None):
        raise InvalidParameterError("Specify exactly one of autoScalingGroupProvider and managedInstancesProvider.")
    blank = CapacityProvider(
        account=call.account,
        name=given.name_of(request.name),
        type=model.EC2_AUTOSCALING if instances is None else model.MANAGED_INSTANCES,
        status=model.ACTIVE,
        created_at=0.0,
        tags=tags_of(request.tags, tags_max=call.settings.tags_max),
    )
    if instances is None:
        if request.cluster:
            raise InvalidParameterError("A cluster may only be specified for a capacity provider of managed instances.")
        named = msgspec.structs.replace(blank, auto_scaling_group=given.group_of(group.autoScalingGroupArn))
        return given.with_group(named, group)
    if not request.cluster:
        raise InvalidParameterError("A cluster must be specified for a capacity provider of managed instances.")
    document = given.managed_instances_of(instances, b"")
    return msgspec.structs.replace(blank, cluster=lookup.cluster_name(call, request.cluster), managed_instances=document)


def _refuse_shared_group(reader: Reader, provider: CapacityProvider) -> None:
    others = reader.scan(CAPACITY_PROVIDERS, f"{provider.account}/")
    group = provider.auto_scaling_group
    if group and any(other.auto_scaling_group == group and other.status == model.ACTIVE for other in others):
        raise ClientError(
            "The specified Auto Scaling group ARN is already being used by another capacity provider. Specify a unique Auto Scaling group ARN and "
            "try again."
        )


async def update_capacity_provider(call: Call, request: Any) -> dict[str, Any]:
    """UpdateCapacityProvider: absent members stay. Raises ClientError when there is no such provider."""
    group, instances = request.autoScalingGroupProvider, request.managedInstancesProvider

    def update(tx: Transaction) -> dict[str, Any]:
        provider = _existing(tx, call, request.name, "updated")
        if (provider.type == model.EC2_AUTOSCALING and instances is not None) or (provider.type == model.MANAGED_INSTANCES and group is not None):
            raise InvalidParameterError(f"The type of a capacity provider cannot be changed; {provider.name} is {provider.type}.")
        if group is None and instances is None:
            raise InvalidParameterError("Specify autoScalingGroupProvider or managedInstancesProvider.")
        if group is not None:
            provider = given.with_group(provider, group)
            _refuse_second_cluster(tx, provider)
        else:
            provider = msgspec.structs.replace(provider, managed_instances=given.managed_instances_of(instances, provider.managed_instances))
        provider = msgspec.structs.replace(provider, update_status=model.UPDATE_COMPLETE)
        tx.put(CAPACITY_PROVIDERS, provider)
        return {"capacityProvider": capacity_provider_json(call, provider, with_tags=True)}

    return await call.update(update)


def _refuse_second_cluster(reader: Reader, provider: CapacityProvider) -> None:
    if provider.managed_scaling.enabled and reader.count(CLUSTERS, "capacity_provider", provider.key) > 1:
        raise InvalidParameterError("A capacity provider with managed scaling may be associated with one cluster only.")


def _existing(reader: Reader, call: Call, reference: str, done: str) -> CapacityProvider:
    if name_in(call, reference) in model.BUILT_IN:
        raise ClientError(f"The specified capacity provider is reserved and cannot be {done}: {name_in(call, reference)}")
    found = active(reader, call, reference)
    if found is None:
        raise ClientError(MISSING)
    return found


async def delete_capacity_provider(call: Call, request: Any) -> dict[str, Any]:
    """DeleteCapacityProvider: INACTIVE at once, if no service, task or cluster uses it."""

    def delete(tx: Transaction) -> dict[str, Any]:
        provider = _existing(tx, call, request.capacityProvider, "deleted")
        if request.cluster and provider.cluster and lookup.cluster_of(tx, call, request.cluster).name != provider.cluster:
            raise ClientError(MISSING)
        _refuse_if_used(tx, provider)
        provider = msgspec.structs.replace(provider, status=model.INACTIVE, update_status=model.DELETE_COMPLETE, deleted_at=tx.now)
        tx.put(CAPACITY_PROVIDERS, provider)
        return {"capacityProvider": capacity_provider_json(call, provider, with_tags=False)}

    return await call.update(delete)


_USERS: Final[tuple[tuple[Table[Any], str], ...]] = (
    (SERVICES, "capacity_provider"),
    (TASK_SETS, "capacity_provider"),
    (DAEMONS, "capacity_provider"),
    (TASKS, "provider_live"),
)
"""Table and index of what uses a capacity provider."""


def in_use(reader: Reader, cluster_key: str, name: str) -> bool:
    """Whether a strategy of a service or a task set in the cluster has the provider `name`, a daemon is for it, or a task that is not STOPPED came by
    it."""
    place = f"{cluster_key}/{name}"
    return any(reader.count(table, index, place) for table, index in _USERS)


def _refuse_if_used(reader: Reader, provider: CapacityProvider) -> None:
    clusters = [cluster.name for cluster in reader.find(CLUSTERS, "capacity_provider", provider.key)]
    for name in [provider.cluster, *clusters]:
        if name and in_use(reader, f"{provider.account}/{name}", provider.name):
            raise ClientError(
                "The capacity provider cannot be deleted because it is in use by services, daemons or tasks. Remove it from their capacity provider "
                "strategies and try again."
            )
    if clusters:
        raise ClientError(
            f"The capacity provider cannot be deleted because it is associated with cluster: {clusters[0]}. Remove the capacity provider from the "
            "cluster and try again."
        )


async def describe_capacity_providers(call: Call, request: Any) -> dict[str, Any]:
    """DescribeCapacityProviders: those named (one that is not there is in `failures`), or all, the built-in ones first; in pages of up to 10."""
    limit = page.limit_of(request.maxResults, limit_max=PAGE_MAX, default=PAGE_MAX)
    if len(request.capacityProviders or ()) > DESCRIBE_MAX:
        raise InvalidParameterError(f"capacityProviders may not have more than {DESCRIBE_MAX} elements.")
    with_tags = "TAGS" in (request.include or ())

    def describe(reader: Reader) -> dict[str, Any]:
        names = [name_in(call, reference) for reference in request.capacityProviders or ()]
        filters = (names, request.cluster)
        after = pagination.open_token(call, request.nextToken, filters)
        known = {record.name: record for record in reader.scan(CAPACITY_PROVIDERS, f"{call.account}/")}
        there = [*model.BUILT_IN, *(name for name, record in known.items() if record.status != model.INACTIVE)]
        if request.cluster:
            cluster = lookup.cluster_of(reader, call, request.cluster)
            there = [name for name in there if name in cluster.capacity_providers or (name in known and known[name].cluster == cluster.name)]
            known = {name: record for name, record in known.items() if name in there}
        wanted = list(dict.fromkeys(names)) or there
        wanted = wanted[wanted.index(after) + 1 :] if after in wanted else wanted
        found, last = pagination.paginate(wanted, limit=limit, key=str)
        shown, failures = [], []
        for name in found:
            if name in known:
                shown.append(capacity_provider_json(call, known[name], with_tags=with_tags))
            elif name in there or not request.cluster and name in model.BUILT_IN:
                shown.append(_built_in_json(call, name))
            else:
                failures.append({"arn": arn.capacity_provider_arn(call.region, call.account, name), "reason": "MISSING"})
        return {"capacityProviders": shown, "failures": failures, **page.next_page(call, last, filters)}

    return await call.view(describe)


def refuse_acting(provider: CapacityProvider | None, name: str) -> None:
    """Raise UnsupportedFeatureError for a provider whose instances nothing here can make: managed instances and Fargate."""
    if name in model.BUILT_IN:
        raise UnsupportedFeatureError(f"The capacity provider {name} is not built yet: there is no Fargate here. Use one with container instances.")
    if provider is not None and provider.type == model.MANAGED_INSTANCES:
        raise UnsupportedFeatureError(f"The capacity provider {name} has managed instances, which are not built yet.")
