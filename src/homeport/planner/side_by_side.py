"""What a service should do next while two of its revisions stand side by side: each keeps its tasks by the rolling arithmetic of its own.

Owns: `plan`. Never decides how long that lasts (`planner/traffic_shift.py` does). From CLEAN_UP on `planner/service.py` plans again, and takes the
tasks of the older revision down as the rolling arithmetic allows.
Source: ecs-reference 3.9 (green scales to 100 % of the desired count before any traffic; blue stays until the bake time has ended). The two
percentages bound what replaces tasks within a revision, as on a draining instance, not green beside blue: the API says of them that they are for
rolling updates.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from homeport.model.change import Change, Plan, StartTask
from homeport.model.ecs import deployment as model
from homeport.model.ecs import service as service_model
from homeport.model.ecs.deployment import Deployment
from homeport.model.record import Instant
from homeport.planner import service as rolling
from homeport.planner.health import is_healthy
from homeport.planner.service import ServiceView, Victims
from homeport.planner.traffic_shift import side_by_side


def applies(view: ServiceView) -> bool:
    """Whether `plan` is the one to ask."""
    primary = view.primary
    return view.service.status == service_model.ACTIVE and primary is not None and side_by_side(primary)


def plan(view: ServiceView, victims: Victims, *, healthy_after_seconds: float, now: Instant) -> Plan:
    """What `view`'s service, of which `applies` is true, should do now. Its changes may start tasks of two deployments."""
    changes: list[Change] = []
    waits: list[Instant] = []
    waiting_on: list[str] = []
    for deployment, count in _sides(view, healthy_after_seconds, now):
        own = tuple(task for task in view.tasks if task.deployment_id == deployment.target_id)
        alone = msgspec.structs.replace(
            view, service=msgspec.structs.replace(view.service, desired_count=count), deployments=(_in_front(deployment),), tasks=own
        )
        state = rolling.standing(alone, healthy_after_seconds, now)
        part = rolling.steps(alone, state, alone.deployments[0], victims=victims, now=now)
        changes.extend(StartTask(deployment, change.reason) if isinstance(change, StartTask) else change for change in part.changes)
        waits.extend([part.wake_at] if part.wake_at else [])
        waiting_on.extend(part.waiting_on)
    changes.extend(rolling.steadiness(view, view.service, settled=False))
    return Plan(tuple(changes), min(waits, default=0.0), tuple(waiting_on))


def _in_front(deployment: Deployment) -> Deployment:
    return msgspec.structs.replace(deployment, status=model.PRIMARY)


def _sides(view: ServiceView, after: float, now: Instant) -> Iterator[tuple[Deployment, int]]:
    """Each revision that has tasks, or is to have some: its deployment, as it is to be looked at, and how many tasks it is to have."""
    primary = view.primary
    if primary is None:
        return
    desired = view.service.desired_count
    blue_healthy = 0
    for other in view.deployments:
        own = [task for task in view.tasks if task.deployment_id == other.target_id]
        if other.id != primary.id and other.target_id == primary.blue_revision_id:
            blue_healthy = sum(is_healthy(task, after, now) for task in own)
            yield _at_rest(other), desired
    if primary.rollback_of or primary.lifecycle_stage not in model.BEFORE_GREEN:
        yield primary, desired
    for other in view.deployments:
        if other.id != primary.id and other.target_id != primary.blue_revision_id:
            there = sum(task.deployment_id == other.target_id and task.desired_status == "RUNNING" for task in view.tasks)
            if primary.lifecycle_stage == model.RECONCILE_SERVICE:  # it goes as blue stands in for it
                there = min(there, max(0, desired - blue_healthy) if primary.blue_revision_id else 0)
            yield msgspec.structs.replace(other, rollout_state=model.FAILED, lifecycle_stage=""), min(there, desired)


def _at_rest(blue: Deployment) -> Deployment:
    """Blue's deployment, whatever it came to, as one that starts what it misses; its own failures slow that down."""
    return msgspec.structs.replace(blue, rollout_state=model.COMPLETED, lifecycle_stage="")
