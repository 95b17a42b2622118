"""A daemon task definition: a numbered revision of a family that only daemons run.

Owns: `DaemonTaskDefinition`, its statuses and their transitions. Never validates input
(`api/ecs/daemon_task_definition.py` does). Families of daemon task definitions and of task definitions know nothing of each other: the same name may
be in both.
"""

from __future__ import annotations

from typing import Final

from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.record import Instant, Record, Tags

ACTIVE: Final = "ACTIVE"
DELETE_IN_PROGRESS: Final = "DELETE_IN_PROGRESS"
DELETED: Final = "DELETED"

TRANSITIONS: Final[dict[str, tuple[str, ...]]] = {
    ACTIVE: (DELETE_IN_PROGRESS,),
    DELETE_IN_PROGRESS: (DELETED,),
    DELETED: (),
}
"""From a status, the statuses it may move to. Owners: `api/ecs/daemon_task_definition.py`, and of DELETED `controllers/daemon_task_definition.py`."""


class DaemonTaskDefinition(Record, frozen=True, kw_only=True):
    """One revision. Its key is ACCOUNT/FAMILY:NNNNNNN, as that of a task definition, in a table of its own."""

    account: str
    family: str
    revision: int
    status: str
    registered_at: Instant
    registered_by: str
    """ARN of the principal that registered it."""
    shown: bytes
    """JSON object of the API's `daemonTaskDefinition` without daemonTaskDefinitionArn, revision, status and what tells of its registration."""
    definition: TaskDefinition
    """The same as a task definition: what placement, planners and agents are told. Nothing reads its status."""
    delete_requested_at: Instant = 0.0
    deleted_at: Instant = 0.0
    """When it turned DELETED."""
    tags: Tags = ()

    @property
    def key(self) -> str:
        """ACCOUNT/FAMILY:NNNNNNN."""
        return task_definition_key(self.account, self.family, self.revision)

    @property
    def reference(self) -> str:
        """ACCOUNT/FAMILY:N, as the indexes of tasks and daemons name it."""
        return f"{self.account}/{self.family}:{self.revision}"
