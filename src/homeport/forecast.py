"""What would happen: the controllers, their loop and the placement that act, let loose on a copy of one cluster, with simulated agents.

Owns: `Fork`, the copy and its time, `SimulatedAgents` and `agree`. Never touches the store it was copied from. A start and a stop take their
seconds, a health check passes as soon as the task runs, a lifecycle hook succeeds as soon as its stage begins, no alarm goes off; what fails in
reality (an image that cannot be pulled, a container that exits) goes well here.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from homeport.api.call import Context
from homeport.controllers.loop import Controller, Loop
from homeport.ids import Ids
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import ServiceEvent
from homeport.model.ecs.task import Task
from homeport.model.forecast import Agents, Moment
from homeport.model.record import Instant, Record
from homeport.placement.index import PlacementIndex
from homeport.planner import lifecycle_hook
from homeport.planner.task import Seen, observed
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, DEPLOYMENTS, TABLES, TASKS
from homeport.virtual_clock import VirtualClock

T = TypeVar("T")
Forked = tuple[Table[Any], Record]
ControllersOf = Callable[[Context], Sequence[Controller]]

RECORDS_A_TRANSACTION: Final = 50
QUIET_SWEEPS: Final = 2
"""It is at rest when so many sweeps of the controllers found nothing to do and nobody waits for a moment to come."""
JUMPS_MAX: Final = 100_000
"""Moments of one forecast; a question that needs more is too large for a server to answer beside its work."""


class SimulatedAgents:
    """Agents of all instances at once: they run what is wanted RUNNING and stop what is wanted STOPPED, each after its time."""

    def __init__(self, store: Store, clock: VirtualClock) -> None:
        self._store = store
        self._clock = clock
        self.start_seconds = 1.0
        """From a task's creation to RUNNING."""
        self.stop_seconds = 2.0
        """From the wish to STOPPED."""
        self.checks_pass = False
        """Whether health checks pass as soon as the task runs; otherwise nothing is said of them."""
        self.failure = ""
        """A reason that every new task fails to start with, or ""."""
        self.failing: set[int] = set()
        """Revisions whose tasks fail; empty: all do when there is a `failure`."""
        self.digests: dict[str, str] = {}
        """Image → the digest that is reported for it; "" and none: no digest."""
        self._seen: set[tuple[str, str, str]] = set()
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether a task is on its way up or down."""
        return bool(self._errands)

    async def run(self) -> None:
        """Follow the store until cancelled."""
        watch = self._store.watch()
        for task in await self._store.view(lambda reader: list(reader.scan(TASKS))):
            self._follow(task)
        try:
            async for commit in watch:
                for change in commit.changes:
                    if isinstance(change.after, Task):
                        self._follow(change.after)
        finally:
            for errand in self._errands:
                errand.cancel()

    def _follow(self, task: Task) -> None:
        seen = (task.key, task.desired_status, task.container_instance_id)
        if task.last_status == task_model.STOPPED or not task.container_instance_id or seen in self._seen:
            return
        self._seen.add(seen)
        if task.desired_status == task_model.STOPPED:
            errand = self._stop(task)
        elif task.last_status == task_model.RUNNING:
            return
        else:
            errand = self._start(task)
        running = asyncio.create_task(errand)
        self._errands.add(running)
        running.add_done_callback(self._errands.discard)

    async def _start(self, task: Task) -> None:
        await self._clock.sleep(self.start_seconds)
        if self.failure and (not self.failing or task.revision in self.failing):
            containers = {container.name: {"reason": self.failure} for container in task.containers}
            await self._report(task.key, Seen(status=task_model.STOPPED, reason=self.failure, containers=containers))
        else:
            containers = {
                container.name: {"status": task_model.RUNNING, "image_digest": self.digests.get(container.image, "")} for container in task.containers
            }
            await self._report(task.key, Seen(status=task_model.RUNNING, containers=containers))

    async def _stop(self, task: Task) -> None:
        await self._clock.sleep(self.stop_seconds)
        await self._report(task.key, Seen(status=task_model.STOPPED))

    async def _report(self, key: str, seen: Seen) -> None:
        await report(self._store, key, seen, checks_pass=self.checks_pass)


async def agree(store: Store) -> None:
    """Run until cancelled: every lifecycle hook succeeds as soon as its stage begins, nobody lets a paused deployment wait, no alarm goes off."""
    watch = store.watch()
    waiting = await store.view(lambda reader: list(reader.scan(DEPLOYMENTS)))
    for deployment in waiting:
        await _agree(store, deployment)
    async for commit in watch:
        for change in commit.changes:
            if isinstance(change.after, Deployment):
                await _agree(store, change.after)


async def _agree(store: Store, deployment: Deployment) -> None:
    if not any(run.open for run in deployment.hooks) and not _waits_for_alarms(deployment):
        return

    def succeed(tx: Transaction) -> None:
        now = tx.get(DEPLOYMENTS, deployment.key)
        if now is not None:
            hooks = tuple(lifecycle_hook.continued(run, deployment_model.CONTINUE) if run.open else run for run in now.hooks)
            alarms = msgspec.structs.replace(now.alarms, seen_at=tx.now) if _waits_for_alarms(now) else now.alarms
            tx.put(DEPLOYMENTS, msgspec.structs.replace(now, hooks=hooks, alarms=alarms))

    await store.update(succeed, cause="controller/hook")


def _waits_for_alarms(deployment: Deployment) -> bool:
    return deployment.alarms.status == deployment_model.MONITORING and not deployment.alarms.seen_at


async def report(store: Store, key: str, seen: Seen, *, checks_pass: bool = False) -> None:
    """One agent's report, as SubmitTaskStateChange stores it; nothing from an instance that is cut off."""

    def store_it(tx: Transaction) -> None:
        task = tx.get(TASKS, key)
        instance = tx.get(CONTAINER_INSTANCES, task.instance_key) if task is not None else None
        if task is None or (instance is not None and not instance.agent_connected):
            return
        told = observed(task, seen, tx.now)
        if checks_pass and told.last_status == task_model.RUNNING and any(container.has_health_check for container in told.containers):
            healthy = tuple(msgspec.structs.replace(container, health_status=task_model.HEALTHY) for container in told.containers)
            told = msgspec.structs.replace(told, containers=healthy, health_status=task_model.HEALTHY)
        tx.put(TASKS, told)

    await store.update(store_it, cause="agent")


class _Moments:
    """A Derived view that keeps what is worth telling."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.told: list[Moment] = []

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Keep one record's change, if it is of a task or an event."""
        moment = Moment.of(self._clock.now(), before, after) if isinstance(after, Task | ServiceEvent) else None
        if moment is not None:
            self.told.append(moment)


class Fork:
    """One copy. Made by `open` on an event loop of its own, closed at the end. `context` is for handlers of the API that act on the copy."""

    def __init__(self, context: Context, clock: VirtualClock, controllers: Sequence[Controller], moments: _Moments) -> None:
        """Use `open`."""
        self.context = context
        self.agents = SimulatedAgents(context.store, clock)
        self.agents.checks_pass = True
        self._moments = moments
        self._clock = clock
        self._changed_at = clock.now()
        self._sweep_seconds = context.settings.sweep_seconds
        self._loop = Loop(store=context.store, controllers=controllers, clock=clock, sweep_seconds=self._sweep_seconds)
        self._running = [asyncio.create_task(part) for part in (self._loop.run(), self.agents.run(), agree(context.store))]

    @classmethod
    async def open(cls, controllers_of: ControllersOf, context: Context, records: Iterable[Forked], *, agents: Agents, seed: str) -> Fork:
        """A copy that holds `records` and stands at the present. `controllers_of` says which controllers act."""
        clock, placement = VirtualClock(context.clock.now()), PlacementIndex()
        moments = _Moments(clock)
        store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(placement, moments))
        waiting = list(records)
        for first in range(0, len(waiting), RECORDS_A_TRANSACTION):

            def put(tx: Transaction, first: int = first) -> None:
                for table, record in waiting[first : first + RECORDS_A_TRANSACTION]:
                    tx.put(table, record)

            await store.update(put, cause="fork")
        moments.told.clear()
        forked = dataclasses.replace(context, store=store, placement=placement, clock=clock, ids=Ids(seed), fork=None)
        made = cls(forked, clock, controllers_of(forked), moments)
        made.agents.start_seconds, made.agents.stop_seconds = agents.start_seconds, agents.stop_seconds
        await clock.settle()
        return made

    @property
    def moments(self) -> list[Moment]:
        """What has happened, in order."""
        return self._moments.told

    @property
    def now(self) -> Instant:
        """How far the copy's time is."""
        return self._clock.now()

    @property
    def changed_at(self) -> Instant:
        """When something changed last."""
        return self._changed_at

    async def view(self, function: Callable[[Reader], T]) -> T:
        """What `function` says of the copy."""
        return await self.context.store.view(function)

    async def update(self, function: Callable[[Transaction], T]) -> T:
        """One transaction of the caller's on the copy: the change that the forecast is about."""
        return await self.context.store.update(function, cause="forecast")

    async def run(self, seconds: float) -> bool:
        """Let things happen until nothing more does or `seconds` of the copy's time have passed. Whether it came to rest."""
        until, revision = self.now + seconds, -1
        for _ in range(JUMPS_MAX):
            await self._clock.settle()
            if self.context.store.revision != revision:
                self._changed_at, revision = self.now, self.context.store.revision
            waits = self.agents.busy or self._loop.next_wake_at or not self._loop.idle
            if not waits and self.now - self._changed_at >= QUIET_SWEEPS * self._sweep_seconds:
                return True
            deadline = self._clock.next_deadline
            if deadline is None or deadline > until:
                return not waits and deadline is None
            await self._clock.jump()
        return False

    async def close(self) -> None:
        """The copy is gone."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.context.store.close()
