"""Request throttling: one token bucket per account and class of operations.

Owns: the classes and figures (ecs-reference 1.2) and the arithmetic. Never reads a clock. A server has one region, so no key holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Rate(NamedTuple):
    """`burst` calls at once, `refill` more each second, for all `operations` together."""

    burst: int
    refill: int
    operations: str


RATES: Final = (
    Rate(20, 1, "CreateCluster UpdateCluster DeleteCluster UpdateClusterSettings PutClusterCapacityProviders"),
    Rate(50, 20, "DescribeClusters ListClusters"),
    Rate(20, 1, "RegisterTaskDefinition DeregisterTaskDefinition"),
    Rate(50, 20, "DescribeTaskDefinition ListTaskDefinitions ListTaskDefinitionFamilies"),
    Rate(5, 1, "DeleteTaskDefinitions"),
    Rate(10, 1, "CreateCapacityProvider UpdateCapacityProvider DeleteCapacityProvider"),
    Rate(50, 20, "DescribeCapacityProviders"),
    Rate(20, 10, "TagResource UntagResource"),
    Rate(50, 20, "ListTagsForResource"),
    Rate(10, 1, "PutAccountSetting PutAccountSettingDefault DeleteAccountSetting"),
    Rate(50, 20, "ListAccountSettings"),
    Rate(
        100,
        40,
        "RunTask StartTask StopTask ExecuteCommand PutAttributes DeleteAttributes DeregisterContainerInstance UpdateContainerAgent"
        " UpdateContainerInstancesState",
    ),
    Rate(100, 20, "DescribeTasks DescribeContainerInstances ListTasks ListContainerInstances ListAttributes"),
    Rate(200, 120, "RegisterContainerInstance SubmitTaskStateChange SubmitContainerStateChange SubmitAttachmentStateChanges"),
    Rate(50, 5, "CreateService UpdateService DeleteService"),
    Rate(100, 20, "DescribeServices ListServices"),
    Rate(50, 20, "DescribeServiceDeployments ListServiceDeployments DescribeServiceRevisions"),
    Rate(200, 80, "GetTaskProtection UpdateTaskProtection"),
    Rate(10, 1, "ListServicesByNamespace"),
)
"""Operations that the reference gives no figures for (DiscoverPollEndpoint among them) are in no class and never throttled."""

RATE_OF: Final[Mapping[str, Rate]] = {name: rate for rate in RATES for name in rate.operations.split()}


class Throttle:
    """The buckets of one server. Holds at most (accounts that called) x (classes) of them."""

    def __init__(self, factor: float) -> None:
        """`factor` multiplies every burst (which stays at least 1) and refill."""
        self._factor = factor
        self._buckets: dict[tuple[str, Rate], tuple[float, float]] = {}

    def admit(self, account: str, operation: str, now: float) -> bool:
        """Take a token if there is one. `now`: seconds of a monotonic clock. A refused call costs nothing."""
        rate = RATE_OF.get(operation)
        if rate is None:
            return True
        burst = max(1.0, rate.burst * self._factor)
        tokens, since = self._buckets.get((account, rate), (burst, now))
        tokens = min(burst, tokens + (now - since) * rate.refill * self._factor)
        admitted = tokens >= 1.0
        self._buckets[account, rate] = (tokens - 1.0 if admitted else tokens, now)
        return admitted
