"""A daemon: one task on every container instance of some capacity providers, kept there for all other tasks.

Owns: `Daemon`, its statuses. Never counts tasks; never holds a deployment's progress (`daemon_deployment.py`) nor what a version of it consists of
(`daemon_revision.py`). A service with the scheduling strategy DAEMON is another thing (`service.py`).
"""

from __future__ import annotations

from typing import Final

from homeport.model.ecs.service import DaemonShare
from homeport.model.record import Instant, Record, Tags

ACTIVE: Final = "ACTIVE"
DELETE_IN_PROGRESS: Final = "DELETE_IN_PROGRESS"

TRANSITIONS: Final[dict[str, tuple[str, ...]]] = {ACTIVE: (DELETE_IN_PROGRESS,), DELETE_IN_PROGRESS: ()}
"""From a status, the statuses it may move to. Owner: `api/ecs/daemon.py`. The record of one that is deleted goes with its last task."""

DAEMON: Final = "DAEMON"
NONE: Final = "NONE"


class Daemon(Record, frozen=True, kw_only=True):
    """A daemon. Its key is ACCOUNT/CLUSTER/NAME."""

    account: str
    cluster: str
    name: str
    status: str
    created_at: Instant
    updated_at: Instant
    created_by: str
    revision_id: str
    """Digits of the daemon revision that every instance is to have: the one of the last call, or what a rollback went back to."""
    deployment_id: str
    """Digits of the newest daemon deployment."""
    capacity_providers: tuple[str, ...]
    """Names."""
    definitions: tuple[str, ...] = ()
    """ACCOUNT/FAMILY:N of the daemon task definitions that its tasks may still be started with: of `revision_id` and `completed_revision_id`."""
    critical: bool = True
    """Whether an instance is of no use without its task: that of the revision `revision_id`."""
    completed_revision_id: str = ""
    """Digits of the daemon revision whose deployment completed last: what a rollback goes to. "": none did."""
    share: DaemonShare | None = None
    """What every instance of it keeps free for its task; None while no task is to be there."""
    tags: Tags = ()

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/NAME."""
        return f"{self.account}/{self.cluster}/{self.name}"

    @property
    def cluster_key(self) -> str:
        """ACCOUNT/CLUSTER."""
        return f"{self.account}/{self.cluster}"

    @property
    def group(self) -> str:
        """The group of its tasks."""
        return f"daemon:{self.name}"
