"""The credentials that one agent's connection carries: with a task, and anew before they expire.

Owns: `Issuer`: what was given over this connection and when it comes anew, and that the journal has each issue before it leaves.
Never decides who may have a role (credentials.py does), never sends anything (session.py does) and keeps no credentials.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from homeport.acs.messages import IAMRoleCredentialsMessage, RoleCredentials
from homeport.dispatcher import credentials
from homeport.dispatcher.command import IssuedCredentials, NoteCredentials, RefuseRole
from homeport.dispatcher.credentials import Schedule, TaskRole, Vault
from homeport.model import arn
from homeport.model.ecs.task import STOPPED, Task
from homeport.store.table import Reader
from homeport.store.tables import TASKS
from homeport.store.task_definitions import definition_of

if TYPE_CHECKING:
    from homeport.dispatcher.session import House

NOTED_MAX: Final = 20
"""Credentials of which one journal entry tells."""
SPREAD: Final = 0.2
"""By how much of the wait a connection's refreshes may come earlier, so that agents that came together do not stay together."""

Given = Mapping[str, RoleCredentials]
"""Role type → credentials."""

_log = logging.getLogger(__name__)


class Issuer:
    """One per connection. What it makes it forgets."""

    def __init__(self, house: House, instance_key: str, session_id: str, *, wake: Callable[[], None]) -> None:
        """`wake` is called when `refreshed` has something to do."""
        self._house = house
        self._instance_key = instance_key
        self._wake = wake
        early = SPREAD * zlib.crc32(session_id.encode()) / 2**32
        self._schedule = Schedule(house.settings.task_credentials_seconds / credentials.REFRESHES_PER_LIFE * (1.0 - early))
        self._waiting: list[str] = []
        self._unacknowledged: set[str] = set()
        self._timed = False
        self._closed = False

    @property
    def waits(self) -> bool:
        """Whether some task needs new credentials now."""
        return bool(self._waiting)

    def close(self) -> None:
        """The connection is over; its timer comes no more."""
        self._closed = True

    def acknowledged(self, credentials_id: str) -> None:
        """The agent has the newest credentials of this id."""
        self._unacknowledged.discard(credentials_id)

    def drop(self, task_key: str) -> None:
        """The task needs none any more."""
        self._schedule.drop(task_key)

    def due(self, now: float) -> float | None:
        """The wheel's turn: note who needs new ones, and say when to come again."""
        self._timed = False
        if self._closed:
            return None
        self._waiting.extend(self._schedule.take(now))
        if self._waiting:
            self._wake()
        again = self._schedule.next
        self._timed = again is not None
        return again

    async def give(self, tasks: Iterable[Task], roles: Mapping[str, tuple[TaskRole, ...]], vault: Vault) -> dict[str, Given]:
        """Credentials for those of `tasks` that have `roles`, by the task's key; the journal has them when this returns.

        A task that may not have a role of its own has no entry; one that has not run yet is stopped with the reason.
        """
        given: dict[str, dict[str, RoleCredentials]] = {}
        noted: list[IssuedCredentials] = []
        house, seconds = self._house, self._house.settings.task_credentials_seconds
        for task in tasks:
            wanted, now = roles.get(task.key, ()), house.clock.now()
            if not wanted:
                continue
            self._plan(task.key)
            reasons = [credentials.refusal_of(task, one.arn, vault.roles.get(one.arn), region=house.region, now=now) for one in wanted]
            if reason := next(filter(None, reasons), ""):
                await self._refuse(task, reason)
                continue
            made = {one.type: credentials.issued(task, one, vault, now=now, seconds=seconds, chance=house.ids.iam_id("")) for one in wanted}
            given[task.key] = made
            self._expect(task, made)
            noted += [IssuedCredentials(task.key, kind, one.roleArn, one.accessKeyId, now + seconds) for kind, one in made.items()]
        for start in range(0, len(noted), NOTED_MAX):
            await house.commit(NoteCredentials(self._instance_key, tuple(noted[start : start + NOTED_MAX])))
        return dict(given)

    async def refreshed(self) -> list[IAMRoleCredentialsMessage]:
        """New credentials for every task that needs some now."""
        keys, self._waiting = self._waiting, []
        tasks, roles, vault = await self._house.store.view(lambda reader: self._read(reader, keys))
        given = await self.give(tasks, roles, vault)
        return [
            IAMRoleCredentialsMessage(
                messageId=self._house.ids.uuid(),
                taskArn=arn.task_arn(self._house.region, task.account, task.cluster, task.id),
                roleType=kind,
                roleCredentials=one,
            )
            for task in tasks
            for kind, one in given.get(task.key, {}).items()
        ]

    def _read(self, reader: Reader, keys: Iterable[str]) -> tuple[list[Task], dict[str, tuple[TaskRole, ...]], Vault]:
        found = [task for key in keys if (task := reader.get(TASKS, key)) is not None]
        tasks = [task for task in found if task.last_status != STOPPED and task.instance_key == self._instance_key]
        definitions = {task.key: definition_of(reader, task) for task in tasks}
        roles = {task.key: credentials.roles_of(task, definition) for task in tasks if (definition := definitions[task.key]) is not None}
        return tasks, roles, credentials.vault_of(reader, (one for each in roles.values() for one in each), self._house.secrets)

    def _plan(self, task_key: str) -> None:
        self._schedule.given(task_key, self._house.clock.monotonic())
        if not self._timed and (at := self._schedule.next) is not None:
            self._timed = True
            self._house.later(self, at)

    def _expect(self, task: Task, made: Given) -> None:
        ids = {one.credentialsId for one in made.values()}
        if ids & self._unacknowledged:
            _log.warning("task %s: its agent did not acknowledge the credentials before these", task.key)
        self._unacknowledged |= ids

    async def _refuse(self, task: Task, reason: str) -> None:
        _log.warning("task %s: %s", task.key, reason)
        if not task.started_at:
            await self._house.commit(RefuseRole(task.key, reason))
