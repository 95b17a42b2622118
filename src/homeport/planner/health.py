"""When a service's task counts as healthy (ecs-reference 3.9 and 3.12).

Owns: `is_healthy`, `is_unhealthy`, `healthy_at`. Never reads more than the task: target and service-discovery health come with their parts.
"""

from __future__ import annotations

from homeport.model.ecs import task as task_model
from homeport.model.ecs.task import Task
from homeport.model.record import Instant


def has_check(task: Task) -> bool:
    """Whether an essential container of `task` has a health check."""
    return any(container.essential and container.has_health_check for container in task.containers)


def healthy_at(task: Task, healthy_after_seconds: float) -> Instant:
    """The instant from which `task` counts as healthy if nothing more is reported of it; 0.0 when only a report can make it so.

    Without a check it is `healthy_after_seconds` after the task began to run.
    """
    if task.last_status != task_model.RUNNING or task.desired_status != task_model.RUNNING or has_check(task):
        return 0.0
    return task.started_at + healthy_after_seconds


def is_healthy(task: Task, healthy_after_seconds: float, now: Instant) -> bool:
    """Whether `task` counts towards the healthy total: RUNNING, wanted so, and its checks pass or it has run long enough without one."""
    if task.last_status != task_model.RUNNING or task.desired_status != task_model.RUNNING:
        return False
    if has_check(task):
        return task.health_status == task_model.HEALTHY
    return now >= task.started_at + healthy_after_seconds


def is_unhealthy(task: Task) -> bool:
    """Whether a check of an essential container of `task` failed for good (starting and unknown are not unhealthy)."""
    return task.health_status == task_model.UNHEALTHY and has_check(task)
