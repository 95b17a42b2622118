"""A whole Homeport for a benchmark: server and agent as a user starts them, in a temporary directory.

Owns: its start, its end, and the removal of its containers. Never touches an existing installation.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks.containers import COMMAND, IMAGE

from homeport.agent.engine import config
from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.clock import SystemClock

POLL_SECONDS = 0.02


class Product:
    """One running installation. Its calls are real, signed calls."""

    def __init__(self, directory: DataDirectory) -> None:
        credentials = directory.known_credentials()
        self.labels = {config.LABEL_INSTALLATION: credentials.installation_id}
        self._api = Api(credentials, SystemClock())

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One call of the API."""
        return await asyncio.to_thread(self._api.call, operation, **parameters)

    async def register(self) -> None:
        """The task definition `bench`: the same container as every other half of a benchmark makes."""
        container = {"name": "c", "image": IMAGE, "memoryReservation": 16, "stopTimeout": 2, "command": COMMAND}
        await self.call("RegisterTaskDefinition", family="bench", containerDefinitions=[container])

    async def until_running(self, count: int) -> None:
        """Return once `count` tasks are RUNNING, as the API has it."""
        while True:
            described = await self.call("DescribeClusters", clusters=["default"])
            if described["clusters"][0]["runningTasksCount"] >= count:
                return
            await SystemClock().sleep(POLL_SECONDS)


def _homeport(path: str, *arguments: str) -> None:
    command = [sys.executable, "-P", "-m", "homeport", *arguments, "--data-dir", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"homeport {' '.join(arguments)}: {done.stderr}")


@contextlib.asynccontextmanager
async def product() -> AsyncIterator[Product]:
    """A started installation with this machine as its one instance."""
    with tempfile.TemporaryDirectory() as path:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        await asyncio.to_thread(_homeport, path, "up", "--detach", "--port", str(port))
        try:
            made = Product(DataDirectory(Path(path)))
            await made.register()
            yield made
        finally:
            await asyncio.to_thread(_homeport, path, "down", "--tasks")
