"""What CreateCluster, UpdateCluster and UpdateClusterSettings take: settings, configuration, Service Connect defaults.

Owns: their limits and words, and the stored form of the last two (ecs-reference 3.1, the API's model). Never reads the store.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.errors import InvalidParameterError
from homeport.model.arn import parse_arn
from homeport.model.record import Tags

DEFAULT_SETTINGS: Final[Tags] = (("containerInsights", "disabled"),)
NAMESPACE_CHARACTERS_MAX: Final = 1024
_INSIGHTS: Final = ("disabled", "enabled", "enhanced")
_NOT_IN_NAMESPACES: Final = frozenset('<>"/')


def settings_of(given: list[Any] | None, *, before: Tags = DEFAULT_SETTINGS) -> Tags:
    """`before` with the settings that are given over it. Raises InvalidParameterError for an unknown name or value."""
    settings = dict(before or DEFAULT_SETTINGS)
    for setting in given or ():
        if setting.name != "containerInsights":
            raise InvalidParameterError("Invalid cluster setting name. The only valid name is containerInsights.")
        if setting.value not in _INSIGHTS:
            raise InvalidParameterError(f"Invalid cluster setting value for containerInsights. Valid values are {', '.join(_INSIGHTS)}.")
        settings[setting.name] = setting.value
    return tuple(settings.items())


def configuration_of(given: Any) -> bytes:
    """The stored form of `configuration`. Raises InvalidParameterError for exec logging OVERRIDE that does not say where to."""
    if given is None:
        return b""
    exec_configuration = given.executeCommandConfiguration
    if exec_configuration is not None and exec_configuration.logging == "OVERRIDE" and exec_configuration.logConfiguration is None:
        raise InvalidParameterError("When logging is OVERRIDE, a logConfiguration must be provided.")
    return msgspec.json.encode(given)


def service_connect_of(given: Any) -> bytes:
    """The stored form of `serviceConnectDefaults`; b"" for an empty namespace. Raises InvalidParameterError for a name that cannot be."""
    if given is None or not given.namespace:
        return b""
    name: str = given.namespace
    found = parse_arn(name)
    if found is not None and found.service != "servicediscovery":
        raise InvalidParameterError(f"Invalid namespace: {name} is no ARN of a namespace")
    if found is None and (len(name) > NAMESPACE_CHARACTERS_MAX or _NOT_IN_NAMESPACES & set(name)):
        raise InvalidParameterError(f'Invalid namespace: a name has up to {NAMESPACE_CHARACTERS_MAX} characters, and none of < > " and /.')
    return msgspec.json.encode(given)
