"""The launch types that a task definition can run on.

Owns: `compatibilities` and the first reason why a launch type does not fit. Never says whether Homeport has the launch type: a definition may be
FARGATE-compatible here and still be refused when a task of launch type FARGATE is to run.
Source: ecs-reference 3.4 (Fargate pairs and members), 3.20 (external instances).
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.ecs.task_definition_rules import Checked
from homeport.errors import ClientError

_GIB: Final = 1024

FARGATE_MEMORY_MIB: Final[dict[int, range | tuple[int, ...]]] = {
    256: (512, 1024, 2048),
    512: range(1 * _GIB, 4 * _GIB + 1, _GIB),
    1024: range(2 * _GIB, 8 * _GIB + 1, _GIB),
    2048: range(4 * _GIB, 16 * _GIB + 1, _GIB),
    4096: range(8 * _GIB, 30 * _GIB + 1, _GIB),
    8192: range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB),
    16384: range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB),
}
"""CPU units → the MiB that Fargate has with them."""

FARGATE_STOP_TIMEOUT_MAX_SECONDS: Final = 120
_FARGATE_LOG_DRIVERS: Final = ("awslogs", "splunk", "awsfirelens")


def compatibilities(request: Any, checked: Checked) -> list[str]:
    """Launch types that the definition fits, in ECS's order.

    Raises ClientError with the first reason when it does not fit one that `requiresCompatibilities` names.
    """
    problems = {
        "EXTERNAL": external_problem(request, checked),
        "EC2": None,
        "FARGATE": fargate_problem(request, checked),
        "MANAGED_INSTANCES": managed_instances_problem(request, checked),
    }
    for required in request.requiresCompatibilities or ():
        problem = problems.get(required)
        if problem is not None:
            raise ClientError(problem)
    return [name for name, problem in problems.items() if problem is None]


def external_problem(request: Any, checked: Checked) -> str | None:
    """Why no external instance can run it, or None."""
    if checked.network_mode == "awsvpc":
        return "External instances do not support network mode 'awsvpc'."
    if request.proxyConfiguration is not None:
        return "External instances do not support proxyConfiguration."
    if any(volume.efsVolumeConfiguration is not None for volume in checked.volumes):
        return "External instances do not support efsVolumeConfiguration."
    if any(volume.configuredAtLaunch for volume in checked.volumes):
        return "External instances do not support volumes that are configured at launch."
    return None


def managed_instances_problem(request: Any, checked: Checked) -> str | None:
    """Why no managed instance can run it, or None."""
    if checked.network_mode not in ("awsvpc", "host"):
        return "Managed instances only support network modes 'awsvpc' and 'host'."
    if not checked.cpu_text or not checked.memory_text:
        return "Managed instances require that 'cpu' and 'memory' be defined at the task level."
    if any(container.links for container in checked.containers) or request.inferenceAccelerators:
        return "Managed instances support neither links nor inferenceAccelerators."
    return None


def fargate_problem(request: Any, checked: Checked) -> str | None:
    """Why Fargate cannot run it, or None. The commonest reason comes first, so that most definitions end here at once."""
    if checked.network_mode != "awsvpc":
        return "Fargate only supports network mode ‘awsvpc’."
    if not checked.cpu_text:
        return "Fargate requires that 'cpu' be defined at the task level."
    if not checked.memory_text:
        return "Fargate requires that 'memory' be defined at the task level."
    if int(checked.memory_text) not in FARGATE_MEMORY_MIB.get(int(checked.cpu_text), ()):
        return f"No Fargate configuration exists for given values: {checked.cpu_text} CPU, {checked.memory_text} memory."
    of_containers = filter(None, map(_fargate_container_problem, checked.containers))
    return _fargate_task_problem(request, checked) or next(of_containers, None) or _role_problem(request, checked)


def _fargate_task_problem(request: Any, checked: Checked) -> str | None:
    if request.ipcMode is not None:
        return "Tasks using the Fargate launch type do not support ipcMode."
    if request.pidMode == "host":
        return "Tasks using the Fargate launch type do not support pidMode 'host'."
    if checked.constraints:
        return "Tasks using the Fargate launch type do not support placementConstraints."
    if request.inferenceAccelerators:
        return "Tasks using the Fargate launch type do not support inferenceAccelerators."
    for volume in checked.volumes:
        if volume.host is not None and volume.host.sourcePath is not None:
            return "host.sourcePath is not supported by the Fargate launch type."
        if volume.dockerVolumeConfiguration is not None:
            return "dockerVolumeConfiguration is not supported by the Fargate launch type."
    return None


def _fargate_container_problem(container: Any) -> str | None:
    if container.privileged:
        return "Fargate does not support privileged containers."
    for member in ("links", "extraHosts", "dockerSecurityOptions", "dnsServers", "dnsSearchDomains", "disableNetworking"):
        if getattr(container, member):
            return f"Tasks using the Fargate launch type do not support {member}."
    if container.stopTimeout is not None and not 2 <= container.stopTimeout <= FARGATE_STOP_TIMEOUT_MAX_SECONDS:
        return f"The Fargate launch type requires a stopTimeout between 2 and {FARGATE_STOP_TIMEOUT_MAX_SECONDS} seconds."
    if container.resourceRequirements:
        return "Tasks using the Fargate launch type do not support resourceRequirements."
    log = container.logConfiguration
    if log is not None and log.logDriver not in _FARGATE_LOG_DRIVERS:
        return f"Fargate only supports the log drivers {', '.join(_FARGATE_LOG_DRIVERS)}."
    parameters = container.linuxParameters
    if parameters is not None and any(getattr(parameters, member) is not None for member in ("devices", "sharedMemorySize", "maxSwap", "swappiness")):
        return "Tasks using the Fargate launch type do not support devices, sharedMemorySize, maxSwap and swappiness."
    return None


def _role_problem(request: Any, checked: Checked) -> str | None:
    if request.executionRoleArn:
        return None
    if any(container.logConfiguration is not None and container.logConfiguration.logDriver == "awslogs" for container in checked.containers):
        return "Fargate requires task definition to have execution role ARN to support log driver awslogs."
    if any(".dkr.ecr." in container.image for container in checked.containers):
        return "Fargate requires task definition to have execution role ARN to support ECR images."
    return None
