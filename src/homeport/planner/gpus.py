"""Which GPUs of its instance a task's containers get: whole ones, each for one container alone (ecs-reference 3.20).

Owns: `wanted`, `free` and `with_gpus`. Never chooses an instance: placement has counted that there are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task


def wanted(container: Mapping[str, Any]) -> int:
    """How many GPUs a container asks for by number. `container`: its definition, merged with what overrides it."""
    values = (item.get("value") or "" for item in container.get("resourceRequirements") or () if item.get("type") == "GPU")
    return sum(int(value) for value in values if value.isdigit())


def free(instance: ContainerInstance, tasks: Iterable[Task]) -> list[str]:
    """Ids of the GPUs of `instance` that none of `tasks`, the live ones on it, has."""
    taken = {gpu for task in tasks if task.gpus for container in task.containers for gpu in container.gpu_ids}
    return [gpu for gpu in instance.gpu_ids if gpu not in taken]


def with_gpus(task: Task, instance: ContainerInstance | None, tasks: Iterable[Task]) -> Task:
    """`task` with the ids of its containers' GPUs: the first that are free of its instance; as it is while it asks for none or has no instance.

    Asked once, when it gets its instance."""
    if not task.gpus or instance is None:
        return task
    left = free(instance, tasks)
    containers = []
    for container in task.containers:
        containers.append(msgspec.structs.replace(container, gpu_ids=tuple(left[: container.gpus])) if container.gpus else container)
        left = left[container.gpus :]
    return msgspec.structs.replace(task, containers=tuple(containers))
