"""What a task set should do next: its share of the service's desired count, by the arithmetic of `planner/service.py`.

Owns: `computed_desired_count`, `label`, `stand_in` (what the planners and placement of services see of a set), `is_stable`, `plan`. Never chooses an
instance or a victim, never decides a scale or which set is PRIMARY: whoever controls the service's deployments does.
Source: ecs-reference 3.9, task sets; 3.8 for the launch throttle.

A set is planned as a service of its own would be whose only deployment never ends: what is missing is started, what is too much stopped, unhealthy
tasks and those on draining instances are replaced under the service's percentages, of the set's share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.model.change import Change, Event, ForgetTaskSet, Plan, StopTask, UpdateTask, UpdateTaskSet
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs import task_set as model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_set import TaskSet
from homeport.model.record import Instant
from homeport.planner import failures
from homeport.planner import service as service_planner
from homeport.planner.deployment_configuration import Breaker
from homeport.planner.health import has_check, healthy_at, is_healthy
from homeport.planner.service import STOPS_MAX, TROUBLESHOOTING, ServiceView, Victims

HEALTH_WRITES_MAX: Final = 80
"""Tasks marked healthy in one activation; under a transaction's 100 records."""
HEALTH_WRITES_BESIDE_MAX: Final = 4
"""Up to so many are marked beside starts and stops; with more of them those wait for the next activation."""

_COUNTERS: Final = ("failed_tasks", "failures_to_start", "throttled_until", "impaired", "ends_counted_at", "failure_round_at", "crashes")
"""Fields that a task set and a deployment share."""


class TaskSetView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one moment that the planner reads of one set."""

    service: Service
    task_set: TaskSet
    tasks: tuple[Task, ...]
    """The set's tasks that are not STOPPED."""
    draining: frozenset[str] = frozenset()
    """Keys of the tasks' instances that are DRAINING or have left."""


def computed_desired_count(desired_count: int, scale: float) -> int:
    """How many tasks a set of `scale` percent is to have: rounded up, of the decimal number that `scale` was written as."""
    return -int(-desired_count * Fraction(repr(scale)) // 100)


def desired_count_of(service: Service, task_set: TaskSet) -> int:
    """`computed_desired_count` of a set; 0 for one that was deleted."""
    return 0 if task_set.status == model.DRAINING else computed_desired_count(service.desired_count, task_set.scale)


def label(service: Service, task_set: TaskSet) -> str:
    """What stands for the set behind `(service ` in events; the wording is ECS's."""
    return f"{service.name}, taskSet {task_set.shown_id}"


def deployment_of(task_set: TaskSet) -> Deployment:
    """A deployment that is never stored: what the planners of services see of a set."""
    return Deployment(
        account=task_set.account,
        cluster=task_set.cluster,
        service=task_set.service,
        id=task_set.id,
        status=deployment_model.PRIMARY,
        family=task_set.family,
        revision=task_set.revision,
        created_at=task_set.created_at,
        updated_at=task_set.updated_at,
        launch_type=task_set.launch_type,
        **{name: getattr(task_set, name) for name in _COUNTERS},
    )


def stand_in(service: Service, task_set: TaskSet) -> Service:
    """`service` as if it were of this set alone: its desired count, task definition and capacity are the set's. It is never stored."""
    return msgspec.structs.replace(
        service,
        desired_count=desired_count_of(service, task_set),
        family=task_set.family,
        revision=task_set.revision,
        launch_type=task_set.launch_type,
        document=task_set.document,
    )


def is_stable(view: TaskSetView) -> bool:
    """Whether the set is in STEADY_STATE: as many RUNNING tasks as computed, no others on their way, none on an instance that drains, and no
    check of a container that does not pass. A task without a check reports no health, so none is waited for."""
    wanted = [task for task in view.tasks if task.desired_status != task_model.STOPPED]
    if view.task_set.status == model.DRAINING or len(wanted) != desired_count_of(view.service, view.task_set):
        return False
    return all(
        task.last_status == task_model.RUNNING
        and task.instance_key not in view.draining
        and (task.health_status == task_model.HEALTHY or not has_check(task))
        for task in wanted
    )


def plan(view: TaskSetView, victims: Victims, ended: Iterable[Task], *, settings: Settings, now: Instant) -> Plan:
    """What the set should do now, and what its tasks' ends and health have come to.

    `ended`: STOPPED tasks of the set; those that stopped up to its `ends_counted_at` are passed over. The answer's `StartTask`s are wishes of
    `deployment_of` the set.
    """
    task_set = view.task_set
    if task_set.status == model.DRAINING:
        return _retire(view)
    after = settings.healthy_after_seconds
    fresh = [task for task in view.tasks if not task.healthy_since and is_healthy(task, after, now)][:HEALTH_WRITES_MAX]
    changes: list[Change] = [UpdateTask(msgspec.structs.replace(task, healthy_since=now), "it counts as healthy") for task in fresh]
    before = deployment_of(task_set)
    found = list(failures.moments(before, view.tasks, ended, healthy_after_seconds=after, now=now))
    counted = failures.count(before, found, Breaker(), settings=settings, now=now)
    changed = msgspec.structs.replace(_stabilized(view, now), **{name: getattr(counted, name) for name in _COUNTERS})
    if changed != task_set:
        changes.append(UpdateTaskSet(changed, "its tasks' states"))
        changes.extend(_events(view.service, task_set, changed))
    if len(fresh) > HEALTH_WRITES_BESIDE_MAX:
        return Plan(tuple(changes), wake_at=now)
    name = label(view.service, task_set)
    service_view = ServiceView(service=stand_in(view.service, changed), deployments=(counted,), tasks=view.tasks, draining=view.draining, label=name)
    state = service_planner.standing(service_view, after, now)
    found_steps = service_planner.steps(service_view, state, counted, victims=victims, now=now)
    waits = [at for at in (found_steps.wake_at, *(healthy_at(task, after) for task in view.tasks if not task.healthy_since)) if at > now]
    return Plan((*changes, *found_steps.changes), min(waits, default=0.0), found_steps.waiting_on)


def _stabilized(view: TaskSetView, now: Instant) -> TaskSet:
    status = model.STEADY_STATE if is_stable(view) else model.STABILIZING
    if status == view.task_set.stability_status:
        return view.task_set
    return msgspec.structs.replace(view.task_set, stability_status=status, stability_status_at=now)


def _events(service: Service, before: TaskSet, after: TaskSet) -> Iterable[Event]:
    name = label(service, after)
    if after.impaired and not before.impaired:
        yield Event(f"(service {name}) is unable to consistently start tasks successfully. {TROUBLESHOOTING}")
    if after.stability_status == model.STEADY_STATE != before.stability_status:
        yield Event(f"(service {name}) has reached a steady state.")


def _retire(view: TaskSetView) -> Plan:
    """A set that was deleted: stop what runs, protected or not; the record goes once every task is STOPPING or STOPPED."""
    task_set = view.task_set
    kept = [task for task in view.tasks if task.desired_status != task_model.STOPPED]
    if kept:
        reason = f"Scaling activity initiated by (deployment {task_set.shown_id})"
        return Plan(tuple(StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, reason) for task in kept[:STOPS_MAX]))
    if any(task_model.RANK[task.last_status] <= task_model.RANK[task_model.RUNNING] for task in view.tasks):
        return Plan(waiting_on=("tasks that are not STOPPING yet",))
    return Plan((ForgetTaskSet(task_set, "its tasks are on their way down"),))


def in_order(task_sets: Iterable[TaskSet]) -> list[TaskSet]:
    """The sets in the order in which they are served: the PRIMARY one first, then the older before the newer."""
    return sorted(task_sets, key=lambda item: (item.status != model.PRIMARY, item.created_at, item.id))


def is_steady(service: Service, task_sets: Sequence[TaskSet]) -> bool:
    """Whether the service as a whole is in the steady state: it has sets, and each of them is."""
    return service.status == service_model.ACTIVE and bool(task_sets) and all(item.stability_status == model.STEADY_STATE for item in task_sets)
