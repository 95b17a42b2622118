"""What the dispatcher changes in the store, as commands: any server gives them, only the leader carries them out.

Owns: the kinds of `Command`, `CarryOut`, and the form in which a command and its result go between servers. Never decides when to give one.
Each may be carried out twice with the effect of once: it names its session, or says what was seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from homeport.acs.messages import InstanceStatus, TaskHealth
from homeport.dispatcher import liveness
from homeport.dispatcher.health import with_health, with_status
from homeport.dispatcher.liveness import SessionRefusedError
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import TASK_FAILED_TO_START
from homeport.planner import task as planner
from homeport.store.store import Store
from homeport.store.table import Transaction
from homeport.store.tables import CONTAINER_INSTANCES, TASKS


class OpenSession(msgspec.Struct, frozen=True, tag=True):
    """Make `session_id` the one session of the instance under `key`; the result is the instance. Raises SessionRefusedError."""

    key: str
    session_id: str
    server: str
    identity: str = ""
    """The host that connects; "" for an agent with other credentials than a host's."""

    @property
    def cause(self) -> str:
        """For the journal."""
        return f"dispatcher: agent connects, session {self.session_id}"

    def apply(self, tx: Transaction) -> ContainerInstance:
        """Carry it out."""
        liveness.require_own(tx, self.key, self.identity)
        return liveness.opened(tx, self.key, session_id=self.session_id, server=self.server)


class EndSession(msgspec.Struct, frozen=True, tag=True):
    """Say that `session_id` is over, if it still is the instance's session."""

    key: str
    session_id: str
    why: str

    @property
    def cause(self) -> str:
        """For the journal."""
        return f"dispatcher: agent disconnects, session {self.session_id}: {self.why}"

    def apply(self, tx: Transaction) -> None:
        """Carry it out."""
        liveness.ended(tx, self.key, session_id=self.session_id)


class KeepHealth(msgspec.Struct, frozen=True, tag=True):
    """What the agent on `instance_key` says of its containers' health."""

    instance_key: str
    reports: dict[str, TaskHealth]
    """By the task's key."""

    @property
    def cause(self) -> str:
        """For the journal."""
        return f"dispatcher: container health from instance {self.instance_key.rpartition('/')[2]}"

    def apply(self, tx: Transaction) -> None:
        """Carry it out."""
        for key, report in self.reports.items():
            task = tx.get(TASKS, key)
            if task is not None:
                tx.put(TASKS, with_health(task, report, self.instance_key))


class KeepStatus(msgspec.Struct, frozen=True, tag=True):
    """What the agent on `instance_key` says of its container runtime."""

    instance_key: str
    status: InstanceStatus

    @property
    def cause(self) -> str:
        """For the journal."""
        return f"dispatcher: status of instance {self.instance_key.rpartition('/')[2]}"

    def apply(self, tx: Transaction) -> None:
        """Carry it out."""
        instance = tx.get(CONTAINER_INSTANCES, self.instance_key)
        if instance is not None:
            tx.put(CONTAINER_INSTANCES, with_status(instance, self.status, tx.now))


class IssuedCredentials(msgspec.Struct, frozen=True):
    """That credentials of a role go to the agent of a task."""

    task_key: str
    role_type: str
    role_arn: str
    access_key_id: str
    expires_at: float


class NoteCredentials(msgspec.Struct, frozen=True, tag=True):
    """Keep in the journal which credentials are about to go to the agent on `instance_key`; of what is secret in them it knows nothing."""

    instance_key: str
    issued: tuple[IssuedCredentials, ...]

    @property
    def cause(self) -> str:
        """For the journal."""
        each = (f"{one.role_type} {one.role_arn} for task {one.task_key.rpartition('/')[2]}, key {one.access_key_id}" for one in self.issued)
        return f"dispatcher: credentials to instance {self.instance_key.rpartition('/')[2]}: {'; '.join(each)}"

    def apply(self, tx: Transaction) -> None:
        """Carry it out."""
        for one in self.issued:
            task = tx.get(TASKS, one.task_key)
            if task is not None and task.instance_key == self.instance_key:
                tx.put(TASKS, msgspec.structs.replace(task, credentials_until=one.expires_at))


class RefuseRole(msgspec.Struct, frozen=True, tag=True):
    """Stop a task that has not run yet, since it cannot have a role that it needs. One that runs already goes on, as ECS lets it."""

    task_key: str
    reason: str

    @property
    def cause(self) -> str:
        """For the journal."""
        return f"dispatcher: no credentials for task {self.task_key.rpartition('/')[2]}: {self.reason}"

    def apply(self, tx: Transaction) -> None:
        """Carry it out."""
        task = tx.get(TASKS, self.task_key)
        if task is not None and not task.started_at:
            tx.put(TASKS, planner.stop(task, stop_code=TASK_FAILED_TO_START, reason=self.reason, now=tx.now))


Command = OpenSession | EndSession | KeepHealth | KeepStatus | NoteCredentials | RefuseRole
CarryOut = Callable[[Command], Awaitable[Any]]
"""Carries out a command, here or on the leader; returns its result once that is durable."""


class _Result(msgspec.Struct, frozen=True):
    """What comes back from another server."""

    instance: ContainerInstance | None = None
    refused: tuple[str, str] | None = None
    """Exception and message of a SessionRefusedError."""


_COMMAND: Final = msgspec.msgpack.Decoder(Command)
_RESULT: Final = msgspec.msgpack.Decoder(_Result)


def commit_to(store: Store) -> CarryOut:
    """The port of a server that leads, or of one that is alone."""

    async def commit(command: Command) -> Any:
        return await store.update(command.apply, cause=command.cause)

    return commit


def request_of(command: Command) -> bytes:
    """A command on its way to the leader."""
    return msgspec.msgpack.encode(command)


async def carry_out(store: Store, request: bytes) -> bytes:
    """The leader's answer to `request_of`. Raises what `Store.update` raises, msgspec.DecodeError for what is no command."""
    command = _COMMAND.decode(request)
    try:
        result = await store.update(command.apply, cause=command.cause)
    except SessionRefusedError as error:
        return msgspec.msgpack.encode(_Result(refused=(error.exception, error.message)))
    return msgspec.msgpack.encode(_Result(instance=result))


def result_of(answer: bytes) -> Any:
    """What a command came to, from the leader's answer. Raises SessionRefusedError."""
    result = _RESULT.decode(answer)
    if result.refused is not None:
        raise SessionRefusedError(*result.refused)
    return result.instance
