"""A cluster's capacity providers and its default strategy: how both are set and shown.

Owns: `capacity_providers` and `default_capacity_provider_strategy` of a cluster, and the rules of strategies that need the cluster.
Never shares tasks out (`placement/capacity.py` does). Source: ecs-reference 3.1 and 3.2.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import capacity_provider as provider_api
from homeport.errors import ClientError, InvalidParameterError, ResourceInUseError
from homeport.model.ecs import capacity_provider as model
from homeport.model.ecs.capacity_provider import Strategy, StrategyItem
from homeport.model.ecs.cluster import Cluster
from homeport.store.table import Reader
from homeport.store.tables import CAPACITY_PROVIDERS, CLUSTERS

STRATEGY_ITEMS_MAX: Final = 20
WEIGHT_MAX: Final = 1_000
BASE_MAX: Final = 100_000

NOT_ASSOCIATED: Final = (
    "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster. Associate the capacity "
    "provider with the cluster and try again."
)
MIXED: Final = (
    "A capacity provider strategy cannot contain a mix of capacity providers using Auto Scaling groups and Fargate providers. Specify one or the "
    "other and try again."
)


def strategy_of(call: Call, items: Sequence[Any] | None) -> Strategy:
    """A strategy as a call gives it, checked by the rules that need no cluster. Raises InvalidParameterError."""
    found = tuple(StrategyItem(provider_api.name_in(call, item.capacityProvider), item.weight or 0, item.base or 0) for item in items or ())
    names = [item.capacity_provider for item in found]
    if len(found) > STRATEGY_ITEMS_MAX:
        raise InvalidParameterError(f"A capacity provider strategy can contain a maximum of {STRATEGY_ITEMS_MAX} capacity providers.")
    if len(set(names)) < len(names):
        raise InvalidParameterError("A capacity provider strategy cannot contain a capacity provider more than once.")
    if not all(0 <= item.weight <= WEIGHT_MAX and 0 <= item.base <= BASE_MAX for item in found):
        raise InvalidParameterError(f"The weight of a capacity provider must be from 0 to {WEIGHT_MAX} and its base from 0 to {BASE_MAX}.")
    if sum(1 for item in found if item.base) > 1:
        raise InvalidParameterError("Only one capacity provider in a capacity provider strategy can have a base defined.")
    if len(found) > 1 and not any(item.weight for item in found):
        raise InvalidParameterError("At least one capacity provider in a capacity provider strategy must have a weight greater than 0.")
    if 0 < sum(1 for name in names if name in model.BUILT_IN) < len(names):
        raise InvalidParameterError(MIXED)
    return found


def _check_associated(reader: Reader, call: Call, strategy: Strategy, cluster: Cluster) -> None:
    for item in strategy:
        provider = provider_api.active(reader, call, item.capacity_provider)
        own = provider is not None and provider.cluster == cluster.name
        if not own and item.capacity_provider not in cluster.capacity_providers:
            raise InvalidParameterError(NOT_ASSOCIATED)


def acting_strategy(reader: Reader, call: Call, *, cluster: Cluster, request: Any) -> Strategy:
    """The strategy that tasks of `request` are to be started by: its own, else, when it names no launch type, the cluster's; () for none.

    Raises InvalidParameterError for a wrong one, UnsupportedFeatureError for a provider that cannot act here.
    """
    given, launch_type = request.capacityProviderStrategy, getattr(request, "launchType", None)  # UpdateService has no launch type
    if launch_type and given:
        raise InvalidParameterError("Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.")
    strategy = strategy_of(call, given)
    if given is None and not launch_type:
        strategy = model.strategy_of(cluster.default_capacity_provider_strategy)
    _check_associated(reader, call, strategy, cluster)
    for item in strategy:
        provider_api.refuse_acting(provider_api.active(reader, call, item.capacity_provider), item.capacity_provider)
    return strategy


def waits_for(reader: Reader, account: str, name: str) -> bool:
    """Whether a task that no instance of the provider `name` can take waits for one: its pool is to grow (ecs-reference 3.5)."""
    provider = reader.get(CAPACITY_PROVIDERS, f"{account}/{name}")
    return provider is not None and provider.managed_scaling.enabled


def with_capacity(reader: Reader, call: Call, *, cluster: Cluster, request: Any) -> Cluster:
    """`cluster` with the providers and the default strategy of `request` in place of its own.

    Raises InvalidParameterError for an unknown provider or a wrong strategy, ClientError for too many, ResourceInUseError for leaving one
    out that a service or task uses.
    """
    names = tuple(dict.fromkeys(provider_api.name_in(call, reference) for reference in request.capacityProviders or ()))
    if len(names) > call.settings.capacity_providers_per_cluster_max:
        raise ClientError(f"A cluster may have at most {call.settings.capacity_providers_per_cluster_max} capacity providers.")
    for name in names:
        if name not in model.BUILT_IN:
            _check_provider(reader, call, cluster, name)
    for name in cluster.capacity_providers:
        if name not in names and provider_api.in_use(reader, cluster.key, name):
            raise ResourceInUseError("The specified capacity provider is in use and cannot be removed.")
    checked = strategy_of(call, request.defaultCapacityProviderStrategy)
    changed = msgspec.structs.replace(
        cluster, capacity_providers=names, default_capacity_provider_strategy=msgspec.json.encode(checked) if checked else b""
    )
    _check_associated(reader, call, checked, changed)
    return changed


def _check_provider(reader: Reader, call: Call, cluster: Cluster, name: str) -> None:
    provider = provider_api.active(reader, call, name)
    if provider is None:
        raise InvalidParameterError(provider_api.MISSING)
    if provider.type == model.MANAGED_INSTANCES:
        raise InvalidParameterError("A capacity provider of managed instances belongs to its cluster from its creation; it cannot be associated.")
    elsewhere = any(other.key != cluster.key for other in reader.find(CLUSTERS, "capacity_provider", provider.key))
    if provider.managed_scaling.enabled and elsewhere:
        raise InvalidParameterError("A capacity provider with managed scaling may be associated with one cluster only.")


def capacity_json(reader: Reader, cluster: Cluster, *, with_attachments: bool) -> dict[str, Any]:
    """The members of the API's `cluster` about capacity. An attachment stands for the scaling of each provider whose scaling is managed."""
    shown: dict[str, Any] = {
        "capacityProviders": list(cluster.capacity_providers),
        "defaultCapacityProviderStrategy": msgspec.Raw(cluster.default_capacity_provider_strategy or b"[]"),
    }
    if with_attachments:
        records = (reader.get(CAPACITY_PROVIDERS, f"{cluster.account}/{name}") for name in cluster.capacity_providers)
        shown["attachments"] = [_attachment(cluster, record.name) for record in records if record and record.managed_scaling.enabled]
        if cluster.capacity_providers:
            shown["attachmentsStatus"] = "UPDATE_COMPLETE"
    return shown


def _attachment(cluster: Cluster, name: str) -> dict[str, Any]:
    # The same in every answer without being stored.
    identity = uuid.UUID(bytes=hashlib.sha256(f"{cluster.key}/{name}".encode()).digest()[:16], version=4)
    details = (("capacityProviderName", name), ("scalingPolicyName", f"ECSManagedAutoScalingPolicy-{identity}"))
    return {
        "id": str(identity),
        "type": "as_policy",
        "status": "CREATED",
        "details": [{"name": key, "value": value} for key, value in details],
    }
