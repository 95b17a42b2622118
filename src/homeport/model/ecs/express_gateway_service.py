"""An express gateway service: one container's image, and everything around it left to the orchestrator.

Owns: `ExpressGatewayService`, its defaults and statuses. Never starts a task, and never makes the service or load balancer that it stands for.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record, Tags

INACTIVE: Final = "INACTIVE"

CPU_UNITS: Final = "256"
MEMORY_MIB: Final = "512"
CONTAINER_PORT: Final = 80
HEALTH_CHECK_PATH: Final = "/ping"
CPU_ARCHITECTURE: Final = "X86_64"
SCALING_METRIC: Final = "AVERAGE_CPU"
SCALING_TARGET: Final = 60
MAIN_CONTAINER: Final = "Main"
"""Name of the container that gets the traffic."""


class ExpressGatewayService(Record, frozen=True, kw_only=True):
    """An express gateway service. Its key is ACCOUNT/CLUSTER/NAME; the names are shared with the cluster's other services."""

    account: str
    cluster: str
    name: str
    created_at: Instant
    updated_at: Instant
    infrastructure_role: str
    """ARN."""
    configuration: bytes
    """JSON of the API's `ExpressGatewayServiceConfiguration` without `createdAt` and `ingressPaths`."""
    configured_at: Instant
    """When the configuration was given."""
    tags: Tags = ()

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/NAME."""
        return f"{self.account}/{self.cluster}/{self.name}"
