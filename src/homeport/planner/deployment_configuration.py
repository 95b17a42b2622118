"""What a `deploymentConfiguration` asks for, as the planners read it.

Owns: `Configuration` and its parts, `configuration_of`, the defaults. Never checks what a caller gave (`api/ecs/service_input.py` does).
Source: ecs-reference 3.9.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from homeport.model.ecs.deployment import ROLLING, Deployment
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


class Configuration(msgspec.Struct, frozen=True, rename="camel"):
    """The members of `deploymentConfiguration` that are about how a deployment ends."""

    strategy: str = ROLLING
    bake_time_in_minutes: int = 0
    deployment_circuit_breaker: Breaker = Breaker()
    alarms: Alarms = Alarms()
    early_success_criteria: EarlySuccess = EarlySuccess()


@functools.lru_cache(maxsize=1024)
def _configuration(document: bytes) -> Configuration:
    decoded: dict[str, Any] = msgspec.json.decode(document) if document else {}
    return msgspec.convert({name: value for name, value in decoded.items() if value is not None}, Configuration)


def configuration_of(service: Service, deployment: Deployment) -> Configuration:
    """What is in force for `deployment` of `service`."""
    return _configuration(deployment.configuration or service.deployment_configuration)
