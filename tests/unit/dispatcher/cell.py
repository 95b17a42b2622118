"""A dispatcher on a store in memory and a virtual clock, with simulated agents that speak to it in the same process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeport.config import Settings
from homeport.dispatcher.hub import Dispatcher
from homeport.errors import AccessDeniedError
from homeport.ids import Ids
from homeport.model import arn
from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.ecs.task import Task
from homeport.store.store import Store
from homeport.store.tables import CONTAINER_INSTANCES, TASKS
from homeport.testing import records
from homeport.testing.agent import SimulatedAgent
from homeport.virtual_clock import VirtualClock

INSTANCE_ARN = arn.container_instance_arn(records.REGION, records.ACCOUNT, "default", "1" * 32)


def instance(**fields: Any) -> ContainerInstance:
    """An instance whose agent is not there yet and knows manifests."""
    defaults = {"agent_connected": False, "attributes": (Attribute(name="ecs.capability.full-sync"),)}
    return records.container_instance(**{**defaults, **fields})


def pending(number: int = 1, **fields: Any) -> Task:
    """A task that its agent has not seen yet."""
    return records.task(number, **{"last_status": "PENDING", "observed_status": "", "started_at": 0.0, **fields})


class Cell:
    """The parts of a test: store, clock, dispatcher, agents."""

    def __init__(self, store: Store, clock: VirtualClock, settings: Settings) -> None:
        self.store = store
        self.clock = clock
        self.settings = settings
        self.dispatcher = self.new_dispatcher()
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.agents: list[SimulatedAgent] = []

    def new_dispatcher(self) -> Dispatcher:
        """Another life of the same server."""
        return Dispatcher(store=self.store, clock=self.clock, ids=Ids(1), settings=self.settings, region=records.REGION, verify=self.verify)

    @staticmethod
    def verify(method: str, path: str, query: bytes, headers: Any, origin: tuple[str, bool]) -> tuple[str, str]:
        """Everyone is root, but for those who bring the header `x-stranger`, or come over TLS or with an address, which no agent here does."""
        if origin != ("", False) or any(name == b"x-stranger" for name, _ in headers):
            raise AccessDeniedError("The signature does not match.")
        return records.ACCOUNT, arn.root_arn(records.ACCOUNT)

    def agent(self, instance_arn: str = INSTANCE_ARN, **options: Any) -> SimulatedAgent:
        """An agent of the instance; not connected yet. Its reports are kept in `calls` and change nothing."""
        agent = SimulatedAgent(self.dispatcher.acs, self._call, clock=self.clock, **options)
        agent.arn = instance_arn
        self.agents.append(agent)
        return agent

    async def _call(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.calls.append((operation, request))
        return {}

    async def put(self, *items: Task | ContainerInstance) -> None:
        """Store records as they are."""

        def write(tx: Any) -> None:
            for item in items:
                tx.put(TASKS if isinstance(item, Task) else CONTAINER_INSTANCES, item)

        await self.store.update(write, cause="test")
        await self.clock.settle()

    async def change(self, item: Task | ContainerInstance, **fields: Any) -> None:
        """Replace fields of the stored record of the same key."""

        def write(tx: Any) -> None:
            table: Any = TASKS if isinstance(item, Task) else CONTAINER_INSTANCES
            tx.put(table, msgspec.structs.replace(tx.get(table, item.key), **fields))

        await self.store.update(write, cause="test")
        await self.clock.settle()

    async def stored_instance(self) -> ContainerInstance:
        """The one instance as it is in the store."""
        found = await self.store.view(lambda reader: reader.get(CONTAINER_INSTANCES, instance().key))
        assert found is not None
        return found

    async def stored_task(self, number: int = 1) -> Task:
        """A task as it is in the store."""
        found = await self.store.view(lambda reader: reader.get(TASKS, pending(number).key))
        assert found is not None
        return found
