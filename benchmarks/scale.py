"""How far one server goes: simulated agents on real sockets, a real server process, SQLite, everything on this machine.

Owns: the bench "scale". Tasks from CreateService to RUNNING durable, processor time of the server's process per task (the agents' processes run
beside it), its memory per task, its start with what is stored, RunTask's latency, and its cost at rest. Never touches an existing installation.
`python -m benchmarks.scale INSTANCES SERVICES TASKS [INSTANCES SERVICES TASKS …]` runs and keeps other sizes,
`… latency INSTANCES` RunTask's latency, `… etcd INSTANCES SERVICES TASKS` three servers on etcd (`scale_etcd.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from benchmarks.__main__ import keep, machine, show

from homeport.cli.client import TARGET_PREFIX
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.iam.sigv4 import Credentials, Request, sign

SIZES: Final = ((200, 20, 100), (1_000, 100, 100), (1_000, 100, 1_000))
"""(instances, services, tasks of each service) that are run by default: 2,000, 10,000 and 100,000 tasks."""
SECONDS_MAX: Final = float(os.environ.get("HOMEPORT_BENCH_SECONDS", "600"))
"""After so long a case ends as it stands."""
STALL_SECONDS: Final = 60.0
"""Without one more task RUNNING for so long a case has failed."""
CPU_UNITS: Final = 102_400
MEMORY_MIB: Final = 409_600
IDLE_SECONDS: Final = 60.0
SETTLING_SECONDS: Final = float(os.environ.get("HOMEPORT_BENCH_SETTLING", "60"))
"""Time after which the tasks have come of age (40 s) and their services are steady."""
OTHERS: Final = 5
"""Threads whose RunTask run beside the measured ones, each up to 100 a second."""
RESTING_SECONDS: Final = 10.0
"""After the last agent connected, before anything is measured of a server at rest."""
DESCRIPTORS_KEPT: Final = 200
"""Of a process, for everything that is no agent's connection."""
CREATING: Final = 4
"""Threads that create services."""


class Client:
    """Signed calls over one kept connection; for one thread."""

    def __init__(self, known: LocalCredentials) -> None:
        place = urlsplit(known.endpoint)
        self._host = place.netloc
        self._keys = Credentials(known.access_key_id, known.secret_access_key, known.region)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The answer. Raises RuntimeError for an error of the API."""
        body = msgspec.json.encode(parameters)
        headers = {"host": self._host, "content-type": "application/x-amz-json-1.1", "x-amz-target": f"{TARGET_PREFIX}.{operation}"}
        covered = {name.encode(): value.encode() for name, value in headers.items()}
        signed = sign(Request("POST", b"/", b"", covered, hashlib.sha256(body).hexdigest()), self._keys, time.time())
        self._connection.request("POST", "/", body, {**headers, **signed})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"{operation}: {response.status} {data[:300]!r}")
        answer: dict[str, Any] = msgspec.json.decode(data)
        return answer


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def server(directory: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], LocalCredentials, float]]:
    """A server process on `directory`; with it the seconds from its start to its first answer."""
    began = time.monotonic()
    command = [sys.executable, "-P", "-m", "homeport", "server", "--data-dir", str(directory), "--port", str(port)]
    command += ["--set", "container_instances_per_cluster_max=100000", "--set", "tasks_per_service_max=1000000"]  # beyond ECS's quotas
    with (directory / "server.out").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            if process.poll() is not None:
                raise RuntimeError((directory / "server.out").read_text()[-2000:])
            time.sleep(0.01)
        yield process, DataDirectory(directory).known_credentials(), time.monotonic() - began
    finally:
        process.terminate()
        process.wait(120)


@contextlib.contextmanager
def agents(directory: Path, instances: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`instances` connected simulated agents in one process; `options`: more of `homeport simulate`."""
    command = [sys.executable, "-P", "-m", "homeport", "simulate", "--data-dir", str(directory), "--instances", str(instances)]
    command += ["--cpu", str(CPU_UNITS), "--memory", str(MEMORY_MIB), *options]
    log = directory / f"agents{''.join(options)}.out"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 300
        while b"instances are connected" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def create_services(known: LocalCredentials, services: int, tasks: int) -> list[threading.Thread]:
    """Threads that create `services` services of `tasks` tasks, spread over zones and then instances, which is the default."""

    def create(first: int) -> None:
        client = Client(known)
        for number in range(first, services, CREATING):
            client.call("CreateService", serviceName=f"s{number}", taskDefinition="scale", desiredCount=tasks)

    threads = [threading.Thread(target=create, args=(first,)) for first in range(min(CREATING, services))]
    for thread in threads:
        thread.start()
    return threads


def register(client: Client) -> None:
    """The task definition of every task: one container, one port, a few variables."""
    container = {
        "name": "web",
        "image": "registry.example.com/shop/web:2026.11.24",
        "memoryReservation": 16,
        "cpu": 8,
        "portMappings": [{"containerPort": 8080}],
        "environment": [{"name": "STAGE", "value": "production"}, {"name": "REGION", "value": "eu-central-1"}],
    }
    client.call("RegisterTaskDefinition", family="scale", containerDefinitions=[container])


def until_running(client: Client, wanted: int, began: float) -> tuple[int, float]:
    """Tasks RUNNING at last, and the seconds until the last of them."""
    best, at = 0, time.monotonic()
    while True:
        running = client.call("DescribeClusters", clusters=["default"])["clusters"][0]["runningTasksCount"]
        if running > best:
            best, at = running, time.monotonic()
        if best >= wanted or time.monotonic() - at > STALL_SECONDS or time.monotonic() - began > SECONDS_MAX:
            return best, at - began
        time.sleep(0.1)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def launch(instances: int, services: int, tasks: int) -> dict[str, float]:
    """One case: the figures of creating and running, and of a start with what was stored."""
    wanted = services * tasks
    with tempfile.TemporaryDirectory(dir=os.environ.get("HOMEPORT_BENCH_DIR")) as path:
        directory = Path(path)
        with server(directory, free_port()) as (process, known, _), agents(directory, instances) as fleet:
            client = Client(known)
            register(client)
            memory, cpu, fleet_cpu = memory_mb(process.pid), cpu_seconds(process.pid), cpu_seconds(fleet.pid)
            began = time.monotonic()
            threads = create_services(known, services, tasks)
            running, seconds = until_running(client, wanted, began)
            spent, fleet_spent = cpu_seconds(process.pid) - cpu, cpu_seconds(fleet.pid) - fleet_cpu
            for thread in threads:
                thread.join()
            grown = memory_mb(process.pid) - memory
            time.sleep(SETTLING_SECONDS)
            settled = cpu_seconds(process.pid) - cpu - spent
        with server(directory, free_port()) as (again, _, start_seconds):
            start_memory = memory_mb(again.pid)
        stored = (directory / "homeport.sqlite").stat().st_size
    return {
        "running": running,
        "tasks per second": running / seconds,
        "server µs per task": spent / running * 1e6,
        "agents µs per task": fleet_spent / running * 1e6,
        "settling µs per task": settled / running * 1e6,
        "kB per task": grown * 1000 / running,
        "start seconds": start_seconds,
        "start MB": start_memory,
        "stored MB": stored / 1e6,
    }


def idle(instances: int) -> dict[str, float]:
    """What a server with connected agents and nothing to do costs, heartbeats and telemetry included."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("HOMEPORT_BENCH_DIR")) as path:
        directory = Path(path)
        with server(directory, free_port()) as (process, _, _), agents(directory, instances):
            time.sleep(5)
            cpu = cpu_seconds(process.pid)
            time.sleep(IDLE_SECONDS)
            return {"% of a core": (cpu_seconds(process.pid) - cpu) / IDLE_SECONDS * 100, "MB": memory_mb(process.pid)}


def run_tasks(client: Client, count: int, *, every: float = 0.0) -> list[float]:
    """Milliseconds of `count` calls of RunTask, one after another, begun at least `every` seconds apart."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        client.call("RunTask", taskDefinition="scale")
        found.append((time.monotonic() - began) * 1000)
        time.sleep(max(0.0, began + every - time.monotonic()))
    return sorted(found)


def telemetric(instances: int) -> int:
    """How many of `instances` can have their second connection, the telemetry's, with the descriptors that this process's children may have."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(0, min(instances, descriptors - DESCRIPTORS_KEPT - instances))


def run_task_latency(instances: int) -> dict[str, float]:
    """RunTask's p50 and p99 at rest, and beside `OTHERS` threads that together want 500 other RunTask a second; how many it was in all."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("HOMEPORT_BENCH_DIR")) as path:
        directory = Path(path)
        with server(directory, free_port()) as (_, known, _), contextlib.ExitStack() as fleets:
            whole = telemetric(instances)
            fleets.enter_context(agents(directory, whole))
            if whole < instances:
                fleets.enter_context(agents(directory, instances - whole, "--no-telemetry"))
            client = Client(known)
            register(client)
            run_tasks(client, 50)
            time.sleep(RESTING_SECONDS)
            quiet = run_tasks(client, 500, every=0.01)
            began = time.monotonic()
            others = [threading.Thread(target=run_tasks, args=(Client(known), 1_200), kwargs={"every": 0.01}) for _ in range(OTHERS)]
            for other in others:
                other.start()
            loaded = run_tasks(client, 500, every=0.02)
            for other in others:
                other.join()
            calls = (500 + OTHERS * 1_200) / (time.monotonic() - began)
    return {"p50": quiet[249], "p99": quiet[494], "loaded p50": loaded[249], "loaded p99": loaded[494], "calls per second": calls}


def row(case: str, value: float, unit: str, floor: float | None = None, target: float | None = None) -> dict[str, Any]:
    """One figure."""
    return {"bench": "scale", "case": case, "value": round(value, 2), "unit": unit, "floor": floor, "target": target}


def launch_rows(instances: int, services: int, tasks: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The rows of one case, and its figures."""
    found = launch(instances, services, tasks)
    name = f"{instances} instances, {services} services × {tasks} tasks"
    rows = [
        row(f"{name}: CreateService to RUNNING durable", found["tasks per second"], "tasks per second", 1000, 5000),
        row(f"{name}: RUNNING at the end", found["running"], "tasks"),
        row(f"{name}: server", found["server µs per task"], "µs per task"),
        row(f"{name}: simulated agents", found["agents µs per task"], "µs per task"),
        row(f"{name}: server in the minute after", found["settling µs per task"], "µs per task"),
        row(f"{name}: server memory", found["kB per task"], "kB per task"),
        row(f"{name}: server start with them stored", found["start seconds"], "s"),
        row(f"{name}: memory after that start", found["start MB"], "MB"),
        row(f"{name}: state on disk", found["stored MB"], "MB"),
    ]
    return rows, found


def run() -> list[dict[str, Any]]:
    """The rows of the bench."""
    rows: list[dict[str, Any]] = []
    per_task: list[float] = []
    found: dict[str, float] = {}
    for size in SIZES:
        some, found = launch_rows(*size)
        rows += some
        per_task.append(found["server µs per task"])
    rows.append(row("growth of the server's cost per task, from the smallest case to the largest", per_task[-1] / per_task[0], "ratio", 1.5, 1.0))
    rows.append(row("memory at 1,000,000 tasks, extrapolated", found["kB per task"] * 1000, "MB", 4000, 2500))
    rest = idle(5_000)
    rows.append(row("5,000 connected instances at rest: server", rest["% of a core"], "% of a core", 25, 8))
    rows.append(row("5,000 connected instances at rest: server memory", rest["MB"], "MB"))
    from benchmarks.scale_etcd import ETCD_SIZE, etcd_rows  # it builds on this module

    return [*rows, *latency_rows(10_000), *etcd_rows(*ETCD_SIZE)]


def latency_rows(instances: int) -> list[dict[str, Any]]:
    """The rows of RunTask's latency."""
    latency = run_task_latency(instances)
    name = f"RunTask at {instances:,} instances"
    return [
        row(f"{name}, idle: p50", latency["p50"], "ms"),
        row(f"{name}, idle: p99", latency["p99"], "ms", 20, 5),
        row(f"{name}, beside other calls: calls/s reached", latency["calls per second"], "calls per second"),
        row(f"{name}, beside other calls: p50", latency["loaded p50"], "ms"),
        row(f"{name}, beside other calls: p99", latency["loaded p99"], "ms", 50, 20),
    ]


def some(arguments: list[str]) -> None:
    """Run and keep what the command line names: `latency INSTANCES`, `etcd` and a size, or sizes of launches."""
    context = machine()
    if arguments[0] == "latency":
        chosen = [latency_rows(int(arguments[1]))]
    elif arguments[0] == "etcd":
        from benchmarks.scale_etcd import etcd_rows

        chosen = [etcd_rows(*(int(text) for text in arguments[1:4]))]
    else:
        numbers = [int(text) for text in arguments]
        chosen = [launch_rows(*numbers[at : at + 3])[0] for at in range(0, len(numbers), 3)]
    for rows in chosen:
        show(rows)
        keep("scale", rows, context)


if __name__ == "__main__":
    some(sys.argv[1:])
