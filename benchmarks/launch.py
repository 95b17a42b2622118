"""launch: 50 one-container tasks through the product, against the same containers made with the raw Engine API four at a time.

Owns: the comparison, both halves in the same run, by turns. Never leaves a container behind.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

from benchmarks.containers import Fleet, fleet
from benchmarks.product import product

TASKS = 50
ROUNDS = 3
RUN_TASK_MAX = 10
"""Most tasks of one RunTask call."""
WAYS = 4
"""Concurrent create-and-starts of the raw half, as many as the agent's start pool has."""


async def raw(fleet: Fleet) -> float:
    """Seconds to create and start the containers over the raw API."""
    slots = asyncio.Semaphore(WAYS)

    async def one(number: int) -> str:
        async with slots:
            return await fleet.launch(number)

    began = fleet.clock.monotonic()
    made = await asyncio.gather(*(one(number) for number in range(TASKS)))
    seconds = fleet.clock.monotonic() - began
    await asyncio.gather(*(fleet.runtime.remove(container) for container in made))
    return seconds


async def engine(fleet: Fleet) -> float:
    """Seconds from the submission of the tasks to the last RUNNING report."""
    async with fleet.engine() as running:
        began = fleet.clock.monotonic()
        for number in range(TASKS):
            running.engine.submit(fleet.task(number))
        await running.until("RUNNING", TASKS)
        seconds = fleet.clock.monotonic() - began
        await running.end()
    return seconds


async def whole(fleet: Fleet) -> float:
    """Seconds from the first RunTask call to the moment when the API says that all of them are RUNNING."""
    async with product() as running:
        began = fleet.clock.monotonic()
        for _ in range(TASKS // RUN_TASK_MAX):
            await running.call("RunTask", cluster="default", taskDefinition="bench", count=RUN_TASK_MAX)
        await running.until_running(TASKS)
        seconds = fleet.clock.monotonic() - began
        await fleet.clear(running.labels)
    return seconds


async def measure() -> list[dict[str, Any]]:
    """Every way, ROUNDS times by turns."""
    seconds: dict[str, list[float]] = {"raw Engine API": [], "through the engine": [], "through the whole product": []}
    async with fleet("launch") as containers:
        for _ in range(ROUNDS):
            for name, way in zip(seconds, (raw, engine, whole), strict=True):
                seconds[name].append(await way(containers))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians["raw Engine API"]
    bounds = {"floor": 1.2, "target": 1.05}
    rows = [
        {"case": f"{TASKS} tasks, whole product / raw Engine API {WAYS}-way", "value": medians["through the whole product"] / base, **bounds},
        {"case": f"{TASKS} tasks, engine / raw Engine API {WAYS}-way", "value": medians["through the engine"] / base, "floor": None, "target": None},
    ]
    shown = [{"bench": "launch", "unit": "ratio", **row, "value": round(row["value"], 3)} for row in rows]
    plain = {"bench": "launch", "unit": "s", "floor": None, "target": None}
    return shown + [{**plain, "case": name, "value": round(value, 3)} for name, value in medians.items()]


def run() -> list[dict[str, Any]]:
    """The rows of this benchmark."""
    return asyncio.run(measure())
