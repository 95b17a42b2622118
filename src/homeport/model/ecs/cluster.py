"""A cluster: the namespace that groups capacity and workloads.

Owns: `Cluster` and its statuses. Never counts tasks or instances (views count from indexes).
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record, Tags

ACTIVE: Final = "ACTIVE"
INACTIVE: Final = "INACTIVE"


class Cluster(Record, frozen=True, kw_only=True):
    """A cluster. Its key is ACCOUNT/NAME, and that key is the scope of everything in it."""

    account: str
    name: str
    status: str
    created_at: Instant
    settings: Tags = ()
    """(name, value), for example ("containerInsights", "disabled")."""
    configuration: bytes = b""
    """JSON of `configuration` as given, or b""."""
    service_connect_defaults: bytes = b""
    """JSON of `serviceConnectDefaults` as given, or b""."""
    capacity_providers: tuple[str, ...] = ()
    default_capacity_provider_strategy: bytes = b""
    """JSON list as given, or b""."""
    tags: Tags = ()

    @property
    def key(self) -> str:
        """ACCOUNT/NAME."""
        return f"{self.account}/{self.name}"
