"""How far three servers on an etcd of three go: simulated agents on real sockets at every server, everything on this machine's loopback and disk.

Owns: the etcd case of the bench "scale". Tasks from CreateService, sent to any server, to RUNNING durable on a majority of etcd, as DescribeClusters
at a server tells it; processor time per task of each kind of process. Never touches an existing installation or etcd.
`python -m benchmarks.scale etcd INSTANCES SERVICES TASKS` runs and keeps other sizes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from benchmarks.scale import Client, agents, cpu_seconds, create_services, free_port, memory_mb, register, row, until_running
from tests.integration.etcd_members import EtcdMembers, etcd_members

from homeport.cli.group import (
    ELECTION_MILLISECONDS,
    HEARTBEAT_MILLISECONDS,
    HISTORY,
    REQUEST_BYTES,
    SPACE_BYTES,
    TXN_OPERATIONS,
)
from homeport.cli.installation import DataDirectory, LocalCredentials

SERVERS: Final = 3
ETCD_SIZE: Final = (1_000, 100, 1_000)
"""(instances, services, tasks of each service)."""
START_SECONDS: Final = 60.0
OWN_ETCD_OPTIONS: Final = (
    f"--heartbeat-interval={HEARTBEAT_MILLISECONDS}",
    f"--election-timeout={ELECTION_MILLISECONDS}",
    f"--max-txn-ops={TXN_OPERATIONS}",
    f"--max-request-bytes={REQUEST_BYTES}",
    f"--quota-backend-bytes={SPACE_BYTES}",
    "--auto-compaction-mode=periodic",
    f"--auto-compaction-retention={HISTORY}",
)
"""What `up --servers` gives its own etcd."""


class Server:
    """One of the servers: its process and how it is reached."""

    def __init__(self, directory: Path, name: str, store: str) -> None:
        self.port = free_port()
        self._directory = directory
        self._name = name
        command = [sys.executable, "-P", "-m", "homeport", "server", "--data-dir", str(directory), "--port", str(self.port)]
        with (directory / f"{name}.out").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--store", store, "--own-etcd", "--name", name], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def known(self) -> LocalCredentials:
        """The root key, with this server's address."""
        return DataDirectory(self._directory / self._name).known_credentials()

    def health(self) -> dict[str, Any]:
        """What /health tells; nothing as long as it does not answer. Raises RuntimeError when the process has ended."""
        if self.process.poll() is not None:
            raise RuntimeError((self._directory / f"{self._name}.out").read_text()[-2000:])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            answer: dict[str, Any] = msgspec.json.decode(connection.getresponse().read())
        except (OSError, http.client.HTTPException, msgspec.MsgspecError):
            return {}
        finally:
            connection.close()
        return answer

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(120)


@contextlib.contextmanager
def servers(directory: Path, store: str) -> Iterator[list[Server]]:
    """The servers, when all of them name the same leader; the leader first."""
    running = [Server(directory, f"server-{number + 1}", store) for number in range(SERVERS)]
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            told = [server.health() for server in running]
            leaders = {health.get("leader") for health in told}
            if len(leaders) == 1 and leaders.pop():
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"the servers do not agree on a leader: {told}")
            time.sleep(0.05)
        yield sorted(running, key=lambda server: server.health()["leader"] != server.health()["server"])
    finally:
        for server in running:
            server.stop()


def members_cpu(members: EtcdMembers) -> float:
    """Processor time of all members of etcd so far."""
    return sum(cpu_seconds(member.process.pid) for member in members.members if member.process is not None)


def launch(instances: int, services: int, tasks: int) -> dict[str, float]:
    """The figures of one case."""
    wanted = services * tasks
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ.get("HOMEPORT_BENCH_DIR"))))
        members = stack.enter_context(etcd_members(directory / "etcd", SERVERS, options=OWN_ETCD_OPTIONS))
        places = ",".join(endpoint.partition("//")[2] for endpoint in members.endpoints)
        store = f"etcd://{places}?max-txn-ops={TXN_OPERATIONS}&max-request-bytes={REQUEST_BYTES}"
        leader, *followers = running = stack.enter_context(servers(directory, store))
        fleets = [stack.enter_context(fleet(directory, server, number, instances)) for number, server in enumerate(running)]
        client = Client(followers[0].known)
        register(client)
        pids = [server.process.pid for server in followers]
        memory, began = memory_mb(leader.process.pid), time.monotonic()
        cpu, followers_cpu, fleet_cpu, etcd_cpu = _spent(leader, pids, fleets, members)
        threads: list[threading.Thread] = create_services(followers[-1].known, services, tasks)
        reached, seconds = until_running(client, wanted, began)
        spent = [
            after - before for after, before in zip(_spent(leader, pids, fleets, members), (cpu, followers_cpu, fleet_cpu, etcd_cpu), strict=True)
        ]
        for thread in threads:
            thread.join()
        same = leader.health().get("leader") == leader.health().get("server")
        grown = memory_mb(leader.process.pid) - memory
    return {
        "running": reached,
        "tasks per second": reached / seconds,
        "leader": spent[0] / reached * 1e6,
        "followers": spent[1] / reached * 1e6,
        "agents": spent[2] / reached * 1e6,
        "etcd": spent[3] / reached * 1e6,
        "kB per task": grown * 1000 / reached,
        "led throughout": float(same),
    }


@contextlib.contextmanager
def fleet(directory: Path, server: Server, number: int, instances: int) -> Iterator[subprocess.Popen[bytes]]:
    """One server's share of the simulated agents."""
    own = directory / f"agents-{number}"
    own.mkdir()
    (own / "credentials.json").write_bytes(msgspec.json.encode(server.known))
    share = instances // SERVERS + (number < instances % SERVERS)
    with agents(own, share) as process:
        yield process


def _spent(leader: Server, followers: list[int], fleets: list[subprocess.Popen[bytes]], members: EtcdMembers) -> tuple[float, float, float, float]:
    """Processor time so far of the leader, the followers, the agents and etcd."""
    return (
        cpu_seconds(leader.process.pid),
        sum(cpu_seconds(pid) for pid in followers),
        sum(cpu_seconds(process.pid) for process in fleets),
        members_cpu(members),
    )


def etcd_rows(instances: int, services: int, tasks: int) -> list[dict[str, Any]]:
    """The rows of one case."""
    found = launch(instances, services, tasks)
    name = f"{SERVERS} servers on etcd of {SERVERS}, {instances} instances, {services} services × {tasks} tasks"
    return [
        row(f"{name}: CreateService to RUNNING durable", found["tasks per second"], "tasks per second", 500, 2500),
        row(f"{name}: RUNNING at the end", found["running"], "tasks"),
        *(row(f"{name}: {who}", found[who], "µs per task") for who in ("leader", "followers", "agents", "etcd")),
        row(f"{name}: leader's memory", found["kB per task"], "kB per task"),
        row(f"{name}: one leader throughout", found["led throughout"], "yes is 1"),
    ]
