"""The agent program: builds its parts once, keeps it connected, and ends it quickly.

Owns: the order of start and end, and when a lost connection is built anew. Never touches a container: tasks run on when the agent ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp

import homeport
from homeport.agent import instance, report_line
from homeport.agent.attachments.credentials import CAPABILITIES, TaskRoles
from homeport.agent.backoff import Backoff
from homeport.agent.client import CallFailedError, EcsClient
from homeport.agent.engine.engine import Engine
from homeport.agent.engine.report import TaskReport
from homeport.agent.instance import Registration
from homeport.agent.metadata.credentials import Registry
from homeport.agent.metadata.door import Doors
from homeport.agent.metadata.rules import NftRules, Rules
from homeport.agent.reporter import Reporter
from homeport.agent.runtime.contract import Runtime, RuntimeDescription
from homeport.agent.runtime.docker import Deadlines, DockerRuntime
from homeport.agent.session import House, Session
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.agent.telemetry import Telemetry
from homeport.clock import Clock, SystemClock
from homeport.errors import HomeportError
from homeport.ids import Ids
from homeport.model.installation import rules_table

ID_FILE: Final = "id"
"""In the data directory: the value of the label `homeport.agent` on this agent's containers."""
NORMAL: Final = 1000
"""Close code of a connection that is replaced or has become old."""
ABNORMAL: Final = 1006
"""Stands for a connection that broke, or on which nothing came any more."""
ORDERLY: Final = frozenset({NORMAL, 1001, ABNORMAL, 1011, 1012})
"""Close codes after which the agent comes back at once (agent-protocol.md 5.6; 1012 is our server's restart)."""
REFUSALS_MAX: Final = 3
"""Refused so often in a row, a host was revoked: it asks again as seldom as one whose instance is deregistered. Its tasks run on."""
STEADY_SECONDS: Final = 60.0
"""A connection that lasted this long was a good one: the next failure counts as the first."""
RECONNECT_SECONDS_MAX: Final = 0.05
"""An immediate reconnect waits up to this long by chance, so that a server's restart is not one burst."""

_log = logging.getLogger(__name__)


async def run(settings: AgentSettings) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises StateLockedError when the data directory has another agent, RegistrationRefusedError when the control plane will not take this host.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = SystemClock()
    deadlines = Deadlines(
        create=settings.container_create_timeout_seconds,
        start=settings.container_start_timeout_seconds,
        pull=settings.image_pull_timeout_seconds,
        pull_silence=settings.image_pull_inactivity_seconds,
    )
    runtime = DockerRuntime(clock=clock, host=settings.docker_host, deadlines=deadlines)
    try:
        agent = Agent(settings, runtime=runtime, clock=clock, ids=Ids())
        _tell_id(settings, agent)
        if settings.enable_task_iam_role and settings.docker_host.startswith("unix:"):  # else the containers are on another machine
            agent.lead_containers(NftRules(rules_table(settings.installation_id, agent.id)))
        await agent.run(stop)
    finally:
        await runtime.close()


def _tell_id(settings: AgentSettings, agent: Agent) -> None:
    """So that the command line knows this agent's containers from those of another one on the same Docker."""
    Path(settings.data_dir, ID_FILE).write_text(agent.id, encoding="ascii")


class Agent:
    """One agent with its parts. `run` it once."""

    def __init__(
        self, settings: AgentSettings, *, runtime: Runtime, clock: Clock, ids: Ids, state: State | None = None, client: EcsClient | None = None
    ) -> None:
        """`state` and `client`: for simulations, which have neither a disk nor a network; by default those that the settings name."""
        self._settings = settings
        self._runtime = runtime
        self._clock = clock
        self._ids = ids
        self._state = state or State.open(settings.data_dir)
        self._client = client or EcsClient(settings, clock)
        self._engine = Engine(
            runtime=runtime, state=self._state, clock=clock, ids=ids, settings=settings, report=self._report, on_health=self._health_changed
        )
        self._backoff = Backoff(settings, clock=clock, ids=ids)
        self._reporter = Reporter(
            client=self._client, state=self._state, settings=settings, backoff=self._backoff, acknowledged=self._engine.acknowledged
        )
        self._telemetry = Telemetry(engine=self._engine, ping=runtime.ping, clock=clock, cluster=settings.cluster)
        self._house = House(
            engine=self._engine,
            state=self._state,
            report=self._report,
            heard_heartbeat=self._telemetry.heartbeat,
            use_line=self._reporter.use,
            answer_seconds=settings.call_timeout_seconds,
        )
        credentials = self._client.credentials
        host = credentials.host if credentials is not None else None
        self._registration = Registration(client=self._client, state=self._state, settings=settings, backoff=self._backoff, ids=ids, host=host)
        self._arn = ""
        self._endpoints: dict[str, str] = {}
        self._description: RuntimeDescription | None = None
        self._publishing: aiohttp.ClientWebSocketResponse | None = None
        self._roles: TaskRoles | None = None

    def lead_containers(self, rules: Rules) -> None:
        """Let tasks with a role run here: `rules` lead their containers to this agent. To be called before `run`."""
        registry = Registry()
        doors = Doors(registry, self._client.dial)
        roles = TaskRoles(registry=registry, doors=doors, rules=rules, clock=self._clock, api_port=self._settings.container_api_port)
        self._engine.on_event = roles.follow
        self._house = dataclasses.replace(self._house, take_credentials=roles.take)
        self._roles = roles

    @property
    def id(self) -> str:
        """What its containers are known by."""
        return self._engine.agent_id

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, or until a part fails for good (its error is raised)."""
        work = asyncio.get_running_loop().create_task(self._work())
        stopped = asyncio.get_running_loop().create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, stopped):
                task.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)
            await self._close()

    async def _close(self) -> None:
        await self._engine.close()
        if self._roles is not None:
            await self._roles.close()
        await self._reporter.close()
        await self._client.close()
        self._state.close()

    def _report(self, report: TaskReport) -> None:
        self._reporter.report(report)

    def _health_changed(self, arn: str) -> None:
        del arn  # everything is published together
        self._telemetry.publish_soon()

    async def _work(self) -> None:
        description = await self._wait_for_runtime()
        if self._roles is not None and await self._roles.start():
            self._registration.capabilities = CAPABILITIES
        await self._engine.start()
        self._reporter.start()
        renewing = asyncio.create_task(self._renew()) if self._client.renewable else None
        try:
            await self._register_and_converse(description)
        finally:
            if renewing is not None:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self) -> None:
        """New credentials for this host when they are due, as long as the agent runs."""
        refused = 0
        while self._client.credentials is not None:
            due = self._client.credentials.due_seconds()
            if due > 0:
                await self._clock.sleep(due * self._ids.uniform(1.0, 1.1))
                continue  # a call may have renewed them meanwhile
            try:
                await self._client.renew()
                refused = 0
                continue
            except CallFailedError as error:
                refused += 1
                _log.error("this host's credentials are not renewed: %s", error)
            except HomeportError as error:
                _log.warning("this host's credentials could not be renewed yet: %s", error)
            await self._backoff.wait(1) if refused < REFUSALS_MAX else await self._clock.sleep(self._settings.inactive_wait_seconds)

    async def _register_and_converse(self, description: RuntimeDescription) -> None:
        self._arn = await self._registration.register(description)
        self._description = description
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep("the control connection", self._converse))
                group.create_task(self._keep("the telemetry connection", self._publish))
        except* HomeportError as errors:
            raise errors.exceptions[0] from None

    async def _wait_for_runtime(self) -> RuntimeDescription:
        """The runtime's description, once it answers."""
        said = False
        while True:
            try:
                return await self._runtime.describe()
            except HomeportError as error:
                if not said:
                    _log.warning("waiting for the container runtime: %s", error)
                said = True
            await self._clock.sleep(self._settings.backoff_base_seconds)

    async def _keep(self, what: str, one_round: Callable[[], Awaitable[int]]) -> None:
        """Connect again whenever `one_round` ends, at once after an orderly end, else after a growing delay."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            refused = False
            try:
                code = await one_round()
                _log.info("%s ended (%d) after %.1f s", what, code, self._clock.monotonic() - began)
            except CallFailedError as error:
                _log.warning("%s: %s", what, error)
                code, refused = 0, True
                if await self._refused(error):
                    continue
            except HomeportError as error:
                _log.info("%s: %s", what, error)
                code = 0
            except Exception:  # a fault in one message must not end the care for what runs
                _log.exception("%s failed", what)
                code = 0
            failures = 0 if self._clock.monotonic() - began >= STEADY_SECONDS else failures + 1
            if code in ORDERLY and failures <= 1:
                await self._clock.sleep(self._ids.uniform(0.0, RECONNECT_SECONDS_MAX))
            else:
                await self._backoff.wait(failures, patient=refused)

    async def _refused(self, error: CallFailedError) -> bool:
        """Do what the control plane's refusal asks for; return whether to connect again at once."""
        if error.code == "InactiveInstanceException":
            # Deregistered: the tasks here keep running, as the API promises, and the operator may yet end this agent.
            await self._clock.sleep(self._settings.inactive_wait_seconds * self._ids.uniform(1.0, 1.1))
            return True
        if error.code == "AccessDeniedException" and self._client.renewable and not await self._is_still_host():
            await self._clock.sleep(self._settings.inactive_wait_seconds * self._ids.uniform(1.0, 1.1))
            return True
        if error.code == "InvalidInstanceException" and self._description is not None:
            if instance.saved_arn(self._state) == self._arn:
                instance.forget(self._state)
                self._arn = await self._registration.register(self._description)
            else:  # the other connection has registered anew meanwhile
                self._arn = instance.saved_arn(self._state) or self._arn
        return False

    async def _is_still_host(self) -> bool:
        """Whether the control plane gives this host other credentials; not when it was revoked. Its tasks run on either way."""
        try:
            await self._client.renew()
        except CallFailedError as error:
            _log.error("this machine is no host of the installation any more: %s; its tasks run on, and it asks again later", error)
            return False
        except HomeportError:
            return True
        return True

    # -- one round of each connection --------------------------------------------------------------------------------------

    async def _converse(self) -> int:
        endpoint = await self._endpoint("endpoint")
        query = {
            "agentHash": "homeport",
            "agentVersion": homeport.__version__,
            "clusterArn": self._settings.cluster,
            "containerInstanceArn": self._arn,
            "dockerVersion": f"DockerVersion: {self._description.version if self._description else ''}",
            "protocolVersion": "2",
            "sendCredentials": "true",
            "seqNum": "1",
            report_line.QUERY: "1",
        }
        socket = await self._client.connect(endpoint, query, ping=True)
        try:
            self._backoff.nudge()
            silence_seconds = self._settings.silence_seconds * self._ids.uniform(1.0, 2.0)
            code = await Session(self._house, socket, silence_seconds=silence_seconds).run()
        finally:
            await socket.close(code=1001)
        await self._choose_server(endpoint, code)
        return code

    async def _choose_server(self, endpoint: str, code: int) -> None:
        """After the control connection to `endpoint` ended with `code`: where to go on, if there are several servers."""
        if code == ABNORMAL:
            self._client.leave_server_of(endpoint)
            if self._publishing is not None:  # to the same server; nobody pings there
                await self._publishing.close(code=1001)
        elif code == NORMAL:
            await self._client.return_home()

    async def _publish(self) -> int:
        endpoint = await self._endpoint("telemetryEndpoint")
        query = {
            "agentHash": "homeport",
            "agentVersion": homeport.__version__,
            "cluster": self._settings.cluster,
            "containerInstance": self._arn,
            "dockerVersion": self._description.version if self._description else "",
        }
        self._publishing = socket = await self._client.connect(endpoint, query)
        try:
            await self._telemetry.run(socket, self._arn)
            return socket.close_code or ABNORMAL
        finally:
            self._publishing = None
            await socket.close(code=1001)

    async def _endpoint(self, name: str) -> str:
        """Where to connect: asked anew each time; the last answer serves when the question fails."""
        try:
            answer = await self._client.call("DiscoverPollEndpoint", {"containerInstance": self._arn, "cluster": self._settings.cluster})
            self._endpoints = {key: value for key, value in answer.items() if isinstance(value, str)}
        except HomeportError:
            if name not in self._endpoints or self._client.several:  # there is another server to ask
                raise
        return self._endpoints[name]
