"""A task set: one version of a service whose deployments somebody else controls, at a share of the service's desired count.

Owns: `TaskSet`, its statuses and stability. Never counts tasks; never says how many tasks a set is to have (`planner/task_set.py`).
Source: ecs-reference 3.9, task sets.
"""

from __future__ import annotations

from typing import Final

from homeport.model.ecs.capacity_provider import Strategy
from homeport.model.ecs.service import strategy_in
from homeport.model.record import Instant, Record, Tags

PRIMARY: Final = "PRIMARY"
ACTIVE: Final = "ACTIVE"
DRAINING: Final = "DRAINING"

STEADY_STATE: Final = "STEADY_STATE"
STABILIZING: Final = "STABILIZING"

PERCENT: Final = "PERCENT"
"""The only unit of a scale."""

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    ACTIVE: frozenset((PRIMARY, DRAINING)),
    PRIMARY: frozenset((ACTIVE, DRAINING)),
    DRAINING: frozenset(),
}
"""Where a set's status may go. A DRAINING set is forgotten when its tasks are on their way down."""


class TaskSet(Record, frozen=True, kw_only=True):
    """A task set. Its key is SERVICE_KEY/ID; its tasks have ID as `deployment_id` and `ecs-svc/ID` as `started_by`."""

    account: str
    cluster: str
    service: str
    id: str
    """19 digits."""
    status: str
    """PRIMARY (serves production traffic; at most one a service), ACTIVE, or DRAINING (deleted, its tasks being stopped)."""
    family: str
    revision: int
    """Family and revision of its task definition."""
    launch_type: str
    """EC2 or EXTERNAL; "" where a capacity provider strategy stands for it."""
    created_at: Instant
    updated_at: Instant
    scale: float = 0.0
    """Percent of the service's desired count, 0 to 100."""
    external_id: str = ""
    started_by: str = ""
    document: bytes = b""
    """JSON object of the further members that are stored and given back as they came, as in `Service.document`."""
    stability_status: str = STABILIZING
    stability_status_at: Instant = 0.0
    """When it last changed."""
    tags: Tags = ()
    failed_tasks: int = 0
    """This and the next six are counters and delays of launches, as those of a `Deployment`."""
    failures_to_start: int = 0
    throttled_until: Instant = 0.0
    impaired: bool = False
    ends_counted_at: Instant = 0.0
    failure_round_at: Instant = 0.0
    crashes: int = 0
    created_by: str = ""
    """ARN of the principal that made it; "" for what an older version made, and for the first set of a service."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE/ID."""
        return f"{self.account}/{self.cluster}/{self.service}/{self.id}"

    @property
    def service_key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE."""
        return f"{self.account}/{self.cluster}/{self.service}"

    @property
    def cluster_key(self) -> str:
        """ACCOUNT/CLUSTER."""
        return f"{self.account}/{self.cluster}"

    @property
    def shown_id(self) -> str:
        """The API's `id`: `ecs-svc/DIGITS`."""
        return f"ecs-svc/{self.id}"

    @property
    def capacity_provider_strategy(self) -> Strategy:
        """How its tasks are shared out between capacity providers; () for a set with a launch type."""
        return strategy_in(self.document)

    @property
    def capacity_providers(self) -> tuple[str, ...]:
        """Names of the capacity providers in its strategy."""
        return tuple(item.capacity_provider for item in self.capacity_provider_strategy)
