"""Keeps the task sets of every service that has some: `planner/task_set.py` says what to do, placement where; both are committed at once.

Owns: for such services what `controllers/service.py` and `deployment.py` own for the others: task records at creation, desiredStatus of surplus
tasks, tasks' `healthy_since`, `placement_failure`, `steady`, events; and a set's counters, stability and end. Never decides a scale, nor which set is
PRIMARY: calls of the API do.

Its keys are those of `Service`. An activation goes through the sets in order, until one has something to do; the rest follows at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.controllers.daemon import makes_room
from homeport.controllers.loop import Activation
from homeport.controllers.service import is_note, service_view
from homeport.controllers.service import wake_at as coming_of_age
from homeport.controllers.service_tasks import ServiceTasks, Waiting
from homeport.ids import Ids
from homeport.model.change import Change as PlannedChange
from homeport.model.change import Event, ForgetTaskSet, Plan, StartTask, StopTask, UpdateService, UpdateTask, UpdateTaskSet
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_set import TaskSet
from homeport.model.record import Instant
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.planner import health
from homeport.planner import service as service_planner
from homeport.planner import task_set as planner
from homeport.planner.service import ServiceView
from homeport.planner.task import stop
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import SERVICES, TASK_SETS, TASKS

NAME: Final = "task_set"

_STARTING: Final = (task_model.PROVISIONING, task_model.PENDING, task_model.ACTIVATING)
_LOOKED_AT: Final = ("last_status", "desired_status", "health_status", "container_instance_id", "protected_until")


class TaskSetController:
    """The controller of task sets."""

    name = NAME

    def __init__(self, *, placement: PlacementIndex, ids: Ids, settings: Settings) -> None:
        self._settings = settings
        self._tasks = ServiceTasks(placement=placement, ids=ids, settings=settings)
        self._waiting = Waiting()
        # Services with task sets: a hint for `keys_of`, since a task does not say what kind its service is. Rebuilt by the sweep.
        self._mine: set[str] = set()
        self._expected = _Expected()

    def keys_of(self, change: Change) -> Iterable[str]:
        """The service that changed or whose task or set did; the services that wait for room when there may be some."""
        record = change.after or change.before
        if isinstance(record, Service):
            if record.has_task_sets:
                self._note(record, gone=change.after is None)
            return (record.key,) if record.has_task_sets and not is_note(change) else ()
        if isinstance(record, TaskSet):
            return (record.service_key,)
        if isinstance(record, Task):
            before, after = (item if isinstance(item, Task) else None for item in (change.before, change.after))
            mine = bool(self._mine) and record.service_key in self._mine
            keys = [record.service_key] if mine and self._expected.concerns(before, after) else []
            return [*keys, *self._waiting.of(record.cluster_key)] if makes_room(change) else keys
        return tuple(self._waiting.of(record.cluster_key)) if isinstance(record, ContainerInstance | Daemon) else ()

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every service with task sets that is not INACTIVE."""
        for service in reader.scan(SERVICES):
            if service.has_task_sets and service.status != service_model.INACTIVE:
                self._note(service, gone=False)
                yield service.key

    def _note(self, service: Service, *, gone: bool) -> None:
        over = gone or service.status == service_model.INACTIVE
        (self._mine.discard if over else self._mine.add)(service.key)
        if not self._waiting.note(service, gone=over):
            self._tasks.forget(service.key)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Do what the planner says of the sets of the service `key`, up to the first that has something to do."""
        service = tx.get(SERVICES, key)
        if service is None or service.status == service_model.INACTIVE or not service.has_task_sets:
            return Activation()
        view = service_view(tx, service)
        task_sets = planner.in_order(tx.find(TASK_SETS, "service", key))
        self._expected.note(key, failing=any(item.failures_to_start for item in task_sets))
        if service.status == service_model.DRAINING and not task_sets:
            self._apply(tx, service, service_planner.retire(view, tx.now), label=service.name)
            return Activation()
        refusals: list[tuple[TaskSet, Refusal]] = []
        wake_at: Instant = 0.0
        for task_set in task_sets:
            plan = self._plan(tx, view, task_set)
            refusal, did = self._apply(tx, planner.stand_in(service, task_set), plan, label=planner.label(service, task_set))
            if refusal is not None:
                refusals.append((task_set, refusal))
            if plan.wake_at:
                wake_at = min(wake_at, plan.wake_at) if wake_at else plan.wake_at
            if did:
                return Activation(mark=((NAME, key),))
        self._conclude(tx, view, task_sets, refusals)
        return Activation(wake_at=coming_of_age(view, wake_at, healthy_after_seconds=self._settings.healthy_after_seconds, now=tx.now))

    def _plan(self, tx: Transaction, view: ServiceView, task_set: TaskSet) -> Plan:
        stand_in = planner.stand_in(view.service, task_set)

        def victims(tasks: Sequence[Task], count: int) -> Sequence[Task]:
            return self._tasks.victims(tx, stand_in, tasks, count=count)

        own = planner.TaskSetView(
            service=view.service,
            task_set=task_set,
            tasks=tuple(task for task in view.tasks if task.deployment_id == task_set.id),
            draining=view.draining,
        )
        return planner.plan(own, victims, self._ended(tx, task_set), settings=self._settings, now=tx.now)

    @staticmethod
    def _ended(tx: Transaction, task_set: TaskSet) -> Iterable[Task]:
        stopped = tx.find(TASKS, "started_by", f"{task_set.cluster_key}/{task_set.shown_id}/{task_model.STOPPED}")
        # `startedBy` is free text in RunTask, so the set is compared as well.
        return (task for task in stopped if task.stopped_at > task_set.ends_counted_at and task.deployment_id == task_set.id)

    def _apply(self, tx: Transaction, service: Service, plan: Plan, *, label: str) -> tuple[Refusal | None, bool]:
        """Carry `plan` out for the set that `service` stands in for: the first refusal, and whether anything was written but refusals."""
        starts = [change for change in plan.changes if isinstance(change, StartTask)]
        stops = [change for change in plan.changes if isinstance(change, StopTask)]
        events = [change for change in plan.changes if isinstance(change, Event)]
        for change in plan.changes:
            _write(tx, change)
        if stops:
            events.insert(0, Event(service_planner.stopped(label, [item.task.id for item in stops])))
        started, refusal = self._tasks.start(tx, service, starts, label=label)
        if started:
            events.insert(0, Event(service_planner.started(label, started)))
        self._tasks.write_events(tx, service.key, events)
        # Events alone may be repetitions that are not written; with anything else beside them it is written.
        return refusal, bool(started) or any(not isinstance(change, StartTask | Event) for change in plan.changes)

    def _conclude(self, tx: Transaction, view: ServiceView, task_sets: Sequence[TaskSet], refusals: Sequence[tuple[TaskSet, Refusal]]) -> None:
        """What of all sets together stands on the service: a refusal, and whether it is in the steady state."""
        service = view.service
        if not refusals:
            self._tasks.set_failure(tx, service.key, "")
        elif not any(task.desired_status == task_model.STOPPED for task in view.tasks):
            # Otherwise a task that is on its way down still holds what the new one wants: its end brings the next try.
            task_set, refusal = refusals[0]
            self._tasks.refused(tx, service.key, refusal, label=planner.label(service, task_set))
        current, steady = tx.get(SERVICES, service.key), planner.is_steady(service, task_sets)
        if current is not None and current.steady != steady:
            tx.put(SERVICES, msgspec.structs.replace(current, steady=steady))
            if steady:
                self._tasks.write_events(tx, service.key, [Event(f"(service {service.name}) has reached a steady state.")])


def _write(tx: Transaction, change: PlannedChange) -> None:
    match change:
        case UpdateTask(task=task):
            tx.put(TASKS, task)
        case StopTask(task=task, stop_code=code, reason=reason):
            tx.put(TASKS, stop(tx.get(TASKS, task.key) or task, stop_code=code, reason=reason, now=tx.now))
        case UpdateTaskSet(task_set=task_set):
            tx.put(TASK_SETS, task_set)
        case ForgetTaskSet(task_set=task_set):
            tx.delete(TASK_SETS, task_set.key)
        case UpdateService(service=service):
            tx.put(SERVICES, service)
        case StartTask() | Event():
            pass  # these need placement and the service as it is then
        case _:
            raise TypeError(f"{type(change).__name__} is not for a task set to do")


class _Expected:
    """Which changes of tasks need an activation. A hint: what it forgets over a restart costs activations that find nothing to do.

    A task that begins to run without a check can make its set stable only when no other of the set is on its way; with a thousand tasks that come
    up together all but the last would be looked at for nothing. Where launches fail, the first that runs ends the delay.
    """

    def __init__(self) -> None:
        self._starting: dict[str, set[str]] = defaultdict(set)
        self._failing: set[str] = set()

    def note(self, key: str, *, failing: bool) -> None:
        """Whether the last launches of a set of the service `key` failed."""
        (self._failing.add if failing else self._failing.discard)(key)

    def concerns(self, before: Task | None, after: Task | None) -> bool:
        """Whether a change of a task can change what becomes of its set, other than through time."""
        record = after or before
        if record is None:
            return False
        starting, group = self._starting, f"{record.service_key}/{record.deployment_id}"
        if after is not None and after.last_status in _STARTING and after.desired_status != task_model.STOPPED:
            starting[group].add(after.key)
        else:
            starting[group].discard(record.key)
            if not starting[group]:
                del starting[group]
        if before is None or after is None:
            return True
        began = after.last_status == task_model.RUNNING != before.last_status and not health.has_check(after)
        if began and group in starting and after.service_key not in self._failing:
            return False
        return any(getattr(before, name) != getattr(after, name) for name in _LOOKED_AT)
