"""launch: 50 one-container tasks through the product, against the same containers made with the raw Engine API four at a time.

Owns: the comparison, both halves in the same run, by turns. Never leaves a container behind.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

from benchmarks.containers import Fleet, fleet

TASKS = 50
ROUNDS = 3
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


async def measure() -> list[dict[str, Any]]:
    """Both halves, ROUNDS times."""
    async with fleet("launch") as containers:
        raws, engines = [], []
        for _ in range(ROUNDS):
            raws.append(await raw(containers))
            engines.append(await engine(containers))
    ratio = statistics.median(engines) / statistics.median(raws)
    return [
        {
            "bench": "launch",
            "case": f"{TASKS} tasks / raw Engine API {WAYS}-way",
            "value": round(ratio, 3),
            "unit": "ratio",
            "floor": 1.2,
            "target": 1.05,
        },
        {"bench": "launch", "case": "raw Engine API", "value": round(statistics.median(raws), 3), "unit": "s", "floor": None, "target": None},
        {"bench": "launch", "case": "through the engine", "value": round(statistics.median(engines), 3), "unit": "s", "floor": None, "target": None},
    ]


def run() -> list[dict[str, Any]]:
    """The rows of this benchmark."""
    return asyncio.run(measure())
