"""A service: a set of tasks that is kept running.

Owns: `Service`, `ServiceEvent`, the statuses. Never counts tasks; never holds a deployment's progress (`deployment.py`).
"""

from __future__ import annotations

import functools
from typing import Final

import msgspec

from homeport.model.ecs.capacity_provider import Strategy
from homeport.model.record import Instant, Record, Tags

ACTIVE: Final = "ACTIVE"
DRAINING: Final = "DRAINING"
INACTIVE: Final = "INACTIVE"

ECS: Final = "ECS"
EXTERNAL: Final = "EXTERNAL"
CODE_DEPLOY: Final = "CODE_DEPLOY"

REPLICA: Final = "REPLICA"
DAEMON: Final = "DAEMON"


class PlacementConstraint(Record, frozen=True, kw_only=True):
    """type: distinctInstance or memberOf (with an expression)."""

    type: str
    expression: str = ""


class PlacementStrategy(Record, frozen=True, kw_only=True):
    """type: spread, binpack or random; field: instanceId, host, attribute:X, cpu or memory."""

    type: str
    field: str = ""


class DaemonShare(Record, frozen=True, kw_only=True):
    """What the task of a DAEMON service takes from its instance, and which instances it is for: its task definition's needs, kept beside the
    service so that placement can hold them free without the definition."""

    cpu: int
    memory_mib: int
    host_ports: tuple[tuple[int, str], ...] = ()
    """(port, "tcp" or "udp")."""
    gpus: int = 0
    required_attributes: tuple[str, ...] = ()
    constraints: tuple[PlacementConstraint, ...] = ()
    """The service's and, as memberOf, the task definition's."""


class Service(Record, frozen=True, kw_only=True):
    """A service. Its key is ACCOUNT/CLUSTER/NAME."""

    account: str
    cluster: str
    name: str
    status: str
    created_at: Instant
    created_by: str
    desired_count: int
    family: str
    """Family of the current (PRIMARY) task definition; "" with task sets of which none is PRIMARY yet."""
    revision: int
    launch_type: str
    scheduling_strategy: str = REPLICA
    maximum_percent: int = 200
    minimum_healthy_percent: int = 100
    deployment_configuration: bytes = b""
    """JSON of `deploymentConfiguration` as DescribeServices returns it."""
    placement_constraints: tuple[PlacementConstraint, ...] = ()
    placement_strategy: tuple[PlacementStrategy, ...] = ()
    health_check_grace_period_seconds: int = 0
    enable_ecs_managed_tags: bool = False
    propagate_tags: str = "NONE"
    enable_execute_command: bool = False
    availability_zone_rebalancing: str = "DISABLED"
    deployment_controller: str = ECS
    """Who decides when another version runs: ECS (deployments), EXTERNAL or CODE_DEPLOY (task sets)."""
    tags: Tags = ()
    document: bytes = b""
    """JSON object of further members of the API's `service` that are stored and given back as they came; those that belong to a service revision
    (`planner/service_revision.py`) among them."""
    events_written: int = 0
    """How many events this service has had; the next event's number."""
    placement_failure: str = ""
    """Why the last task could not be placed, or "" when the last placement succeeded."""
    steady: bool = False
    """Whether the last activation found it in steady state (the event is written when this turns true)."""
    drained_at: Instant = 0.0
    """When it turned INACTIVE."""
    completed_revision_id: str = ""
    """Digits of the service revision whose deployment completed last: what a rollback goes to. "": none did."""

    daemon_share: DaemonShare | None = None
    """What every matching instance keeps free for it; None for a REPLICA service."""
    rebalancing: int = 0
    """The desired count for which its zones are being rebalanced; 0: they are not."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/NAME."""
        return f"{self.account}/{self.cluster}/{self.name}"

    @property
    def cluster_key(self) -> str:
        """ACCOUNT/CLUSTER."""
        return f"{self.account}/{self.cluster}"

    @property
    def has_task_sets(self) -> bool:
        """Whether its tasks belong to task sets; otherwise they belong to deployments."""
        return self.deployment_controller != ECS

    @property
    def capacity_provider_strategy(self) -> Strategy:
        """How its tasks are shared out between capacity providers; () for a service with a launch type."""
        return strategy_in(self.document)

    @property
    def capacity_providers(self) -> tuple[str, ...]:
        """Names of the capacity providers in its strategy."""
        return tuple(item.capacity_provider for item in self.capacity_provider_strategy)


class _Document(msgspec.Struct, frozen=True):
    """The one member of a service's document that decisions read."""

    strategy: Strategy = msgspec.field(name="capacityProviderStrategy", default=())


@functools.lru_cache(maxsize=4096)
def strategy_in(document: bytes) -> Strategy:
    """The capacity provider strategy in the document of a service or a task set."""
    return msgspec.json.decode(document, type=_Document).strategy if document else ()


class ServiceEvent(Record, frozen=True, kw_only=True):
    """A sentence about a service, newest 100 kept. Its key is SERVICE_KEY/NNNNNNNNNN."""

    account: str
    cluster: str
    service: str
    number: int
    id: str
    """UUID."""
    created_at: Instant
    message: str
    cause: str = ""
    """What a repeated event is recognised by; the same cause is not written again for 6 h."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE/NNNNNNNNNN."""
        return f"{self.account}/{self.cluster}/{self.service}/{self.number:010d}"

    @property
    def service_key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE."""
        return f"{self.account}/{self.cluster}/{self.service}"
