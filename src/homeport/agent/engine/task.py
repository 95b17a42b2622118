"""The engine's own records of a task: what is wanted, what was seen, what was told, and what may happen to it.

Owns: `TaskState`, `ContainerState`, the events that go into the machine and the actions that come out, and their stored form.
Never changes a record: `machine.py` makes new ones.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeport.acs.messages import ContainerPayload, TaskPayload
from homeport.agent.engine.report import NetworkBinding, TaskReport
from homeport.agent.runtime.contract import ContainerObservation

STORED_FORM = 1
"""Version of the stored form; a change that an older reader cannot take raises it."""

KNOWN = ("NONE", "PULLED", "CREATED", "RUNNING", "STOPPED")
"""What is known of a container, in the only order that it moves in."""

Step = Literal["", "PULL", "LAUNCH", "STOP"]


LABEL_NOTES = "homeport.notes"
"""The label of a container that says what this host could not give it as asked for."""


class ContainerState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One container of a task. Times are seconds since the epoch."""

    name: str
    known: str = "NONE"
    """One of KNOWN; moves forward only."""
    step: Step = ""
    """What the executor is doing for it now; never stored, since a restart ends every step."""
    runtime_id: str | None = None
    exit_code: int | None = None
    reason: str = ""
    image_digest: str | None = None
    bindings: tuple[NetworkBinding, ...] = ()
    health: str = "UNKNOWN"
    health_since: float = 0.0
    health_output: str = ""
    started_at: float | None = None
    """When its newest run began; None means that it never ran."""
    ended_at: float = 0.0
    """End of the newest run that was dealt with; an exit not later than this is old news."""
    restarts: int = 0
    overdue: bool = False
    """Its startTimeout passed before it did what another container waits for."""
    note: str = ""
    """What this host could not give it as asked for; told as its reason while it has no other."""

    @property
    def rank(self) -> int:
        """Place of `known` in KNOWN."""
        return KNOWN.index(self.known)


class TaskState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task. `payload` is what the control plane sent; it is never changed."""

    payload: TaskPayload
    desired: str
    """RUNNING or STOPPED; never leaves STOPPED."""
    known: str = "NONE"
    """NONE, RUNNING or STOPPED; moves forward only."""
    containers: tuple[ContainerState, ...] = ()
    prepared: bool = False
    """Its volumes and cgroup exist."""
    preparing: bool = False
    """The executor is making them; never stored."""
    reason: str = ""
    pull_started_at: float | None = None
    pull_stopped_at: float | None = None
    execution_stopped_at: float | None = None
    told: TaskReport | None = None
    """The newest report made."""
    acknowledged: str = ""
    """Status of the newest report that the control plane has."""
    acknowledged_at: float | None = None
    form: int = STORED_FORM

    @property
    def arn(self) -> str:
        """The task's ARN."""
        return self.payload.arn

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.payload.arn.rsplit("/", 1)[-1]

    def container(self, name: str) -> ContainerState:
        """The container of that name. Raises KeyError."""
        for container in self.containers:
            if container.name == name:
                return container
        raise KeyError(name)

    def definition(self, name: str) -> ContainerPayload:
        """What the control plane said about the container of that name. Raises KeyError."""
        for container in self.payload.containers:
            if container.name == name:
                return container
        raise KeyError(name)


# -- events: what happened ------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True):
    """Something that happened, told to the machine."""


class Continue(Event, frozen=True):
    """Nothing new: say what is to be done (after submission and after recovery)."""


class StopWanted(Event, frozen=True):
    """The control plane wants the task STOPPED."""


class Prepared(Event, frozen=True):
    """Volumes and cgroup exist."""


class PrepareFailed(Event, frozen=True):
    """Volumes or cgroup could not be made."""

    reason: str


class Pulled(Event, frozen=True):
    """The image is here. `fresh`: a registry was asked for it just now."""

    name: str
    digest: str | None
    fresh: bool
    started_at: float
    stopped_at: float


class PullFailed(Event, frozen=True):
    """The image is not here and cannot be had."""

    name: str
    reason: str
    started_at: float
    stopped_at: float


class Created(Event, frozen=True):
    """The container exists; its start follows in the same step."""

    name: str
    runtime_id: str


class Launched(Event, frozen=True):
    """The start call succeeded; `observation` was made after it."""

    name: str
    observation: ContainerObservation


class LaunchFailed(Event, frozen=True):
    """Creating or starting failed; or the step was given up because the task is to stop (`reason` "")."""

    name: str
    reason: str


class Seen(Event, frozen=True):
    """An inspection of the container."""

    name: str
    observation: ContainerObservation


class Gone(Event, frozen=True):
    """The container does not exist, though it was made."""

    name: str


class StopEnded(Event, frozen=True):
    """The stop call returned."""

    name: str


class Overdue(Event, frozen=True):
    """The container's startTimeout has passed since it started."""

    name: str


class Acknowledged(Event, frozen=True):
    """The control plane has a report of this status."""

    status: str


# -- actions: what to do --------------------------------------------------------------------------------------------------


class Action(msgspec.Struct, frozen=True):
    """Something for the executor to do; each is safe to do twice."""


class Prepare(Action, frozen=True):
    """Make the task's volumes and cgroup."""


class Pull(Action, frozen=True):
    """Get the container's image."""

    name: str


class Launch(Action, frozen=True):
    """Create the container unless it exists, then start it."""

    name: str


class Stop(Action, frozen=True):
    """Stop signal, timeout, KILL."""

    name: str


class Watch(Action, frozen=True):
    """Tell Overdue after `seconds`."""

    name: str
    seconds: float


class Tell(Action, frozen=True):
    """Hand the report to the reporter."""

    report: TaskReport


class Discard(Action, frozen=True):
    """Remove containers, volumes and cgroup after the cleanup delay, then forget the task."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TaskState)


def encode(task: TaskState) -> bytes:
    """The stored form of a task: everything but the steps under way."""
    if task.preparing or any(container.step for container in task.containers):
        idle = tuple(msgspec.structs.replace(container, step="") for container in task.containers)
        task = msgspec.structs.replace(task, preparing=False, containers=idle)
    return _encoder.encode(task)


def decode(value: bytes) -> TaskState:
    """A task from its stored form. Raises msgspec.ValidationError."""
    return _decoder.decode(value)
