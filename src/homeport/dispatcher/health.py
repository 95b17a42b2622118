"""Health as agents report it, put into records.

Owns: `with_health`, `with_status`, `worst`: the only places where container `health_status`, task `health_status` and instance `health` change.
Pure. Never keeps a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from homeport.acs.messages import InstanceStatus, TaskHealth
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import HEALTHY, STOPPED, UNHEALTHY, UNKNOWN, Container, Task
from homeport.model.record import Instant


def with_status(instance: ContainerInstance, said: InstanceStatus, now: Instant) -> ContainerInstance:
    """`instance` as it is after the agent's word on its container runtime: the same record when nothing changes."""
    if instance.health == said.status:
        return instance
    return msgspec.structs.replace(
        instance,
        health=said.status,
        health_updated_at=said.lastUpdated or now,
        health_changed_at=said.lastStatusChange or now,
        version=instance.version + 1,
    )


def with_health(task: Task, report: TaskHealth, instance_key: str) -> Task:
    """`task` as it is after `report` of the agent on `instance_key`: the same record when nothing changes."""
    if task.instance_key != instance_key or task.last_status == STOPPED:
        return task
    said: Mapping[str, str] = {container.containerName: container.healthStatus for container in report.containers}
    containers = tuple(_container_with_health(container, said) for container in task.containers)
    health = worst(containers)
    if containers == task.containers and health == task.health_status:
        return task
    return msgspec.structs.replace(task, containers=containers, health_status=health, version=task.version + 1)


def _container_with_health(container: Container, said: Mapping[str, str]) -> Container:
    status = said.get(container.name, container.health_status)
    if status == container.health_status or status not in (HEALTHY, UNHEALTHY, UNKNOWN):
        return container
    return msgspec.structs.replace(container, health_status=status)


def worst(containers: Iterable[Container]) -> str:
    """Health of a task: the worst of its essential containers with a check; UNKNOWN when none has one (ecs-reference 3.6)."""
    statuses = {container.health_status for container in containers if container.essential and container.has_health_check}
    if UNHEALTHY in statuses:
        return UNHEALTHY
    return HEALTHY if statuses == {HEALTHY} else UNKNOWN
