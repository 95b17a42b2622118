"""What a DAEMON service should do next: one task on every matching instance, as one pure function.

Owns: `plan` (service, tasks, the instances it is for → starts, stops, desired count, events), `share_of`. Never checks whether an instance has room
(placement does, when the start is tried) and never counts failures (`planner/deployment.py`).
Source: ecs-reference 3.8. The desired count is the number of ACTIVE matching instances whose agent is connected or that have a task already.

    lower = ceil(desired * minimumHealthyPercent / 100)     healthy tasks that a deployment must leave
    maximumPercent is 100: an instance's old task stops before its new one starts
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from homeport.model.change import Change, Event, Plan, StartTask, StopTask
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import DaemonShare, PlacementConstraint, Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.record import Instant
from homeport.planner import service as replica
from homeport.planner.health import healthy_at, is_healthy, is_unhealthy
from homeport.planner.protection import ends_at, is_protected, unable_to_scale_in
from homeport.planner.service import STARTS_MAX, STOPS_MAX, ServiceView

CONSTRAINT_VIOLATED: Final = "SERVICE_DAEMON_PLACEMENT_CONSTRAINT_VIOLATED"
"""ECS's name for the event of tasks that stand where the constraints no longer want any; the event's cause begins with it."""
_SICK: Final = "Task failed container health checks"


def share_of(service: Service, definition: TaskDefinition) -> DaemonShare:
    """What each instance keeps free for a task of `service` with `definition`."""
    expressions = tuple(PlacementConstraint(type="memberOf", expression=text) for text in definition.placement_constraints)
    return DaemonShare(
        cpu=definition.cpu,
        memory_mib=definition.memory_mib,
        host_ports=tuple((use.port, use.protocol) for use in definition.host_ports),
        gpus=definition.gpus,
        required_attributes=definition.requires_attributes,
        constraints=service.placement_constraints + expressions,
    )


def desired_instances(targets: Mapping[str, bool], tasks: Iterable[Task]) -> list[str]:
    """Keys of the instances that count. `targets`: matching ACTIVE ones → whether connected. An agent that is away keeps the task that it has."""
    occupied = {task.instance_key for task in tasks if task.desired_status == task_model.RUNNING}
    return [key for key, connected in targets.items() if connected or key in occupied]


class DaemonView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one moment that the planner reads."""

    service_view: ServiceView
    targets: Mapping[str, bool]
    """Key of every ACTIVE instance that matches → whether its agent is connected."""
    busy: frozenset[str] = frozenset()
    """Keys of DRAINING instances on which tasks of REPLICA services still are: the daemon stops after them."""


def plan(view: DaemonView, *, healthy_after_seconds: float, now: Instant) -> Plan:
    """What `view`'s service should do now. A start that placement refuses stays wished at the next activation."""
    base = view.service_view
    if base.service.status == service_model.DRAINING:
        return replica.retire(base, now)
    primary = base.primary
    if base.service.status != service_model.ACTIVE or primary is None:
        return Plan(waiting_on=("the service is not ACTIVE",))
    desired = desired_instances(view.targets, base.tasks)
    service = msgspec.structs.replace(base.service, desired_count=len(desired))
    choice = _Choice(view, primary, service, healthy_after_seconds=healthy_after_seconds, now=now)
    choice.stop()
    starts = choice.starts(desired)
    changes: list[Change] = [*choice.stops, *starts, *choice.events]
    if choice.withheld:
        changes.append(Event(unable_to_scale_in(service.name, len(choice.withheld)), cause=f"protection {primary.id}"))
    if choice.is_deadlocked:
        changes.append(Event(replica.unable_to_roll(service.name), cause=f"configuration {primary.id}"))
    settled = replica.is_settled(msgspec.structs.replace(base, service=service), healthy_after_seconds, now) and not choice.stops
    changes.extend(replica.steadiness(base, service, settled=settled))
    return Plan(tuple(changes), choice.wake_at(), ("the launch throttle",) if primary.throttled_until > now else ())


class _Choice:
    """The stops and starts of one plan."""

    def __init__(self, view: DaemonView, primary: Deployment, service: Service, *, healthy_after_seconds: float, now: Instant) -> None:
        self._view = view
        self._primary = primary
        self._service = service
        self._now = now
        self._after = healthy_after_seconds
        self._kept: dict[str, list[Task]] = defaultdict(list)
        for task in view.service_view.tasks:
            if task.desired_status == task_model.RUNNING:
                self._kept[task.instance_key].append(task)
        self.stops: list[StopTask] = []
        self.events: list[Event] = []
        self.withheld: list[Task] = []
        self.is_deadlocked = False
        self._launches = primary.rollout_state != deployment_model.FAILED and primary.throttled_until <= now

    def stop(self) -> None:
        """Choose what stops: strays, tasks that fail their check, and older tasks as the lower bound allows."""
        violating, old = [], []
        for key in sorted(self._kept):
            current = [task for task in self._kept[key] if task.deployment_id == self._primary.target_id]
            older = [task for task in self._kept[key] if task.deployment_id != self._primary.target_id]
            if key in self._view.service_view.draining:
                self._stop_last(key)
            elif key not in self._view.targets:
                violating += self._kept[key]
            elif current:
                # The first stays: a second one on the instance, or an older one beside it, has no place.
                for task in (*current[1:], *older):
                    self._stop(task, self._scaling)
                if is_unhealthy(current[0]):
                    self._stop(current[0], _SICK)
            else:
                old += older
        self._violating(violating)
        self._roll(old)
        del self.stops[STOPS_MAX:]

    @property
    def _scaling(self) -> str:
        return f"Scaling activity initiated by (deployment {self._primary.shown_id})"

    def _stop(self, task: Task, reason: str) -> None:
        if is_protected(task, self._now) and reason != _SICK:
            self.withheld.append(task)
        else:
            self.stops.append(StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, reason))

    def _stop_last(self, key: str) -> None:
        """On an instance that drains the daemon goes when the replicas are gone; one that does not run yet at once."""
        for task in self._kept[key]:
            if task.last_status != task_model.RUNNING or key not in self._view.busy:
                self._stop(task, self._scaling)

    def _violating(self, tasks: list[Task]) -> None:
        before = len(self.stops)
        for task in tasks:
            self._stop(task, self._scaling)
        ids = [stop.task.id for stop in self.stops[before:STOPS_MAX]]
        if ids:
            self.events.append(Event(violated(self._service.name, ids)))

    def _roll(self, old: list[Task]) -> None:
        """Older tasks, each the only one of its instance: as many stop as leave `lower` healthy ones. None while nothing may be launched, since
        the instance would be left without."""
        if not self._launches or not old:
            return
        healthy = {task.id for tasks in self._kept.values() for task in tasks if is_healthy(task, self._after, self._now)}
        healthy -= {stop.task.id for stop in self.stops}
        serving = []
        for task in old:
            if task.last_status != task_model.RUNNING or is_unhealthy(task):
                self._stop(task, self._scaling)
            else:
                serving.append(task)
        self.withheld += [task for task in serving if is_protected(task, self._now)]
        healthy_spare = len(healthy) - replica.bounds(self._service).lower
        spare = healthy_spare + sum(task.id not in healthy for task in serving)  # a young one serves, though it does not count as healthy
        free = sorted((task for task in serving if not is_protected(task, self._now)), key=lambda task: task.id in healthy)
        for task in free:
            if spare > 0 and (healthy_spare > 0 or task.id not in healthy):
                spare -= 1
                healthy_spare -= task.id in healthy
                self._stop(task, self._scaling)
        under_way = any(task.desired_status == task_model.STOPPED for task in self._view.service_view.tasks)
        young = any(not is_healthy(task, self._after, self._now) for tasks in self._kept.values() for task in tasks)
        missing = any(key not in self._kept for key, connected in self._view.targets.items() if connected)
        self.is_deadlocked = bool(free) and spare <= 0 and not (self.stops or under_way or young or missing)

    def starts(self, desired: Iterable[str]) -> list[StartTask]:
        """One start for every instance that is to have a task and keeps none."""
        if not self._launches:
            return []
        stopped = {stop.task.id for stop in self.stops}
        kept = {key for key, tasks in self._kept.items() if any(task.id not in stopped for task in tasks)}
        free = [key for key in desired if key not in kept and self._view.targets[key]]
        return [StartTask(self._primary, "the instance has no task of this daemon", instance_key=key) for key in free[:STARTS_MAX]]

    def wake_at(self) -> Instant:
        """When the answer changes without a report: a task comes of age, the throttle or a protection ends."""
        kept = [task for tasks in self._kept.values() for task in tasks]
        instants = [at for task in kept if (at := healthy_at(task, self._after)) > self._now]
        instants += [at for at in (self._primary.throttled_until,) if at > self._now]
        instants += [at for at in (ends_at(self.withheld, self._now),) if at]
        return min(instants, default=0.0)


def violated(name: str, task_ids: Iterable[str]) -> str:
    """The event of daemon tasks whose instance the placement constraints no longer allow."""
    listed = " ".join(f"(task {task_id})" for task_id in task_ids)
    return f"(service {name}) is stopping tasks that violate the placement constraints of the daemon ({CONSTRAINT_VIOLATED}): {listed}."
