"""What DAEMON services and daemons keep free on every instance for their task.

Owns: `Daemon`: whether a node has to keep a service's or a daemon's share, and which; `Whole`: a node that is kept for a critical daemon alone until
that runs; `daemon_request`, `managed_request`. Never places a task and never writes to the fleet (`fleet.py` books the shares).
Sources: ecs-reference 3.8: a daemon task reserves its resources first, a pending one blocks its share of the node from replicas; the service model's
documentation of CreateDaemon: a daemon task starts before other tasks are scheduled, and only one that is not critical holds nothing up.
"""

from __future__ import annotations

from homeport.model.ecs import service as model
from homeport.model.ecs.daemon import Daemon as ManagedDaemon
from homeport.model.ecs.service import DaemonShare, Service
from homeport.placement.constraints import Demand
from homeport.placement.fleet import WHOLE, Holding, Keeper, Node
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


def managed_request(daemon: ManagedDaemon, share: DaemonShare) -> PlacementRequest:
    """What the task of a daemon needs of its instance."""
    return PlacementRequest(
        cluster_key=daemon.cluster_key,
        cpu=share.cpu,
        memory_mib=share.memory_mib,
        host_ports=share.host_ports,
        required_attributes=share.required_attributes,
        constraints=share.constraints,
        group=daemon.group,
        gpus=share.gpus,
        daemon=True,
    )


def keepers(daemon: ManagedDaemon | None) -> dict[str, Keeper]:
    """What instances keep because of `daemon`, by names that no service's key can be; nothing while no task of it is to be there."""
    if daemon is None or daemon.share is None:
        return {}
    request = managed_request(daemon, daemon.share)
    share: dict[str, Keeper] = {f"daemon/{daemon.key}": Daemon(request)}
    return {**share, f"daemon/{daemon.key}/whole": Whole(request)} if daemon.critical else share


class Daemon:
    """A DAEMON service, or a daemon, as the fleet sees it."""

    __slots__ = ("demand", "group", "holding")

    def __init__(self, request: PlacementRequest) -> None:
        self.demand = Demand(request)
        self.group = request.task_group
        self.holding = Holding(request.cpu, request.memory_mib, request.gpus, self.demand.ports, "", False)

    def keeps(self, node: Node) -> bool:
        """Whether `node` has to keep the share: a task is wanted there and there is none."""
        return self.group not in node.groups and self.suits(node)

    def suits(self, node: Node) -> bool:
        """Whether the task belongs on `node`, and the machine is large enough for it at all."""
        record = node.record
        if record is None or not self.demand.admits(node):
            return False
        return record.cpu >= self.demand.cpu and record.memory_mib >= self.demand.memory and len(record.gpu_ids) >= self.demand.gpus


class Whole:
    """A critical daemon while its task does not run: nothing else is placed on the node."""

    __slots__ = ("_daemon",)

    def __init__(self, request: PlacementRequest) -> None:
        self._daemon = Daemon(request)

    @property
    def group(self) -> str:
        """The group of its tasks."""
        return self._daemon.group

    @property
    def holding(self) -> Holding:
        """More than any machine has."""
        return WHOLE

    def keeps(self, node: Node) -> bool:
        """Whether the daemon belongs on `node` and does not run there."""
        return self.group not in node.ready and self._daemon.suits(node)
