"""What a forecast is told and tells.

Owns: `Agents`, `Moment`. Never holds state of the store.
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeport.model.ecs import task as task_model
from homeport.model.ecs.service import ServiceEvent
from homeport.model.ecs.task import Task
from homeport.model.record import Instant, Record

START: Final = "START"
STOP: Final = "STOP"
EVENT: Final = "EVENT"
GONE: Final = "GONE"
RUNNING: Final = "RUNNING"


class Agents(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take, in seconds."""

    start_seconds: float = 5.0
    """From a task's making to RUNNING."""
    stop_seconds: float = 5.0
    """From the wish to STOPPED."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that would happen."""

    at: Instant
    kind: str
    """START (a task is made), RUNNING, STOP (it is told to stop), GONE (it is STOPPED) or EVENT (a sentence for the service's events)."""
    key: str = ""
    """ACCOUNT/CLUSTER/TASK, or of the service of an event."""
    service: str = ""
    family: str = ""
    revision: int = 0
    instance_key: str = ""
    cpu: int = 0
    memory_mib: int = 0
    reason: str = ""

    @classmethod
    def of(cls, at: Instant, before: Record | None, after: Record | None) -> Moment | None:
        """The moment that a record's change is, or None for one that nobody asks for."""
        if isinstance(after, ServiceEvent):
            return cls(at=at, kind=EVENT, key=after.service_key, service=after.service, reason=after.message)
        if not isinstance(after, Task):
            return None
        kind = _kind(before if isinstance(before, Task) else None, after)
        if not kind:
            return None
        return cls(
            at=at,
            kind=kind,
            key=after.key,
            service=after.service,
            family=after.family,
            revision=after.revision,
            instance_key=after.instance_key,
            cpu=after.cpu,
            memory_mib=after.memory_mib,
            reason=after.stopped_reason if kind in (STOP, GONE) else "",
        )


def _kind(before: Task | None, after: Task) -> str:
    if before is None:
        return START
    if after.last_status == task_model.STOPPED != before.last_status:
        return GONE
    if after.desired_status == task_model.STOPPED != before.desired_status:
        return STOP
    return RUNNING if after.last_status == task_model.RUNNING != before.last_status else ""
