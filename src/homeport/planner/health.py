"""When a service's task counts as healthy (ecs-reference 3.9 and 3.12).

Owns: `is_healthy`, `is_unhealthy`, `healthy_at`, and `concerns`: whether a change of a task can change what becomes of its service. Never
reads more than the task: target and service-discovery health come with their parts.
"""

from __future__ import annotations

from typing import Final

from homeport.model.ecs import task as task_model
from homeport.model.ecs.task import Task
from homeport.model.record import Instant


def has_check(task: Task) -> bool:
    """Whether an essential container of `task` has a health check."""
    for container in task.containers:  # noqa: SIM110 - asked for every task at every activation; `any` takes twice as long
        if container.has_health_check and container.essential:
            return True
    return False


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


NOTICED_LATER_SECONDS: Final = 1.0
"""With a waiting time of at least this, a task that begins to run changes nothing until it comes of age."""


def concerns(before: Task | None, after: Task | None, healthy_after_seconds: float) -> bool:
    """Whether the change from `before` to `after` can change what becomes of their service, other than through time.

    Most changes are reports of what was expected (pulled, RUNNING) and cannot: such a task matters again when it has run for
    `healthy_after_seconds`, which whoever decides has a timer for. `healthy_since` is a note of the deployment's controller to itself.
    """
    if before is None or after is None or healthy_after_seconds < NOTICED_LATER_SECONDS:
        return True
    if before.last_status != after.last_status and (after.last_status != task_model.RUNNING or has_check(after)):
        return True
    return (
        before.desired_status != after.desired_status
        or before.health_status != after.health_status
        or before.container_instance_id != after.container_instance_id
        or before.protected_until != after.protected_until
    )
