"""A deployment: one revision of a service on its way to, or at, the service's desired count.

Owns: `Deployment`, its statuses and rollout states. Never counts tasks.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record

PRIMARY: Final = "PRIMARY"
ACTIVE: Final = "ACTIVE"
INACTIVE: Final = "INACTIVE"

IN_PROGRESS: Final = "IN_PROGRESS"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"


class Deployment(Record, frozen=True, kw_only=True):
    """A deployment. Its key is SERVICE_KEY/ID; `deployments[].id` is `ecs-svc/ID`."""

    account: str
    cluster: str
    service: str
    id: str
    """19 digits."""
    status: str
    """PRIMARY (the newest), ACTIVE (being drained), INACTIVE (over; no longer shown)."""
    family: str
    revision: int
    created_at: Instant
    updated_at: Instant
    launch_type: str
    rollout_state: str = IN_PROGRESS
    rollout_state_reason: str = ""
    failed_tasks: int = 0
    """Consecutive tasks that stopped before they were healthy; 0 again when one is healthy."""
    failures_to_start: int = 0
    """Consecutive tasks that stopped without ever RUNNING; drives the launch throttle."""
    throttled_until: Instant = 0.0
    """No task is started before this instant."""
    impaired: bool = False
    """Whether the event "unable to consistently start tasks" was written for this episode."""
    ends_counted_at: Instant = 0.0
    """Ends of tasks up to this instant are in the counters; a later end is counted once, by `planner/deployment.py`."""
    failure_round_at: Instant = 0.0
    """When `failures_to_start` last grew. Tasks made before this instant belong to the same round and do not make it grow again."""
    finished_at: Instant = 0.0
    """When its rollout ended: completed, failed, or superseded while in progress; 0.0 until then."""
    crashes: int = 0
    """Consecutive rounds of tasks that ran and ended by themselves at once; drives the crash brake."""
    source_id: str = ""
    """Digits of the deployment that was PRIMARY before it, or ""."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE/ID."""
        return f"{self.account}/{self.cluster}/{self.service}/{self.id}"

    @property
    def service_key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE."""
        return f"{self.account}/{self.cluster}/{self.service}"
