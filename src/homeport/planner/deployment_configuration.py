"""What a `deploymentConfiguration` asks for, as the planners read it.

Owns: `Configuration` and its parts, `configuration_of`, the defaults. Never checks what a caller gave (`api/ecs/service_input.py` does).
Source: ecs-reference 3.9.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from homeport.model.ecs.deployment import AWS_LAMBDA, ROLLBACK, ROLLING, Deployment
from homeport.model.ecs.service import Service

BOUNDED_PERCENT: Final = "BOUNDED_PERCENT"
UNBOUNDED_PERCENT: Final = "UNBOUNDED_PERCENT"
COUNT: Final = "COUNT"
BLOCKING: Final = "BLOCKING"
DEFERRED: Final = "DEFERRED"


class Threshold(msgspec.Struct, frozen=True):
    """`thresholdConfiguration`: `value` is a number of failures for COUNT, else percent of the desired count."""

    type: str = BOUNDED_PERCENT
    value: int = 50


class Breaker(msgspec.Struct, frozen=True, rename="camel"):
    """`deploymentCircuitBreaker`."""

    enable: bool = False
    rollback: bool = False
    reset_on_healthy_task: bool = True
    threshold_configuration: Threshold = Threshold()


class Alarms(msgspec.Struct, frozen=True, rename="camel"):
    """`alarms`."""

    enable: bool = False
    rollback: bool = False
    alarm_names: tuple[str, ...] = ()


class EarlySuccess(msgspec.Struct, frozen=True, rename="camel"):
    """`earlySuccessCriteria`. `healthy_percent` is of the desired count."""

    enable: bool = False
    healthy_percent: int = 100
    source_service_revision_cleanup: str = BLOCKING


class HookTimeout(msgspec.Struct, frozen=True, rename="camel"):
    """`timeoutConfiguration` of a lifecycle hook."""

    timeout_in_minutes: int = 1440
    action: str = ROLLBACK


class Hook(msgspec.Struct, frozen=True, rename="camel"):
    """One of `lifecycleHooks`."""

    target_type: str = AWS_LAMBDA
    hook_target_arn: str | None = None
    lifecycle_stages: tuple[str, ...] = ()
    hook_details: Any = None
    timeout_configuration: HookTimeout | None = None


class Linear(msgspec.Struct, frozen=True, rename="camel"):
    """`linearConfiguration`."""

    step_percent: float = 10.0
    step_bake_time_in_minutes: int = 6


class Canary(msgspec.Struct, frozen=True, rename="camel"):
    """`canaryConfiguration`."""

    canary_percent: float = 5.0
    canary_bake_time_in_minutes: int = 10


class Configuration(msgspec.Struct, frozen=True, rename="camel"):
    """The members of `deploymentConfiguration` that are about how a deployment goes and ends."""

    strategy: str = ROLLING
    bake_time_in_minutes: int = 0
    deployment_circuit_breaker: Breaker = Breaker()
    alarms: Alarms = Alarms()
    early_success_criteria: EarlySuccess = EarlySuccess()
    lifecycle_hooks: tuple[Hook, ...] = ()
    linear_configuration: Linear | None = None
    canary_configuration: Canary | None = None


@functools.lru_cache(maxsize=1024)
def _configuration(document: bytes) -> Configuration:
    decoded: dict[str, Any] = msgspec.json.decode(document) if document else {}
    return msgspec.convert({name: value for name, value in decoded.items() if value is not None}, Configuration)


def configuration_in(service: Service) -> Configuration:
    """What `service` is configured to now."""
    return _configuration(service.deployment_configuration)


def configuration_of(service: Service, deployment: Deployment) -> Configuration:
    """What is in force for `deployment` of `service`."""
    return _configuration(deployment.configuration or service.deployment_configuration)
