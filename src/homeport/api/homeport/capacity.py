"""DescribeCapacity: what managed scaling last saw of each capacity provider and what it asked for; ECS has no call for that.

Owns: the handler and the form of its answer. Never samples anything: `controllers/capacity.py` does, and what it wrote is shown.
"""

from __future__ import annotations

from typing import Any

from homeport.api.call import Call
from homeport.api.ecs.capacity_provider import name_in
from homeport.model import arn
from homeport.model.ecs import capacity_provider as model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.capacity_provider import CapacityProvider
from homeport.store.table import Reader
from homeport.store.tables import CAPACITY_PROVIDERS, CLUSTERS, CONTAINER_INSTANCES, TASKS


async def describe_capacity(call: Call, request: Any) -> dict[str, Any]:
    """Every provider of an Auto Scaling group that is ACTIVE, or those named; one that is not there is left out.

    Raises InvalidParameterError for an ARN of something else.
    """
    names = [name_in(call, reference) for reference in request.capacityProviders or ()]

    def describe(reader: Reader) -> dict[str, Any]:
        found = (
            item
            for item in reader.scan(CAPACITY_PROVIDERS, f"{call.account}/")
            if item.status == model.ACTIVE and item.type == model.EC2_AUTOSCALING and (not names or item.name in names)
        )
        return {"capacities": [_capacity_json(reader, call.region, item) for item in found]}

    return await call.view(describe)


def _capacity_json(reader: Reader, region: str, provider: CapacityProvider) -> dict[str, Any]:
    """Numbers of the present (instances, waiting tasks) beside those of the last sample; without a sample the latter are absent."""
    clusters = [cluster.key for cluster in reader.find(CLUSTERS, "capacity_provider", provider.key)]
    shown: dict[str, Any] = {
        "capacityProviderName": provider.name,
        "managedScaling": "ENABLED" if provider.managed_scaling.enabled else "DISABLED",
        "targetCapacity": provider.managed_scaling.target_capacity,
        "clusters": [cluster.partition("/")[2] for cluster in clusters],
        "registeredInstances": sum(reader.count(CONTAINER_INSTANCES, "capacity_provider", f"{cluster}/{provider.name}") for cluster in clusters),
        "provisioningTasks": sum(_waiting(reader, cluster, provider.name) for cluster in clusters),
    }
    state = provider.scaling
    if state.changed_at and provider.managed_scaling.enabled:
        shown |= {
            "capacityProviderReservation": state.reservation,
            "instances": state.instances,
            "instancesNeeded": state.needed,
            "desiredInstances": state.desired,
            "samplesBelowTarget": state.below,
            "changedAt": state.changed_at,
        }
    if state.leaving:
        shown["leaving"] = [_leaving_json(region, item.instance_key, item.machine_id, item.since) for item in state.leaving]
    if state.trouble:
        shown["trouble"] = state.trouble
    return shown


def _waiting(reader: Reader, cluster: str, name: str) -> int:
    found = reader.find(TASKS, "cluster_last", f"{cluster}/{task_model.PROVISIONING}")
    return sum(1 for task in found if task.capacity_provider == name and task.desired_status == task_model.RUNNING)


def _leaving_json(region: str, key: str, machine: str, since: float) -> dict[str, Any]:
    its_arn = {"containerInstanceArn": arn.container_instance_arn(region, *key.split("/"))} if key else {}
    return {"ec2InstanceId": machine, "since": since, **its_arn}
