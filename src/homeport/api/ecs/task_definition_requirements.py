"""What an instance's agent must be able to do to run a task definition.

Owns: the derivation of `requiresAttributes` (names of the upstream agent's capabilities). Never matches instances: placement does.
Sources: ecs-reference 3.4 (derivation), agent-protocol 9 (what agents advertise, and that Engine API versions 1.26, 1.27 and 1.31 are not).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from homeport.api.ecs.task_definition_rules import Checked

AGENT: Final = "ecs.capability."
DOCKER: Final = "com.amazonaws.ecs.capability."

_API_OF_CONTAINER_MEMBER: Final = (("ulimits", 18), ("memoryReservation", 21), ("systemControls", 24))
"""Engine API version (1.N) that first knows what the member needs."""
_API_OF_LINUX_PARAMETER: Final = (("initProcessEnabled", 25), ("sharedMemorySize", 22), ("tmpfs", 22))
_CPU_ARCHITECTURE: Final = {"X86_64": "x86_64", "ARM64": "arm64"}


def requires_attributes(request: Any, checked: Checked) -> list[str]:
    """Names of attributes, sorted; `name=value` where the value matters."""
    names = set(_of_task(request, checked))
    for container in checked.containers:
        names.update(_of_container(container, request.executionRoleArn))
    return sorted(names)


def requires_attributes_json(names: list[str]) -> list[dict[str, str]]:
    """The API's form: a list of {name} or {name, value}."""
    rendered = []
    for text in names:
        name, separator, value = text.partition("=")
        rendered.append({"name": name, "value": value} if separator else {"name": name})
    return rendered


def _of_task(request: Any, checked: Checked) -> Iterator[str]:
    if checked.network_mode == "awsvpc":
        yield AGENT + "task-eni"
    if request.taskRoleArn:
        yield DOCKER + "docker-remote-api.1.17"
        yield DOCKER + ("task-iam-role-network-host" if checked.network_mode == "host" else "task-iam-role")
    if checked.cpu_text or checked.memory_text:
        yield AGENT + "task-cpu-mem-limit"
    if request.pidMode or request.ipcMode:
        yield AGENT + "pid-ipc-namespace-sharing"
    if request.enableFaultInjection:
        yield AGENT + "fault-injection"
    if request.proxyConfiguration is not None:
        yield AGENT + "aws-appmesh"
    platform = request.runtimePlatform
    if platform is not None:
        if platform.cpuArchitecture:
            yield "ecs.cpu-architecture=" + _CPU_ARCHITECTURE[platform.cpuArchitecture]
        if platform.operatingSystemFamily:
            yield "ecs.os-type=" + ("linux" if platform.operatingSystemFamily == "LINUX" else "windows")
    for volume in checked.volumes:
        yield from _of_volume(volume)


def _of_volume(volume: Any) -> Iterator[str]:
    if volume.efsVolumeConfiguration is not None:
        yield AGENT + ("efsAuth" if volume.efsVolumeConfiguration.authorizationConfig is not None else "efs")
    if volume.s3filesVolumeConfiguration is not None:
        yield AGENT + "storage.s3-files"
    if volume.fsxWindowsFileServerVolumeConfiguration is not None:
        yield AGENT + "fsxWindowsFileServer"
    if volume.configuredAtLaunch:
        yield AGENT + "storage.ebs-task-volume-attach"
    docker = volume.dockerVolumeConfiguration
    if docker is not None:
        yield DOCKER + "docker-remote-api.1.25"
        yield AGENT + "docker-plugin." + (docker.driver or "local")


def _of_container(container: Any, execution_role: str | None) -> Iterator[str]:
    if container.privileged:
        yield DOCKER + "privileged-container"
    if ".dkr.ecr." in container.image:
        yield DOCKER + "ecr-auth"
        yield DOCKER + "docker-remote-api.1.19"
        if execution_role:
            yield AGENT + "execution-role-ecr-pull"
    if container.logConfiguration is not None:
        yield from _of_log(container.logConfiguration, execution_role)
    if container.dependsOn:
        yield AGENT + "container-ordering"
    if container.healthCheck is not None:
        yield AGENT + "container-health-check"
        yield DOCKER + "docker-remote-api.1.24"
    if container.restartPolicy is not None and container.restartPolicy.enabled:
        yield AGENT + "container-restart-policy"
    if container.environmentFiles:
        yield AGENT + "env-files.s3"
    if container.repositoryCredentials is not None:
        yield AGENT + "private-registry-authentication.secretsmanager"
    if container.firelensConfiguration is not None:
        yield AGENT + "firelens." + container.firelensConfiguration.type
    for secret in container.secrets or ():
        yield AGENT + f"secrets.{_secret_store(secret.valueFrom)}.environment-variables"
    if any(mapping.containerPortRange is not None for mapping in container.portMappings):
        yield AGENT + "network.container-port-range"
    yield from _api_versions(container)


def _of_log(configuration: Any, execution_role: str | None) -> Iterator[str]:
    yield DOCKER + "docker-remote-api.1.18"
    yield DOCKER + "logging-driver." + configuration.logDriver
    if configuration.logDriver == "awslogs":
        yield DOCKER + "docker-remote-api.1.19"
        if execution_role:
            yield AGENT + "execution-role-awslogs"
    for secret in configuration.secretOptions or ():
        yield AGENT + f"secrets.{_secret_store(secret.valueFrom)}.bootstrap.log-driver"


def _secret_store(value_from: str) -> str:
    """asm for a secret of Secrets Manager, ssm for a parameter of Systems Manager (its name or ARN)."""
    return "asm" if ":secretsmanager:" in value_from else "ssm"


def _api_versions(container: Any) -> Iterator[str]:
    for member, version in _API_OF_CONTAINER_MEMBER:
        if getattr(container, member):
            yield f"{DOCKER}docker-remote-api.1.{version}"
    parameters = container.linuxParameters
    if parameters is not None:
        for member, version in _API_OF_LINUX_PARAMETER:
            if getattr(parameters, member):
                yield f"{DOCKER}docker-remote-api.1.{version}"
