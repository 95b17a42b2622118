"""A capacity provider: a named pool of container instances that tasks can be spread over by weights.

Owns: `CapacityProvider`, its types, statuses and limits, and `StrategyItem`. Never counts instances or tasks, never shares tasks out
(`placement/capacity.py` does) and never sizes a pool (`planner/capacity.py` does).
"""

from __future__ import annotations

import functools
from typing import Final

import msgspec

from homeport.model.record import Instant, Record, Tags

EC2_AUTOSCALING: Final = "EC2_AUTOSCALING"
MANAGED_INSTANCES: Final = "MANAGED_INSTANCES"

ACTIVE: Final = "ACTIVE"
INACTIVE: Final = "INACTIVE"

CREATE_COMPLETE: Final = "CREATE_COMPLETE"
UPDATE_COMPLETE: Final = "UPDATE_COMPLETE"
DELETE_COMPLETE: Final = "DELETE_COMPLETE"

FARGATE: Final = "FARGATE"
FARGATE_SPOT: Final = "FARGATE_SPOT"
BUILT_IN: Final = (FARGATE, FARGATE_SPOT)
"""The providers that every account has; their names are their types."""


class StrategyItem(msgspec.Struct, frozen=True, rename={"capacity_provider": "capacityProvider"}):
    """One line of a capacity provider strategy, in the API's form."""

    capacity_provider: str
    """Name."""
    weight: int = 0
    base: int = 0


Strategy = tuple[StrategyItem, ...]


@functools.lru_cache(maxsize=1024)
def strategy_of(stored: bytes) -> Strategy:
    """The strategy in the JSON list that a cluster keeps of it; () for b"". Services' tasks are made by the thousand, so it is read once."""
    return msgspec.json.decode(stored, type=Strategy) if stored else ()


class ManagedScaling(Record, frozen=True, kw_only=True):
    """How the size of the pool follows what the tasks need."""

    enabled: bool = False
    target_capacity: int = 100
    """Percent of the pool that is to be in use."""
    step_min: int = 1
    step_max: int = 10_000
    warmup_seconds: int = 300
    """How long a new instance does not count as settled."""


class InstanceSize(Record, frozen=True, kw_only=True):
    """What an instance of the pool had registered."""

    cpu: int
    memory_mib: int
    gpus: int = 0


class Leaving(Record, frozen=True, kw_only=True):
    """An instance that is to be terminated: by scale-in, or because whoever makes the instances takes it away."""

    machine_id: str
    """As the instance provider names it; the container instance's ec2InstanceId."""
    instance_key: str = ""
    """Key of its `ContainerInstance`, or "" for a machine that has none."""
    since: Instant = 0.0
    scale_in: bool = False
    """Whether managed scaling chose it, as one without tasks; else its instance provider takes it away."""


class ScalingState(Record, frozen=True, kw_only=True):
    """What managed scaling saw last, and what it has to remember from one sample to the next. Owner: `controllers/capacity.py`."""

    changed_at: Instant = 0.0
    """When a sample last found something new; 0.0: there was none yet."""
    instances: int = 0
    """N: instances of the pool that are registered and do not leave."""
    needed: int = 0
    """M: instances that the tasks need."""
    reservation: float = 0.0
    """CapacityProviderReservation in percent: 100 M / N."""
    desired: int = 0
    """Machines that the instance provider was last asked for, leaving ones among them."""
    asked_at: Instant = 0.0
    """When it was asked for more."""
    below: int = 0
    """Samples in a row below the target."""
    leaving: tuple[Leaving, ...] = ()
    sizes: tuple[InstanceSize, ...] = ()
    """The smallest and the largest instance, those seen last while the pool is empty."""
    trouble: str = ""
    """Why the instance provider could not be asked, or ""."""


class CapacityProvider(Record, frozen=True, kw_only=True):
    """A capacity provider. Its key is ACCOUNT/NAME."""

    account: str
    name: str
    type: str
    status: str
    created_at: Instant
    cluster: str = ""
    """Name of the one cluster that a MANAGED_INSTANCES provider belongs to, else ""."""
    auto_scaling_group: str = ""
    """`autoScalingGroupArn` as given: an ARN or a name."""
    managed_scaling: ManagedScaling = ManagedScaling()
    termination_protection: bool = False
    managed_draining: bool = True
    managed_instances: bytes = b""
    """JSON of `managedInstancesProvider` as it is shown, or b""."""
    update_status: str = CREATE_COMPLETE
    deleted_at: Instant = 0.0
    """When it turned INACTIVE."""
    tags: Tags = ()
    scaling: ScalingState = ScalingState()

    @property
    def key(self) -> str:
        """ACCOUNT/NAME."""
        return f"{self.account}/{self.name}"
