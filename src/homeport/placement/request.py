"""What a task needs of an instance, and the answer when one was found.

Owns: `PlacementRequest`, `Placement`, and what a service asks for its tasks. Never holds a fleet;
the answer when none was found is `reasons.Refusal`.
"""

from __future__ import annotations

import msgspec

from homeport.model.ecs.service import DAEMON, PlacementConstraint, PlacementStrategy, Service
from homeport.model.ecs.task_definition import TaskDefinition


class PlacementRequest(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """One task to place. Requests that are equal are planned once, so callers gain by keeping the object for a service's tasks."""

    cluster_key: str
    """ACCOUNT/CLUSTER."""
    launch_type: str = "EC2"
    """EC2 or EXTERNAL."""
    cpu: int = 0
    """CPU units (1024 a core)."""
    memory_mib: int = 0
    host_ports: tuple[tuple[int, str], ...] = ()
    """Fixed host ports: (port, "tcp" or "udp")."""
    required_attributes: tuple[str, ...] = ()
    """`name`, or `name=value` where the value matters."""
    constraints: tuple[PlacementConstraint, ...] = ()
    """Those of the task definition (as memberOf) and those of the service or the call together; all must hold."""
    strategies: tuple[PlacementStrategy, ...] = ()
    group: str = ""
    """The task's group; "" means `service:NAME` of the service."""
    service_key: str = ""
    """ACCOUNT/CLUSTER/SERVICE, or "" for a standalone task."""
    gpus: int = 0
    capacity_provider: str = ""
    """Name of the provider whose instances alone are asked; "": all."""
    daemon: bool = False
    """The task of a DAEMON service: what daemons keep free is free for it."""

    @property
    def task_group(self) -> str:
        """The group that spread and distinctInstance count by: `group`, else `service:NAME`."""
        if self.group or not self.service_key:
            return self.group
        return "service:" + self.service_key.rsplit("/", 1)[-1]


class Placement(msgspec.Struct, frozen=True):
    """The chosen instance. Nothing is reserved: the caller puts the Task record, and the index follows it."""

    instance_key: str
    """ACCOUNT/CLUSTER/ID."""
    instance_id: str


def placement_request(service: Service, definition: TaskDefinition | None, *, provider: str = "") -> PlacementRequest:
    """What a task of `service` needs of an instance. The same for each of its tasks, which placement makes use of."""
    constraints = service.placement_constraints
    if definition is not None:
        constraints += tuple(PlacementConstraint(type="memberOf", expression=text) for text in definition.placement_constraints)
    return PlacementRequest(
        cluster_key=service.cluster_key,
        launch_type=service.launch_type or "EC2",
        cpu=definition.cpu if definition else 0,
        memory_mib=definition.memory_mib if definition else 0,
        host_ports=tuple((use.port, use.protocol) for use in definition.host_ports) if definition else (),
        required_attributes=definition.requires_attributes if definition else (),
        constraints=constraints,
        strategies=service.placement_strategy,
        group=f"service:{service.name}",
        service_key=service.key,
        gpus=definition.gpus if definition else 0,
        daemon=service.scheduling_strategy == DAEMON,
        capacity_provider=provider,
    )
