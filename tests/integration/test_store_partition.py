"""The network between three machines is cut: the side without a majority neither changes nor tells anything, and nothing diverges.

Each machine is a network namespace with an etcd member and a server, all on one switch (a bridge in a namespace of its own). A cut pulls a machine's
cable out of the switch. The test speaks to the servers over unix sockets, which no cut concerns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.machines import Machine, switched

PREFIX = "/partition/"


class StoreMachine(Machine):
    """With a server that is nothing but a store."""

    @property
    def socket(self) -> Path:
        return self.directory / f"s{self.number}.sock"

    def start_server(self, machines: list[StoreMachine]) -> None:
        server = [sys.executable, "-m", "tests.integration.replica_process", f"s{self.number}", str(self.socket), PREFIX]
        self.run(*server, *self.etcd_endpoints(machines))

    async def call(self, seconds: float = 20, **request: Any) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                return json.loads(await reader.readline())
            finally:
                writer.close()

    async def answers(self) -> None:
        """Return when its server is up."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    await self.call(op="role")
                    return
                await asyncio.sleep(0.05)

    async def leads(self) -> bool:
        with contextlib.suppress(OSError):
            return bool((await self.call(op="role")).get("leading"))
        return False


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[StoreMachine]]:
    with switched(StoreMachine, tmp_path) as made:
        for machine in made:
            machine.start_etcd(made)
        for machine in made:
            machine.start_server(made)
        yield made


async def leader_among(machines: list[StoreMachine], seconds: float = 30) -> StoreMachine:
    async with asyncio.timeout(seconds):
        while True:
            for machine in machines:
                if await machine.leads():
                    return machine
            await asyncio.sleep(0.05)


async def put_through(machines: list[StoreMachine], key: str, size: int) -> float:
    """Write at whoever of `machines` leads; how long that took."""
    began = time.monotonic()
    while "error" in await (await leader_among(machines)).call(op="put", key=key, size=size):
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_the_minority_is_silent_and_nothing_diverges(machines: list[StoreMachine]):
    leader = await leader_among(machines)
    for machine in machines:
        await machine.answers()
    others = [machine for machine in machines if machine is not leader]
    await put_through(machines, "a", 1)
    assert [await machine.call(op="get", key="a") for machine in machines] == [{"size": 1}] * 3

    leader.plug("down")
    await asyncio.sleep(0.1)
    cut_off = [asyncio.create_task(leader.call(op=op, key="a", size=2)) for op in ("put", "get", "look")]
    waited = await put_through(others, "b", 1)
    for size in range(2, 50):
        await put_through(others, "b", size)
    results = [await task for task in cut_off]
    print(f"writes went on after {waited:.1f} s; the minority said {results}")
    assert results[0]["error"] == "CommitUnknownError"
    assert results[1]["error"] == "NoQuorumError"
    assert results[2] == {"size": 1}  # its own copy, for who asks for that
    assert (await leader.call(op="put", key="a", size=2))["error"] == "NotLeaderError"
    assert (await leader.call(op="get", key="b"))["error"] == "NoQuorumError"
    assert waited < 10
    assert [await machine.call(op="get", key="b") for machine in others] == [{"size": 49}] * 2

    leader.plug("up")
    began = time.monotonic()
    while (await leader.call(op="get", key="b")) != {"size": 49}:
        assert time.monotonic() - began < 20
        await asyncio.sleep(0.1)
    # What the cut-off leader was asked to write did not happen: nobody else knew of it, and it could not.
    assert [await machine.call(op="get", key="a") for machine in machines] == [{"size": 1}] * 3

    # A follower is cut off: nobody else notices.
    leader = await leader_among(machines)
    lonely = next(machine for machine in machines if machine is not leader)
    rest = [machine for machine in machines if machine is not lonely]
    lonely.plug("down")
    assert await put_through(rest, "b", 50) < 10
    assert (await lonely.call(op="get", key="b"))["error"] == "NoQuorumError"
    assert (await lonely.call(op="look", key="b")) == {"size": 49}
    lonely.plug("up")
    await put_through(machines, "b", 51)
    began = time.monotonic()
    while (await lonely.call(op="get", key="b")) != {"size": 51}:
        assert time.monotonic() - began < 20
        await asyncio.sleep(0.1)
