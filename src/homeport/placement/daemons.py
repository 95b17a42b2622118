"""What DAEMON services keep free on every instance for their task.

Owns: `Daemon`: whether a node has to keep a service's share, and which; `daemon_request`. Never places a task and never writes to the fleet
(`fleet.py` books the shares).
Source: ecs-reference 3.8: a daemon task reserves its resources first; a pending one blocks its share of the node from replicas.
"""

from __future__ import annotations

from homeport.model.ecs import service as model
from homeport.model.ecs.service import DaemonShare, Service
from homeport.placement.constraints import Demand
from homeport.placement.fleet import Holding, Node
from homeport.placement.request import PlacementRequest


def daemon_request(service: Service, share: DaemonShare) -> PlacementRequest:
    """What the task of a DAEMON service needs of its instance."""
    return PlacementRequest(
        cluster_key=service.cluster_key,
        launch_type=service.launch_type,
        cpu=share.cpu,
        memory_mib=share.memory_mib,
        host_ports=share.host_ports,
        required_attributes=share.required_attributes,
        constraints=share.constraints,
        group=f"service:{service.name}",
        service_key=service.key,
        gpus=share.gpus,
        daemon=True,
    )


def follows(service: Service | None) -> PlacementRequest | None:
    """The request whose share instances keep free because of `service`; None when they need not."""
    if service is None or service.daemon_share is None or service.status != model.ACTIVE or service.scheduling_strategy != model.DAEMON:
        return None
    return daemon_request(service, service.daemon_share)


class Daemon:
    """A DAEMON service as the fleet sees it."""

    __slots__ = ("demand", "group", "holding")

    def __init__(self, request: PlacementRequest) -> None:
        self.demand = Demand(request)
        self.group = request.task_group
        self.holding = Holding(request.cpu, request.memory_mib, request.gpus, self.demand.ports, "", False)

    def keeps(self, node: Node) -> bool:
        """Whether `node` has to keep the share: the service wants a task there, has none, and the machine is large enough for it at all."""
        record = node.record
        if record is None or self.group in node.groups or not self.demand.admits(node):
            return False
        return record.cpu >= self.demand.cpu and record.memory_mib >= self.demand.memory and len(record.gpu_ids) >= self.demand.gpus
