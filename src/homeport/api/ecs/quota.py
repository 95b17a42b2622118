"""Quotas that count records: how many of a thing there may be.

Owns: the counting and the words of the refusal. Never knows a number: each comes from a setting (docs/howto/quotas.md). Operations that model no
LimitExceededException answer with a ClientException.
"""

from __future__ import annotations

from homeport.api.call import Call
from homeport.errors import ClientError
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import service as service_model
from homeport.store.table import Reader
from homeport.store.tables import CLUSTERS, CONTAINER_INSTANCES, EXPRESS_GATEWAY_SERVICES, GATEWAY_ASSOCIATIONS, SERVICES

_REGISTERED = (instance_model.REGISTERING, instance_model.ACTIVE, instance_model.DRAINING, instance_model.DEREGISTERING)


def refuse_more_clusters(reader: Reader, call: Call) -> None:
    """Raise ClientError when the account has as many clusters as it may."""
    _refuse(reader.count(CLUSTERS, "active", call.account), call.settings.clusters_max, "clusters per account", setting="clusters_max")


def refuse_more_services(reader: Reader, call: Call, cluster_key: str) -> None:
    """Raise ClientError when the cluster has as many services as it may: ACTIVE and DRAINING ones, and express services."""
    used = sum(reader.count(SERVICES, "cluster_status", f"{cluster_key}/{status}") for status in (service_model.ACTIVE, service_model.DRAINING))
    used += reader.count(EXPRESS_GATEWAY_SERVICES, "cluster", cluster_key)
    _refuse(used, call.settings.services_per_cluster_max, "services per cluster", setting="services_per_cluster_max")


def refuse_more_instances(reader: Reader, call: Call, cluster_key: str) -> None:
    """Raise ClientError when the cluster has as many container instances as it may."""
    used = sum(reader.count(CONTAINER_INSTANCES, "cluster_status", f"{cluster_key}/{status}") for status in _REGISTERED)
    setting = "container_instances_per_cluster_max"
    _refuse(used, call.settings.container_instances_per_cluster_max, "container instances per cluster", setting=setting)


def refuse_more_gateways(reader: Reader, call: Call, cluster_key: str) -> None:
    """Raise ClientError when the cluster is associated with as many gateways as it may be."""
    used = reader.count(GATEWAY_ASSOCIATIONS, "cluster", cluster_key)
    _refuse(used, call.settings.gateways_per_cluster_max, "gateways per cluster", setting="gateways_per_cluster_max")


def _refuse(used: int, most: int, what: str, *, setting: str) -> None:
    if used >= most:
        raise ClientError(f"You've reached the limit of {most} {what}. The setting {setting} changes it.")
