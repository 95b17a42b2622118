"""Simulated agents for scale: thousands of instances in one process, which speak to a real server over real sockets.

Owns: `Fleet` (registers, connects, takes payloads, reports) and the runtime under it, in which a task is RUNNING a given time after its payload and
STOPPED a given time after its stop. Never starts a container. `testing/agent.py` is the agent for tests of one conversation; this one is for
figures, so an agent costs two sockets and a task a small object.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from homeport.acs.messages import (
    AckRequest,
    HeartbeatAckRequest,
    HeartbeatMessage,
    InstanceStatus,
    PayloadMessage,
    PublishInstanceStatusRequest,
    PublishMetadata,
    StateReport,
    StateReportsAck,
    StateReportsOffer,
    StateReportsRequest,
    TaskManifestMessage,
    TaskPayload,
    decode,
    encode,
)
from homeport.clock import Clock
from homeport.iam.sigv4 import Credentials
from homeport.ids import Ids
from homeport.testing.wire import HttpPool, WebSocketClient, WireError, handshake

TICK_SECONDS: Final = 0.02
RETRY_SECONDS: Final = 1.0
"""After a report that no answer came to, and between two attempts to connect."""
CONNECTING_MAX: Final = 200
"""Handshakes under way at a time."""
FIRST_HOST_PORT: Final = 32_768
CAPABILITIES: Final = (
    "ecs.capability.full-sync",
    *(f"com.amazonaws.ecs.capability.docker-remote-api.1.{number}" for number in range(17, 45)),
    "com.amazonaws.ecs.capability.logging-driver.json-file",
    "ecs.capability.container-health-check",
    "ecs.capability.container-ordering",
)

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class FleetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the instances are like."""

    instances: int
    cluster: str = "default"
    zones: int = 3
    cpu: int = 65_536
    """CPU units of an instance."""
    memory_mib: int = 262_144
    start_seconds: float = 0.0
    """From a task's payload to its report of RUNNING."""
    stop_seconds: float = 0.0
    """From a task's stop to its report of STOPPED."""
    connections: int = 32
    """HTTP connections that all agents of the process share."""
    http_reports: bool = False
    """Report over HTTP, as upstream agents do, although the server takes reports on the control connection."""
    telemetry: bool = True
    """Whether each agent also keeps the telemetry connection and publishes on it with every heartbeat, as the real one does."""


class SimulatedTask(msgspec.Struct):
    """A task as its agent holds it."""

    arn: str
    containers: tuple[tuple[str, tuple[tuple[int, int, str], ...]], ...]
    """Per container its name and (container port, host port, protocol) of each mapping."""
    status: str = "PENDING"
    desired: str = "RUNNING"


class SimulatedInstance:
    """One agent: its two connections and its tasks."""

    __slots__ = ("_fleet", "_number", "_outgoing", "_ports", "_waiting", "arn", "control", "line", "tasks", "telemetry")

    def __init__(self, fleet: Fleet, arn: str) -> None:
        self._fleet = fleet
        self._ports = FIRST_HOST_PORT
        self.arn = arn
        self.control: WebSocketClient | None = None
        self.telemetry: WebSocketClient | None = None
        self.tasks: dict[str, SimulatedTask] = {}
        self.line = False
        """Whether the server takes reports on the control connection."""
        self._number = 0
        self._outgoing: list[StateReport] = []
        self._waiting: dict[int, bytes] = {}

    def heard(self, frame: bytes) -> None:
        """One message on the control connection."""
        message = decode(frame)
        control, fleet = self.control, self._fleet
        if control is None:
            return
        if isinstance(message, PayloadMessage):
            for payload in message.tasks:
                self._take(payload)
            control.send(encode(AckRequest(cluster=message.clusterArn, containerInstance=self.arn, messageId=message.messageId)))
        elif isinstance(message, HeartbeatMessage):
            control.send(encode(HeartbeatAckRequest(messageId=message.messageId)))
            self.publish()
        elif isinstance(message, TaskManifestMessage):
            control.send(encode(AckRequest(cluster=message.clusterArn, containerInstance=self.arn, messageId=message.messageId)))
        elif isinstance(message, StateReportsAck):
            self._heard_answers(message)
        elif isinstance(message, StateReportsOffer):
            self.line = True
        if self._outgoing:
            self._send_reports()
        fleet.messages += 1

    def report(self, body: bytes) -> None:
        """Send a report on the control connection, with the others of this moment."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._send_reports)
        self._number += 1
        self._waiting[self._number] = body
        self._outgoing.append(StateReport(number=self._number, operation="SubmitTaskStateChange", request=msgspec.Raw(body)))

    def _send_reports(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self.control is not None:
            self.control.send(encode(StateReportsRequest(reports=outgoing)))

    def _heard_answers(self, message: StateReportsAck) -> None:
        for number in message.taken:
            if self._waiting.pop(number, None) is not None:
                self._fleet.reports += 1
        for refused in message.refused:
            body = self._waiting.pop(refused.number, None)
            if body is not None:
                self._fleet.refused(self, body, f"{refused.code}: {refused.message}", again=refused.code != "InvalidParameterException")

    def ended(self) -> None:
        """The control connection is over: what has no answer is told again."""
        self.line = False
        waiting, self._waiting, self._outgoing = self._waiting, {}, []
        for body in waiting.values():
            self._fleet.refused(self, body, "", again=True)

    def publish(self) -> None:
        """The state of the container runtime, as the real agent tells it."""
        if self.telemetry is None:
            return
        metadata = PublishMetadata(cluster=self._fleet.options.cluster, containerInstance=self.arn)
        now = self._fleet.clock.now()
        status = InstanceStatus(type="ContainerRuntime", status="OK", lastUpdated=now, lastStatusChange=now)
        self.telemetry.send(encode(PublishInstanceStatusRequest(metadata=metadata, statuses=[status], timestamp=now)))

    def _take(self, payload: TaskPayload) -> None:
        """Run or stop; a repeated instruction changes nothing."""
        task = self.tasks.get(payload.arn)
        options = self._fleet.options
        if task is None:
            containers = tuple((item.name, tuple(self._mapping(port) for port in item.portMappings)) for item in payload.containers)
            task = self.tasks[payload.arn] = SimulatedTask(payload.arn, containers, desired=payload.desiredStatus)
        elif payload.desiredStatus != "STOPPED" or task.desired == "STOPPED":
            return
        task.desired = payload.desiredStatus
        stopping = task.desired == "STOPPED"
        self._fleet.after(options.stop_seconds if stopping else options.start_seconds, lambda: self._become(task, stopping=stopping))

    def _mapping(self, port: Any) -> tuple[int, int, str]:
        self._ports += not port.hostPort
        return port.containerPort, port.hostPort or self._ports, port.protocol

    def _become(self, task: SimulatedTask, *, stopping: bool) -> None:
        if stopping:
            task.status = "STOPPED"
            self.tasks.pop(task.arn, None)
        elif task.desired != "RUNNING":
            return
        else:
            task.status = "RUNNING"
        self._fleet.report(self, task)


class Fleet:
    """The instances of one process. Make it inside the running loop."""

    def __init__(self, endpoint: str, credentials: Credentials, options: FleetOptions, *, clock: Clock, ids: Ids) -> None:
        self.options = options
        self.clock = clock
        self._ids = ids
        self._credentials = credentials
        self._endpoint = endpoint
        self._zone = credentials.region
        self._http = HttpPool(endpoint, credentials, clock=clock, connections=options.connections)
        self._handshakes = asyncio.Semaphore(CONNECTING_MAX)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timers_set = 0
        self._work: set[asyncio.Task[None]] = set()
        self._endpoints: dict[str, str] = {}
        self._closing = False
        self.instances: list[SimulatedInstance] = []
        self.messages = 0
        """Messages from the server."""
        self.reports = 0
        """Reports that were acknowledged."""
        self.failures = 0
        """Reports that were refused or lost."""

    @property
    def connected(self) -> int:
        """Instances whose control connection is open."""
        return sum(1 for instance in self.instances if instance.control is not None and instance.control.open)

    @property
    def tasks(self) -> int:
        """Tasks that the instances hold."""
        return sum(len(instance.tasks) for instance in self.instances)

    async def start(self) -> None:
        """Register every instance and connect it; return when all their connections are open. Raises WireError when the server refuses."""
        self._spawn(self._keep_time())
        self._endpoints = {name: str(value) for name, value in (await self._http.call("DiscoverPollEndpoint")).items()}
        await asyncio.gather(*(self._register(number) for number in range(self.options.instances)))
        for instance in self.instances:
            self._spawn(self._keep_control(instance))
        while self.connected < len(self.instances):
            await self.clock.sleep(0.05)
        if self.options.telemetry:
            for instance in self.instances:
                self._spawn(self._keep_telemetry(instance))
            while sum(instance.telemetry is not None and instance.telemetry.open for instance in self.instances) < len(self.instances):
                await self.clock.sleep(0.05)

    async def _register(self, number: int) -> None:
        options = self.options
        zone = f"{self._zone}{chr(ord('a') + number % options.zones)}"
        described = dict.fromkeys(CAPABILITIES, "") | {"ecs.os-type": "linux", "ecs.availability-zone": zone, "ecs.instance-type": "simulated"}
        answer = await self._http.call(
            "RegisterContainerInstance",
            cluster=options.cluster,
            clientToken=self._ids.uuid(),
            totalResources=[
                {"name": "CPU", "type": "INTEGER", "integerValue": options.cpu},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": options.memory_mib},
                {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375", "2376", "51678", "51679"]},
                {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
            ],
            attributes=[{"name": name, "value": value} if value else {"name": name} for name, value in described.items()],
        )
        self.instances.append(SimulatedInstance(self, str(answer["containerInstance"]["containerInstanceArn"])))

    # -- connections -----------------------------------------------------------------------------------------------------

    async def _keep_control(self, instance: SimulatedInstance) -> None:
        query = {"clusterArn": self.options.cluster, "containerInstanceArn": instance.arn, "protocolVersion": "2", "seqNum": "1"}
        if not self.options.http_reports:
            query["stateReports"] = "1"

        def use(socket: WebSocketClient | None) -> None:
            instance.control = socket
            if socket is None:
                instance.ended()

        await self._keep(self._endpoints["endpoint"], query, instance.heard, use)

    async def _keep_telemetry(self, instance: SimulatedInstance) -> None:
        query = {"cluster": self.options.cluster, "containerInstance": instance.arn}

        def use(socket: WebSocketClient | None) -> None:
            instance.telemetry = socket

        await self._keep(self._endpoints["telemetryEndpoint"], query, lambda frame: None, use)

    async def _keep(
        self, endpoint: str, query: dict[str, str], heard: Callable[[bytes], None], use: Callable[[WebSocketClient | None], None]
    ) -> None:
        """Connect, and again whenever it ended."""
        loop = asyncio.get_running_loop()
        host, _, port = endpoint.partition("://")[2].partition("/")[0].partition(":")
        while not self._closing:
            over: asyncio.Future[int] = loop.create_future()
            request = handshake(endpoint, query, self._credentials, now=self.clock.now())
            socket = WebSocketClient(request, heard=heard, ended=lambda status, over=over: _settle(over, status))  # type: ignore[misc]
            async with self._handshakes:
                use(socket)
                try:
                    await loop.create_connection(lambda socket=socket: socket, host, int(port or 80))  # type: ignore[misc]
                except OSError:
                    _settle(over, 0)
                while not socket.open and not over.done():
                    await self.clock.sleep(TICK_SECONDS)
            status = await over
            use(None)
            if status:
                _log.warning("the server refused a connection with HTTP status %d", status)
            await self.clock.sleep(self._ids.uniform(0.0, RETRY_SECONDS) if not status else RETRY_SECONDS)

    # -- tasks -----------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` after `seconds`: at once for 0, else up to a tick late."""
        if seconds <= 0:
            function()
            return
        self._timers_set += 1
        heapq.heappush(self._timers, (self.clock.monotonic() + seconds, self._timers_set, function))

    async def _keep_time(self) -> None:
        while True:
            await self.clock.sleep(TICK_SECONDS)
            now = self.clock.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()

    def report(self, instance: SimulatedInstance, task: SimulatedTask) -> None:
        """SubmitTaskStateChange, until it is acknowledged or refused: on the control connection if it takes reports, else over HTTP."""
        self._submit(instance, _encode(self._report(task)))

    def refused(self, instance: SimulatedInstance, body: bytes, why: str, *, again: bool) -> None:
        """A report was refused, or got no answer."""
        self.failures += 1
        if why:
            _log.warning("a report was refused: %s", why)
        if again and not self._closing:
            self.after(RETRY_SECONDS, lambda: self._submit(instance, body))

    def _submit(self, instance: SimulatedInstance, body: bytes) -> None:
        if instance.line:
            instance.report(body)
            return

        def answered(status: int, answer: bytes) -> None:
            if status == 200:
                self.reports += 1
                return
            again = status == 0 or status >= 500
            self.refused(instance, body, "" if again else repr(answer[:200]), again=again)

        self._http.send("SubmitTaskStateChange", body, answered)

    def _report(self, task: SimulatedTask) -> dict[str, Any]:
        containers: list[dict[str, Any]] = []
        for name, ports in task.containers:
            told: dict[str, Any] = {"containerName": name, "status": task.status, "runtimeId": self._ids.hex(64)}
            if task.status == "STOPPED":
                told["exitCode"] = 137
            elif ports:
                told["networkBindings"] = [
                    {"bindIP": "0.0.0.0", "containerPort": port, "hostPort": host_port, "protocol": protocol} for port, host_port, protocol in ports
                ]
            containers.append(told)
        request: dict[str, Any] = {"cluster": self.options.cluster, "task": task.arn, "status": task.status, "containers": containers}
        if task.status == "STOPPED":
            request["executionStoppedAt"] = self.clock.now()
        else:
            request["pullStartedAt"] = request["pullStoppedAt"] = self.clock.now()
        return request

    # -- end -------------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a simulated agent failed", exc_info=task.exception())

    async def close(self) -> None:
        """End every connection; the instances stay registered, and their tasks are forgotten."""
        self._closing = True
        for task in tuple(self._work):
            task.cancel()
        for instance in self.instances:
            for socket in (instance.control, instance.telemetry):
                if socket is not None:
                    socket.close()
        await asyncio.gather(*self._work, return_exceptions=True)


def _settle(future: asyncio.Future[int], result: int) -> None:
    if not future.done():
        future.set_result(result)


async def simulate(fleet: Fleet, *, name: str, stop: asyncio.Event) -> None:
    """Run `fleet` until `stop`, with a line of figures whenever they changed. Raises WireError when the server refuses the instances."""
    clock = fleet.clock
    began = clock.monotonic()
    starting = asyncio.create_task(fleet.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return
        starting.result()
        print(f"{name}: {fleet.connected} instances are connected after {clock.monotonic() - began:.1f} s", flush=True)
        shown: tuple[int, ...] = ()
        while not stop.is_set():
            figures = (fleet.connected, fleet.tasks, fleet.reports, fleet.failures)
            if figures != shown:
                print(f"{name}: {figures[0]} connected, {figures[1]} tasks, {figures[2]} reports, {figures[3]} failed", flush=True)
                shown = figures
            for _ in range(20):
                if not stop.is_set():
                    await clock.sleep(0.1)
    finally:
        starting.cancel()
        stopping.cancel()
        await fleet.close()


__all__ = ["Fleet", "FleetOptions", "SimulatedInstance", "WireError", "simulate"]
