"""replace: from a container's death to its replacement's start, against a bare listener on Docker's events that starts another one.

Owns: the comparison, both halves in the same run, by turns; times are Docker's own (`die` and `start` events). Never leaves a container behind.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.containers import Fleet, RunningEngine, fleet

from homeport.agent.engine.report import TaskReport
from homeport.agent.runtime.contract import CONNECTED, RuntimeEvent

ROUNDS = 20
REST_SECONDS = 0.2


class Watch:
    """Follows the events of a fleet's containers and tells the time from a death to the next start."""

    def __init__(self, containers: Fleet, on_event: Callable[[RuntimeEvent], None] | None = None) -> None:
        self._fleet = containers
        self._on_event = on_event
        self._died: float | None = None
        self._replaced: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.ready = asyncio.Event()

    async def follow(self) -> None:
        """Read the events, without end."""
        async for event in self._fleet.runtime.events(self._fleet.labels):
            if event.action == CONNECTED:
                self.ready.set()
            elif event.action == "die":
                self._died = event.at
            elif event.action == "start" and self._died is not None and not self._replaced.done():
                self._replaced.set_result(event.at - self._died)
            if self._on_event is not None:
                self._on_event(event)

    async def kill_and_wait(self, container: str) -> float:
        """Kill the container; seconds from its death to the start of the next."""
        self._died, self._replaced = None, asyncio.get_running_loop().create_future()
        await self._fleet.runtime.kill(container)
        return await asyncio.wait_for(self._replaced, 60)


async def _running(containers: Fleet) -> str:
    """The one running container."""
    while True:
        for listing in await containers.runtime.list_containers(containers.labels):
            if listing.status == "running":
                return listing.id
        await containers.clock.sleep(0.02)


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
    found = []
    for _ in range(ROUNDS):
        found.append(await watch.kill_and_wait(await _running(containers)))
        await containers.clock.sleep(REST_SECONDS)
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
    found = []
    async with containers.engine(on_report=told) as running:
        watch = Watch(containers)
        following = asyncio.create_task(watch.follow())
        await watch.ready.wait()
        running.engine.submit(containers.task(0))
        for _ in range(ROUNDS):
            found.append(await watch.kill_and_wait(await _running(containers)))
            await containers.clock.sleep(REST_SECONDS)
        over = True
        following.cancel()
        await running.end()
    return found


async def measure() -> list[dict[str, Any]]:
    """Both halves, twice by turns."""
    async with fleet("replace") as containers:
        bares, engines = [], []
        for _ in range(2):
            bares += await bare(containers)
            engines += await engine(containers)
    ratio = statistics.median(engines) / statistics.median(bares)
    seconds = {"unit": "s", "floor": None, "target": None}
    return [
        {"bench": "replace", "case": "engine / bare listener", "value": round(ratio, 3), "unit": "ratio", "floor": 2.0, "target": 1.3},
        {"bench": "replace", "case": "bare listener", "value": round(statistics.median(bares), 4), **seconds},
        {"bench": "replace", "case": "through the engine", "value": round(statistics.median(engines), 4), **seconds},
    ]


def run() -> list[dict[str, Any]]:
    """The rows of this benchmark."""
    return asyncio.run(measure())
