"""Members that a task definition may have and that no agent of this version honours.

Owns: the list. RunTask, StartTask and CreateService refuse a definition that has one of them and name it: nothing is dropped silently.
Registration never fails because of it. A member leaves this list in the change that builds it; docs/design/task-definitions.md tells the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from homeport.api.ecs.task_definition_rules import Checked
from homeport.model.ecs.task_definition import TaskDefinition

_TASK_MEMBERS: Final = ("proxyConfiguration", "inferenceAccelerators", "ephemeralStorage", "enableFaultInjection")
_CONTAINER_MEMBERS: Final = ("repositoryCredentials", "environmentFiles", "secrets", "firelensConfiguration", "credentialSpecs")
_VOLUME_MEMBERS: Final = ("efsVolumeConfiguration", "s3filesVolumeConfiguration", "fsxWindowsFileServerVolumeConfiguration", "configuredAtLaunch")
BUILT_SINCE: Final = frozenset({"taskRoleArn", "executionRoleArn"})
"""What definitions that are stored may still list and that is built by now."""
_LOG_DRIVERS: Final = frozenset({"awslogs", "awsfirelens"})
"""Every other driver is Docker's own and passed through."""


def unsupported(request: Any, checked: Checked) -> tuple[str, ...]:
    """The members, with their value where only that value is not built, for example `networkMode=awsvpc`."""
    return (*_of_task(request, checked), *_of_containers(checked))


def missing(definition: TaskDefinition) -> str:
    """The first member of a stored definition that is not built; "" when tasks can run it."""
    return next((member for member in definition.unsupported if member not in BUILT_SINCE), "")


def _of_task(request: Any, checked: Checked) -> Iterator[str]:
    if checked.network_mode == "awsvpc":
        yield "networkMode=awsvpc"
    for member in _TASK_MEMBERS:
        if getattr(request, member):
            yield member
    for member in ("pidMode", "ipcMode"):
        if getattr(request, member) == "task":
            yield f"{member}=task"
    platform = request.runtimePlatform
    if platform is not None and platform.operatingSystemFamily not in (None, "LINUX"):
        yield f"runtimePlatform.operatingSystemFamily={platform.operatingSystemFamily}"
    trusted = request.trustedExecutionConfiguration
    if trusted is not None and trusted.isolationMode != "SHARED":
        yield f"trustedExecutionConfiguration.isolationMode={trusted.isolationMode}"
    for number, volume in enumerate(checked.volumes):
        for member in _VOLUME_MEMBERS:
            if getattr(volume, member):
                yield f"volumes[{number}].{member}"


def _of_containers(checked: Checked) -> Iterator[str]:
    for number, container in enumerate(checked.containers):
        place = f"containerDefinitions[{number}]"
        for member in _CONTAINER_MEMBERS:
            if getattr(container, member):
                yield f"{place}.{member}"
        log = container.logConfiguration
        if log is not None:
            if log.logDriver in _LOG_DRIVERS:
                yield f"{place}.logConfiguration.logDriver={log.logDriver}"
            if log.secretOptions:
                yield f"{place}.logConfiguration.secretOptions"
        for requirement in container.resourceRequirements or ():
            if requirement.type != "GPU":
                yield f"{place}.resourceRequirements.type={requirement.type}"
            elif requirement.sharingStrategy is not None:
                yield f"{place}.resourceRequirements.sharingStrategy"
            elif requirement.value == "ALL":
                yield f"{place}.resourceRequirements.value=ALL"
