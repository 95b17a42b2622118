"""The members of a container definition that say how the runtime runs it: Linux parameters, limits, health check, log driver, timeouts.

Owns: their checks, and `invalid`, the form of the error for a wrong member. Never fills in anything but a health check's defaults.
Source: ecs-reference 3.4, container-level fields.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from homeport.errors import ClientError

HEALTH_INTERVAL_SECONDS: Final = 30
HEALTH_TIMEOUT_SECONDS: Final = 5
HEALTH_RETRIES: Final = 3

GPU_COUNT = re.compile(r"[0-9]{1,9}")

_HEALTH_BOUNDS: Final = (("interval", 5, 300), ("timeout", 2, 60), ("retries", 1, 10), ("startPeriod", 0, 300))
_HEALTH_COMMANDS: Final = ("CMD", "CMD-SHELL")

_LOG_OPTIONS: Final = {"awslogs": ("awslogs-region", "awslogs-group"), "splunk": ("splunk-url", "splunk-token")}
"""Options that a log driver cannot do without."""

_CAPABILITIES_TEXT: Final = (
    "ALL AUDIT_CONTROL AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE "
    "MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT "
    "SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM"
)
CAPABILITIES: Final = frozenset(_CAPABILITIES_TEXT.split())
"""Linux capabilities that Docker knows, and ALL."""


def invalid(member: str, name: str, why: str = "") -> ClientError:
    """The error for a wrong `member` of the container `name`, in ECS's form, with the reason behind it."""
    return ClientError(f"Invalid '{member}' setting for container '{name}'." + (f" {why}" if why else ""))


def out_of_range(member: str, name: str, bounds: str) -> ClientError:
    """The error for a number outside `bounds` ("5 and 300")."""
    return invalid(member, name, f"It must be between {bounds}.")


def check(container: Any, name: str, network_mode: str) -> None:
    """Raise ClientError for the first wrong member among those of this module."""
    for member in ("startTimeout", "stopTimeout"):
        seconds = getattr(container, member)
        if seconds is not None and seconds < 0:
            raise invalid(member, name)
    if container.hostname and network_mode == "awsvpc":
        raise ClientError("When networkMode=awsvpc, hostname is not supported.")
    if container.extraHosts and network_mode == "awsvpc":
        raise ClientError("When networkMode=awsvpc, extraHosts is not supported.")
    if container.links and network_mode != "bridge":
        raise ClientError(f"When networkMode={network_mode}, links are not supported.")
    if container.linuxParameters is not None:
        _check_linux_parameters(container.linuxParameters, name)
    if container.ulimits:
        _check_ulimits(container.ulimits, name)
    if container.logConfiguration is not None:
        _check_log_configuration(container.logConfiguration)
    if container.systemControls:
        _check_system_controls(container.systemControls, name, network_mode)
    if container.resourceRequirements:
        _check_resource_requirements(container.resourceRequirements, name)


def health_check(check_given: Any, name: str) -> Any:
    """The health check with interval, timeout and retries, which ECS fills in; raises ClientError when it is wrong."""
    command = check_given.command
    if len(command) < 2 or command[0] not in _HEALTH_COMMANDS:
        raise invalid("healthCheck.command", name, "It must begin with CMD or CMD-SHELL and have a command behind it.")
    for member, low, high in _HEALTH_BOUNDS:
        value = getattr(check_given, member)
        if value is not None and not low <= value <= high:
            raise out_of_range(f"healthCheck.{member}", name, f"{low} and {high}")
    return msgspec.structs.replace(
        check_given,
        interval=check_given.interval or HEALTH_INTERVAL_SECONDS,
        timeout=check_given.timeout or HEALTH_TIMEOUT_SECONDS,
        retries=check_given.retries or HEALTH_RETRIES,
    )


def _check_linux_parameters(parameters: Any, name: str) -> None:
    capabilities = parameters.capabilities
    for capability in (*(capabilities.add or ()), *(capabilities.drop or ())) if capabilities is not None else ():
        if capability.removeprefix("CAP_") not in CAPABILITIES:
            raise invalid("linuxParameters.capabilities", name, f"{capability} is no capability.")
    for device in parameters.devices or ():
        if not device.hostPath.startswith("/"):
            raise invalid("linuxParameters.devices", name, "hostPath must be an absolute path.")
    for mount in parameters.tmpfs or ():
        if not mount.containerPath.startswith("/") or mount.size <= 0:
            raise invalid("linuxParameters.tmpfs", name, "containerPath must be an absolute path and size greater than 0.")
    if parameters.sharedMemorySize is not None and parameters.sharedMemorySize <= 0:
        raise invalid("linuxParameters.sharedMemorySize", name)
    if parameters.maxSwap is not None and parameters.maxSwap < 0:
        raise invalid("linuxParameters.maxSwap", name)
    if parameters.swappiness is not None and not 0 <= parameters.swappiness <= 100:
        raise out_of_range("linuxParameters.swappiness", name, "0 and 100")


def _check_ulimits(ulimits: list[Any], name: str) -> None:
    seen = set()
    for ulimit in ulimits:
        if ulimit.name in seen:
            raise invalid("ulimits", name, f"{ulimit.name} is given twice.")
        seen.add(ulimit.name)
        # -1 is "no limit" for both bounds.
        if ulimit.softLimit < -1 or ulimit.hardLimit < -1 or (ulimit.hardLimit != -1 and not -1 < ulimit.softLimit <= ulimit.hardLimit):
            raise invalid("ulimits", name, f"softLimit of {ulimit.name} must not be greater than its hardLimit.")


def _check_log_configuration(configuration: Any) -> None:
    needed = _LOG_OPTIONS.get(configuration.logDriver)
    if needed is None:
        return
    options = {**(configuration.options or {}), **{secret.name: "" for secret in configuration.secretOptions or ()}}
    if not all(option in options for option in needed):
        raise ClientError(f"Log driver {configuration.logDriver} requires options: {', '.join(needed)}")


def _check_system_controls(controls: list[Any], name: str, network_mode: str) -> None:
    for control in controls:
        if not control.namespace or control.value is None:
            raise invalid("systemControls", name, "A system control needs namespace and value.")
        if control.namespace.startswith("net.") and network_mode == "host":
            raise invalid("systemControls", name, "Network system controls cannot be set when networkMode=host.")


def _check_resource_requirements(requirements: list[Any], name: str) -> None:
    for requirement in requirements:
        value = requirement.value or ""
        whole = bool(GPU_COUNT.fullmatch(value)) and int(value) > 0
        if requirement.type == "GPU" and requirement.sharingStrategy is None and value != "ALL" and not whole:
            raise invalid("resourceRequirements", name, "The value of GPU must be a whole number greater than 0, or ALL.")
        if requirement.type == "NeuronDevice" and value != "ALL":
            raise invalid("resourceRequirements", name, "The value of NeuronDevice must be ALL.")
