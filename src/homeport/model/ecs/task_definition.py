"""A task definition: a numbered revision of a family.

Owns: `TaskDefinition`, `TaskDefinitionFamily`, and the statuses of a revision. Never validates input (`api/ecs/task_definition.py` does).
The document is kept as AWS gives it back; the few members that placement and the planners read are fields of their own.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record, Tags

ACTIVE: Final = "ACTIVE"
INACTIVE: Final = "INACTIVE"
DELETE_IN_PROGRESS: Final = "DELETE_IN_PROGRESS"

REVISION_MAX: Final = 9_999_999
"""The greatest number that a key has room for, whatever the quota."""


class TaskDefinitionFamily(Record, frozen=True, kw_only=True):
    """The revision counter of a family; it outlives its revisions, so that a number is never used twice."""

    account: str
    family: str
    last_revision: int

    @property
    def key(self) -> str:
        """ACCOUNT/FAMILY."""
        return f"{self.account}/{self.family}"


class HostPort(Record, frozen=True, kw_only=True):
    """A port of the host that a task wants for itself; dynamic ports are not listed."""

    port: int
    protocol: str
    """tcp or udp."""


class TaskDefinition(Record, frozen=True, kw_only=True):
    """One revision. Its key is ACCOUNT/FAMILY:NNNNNNN (revision padded to 7 digits, so that keys sort as revisions do)."""

    account: str
    family: str
    revision: int
    status: str
    registered_at: Instant
    registered_by: str
    """ARN of the principal that registered it."""
    document: bytes
    """JSON object of the API's `taskDefinition` without taskDefinitionArn, revision, status, registeredAt, registeredBy and deregisteredAt;
    normalised as AWS returns it; containerDefinitions, requiresAttributes and compatibilities included."""
    network_mode: str
    """bridge, host, none or awsvpc."""
    cpu: int
    """CPU units that a task of it takes from an instance (1024 a core)."""
    memory_mib: int
    """MiB that a task of it takes from an instance."""
    host_ports: tuple[HostPort, ...] = ()
    """Fixed host ports (in host mode every container port)."""
    requires_attributes: tuple[str, ...] = ()
    """Names of attributes (capabilities) that an instance must have, sorted; `name=value` where a value is needed."""
    placement_constraints: tuple[str, ...] = ()
    """memberOf expressions."""
    unsupported: tuple[str, ...] = ()
    """Member names that RunTask, StartTask and CreateService refuse because they are not built, for example "networkMode=awsvpc"."""
    deregistered_at: Instant = 0.0
    delete_requested_at: Instant = 0.0
    tags: Tags = ()
    gpus: int = 0

    @property
    def key(self) -> str:
        """ACCOUNT/FAMILY:NNNNNNN."""
        return task_definition_key(self.account, self.family, self.revision)

    @property
    def family_key(self) -> str:
        """ACCOUNT/FAMILY."""
        return f"{self.account}/{self.family}"


def task_definition_key(account: str, family: str, revision: int) -> str:
    """The store key of a revision."""
    return f"{account}/{family}:{revision:07d}"
