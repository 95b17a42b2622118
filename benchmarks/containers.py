"""What the benchmarks on real containers share: one Docker, a name of their own, and an engine on it.

Owns: the containers of a benchmark and their removal.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

from homeport.acs.messages import ContainerPayload, TaskPayload
from homeport.agent.attachments.volumes import VolumePlan
from homeport.agent.engine import config
from homeport.agent.engine.engine import Engine
from homeport.agent.engine.report import TaskReport
from homeport.agent.runtime.contract import ResourceLimits
from homeport.agent.runtime.docker import DockerRuntime
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.clock import SystemClock
from homeport.ids import Ids

IMAGE = "homeport-test:latest"
COMMAND = ["sleep", "1000"]


OnReport = Callable[["RunningEngine", TaskReport], None]


class RunningEngine:
    """An engine at work, and what it has reported."""

    def __init__(self, fleet: Fleet, state: State, on_report: OnReport | None) -> None:
        self._fleet = fleet
        self._on_report = on_report
        self._reports: Counter[str] = Counter()
        self._heard = asyncio.Event()
        self._number = 0
        settings = AgentSettings(endpoint="", region="us-east-1", access_key_id="", secret_access_key="", installation_id=fleet.name)
        self.engine = Engine(runtime=fleet.runtime, state=state, clock=fleet.clock, ids=Ids(), settings=settings, report=self._report)

    async def until(self, status: str, count: int) -> None:
        """Return once that many reports of `status` were made."""
        while self._reports[status] < count:
            self._heard.clear()
            await self._heard.wait()

    async def end(self) -> None:
        """Remove every container; the engine learns it from the events."""
        count = len([task for task in self.engine.tasks() if task[2] != "STOPPED"])
        wanted = self._reports["STOPPED"] + count
        await self._fleet.clear()
        await self.until("STOPPED", wanted)

    def _report(self, report: TaskReport) -> None:
        self._reports[report.status] += 1
        self._heard.set()
        if report.status == "STOPPED":
            asyncio.get_running_loop().call_soon(self.engine.acknowledged, report.arn)
        if self._on_report is not None:
            self._on_report(self, report)


class Fleet:
    """The containers of one benchmark."""

    def __init__(self, name: str) -> None:
        self.clock = SystemClock()
        self.name = f"homeport-bench-{name}-{Ids().name()}"
        self.runtime = DockerRuntime(clock=self.clock)
        self.labels = {config.LABEL_INSTALLATION: self.name}

    def task(self, number: int) -> TaskPayload:
        """A task of one container."""
        return TaskPayload(
            arn=f"arn:aws:ecs:us-east-1:123456789012:task/bench/{self.name}-{number}",
            desiredStatus="RUNNING",
            family="bench",
            version="1",
            containers=[ContainerPayload(name="c", image=IMAGE, essential=True, command=COMMAND, stopTimeout=1)],
        )

    def document(self, number: int) -> config.CreatePlan:
        """The same container as the engine would make it, for the half without one."""
        identity = config.Identity(installation=self.name, agent="raw", cluster="bench")
        return config.create_plan(self.task(number), "c", identity=identity, volumes=VolumePlan(), limits=ResourceLimits())

    async def launch(self, number: int) -> str:
        """Create and start it over the raw API; its id."""
        plan = self.document(number)
        container = await self.runtime.create(plan.name, plan.document)
        await self.runtime.start(container)
        return container

    @contextlib.asynccontextmanager
    async def engine(self, on_report: OnReport | None = None) -> AsyncIterator[RunningEngine]:
        """A started engine with a state of its own."""
        with tempfile.TemporaryDirectory() as directory:
            state = State.open(directory)
            running = RunningEngine(self, state, on_report)
            await running.engine.start()
            yield running
            await running.engine.close()
            state.close()

    async def clear(self, labels: Mapping[str, str] | None = None) -> None:
        """Remove every container of this benchmark, or those with other labels."""
        await asyncio.gather(*(self.runtime.remove(item.id) for item in await self.runtime.list_containers(labels or self.labels)))


@contextlib.asynccontextmanager
async def fleet(name: str) -> AsyncIterator[Fleet]:
    """A fleet, cleared at the end whatever happens."""
    containers = Fleet(name)
    try:
        yield containers
    finally:
        await containers.clear()
        await containers.runtime.close()
