"""How many durable transactions the store does per CPU-second of its process.

Owns: the bench "store". One transaction puts one task record of 1.3 kB (stored form) with its journal entry into SQLite; 1,000 writers, each waiting
for its own transaction before it starts the next. CPU time counts every thread. Never touches an existing installation: the file is a temporary one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from homeport.clock import SystemClock
from homeport.ids import Ids
from homeport.model.ecs import task as task_model
from homeport.model.ecs.task import Container, NetworkBinding, Task
from homeport.store.backend import Backend
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.tables import TABLES, TASKS

FLOOR: Final = 10_000
TARGET: Final = 30_000
WRITERS: Final = 1_000
ROUNDS: Final = 40
"""Transactions of each writer in each case."""


def task(ids: Ids, now: float) -> Task:
    """A task of a service as the control plane has it: two containers, ports, tags; 1.3 kB in stored form."""
    containers = tuple(
        Container(
            name=name,
            id=ids.uuid(),
            image=f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/{name}:2026.11.24-7f3a9c1",
            status=task_model.RUNNING,
            runtime_id=ids.hex(64),
            image_digest=f"sha256:{ids.hex(64)}",
            network_bindings=(NetworkBinding(bind_ip="0.0.0.0", container_port=8080, host_port=32768 + number, protocol="tcp"),),
            cpu="256",
            memory="512",
        )
        for number, name in enumerate(("storefront", "metrics-sidecar"))
    )
    return Task(
        account="123456789012",
        cluster="production",
        id=ids.hex(32),
        family="storefront",
        revision=42,
        desired_status=task_model.RUNNING,
        last_status=task_model.PENDING,
        created_at=now,
        group="service:storefront",
        launch_type="EC2",
        container_instance_id=f"{ids.choice(1000):032x}",
        cpu=512,
        memory_mib=1024,
        containers=containers,
        started_by="ecs-svc/4071829384756102938",
        service="storefront",
        deployment_id="4071829384756102938",
        pull_started_at=now,
        pull_stopped_at=now,
        connectivity="CONNECTED",
        connectivity_at=now,
        tags=(
            ("aws:ecs:clusterName", "production"),
            ("aws:ecs:serviceName", "storefront"),
            ("team", "checkout"),
            ("cost-center", "4711-retail-emea"),
            ("owner", "storefront-oncall@example.com"),
            ("runbook", "https://wiki.example.com/runbooks/storefront"),
            ("repository", "https://git.example.com/shop/storefront"),
            ("contract", "gold: answer within 15 minutes, day and night"),
        ),
        cpu_shown="512",
        memory_shown="1024",
    )


Writer = Callable[[Store, list[Task]], Awaitable[None]]


async def _create(store: Store, tasks: list[Task]) -> None:
    """Put new records."""
    for record in tasks:
        await store.update(lambda tx, record=record: tx.put(TASKS, record), cause="bench/create")  # type: ignore[misc]


async def _change(store: Store, tasks: list[Task]) -> None:
    """Put the same records again with three fields changed."""
    for record in tasks:
        running = msgspec.structs.replace(record, last_status=task_model.RUNNING, started_at=1e9, version=2)
        await store.update(lambda tx, running=running: tx.put(TASKS, running), cause="bench/change")  # type: ignore[misc]


async def _measure(backend: Backend, writers: int, rounds: int) -> dict[str, float]:
    """Case → transactions per CPU-second."""
    ids = Ids("bench/store")
    shares = [[task(ids, 1_795_000_000.0 + number) for number in range(rounds)] for _ in range(writers)]
    store = await Store.open(backend, tables=TABLES, clock=SystemClock())
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    values: dict[str, float] = {}
    work: tuple[tuple[str, Writer], ...] = (("create", _create), ("change", _change))
    for name, write in work:
        wall, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(write(store, tasks) for tasks in shares))
        values[name] = writers * rounds / (time.process_time() - cpu)
        values[f"{name} wall"] = writers * rounds / (time.monotonic() - wall)
    verdict = await store.journal.verify()
    assert verdict.entries == store.revision == 2 * writers * rounds and not verdict.problem
    await store.close()
    return values


def run() -> list[dict[str, Any]]:
    """The rows of the bench."""
    size = len(msgspec.msgpack.encode(task(Ids("bench/size"), 1_795_000_000.0)))
    with tempfile.TemporaryDirectory(dir=os.environ.get("HOMEPORT_BENCH_DIR")) as directory:
        sqlite = uvloop.run(_measure(SqliteBackend(Path(directory) / "bench.db"), WRITERS, ROUNDS))
        few = uvloop.run(_measure(SqliteBackend(Path(directory) / "few.db"), 8, 500))
    memory = uvloop.run(_measure(MemoryBackend(), WRITERS, ROUNDS))

    def row(case: str, value: float, *, bound: bool = False) -> dict[str, Any]:
        return {
            "bench": "store",
            "case": case,
            "value": round(value),
            "unit": "transactions per second" if "wall" in case else "transactions per CPU-second",
            "floor": FLOOR if bound else None,
            "target": TARGET if bound else None,
        }

    return [
        row(f"sqlite, 1,000 writers, new task of {size} B", sqlite["create"], bound=True),
        row("sqlite, 1,000 writers, task changed in three fields", sqlite["change"], bound=True),
        row("sqlite, 1,000 writers, new task, wall", sqlite["create wall"]),
        row("sqlite, 1,000 writers, task changed, wall", sqlite["change wall"]),
        row("sqlite, 8 writers, new task", few["create"]),
        row("sqlite, 8 writers, new task, wall", few["create wall"]),
        row("memory, 1,000 writers, new task", memory["create"]),
        row("memory, 1,000 writers, task changed", memory["change"]),
    ]


if __name__ == "__main__":
    for line in run():
        print(msgspec.json.encode(line).decode())
