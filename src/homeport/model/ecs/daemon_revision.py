"""A daemon revision: what one version of a daemon consists of, kept as it was.

Owns: `DaemonRevision`. Never holds how far a deployment of it has come (`daemon_deployment.py`). Nothing of it changes but its digests, which are
written once, when the first task tells them.
"""

from __future__ import annotations

from homeport.model.ecs.service_revision import RevisionContainer
from homeport.model.record import Instant, Record


class DaemonRevision(Record, frozen=True, kw_only=True):
    """A daemon revision. Its key is ACCOUNT/CLUSTER/DAEMON/ID."""

    account: str
    cluster: str
    daemon: str
    id: str
    """19 digits."""
    created_at: Instant
    family: str
    revision: int
    """Family and revision of its daemon task definition."""
    capacity_providers: tuple[str, ...]
    """Names."""
    containers: tuple[RevisionContainer, ...] = ()
    propagate_tags: str = "NONE"
    """DAEMON or NONE."""
    enable_ecs_managed_tags: bool = False
    enable_execute_command: bool = False
    critical: bool = True
    pinned_at: Instant = 0.0
    """When its digests were written; 0.0: not yet."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/DAEMON/ID."""
        return f"{self.account}/{self.cluster}/{self.daemon}/{self.id}"

    @property
    def daemon_key(self) -> str:
        """ACCOUNT/CLUSTER/DAEMON."""
        return f"{self.account}/{self.cluster}/{self.daemon}"

    @property
    def definition(self) -> str:
        """ACCOUNT/FAMILY:N of its daemon task definition."""
        return f"{self.account}/{self.family}:{self.revision}"
