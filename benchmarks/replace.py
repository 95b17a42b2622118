"""replace: from a container's death to its replacement's start, against a bare listener on Docker's events that starts another one.

Owns: the comparison, both halves in the same run, by turns; times are Docker's own (`die` and `start` events). Never leaves a container behind.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.containers import Fleet, RunningEngine, fleet
from benchmarks.product import product

from homeport.agent.engine.report import TaskReport
from homeport.agent.runtime.contract import CONNECTED, RuntimeEvent

ROUNDS = 20
REST_SECONDS = 0.2


class Watch:
    """Follows the events of a fleet's containers and tells the time from a death to the next start."""

    def __init__(self, containers: Fleet, on_event: Callable[[RuntimeEvent], None] | None = None, labels: Mapping[str, str] | None = None) -> None:
        self._fleet = containers
        self._labels = labels or containers.labels
        self._on_event = on_event
        self._died: float | None = None
        self._replaced: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.ready = asyncio.Event()

    async def follow(self) -> None:
        """Read the events, without end."""
        async for event in self._fleet.runtime.events(self._labels):
            if event.action == CONNECTED:
                self.ready.set()
            elif event.action == "die":
                self._died = event.at
            elif event.action == "start" and self._died is not None and not self._replaced.done():
                self._replaced.set_result(event.at - self._died)
            if self._on_event is not None:
                self._on_event(event)

    async def kill_and_wait(self) -> float:
        """Kill the one running container; seconds from its death to the start of the next."""
        self._died, self._replaced = None, asyncio.get_running_loop().create_future()
        await self._fleet.runtime.kill(await self._running())
        return await asyncio.wait_for(self._replaced, 60)

    async def rounds(self) -> list[float]:
        """ROUNDS of that, with some rest between."""
        found = []
        for _ in range(ROUNDS):
            found.append(await self.kill_and_wait())
            await self._fleet.clock.sleep(REST_SECONDS)
        return found

    async def _running(self) -> str:
        while True:
            for listing in await self._fleet.runtime.list_containers(self._labels):
                if listing.status == "running":
                    return listing.id
            await self._fleet.clock.sleep(0.02)


async def bare(containers: Fleet) -> list[float]:
    """A listener that creates and starts another container as soon as it hears of a death."""
    number = 0
    steps: set[asyncio.Task[None]] = set()

    async def another() -> None:
        nonlocal number
        number += 1
        await containers.launch(number)

    def heard(event: RuntimeEvent) -> None:
        if event.action == "die":
            step = asyncio.create_task(another())
            steps.add(step)
            step.add_done_callback(steps.discard)

    watch = Watch(containers, heard)
    following = asyncio.create_task(watch.follow())
    await watch.ready.wait()
    await another()
    found = await watch.rounds()
    following.cancel()
    await containers.clear()
    return found


async def engine(containers: Fleet) -> list[float]:
    """The engine; in the control plane's place, a function that submits another task as soon as it is told of a STOPPED one."""
    number = 0

    def told(running: RunningEngine, report: TaskReport) -> None:
        nonlocal number
        if report.status == "STOPPED" and not over:
            number += 1
            running.engine.submit(containers.task(number))

    over = False
    async with containers.engine(on_report=told) as running:
        watch = Watch(containers)
        following = asyncio.create_task(watch.follow())
        await watch.ready.wait()
        running.engine.submit(containers.task(0))
        found = await watch.rounds()
        over = True
        following.cancel()
        await running.end()
    return found


async def whole(containers: Fleet) -> list[float]:
    """A service of one task on the whole product: agent, report, store, controller, placement, dispatcher, agent."""
    async with product() as running:
        watch = Watch(containers, labels=running.labels)
        following = asyncio.create_task(watch.follow())
        await watch.ready.wait()
        await running.call("CreateService", cluster="default", serviceName="bench", taskDefinition="bench", desiredCount=1)
        await running.until_running(1)
        found = await watch.rounds()
        following.cancel()
        await running.call("DeleteService", cluster="default", service="bench", force=True)
    await containers.clear(running.labels)
    return found


async def measure() -> list[dict[str, Any]]:
    """Every way, twice by turns."""
    seconds: dict[str, list[float]] = {"bare listener": [], "through the engine": [], "through the whole product": []}
    async with fleet("replace") as containers:
        for _ in range(2):
            for name, way in zip(seconds, (bare, engine, whole), strict=True):
                seconds[name] += await way(containers)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians["bare listener"]
    rows = [
        {"case": "whole product / bare listener", "value": medians["through the whole product"] / base, "floor": 2.0, "target": 1.3},
        {"case": "engine / bare listener", "value": medians["through the engine"] / base, "floor": None, "target": None},
    ]
    shown = [{"bench": "replace", "unit": "ratio", **row, "value": round(row["value"], 3)} for row in rows]
    plain = {"bench": "replace", "unit": "s", "floor": None, "target": None}
    return shown + [{**plain, "case": name, "value": round(value, 4)} for name, value in medians.items()]


def run() -> list[dict[str, Any]]:
    """The rows of this benchmark."""
    return asyncio.run(measure())
