"""Whatever happens to connections, servers and tasks: once it is quiet, the agent holds exactly what the store wants, and every stop has arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.dispatcher.cell import Cell, instance, pending

from homeport.config import Settings
from homeport.dispatcher.payload import task_key
from homeport.model.ecs.task import RANK, Task
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import CLUSTERS, CONTAINER_INSTANCES, TABLES, TASK_DEFINITIONS, TASKS
from homeport.testing import records
from homeport.testing.agent import SimulatedAgent
from homeport.virtual_clock import VirtualClock

TASKS_MAX = 6
NUMBERS = st.integers(1, TASKS_MAX)
STEPS = st.one_of(
    st.tuples(st.just("place"), NUMBERS),
    st.tuples(st.just("stop"), NUMBERS),
    st.tuples(st.just("delete"), NUMBERS),
    st.tuples(st.just("exit"), NUMBERS),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 1.0, 40.0, 2000.0])),
    st.tuples(st.just("break"), st.sampled_from([1000, 1006])),
    st.tuples(st.just("connect"), st.none()),
    st.tuples(st.just("silence"), st.booleans()),
    st.tuples(st.just("restart server"), st.none()),
)


class World(Cell):
    """A cell whose agent's reports change the store, and in which tasks are replaced by new ones, never revived."""

    def __init__(self, store: Store, clock: VirtualClock) -> None:
        super().__init__(store, clock, Settings())
        self.current = dict.fromkeys(range(1, TASKS_MAX + 1), 0)
        self.the_agent: SimulatedAgent = self.agent()

    async def _call(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        assert operation == "SubmitTaskStateChange"
        key = task_key(request["task"], records.ACCOUNT)

        def write(tx: Any) -> None:
            task: Task | None = tx.get(TASKS, key)
            if task is not None and RANK[request["status"]] > RANK[task.last_status]:
                desired = "STOPPED" if request["status"] == "STOPPED" else task.desired_status
                tx.put(TASKS, msgspec.structs.replace(task, last_status=request["status"], desired_status=desired))

        await self.store.update(write, cause="test")
        return {}

    def task(self, number: int) -> Task:
        """The newest task in a place."""
        return pending(number * 1000 + self.current[number])

    async def step(self, what: str, argument: Any) -> None:
        """One thing happens."""
        agent = self.the_agent
        match what:
            case "place":
                self.current[argument] += 1
                await self.put(self.task(argument))
            case "stop" | "delete" | "exit":
                await self._end(what, self.task(argument))
            case "wait":
                await self.clock.advance(argument)
            case "break":
                await agent.disconnect(argument)
            case "connect":
                await agent.connect()
            case "silence":
                agent.silent = argument
            case "restart server":
                await self.dispatcher.close()
                self.dispatcher = self.new_dispatcher()
                agent._acs = self.dispatcher.acs
                await self.dispatcher.start()

    async def _end(self, what: str, task: Task) -> None:
        if what == "exit":
            held = next((held for arn, held in self.the_agent.tasks.items() if arn.endswith(task.id)), None)
            if held is not None and held.status == "RUNNING":
                await self.the_agent.exit(held.payload.arn, 1)
            return

        def write(tx: Any) -> None:
            stored = tx.get(TASKS, task.key)
            if stored is not None and what == "stop":
                tx.put(TASKS, msgspec.structs.replace(stored, desired_status="STOPPED"))
            elif stored is not None:
                tx.delete(TASKS, task.key)

        await self.store.update(write, cause="test")

    async def calm(self) -> None:
        """Everything works again, for long enough."""
        self.the_agent.silent = False
        await self.the_agent.connect()
        await self.clock.advance(5)


async def run(steps: list[tuple[str, Any]]) -> None:
    clock = VirtualClock()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)

    def write(tx: Any) -> None:
        tx.put(CLUSTERS, records.cluster())
        tx.put(CONTAINER_INSTANCES, instance())
        tx.put(TASK_DEFINITIONS, records.task_definition())

    await store.update(write, cause="test")
    world = World(store, clock)
    await world.dispatcher.start()
    try:
        for what, argument in steps:
            await world.step(what, argument)
        await world.calm()
        stored = await store.view(lambda reader: {task.id: task for task in reader.scan(TASKS)})
        held = {arn.rpartition("/")[2]: task for arn, task in world.the_agent.tasks.items()}
        wanted = {key for key, task in stored.items() if task.desired_status == "RUNNING"}
        assert {key for key, task in held.items() if task.status == "RUNNING"} == wanted
        assert {task.last_status for task in stored.values() if task.desired_status == "STOPPED"} <= {"STOPPED"}
        assert (await world.stored_instance()).agent_connected
        assert world.dispatcher.connected == {instance().key}
    finally:
        await world.the_agent.close()
        await world.dispatcher.close()
        await store.close()


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_it_converges(steps):
    asyncio.run(run(steps))
