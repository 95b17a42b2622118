"""What one container definition must look like, and its form as ECS gives it back.

Owns: the checks of a single container's members, and the defaults that registration fills in. Never looks at other containers (that is
`task_definition_rules.py`), never reads the store. A message says what ECS says where its words are known.
Source: ecs-reference 3.4, container-level fields. Values are checked once, in the order of the API's members.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from homeport.api.ecs import container_runtime_rules as runtime
from homeport.api.ecs.container_runtime_rules import invalid, out_of_range
from homeport.errors import ClientError

NAME_LENGTH_MAX: Final = 255
IMAGE_LENGTH_MAX: Final = 255
PORT_MAPPINGS_MAX: Final = 100
ENVIRONMENT_FILES_MAX: Final = 10
IGNORED_EXIT_CODES_MAX: Final = 50
MEMORY_MIN_MIB: Final = 6
"""Docker sets aside at least this much for a container."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_IMAGE = re.compile(r"[A-Za-z0-9_\-:./#]+(?:@sha256:[0-9a-fA-F]{64})?")
_PORT_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]{0,63}")
_PORT_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")

_SAME_PORT_MODES: Final = ("awsvpc", "host")
"""Network modes in which a container's port is the host's (or the interface's) port."""


def normalised(container: Any, network_mode: str) -> Any:
    """`container` (the Struct of the request) checked, with the members that ECS always gives back. Raises ClientError."""
    name = container.name
    if not name:
        raise ClientError("Container.name should not be null or empty.")
    if not _NAME.fullmatch(name):
        raise ClientError("Container.name contains invalid characters." if len(name) <= NAME_LENGTH_MAX else "Container.name is too long.")
    _check_image(container.image)
    _check_amounts(container, name)
    _check_files_and_secrets(container, name)
    if container.restartPolicy is not None:
        _check_restart_policy(container.restartPolicy, name)
    runtime.check(container, name, network_mode)
    health_check = container.healthCheck
    return msgspec.structs.replace(
        container,
        cpu=container.cpu or 0,
        essential=container.essential is not False,
        portMappings=[_port(mapping, name, network_mode) for mapping in container.portMappings] if container.portMappings else [],
        environment=_environment(container.environment, name),
        mountPoints=container.mountPoints or [],
        volumesFrom=container.volumesFrom or [],
        systemControls=container.systemControls or [],
        healthCheck=None if health_check is None else runtime.health_check(health_check, name),
    )


def _check_image(image: str | None) -> None:
    if not image:
        raise ClientError("Container.image should not be null or empty.")
    if not _IMAGE.fullmatch(image):
        raise ClientError("Container.image contains invalid characters.")
    if len(image) > IMAGE_LENGTH_MAX and "@" not in image:
        raise ClientError(f"Container.image should not have more than {IMAGE_LENGTH_MAX} characters.")


def _check_amounts(container: Any, name: str) -> None:
    cpu, memory, reservation = container.cpu, container.memory, container.memoryReservation
    if cpu is not None and cpu < 0:
        raise invalid("cpu", name)
    if memory is not None and memory < MEMORY_MIN_MIB:
        raise invalid("memory", name, f"It must be at least {MEMORY_MIN_MIB} MiB.")
    if reservation is not None and reservation < MEMORY_MIN_MIB:
        raise invalid("memoryReservation", name, f"It must be at least {MEMORY_MIN_MIB} MiB.")
    if memory is not None and reservation is not None and memory <= reservation:
        raise ClientError(f"Invalid setting for container '{name}'. 'memory' must be greater than 'memoryReservation'.")


def _port(mapping: Any, name: str, network_mode: str) -> Any:
    """A port mapping with its protocol and host port. A range has neither a container port nor a host port of its own."""
    protocol = mapping.protocol or "tcp"
    if mapping.name is not None and not _PORT_NAME.fullmatch(mapping.name):
        raise invalid("portMappings.name", name, "It may have up to 64 lower-case letters, numbers, underscores and hyphens, and no hyphen in front.")
    if mapping.appProtocol is not None and protocol != "tcp":
        raise invalid("portMappings.appProtocol", name, "It is for the protocol tcp only.")
    if mapping.containerPortRange is not None:
        _check_range(mapping, name, network_mode)
        return mapping if mapping.protocol else msgspec.structs.replace(mapping, protocol=protocol)
    container_port, host_port = mapping.containerPort, mapping.hostPort
    if container_port is None or not 0 < container_port < 65536:
        raise ClientError(f"Invalid 'containerPort' setting for container '{name}'.")
    if host_port is not None and not 0 <= host_port < 65536:
        raise ClientError(f"Invalid 'hostPort' setting for container '{name}'.")
    if network_mode in _SAME_PORT_MODES:
        if host_port and host_port != container_port:
            raise ClientError(f"When networkMode={network_mode}, the host ports and container ports in port mappings must match.")
        host_port = container_port
    if mapping.hostPort == host_port and mapping.protocol:
        return mapping
    return msgspec.structs.replace(mapping, hostPort=host_port or 0, protocol=protocol)


def _check_range(mapping: Any, name: str, network_mode: str) -> None:
    if mapping.containerPort is not None or mapping.hostPort is not None:
        raise invalid("portMappings.containerPortRange", name, "containerPort and hostPort cannot be given with it.")
    if network_mode not in ("bridge", "awsvpc"):
        raise invalid("portMappings.containerPortRange", name, "It needs network mode bridge or awsvpc.")
    bounds = _PORT_RANGE.fullmatch(mapping.containerPortRange)
    if bounds is None or not 0 < int(bounds[1]) < int(bounds[2]) < 65536:
        raise invalid("portMappings.containerPortRange", name, "It must be START-END with START less than END, both from 1 to 65535.")


def _environment(given: list[Any] | None, name: str) -> list[Any]:
    if not given:
        return []
    for variable in given:
        if not variable.name:
            raise invalid("environment", name, "The name of an environment variable should not be null or empty.")
    return given


def _check_files_and_secrets(container: Any, name: str) -> None:
    if container.environmentFiles:
        if len(container.environmentFiles) > ENVIRONMENT_FILES_MAX:
            raise invalid("environmentFiles", name, f"There may be at most {ENVIRONMENT_FILES_MAX}.")
        for file in container.environmentFiles:
            if not (file.value.startswith("arn:") and file.value.endswith(".env")):
                raise invalid("environmentFiles", name, "The value must be the ARN of an object in Amazon S3 whose name ends with .env.")
    if container.secrets:
        taken = {variable.name for variable in container.environment or ()}
        for secret in container.secrets:
            if not secret.name or not secret.valueFrom:
                raise invalid("secrets", name, "A secret needs name and valueFrom.")
            if secret.name in taken:
                raise ClientError(
                    "The secret name must be unique and not shared with any new or existing environment variables set on the container, "
                    f"such as '{secret.name}'."
                )
            taken.add(secret.name)
    if container.credentialSpecs and len(container.credentialSpecs) > 1:
        raise invalid("credentialSpecs", name, "There may be at most 1.")


def _check_restart_policy(policy: Any, name: str) -> None:
    period = policy.restartAttemptPeriod
    if period is not None and not 60 <= period <= 1800:
        raise out_of_range("restartPolicy.restartAttemptPeriod", name, "60 and 1800")
    if policy.ignoredExitCodes and len(policy.ignoredExitCodes) > IGNORED_EXIT_CODES_MAX:
        raise invalid("restartPolicy.ignoredExitCodes", name, f"There may be at most {IGNORED_EXIT_CODES_MAX}.")
