"""The API's form of a container instance.

Owns: `container_instance_json` and the arithmetic of registered and remaining resources in it. Never writes.
Source: ecs-reference 3.3. Remaining resources and counts are worked out from the tasks' indexes, never stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from homeport.model import arn
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.planner.gpus import free
from homeport.store.table import Reader
from homeport.store.tables import DAEMONS, TASKS

OK: Final = "OK"
IMPAIRED: Final = "IMPAIRED"
INITIALIZING: Final = "INITIALIZING"
INSUFFICIENT_DATA: Final = "INSUFFICIENT_DATA"
_WORST_FIRST: Final = (IMPAIRED, INSUFFICIENT_DATA, INITIALIZING, OK)


def container_instance_json(reader: Reader, region: str, instance: ContainerInstance, *, include: Collection[str] = ()) -> dict[str, Any]:
    """The API's `containerInstance`. `include`: TAGS, CONTAINER_INSTANCE_HEALTH."""
    rendered: dict[str, Any] = {
        "containerInstanceArn": arn.container_instance_arn(region, instance.account, instance.cluster, instance.id),
        "ec2InstanceId": instance.ec2_instance_id,
        "version": instance.version,
        "versionInfo": _version_info(instance),
        "remainingResources": _remaining(reader, instance),
        "registeredResources": _registered(instance),
        "status": instance.status,
        "agentConnected": instance.agent_connected,
        "runningTasksCount": reader.count(TASKS, "instance_desired", f"{instance.key}/{task_model.RUNNING}"),
        "pendingTasksCount": reader.count(TASKS, "instance_last", f"{instance.key}/{task_model.PENDING}"),
        "attributes": [attribute_json(attribute) for attribute in instance.attributes],
        "registeredAt": instance.registered_at,
        "attachments": [],
        "tags": [{"key": key, "value": value} for key, value in instance.tags] if "TAGS" in include else [],
    }
    if instance.capacity_provider:
        rendered["capacityProviderName"] = instance.capacity_provider
    if instance.status_reason:
        rendered["statusReason"] = instance.status_reason
    if instance.agent_update_status:
        rendered["agentUpdateStatus"] = instance.agent_update_status
    if "CONTAINER_INSTANCE_HEALTH" in include:
        rendered["healthStatus"] = _health(reader, instance)
    return rendered


def attribute_json(attribute: Attribute) -> dict[str, str]:
    """{name, value}; an attribute without a value has no `value`, which the upstream agent reads as the empty value that it sent."""
    return {"name": attribute.name, "value": attribute.value} if attribute.value else {"name": attribute.name}


def _version_info(instance: ContainerInstance) -> dict[str, str]:
    versions = {"agentVersion": instance.agent_version, "agentHash": instance.agent_hash, "dockerVersion": instance.docker_version}
    return {name: value for name, value in versions.items() if value}


def _registered(instance: ContainerInstance) -> list[dict[str, Any]]:
    ports = (instance.reserved_tcp_ports, instance.reserved_udp_ports)
    return _resources(instance, instance.cpu, instance.memory_mib, ports=ports, gpu_ids=instance.gpu_ids)


def _remaining(reader: Reader, instance: ContainerInstance) -> list[dict[str, Any]]:
    """What is left, of GPUs the free ones. For ports, ECS lists those that are taken: reserved by the host or fixed by a task that is not STOPPED."""
    cpu, memory_mib = instance.cpu, instance.memory_mib
    tcp, udp = set(instance.reserved_tcp_ports), set(instance.reserved_udp_ports)
    gpus = free(instance, reader.find(TASKS, "instance_live", instance.key)) if instance.gpu_ids else []
    for task in reader.find(TASKS, "instance_live", instance.key):
        cpu -= task.cpu
        memory_mib -= task.memory_mib
        for use in task.host_ports:
            (udp if use.protocol == "udp" else tcp).add(use.port)
    return _resources(instance, cpu, memory_mib, ports=(sorted(tcp), sorted(udp)), gpu_ids=gpus)


def _resources(
    instance: ContainerInstance, cpu: int, memory_mib: int, *, ports: tuple[Iterable[int], Iterable[int]], gpu_ids: Iterable[str]
) -> list[dict[str, Any]]:
    resources = [
        _number("CPU", cpu),
        _number("MEMORY", memory_mib),
        _strings("PORTS", map(str, ports[0])),
        _strings("PORTS_UDP", map(str, ports[1])),
    ]
    if instance.gpu_ids:
        resources.append(_strings("GPU", gpu_ids))
    return resources


def _number(name: str, value: int) -> dict[str, Any]:
    return {"name": name, "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": value}


def _strings(name: str, values: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0, "integerValue": 0, "stringSetValue": list(values)}


def _health(reader: Reader, instance: ContainerInstance) -> dict[str, Any]:
    """Container runtime as the agent reported it, connectivity as the dispatcher knows it, daemons where there are some; the whole is as bad as the
    worst of them."""
    runtime: dict[str, Any] = {"type": "CONTAINER_RUNTIME", "status": instance.health or INSUFFICIENT_DATA}
    if instance.health_updated_at:
        runtime.update(lastUpdated=instance.health_updated_at, lastStatusChange=instance.health_changed_at or instance.health_updated_at)
    connectivity: dict[str, Any] = {"type": "AGENT_CONNECTIVITY", "status": OK if instance.agent_connected else IMPAIRED}
    changed_at = instance.session.since if instance.agent_connected and instance.session else instance.disconnected_at
    if changed_at:
        connectivity.update(lastUpdated=changed_at, lastStatusChange=changed_at)
    details = [runtime, connectivity, *_daemons(reader, instance)]
    worst = next((status for status in _WORST_FIRST if any(detail["status"] == status for detail in details)), INSUFFICIENT_DATA)
    return {"overallStatus": worst, "details": details}


def _daemons(reader: Reader, instance: ContainerInstance) -> list[dict[str, Any]]:
    """How the daemons fare that belong on the instance, as one detail: as bad as the worst of them. None where none belongs."""
    found = reader.find(DAEMONS, "capacity_provider", f"{instance.cluster_key}/{instance.capacity_provider}") if instance.capacity_provider else ()
    names = [daemon.name for daemon in found if daemon.share is not None]
    if not names:
        return []
    live = reader.find(TASKS, "instance_live", instance.key)
    tasks = {task.daemon: task for task in live if task.daemon and task.desired_status == task_model.RUNNING == task.last_status}
    sick = any(task.health_status == task_model.UNHEALTHY for task in tasks.values())
    status = IMPAIRED if sick else OK if all(name in tasks for name in names) else INITIALIZING
    changed_at = max((task.started_at for task in tasks.values()), default=0.0)
    return [{"type": "DAEMON", "status": status, **({"lastUpdated": changed_at, "lastStatusChange": changed_at} if changed_at else {})}]
