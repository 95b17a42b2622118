"""A container instance: a host with an agent, registered in a cluster.

Owns: `ContainerInstance`, its attributes and agent session, statuses and their transitions. Never counts its tasks.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record, Tags

REGISTERING: Final = "REGISTERING"
ACTIVE: Final = "ACTIVE"
DRAINING: Final = "DRAINING"
DEREGISTERING: Final = "DEREGISTERING"
INACTIVE: Final = "INACTIVE"
REGISTRATION_FAILED: Final = "REGISTRATION_FAILED"

TRANSITIONS: Final[dict[str, tuple[str, ...]]] = {
    REGISTERING: (ACTIVE, REGISTRATION_FAILED),
    ACTIVE: (DRAINING, DEREGISTERING, INACTIVE),
    DRAINING: (ACTIVE, DEREGISTERING, INACTIVE),
    DEREGISTERING: (INACTIVE,),
    INACTIVE: (),
    REGISTRATION_FAILED: (),
}
"""From a status, the statuses it may move to. Owner: `api/ecs/container_instance.py`."""

EXTERNAL_CAPABILITY: Final = "ecs.capability.external"
CAPACITY_PROVIDER_ATTRIBUTE: Final = "homeport.capacity-provider"
"""Its value is the name of the capacity provider that the instance belongs to."""


class Attribute(Record, frozen=True, kw_only=True):
    """A name, with or without a value. `custom` ones were put by a user and count towards the limit of 10."""

    name: str
    value: str = ""
    custom: bool = False


class AgentSession(Record, frozen=True, kw_only=True):
    """The one live connection of the instance's agent."""

    id: str
    server: str
    since: Instant


class ContainerInstance(Record, frozen=True, kw_only=True):
    """A host. Its key is CLUSTER_KEY/ID."""

    account: str
    cluster: str
    id: str
    """32 hexadecimal digits."""
    ec2_instance_id: str
    status: str
    registered_at: Instant
    cpu: int
    """Registered CPU units."""
    memory_mib: int
    """Registered MiB."""
    reserved_tcp_ports: tuple[int, ...] = ()
    reserved_udp_ports: tuple[int, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    agent_version: str = ""
    agent_hash: str = ""
    docker_version: str = ""
    agent_connected: bool = False
    session: AgentSession | None = None
    disconnected_at: Instant = 0.0
    status_reason: str = ""
    agent_update_status: str = ""
    tags: Tags = ()
    version: int = 1
    """Grows with each change that emits an event."""
    client_token: str = ""
    gpu_ids: tuple[str, ...] = ()
    health: str = ""
    """What the agent said of its container runtime: OK, IMPAIRED, INITIALIZING or "" (nothing yet)."""
    health_updated_at: Instant = 0.0
    health_changed_at: Instant = 0.0
    platform_devices: bytes = b""
    left_at: Instant = 0.0
    """When it was first seen INACTIVE; retention counts from it. Owner: `controllers/instance.py`."""
    connected_at: Instant = 0.0
    """When its agent last came, after having been away. Owner: `dispatcher/liveness.py`."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/ID."""
        return f"{self.account}/{self.cluster}/{self.id}"

    @property
    def cluster_key(self) -> str:
        """ACCOUNT/CLUSTER."""
        return f"{self.account}/{self.cluster}"

    @property
    def launch_type(self) -> str:
        """EXTERNAL when the agent advertises `ecs.capability.external`, else EC2."""
        return "EXTERNAL" if any(a.name == EXTERNAL_CAPABILITY for a in self.attributes) else "EC2"

    @property
    def capacity_provider(self) -> str:
        """Name of the capacity provider that it says it belongs to, or ""."""
        return self.attribute(CAPACITY_PROVIDER_ATTRIBUTE) or ""

    def attribute(self, name: str) -> str | None:
        """The value of the attribute `name` ("" for one without a value), or None when the instance lacks it."""
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute.value
        return None
