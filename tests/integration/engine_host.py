"""A host for integration tests: the real Docker, an installation id of its own, and engines that come and go on one data directory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from homeport.acs.messages import ContainerPayload, DockerConfig, TaskPayload
from homeport.agent.attachments.cgroup import LegacyCgroups
from homeport.agent.engine import config
from homeport.agent.engine.engine import Engine
from homeport.agent.engine.report import ContainerReport, TaskReport
from homeport.agent.runtime.docker import DockerRuntime
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.clock import SystemClock
from homeport.ids import Ids

IMAGE = "homeport-test:latest"
WAIT_SECONDS = 60.0


def container(name: str = "c", command: str = "sleep 1000", **members: Any) -> ContainerPayload:
    docker = {"config": members.pop("config", {}), "hostConfig": members.pop("host", {})}
    return ContainerPayload(
        **{
            "name": name,
            "image": IMAGE,
            "essential": True,
            "command": ["/bin/sh", "-c", command],
            "stopTimeout": 1,
            "dockerConfig": DockerConfig(**{key: json.dumps(value) for key, value in docker.items()}),
        }
        | members
    )


def task(number: int, *containers: ContainerPayload, **members: Any) -> TaskPayload:
    """A task whose ARN is the same in every process that names the same installation."""
    cluster = members.pop("cluster", "default")
    ident = hashlib.sha256(f"{cluster}/{number}".encode()).hexdigest()[:32]
    arn = f"arn:aws:ecs:us-east-1:123456789012:task/{cluster}/{ident}"
    defaults = {"arn": arn, "desiredStatus": "RUNNING", "family": "it", "version": "1", "containers": list(containers) or [container()]}
    return TaskPayload(**defaults | members)


class Host:
    """See the module."""

    def __init__(self, directory: Path, *, installation: str = "", docker_host: str | None = None, cleanup_seconds: float = 10_800.0) -> None:
        self.directory = directory
        self.installation = installation or f"homeport-it-{Ids().name()}"
        self.clock = SystemClock()
        self.runtime = DockerRuntime(clock=self.clock, host=docker_host)
        self.settings = AgentSettings(
            endpoint="",
            region="us-east-1",
            access_key_id="",
            secret_access_key="",
            installation_id=self.installation,
            container_cleanup_seconds=cleanup_seconds,
        )
        self.reports: list[TaskReport] = []
        self._idents: set[str] = set()
        self.engine: Engine
        self._state: State
        self._changed = asyncio.Event()

    def task(self, number: int, *containers: ContainerPayload, **members: Any) -> TaskPayload:
        made = task(number, *containers, cluster=self.installation, **members)
        self._idents.add(made.arn.rsplit("/", 1)[-1])
        return made

    async def boot(self) -> None:
        self._state = State.open(self.directory)
        self.engine = Engine(
            runtime=self.runtime,
            state=self._state,
            clock=self.clock,
            ids=Ids(),
            settings=self.settings,
            report=self._report,
            on_health=lambda _: self._changed.set(),
        )
        await self.engine.start()

    async def die(self) -> None:
        await self.engine.close()
        self._state.close()

    def _report(self, report: TaskReport) -> None:
        self.reports.append(report)
        self._changed.set()

    async def until(self, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """The condition's value once it holds; it is looked at after each report and each change of health."""
        async with asyncio.timeout(seconds):
            while True:
                self._changed.clear()
                value = condition()
                if value:
                    return value
                await self._changed.wait()

    def last(self, payload: TaskPayload, status: str) -> TaskReport | None:
        return next((report for report in reversed(self.reports) if report.arn == payload.arn and report.status == status), None)

    async def reported(self, payload: TaskPayload, status: str, seconds: float = WAIT_SECONDS) -> TaskReport:
        report: TaskReport = await self.until(lambda: self.last(payload, status), seconds)
        return report

    async def run(self, payload: TaskPayload, status: str = "RUNNING") -> TaskReport:
        self.engine.submit(payload)
        return await self.reported(payload, status)

    async def stop(self, payload: TaskPayload) -> TaskReport:
        self.engine.submit(TaskPayload(arn=payload.arn, desiredStatus="STOPPED"))
        return await self.reported(payload, "STOPPED")

    async def outcome(self, number: int, command: str, **members: Any) -> tuple[int | None, str]:
        """Exit code and output of a one-container task."""
        task_members = {key: members.pop(key) for key in ("networkMode", "volumes", "cpu", "memory", "pidMode", "ipcMode") if key in members}
        payload = self.task(number, container(command=command, **members), **task_members)
        report = await self.run(payload, "STOPPED")
        [entry] = report.containers
        assert entry.runtime_id, entry.reason
        return entry.exit_code, await self.output(entry)

    async def output(self, entry: ContainerReport) -> str:
        return b"".join([data async for _, data in self.runtime.logs(entry.runtime_id or "")]).decode().strip()

    async def raw(self, payload: TaskPayload, name: str = "c") -> dict[str, Any]:
        """Docker's own inspection."""
        found: dict[str, Any] = await self.runtime._call("GET", f"/containers/{config.container_name(payload, name)}/json")
        return found

    async def containers(self) -> dict[str, str]:
        """Status of every container of the installation, by name."""
        listed = await self.runtime.list_containers({config.LABEL_INSTALLATION: self.installation})
        return {item.name: item.status for item in listed}

    async def clear(self) -> None:
        for item in await self.runtime.list_containers({config.LABEL_INSTALLATION: self.installation}):
            await self.runtime.remove(item.id)
        for ident in self._idents:
            await LegacyCgroups().remove(ident)
        await self.runtime.close()


@contextlib.asynccontextmanager
async def booted(directory: Path, **options: Any) -> AsyncIterator[Host]:
    """A host with a running engine; its containers are removed at the end."""
    host = Host(directory, **options)
    try:
        await host.boot()
        yield host
        await host.die()
    finally:
        await host.clear()
