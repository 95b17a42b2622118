"""One agent's telemetry (TCS) connection: container health, instance status, metrics.

Owns: the answers to an agent's publications, and when one is worth a write (health.py says which): only when something
changes. Never stores a sample: metrics are acknowledged and dropped until there is a place for them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from homeport.acs.messages import (
    AckPublishHealth,
    AckPublishInstanceStatus,
    AckPublishMetric,
    InstanceStatus,
    Message,
    PublishHealthRequest,
    PublishInstanceStatusRequest,
    PublishMetricsRequest,
    TaskHealth,
    decode,
    encode,
)
from homeport.dispatcher.command import KeepHealth, KeepStatus
from homeport.dispatcher.health import with_health
from homeport.dispatcher.payload import task_key
from homeport.dispatcher.session import INTERNAL_ERROR, NORMAL, House, Receive, Send, tell_failure
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task
from homeport.store.table import Reader
from homeport.store.tables import CONTAINER_INSTANCES, TASKS

TASKS_PER_TRANSACTION_MAX: Final = 100
CONTAINER_RUNTIME: Final = "ContainerRuntime"

_log = logging.getLogger(__name__)


def body_of(frame: str | bytes) -> str | bytes:
    """The JSON of an agent's frame: the upstream agent puts a signed pseudo-HTTP header block and a blank line before it."""
    if isinstance(frame, bytes):
        return frame if frame.startswith(b"{") else frame.partition(b"\r\n\r\n")[2]
    return frame if frame.startswith("{") else frame.partition("\r\n\r\n")[2]


class TelemetrySession:
    """The telemetry of one instance's agent. The connection before it is what authenticated it; a frame's own signature is not looked at."""

    __slots__ = ("_ended", "_expires", "_house", "_instance", "_send", "identity")

    def __init__(self, house: House, instance: ContainerInstance, send: Send, *, identity: str = "") -> None:
        """`identity`: the host that opened the connection, "" for other credentials than a host's."""
        self.identity = identity
        self._house = house
        self._instance = instance
        self._send = send
        self._expires = house.clock.monotonic() + house.settings.session_max_seconds * house.ids.uniform(0.9, 1.0)
        self._ended = False

    @property
    def key(self) -> str:
        """The instance's key."""
        return self._instance.key

    def due(self, now: float) -> float | None:
        """Age: called by the wheel."""
        if self._ended:
            return None
        if now >= self._expires:
            self.close(NORMAL, "the connection is old")
            return None
        return self._expires

    def close(self, code: int, why: str) -> None:
        """Send a close frame."""
        if not self._ended:
            self._ended = True
            self._house.spawn(self._end(code, why))

    async def listen(self, receive: Receive) -> None:
        """Handle publications in order until the connection ends."""
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                self._ended = True
                return
            try:
                answer = await self._hear(event.get("text") or event.get("bytes") or b"")
                if answer is not None and not self._ended:
                    await self._send({"type": "websocket.send", "text": encode(answer).decode()})
            except OSError:
                self._ended = True
                return
            except Exception as error:
                tell_failure(f"instance {self.key}: telemetry failed", error)
                self.close(INTERNAL_ERROR, "the session failed")

    async def _hear(self, frame: str | bytes) -> Message | None:
        try:
            message = decode(body_of(frame))
        except msgspec.DecodeError as error:
            _log.warning("instance %s: a telemetry frame that is no message: %s", self.key, error)
            return None
        if isinstance(message, PublishHealthRequest):
            await self._keep_health(message.tasks)
            return AckPublishHealth()
        if isinstance(message, PublishInstanceStatusRequest):
            await self._keep_status(message.statuses)
            return AckPublishInstanceStatus()
        return AckPublishMetric() if isinstance(message, PublishMetricsRequest) else None

    async def _keep_health(self, reports: list[TaskHealth]) -> None:
        """Write what changed. Most publications repeat what is known and cost a read of the store."""
        said = {key: report for report in reports if (key := task_key(report.taskArn, self._instance.account))}

        def differing(reader: Reader) -> list[str]:
            return [task.key for task in _records(reader, said) if with_health(task, said[task.key], self.key) != task]

        changed = await self._house.store.view(differing)
        for start in range(0, len(changed), TASKS_PER_TRANSACTION_MAX):
            some = changed[start : start + TASKS_PER_TRANSACTION_MAX]
            await self._house.commit(KeepHealth(self.key, {key: said[key] for key in some}))

    async def _keep_status(self, statuses: list[InstanceStatus]) -> None:
        said = next((status for status in statuses if status.type == CONTAINER_RUNTIME), None)
        if said is None:
            return
        known = await self._house.store.view(lambda reader: reader.get(CONTAINER_INSTANCES, self.key))
        if known is None or known.health == said.status:
            return
        await self._house.commit(KeepStatus(self.key, said))

    async def _end(self, code: int, why: str) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": why})
        except (OSError, RuntimeError):  # the agent was faster
            return


def _records(reader: Reader, keys: Iterable[str]) -> list[Task]:
    return [task for key in keys if (task := reader.get(TASKS, key)) is not None]
