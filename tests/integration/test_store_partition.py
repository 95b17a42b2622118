"""The network between three machines is cut: the side without a majority neither changes nor tells anything, and nothing diverges.

Each machine is a network namespace with an etcd member and a server, all on one switch (a bridge in a namespace of its own). A cut pulls a machine's
cable out of the switch. The test speaks to the servers over unix sockets, which no cut concerns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import homeport

PREFIX = "/partition/"
ROOT = Path(homeport.__file__).parents[2]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machine:
    """A namespace with its cable, member and server."""

    def __init__(self, number: int, stem: str, directory: Path) -> None:
        self.number = number
        self.space = f"{stem}{number}"
        self.switch = f"{stem}s"
        self.address = f"198.18.0.{number}"
        self.socket = directory / f"s{number}.sock"
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def connect(self) -> None:
        ip("netns", "add", self.space)
        ip("-n", self.space, "link", "set", "lo", "up")
        ip("-n", self.switch, "link", "add", f"port{self.number}", "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("-n", self.switch, "link", "set", f"port{self.number}", "master", "switch", "up")
        ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.space, "link", "set", "eth0", "up")

    def start(self, machines: list[Machine]) -> None:
        peers = ",".join(f"m{machine.number}=http://{machine.address}:2380" for machine in machines)
        client, peer = f"http://{self.address}:2379", f"http://{self.address}:2380"
        member = ["etcd", f"--name=m{self.number}", f"--data-dir={self._directory}/m{self.number}", "--logger=zap"]
        member += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        member += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster={peers}"]
        self._run(member)
        # Its own member first, as one would configure it.
        endpoints = [f"{machine.address}:2379" for machine in [self, *(machine for machine in machines if machine is not self)]]
        server = [sys.executable, "-m", "tests.integration.replica_process", f"s{self.number}", str(self.socket), PREFIX, *endpoints]
        self._server = server

    def start_server(self) -> None:
        self._run(self._server)

    def _run(self, command: list[str]) -> None:
        environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        with (self._directory / f"{self.number}.log").open("ab") as log:
            command = ["nsenter", f"--net=/run/netns/{self.space}", *command]
            self._processes.append(subprocess.Popen(command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def plug(self, state: str) -> None:
        """`down` pulls the cable, `up` puts it back."""
        ip("-n", self.switch, "link", "set", f"port{self.number}", state)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

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
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    stem = f"hp{os.getpid() % 10_000}p"
    made = [Machine(number, stem, tmp_path) for number in (1, 2, 3)]
    try:
        ip("netns", "add", f"{stem}s")
        ip("-n", f"{stem}s", "link", "add", "switch", "type", "bridge")
        ip("-n", f"{stem}s", "link", "set", "switch", "up")
        for machine in made:
            machine.connect()
        for machine in made:
            machine.start(made)
        for machine in made:
            machine.start_server()
        yield made
    finally:
        for machine in made:
            machine.stop()
        for space in (*(machine.space for machine in made), f"{stem}s"):
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)


async def leader_among(machines: list[Machine], seconds: float = 30) -> Machine:
    async with asyncio.timeout(seconds):
        while True:
            for machine in machines:
                if await machine.leads():
                    return machine
            await asyncio.sleep(0.05)


async def put_through(machines: list[Machine], key: str, size: int) -> float:
    """Write at whoever of `machines` leads; how long that took."""
    began = time.monotonic()
    while "error" in await (await leader_among(machines)).call(op="put", key=key, size=size):
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_the_minority_is_silent_and_nothing_diverges(machines: list[Machine]):
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
