"""How many durable transactions a leader does on etcd, and what it costs another server to follow them.

Owns: the bench "store_etcd". Three etcd members, a leader and a follower in a process of its own, all on this machine's loopback and disk. One
transaction puts one task record of 1.3 kB with its journal entry; 500 writers, each waiting for its own transaction. CPU time counts every thread of
the process that it is told of, and not etcd's. Never touches an existing etcd.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from benchmarks.store import Writer, _change, _create, task
from tests.integration.etcd_members import etcd_members

from homeport.clock import SystemClock
from homeport.ids import Ids
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
from homeport.store.replica import Replica
from homeport.store.tables import TABLES

WRITERS: Final = 500
ROUNDS: Final = 30
OWN: Final = ("--max-txn-ops=10000", "--max-request-bytes=8388608", "--quota-backend-bytes=8589934592")
"""What an etcd that Homeport starts itself is given."""


def _backend(endpoints: list[str], name: str) -> EtcdBackend:
    return EtcdBackend(endpoints, settings=EtcdSettings(name=name, txn_operations=10_000, txn_bytes=8_388_608))


async def _lead(endpoints: list[str]) -> dict[str, float]:
    ids = Ids("bench/store_etcd")
    shares = [[task(ids, 1_795_000_000.0 + number) for number in range(ROUNDS)] for _ in range(WRITERS)]
    replica = await Replica.join(_backend(endpoints, "leader"), tables=TABLES, clock=SystemClock())
    async for role in replica.roles():
        if role.leading:
            break
    arguments = [sys.executable, "-P", "-m", "benchmarks.store_etcd", str(2 * WRITERS * ROUNDS), *endpoints]
    follower = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert follower.stdout is not None
    await asyncio.to_thread(follower.stdout.readline)
    gc.collect()
    gc.freeze()
    values: dict[str, float] = {}
    work: tuple[tuple[str, Writer], ...] = (("create", _create), ("change", _change))
    for name, write in work:
        wall, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(write(replica, tasks) for tasks in shares))
        values[f"{name} wall"] = WRITERS * ROUNDS / (time.monotonic() - wall)
        values[name] = WRITERS * ROUNDS / (time.process_time() - cpu)
    values["follow"] = float(await asyncio.to_thread(follower.stdout.readline))
    follower.wait()
    answers = 200
    began = time.monotonic()
    for _ in range(answers):
        await replica.view(lambda r: r.revision)
    values["view"] = (time.monotonic() - began) / answers * 1000
    began = time.monotonic()
    await asyncio.gather(*(replica.view(lambda r: r.revision) for _ in range(20_000)))
    values["views"] = 20_000 / (time.monotonic() - began)
    await replica.close()
    return values


async def _follow(revision: int, endpoints: list[str]) -> None:
    """Prints a line when it follows, and what it did per CPU-second when it is at `revision`."""
    replica = await Replica.join(_backend(endpoints, "follower"), tables=TABLES, clock=SystemClock())
    print(flush=True)
    cpu = time.process_time()
    while replica.revision < revision:
        await asyncio.sleep(0.02)
    print(revision / (time.process_time() - cpu), flush=True)
    await replica.close()


def run() -> list[dict[str, Any]]:
    """The rows of the bench."""
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("HOMEPORT_BENCH_DIR")) as directory,
        etcd_members(Path(directory), 3, options=OWN) as members,
    ):
        values = uvloop.run(_lead(members.endpoints))

    def row(case: str, value: float, unit: str) -> dict[str, Any]:
        return {"bench": "store_etcd", "case": case, "value": round(value, 2), "unit": unit, "floor": None, "target": None}

    return [
        row("leader, 500 writers, new task", values["create"], "transactions per CPU-second"),
        row("leader, 500 writers, task changed in three fields", values["change"], "transactions per CPU-second"),
        row("leader, 500 writers, new task, wall", values["create wall"], "transactions per second"),
        row("leader, 500 writers, task changed, wall", values["change wall"], "transactions per second"),
        row("follower", values["follow"], "transactions per CPU-second"),
        row("one linearizable view", values["view"], "ms"),
        row("20,000 linearizable views at once", values["views"], "views per second"),
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(_follow(int(sys.argv[1]), sys.argv[2:]))
    else:
        for line in run():
            print(msgspec.json.encode(line).decode())
