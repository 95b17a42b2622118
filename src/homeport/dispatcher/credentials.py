"""Credentials of tasks' roles: who gets some, and when new ones are due.

Owns: `TaskRole`, `OpenKey`, `Vault`, `issued`, `refusal_of`, `Schedule`. Pure: keys, ids and instants are arguments. Nothing is stored for a
session: it is in its token (`iam.session`), and the id under which a container asks for it is made anew from the installation's oldest key each time.
Source: ECS developer guide, "Amazon ECS task IAM role" and "task execution IAM role"; agent-protocol.md 5.3.
"""

from __future__ import annotations

import functools
import hmac
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from homeport.acs.messages import RoleCredentials
from homeport.errors import MalformedPolicyDocumentError
from homeport.iam.document import Kind, Policy, parse
from homeport.iam.evaluate import Policies, Request, evaluate
from homeport.iam.principal import Principal, PrincipalKind
from homeport.iam.session import Session, access_key_id, issue
from homeport.model import arn
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.iam.role import Role
from homeport.model.secret import Secret
from homeport.store.table import Reader
from homeport.store.tables import ROLES, SESSION_KEYS
from homeport.vault.keyring import Secrets, place_of

TASK: Final = "TaskApplication"
EXECUTION: Final = "TaskExecution"
"""The two types of roles, in the protocol's words."""
TASKS_PRINCIPAL: Final = "ecs-tasks.amazonaws.com"
"""Whom a role must trust to be a task's."""
REFRESHES_PER_LIFE: Final = 3
"""New credentials come this often in the life of one set, so that one that was lost on the way leaves time for the next."""
_ID: Final = b"homeport credentials id 1"


class TaskRole(NamedTuple):
    """A role of a task."""

    type: str
    """TASK or EXECUTION."""
    arn: str


class OpenKey(NamedTuple):
    """A session key, opened."""

    id: str
    secret: Secret


class Vault(NamedTuple):
    """What credentials are made of, read in one moment of the store."""

    keys: tuple[OpenKey, ...]
    """Of the installation, the oldest first."""
    roles: Mapping[str, Role]
    """By ARN, those of them that are there."""


def roles_of(task: Task, definition: TaskDefinition) -> tuple[TaskRole, ...]:
    """The roles of `task`: those of its overrides, else those of its definition. A name alone means a role of the task's account."""
    if b"oleArn" not in definition.document and b"oleArn" not in task.overrides:
        return ()  # by far the most tasks, and without reading any JSON
    named = _named(definition.document) | (_named(task.overrides) if task.overrides else {})
    return tuple(
        TaskRole(kind, name if name.startswith("arn:") else arn.role_arn(task.account, "/", name))
        for kind, member in ((TASK, "taskRoleArn"), (EXECUTION, "executionRoleArn"))
        if (name := named.get(member))
    )


@functools.lru_cache(maxsize=256)
def _named(document: bytes) -> dict[str, str]:
    found = msgspec.json.decode(document)
    return {member: found[member] for member in ("taskRoleArn", "executionRoleArn") if found.get(member)}


def vault_of(reader: Reader, wanted: Iterable[TaskRole], secrets: Secrets) -> Vault:
    """What is needed to make credentials of `wanted`. `secrets` opens the session keys."""
    roles: dict[str, Role] = {}
    for role_arn in dict.fromkeys(role.arn for role in wanted):
        parsed = arn.parse_arn(role_arn)
        role = reader.get(ROLES, f"{parsed.account}/{parsed.resource.rpartition('/')[2].lower()}") if parsed else None
        if role is not None and arn.role_arn(role.account, role.path, role.name) == role_arn:
            roles[role_arn] = role
    keys = sorted(reader.scan(SESSION_KEYS), key=lambda key: (key.created_at, key.id))
    return Vault(tuple(OpenKey(key.id, secrets.open(key.secret, place_of(SESSION_KEYS.name, key.id))) for key in keys), roles)


def refusal_of(task: Task, role_arn: str, role: Role | None, *, region: str, now: float) -> str:
    """Why `task` may not have `role_arn`, in ECS's words; "" when it may: the role is there, in the task's account, and trusts ECS's tasks."""
    if role is not None and role.account == task.account and _trusts(task, role, region=region, now=now):
        return ""
    return (
        f"ECS was unable to assume the role '{role_arn}' that was provided for this task. Please verify that the role being passed has the "
        "proper trust relationship and permissions and that your IAM user has permissions to pass this role."
    )


def _trusts(task: Task, role: Role, *, region: str, now: float) -> bool:
    context = {
        "aws:sourcearn": arn.task_arn(region, task.account, task.cluster, task.id),
        "aws:sourceaccount": task.account,
        "aws:currenttime": _instant(now),
        "aws:epochtime": str(int(now)),
        "aws:principalisawsservice": "true",
        "aws:principalservicename": TASKS_PRINCIPAL,
        "aws:requestedregion": region,
        "sts:rolesessionname": task.id,
    }
    service = Principal(PrincipalKind.SERVICE, TASKS_PRINCIPAL, task.account)
    wanted = Request(service, "sts:AssumeRole", arn.role_arn(role.account, role.path, role.name), role.account, context, trusts=True)
    return evaluate(wanted, Policies(), _trust(role.trust)).allowed


@functools.lru_cache(maxsize=256)
def _trust(document: str) -> Policy | None:
    try:
        return parse(document, kind=Kind.TRUST, name="trust")
    except MalformedPolicyDocumentError:  # stored by a version that took it: it trusts nobody
        return None


def issued(task: Task, wanted: TaskRole, vault: Vault, *, now: float, seconds: float, chance: str) -> RoleCredentials:
    """A session of the role for `task`, named by its id as ECS has it, for `seconds`. `chance`: 8 random characters. The role is in `vault`."""
    role, newest = vault.roles[wanted.arn], vault.keys[-1]
    session = Session(
        access_key_id=access_key_id(role.account, chance),
        account=role.account,
        arn=arn.session_arn(role.account, role.name, task.id),
        source_arn=wanted.arn,
        source_id=role.id,
        issued_at=int(now),
        expires_at=int(now + seconds),
        task=task.key,
    )
    made = issue(session, newest.id, newest.secret)
    return RoleCredentials(
        credentialsId=credentials_id(task, wanted.type, vault.keys[0]),
        roleArn=wanted.arn,
        accessKeyId=session.access_key_id,
        secretAccessKey=made.secret,
        sessionToken=made.token,
        expiration=_instant(session.expires_at),
    )


def credentials_id(task: Task, role_type: str, oldest: OpenKey) -> str:
    """The id of a task's credentials: 128 bits that nobody without the installation's key can guess, the same for as long as the task lives."""
    text = f"{task.key} {role_type}".encode()
    return str(uuid.UUID(bytes=hmac.digest(hmac.digest(oldest.secret.encode(), _ID, "sha256"), text, "sha256")[:16]))


def _instant(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")


class Schedule:
    """Which tasks of one connection need new credentials next. Each has its place once, in the order in which they come due."""

    def __init__(self, wait_seconds: float) -> None:
        """`wait_seconds`: from one set of credentials to the next."""
        self._wait_seconds = wait_seconds
        self._queue: deque[tuple[float, str]] = deque()
        self._due: dict[str, float] = {}

    def given(self, task_key: str, now: float) -> None:
        """A task was given credentials at `now` (monotonic seconds), or was to be."""
        due = now + self._wait_seconds
        self._due[task_key] = due
        self._queue.append((due, task_key))

    def drop(self, task_key: str) -> None:
        """A task needs none any more."""
        self._due.pop(task_key, None)

    def take(self, now: float) -> Iterator[str]:
        """Those that are due at `now`, and will be within a tenth of the wait: what comes together goes together."""
        while self._queue and self._queue[0][0] <= now + self._wait_seconds / 10:
            due, task_key = self._queue.popleft()
            if self._due.get(task_key) == due:
                del self._due[task_key]
                yield task_key

    @property
    def next(self) -> float | None:
        """When the next ones are due."""
        while self._queue and self._due.get(self._queue[0][1]) != self._queue[0][0]:
            self._queue.popleft()
        return self._queue[0][0] if self._queue else None
