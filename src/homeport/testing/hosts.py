"""Hosts of a simulation: a container runtime that is only numbers, a disk that is a dict, and the real agent between them.

Owns: `Host` (its life: agent crash, power cut, loss, reinstallation), `HostRuntime`, `VirtualState`, `VirtualClient`. Never decides when something
happens to a host: `faults.py` does. The agent is `agent.main.Agent` with its engine, session, reporter and registration as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import msgspec

from homeport.agent.client import SILENT_SERVER_SECONDS, EcsClient, UnreachableError
from homeport.agent.engine.config import LABEL_AGENT, LABEL_CONTAINER, LABEL_TASK
from homeport.agent.instance import saved_arn
from homeport.agent.main import Agent
from homeport.agent.runtime.contract import ImageObservation
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.testing.network import SERVER, Ask, Link, Network
from homeport.testing.runtime import FakeContainer, FakeRuntime
from homeport.testing.virtual_loop import Chance, Process, ProcessClock, VirtualLoop, current_process

RESTART_SECONDS: Final = 2.0
"""How long the host's init waits before it starts an agent again that ended."""
CHECK_SECONDS: Final = 4.0
"""From a container's start to the first result of its health check."""

Disk = dict[str, dict[str, bytes]]


class Observer(Protocol):
    """Who is told what happens on hosts (the invariants and the trace)."""

    def container_started(self, host: str, task_arn: str, container: str) -> None:
        """A container's program began to run."""
        ...

    def agent_ended(self, host: str, error: BaseException) -> None:
        """An agent ended by itself."""
        ...

    def agent_died(self, host: Host) -> None:
        """An agent died at a step of its own: kill it and start it again."""
        ...


class VirtualState(State):
    """The agent's journal on a disk that is a dict. `fenced`: the process is dead, and what still unwinds writes nothing."""

    def __init__(self, disk: Disk, step: Callable[[], bool] | None = None) -> None:
        """`step` is asked before and after each write; when it says False the process has died at that point."""
        super().__init__(Path("/nowhere"), -1, -1, disk)
        self.fenced = False
        self._step = step

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Create or replace a record."""
        if self._lives():
            self._kinds.setdefault(kind, {})[key] = value
            self._lives()

    def delete(self, kind: str, key: str) -> None:
        """Remove a record, if it is there."""
        if self._lives():
            self._kinds.get(kind, {}).pop(key, None)
            self._lives()

    def _lives(self) -> bool:
        if not self.fenced and self._step is not None and not self._step():
            self.fenced = True
        return not self.fenced

    async def sync(self) -> None:
        """Everything is on the disk already."""

    def close(self) -> None:
        """Nothing is open."""


class VirtualClient(EcsClient):
    """The agent's client over the simulation's network; what it sends is not signed."""

    def __init__(self, network: Network, link: Link, *, endpoints: tuple[str, ...], timeout_seconds: float, ping_seconds: float) -> None:
        # Not the parent's: it would open a pool of real connections.
        self._endpoints = endpoints
        self._current = 0
        self._ping_seconds = ping_seconds
        self._network = network
        self._link = link
        self._seconds = min(timeout_seconds, SILENT_SERVER_SECONDS) if self.several else timeout_seconds

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """One call of the API; see `EcsClient.call`."""
        endpoint = self.endpoint
        ask = Ask(operation=operation, body=msgspec.json.encode(request), to=endpoint)
        try:
            return await self._network.call(self._link, ask, timeout_seconds=self._seconds)
        except UnreachableError:
            self._leave(endpoint)
            raise

    async def return_home(self) -> None:
        """See `EcsClient.return_home`; a home that does not serve is left again by the next call."""
        self._current = 0

    async def connect(self, endpoint: str, query: Mapping[str, str], *, ping: bool = False) -> aiohttp.ClientWebSocketResponse:
        """A websocket; see `EcsClient.connect`."""
        url = f"{endpoint.rstrip('/')}/ws?{'&'.join(f'{name}={value}' for name, value in query.items())}"
        try:
            socket: Any = await self._network.connect(self._link, url, timeout_seconds=self._seconds)
            if ping and self.several:
                socket.ping(self._ping_seconds)
        except UnreachableError:
            self.leave_server_of(endpoint)
            raise
        return socket  # type: ignore[no-any-return]  # as much of it as the agent uses

    async def close(self) -> None:
        """Connections end with the process."""


class HostRuntime(FakeRuntime):
    """The runtime of one host. Programs belong to the host, not to the agent that started them. Pulls take their time."""

    def __init__(self, clock: ProcessClock, host: Host, *, images: tuple[str, ...], pullable: Mapping[str, float], chance: Chance) -> None:
        """`pullable`: image → mean seconds that its pull takes."""
        super().__init__(clock, images=images)
        self._host = host
        self._chance = chance
        self._pull_seconds = pullable
        self.pullable = {name: ImageObservation(id=f"sha256:{name}", digest=f"sha256:{name}") for name in pullable}
        self.before = self._delay
        self.after = self._answer
        self.slowness = 1.0
        """Factor of every call's time."""

    async def _answer(self, method: str, subject: str) -> None:
        await self._step()

    async def _step(self) -> None:
        """The caller may die here: before a call has its effect, or after it."""
        if not self._host.step():
            await asyncio.get_running_loop().create_future()

    async def _delay(self, method: str, subject: str) -> None:
        await self._step()
        if method == "pull":
            mean = self._pull_seconds.get(subject, 1.0)
            await self._clock.sleep(self._chance.between(0.5, 1.5) * mean * self.slowness)
        elif method in ("create", "start"):
            await self._clock.sleep(self._chance.between(0.01, 0.1) * self.slowness)

    async def start(self, container_id: str) -> None:
        """Start its program, which outlives whoever asked."""
        container = self.containers.get(container_id)
        runs = container.run if container is not None else 0
        with self._host.machine.running():
            await super().start(container_id)
            if container is not None and container.run > runs:
                self._started(container)

    def _started(self, container: FakeContainer) -> None:
        self._host.observer.container_started(self._host.name, container.labels.get(LABEL_TASK, ""), container.labels.get(LABEL_CONTAINER, ""))
        if container.health is not None:
            self._host.machine.spawn(self._check(container, container.run))

    async def _check(self, container: FakeContainer, run: int) -> None:
        await self._clock.sleep(CHECK_SECONDS)
        if container.run == run and container.status == "running" and container.id in self.containers:
            self.report_health(container.name, "unhealthy" if "sick" in container.text and self._chance.happens(0.4) else "healthy")

    @property
    def available(self) -> bool:
        """Whether it can be reached."""
        return self._available

    def power_off(self) -> None:
        """Every program ends at once, and nobody is told."""
        self.break_connection()
        for container in self.containers.values():
            if container.status == "running":
                container.status, container.exit_code, container.finished_at = "exited", 137, self._clock.now()


class Host:
    """One machine with an agent that its init keeps running."""

    def __init__(  # noqa: PLR0913 - what a machine consists of
        self,
        name: str,
        *,
        loop: VirtualLoop,
        network: Network,
        chance: Chance,
        settings: AgentSettings,
        observer: Observer,
        images: tuple[str, ...],
        pullable: Mapping[str, float],
    ) -> None:
        self.name = name
        self.settings = settings
        self.link = Link(name)
        self.clock = ProcessClock(loop)
        self.observer = observer
        self._network = network
        self._chance = chance
        self._images = images
        self._pullable = pullable
        self._lives = 0
        self._installations = 0
        self._state: VirtualState | None = None
        self._agent: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.fragile = 0.0
        """Probability that the agent dies at a step: before or after a call to the runtime or a write to its disk."""
        self.lost = False
        """The machine is gone for good."""
        self.on = False
        self._install()

    def _install(self) -> None:
        self._installations += 1
        self.disk: Disk = {}
        self.machine = Process(f"{self.name} machine")
        self.runtime = HostRuntime(
            self.clock, self, images=self._images, pullable=self._pullable, chance=self._chance.child(f"runtime{self._installations}")
        )

    @property
    def zone(self) -> str:
        """Its availability zone."""
        return self.settings.zone

    @property
    def instance_arn(self) -> str:
        """The ARN that its agent keeps, or ""."""
        return saved_arn(VirtualState(self.disk))

    @property
    def agent_id(self) -> str:
        """What the containers of this agent's state are labelled with."""
        return self.disk.get("engine", {}).get("agent", b"").decode()

    # -- life ------------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Start the machine: containers stay as they were left, the agent starts."""
        if not self.on and not self.lost:
            self.on = True
            self.runtime.restore_connection()
            self.start_agent()

    def start_agent(self) -> None:
        """Start the agent, unless it runs; again whenever it ends by itself."""
        if self.on and (self._supervisor is None or self._supervisor.done()):
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    async def _supervise(self) -> None:
        while self.on:
            process = self._agent = Process(f"{self.name} agent")
            self._lives += 1
            ids = self._chance.ids.child(f"agent{self._lives}")
            self._state = VirtualState(self.disk, self.step)
            settings = self.settings
            client = VirtualClient(
                self._network,
                self.link,
                endpoints=settings.endpoints,
                timeout_seconds=settings.call_timeout_seconds,
                ping_seconds=settings.ping_seconds,
            )
            with process.running():
                agent = Agent(self.settings, runtime=self.runtime, clock=self.clock, ids=ids, state=self._state, client=client)
            try:
                await process.spawn(agent.run(asyncio.Event()))
            except asyncio.CancelledError:
                if not process.dead:
                    raise
                return
            except Exception as error:  # whatever ends an agent, its host starts it again
                self.observer.agent_ended(self.name, error)
            await process.kill()
            await self.clock.sleep(RESTART_SECONDS)

    def step(self) -> bool:
        """Whether the agent survives its next step. When not, it is killed at once, and started again some time later."""
        process = current_process()
        if process is None or process is not self._agent or not self._chance.happens(self.fragile):
            return True
        self.observer.agent_died(self)
        return False

    async def forget(self) -> None:
        """The agent's disk is lost; its containers run on, and belong to nobody that it knows."""
        await self.kill_agent()
        self.disk = {}
        self.start_agent()

    async def remove_strangers(self) -> None:
        """Remove the containers that an earlier state of the agent made."""
        for container in [item for item in self.runtime.containers.values() if item.labels.get(LABEL_AGENT) != self.agent_id]:
            container.status = "exited"
            del self.runtime.containers[container.id]

    async def kill_agent(self) -> None:
        """End the agent where it stands. Containers run on."""
        process, self._agent = self._agent, None
        if self._state is not None:
            self._state.fenced = True
        if process is not None:
            for socket in tuple(self.link.sockets):
                socket.snap()
            await process.kill()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None

    async def power_off(self) -> None:
        """A power cut: agent and containers end; the network does not say so."""
        if not self.on:
            return
        self.on = False
        for socket in tuple(self.link.sockets):
            socket.dead = True
            self.link.sockets.pop(socket, None)
        await self.kill_agent()
        self.runtime.power_off()

    async def lose(self) -> None:
        """The machine is gone for good."""
        self.lost = True
        await self.power_off()
        await self.machine.kill()

    async def reinstall(self) -> None:
        """A new machine under the same name: nothing of the old one is left."""
        await self.power_off()
        await self.machine.kill()
        self.lost = False
        self._install()
        self.power_on()

    def own_running(self) -> dict[str, list[str]]:
        """Task ARN → names of its running containers, of those that this agent's state made."""
        found: dict[str, list[str]] = {}
        for container in self.runtime.containers.values():
            if container.status == "running" and container.labels.get(LABEL_AGENT) == self.agent_id:
                found.setdefault(container.labels[LABEL_TASK], []).append(container.labels[LABEL_CONTAINER])
        return found


def host_settings(name: str, *, cluster: str, zone: str, cpu: int, memory_mib: int, **others: Any) -> AgentSettings:
    """Settings of a simulated host's agent."""
    settings = AgentSettings(
        endpoint=SERVER,
        region="us-east-1",
        access_key_id="AKIA",
        secret_access_key="simulated",  # noqa: S106 - nothing is signed in a simulation
        cluster=cluster,
        installation_id="0123456789abcdef",
        data_dir="/nowhere",
        zone=zone,
        instance_id=f"i-{name}",
        cpu=cpu,
        memory_mib=memory_mib,
        image_pull_behavior="prefer-cached",
        container_cleanup_seconds=120.0,
        call_timeout_seconds=20.0,
    )
    return msgspec.structs.replace(settings, **others)
