"""Task scale-in protection: which tasks the scheduler leaves alone for now, until when, and the words when it had to.

Owns: `is_protected`, `ends_at`, `unable_to_scale_in`. Never looks at more than `protected_until`; who sets that is the API's business.
Source: ecs-reference 3.7 and 3.10, and ECS's documents: scale-in, deployments, draining and rebalancing wait for the end of the protection. A
task that fails its health check, StopTask and the deletion of the service are none of these.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeport.model.ecs.task import Task
from homeport.model.record import Instant


def is_protected(task: Task, now: Instant) -> bool:
    """Whether `task` may not be stopped by scale-in, a deployment or rebalancing at `now`."""
    return task.protected_until > now


def ends_at(tasks: Iterable[Task], now: Instant) -> Instant:
    """When the first protection among `tasks` ends; 0.0 when none of them is protected."""
    return min((task.protected_until for task in tasks if task.protected_until > now), default=0.0)


def unable_to_scale_in(name: str, count: int) -> str:
    """The event of a scale-in, a deployment or a drain that `count` protected tasks hold up."""
    return f"(service {name}) was unable to scale in due to (reason {count} tasks under protection)."
