"""A whole control plane in memory, without a network: store, placement, controllers, handlers, a virtual clock and simulated agents.

Owns: `MemoryCell`. Never waits for real: time moves when the caller says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from homeport.api.call import Call, Context, Handler
from homeport.api.protocol.model import load
from homeport.config import Settings
from homeport.controllers.capacity import Providers, keep_capacity
from homeport.controllers.instance_provider import InstanceProvider
from homeport.controllers.lifecycle_hook import HookRunner, HookTasks
from homeport.controllers.loop import Loop
from homeport.forecast import Fork, SimulatedAgents, report
from homeport.ids import Ids
from homeport.model.arn import root_arn
from homeport.model.ecs.task import Task
from homeport.model.record import Record
from homeport.placement.index import PlacementIndex
from homeport.planner.task import Seen
from homeport.server import controllers_of
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import TABLES
from homeport.testing.hook_targets import HookTargets
from homeport.testing.records import ACCOUNT, REGION
from homeport.virtual_clock import VirtualClock

T = TypeVar("T")

_TABLE_OF: Final[dict[type[Record], Table[Any]]] = {table.record: table for table in TABLES}


class MemoryCell:
    """The parts of a control plane, as `server.py` puts them together. Made by `open`."""

    def __init__(self, store: Store, context: Context, clock: VirtualClock) -> None:
        """Use `open`."""
        self.store = store
        self.context = context
        self.clock = clock
        self._starts = itertools.count()
        self.loop = self.new_loop()
        self.agents = SimulatedAgents(store, clock)
        self.hook_targets = HookTargets()
        self._running: list[asyncio.Task[None]] = []

    def new_loop(self) -> Loop:
        """The controllers as after a restart: a loop and controllers that remember nothing."""
        # A child of the same name would draw the same ids again.
        context = dataclasses.replace(self.context, ids=self.context.ids.child(f"controllers {next(self._starts)}"))
        return Loop(store=self.store, controllers=controllers_of(context), clock=self.clock, sweep_seconds=context.settings.sweep_seconds)

    def new_hooks(self) -> HookRunner:
        """What calls lifecycle hooks, as after a restart."""
        context = self.context
        tasks = HookTasks(placement=context.placement, ids=context.ids.child(f"hooks {next(self._starts)}"))
        return HookRunner(self.store, self.clock, caller=self.hook_targets, tasks=tasks, region=context.region)

    @classmethod
    async def open(cls, *, settings: Settings | None = None, seed: str = "cell") -> MemoryCell:
        """A cell with nothing in it; its loop does not run yet. Everything random in it follows from `seed`."""
        clock, placement = VirtualClock(), PlacementIndex()
        store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(placement,))
        context = Context(
            store=store,
            placement=placement,
            clock=clock,
            ids=Ids(seed),
            settings=settings or Settings(),
            region=REGION,
            installation_id="0123456789abcdef",
            endpoint="http://127.0.0.1:8470/",
            fork=functools.partial(Fork.open, controllers_of),
        )
        return cls(store, context, clock)

    def start(self, *, agents: bool = True) -> None:
        """Let the controllers run and, unless told otherwise, agents that do what is wanted of them."""
        self._running.append(asyncio.create_task(self.loop.run()))
        self._running.append(asyncio.create_task(self.new_hooks().run()))
        if agents:
            self._running.append(asyncio.create_task(self.agents.run()))

    def scale(self, providers: Mapping[str, InstanceProvider]) -> None:
        """Let managed scaling run, with these instance providers by capacity provider."""
        self._running.append(
            asyncio.create_task(keep_capacity(self.store, self.clock, self.context.settings, region=REGION, providers=Providers(providers)))
        )

    async def close(self) -> None:
        """Stop everything. Raises what ended a part before its time."""
        for task in self._running:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.store.close()

    async def put(self, *records: Record) -> None:
        """Store records as they are."""

        def put(tx: Transaction) -> None:
            for record in records:
                tx.put(_TABLE_OF[type(record)], record)

        await self.store.update(put, cause="test")

    async def view(self, function: Callable[[Reader], T]) -> T:
        """`Store.view`."""
        return await self.store.view(function)

    async def all(self, table: Table[Any]) -> list[Any]:
        """Every record of `table`."""
        return await self.store.view(lambda reader: list(reader.scan(table)))

    async def call(self, operation: str, handler: Handler, request: dict[str, Any]) -> Any:
        """The answer of `handler` to `request` as JSON values; `request` goes through the decoder of the API's `operation`."""
        call = Call(context=self.context, operation=operation, request_id=self.context.ids.uuid(), account=ACCOUNT, principal_arn=root_arn(ACCOUNT))
        decoded = load("ecs").operations[operation].decode(msgspec.json.encode(request))
        answer = await handler(call, decoded)
        await self.clock.settle()
        return msgspec.json.decode(msgspec.json.encode(answer))

    async def report(self, task: Task, status: str, **seen: Any) -> None:
        """Say of `task` what its agent would: RUNNING, STOPPED and so on; `seen` are further fields of `planner.task.Seen`."""
        await report(self.store, task.key, Seen(status=status, **seen))
        await self.clock.settle()
