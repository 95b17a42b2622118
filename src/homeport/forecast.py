"""What would happen: the controllers and the placement that act, let loose on a copy of one cluster, with agents that are only modelled.

Owns: `Fork`, the copy and its time. Never touches the store it was copied from. A start takes `Agents.start_seconds`, a stop `stop_seconds`, a
health check passes as soon as the task runs; what fails in reality (an image that cannot be pulled, a container that exits) goes well here.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from homeport.api.call import Context
from homeport.controllers import retention
from homeport.controllers.loop import Controller
from homeport.ids import Ids
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.service import ServiceEvent
from homeport.model.ecs.task import Task
from homeport.model.forecast import Agents, Moment
from homeport.model.record import Instant, Record
from homeport.placement.index import PlacementIndex
from homeport.planner.task import Seen, observed
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.table import Change, Reader, Table, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, TABLES, TASKS

T = TypeVar("T")
Forked = tuple[Table[Any], Record]
ControllersOf = Callable[[Context], Sequence[Controller]]

RECORDS_A_TRANSACTION: Final = 50
ROUNDS_MAX: Final = 10_000
"""Activations of everything at one instant; more means that two controllers undo each other's work."""
ACTIVATIONS_MAX: Final = 200_000
"""Of one forecast; a question that needs more is too large for a server to answer beside its work."""


class StillClock:
    """A clock that stands until it is set."""

    def __init__(self, now: Instant) -> None:
        self.time = now

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.time

    def monotonic(self) -> float:
        """The same number."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Nothing in a fork waits."""
        raise NotImplementedError


class _Changes:
    """A Derived view that only remembers what was written."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Record | None, Record | None]] = []

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Remember one record's change."""
        self.seen.append((table, before, after))


class Fork:
    """One copy. Made by `open`, closed at the end. `context` is for handlers of the API that act on the copy."""

    def __init__(self, context: Context, clock: StillClock, controllers: Sequence[Controller], agents: Agents) -> None:
        """Use `open`."""
        self.context = context
        self.moments: list[Moment] = []
        self._store = context.store
        self._clock = clock
        self._controllers = {controller.name: controller for controller in controllers}
        self._agents = agents
        self._changes = _Changes()
        self._marked: dict[tuple[str, str], None] = {}
        self._due: list[tuple[Instant, int, str, str]] = []
        """(when, order, kind of errand or controller, key)."""
        self._order = 0
        self._activations = 0

    @classmethod
    async def open(cls, controllers_of: ControllersOf, context: Context, records: Iterable[Forked], *, agents: Agents, seed: str) -> Fork:
        """A copy that holds `records` and stands at the present. `controllers_of` says which controllers act; that of retention does not here."""
        clock, placement, changes = StillClock(context.clock.now()), PlacementIndex(), _Changes()
        store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(placement, changes))
        waiting = list(records)
        for first in range(0, len(waiting), RECORDS_A_TRANSACTION):

            def put(tx: Transaction, first: int = first) -> None:
                for table, record in waiting[first : first + RECORDS_A_TRANSACTION]:
                    tx.put(table, record)

            await store.update(put, cause="fork")
        forked = dataclasses.replace(context, store=store, placement=placement, clock=clock, ids=Ids(seed), fork=None)
        made = cls(forked, clock, [item for item in controllers_of(forked) if item.name != retention.NAME], agents)
        changes.seen.clear()
        made._changes = changes
        # As at the start of a server: everything is looked at once, which sets the timers. From then on only what changes is.
        await made._mark_all()
        await made._settle()
        return made

    @property
    def now(self) -> Instant:
        """How far the copy's time is."""
        return self._clock.time

    async def view(self, function: Callable[[Reader], T]) -> T:
        """What `function` says of the copy."""
        return await self._store.view(function)

    async def update(self, function: Callable[[Transaction], T]) -> T:
        """One transaction of the caller's on the copy: the change that the forecast is about."""
        return await self._store.update(function, cause="forecast")

    async def run(self, seconds: float) -> bool:
        """Let things happen until nothing more does or `seconds` of the copy's time have passed. Whether it came to rest."""
        self._follow()
        until = self.now + seconds
        while True:
            await self._settle()
            while self._due and self._due[0][0] <= self.now:
                await self._errand()
            if self._marked:
                continue
            if not self._due:
                return True
            if self._due[0][0] > until or self._activations > ACTIVATIONS_MAX:
                return False
            self._clock.time = max(self._clock.time, self._due[0][0])

    async def close(self) -> None:
        """The copy is gone."""
        await self._store.close()

    async def _mark_all(self) -> None:
        for name, controller in self._controllers.items():
            self._marked.update(dict.fromkeys((name, key) for key in await self._store.view(_all_keys(controller))))
        for task in await self._store.view(lambda reader: list(reader.scan(TASKS))):
            self._give(task, None)

    async def _settle(self) -> None:
        for _ in range(ROUNDS_MAX):
            if not self._marked:
                return
            marked, self._marked = self._marked, {}
            for name in self._controllers:
                for controller, key in [item for item in marked if item[0] == name]:
                    await self._activate(controller, key)
            self._follow()

    async def _activate(self, name: str, key: str) -> None:
        self._activations += 1
        controller = self._controllers[name]
        activation = await self._store.update(lambda tx: controller.activate(tx, key), cause=f"controller {name}")
        for other, marked in activation.mark:
            if other in self._controllers:
                self._marked[other, marked] = None
        if activation.wake_at:
            self._at(activation.wake_at, name, key)

    def _at(self, when: Instant, kind: str, key: str) -> None:
        self._order += 1
        heapq.heappush(self._due, (when, self._order, kind, key))

    def _follow(self) -> None:
        """Look at what was written: mark whom it concerns, give the agents their errands, keep what is told."""
        seen, self._changes.seen = self._changes.seen, []
        for table, before, after in seen:
            record = after or before
            change = Change(table=table, key=record.key if record is not None and hasattr(record, "key") else "", before=before, after=after)
            self._note(change)
            for name, controller in self._controllers.items():
                for key in controller.keys_of(change):
                    self._marked[name, key] = None

    def _note(self, change: Change) -> None:
        before, after = change.before, change.after
        if isinstance(after, Task):
            self._give(after, before if isinstance(before, Task) else None)
        moment = Moment.of(self.now, before, after) if isinstance(after, Task | ServiceEvent) else None
        if moment is not None:
            self.moments.append(moment)

    def _give(self, task: Task, before: Task | None) -> None:
        if task.last_status == task_model.STOPPED or (before is not None and before.desired_status == task.desired_status and before.key == task.key):
            return
        if task.desired_status == task_model.STOPPED:
            self._at(max(self.now, (task.stopping_at or self.now) + self._agents.stop_seconds), "stop", task.key)
        elif task.last_status != task_model.RUNNING:
            self._at(max(self.now, task.created_at + self._agents.start_seconds), "start", task.key)

    async def _errand(self) -> None:
        _, _, kind, key = heapq.heappop(self._due)
        if kind in self._controllers:
            self._marked[kind, key] = None
        else:
            await self._store.update(lambda tx: self._report(tx, key, stopped=kind == "stop"), cause="agent")
        self._follow()

    @staticmethod
    def _report(tx: Transaction, key: str, *, stopped: bool) -> None:
        """What the task's agent would say; nothing while it is cut off."""
        task = tx.get(TASKS, key)
        instance = tx.get(CONTAINER_INSTANCES, task.instance_key) if task is not None and task.instance_key else None
        if task is None or not isinstance(instance, ContainerInstance) or not instance.agent_connected:
            return
        if stopped:
            tx.put(TASKS, observed(task, Seen(status=task_model.STOPPED), tx.now))
        elif task.desired_status == task_model.RUNNING:
            containers = {container.name: {"status": task_model.RUNNING} for container in task.containers}
            running = observed(task, Seen(status=task_model.RUNNING, containers=containers), tx.now)
            if any(container.has_health_check for container in running.containers):
                checked = tuple(msgspec.structs.replace(container, health_status=task_model.HEALTHY) for container in running.containers)
                running = msgspec.structs.replace(running, containers=checked, health_status=task_model.HEALTHY)
            tx.put(TASKS, running)


def _all_keys(controller: Controller) -> Callable[[Reader], list[str]]:
    return lambda reader: list(controller.keys(reader))
