"""Why an instance cannot take a task, in AWS's words.

Owns: the words of `failures[].reason`, the phrases of the service event, and `Refusal`. Never decides: `constraints.py` does.
Sources: ecs-reference 3.5 and 3.8 (failure reasons and the canonical event).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

INACTIVE: Final = "INACTIVE"
DRAINING: Final = "DRAINING"
AGENT: Final = "AGENT"
ATTRIBUTE: Final = "ATTRIBUTE"
CAPACITY_PROVIDER: Final = "CAPACITY PROVIDER"
"""It belongs to another capacity provider, or to none. Only asked of a named instance: a refusal is silent about those."""
DAEMON: Final = "DAEMON"
"""A critical daemon belongs on it and does not run there yet, or not at the moment: nothing else is placed before it."""
CPU: Final = "RESOURCE:CPU"
MEMORY: Final = "RESOURCE:MEMORY"
PORTS: Final = "RESOURCE:PORTS"
GPU: Final = "RESOURCE:GPU"
MEMBER_OF: Final = "MemberOf placement constraint unsatisfied."
DISTINCT_INSTANCE: Final = "DistinctInstance placement constraint unsatisfied."
MISSING: Final = "MISSING"

PHRASES: Final[dict[str, str]] = {
    CPU: "has insufficient CPU units available",
    MEMORY: "has insufficient memory available",
    PORTS: "is already using a port required by your task",
    GPU: "has insufficient GPU resource available",
    ATTRIBUTE: "is missing an attribute required by your task",
    DAEMON: "has no running task yet of a daemon that it must have",
}
"""Reason → how the service event says it. A reason that is not here is quoted: encountered error "AGENT"."""

NO_INSTANCES: Final = "No Container Instances were found in your cluster."
_HEAD: Final = "was unable to place a task because no container instance met all of its requirements."
_TAIL: Final = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."


class Obstacle(msgspec.Struct, frozen=True):
    """One requirement that an instance fails."""

    reason: str
    needed: int = 0
    """CPU units, MiB, GPUs or ports; 0 where nothing is counted."""
    available: int = 0
    """Of the same. Below zero where the instance shrank under its tasks."""
    detail: str = ""
    """The missing attributes, the ports that are taken, or the expressions that do not match."""


class Closest:
    """The instance that fails the fewest requirements, with its first failed one. `instance_id` is "" for an empty cluster."""

    __slots__ = ("instance_id", "reason")

    def __init__(self, instance_id: str, reason: str) -> None:
        self.instance_id = instance_id
        self.reason = reason

    @property
    def phrase(self) -> str:
        """The reason as the event words it, for example `has insufficient CPU units available`; "" for an empty cluster."""
        if not self.instance_id:
            return ""
        return PHRASES.get(self.reason) or f'encountered error "{self.reason}"'


class Refusal:
    """No instance can take the task. Read it in the transaction that got it: reasons are worked out when first asked for.

    Working them out looks at every instance of the cluster, which a service that retries on a full cluster need not pay for.
    """

    __slots__ = ("_closest", "_find_closest", "_find_reasons", "_reasons")

    def __init__(self, find_reasons: Callable[[], tuple[tuple[str, str], ...]], find_closest: Callable[[], Closest]) -> None:
        self._find_reasons = find_reasons
        self._find_closest = find_closest
        self._reasons: tuple[tuple[str, str], ...] | None = None
        self._closest: Closest | None = None

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """(instance key, first failed requirement) of every instance that is not INACTIVE, by instance id. Empty: no instances."""
        if self._reasons is None:
            self._reasons = self._find_reasons()
        return self._reasons

    @property
    def closest(self) -> Closest:
        """The instance that came closest."""
        if self._closest is None:
            self._closest = self._find_closest()
        return self._closest

    def summary(self) -> str:
        """The service event's sentence without `(service X) ` before it."""
        closest = self.closest
        if not closest.instance_id:
            return f"{_HEAD} Reason: {NO_INSTANCES} {_TAIL}"
        return f"{_HEAD} The closest matching (container-instance {closest.instance_id}) {closest.phrase}. {_TAIL}"

    def __repr__(self) -> str:
        return f"Refusal({self.reasons!r})"
