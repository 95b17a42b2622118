"""What an installation costs at rest, and how fast its server starts.

Owns: the bench "idle" (must show 7): start of the server to its first answered call; processor time of server and agent over a quiet time with 10
tasks; their resident memory. Never touches an existing installation: its own has a temporary directory and a free port.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from homeport.cli import programs
from homeport.cli.client import Api
from homeport.cli.containers import INSTALLATION_LABEL, DockerSocket
from homeport.cli.installation import DataDirectory

TASKS: Final = 10
STARTS: Final = 5
QUIET_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 5.0
IMAGE: Final = "homeport-test:latest"


class _Clock:
    """Real time, for the client."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def _homeport(directory: DataDirectory, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "homeport", *arguments, "--data-dir", str(directory.path)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"homeport {' '.join(arguments)}: {done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_seconds(directory: DataDirectory, port: int) -> float:
    """From starting the server's process to its first answer to a signed call, by a client that asks every 5 ms."""
    began = time.monotonic()
    process = programs.start(directory, "server", ["--data-dir", str(directory.path), "--port", str(port)], environ=os.environ)
    while True:
        credentials = directory.credentials()
        if credentials is not None and Api(credentials, _Clock()).answers():  # type: ignore[arg-type]  # the client only reads `now`
            break
        if process.poll() is not None:
            raise RuntimeError(programs.log_tail(directory, "server"))
        time.sleep(0.005)
    seconds = time.monotonic() - began
    process.terminate()
    process.wait(30)
    return seconds


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def _wait_running(api: Api) -> None:
    deadline = time.monotonic() + 120
    while True:
        tasks = api.described("DescribeTasks", "tasks", api.listed("ListTasks", "taskArns", cluster="default"), cluster="default")
        if sum(task["lastStatus"] == "RUNNING" for task in tasks) == TASKS:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the {TASKS} tasks do not run: {tasks}")
        time.sleep(0.2)


def _idle(directory: DataDirectory, port: int) -> dict[str, float]:
    _homeport(directory, "up", "--detach", "--port", str(port))
    credentials = directory.known_credentials()
    api = Api(credentials, _Clock())  # type: ignore[arg-type]  # the client only reads `now`
    container = {"name": "main", "image": IMAGE, "memory": 16, "stopTimeout": 2, "command": ["sleep", "3600"]}
    api.call("RegisterTaskDefinition", family="idle", containerDefinitions=[container])
    api.call("CreateService", cluster="default", serviceName="idle", taskDefinition="idle", desiredCount=TASKS)
    try:
        _wait_running(api)
        time.sleep(SETTLE_SECONDS)
        pids = {program.name: program.pid for program in programs.running(directory)}
        before, began = {name: _cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
        time.sleep(QUIET_SECONDS)
        spent = {name: (_cpu_seconds(pid) - before[name]) / (time.monotonic() - began) * 100 for name, pid in pids.items()}
        return {
            "cpu": sum(spent.values()),
            **{f"cpu {name}": value for name, value in spent.items()},
            **{f"rss {n}": _rss_mb(p) for n, p in pids.items()},
        }
    finally:
        _homeport(directory, "down", "--tasks")
        docker = DockerSocket()
        for left in docker.containers({INSTALLATION_LABEL: credentials.installation_id}):
            docker.remove(left["Id"])


def run() -> list[dict[str, Any]]:
    """The rows of the bench."""
    with tempfile.TemporaryDirectory() as path:
        directory, port = DataDirectory(Path(path)), _free_port()
        starts = [_start_seconds(directory, port) for _ in range(STARTS)]
        idle = _idle(directory, _free_port())

    def row(case: str, value: float, unit: str, bound: float | None = None) -> dict[str, Any]:
        return {"bench": "idle", "case": case, "value": round(value, 3), "unit": unit, "floor": bound, "target": bound}

    return [
        row(f"server start to first answered call, median of {STARTS}", statistics.median(starts), "s", 1.0),
        row("server start to first answered call, slowest", max(starts), "s"),
        row(f"server and agent with {TASKS} idle tasks", idle["cpu"], "% of a core", 2.0),
        row("server alone", idle["cpu server"], "% of a core"),
        row("agent alone", idle["cpu agent"], "% of a core"),
        row("server resident memory", idle["rss server"], "MB", 100.0),
        row("agent resident memory", idle["rss agent"], "MB", 60.0),
    ]
