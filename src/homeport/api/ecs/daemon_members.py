"""What CreateDaemon and UpdateDaemon take: name, capacity providers, deployment configuration.

Owns: their checks. Never writes. Limits: the service model, and CloudFormation's reference of AWS::ECS::Daemon (bake time up to a day).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import capacity_provider as provider_api
from homeport.config import Settings
from homeport.errors import InvalidParameterError, UnsupportedFeatureError
from homeport.model.ecs import capacity_provider as provider_model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.daemon_deployment import DaemonAlarms, DaemonDeploymentConfiguration
from homeport.store.table import Reader

BAKE_MINUTES_MAX: Final = 1440
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_WHERE: Final = "deploymentConfiguration"


def check_name(name: str) -> None:
    """Raise InvalidParameterError unless `name` may be a daemon's."""
    if not _NAME.fullmatch(name):
        raise InvalidParameterError("The daemon name can have up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens.")


def capacity_providers_of(reader: Reader, call: Call, references: Sequence[str], *, cluster: Cluster) -> tuple[str, ...]:
    """The names of the capacity providers that a daemon is for. Raises InvalidParameterError for one that is not the cluster's."""
    names = tuple(dict.fromkeys(provider_api.name_in(call, reference) for reference in references))
    if not names:
        raise InvalidParameterError("capacityProviderArns must name at least one capacity provider.")
    for name in names:
        if name in provider_model.BUILT_IN:
            raise UnsupportedFeatureError(f"Daemons need container instances; the capacity provider {name} has none.")
        provider = provider_api.active(reader, call, name)
        if provider is None:
            raise InvalidParameterError(provider_api.MISSING)
        if provider.cluster != cluster.name and name not in cluster.capacity_providers:
            raise InvalidParameterError(f"The capacity provider {name} is not associated with the cluster {cluster.name}.")
    return names


def configuration_of(given: Any, settings: Settings) -> bytes:
    """`deploymentConfiguration` as it is stored, with the defaults filled in. Raises InvalidParameterError, UnsupportedFeatureError for alarms that
    nothing here reads."""
    if given is None:
        return msgspec.json.encode(DaemonDeploymentConfiguration())
    minutes = given.bakeTimeInMinutes or 0
    if not 0 <= minutes <= BAKE_MINUTES_MAX:
        raise InvalidParameterError(f"{_WHERE}.bakeTimeInMinutes must be between 0 and {BAKE_MINUTES_MAX}.")
    configuration = DaemonDeploymentConfiguration(bake_time_in_minutes=minutes, alarms=_alarms(given.alarms, settings))
    if given.drainPercent is not None:
        configuration = msgspec.structs.replace(configuration, drain_percent=given.drainPercent)
    return msgspec.json.encode(configuration)


def _alarms(given: Any, settings: Settings) -> DaemonAlarms | msgspec.UnsetType:
    if given is None:
        return msgspec.UNSET
    names = tuple(name for name in given.alarmNames or () if name)
    if given.enable and not names:
        raise InvalidParameterError(f"{_WHERE}.alarms.alarmNames must name at least one alarm when alarms are enabled.")
    if given.enable and not settings.alarm_source:
        raise UnsupportedFeatureError(
            f"{_WHERE}.alarms cannot be enabled: this installation reads no alarms. Start the server with --set alarm_source=URL (or a file) first."
        )
    return DaemonAlarms(alarm_names=names, enable=bool(given.enable))
