"""A daemon deployment: one daemon revision on its way to every instance of the daemon, or the daemon on its way out.

Owns: `DaemonDeployment`, its statuses and transitions, what its monitors have come to, and `DaemonDeploymentConfiguration`. Never counts tasks; never
says what a revision consists of (`daemon_revision.py`). A rollback is a part of the deployment that it undoes.
"""

from __future__ import annotations

import functools
from typing import Final

import msgspec

from homeport.model.ecs.deployment import AlarmMonitor, CircuitBreaker
from homeport.model.record import Instant, Record

PENDING: Final = "PENDING"
IN_PROGRESS: Final = "IN_PROGRESS"
STOP_REQUESTED: Final = "STOP_REQUESTED"
STOPPED: Final = "STOPPED"
SUCCESSFUL: Final = "SUCCESSFUL"
ROLLBACK_IN_PROGRESS: Final = "ROLLBACK_IN_PROGRESS"
ROLLBACK_SUCCESSFUL: Final = "ROLLBACK_SUCCESSFUL"
ROLLBACK_FAILED: Final = "ROLLBACK_FAILED"

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset((IN_PROGRESS, STOP_REQUESTED, STOPPED)),
    IN_PROGRESS: frozenset((SUCCESSFUL, STOP_REQUESTED, STOPPED, ROLLBACK_IN_PROGRESS)),
    STOP_REQUESTED: frozenset((STOPPED,)),
    ROLLBACK_IN_PROGRESS: frozenset((ROLLBACK_SUCCESSFUL, ROLLBACK_FAILED)),
    SUCCESSFUL: frozenset(),
    STOPPED: frozenset(),
    ROLLBACK_SUCCESSFUL: frozenset(),
    ROLLBACK_FAILED: frozenset(),
}
"""Where the status may go. Owners: `controllers/daemon_deployment.py`; `api/ecs/daemon.py` ends one that another takes the place of."""
TERMINAL: Final = frozenset(status for status, following in TRANSITIONS.items() if not following)

DRAIN_PERCENT_DEFAULT: Final = 25.0
"""Amazon ECS Developer Guide, daemon deployments."""


class DaemonAlarms(msgspec.Struct, frozen=True, rename="camel"):
    """Which alarms a daemon deployment watches, in the API's form."""

    alarm_names: tuple[str, ...] = ()
    enable: bool = False


class DaemonDeploymentConfiguration(msgspec.Struct, frozen=True, rename="camel"):
    """How a daemon rolls out, in the API's form."""

    drain_percent: float = DRAIN_PERCENT_DEFAULT
    """How many of a daemon's instances may be without it at a time, in percent."""
    bake_time_in_minutes: int = 0
    """How long after each step nothing is done but watching."""
    alarms: DaemonAlarms | msgspec.UnsetType = msgspec.UNSET

    @property
    def alarm_names(self) -> tuple[str, ...]:
        """Names of the alarms, whether they are watched or not."""
        return self.alarms.alarm_names if isinstance(self.alarms, DaemonAlarms) else ()

    @property
    def watches(self) -> bool:
        """Whether the alarms are watched."""
        return isinstance(self.alarms, DaemonAlarms) and self.alarms.enable


@functools.lru_cache(maxsize=1024)
def configuration_of(stored: bytes) -> DaemonDeploymentConfiguration:
    """The configuration in a deployment's JSON; the defaults for b""."""
    return msgspec.json.decode(stored, type=DaemonDeploymentConfiguration) if stored else DaemonDeploymentConfiguration()


class DaemonRollback(Record, frozen=True, kw_only=True):
    """Why and to what a daemon deployment is rolled back."""

    reason: str
    started_at: Instant
    revision_id: str
    """Digits of the daemon revision that is deployed instead."""
    capacity_providers: tuple[str, ...] = ()
    """Names of those that it concerns."""


class DaemonDeployment(Record, frozen=True, kw_only=True):
    """A daemon deployment. Its key is ACCOUNT/CLUSTER/DAEMON/ID."""

    account: str
    cluster: str
    daemon: str
    id: str
    """19 digits."""
    status: str
    created_at: Instant
    updated_at: Instant
    revision_id: str
    """Digits of the daemon revision that it deploys; "" for the one that takes a deleted daemon away."""
    source_revision_ids: tuple[str, ...] = ()
    """Digits of the daemon revisions that had tasks when it was made."""
    status_reason: str = ""
    started_at: Instant = 0.0
    stopped_at: Instant = 0.0
    finished_at: Instant = 0.0
    configuration: bytes = b""
    """JSON of `deploymentConfiguration`."""
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    alarms: AlarmMonitor = AlarmMonitor()
    rollback: DaemonRollback | None = None
    steps: int = 0
    """How many times instances were taken to be changed; each step ends with a bake time."""
    bake_started_at: Instant = 0.0
    """When the bake time of the last step began; 0.0: it has not."""
    failed_tasks: int = 0
    """Consecutive tasks that stopped before they were healthy; this and the following count as those of a service's deployment do."""
    failures_to_start: int = 0
    throttled_until: Instant = 0.0
    impaired: bool = False
    ends_counted_at: Instant = 0.0
    failure_round_at: Instant = 0.0
    crashes: int = 0
    step_left: int = 0
    """Instances of the present step whose older task is still to be stopped; a step of many takes several transactions."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/DAEMON/ID."""
        return f"{self.account}/{self.cluster}/{self.daemon}/{self.id}"

    @property
    def daemon_key(self) -> str:
        """ACCOUNT/CLUSTER/DAEMON."""
        return f"{self.account}/{self.cluster}/{self.daemon}"

    @property
    def target_id(self) -> str:
        """Digits of the daemon revision that instances are to get: what a rollback goes back to, once there is one."""
        return self.rollback.revision_id if self.rollback else self.revision_id

    @property
    def started_by(self) -> str:
        """`startedBy` of the tasks that it starts."""
        return f"ecs-daemon/{self.id}"
