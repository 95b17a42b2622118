"""A simulated agent: speaks the agent protocol to a control plane in the same process, and runs tasks that are only numbers.

Owns: `SimulatedAgent` and the in-process websocket under it. Never opens a socket and never starts a container: a task is RUNNING and STOPPED
when its clock says so, or when a test says so. Good for unit tests of the dispatcher and for simulations of whole fleets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

import msgspec

from homeport.acs.messages import (
    AckRequest,
    HeartbeatAckRequest,
    HeartbeatMessage,
    IAMRoleCredentialsAckRequest,
    IAMRoleCredentialsMessage,
    Message,
    PayloadMessage,
    PortMapping,
    RoleCredentials,
    TaskIdentifier,
    TaskManifestMessage,
    TaskPayload,
    TaskStopVerificationAck,
    TaskStopVerificationMessage,
    decode,
    encode,
)
from homeport.clock import Clock

Event = MutableMapping[str, Any]
Application = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]
Call = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""(operation, request) → answer: how the agent calls the ECS API."""

FIRST_HOST_PORT: Final = 32_768


class RefusedError(Exception):
    """The server answered the handshake with an exception. `name` is its name, `message` its sentence."""

    def __init__(self, status: int, body: bytes) -> None:
        answer: dict[str, str] = msgspec.json.decode(body) if body else {"": ""}
        self.status = status
        self.name, self.message = next(iter(answer.items()))
        super().__init__(f"{self.name}: {self.message}")


class Socket:
    """The client's end of a websocket whose server is an ASGI application in this process."""

    def __init__(self, application: Application, path: str, query: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """`query`: the query string, encoded."""
        self._scope: Event = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers or [],
            "extensions": {"websocket.http.response": {}},
        }
        self._application = application
        self._to_server: asyncio.Queue[Event] = asyncio.Queue()
        self._from_server: asyncio.Queue[Event] = asyncio.Queue()
        self._disconnected = False
        self._task: asyncio.Task[None] | None = None
        self.close_code: int | None = None
        """Code of the close frame that the server sent, or of the break, once there was one."""

    async def open(self) -> None:
        """Do the handshake. Raises RefusedError."""
        self._to_server.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.get_running_loop().create_task(self._serve())
        answer = await self._from_server.get()
        if answer["type"] == "websocket.accept":
            return
        self._break(1006)
        if answer["type"] == "websocket.close":
            raise RefusedError(403, b"")
        body = await self._from_server.get()
        raise RefusedError(answer["status"], body["body"])

    def send(self, text: str) -> None:
        """One text frame to the server."""
        if not self._disconnected:
            self._to_server.put_nowait({"type": "websocket.receive", "text": text})

    async def receive(self) -> str | None:
        """The next text frame, or None when the connection is over."""
        if self.close_code is not None and self._from_server.empty():
            return None
        event = await self._from_server.get()
        if event["type"] == "websocket.send":
            return str(event["text"])
        self.close_code = self.close_code or int(event.get("code", 1006))
        self._break(self.close_code)
        return None

    def close(self, code: int = 1006) -> None:
        """End it from this side: 1006 is a broken connection, 1000 an orderly end."""
        self._break(code)
        self._from_server.put_nowait({"type": "websocket.close", "code": code})

    async def ended(self) -> None:
        """Return when the server is done with the connection."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _break(self, code: int) -> None:
        if not self._disconnected:
            self._disconnected = True
            self._to_server.put_nowait({"type": "websocket.disconnect", "code": code})

    async def _serve(self) -> None:
        await self._application(self._scope, self._server_receives, self._server_sends)

    async def _server_receives(self) -> Event:
        if self._disconnected and self._to_server.empty():
            return {"type": "websocket.disconnect", "code": 1006}
        return await self._to_server.get()

    async def _server_sends(self, event: Event) -> None:
        if self._disconnected:
            raise ConnectionResetError("the agent has gone")
        self._from_server.put_nowait(dict(event))
        if event["type"] == "websocket.close":
            self._break(int(event.get("code", 1000)))


class SimulatedTask(msgspec.Struct, kw_only=True):
    """A task as the simulated agent holds it. `status`: PENDING, RUNNING or STOPPED."""

    payload: TaskPayload
    desired: str
    status: str = "PENDING"
    exit_codes: dict[str, int] = msgspec.field(default_factory=dict)


class SimulatedAgent:
    """One agent. It registers, connects, runs what it is told, and reports; a test can break its connection, stop its containers, silence it."""

    start_seconds = 0.5
    """How long a task takes from its payload to RUNNING; set it on the agent."""
    stop_seconds = 0.2
    """How long a task takes from the stop to STOPPED; set it on the agent."""

    def __init__(self, acs: Application, call: Call, *, clock: Clock, cluster: str = "default") -> None:
        """`acs`: the ASGI application of /acs/ws."""
        self._acs = acs
        self._call = call
        self._clock = clock
        self._cluster = cluster
        self.arn = ""
        self.tasks: dict[str, SimulatedTask] = {}
        self.received: list[Message] = []
        """Every message from the server, in order."""
        self.silent = False
        """While true it reads, but answers nothing."""
        self.socket: Socket | None = None
        self._work: dict[asyncio.Task[None], None] = {}  # an ordered set, so that seeded runs replay
        self._ports = FIRST_HOST_PORT

    # -- life ------------------------------------------------------------------------------------------------------------

    async def register(self, *, cpu: int = 4096, memory_mib: int = 8192, attributes: Mapping[str, str] | None = None) -> str:
        """RegisterContainerInstance; return the ARN. `attributes` go beside ecs.capability.full-sync."""
        named = {"ecs.capability.full-sync": "", "ecs.os-type": "linux"} | dict(attributes or {})
        answer = await self._call(
            "RegisterContainerInstance",
            {
                "cluster": self._cluster,
                "totalResources": [
                    {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
                    {"name": "MEMORY", "type": "INTEGER", "integerValue": memory_mib},
                    {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375", "2376", "51678", "51679"]},
                    {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
                ],
                "attributes": [{"name": name, "value": value} if value else {"name": name} for name, value in named.items()],
            },
        )
        self.arn = str(answer["containerInstance"]["containerInstanceArn"])
        return self.arn

    async def connect(self) -> None:
        """Open the control connection and follow it in the background. Raises RefusedError."""
        query = f"clusterArn={self._cluster}&containerInstanceArn={self.arn}&protocolVersion=2&seqNum=1"
        socket = Socket(self._acs, "/acs/ws", query)
        await socket.open()
        self.socket = socket
        self._start(self._follow(socket))

    async def disconnect(self, code: int = 1006) -> None:
        """End the connection; return when the server has noticed."""
        if self.socket is not None:
            self.socket.close(code)
            await self.socket.ended()

    async def close(self) -> None:
        """End everything that goes on in the background, silently."""
        await self.disconnect()
        for work in tuple(self._work):
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    # -- what a test makes happen ----------------------------------------------------------------------------------------

    async def exit(self, arn: str, code: int = 0, *, reason: str = "") -> None:
        """The task's containers exit with `code`; the report is durable when this returns."""
        task = self.tasks[arn]
        task.exit_codes = {container.name: code for container in task.payload.containers}
        await self._report(task, "STOPPED", container_reason=reason)

    def messages(self, kind: type[Message]) -> list[Any]:
        """Of the messages received those of `kind`."""
        return [message for message in self.received if isinstance(message, kind)]

    # -- the conversation ------------------------------------------------------------------------------------------------

    async def _follow(self, socket: Socket) -> None:
        while (frame := await socket.receive()) is not None:
            message = decode(frame)
            if message is None:
                continue
            self.received.append(message)
            if not self.silent:
                for answer in self._answers(message):
                    socket.send(encode(answer).decode())

    def _answers(self, message: Message) -> list[Message]:
        if isinstance(message, HeartbeatMessage):
            return [HeartbeatAckRequest(messageId=message.messageId)]
        if isinstance(message, PayloadMessage):
            for task in sorted(message.tasks, key=lambda task: task.desiredStatus != "STOPPED"):
                self._take(task)
            given = [one for task in message.tasks for one in (task.roleCredentials, task.executionRoleCredentials) if one is not None]
            acknowledged: list[Message] = [_acknowledgement(message.messageId, one) for one in given]
            return [*acknowledged, AckRequest(cluster=message.clusterArn, containerInstance=self.arn, messageId=message.messageId)]
        if isinstance(message, IAMRoleCredentialsMessage) and message.roleCredentials is not None:
            return [_acknowledgement(message.messageId, message.roleCredentials)]
        if isinstance(message, TaskManifestMessage):
            wanted = {task.taskArn for task in message.tasks if task.desiredStatus == "RUNNING"}
            strays = [arn for arn, task in self.tasks.items() if task.desired == "RUNNING" and arn not in wanted]
            acknowledgement = AckRequest(cluster=message.clusterArn, containerInstance=self.arn, messageId=message.messageId)
            if not strays:
                return [acknowledgement]
            candidates = [TaskIdentifier(taskArn=arn, desiredStatus="STOPPED", taskClusterArn=message.clusterArn) for arn in strays]
            return [acknowledgement, TaskStopVerificationMessage(messageId=message.messageId, stopCandidates=candidates)]
        if isinstance(message, TaskStopVerificationAck):
            for named in message.stopTasks:
                self._take(TaskPayload(arn=named.taskArn, desiredStatus="STOPPED"))
        return []

    def _take(self, payload: TaskPayload) -> None:
        """Run or stop; a repeated instruction changes nothing."""
        task = self.tasks.get(payload.arn)
        if task is None:
            task = self.tasks[payload.arn] = SimulatedTask(payload=payload, desired=payload.desiredStatus)
            self._start(self._run(task) if payload.desiredStatus == "RUNNING" else self._stop(task))
        elif payload.desiredStatus == "STOPPED" and task.desired != "STOPPED":
            task.desired = "STOPPED"
            self._start(self._stop(task))

    async def _run(self, task: SimulatedTask) -> None:
        await self._clock.sleep(self.start_seconds)
        if task.desired == "RUNNING" and task.status == "PENDING":
            await self._report(task, "RUNNING")

    async def _stop(self, task: SimulatedTask) -> None:
        await self._clock.sleep(self.stop_seconds)
        if task.status != "STOPPED":
            if task.status == "RUNNING":
                task.exit_codes = {container.name: 137 for container in task.payload.containers}
            await self._report(task, "STOPPED")

    async def _report(self, task: SimulatedTask, status: str, *, container_reason: str = "") -> None:
        task.status = status
        containers: list[dict[str, Any]] = []
        for container in task.payload.containers:
            told: dict[str, Any] = {"containerName": container.name, "status": status}
            if status == "RUNNING":
                told["runtimeId"] = f"{container.name}-{task.payload.arn.rpartition('/')[2]}"
                told["networkBindings"] = [self._binding(port) for port in container.portMappings]
            if container.name in task.exit_codes and status == "STOPPED":
                told["exitCode"] = task.exit_codes[container.name]
            if container_reason:
                told["reason"] = container_reason
            containers.append(told)
        request: dict[str, Any] = {"cluster": self._cluster, "task": task.payload.arn, "status": status, "containers": containers}
        if status == "STOPPED":
            request["executionStoppedAt"] = self._clock.now()
        await self._call("SubmitTaskStateChange", request)

    def _binding(self, mapping: PortMapping) -> dict[str, Any]:
        self._ports += not mapping.hostPort
        host_port = mapping.hostPort or self._ports
        return {"bindIP": "0.0.0.0", "containerPort": mapping.containerPort, "hostPort": host_port, "protocol": mapping.protocol}

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work[task] = None
        task.add_done_callback(lambda done: self._work.pop(done, None))


def _acknowledgement(message_id: str, given: RoleCredentials) -> IAMRoleCredentialsAckRequest:
    return IAMRoleCredentialsAckRequest(messageId=message_id, credentialsId=given.credentialsId, expiration=given.expiration)
