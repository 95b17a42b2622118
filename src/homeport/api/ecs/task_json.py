"""How a task looks in the API.

Owns: the rendering of `Task` and `Container`, and the cache of rendered tasks. Never reads more than the task and its instance.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.model import arn
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import STOPPED, Container, NetworkBinding, Task
from homeport.store.table import Reader
from homeport.store.tables import CONTAINER_INSTANCES

RENDERED_MAX: Final = 20_000
"""Tasks kept in rendered form; at 3 kB each 60 MB at the very most."""

_encode = msgspec.json.Encoder().encode


def _binding_json(binding: NetworkBinding) -> dict[str, Any]:
    shown: dict[str, Any] = {"bindIP": binding.bind_ip, "protocol": binding.protocol}
    if binding.container_port_range:
        return {**shown, "containerPortRange": binding.container_port_range, "hostPortRange": binding.host_port_range}
    return {**shown, "containerPort": binding.container_port, "hostPort": binding.host_port}


def _container_json(region: str, task: Task, container: Container, task_arn: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "containerArn": arn.container_arn(region, task.account, task.cluster, task.id, container.id),
        "taskArn": task_arn,
        "name": container.name,
        "image": container.image,
        "lastStatus": container.status,
        "networkBindings": [_binding_json(binding) for binding in container.network_bindings],
        "networkInterfaces": [],
        "healthStatus": container.health_status,
        "cpu": container.cpu,
    }
    optional = {
        "imageDigest": container.image_digest,
        "runtimeId": container.runtime_id,
        "reason": container.reason,
        "memory": container.memory,
        "memoryReservation": container.memory_reservation,
        "gpuIds": list(container.gpu_ids),
    }
    shown.update({name: value for name, value in optional.items() if value})
    if container.exit_code is not None:
        shown["exitCode"] = container.exit_code
    return shown


def _overrides_json(task: Task) -> dict[str, Any]:
    """As AWS shows it: one entry per container, with its overrides if it has any."""
    given: dict[str, Any] = msgspec.json.decode(task.overrides) if task.overrides else {}
    by_name = {item["name"]: item for item in given.pop("containerOverrides", ())}
    containers = [by_name.get(container.name, {"name": container.name}) for container in task.containers]
    return {"containerOverrides": containers, "inferenceAcceleratorOverrides": [], **given}


def _optional_json(region: str, task: Task) -> dict[str, Any]:
    optional: dict[str, Any] = {
        "capacityProviderName": task.capacity_provider,
        "startedBy": task.started_by,
        "stopCode": task.stop_code,
        "stoppedReason": task.stopped_reason,
        "pullStartedAt": task.pull_started_at,
        "pullStoppedAt": task.pull_stopped_at,
        "startedAt": task.started_at,
        "stoppingAt": task.stopping_at,
        "executionStoppedAt": task.execution_stopped_at,
        "stoppedAt": task.stopped_at,
    }
    if task.container_instance_id:
        optional["containerInstanceArn"] = arn.container_instance_arn(region, task.account, task.cluster, task.container_instance_id)
    return {name: value for name, value in optional.items() if value}


def _connectivity_json(task: Task, instance: ContainerInstance | None) -> dict[str, Any]:
    """Whether its agent can be heard, once it has been; the instant is when it last came. Nothing is stored of it, since a disconnected agent
    would then cost a write for each of its tasks. A STOPPED task keeps what it had."""
    if not task.connectivity:
        return {}
    if instance is None or task.last_status == STOPPED:
        return {"connectivity": task.connectivity, "connectivityAt": task.connectivity_at}
    seen = "CONNECTED" if instance.agent_connected else "DISCONNECTED"
    return {"connectivity": seen, "connectivityAt": max(task.connectivity_at, instance.connected_at)}


def _definition_arn(region: str, task: Task) -> str:
    if task.daemon:
        return arn.daemon_task_definition_arn(region, f"{task.account}/{task.family}:{task.revision}")
    return arn.task_definition_arn(region, task.account, task.family, task.revision)


def task_json(region: str, task: Task, instance: ContainerInstance | None, *, with_tags: bool) -> dict[str, Any]:
    """`task` as the API's Task. `instance`: the one that it is on; None while it has none, or when that is forgotten."""
    task_arn = arn.task_arn(region, task.account, task.cluster, task.id)
    shown: dict[str, Any] = {
        "attachments": [],
        "attributes": [],
        "clusterArn": arn.cluster_arn(region, task.account, task.cluster),
        "containers": [_container_json(region, task, container, task_arn) for container in task.containers],
        "cpu": task.cpu_shown,
        "createdAt": task.created_at,
        "desiredStatus": task.desired_status,
        "enableExecuteCommand": task.enable_execute_command,
        "group": task.group,
        "healthStatus": task.health_status,
        "lastStatus": task.last_status,
        "launchType": task.launch_type,
        "memory": task.memory_shown,
        "overrides": _overrides_json(task),
        "tags": [{"key": key, "value": value} for key, value in task.tags] if with_tags else [],
        "taskArn": task_arn,
        "taskDefinitionArn": _definition_arn(region, task),
        "version": task.version,
        **_connectivity_json(task, instance),
        **_optional_json(region, task),
    }
    if zone := zone_of(instance):
        shown["availabilityZone"] = zone
    return shown


class TaskRenderer:
    """Renders tasks and keeps what it rendered, since a task is described far more often than it changes.

    A record is immutable, so the identity of task and instance says whether the rendered form still holds.
    """

    def __init__(self) -> None:
        self._rendered: dict[tuple[str, bool], tuple[Task, ContainerInstance | None, msgspec.Raw]] = {}

    def render(self, reader: Reader, region: str, task: Task, *, with_tags: bool = True) -> msgspec.Raw:
        """`task` as encoded JSON."""
        instance = reader.get(CONTAINER_INSTANCES, task.instance_key) if task.container_instance_id else None
        slot = (task.key, with_tags)
        kept = self._rendered.get(slot)
        if kept is not None and kept[0] is task and kept[1] is instance:
            return kept[2]
        raw = msgspec.Raw(_encode(task_json(region, task, instance, with_tags=with_tags)))
        if len(self._rendered) >= RENDERED_MAX:
            # Dropping everything is rare and cheap; what is asked for comes back at its next reading.
            self._rendered.clear()
        self._rendered[slot] = (task, instance, raw)
        return raw


def zone_of(instance: ContainerInstance | None) -> str:
    """The availability zone of `instance`, "" when it has none."""
    return (instance.attribute("ecs.availability-zone") or "") if instance else ""


RENDERER: Final = TaskRenderer()
