"""Three servers, three etcd members, all killed and paused in turn, under clients whose history is checked.

Each thing has one writer, which counts it up, so its history is easy to judge: a read that began after a write was acknowledged sees that write or a
later one, reads that follow each other never go back, and nothing is ever seen that nobody wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.integration.etcd_members import EtcdMembers, etcd_members, free_ports

import homeport
from homeport.clock import SystemClock
from homeport.errors import HomeportError
from homeport.store.etcd import messages
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.etcd.client import EtcdClient
from homeport.store.replica import Replica
from homeport.testing.store import THINGS

SECONDS = float(os.environ.get("HOMEPORT_FAULT_SECONDS", "50"))
"""How long the faults go on."""
PREFIX = "/faults/"
CALL_SECONDS = 1.0
"""A paused server costs a client this much."""


class Server:
    """One process."""

    def __init__(self, name: str, port: int, endpoints: list[str], log: Path) -> None:
        self.name, self.port = name, port
        self._command = [sys.executable, "-m", "tests.integration.replica_process", name, str(port), PREFIX, *endpoints]
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        root = Path(homeport.__file__).parents[2]
        environ = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=environ, cwd=root, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    async def call(self, **request: Any) -> dict[str, Any]:
        """One request on a connection of its own. Raises OSError or TimeoutError."""
        async with asyncio.timeout(CALL_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
        if not line:
            raise ConnectionError("closed")
        return json.loads(line)


@dataclasses.dataclass
class Operation:
    kind: str
    key: str
    size: int
    began: float
    ended: float


class Clients:
    """Writers, one a key, and readers, on all servers; and what they saw."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.history: list[Operation] = []
        self.attempted: dict[str, int] = {}
        self.done = False
        self._leader = servers[0]

    async def write(self, key: str) -> None:
        for size in itertools.count(1):
            self.attempted[key] = size
            began = time.monotonic()
            while not await self._put(key, size):
                if self.done:
                    return
                await asyncio.sleep(0.02)
            self.history.append(Operation("put", key, size, began, time.monotonic()))
            if self.done:
                return

    async def write_again(self) -> None:
        """Return when a write that began from now on was acknowledged."""
        now = time.monotonic()
        async with asyncio.timeout(30):
            while not any(operation.kind == "put" and operation.began > now for operation in self.history[-100:]):
                await asyncio.sleep(0.05)

    async def _put(self, key: str, size: int) -> bool:
        server = self._leader
        try:
            answer = await server.call(op="put", key=key, size=size)
        except (OSError, TimeoutError):
            self._leader = random.choice(self.servers)
            return False
        if "error" in answer:
            assert answer["error"] != "ConflictError", answer
            named = [each for each in self.servers if str(each.port) == answer.get("leader")]
            self._leader = named[0] if named else random.choice(self.servers)
            return False
        return True

    async def read(self, keys: list[str]) -> None:
        while not self.done:
            key, server = random.choice(keys), random.choice(self.servers)
            began = time.monotonic()
            with contextlib.suppress(OSError, TimeoutError):
                answer = await server.call(op="get", key=key)
                if "size" in answer:
                    self.history.append(Operation("get", key, answer["size"], began, time.monotonic()))
            await asyncio.sleep(0.005)


def flaws(history: list[Operation], attempted: dict[str, int]) -> list[str]:
    """What cannot be in the history of a register that one writer counts up."""
    found = []
    for key, last in attempted.items():
        known = 0
        """The greatest size that was acknowledged or read by the time that `now` began."""
        operations = [operation for operation in history if operation.key == key]
        ended = sorted(operations, key=lambda operation: operation.ended)
        position = 0
        for operation in sorted(operations, key=lambda operation: operation.began):
            while position < len(ended) and ended[position].ended < operation.began:
                known = max(known, ended[position].size)
                position += 1
            if operation.size < known or operation.size > last:
                found.append(f"{operation} when {known} was known and {last} the last attempted")
    return found


def test_the_checker_sees_what_it_must():
    def put(size: int, began: float, ended: float) -> Operation:
        return Operation("put", "a", size, began, ended)

    def get(size: int, began: float, ended: float) -> Operation:
        return Operation("get", "a", size, began, ended)

    good = [put(1, 0, 1), put(2, 2, 5), get(1, 2, 3), get(2, 3, 4), get(2, 6, 7)]
    assert flaws(good, {"a": 2}) == []
    assert flaws([*good, get(1, 4.5, 6)], {"a": 2})  # back from 2, which a read saw
    assert flaws([*good, get(1, 8, 9)], {"a": 2})  # an acknowledged write is lost
    assert flaws([*good, get(3, 8, 9)], {"a": 2})  # nobody wrote it


async def leader_of(servers: list[Server]) -> Server | None:
    for server in servers:
        with contextlib.suppress(OSError, TimeoutError):
            if server.process is not None and (await server.call(op="role")).get("leading"):
                return server
    return None


async def etcd_leader(members: EtcdMembers) -> int:
    """The position of etcd's leader among the members."""
    client = EtcdClient(members.endpoints, clock=SystemClock())
    try:
        for number, endpoint in enumerate(client.endpoints):
            with contextlib.suppress(HomeportError):
                status = await client.call("Status", messages.CALLS["Status"][1](), at=endpoint, seconds=1)
                if status.leader == status.header.member_id:
                    return number
    finally:
        await client.close()
    return 0


class Faults:
    """What is done to servers and members."""

    def __init__(self, servers: list[Server], members: EtcdMembers) -> None:
        self.servers = servers
        self.members = members

    async def server_leader(self, *, leading: bool) -> Server:
        leader = await leader_of(self.servers) or self.servers[0]
        return leader if leading else next(server for server in self.servers if server is not leader)

    async def kill_server(self, *, leading: bool) -> None:
        server = await self.server_leader(leading=leading)
        server.kill()
        await asyncio.sleep(2)
        server.start()

    async def pause_server(self, *, seconds: float) -> None:
        server = await self.server_leader(leading=True)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        server.signal(signal.SIGCONT)

    async def kill_member(self, *, leading: bool) -> None:
        number = await etcd_leader(self.members)
        member = self.members.members[number if leading else (number + 1) % 3]
        member.kill()
        await asyncio.sleep(2)
        member.start()
        await asyncio.to_thread(member.wait)

    async def pause_member(self, *, seconds: float) -> None:
        member = self.members.members[await etcd_leader(self.members)]
        member.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        member.signal(signal.SIGCONT)

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What it is called → how it is done."""
        return {
            "kill the leader": lambda: self.kill_server(leading=True),
            "kill etcd's leader": lambda: self.kill_member(leading=True),
            "kill a follower": lambda: self.kill_server(leading=False),
            "pause the leader 10 s": lambda: self.pause_server(seconds=10),
            "kill an etcd follower": lambda: self.kill_member(leading=False),
            "kill the leader and etcd's leader": self.both,
            "pause etcd's leader 5 s": lambda: self.pause_member(seconds=5),
            "pause the leader 2 s": lambda: self.pause_server(seconds=2),
        }

    async def both(self) -> None:
        await asyncio.gather(self.kill_server(leading=True), self.kill_member(leading=True))


async def test_nothing_acknowledged_is_lost_and_nothing_stale_is_read(tmp_path):
    with etcd_members(tmp_path / "etcd", 3) as members:
        servers = [Server(f"s{port}", port, members.endpoints, tmp_path / f"{port}.log") for port in free_ports(3)]
        try:
            for server in servers:
                server.start()
            while await leader_of(servers) is None:
                await asyncio.sleep(0.1)
            clients = Clients(servers)
            keys = [f"k{number}" for number in range(8)]
            running = [asyncio.create_task(clients.write(key)) for key in keys] + [asyncio.create_task(clients.read(keys)) for _ in range(6)]
            began = time.monotonic()
            schedule: list[tuple[float, str]] = []
            for name, fault in itertools.cycle(Faults(servers, members).all().items()):
                await asyncio.sleep(1.5)
                schedule.append((time.monotonic(), name))
                await fault()
                await clients.write_again()
                if time.monotonic() - began > SECONDS or any(task.done() for task in running):
                    break
            await asyncio.sleep(1)
            clients.done = True
            await asyncio.wait_for(asyncio.gather(*running), 20)

            # The end as a server sees it that knows nothing yet.
            replica = await Replica.join(EtcdBackend(members.endpoints, PREFIX), tables=(THINGS,), clock=SystemClock())
            final = await replica.view(lambda r: {thing.name: thing.size for thing in r.scan(THINGS)})
            verdict = await replica.journal.verify()
            revision = replica.revision
            await replica.close()
        finally:
            for server in servers:
                server.signal(signal.SIGCONT)
                server.kill()
    now = time.monotonic()
    history = clients.history + [Operation("get", key, size, now, now) for key, size in final.items()]
    writes = sorted(operation.ended for operation in history if operation.kind == "put")
    print(f"{len(writes)} writes, {len(history) - len(writes)} reads; the longest gap between two writes, fault by fault:")
    for (start, name), (end, _) in itertools.pairwise([*schedule, (now, "")]):
        gap = max((after - before for before, after in itertools.pairwise(writes) if start < after <= end), default=0.0)
        print(f"  {gap:4.1f} s  {name}")
    assert flaws(history, clients.attempted) == []
    assert verdict.problem == ""
    assert revision == sum(final.values())
    assert len(writes) > 500
