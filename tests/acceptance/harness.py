"""A running installation, as the acceptance tests see it: from outside, by boto3, the aws CLI, HTTP and the docker command.

Owns: `Installation`, `docker`, `until`. Never imports a part of the product.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "homeport-test:latest"
"""Busybox, built by the fixtures; present on the engine, so that no registry is asked."""


def docker(*arguments: str) -> str:
    """The stripped output of a docker command. Raises CalledProcessError."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def until(condition: Callable[[], Any], *, seconds: float = 30.0, every: float = 0.1) -> bool:
    """Whether `condition` turned true within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every)
    return bool(condition())


def free_port() -> int:
    """A TCP port that nobody listens on at this moment, nor on the 40 after it, which an installation of several servers takes too.

    It lies below the range of outgoing connections: a client that keeps dialling a dead program's port in that range can be given that very
    port for its own end, and then the program cannot listen there again.
    """
    while True:
        port = 12_000 + random.randrange(400) * 50
        if all(_is_free(number) for number in range(port, port + 41)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclasses.dataclass
class Installation:
    """One installation on this machine, made by the fixture of the same name."""

    data_dir: Path
    port: int
    healthy_after_seconds: float = 2.0
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    """Further variables of the environment that `./homeport` is started in."""
    address: str = "127.0.0.1"
    """Where its server listens."""
    ca_file: Path | None = None
    """Whom its clients trust, when it speaks https."""
    inside: tuple[str, ...] = ()
    """What the commands begin with that run on this machine, when it is a network namespace of its own."""

    @property
    def credentials(self) -> dict[str, str]:
        """What the server left for local clients."""
        content: dict[str, str] = json.loads((self.data_dir / "credentials.json").read_text())
        return content

    @property
    def endpoint(self) -> str:
        """URL of the API."""
        return f"{'https' if self.ca_file else 'http'}://{self.address}:{self.port}"

    @property
    def access_key_id(self) -> str:
        """The root key's id."""
        return self.credentials["access_key_id"]

    @property
    def secret_access_key(self) -> str:
        """The root key's secret."""
        return self.credentials["secret_access_key"]

    @property
    def region(self) -> str:
        """The installation's region."""
        return self.credentials["region"]

    def client(self, *, attempts: int = 3) -> Any:
        """A boto3 client of ECS that tries `attempts` times."""
        return boto3.client(
            "ecs",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
            verify=str(self.ca_file) if self.ca_file else None,
            config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=30, max_pool_connections=64),
        )

    @property
    def ecs(self) -> Any:
        """A boto3 client of ECS, made once."""
        if not hasattr(self, "_ecs"):
            self._ecs = self.client()
        return self._ecs

    def homeport(self, *arguments: str, check: bool = True, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run `./homeport ARGUMENTS --data-dir …`."""
        command = [*self.inside, str(ROOT / "homeport"), *arguments, "--data-dir", str(self.data_dir)]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, env=environment)
        if check and done.returncode:
            # Said here, since CalledProcessError keeps what the program said to itself.
            raise subprocess.CalledProcessError(done.returncode, f"{' '.join(command)}\n{done.stdout}{done.stderr}", done.stdout, done.stderr)
        return done

    def up(self, *more: str) -> subprocess.CompletedProcess[str]:
        """`./homeport up --detach` with this installation's port and a short time to health. It writes nothing while nothing happens."""
        settings = ("--set", f"healthy_after_seconds={self.healthy_after_seconds}", "--set", "last_use_seconds=0")
        return self.homeport("up", "--detach", "--port", str(self.port), *settings, *more)

    def pid(self, name: str) -> int:
        """Process id of the program `name` (server or agent)."""
        status = json.loads(self.homeport("status", "--json", check=False).stdout)
        return next(int(process["pid"]) for process in status["processes"] if process["name"] == name)

    def aws(self, *arguments: str) -> Any:
        """The aws CLI's answer as JSON (None when it prints nothing)."""
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_PAGER": "",
            **({"AWS_CA_BUNDLE": str(self.ca_file)} if self.ca_file else {}),
        }
        command = [str(Path(sys.executable).parent / "aws"), *arguments, "--output", "json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def containers(self, *, running: bool = False) -> list[str]:
        """Ids of this installation's containers."""
        flags = [] if running else ["--all"]
        label = f"label=homeport.installation={self.credentials['installation_id']}"
        return docker("ps", "--quiet", "--no-trunc", *flags, "--filter", label).split()

    def verify_journal(self) -> int:
        """Walk the hash chain of a copy of the store, made while the server runs; the number of entries. Fails on any fault."""
        copy = self.data_dir / "journal-copy.sqlite"
        copy.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(self.data_dir / "homeport.sqlite")) as live, contextlib.closing(sqlite3.connect(copy)) as target:
            live.backup(target)
        program = (
            "import asyncio, sys\n"
            "from homeport.store.journal import verify\n"
            "from homeport.store.sqlite import SqliteBackend\n"
            "from homeport.store.tables import TABLES\n"
            "async def main():\n"
            "    backend = SqliteBackend(sys.argv[1])\n"
            "    await backend.load(tuple(table.name for table in TABLES))\n"
            "    verdict = await verify(backend)\n"
            "    await backend.close()\n"
            "    print(verdict.entries) if not verdict.problem else sys.exit(repr(verdict))\n"
            "asyncio.run(main())\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(copy)], check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def get(self, port: int, host: str = "127.0.0.1") -> str | None:
        """The body that GET / on a host port answers, or None when nobody answers."""
        connection = http.client.HTTPConnection(host, port, timeout=2)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def free_port(self) -> int:
        """A TCP port that nobody listens on at this moment."""
        return free_port()

    def stop(self, task: str) -> None:
        """Stop a task and wait until it is STOPPED."""
        self.ecs.stop_task(task=task)
        self.ecs.get_waiter("tasks_stopped").wait(tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
