"""A gateway: what load balancers for the services of some clusters are to be like, and the clusters that may use it.

Owns: `Gateway`, `GatewayAssociation`, their statuses and limits. Never makes a load balancer and never routes anything.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record, Tags

ACTIVE: Final = "ACTIVE"
UPDATE_COMPLETE: Final = "UPDATE_COMPLETE"
DELETED: Final = "DELETED"
"""Shown once, in the answer of DeleteGateway; the record is gone then."""
INACTIVE: Final = "INACTIVE"
"""Of an association, shown once, in the answer of DisassociateGatewayFromCluster."""

TRANSITIONS: Final[dict[str, frozenset[str]]] = {ACTIVE: frozenset((UPDATE_COMPLETE,)), UPDATE_COMPLETE: frozenset()}
"""Of a gateway; its owner is UpdateGateway."""

INTERNET_FACING: Final = "internet-facing"


class Gateway(Record, frozen=True, kw_only=True):
    """A gateway. Its key is ACCOUNT/NAME."""

    account: str
    name: str
    status: str
    created_at: Instant
    updated_at: Instant
    infrastructure_role: str
    """ARN."""
    deletion_protection: bool
    propagate_tags: str
    """NONE or GATEWAY."""
    scheme: str
    """internet-facing or internal; it never changes."""
    configuration: bytes
    """JSON of `configuration.hostSharedAlb` as it is shown, defaults included."""
    tags: Tags = ()

    @property
    def key(self) -> str:
        """ACCOUNT/NAME."""
        return f"{self.account}/{self.name}"


class GatewayAssociation(Record, frozen=True, kw_only=True):
    """That a cluster's services may use a gateway. Its key is ACCOUNT/GATEWAY/CLUSTER; it is deleted when that ends."""

    account: str
    gateway: str
    cluster: str
    status: str
    created_at: Instant

    @property
    def key(self) -> str:
        """ACCOUNT/GATEWAY/CLUSTER."""
        return f"{self.account}/{self.gateway}/{self.cluster}"
