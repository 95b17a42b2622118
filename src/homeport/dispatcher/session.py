"""One agent's ACS connection, seen from the control plane. `agent/session.py` is the other end and looks alike.

Owns: the messages of one connection: manifest, payloads, heartbeats, verification of stops, reports and their answers; what was sent and
acknowledged in it.
Never decides what a task should do (it repeats the store) and never outlives its socket: a broken session is replaced, not repaired.

Every message leaves through one short-lived task per session (`_flush`), which exists only while there is something to send; so a slow
agent holds up nobody, an idle one costs no task, and a burst of changes becomes one payload.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from typing import Any, Final

import msgspec

from homeport.acs.messages import (
    AckRequest,
    HeartbeatMessage,
    IAMRoleCredentialsAckRequest,
    Message,
    NackRequest,
    PayloadMessage,
    RefusedReport,
    StateReportsAck,
    StateReportsOffer,
    StateReportsRequest,
    TaskIdentifier,
    TaskManifestMessage,
    TaskPayload,
    TaskStopVerificationAck,
    TaskStopVerificationMessage,
    decode,
    encode,
)
from homeport.clock import Clock
from homeport.config import Settings
from homeport.dispatcher import assignments
from homeport.dispatcher.assignments import Assignments
from homeport.dispatcher.command import CarryOut
from homeport.dispatcher.credentials import EXECUTION, TASK, TaskRole, Vault, roles_of, vault_of
from homeport.dispatcher.issuing import Given, Issuer
from homeport.dispatcher.liveness import Timed
from homeport.dispatcher.payload import stop_payload, task_key, task_payload
from homeport.dispatcher.reports import THROTTLED, WAITING_MAX, Desk, Principal, Refusal, Refused
from homeport.errors import HomeportError
from homeport.ids import Ids
from homeport.model import arn
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.store.store import Store
from homeport.store.table import Reader
from homeport.store.tables import TASKS
from homeport.store.task_definitions import definition_of
from homeport.vault.keyring import InClear, Secrets

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
Receive = Callable[[], Awaitable[Event]]

FULL_SYNC: Final = "ecs.capability.full-sync"
PAYLOAD_TASKS_MAX: Final = 50
"""Tasks in one payload: an upstream agent acknowledges 20 in 0.4 s, and nothing else gets through meanwhile."""

FIRST_HEARTBEAT_SPREAD: Final = 0.9
"""By how much of its interval a connection's first heartbeat may come earlier."""

CLOSE_SECONDS_MAX: Final = 5.0
"""How long a close frame may take to leave; after that the session ends without it."""

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012
"""Websocket close codes; the upstream agent reconnects at once after all but the last."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What every session of one server shares."""

    store: Store
    commit: CarryOut
    clock: Clock
    ids: Ids
    settings: Settings
    region: str
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    """Run a coroutine in the background until it ends."""
    later: Callable[[Timed, float], None]
    """Call `due` of something at an instant (monotonic seconds)."""
    desk: Desk | None = None
    """Takes reports; None: they come over HTTP alone."""
    secrets: Secrets = dataclasses.field(default_factory=InClear)
    """Opens the keys that tasks' credentials are made from."""


DefinitionKey = tuple[str, str, int, bool]


def _definition_key(task: Task) -> DefinitionKey:
    """What tells the definitions of tasks apart; families of daemon task definitions are apart from the others."""
    return task.account, task.family, task.revision, bool(task.daemon)


@dataclasses.dataclass(frozen=True, slots=True)
class _Reading:
    """One moment of the store, as far as it concerns a session."""

    held: tuple[Task, ...]
    assignments: Assignments
    definitions: Mapping[DefinitionKey, TaskDefinition]
    roles: Mapping[str, tuple[TaskRole, ...]]
    """Of the tasks that need credentials now, by key."""
    vault: Vault


class Session:
    """The conversation with the agent of one instance. `opened` orders two sessions of the same instance."""

    __slots__ = (
        "_changed",
        "_closing",
        "_expires",
        "_flushing",
        "_heard",
        "_heartbeat",
        "_heartbeats",
        "_house",
        "_instance",
        "_issuer",
        "_listener",
        "_manifest_id",
        "_number",
        "_offered",
        "_questions",
        "_refused",
        "_reporter",
        "_reports_waiting",
        "_resync",
        "_send",
        "_sent",
        "_taken",
        "_unacknowledged",
        "closed_because",
        "id",
        "identity",
        "opened",
    )

    def __init__(self, house: House, instance: ContainerInstance, send: Send, *, reporter: Principal | None = None, identity: str = "") -> None:
        """`instance` as `liveness.open_session` returned it; its session is this one. `reporter`: who reports here, if the agent asked for that.
        `identity`: the host that opened the connection, "" for other credentials than a host's."""
        self.identity = identity
        assert instance.session is not None
        now = house.clock.monotonic()
        settings = house.settings
        self.id = instance.session.id
        self.opened = instance.session.since
        self.closed_because = ""
        """Why the server closed it, or "" while it has not."""
        self._house = house
        self._instance = instance
        self._send = send
        self._sent: dict[str, str] = {}
        self._unacknowledged: set[str] = set()
        self._changed: dict[str, None] = {}  # an ordered set: tasks go out in the order of their changes, in every run
        self._questions: list[TaskStopVerificationMessage] = []
        self._resync = False
        self._issuer = Issuer(house, instance.key, self.id, wake=self._wake)
        self._reporter = reporter if house.desk is not None else None
        self._offered = self._reporter is None
        self._reports_waiting = 0
        self._taken: list[int] = []
        self._refused: list[RefusedReport] = []
        self._heartbeats = 0
        self._manifest_id = ""
        # Greater than any number of an earlier session: no two transactions share an instant, and none is earlier than the one before it.
        # An instant rather than a revision, so that it also grows when an installation goes on from an older copy of its state.
        self._number = int(self.opened * 1_000_000)
        self._closing = 0
        self._flushing = False
        self._listener: asyncio.Task[Any] | None = None
        self._heard = now
        # The agents that came together are not to be spoken to together for ever: the first heartbeat comes earlier by chance (the id's).
        self._heartbeat = now + settings.heartbeat_seconds * (1.0 - FIRST_HEARTBEAT_SPREAD * zlib.crc32(self.id.encode()) / 2**32)
        # A tenth of chance keeps the agents that came together (after a restart of the server) from coming together for ever.
        self._expires = now + settings.session_max_seconds * house.ids.uniform(0.9, 1.0)

    @property
    def key(self) -> str:
        """The instance's key."""
        return self._instance.key

    # -- what wakes it ---------------------------------------------------------------------------------------------------

    def resync(self) -> None:
        """Compare everything: at the start, and when changes may have been missed."""
        self._resync = True
        self._wake()

    def changed(self, task_key: str) -> None:
        """The task under `task_key` may need a message."""
        self._changed[task_key] = None
        self._wake()

    def close(self, code: int, why: str) -> None:
        """Send a close frame after what is being sent now; the first reason stays."""
        if not self.closed_because:
            self.closed_because = why
            self._closing = code
            self._wake()

    def due(self, now: float) -> float | None:
        """Heartbeat, silence and age: called by the wheel."""
        if self.closed_because:
            # The agent takes nothing any more, not even the close frame. Nobody waits for that.
            if self._listener is not None and self._closing > 0:
                self._listener.cancel()
            return None
        silent = self._heard + self._house.settings.agent_silence_seconds
        if now >= silent:
            self.close(INTERNAL_ERROR, "the agent is silent")
            return now + CLOSE_SECONDS_MAX
        if now >= self._expires:
            self.close(NORMAL, "the connection is old")
            return now + CLOSE_SECONDS_MAX
        if now >= self._heartbeat:
            self._heartbeat = now + self._house.settings.heartbeat_seconds
            self._heartbeats += 1
            self._wake()
        return min(silent, self._expires, self._heartbeat)

    # -- what the agent says ---------------------------------------------------------------------------------------------

    async def listen(self, receive: Receive) -> int:
        """Handle the agent's messages in order until the connection ends; return the close code."""
        self._listener = asyncio.current_task()
        try:
            while (event := await receive())["type"] != "websocket.disconnect":
                self._heard = self._house.clock.monotonic()
                self._hear(event.get("text") or event.get("bytes") or b"")
        except asyncio.CancelledError:
            if self._closing <= 0:
                raise
            return INTERNAL_ERROR
        finally:
            self._listener = None
            self._closing = -1
            self._issuer.close()
            self.closed_because = self.closed_because or "the agent went away"
            if self._unacknowledged:
                _log.info("instance %s: %d payloads were not acknowledged; the next session sends them again", self.key, len(self._unacknowledged))
        return int(event.get("code") or 0)

    def _hear(self, frame: str | bytes) -> None:
        try:
            message = decode(frame)
        except msgspec.DecodeError as error:
            _log.warning("instance %s: a frame that is no message: %s", self.key, error)
            return
        if isinstance(message, AckRequest):
            self._unacknowledged.discard(message.messageId)
        elif isinstance(message, IAMRoleCredentialsAckRequest):
            self._issuer.acknowledged(message.credentialsId)
        elif isinstance(message, StateReportsRequest):
            self._take(message)
        elif isinstance(message, NackRequest):
            self._unacknowledged.discard(message.messageId)
            _log.warning("instance %s refused message %s: %s", self.key, message.messageId, message.reason)
        elif isinstance(message, TaskStopVerificationMessage) and message.messageId == self._manifest_id:
            self._manifest_id = ""
            self._questions.append(message)
            self._wake()

    def _take(self, message: StateReportsRequest) -> None:
        """Hand the reports in. Without an offer nobody listens, and no answer tells the agent so: it may not have asked."""
        desk, reporter = self._house.desk, self._reporter
        if desk is None or reporter is None:
            _log.warning("instance %s: reports came over a connection that does not carry any", self.key)
            return
        for report in message.reports:
            self._reports_waiting += 1
            if self._reports_waiting > WAITING_MAX:
                self.answered(report.number, Refusal(THROTTLED, f"More than {WAITING_MAX} reports of this connection wait."))
            else:
                desk.put(self, reporter, report.operation, number=report.number, request=bytes(report.request))

    def answered(self, number: int, refused: Refused | None) -> None:
        """A report of this connection is durable, or refused."""
        self._reports_waiting -= 1
        if refused is None:
            self._taken.append(number)
        else:
            self._refused.append(RefusedReport(number=number, code=refused.code, message=refused.message))
        self._wake()

    # -- what the agent is told ------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._house.spawn(self._flush())

    async def _flush(self) -> None:
        """Send until nothing is left to send."""
        try:
            while await self._step():
                pass
        except OSError:  # the socket is gone; `listen` learns it too
            self._closing = -1
        except Exception as error:
            tell_failure(f"instance {self.key}: session {self.id} failed", error)
            await self._end(INTERNAL_ERROR)
        finally:
            self._flushing = False

    async def _step(self) -> bool:
        """Do the first thing that waits; return whether there was one."""
        if self._closing > 0:
            await self._end(self._closing)
            return False
        if self._closing < 0:
            return False
        if not self._offered:
            self._offered = True
            await self._tell(StateReportsOffer(waitingMax=WAITING_MAX))
        elif self._taken or self._refused:
            acknowledgement = StateReportsAck(taken=self._taken, refused=self._refused)
            self._taken, self._refused = [], []
            await self._tell(acknowledgement)
        elif self._heartbeats:
            self._heartbeats = 0
            await self._tell(HeartbeatMessage(messageId=self._house.ids.hex(16), healthy=True))
        elif self._questions:
            await self._answer(self._questions.pop(0))
        elif self._resync:
            self._resync = False
            self._changed.clear()
            await self._synchronise()
        elif self._changed:
            changed, self._changed = self._changed, {}
            await self._assign(await self._house.store.view(lambda reader: self._read(reader, changed)))
        elif self._issuer.waits:
            for message in await self._issuer.refreshed():
                await self._tell(message)
        else:
            return False
        return True

    async def _synchronise(self) -> None:
        """The manifest for agents that know it, then everything that the instance is to hold."""
        reading = await self._house.store.view(lambda reader: self._read(reader, None))
        if self._instance.attribute(FULL_SYNC) is not None:
            self._manifest_id = self._message_id()
            await self._tell(
                TaskManifestMessage(
                    messageId=self._manifest_id,
                    clusterArn=self._cluster_arn(),
                    containerInstanceArn=self._instance_arn(),
                    generatedAt=self._milliseconds(),
                    timeline=self._next_number(),
                    tasks=[self._identifier(task) for task in reading.held],
                )
            )
        await self._assign(reading)

    def _read(self, reader: Reader, changed: Iterable[str] | None) -> _Reading:
        """What concerns the tasks in `changed`, or all tasks of the instance for None."""
        live = tuple(reader.find(TASKS, "instance_live", self.key)) if changed is None else ()
        tasks: dict[str, Task | None] = {task.key: task for task in live}
        tasks |= {key: reader.get(TASKS, key) for key in (self._sent if changed is None else changed) if key not in tasks}
        wanted = assignments.assign(tasks, self._sent, instance_key=self.key)
        definitions: dict[DefinitionKey, TaskDefinition] = {}
        for task in (*wanted.run, *wanted.stop):
            key = _definition_key(task)
            definition = definitions.get(key) or definition_of(reader, task)
            if definition is not None:
                definitions[key] = definition
        found = {task.key: definitions.get(_definition_key(task)) for task in wanted.run}
        roles = {task.key: each for task in wanted.run if (made := found[task.key]) is not None and (each := roles_of(task, made))}
        vault = vault_of(reader, (one for each in roles.values() for one in each), self._house.secrets) if roles else Vault((), {})
        return _Reading(assignments.held(live), wanted, definitions, roles, vault)

    async def _assign(self, reading: _Reading) -> None:
        """Payloads for what `reading` says; stops go first, so that their resources are free for the starts."""
        wanted = reading.assignments
        for key in wanted.gone:
            self._sent.pop(key, None)
            self._issuer.drop(key)
        given = await self._issuer.give(wanted.run, reading.roles, reading.vault) if reading.roles else {}
        # A task that has not run yet and may not have its role is stopped by now: the change that tells so sends it.
        run = [task for task in wanted.run if task.key in given or task.key not in reading.roles or task.started_at]
        payloads = [
            payload for task in (*wanted.stop, *run) if (payload := self._payload(task, reading.definitions, given.get(task.key, {}))) is not None
        ]
        self._sent.update({task.key: task.desired_status for task in (*wanted.stop, *run)})
        for start in range(0, len(payloads), PAYLOAD_TASKS_MAX):
            message_id = self._message_id()
            self._unacknowledged.add(message_id)
            await self._tell(
                PayloadMessage(
                    messageId=message_id,
                    clusterArn=self._cluster_arn(),
                    containerInstanceArn=self._instance_arn(),
                    seqNum=self._next_number(),
                    generatedAt=self._milliseconds(),
                    tasks=payloads[start : start + PAYLOAD_TASKS_MAX],
                )
            )

    def _payload(self, task: Task, definitions: Mapping[DefinitionKey, TaskDefinition], given: Given) -> TaskPayload | None:
        """A stop of a task sent before needs its ARN only. Any other may be new to the agent, which reports it STOPPED by its containers' names."""
        definition = definitions.get(_definition_key(task))
        if task.desired_status == "STOPPED" and (task.key in self._sent or definition is None):
            return stop_payload(task, region=self._house.region)
        if definition is None:
            _log.error("task %s: its task definition %s:%d is gone; the agent is told nothing", task.key, task.family, task.revision)
            return None
        try:
            return task_payload(task, definition, region=self._house.region, role=given.get(TASK), execution_role=given.get(EXECUTION))
        except (KeyError, TypeError, ValueError):  # one record that cannot be told must not end the conversation about all others
            _log.exception("task %s: its payload cannot be made; the agent is told nothing", task.key)
            return None

    async def _answer(self, question: TaskStopVerificationMessage) -> None:
        """Of the tasks that the agent holds and the manifest lacked, name those that nobody wants there."""
        keys = {self._task_key(candidate.taskArn): candidate for candidate in question.stopCandidates}
        records = await self._house.store.view(lambda reader: {key: reader.get(TASKS, key) for key in keys})
        unwanted = assignments.to_stop(records, instance_key=self.key)
        await self._tell(
            TaskStopVerificationAck(
                messageId=question.messageId,
                generatedAt=self._milliseconds(),
                stopTasks=[TaskIdentifier(taskArn=keys[k].taskArn, desiredStatus="STOPPED", taskClusterArn=keys[k].taskClusterArn) for k in unwanted],
            )
        )

    async def _tell(self, message: Message) -> None:
        await self._send({"type": "websocket.send", "text": encode(message).decode()})

    async def _end(self, code: int) -> None:
        self._closing = -1
        self.closed_because = self.closed_because or "the session failed"
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": self.closed_because})
        except (OSError, RuntimeError):  # the agent was faster
            return

    # -- names -----------------------------------------------------------------------------------------------------------

    def _message_id(self) -> str:
        return self._house.ids.uuid()

    def _next_number(self) -> int:
        """Sequence number of a payload or timeline of a manifest: greater than every earlier one for this instance."""
        self._number += 1
        return self._number

    def _milliseconds(self) -> int:
        return int(self._house.clock.now() * 1000)

    def _cluster_arn(self) -> str:
        return arn.cluster_arn(self._house.region, self._instance.account, self._instance.cluster)

    def _instance_arn(self) -> str:
        return arn.container_instance_arn(self._house.region, self._instance.account, self._instance.cluster, self._instance.id)

    def _identifier(self, task: Task) -> TaskIdentifier:
        return TaskIdentifier(
            taskArn=arn.task_arn(self._house.region, task.account, task.cluster, task.id),
            desiredStatus=task.desired_status,
            taskClusterArn=arn.cluster_arn(self._house.region, task.account, task.cluster),
        )

    def _task_key(self, task_arn: str) -> str:
        """The store key of a task; the ARN itself when it is none of this account's (then no record has that key)."""
        return task_key(task_arn, self._instance.account) or task_arn


def tell_failure(what: str, error: Exception) -> None:
    """Log that a conversation failed. It ends, and its agent begins another one, at another server if there is one: that is all there is to do
    about an error that passes, as when etcd does not answer this server."""
    passes = isinstance(error, HomeportError) and error.temporary
    _log.log(logging.WARNING if passes else logging.ERROR, "%s: %s", what, error, exc_info=None if passes else error)
