"""The deployment circuit breaker: from how many failures on a deployment has failed, and which failures are counted.

Owns: `threshold`, `Counter`. Never decides what follows when it trips (`planner/rollback.py` does).
Source: ecs-reference 3.9.
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeport.model.ecs import deployment as model
from homeport.model.ecs.deployment import CircuitBreaker
from homeport.planner.deployment_configuration import BOUNDED_PERCENT, COUNT, Breaker, Threshold

THRESHOLD_MIN: Final = 3
THRESHOLD_MAX: Final = 200
"""Bounds of a threshold of type BOUNDED_PERCENT."""


def threshold(desired_count: int, asked: Threshold) -> int:
    """From how many failures on a deployment of `desired_count` tasks has failed; at least one."""
    if asked.type == COUNT:
        return max(1, asked.value)
    failures = -(-desired_count * asked.value // 100)
    if asked.type == BOUNDED_PERCENT:
        return min(max(failures, THRESHOLD_MIN), THRESHOLD_MAX)
    return max(1, failures)


def watching(breaker: CircuitBreaker, asked: Breaker, desired_count: int) -> CircuitBreaker:
    """`breaker` of a deployment that is on its way, as the configuration and the desired count of this moment have it."""
    if breaker.status == model.TRIGGERED:
        return breaker
    if not asked.enable:
        return msgspec.structs.replace(breaker, status=model.DISABLED, threshold=0)
    return msgspec.structs.replace(breaker, status=model.MONITORING, threshold=threshold(desired_count, asked.threshold_configuration))


class Counter:
    """A breaker while the moments of its deployment's tasks are added in order of time.

    Stage 1, until a task of the deployment has been RUNNING: each launch that fails. Stage 2, from then on: each failed health check, and each task
    that ends by itself before it counts as healthy (ours: such a deployment never gets anywhere either).
    """

    def __init__(self, breaker: CircuitBreaker, asked: Breaker) -> None:
        self._breaker = breaker
        self._resets = asked.reset_on_healthy_task
        self._count = breaker.failure_count
        self._ran = breaker.ran

    def add(self, kind: str) -> None:
        """Count one moment; `kind` as in `planner/failures.py`."""
        if self._breaker.status != model.MONITORING or self.tripped:
            return
        if kind == "ran":
            self._ran = True
        elif kind == "healthy":
            self._count = 0 if self._resets else self._count
        elif kind in ("failed", "crashed") or (kind == "failed-to-start" and not self._ran):
            self._count += 1

    @property
    def tripped(self) -> bool:
        """Whether the threshold is reached. It stays so, whatever comes after."""
        return self._breaker.status == model.MONITORING and self._count >= self._breaker.threshold

    def breaker(self) -> CircuitBreaker:
        """The breaker with what was counted."""
        status = model.TRIGGERED if self.tripped else self._breaker.status
        return msgspec.structs.replace(self._breaker, status=status, failure_count=self._count, ran=self._ran)
