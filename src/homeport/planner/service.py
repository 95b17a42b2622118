"""What a service should do next: the rolling arithmetic of ecs-reference 3.9 as one pure function.

Owns: `plan` (service, deployments, tasks, now → starts, stops, events, steady state), `bounds`, `standing`. Never chooses an instance or a
victim: placement's answers come in as arguments. Never counts failures or moves a deployment (`planner/deployment.py` does).

    lower = ceil(desired * minimumHealthyPercent / 100)     healthy tasks that must remain
    upper = floor(desired * maximumPercent / 100)           RUNNING + PENDING that are allowed, over all deployments
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from homeport.model.change import Change, Event, Plan, StartTask, StopTask, UpdateDeployment, UpdateService
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment, TrafficWeight
from homeport.model.ecs.service import Service
from homeport.model.ecs.service_revision import ServiceRevision
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.planner.deployment_start import monitors_over
from homeport.planner.health import healthy_at, is_healthy, is_unhealthy
from homeport.planner.protection import ends_at, is_protected, unable_to_scale_in

STARTS_MAX: Final = 40
"""Tasks started in one activation. With `STOPS_MAX` and the events it stays under a transaction's 100 records; the rest follows at once."""
STOPS_MAX: Final = 40
"""Tasks stopped in one activation."""
MISSING_REASON: Final = "the service has fewer tasks than desired"
NOT_STEADY: Final = "no longer in steady state"
TROUBLESHOOTING: Final = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
"""How ECS ends its events about trouble; tools look for the words."""

Victims = Callable[[Sequence[Task], int], Sequence[Task]]
"""(tasks, count) → `count` of the tasks, the one to stop first in front. Placement's answer (ecs-reference 3.7, scale-in)."""

_OCCUPYING_RANK: Final = task_model.RANK[task_model.RUNNING]


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one moment that the planner reads."""

    service: Service
    deployments: tuple[Deployment, ...]
    """Those that are not INACTIVE."""
    tasks: tuple[Task, ...]
    """The service's tasks that are not STOPPED."""
    draining: frozenset[str] = frozenset()
    """Keys of the tasks' instances that are DRAINING or have left."""
    rollback_to: ServiceRevision | None = None
    """What a rollback would go to; None: nothing, or nobody asked."""
    service_revision: ServiceRevision | None = None
    """That of the PRIMARY deployment, while its digests are to be found."""
    undone: Deployment | None = None
    """The deployment that the PRIMARY one rolls back, if it is a rollback."""
    label: str = ""
    """What stands in events for the service; "": its name."""
    traffic: tuple[TrafficWeight, ...] | None = None
    """The weights that are in effect, without those that get nothing; None: nobody routes this service's traffic, so what is wanted holds."""

    @property
    def primary(self) -> Deployment | None:
        """The PRIMARY deployment; None only in a service that never had one."""
        return next((d for d in self.deployments if d.status == deployment_model.PRIMARY), None)


class Bounds(msgspec.Struct, frozen=True):
    """The two limits of a rolling deployment, in tasks."""

    lower: int
    upper: int


def bounds(service: Service) -> Bounds:
    """Both limits of `service`, rounded as ECS rounds: up for the lower, down for the upper."""
    desired = service.desired_count
    return Bounds(-(-desired * service.minimum_healthy_percent // 100), desired * service.maximum_percent // 100)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of a service, each in the one group that says what becomes of it."""

    desired: int
    good: list[Task]
    """Of the PRIMARY deployment, wanted RUNNING, not unhealthy, on an instance that stays: these are to be `desired` in number."""
    unhealthy: list[Task]
    """Of the PRIMARY deployment, wanted RUNNING, failing their check: to be replaced."""
    leaving: list[Task]
    """Wanted RUNNING, but of an older deployment or on an instance that drains: to be replaced under both bounds."""
    going: list[Task]
    """Wanted STOPPED, not there yet."""
    occupied: int
    """RUNNING or on the way there, whatever is wanted: what the upper bound counts."""
    healthy: frozenset[str]
    """Ids of those that are wanted RUNNING and count as healthy."""
    good_healthy: int
    """How many of `good` are healthy."""
    of_age_at: Instant
    """When the next of `good` and `leaving` comes of age; 0.0: none will without a report."""

    @property
    def settled(self) -> bool:
        """Steady state (ecs-reference 3.8) but for the deployments: every wanted task healthy, and no other."""
        return not self.unhealthy and not self.leaving and len(self.good) == self.desired == self.good_healthy


def standing(view: ServiceView, healthy_after_seconds: float, now: Instant) -> Standing:
    """Sort the service's tasks into the groups of `Standing`."""
    target_id = view.primary.target_id if view.primary else ""
    good: list[Task] = []
    unhealthy: list[Task] = []
    leaving: list[Task] = []
    going: list[Task] = []
    healthy: set[str] = set()
    occupied, good_healthy, of_age_at = 0, 0, 0.0
    for task in view.tasks:  # a service may have thousands: one pass
        if task_model.RANK[task.last_status] <= _OCCUPYING_RANK:
            occupied += 1
        if task.desired_status == task_model.STOPPED:
            going.append(task)
            continue
        if sound := is_healthy(task, healthy_after_seconds, now):
            healthy.add(task.id)
        if _leaves(task, target_id, view.draining):
            leaving.append(task)
        elif is_unhealthy(task):
            unhealthy.append(task)
            continue
        else:
            good.append(task)
            good_healthy += sound
        if not sound and (at := healthy_at(task, healthy_after_seconds)) > now:
            of_age_at = min(of_age_at, at) if of_age_at else at
    return Standing(
        desired=view.service.desired_count,
        occupied=occupied,
        healthy=frozenset(healthy),
        good_healthy=good_healthy,
        of_age_at=of_age_at,
        good=good,
        unhealthy=unhealthy,
        leaving=leaving,
        going=going,
    )


def _leaves(task: Task, target_id: str, draining: frozenset[str]) -> bool:
    return task.deployment_id != target_id or (bool(draining) and task.instance_key in draining)


def is_settled(view: ServiceView, healthy_after_seconds: float, now: Instant) -> bool:
    """`standing(...).settled`, for less: the first task that is not as it should be answers."""
    target_id = view.primary.target_id if view.primary else ""
    good = 0
    for task in view.tasks:
        if task.desired_status != task_model.STOPPED:
            if not is_healthy(task, healthy_after_seconds, now) or _leaves(task, target_id, view.draining):
                return False
            good += 1
    return good == view.service.desired_count


def plan(view: ServiceView, victims: Victims, *, healthy_after_seconds: float, now: Instant) -> Plan:
    """What `view`'s service should do now.

    The answer's `StartTask`s are wishes: what placement refuses stays wished at the next activation.
    """
    if view.service.status == service_model.DRAINING:
        return retire(view, now)
    primary = view.primary
    if view.service.status != service_model.ACTIVE or primary is None:
        return Plan(waiting_on=("the service is not ACTIVE",))
    state = standing(view, healthy_after_seconds, now)
    found = steps(view, state, primary, victims=victims, now=now)
    return msgspec.structs.replace(found, changes=(*found.changes, *steadiness(view, view.service, settled=state.settled)))


def steps(view: ServiceView, state: Standing, primary: Deployment, *, victims: Victims, now: Instant) -> Plan:
    """The starts and stops of `plan` for the tasks of `view`, sorted into `state`, and the events about what holds them up."""
    name = view.label or view.service.name
    limits = bounds(view.service)
    if primary.rollout_state == deployment_model.FAILED or primary.lifecycle_stage == deployment_model.PRE_SCALE_UP:
        # It launches nothing (more), so what older ones still run is what the service has.
        limits = Bounds(max(limits.lower, view.service.desired_count), limits.upper)
    choice = _Stops(state, limits, victims, primary, now=now)
    stops = choice.choose()
    # Tasks that this very plan stops no longer occupy.
    starts, waiting_on = starts_of(primary, missing=state.desired - len(state.good), room=limits.upper - (state.occupied - len(stops)), now=now)
    changes: list[Change] = [*stops, *(StartTask(primary, MISSING_REASON) for _ in range(starts))]
    if choice.withheld:
        changes.append(Event(unable_to_scale_in(name, len(choice.withheld)), cause=f"protection {primary.id}"))
    if not changes and _is_deadlocked(state, waiting_on):
        changes.append(Event(unable_to_roll(name), cause=f"configuration {primary.id}"))
    return Plan(tuple(changes), _wake_at(state, primary, choice.withheld, now), waiting_on)


def starts_of(primary: Deployment, *, missing: int, room: int, now: Instant) -> tuple[int, tuple[str, ...]]:
    """How many of the `missing` tasks to start where `room` more are allowed, and what holds the rest back."""
    if missing <= 0:
        return 0, ()
    if primary.rollout_state == deployment_model.FAILED:
        return 0, ("the deployment failed and launches nothing more",)
    if primary.lifecycle_stage == deployment_model.PRE_SCALE_UP:
        return 0, ("the lifecycle hooks of PRE_SCALE_UP",)
    if primary.throttled_until > now:
        return 0, (f"the launch throttle, until {primary.throttled_until:.3f}",)
    if room <= 0:
        return 0, ("maximumPercent",)
    return min(missing, room, STARTS_MAX), ()


class _Stops:
    """The tasks to stop in one plan. Keeps count of both budgets while it chooses, so that no two choices spend the same task."""

    def __init__(self, state: Standing, limits: Bounds, victims: Victims, primary: Deployment, *, now: Instant) -> None:
        self._state = state
        self._now = now
        self.withheld: list[Task] = []
        """Tasks that would have been stopped but for their protection."""
        self._victims = victims
        self._limits = limits
        self._scaling = f"Scaling activity initiated by (deployment {primary.shown_id})"
        self._healthy_spare = len(state.healthy) - limits.lower
        self._stops: list[StopTask] = []

    def choose(self) -> list[StopTask]:
        """At most `STOPS_MAX` stops; the rest is chosen at the next activation."""
        self._scale_in()
        self._leaving()
        self._unhealthy()
        return self._stops[:STOPS_MAX]

    def _stop(self, task: Task, reason: str) -> None:
        self._stops.append(StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, reason))

    def _spend(self, task: Task) -> bool:
        """Whether `task` may stop without taking the healthy total under the lower bound; if so it is spent."""
        if task.id not in self._state.healthy:
            return True
        if self._healthy_spare <= 0:
            return False
        self._healthy_spare -= 1
        return True

    def _scale_in(self) -> None:
        """What the PRIMARY deployment has too many of: what is not RUNNING yet goes first, then what placement would miss least."""
        good = self._state.good
        surplus = len(good) - self._state.desired
        if surplus <= 0:
            return
        running = [task for task in good if task.last_status == task_model.RUNNING]
        starting = [task for task in good if task.last_status != task_model.RUNNING]
        chosen = 0
        for task in (*self._victims(starting, len(starting)), *self._victims(running, len(running))):
            if chosen == surplus:
                break
            if self._spend(task):
                chosen += 1
                self._stop(task, self._scaling)
        protected = [task for task in good if is_protected(task, self._now)]
        self.withheld += protected[: max(0, surplus - (len(good) - len(protected)))]

    def _leaving(self) -> None:
        """Older deployments and draining instances. A task that serves (RUNNING, not unhealthy) goes only as a healthy one stands in for it,
        even when it has not run long enough to count as healthy itself: an update soon after another must not empty the service."""
        serving, kept = [], 0
        for task in self._state.leaving:
            if is_protected(task, self._now):
                self.withheld.append(task)
                kept += task.last_status == task_model.RUNNING and not is_unhealthy(task)
            elif task.last_status != task_model.RUNNING or is_unhealthy(task):
                self._stop(task, self._scaling)
            else:
                serving.append(task)
        spare = len(serving) + kept + self._state.good_healthy - self._limits.lower
        if spare <= 0:
            return
        serving.sort(key=lambda task: task.id in self._state.healthy)
        for task in serving if spare >= len(serving) else self._in_order(serving):
            if spare > 0 and self._spend(task):
                spare -= 1
                self._stop(task, self._scaling)

    def _in_order(self, serving: Sequence[Task]) -> list[Task]:
        young = [task for task in serving if task.id not in self._state.healthy]
        sound = [task for task in serving if task.id in self._state.healthy]
        return [*self._victims(young, len(young)), *self._victims(sound, len(sound))]

    def _unhealthy(self) -> None:
        """Replace first: an unhealthy task goes when its replacement is healthy. With no room for a replacement they go one by one, which
        takes no healthy task away."""
        state = self._state
        replaced = max(0, state.good_healthy + len(state.unhealthy) - state.desired)
        for task in self._sick(min(replaced, len(state.unhealthy))):
            self._stop(task, "Task failed container health checks")
        missing = state.desired - len(state.good)
        full = state.occupied >= self._limits.upper
        if not self._stops and missing > 0 and full and not state.going:
            for task in self._sick(1):
                self._stop(task, "Task failed container health checks")

    def _sick(self, count: int) -> list[Task]:
        """`count` of the unhealthy tasks. Protection is no matter here: it is for tasks that do their work."""
        by_id = {task.id: task for task in self._state.unhealthy}
        bare = [msgspec.structs.replace(task, protected_until=0.0) if task.protected_until else task for task in by_id.values()]
        return [by_id[task.id] for task in self._victims(bare, count)]


def _is_deadlocked(state: Standing, waiting_on: tuple[str, ...]) -> bool:
    """Whether nothing is under way and the bounds alone forbid the next step."""
    if not state.leaving or waiting_on != ("maximumPercent",) or state.going:
        return False
    return all(task.last_status == task_model.RUNNING for task in (*state.good, *state.leaving)) and all(
        task.id in state.healthy for task in (*state.good, *state.leaving)
    )


def is_note(before: Service, after: Service) -> bool:
    """Whether `after` differs from `before` only in what an activation wrote down of itself, so that nothing new follows."""
    noted = msgspec.structs.replace(before, events_written=after.events_written, placement_failure=after.placement_failure, steady=after.steady)
    noted = msgspec.structs.replace(noted, completed_revision_id=after.completed_revision_id)
    return noted == after


def has_fewer_than_desired(view: ServiceView, started: int) -> bool:
    """Whether tasks of the PRIMARY deployment are still missing after `started` new ones, so that an earlier refusal still stands."""
    primary = view.primary
    if primary is not None and primary.strategy != deployment_model.ROLLING and primary.lifecycle_stage in deployment_model.BEFORE_GREEN:
        return False
    target_id = primary.target_id if primary else ""
    wanted = sum(1 for task in view.tasks if task.desired_status == task_model.RUNNING and task.deployment_id == target_id)
    return wanted + started < view.service.desired_count


def steadiness(view: ServiceView, service: Service, *, settled: bool) -> list[Change]:
    """The changes when the service of `view` comes to the steady state or loses it. `service`: its record with what this plan changes of it."""
    steady = settled and len(view.deployments) == 1
    if steady == view.service.steady:
        return [UpdateService(service, "its tasks")] if service != view.service else []
    changed = msgspec.structs.replace(service, steady=steady)
    if not steady:
        return [UpdateService(changed, NOT_STEADY)]
    return [UpdateService(changed, "steady state reached"), Event(f"(service {view.service.name}) has reached a steady state.")]


def _wake_at(state: Standing, primary: Deployment, withheld: Sequence[Task], now: Instant) -> Instant:
    """The next instant at which the answer changes without any report: a task comes of age, the throttle or a protection that matters ends."""
    instants = [at for at in (state.of_age_at, ends_at(withheld, now)) if at]
    if primary.throttled_until > now and len(state.good) < state.desired:
        instants.append(primary.throttled_until)
    return min(instants, default=0.0)


def retire(view: ServiceView, now: Instant) -> Plan:
    """A service that is being deleted: stop what runs; INACTIVE once every task is STOPPING or STOPPED."""
    kept = [task for task in view.tasks if task.desired_status != task_model.STOPPED]
    if kept:
        reason = f"Scaling activity initiated by (deployment {view.primary.shown_id})" if view.primary else "The service was deleted"
        return Plan(tuple(StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, reason) for task in kept[:STOPS_MAX]))
    if any(task_model.RANK[task.last_status] <= _OCCUPYING_RANK for task in view.tasks):
        return Plan(waiting_on=("tasks that are not STOPPING yet",))
    gone = msgspec.structs.replace(view.service, status=service_model.INACTIVE, drained_at=now, steady=False, placement_failure="")
    over = (UpdateDeployment(_gone(item, now), "the service was deleted") for item in view.deployments)
    return Plan((UpdateService(gone, "every task is STOPPING or STOPPED"), *over))


def _gone(item: Deployment, now: Instant) -> Deployment:
    over = msgspec.structs.replace(item, status=deployment_model.INACTIVE, updated_at=now)
    if item.progress in deployment_model.TERMINAL:
        return over
    status = deployment_model.ROLLBACK_FAILED if item.progress == deployment_model.ROLLBACK_IN_PROGRESS else deployment_model.STOPPED
    return msgspec.structs.replace(
        over, service_deployment_status=status, status_reason="The service was deleted.", finished_at=item.finished_at or now, **monitors_over(item)
    )


def unable_to_roll(name: str) -> str:
    """The event of a deployment that its own percentages forbid (wording: ecs-reference 3.8)."""
    return (
        f"(service {name}) was unable to stop or start tasks during a deployment because of the service deployment configuration. "
        "Update the minimumHealthyPercent or maximumPercent value and try again."
    )


def started(name: str, task_ids: Sequence[str], *, zone: str = "") -> str:
    """The event of tasks that were started; with a zone, of those that rebalancing started there."""
    where = f" in {zone} to AZ Rebalance" if zone else ""
    return f"(service {name}) has started {len(task_ids)} tasks{where}: {' '.join(f'(task {task_id})' for task_id in task_ids)}."


def stopped(name: str, task_ids: Sequence[str], *, zone: str = "") -> str:
    """The event of tasks that the scheduler stopped; with a zone, of those that rebalancing stopped there."""
    where = f" in {zone} due to AZ rebalancing" if zone else ""
    return f"(service {name}) has stopped {len(task_ids)} running tasks{where}: {' '.join(f'(task {task_id})' for task_id in task_ids)}."
