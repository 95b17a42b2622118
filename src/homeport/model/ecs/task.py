"""A task: one run of a task definition's containers on one instance.

Owns: `Task`, `Container`, the states, their transitions and who makes each move. Never decides a move (`planner/task.py` does).
Wanted (`desired_status`), seen (`observed_status`, container statuses) and shown (`last_status`) are different fields with one writer each.
"""

from __future__ import annotations

from typing import Final

from homeport.model.ecs.service import PlacementConstraint, PlacementStrategy
from homeport.model.record import Instant, Record, Tags

PROVISIONING: Final = "PROVISIONING"
PENDING: Final = "PENDING"
ACTIVATING: Final = "ACTIVATING"
RUNNING: Final = "RUNNING"
DEACTIVATING: Final = "DEACTIVATING"
STOPPING: Final = "STOPPING"
DEPROVISIONING: Final = "DEPROVISIONING"
STOPPED: Final = "STOPPED"

ORDER: Final = (PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING, STOPPED)
"""The way of a task. `last_status` only moves forward along it; a task that is wanted STOPPED may skip."""

RANK: Final[dict[str, int]] = {status: rank for rank, status in enumerate(ORDER)}

TASK_FAILED_TO_START: Final = "TaskFailedToStart"
ESSENTIAL_CONTAINER_EXITED: Final = "EssentialContainerExited"
USER_INITIATED: Final = "UserInitiated"
SERVICE_SCHEDULER_INITIATED: Final = "ServiceSchedulerInitiated"
TERMINATION_NOTICE: Final = "TerminationNotice"
INFRASTRUCTURE_HEALTH: Final = "InfrastructureHealth"

HEALTHY: Final = "HEALTHY"
UNHEALTHY: Final = "UNHEALTHY"
UNKNOWN: Final = "UNKNOWN"


class NetworkBinding(Record, frozen=True, kw_only=True):
    """A host port that leads to a container's port, as the agent reported it."""

    bind_ip: str
    container_port: int
    host_port: int
    protocol: str
    container_port_range: str = ""
    host_port_range: str = ""


class Container(Record, frozen=True, kw_only=True):
    """One container of a task. Everything after `image` is what the agent said."""

    name: str
    id: str
    """UUID; the last part of the container's ARN."""
    image: str
    status: str = PENDING
    """PENDING, RUNNING or STOPPED."""
    runtime_id: str = ""
    exit_code: int | None = None
    reason: str = ""
    image_digest: str = ""
    network_bindings: tuple[NetworkBinding, ...] = ()
    health_status: str = UNKNOWN
    essential: bool = True
    has_health_check: bool = False
    cpu: str = "0"
    memory: str = ""
    memory_reservation: str = ""
    pinned_digest: str = ""
    """`sha256:…` of the image that the container must run, set when the task is made; "": whatever `image` names at that time."""
    gpus: int = 0
    """GPUs that it asks for."""
    gpu_ids: tuple[str, ...] = ()
    """Those of its instance that it has for itself, set when the task gets its instance."""


class HostPortUse(Record, frozen=True, kw_only=True):
    """A fixed host port that the task holds on its instance until it is STOPPED."""

    port: int
    protocol: str


class Task(Record, frozen=True, kw_only=True):
    """A task. Its key is ACCOUNT/CLUSTER/ID."""

    account: str
    cluster: str
    id: str
    family: str
    revision: int
    desired_status: str
    last_status: str
    created_at: Instant
    group: str
    """`family:FAMILY`, `service:NAME`, or what the caller gave."""
    launch_type: str
    """EC2 or EXTERNAL."""
    container_instance_id: str = ""
    cpu: int = 0
    """CPU units held on the instance until STOPPED."""
    memory_mib: int = 0
    """MiB held on the instance until STOPPED."""
    host_ports: tuple[HostPortUse, ...] = ()
    containers: tuple[Container, ...] = ()
    started_by: str = ""
    """For a service's task `ecs-svc/` and the digits of `deployment_id`."""
    service: str = ""
    """The service's name, or ""."""
    deployment_id: str = ""
    """Digits of the service revision that it runs, or "": those of the deployment that made it, except in a rollback, which takes up the tasks that
    its revision still has."""
    overrides: bytes = b""
    """JSON of `overrides` as given, or b""."""
    observed_status: str = ""
    """What the agent said last of the whole task: "", PENDING, RUNNING or STOPPED."""
    observed_reason: str = ""
    pull_started_at: Instant = 0.0
    pull_stopped_at: Instant = 0.0
    started_at: Instant = 0.0
    stopping_at: Instant = 0.0
    execution_stopped_at: Instant = 0.0
    stopped_at: Instant = 0.0
    connectivity: str = ""
    """CONNECTED once its agent has spoken of it, which was first at `connectivity_at`. Whether it can be heard now is the instance's to say."""
    connectivity_at: Instant = 0.0
    stop_code: str = ""
    stopped_reason: str = ""
    health_status: str = UNKNOWN
    enable_execute_command: bool = False
    tags: Tags = ()
    version: int = 1
    """Grows with each change that emits an event."""
    cpu_shown: str = ""
    """`cpu` as DescribeTasks shows it."""
    memory_shown: str = ""
    """`memory` as DescribeTasks shows it."""
    protected_until: Instant = 0.0
    healthy_since: Instant = 0.0
    """When it first counted as healthy for its deployment, or 0."""
    gpus: int = 0
    """GPUs held on the instance until STOPPED."""
    capacity_provider: str = ""
    """Name of the capacity provider that a strategy chose, or "" for a task with a launch type alone."""
    placement_constraints: tuple[PlacementConstraint, ...] = ()
    """Those of RunTask, kept while a task without a service may have to wait for an instance."""
    placement_strategy: tuple[PlacementStrategy, ...] = ()
    """As `placement_constraints`."""
    daemon: str = ""
    """Name of the daemon that it belongs to, or "". Its family and revision are then those of a daemon task definition."""
    created_by: str = ""
    """ARN of the principal whose RunTask or StartTask made it; "" for a task that a service, a daemon or a hook has."""
    credentials_until: Instant = 0.0
    """When the newest credentials of its roles expire; 0 for a task that was given none."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/ID."""
        return f"{self.account}/{self.cluster}/{self.id}"

    @property
    def cluster_key(self) -> str:
        """ACCOUNT/CLUSTER."""
        return f"{self.account}/{self.cluster}"

    @property
    def instance_key(self) -> str:
        """ACCOUNT/CLUSTER/INSTANCE, or "" while the task is on no instance."""
        return f"{self.account}/{self.cluster}/{self.container_instance_id}" if self.container_instance_id else ""

    @property
    def service_key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE, or "" for a task of no service."""
        return f"{self.account}/{self.cluster}/{self.service}" if self.service else ""

    @property
    def daemon_key(self) -> str:
        """ACCOUNT/CLUSTER/DAEMON, or "" for a task of no daemon."""
        return f"{self.account}/{self.cluster}/{self.daemon}" if self.daemon else ""
