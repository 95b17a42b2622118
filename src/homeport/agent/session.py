"""One ACS connection to the control plane, seen from the agent. `dispatcher/session.py` is the other end and looks alike.

Owns: the answers to the messages of one connection: payloads go to the engine and are acknowledged, manifests are compared, heartbeats answered.
Never runs a task and never outlives its socket: any failure ends the session, and a new one is built.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import aiohttp
import msgspec

from homeport.acs.messages import (
    AckRequest,
    HeartbeatAckRequest,
    HeartbeatMessage,
    IAMRoleCredentialsAckRequest,
    IAMRoleCredentialsMessage,
    Message,
    PayloadMessage,
    RoleCredentials,
    StateReportsAck,
    StateReportsOffer,
    TaskHealth,
    TaskIdentifier,
    TaskManifestMessage,
    TaskPayload,
    TaskStopVerificationAck,
    TaskStopVerificationMessage,
    decode,
    encode,
)
from homeport.agent.engine.report import TaskReport, clipped
from homeport.agent.report_line import ReportLine
from homeport.agent.state import State
from homeport.errors import HomeportError

INSTANCE_KIND: Final = "instance"
"""Kind of the records about this instance in the local journal: its ARN and its timeline."""
TIMELINE_KEY: Final = "timeline"
TASK_ROLE: Final = "TaskApplication"
EXECUTION_ROLE: Final = "TaskExecution"
ROLE_TYPES: Final = (TASK_ROLE, EXECUTION_ROLE)
UNREADABLE_TASK: Final = "UnrecogniedTaskError: Error loading task - "
"""As the upstream agent spells it on the wire."""

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """What a session needs of the engine."""

    def submit(self, task: TaskPayload) -> None:
        """Run or stop `task`; idempotent, returns at once. Raises HomeportError for a payload that cannot be read."""
        ...

    def tasks(self) -> Iterable[tuple[str, str, str]]:
        """(ARN, desired status, known status) of every task it holds."""
        ...

    def health(self) -> list[TaskHealth]:
        """Health of the containers that have a check."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What every session of one agent shares."""

    engine: Engine
    state: State
    report: Callable[[TaskReport], None]
    """Tell the control plane of a task that cannot be read."""
    heard_heartbeat: Callable[[], None]
    """Called at each heartbeat."""
    take_credentials: Callable[[str, str, RoleCredentials], None] = lambda task_arn, role_type, given: None
    """(task's ARN, TaskApplication or TaskExecution, credentials): keep them in memory, in the place of those with the same id."""
    use_line: Callable[[ReportLine], None] = lambda line: None
    """Called when the server offers to take reports on this connection."""
    answer_seconds: float = 42.0
    """How long a report may wait for its answer there."""


class Session:
    """The conversation on one open socket. `run` returns when it is over."""

    def __init__(self, house: House, socket: aiohttp.ClientWebSocketResponse, *, silence_seconds: float) -> None:
        """`silence_seconds`: a connection on which nothing came for so long is given up."""
        self._house = house
        self._socket = socket
        self._silence_seconds = silence_seconds
        self._manifest_id = ""
        self._line: ReportLine | None = None
        self._acknowledgements: set[asyncio.Task[None]] = set()
        self._timeline = int(house.state.get(INSTANCE_KIND, TIMELINE_KEY) or b"0")

    async def run(self) -> int:
        """Handle the control plane's messages in order until the connection ends; return the close code (1006 for none)."""
        try:
            return await self._listen()
        finally:
            if self._line is not None:
                self._line.end()
            for work in tuple(self._acknowledgements):
                work.cancel()

    async def _listen(self) -> int:
        while True:
            try:
                frame = await self._socket.receive(timeout=self._silence_seconds)
            except TimeoutError:
                _log.warning("nothing came from the control plane for %.0f s", self._silence_seconds)
                await self._socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)
                return aiohttp.WSCloseCode.ABNORMAL_CLOSURE
            if frame.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return self._socket.close_code or aiohttp.WSCloseCode.ABNORMAL_CLOSURE
            await self._hear(frame.data)

    async def _hear(self, frame: str | bytes) -> None:
        try:
            message = decode(frame)
        except msgspec.DecodeError as error:
            # No answer: the control plane sends again in the next session, and a missing acknowledgement is its signal.
            _log.warning("a frame that is no message: %s", error)
            return
        if isinstance(message, HeartbeatMessage):
            await self._tell(HeartbeatAckRequest(messageId=message.messageId))
            self._house.heard_heartbeat()
        elif isinstance(message, PayloadMessage):
            self._take_payload(message)
        elif isinstance(message, IAMRoleCredentialsMessage):
            await self._take_credentials(message)
        elif isinstance(message, StateReportsAck):
            if self._line is not None:
                self._line.heard(message)
        elif isinstance(message, TaskManifestMessage):
            await self._compare(message)
        elif isinstance(message, StateReportsOffer):
            self._take_offer(message)
        elif isinstance(message, TaskStopVerificationAck) and message.messageId == self._manifest_id:
            self._manifest_id = ""
            for task in message.stopTasks:
                self._submit(TaskPayload(arn=task.taskArn, desiredStatus="STOPPED", taskClusterArn=task.taskClusterArn))

    def _take_offer(self, offer: StateReportsOffer) -> None:
        """Report here from now on. A repeated offer changes nothing: reports that are on their way keep their numbers."""
        if self._line is None:
            self._line = ReportLine(self._tell, waiting_max=offer.waitingMax, timeout_seconds=self._house.answer_seconds)
            self._house.use_line(self._line)

    def _take_payload(self, message: PayloadMessage) -> None:
        """Hand the tasks to the engine; stops first, so that their resources are free for the starts."""
        if not (message.messageId and message.clusterArn and message.containerInstanceArn):
            return
        for task in sorted(message.tasks, key=lambda task: task.desiredStatus != "STOPPED"):
            self._submit(public(task))
            for role_type, given in roles_in(task):
                self._house.take_credentials(task.arn, role_type, given)
        self._note(message.seqNum)
        self._acknowledge_durable(message)

    async def _take_credentials(self, message: IAMRoleCredentialsMessage) -> None:
        """New credentials of a task. What names no task or no role is passed over without an answer, as by the upstream agent."""
        given = message.roleCredentials
        if given is None or not (message.messageId and message.taskArn and given.credentialsId) or message.roleType not in ROLE_TYPES:
            _log.warning("credentials that name no task, or no type of role, are passed over")
            return
        self._house.take_credentials(message.taskArn, message.roleType, given)
        await self._tell(_acknowledgement(message.messageId, given))

    def _acknowledge_durable(self, message: PayloadMessage) -> None:
        """Acknowledge once the disk has the tasks. Nothing else waits for that: containers start meanwhile, and the next message is heard."""
        work = asyncio.get_running_loop().create_task(self._sync_and_acknowledge(message))
        self._acknowledgements.add(work)
        work.add_done_callback(self._acknowledgements.discard)

    async def _sync_and_acknowledge(self, message: PayloadMessage) -> None:
        try:
            await self._house.state.sync()
        except OSError:
            _log.exception("message %s is not acknowledged: the local journal cannot be written", message.messageId)
            return
        for task in message.tasks:
            for _, given in roles_in(task):
                await self._tell(_acknowledgement(message.messageId, given))
        await self._acknowledge(message)

    def _submit(self, task: TaskPayload) -> None:
        try:
            self._house.engine.submit(task)
        except HomeportError as error:
            _log.error("task %s cannot be read: %s", task.arn, error)
            if task.arn:
                self._house.report(TaskReport(arn=task.arn, status="STOPPED", reason=clipped(f"{UNREADABLE_TASK}{error}")))

    async def _compare(self, manifest: TaskManifestMessage) -> None:
        """Acknowledge the manifest, and ask about tasks that are wanted here but that it does not want."""
        if manifest.timeline <= self._timeline:
            _log.warning("a manifest of timeline %d came after %d and is passed over", manifest.timeline, self._timeline)
            return
        self._note(manifest.timeline)
        await self._acknowledge(manifest)
        wanted = {task.taskArn for task in manifest.tasks if task.desiredStatus == "RUNNING"}
        held = [arn for arn, desired, known in self._house.engine.tasks() if desired == "RUNNING" and known != "STOPPED"]
        strays = [arn for arn in held if arn not in wanted]
        if strays:
            self._manifest_id = manifest.messageId
            candidates = [TaskIdentifier(taskArn=arn, desiredStatus="STOPPED", taskClusterArn=manifest.clusterArn) for arn in strays]
            await self._tell(TaskStopVerificationMessage(messageId=manifest.messageId, stopCandidates=candidates))

    def _note(self, number: int) -> None:
        """Remember the highest sequence number or timeline: only a later manifest counts."""
        if number > self._timeline:
            self._timeline = number
            self._house.state.put(INSTANCE_KIND, TIMELINE_KEY, str(number).encode())

    async def _acknowledge(self, message: PayloadMessage | TaskManifestMessage) -> None:
        await self._tell(AckRequest(cluster=message.clusterArn, containerInstance=message.containerInstanceArn, messageId=message.messageId))

    async def _tell(self, message: Message) -> None:
        try:
            await self._socket.send_str(encode(message).decode())
        except (ConnectionError, RuntimeError) as error:  # the next receive says that it is over
            _log.debug("the connection ended before an answer: %s", error)


def roles_in(task: TaskPayload) -> list[tuple[str, RoleCredentials]]:
    """(type of role, credentials) of everything that a payload brings for its task."""
    given = ((TASK_ROLE, task.roleCredentials), (EXECUTION_ROLE, task.executionRoleCredentials))
    return [(role_type, one) for role_type, one in given if one is not None]


def public(task: TaskPayload) -> TaskPayload:
    """`task` as it may be stored: of credentials only under which id they are had, and whose they are."""
    if task.roleCredentials is None and task.executionRoleCredentials is None:
        return task
    role = task.roleCredentials.address if task.roleCredentials is not None else None
    return msgspec.structs.replace(task, roleCredentials=role, executionRoleCredentials=None)


def _acknowledgement(message_id: str, given: RoleCredentials) -> IAMRoleCredentialsAckRequest:
    return IAMRoleCredentialsAckRequest(messageId=message_id, credentialsId=given.credentialsId, expiration=given.expiration)
