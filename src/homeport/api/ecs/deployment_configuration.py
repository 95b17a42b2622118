"""What CreateService and UpdateService take as `deploymentConfiguration`.

Owns: the limits, the defaults and the words of those errors. Never reads the store.
Source: ecs-reference 3.9. What cannot act is refused by its name.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.ecs.deployment_strategy_rules import with_strategy_members
from homeport.api.ecs.task_input import plain
from homeport.config import Settings
from homeport.errors import InvalidParameterError, UnsupportedFeatureError
from homeport.model.ecs.deployment import ROLLING
from homeport.model.ecs.service import DAEMON, Service

PERCENT_MAX: Final = 1_000_000

DEFAULT_DEPLOYMENT_CONFIGURATION: Final[dict[str, Any]] = {
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
    "maximumPercent": 200,
    "minimumHealthyPercent": 100,
    "strategy": ROLLING,
    "bakeTimeInMinutes": 0,
}
DAEMON_DEPLOYMENT_CONFIGURATION: Final[dict[str, Any]] = {**DEFAULT_DEPLOYMENT_CONFIGURATION, "maximumPercent": 100, "minimumHealthyPercent": 0}

_WHERE = "deploymentConfiguration"


def deployment_configuration(given: Any, current: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """`current` with the members of `given` put over it, as DescribeServices shows it.

    Raises InvalidParameterError for percentages, thresholds, criteria, bake times and hooks that are out of range or do not go with the strategy,
    UnsupportedFeatureError for alarms when the installation has no source of them.
    """
    if given is None:
        return current
    named = plain(given)
    merged = with_strategy_members({**current, **named}, named, current["strategy"])
    minimum, maximum = merged["minimumHealthyPercent"], merged["maximumPercent"]
    if not 100 <= maximum <= PERCENT_MAX:
        raise InvalidParameterError(f"{_WHERE}.maximumPercent must be at least 100.")
    if not 0 <= minimum <= 100:
        raise InvalidParameterError(f"{_WHERE}.minimumHealthyPercent must be between 0 and 100.")
    _check_breaker(merged.get("deploymentCircuitBreaker") or {})
    _check_alarms(merged.get("alarms") or {}, settings)
    _check_early_success(merged.get("earlySuccessCriteria") or {}, minimum)
    return merged


def _check_breaker(breaker: dict[str, Any]) -> None:
    threshold = breaker.get("thresholdConfiguration")
    if threshold is not None and not 1 <= threshold["value"] <= PERCENT_MAX:
        raise InvalidParameterError(f"{_WHERE}.deploymentCircuitBreaker.thresholdConfiguration.value must be at least 1.")


def _check_alarms(alarms: dict[str, Any], settings: Settings) -> None:
    if not alarms.get("enable"):
        return
    if not [name for name in alarms.get("alarmNames") or () if name]:
        raise InvalidParameterError(f"{_WHERE}.alarms.alarmNames must name at least one alarm when alarms are enabled.")
    if not settings.alarm_source:
        raise UnsupportedFeatureError(
            f"{_WHERE}.alarms cannot be enabled: this installation reads no alarms. Start the server with --set alarm_source=URL (or a file) first."
        )


def _check_early_success(criteria: dict[str, Any], minimum_healthy_percent: int) -> None:
    if not criteria.get("enable"):
        return
    where = f"{_WHERE}.earlySuccessCriteria"
    healthy_percent = criteria.get("healthyPercent")
    if healthy_percent is None or not criteria.get("sourceServiceRevisionCleanup"):
        raise InvalidParameterError(f"{where} needs healthyPercent and sourceServiceRevisionCleanup when it is enabled.")
    if not minimum_healthy_percent <= healthy_percent <= 100:
        raise InvalidParameterError(f"{where}.healthyPercent must be between minimumHealthyPercent and 100.")


def with_configuration(service: Service, given: Any, settings: Settings) -> Service:
    """`service` with `deploymentConfiguration` put over what it has. Raises as `deployment_configuration`."""
    default = DAEMON_DEPLOYMENT_CONFIGURATION if service.scheduling_strategy == DAEMON else DEFAULT_DEPLOYMENT_CONFIGURATION
    current = msgspec.json.decode(service.deployment_configuration) if service.deployment_configuration else default
    merged = deployment_configuration(given, current, settings)
    return msgspec.structs.replace(
        service,
        deployment_configuration=msgspec.json.encode(merged),
        maximum_percent=merged["maximumPercent"],
        minimum_healthy_percent=merged["minimumHealthyPercent"],
    )
