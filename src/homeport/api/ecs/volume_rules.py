"""What the volumes of a task definition must look like, and what containers mount.

Owns: their checks and the defaults that registration fills in. Never looks at a host: a volume of a kind that is not built is accepted here and
refused when a task is to run (`task_definition_support.py`). Source: ecs-reference 3.4, 3.16.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from homeport.errors import ClientError

NAME_LENGTH_MAX: Final = 255
KINDS: Final = (
    "host",
    "dockerVolumeConfiguration",
    "efsVolumeConfiguration",
    "s3filesVolumeConfiguration",
    "fsxWindowsFileServerVolumeConfiguration",
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


def normalised(volumes: Sequence[Any] | None) -> list[Any]:
    """`volumes` (Structs of the request) checked, with scope and root directory filled in. Raises ClientError."""
    if not volumes:
        return []
    names = [volume.name for volume in volumes]
    if len(set(names)) != len(names):
        raise ClientError("Volume names must be unique within a task definition.")
    return [_volume(volume) for volume in volumes]


def _volume(volume: Any) -> Any:
    if not volume.name:
        raise ClientError("Volume.name should not be null or empty.")
    if not _NAME.fullmatch(volume.name):
        raise ClientError("Volume.name contains invalid characters.")
    kinds = [kind for kind in KINDS if getattr(volume, kind) is not None]
    if len(kinds) > 1:
        raise ClientError(f"The volume '{volume.name}' may have only one of {' and '.join(kinds)}.")
    if volume.configuredAtLaunch and kinds:
        raise ClientError(f"The volume '{volume.name}' is configured at launch, so it cannot have {kinds[0]}.")
    if volume.host is not None and volume.host.sourcePath is not None and not volume.host.sourcePath.strip():
        raise ClientError("host.sourcePath should not be blank.")
    docker = volume.dockerVolumeConfiguration
    if docker is not None:
        if docker.autoprovision is not None and docker.scope != "shared":
            raise ClientError(f"autoprovision of the volume '{volume.name}' can be set only when its scope is shared.")
        return volume if docker.scope else msgspec.structs.replace(volume, dockerVolumeConfiguration=msgspec.structs.replace(docker, scope="task"))
    efs = volume.efsVolumeConfiguration
    if efs is not None:
        return _efs(volume, efs)
    return volume


def _efs(volume: Any, efs: Any) -> Any:
    authorization = efs.authorizationConfig
    if authorization is not None and efs.transitEncryption != "ENABLED":
        raise ClientError(f"transitEncryption of the volume '{volume.name}' must be ENABLED when authorizationConfig is given.")
    return volume if efs.rootDirectory else msgspec.structs.replace(volume, efsVolumeConfiguration=msgspec.structs.replace(efs, rootDirectory="/"))


def check_mounts(containers: Sequence[Any], volumes: Sequence[Any]) -> None:
    """Raise ClientError for a mount point of an unknown volume, without a path, or of a path that is taken."""
    known = {volume.name for volume in volumes}
    for container in containers:
        paths = set()
        for mount in container.mountPoints:
            if mount.sourceVolume not in known:
                raise ClientError(f"Unknown volume '{mount.sourceVolume or 'null'}'.")
            if not mount.containerPath:
                raise ClientError("Container.mountPoints.containerPath should not be null or empty.")
            if mount.containerPath in paths:
                raise ClientError(f"Container '{container.name}' has more than one mount point at {mount.containerPath}.")
            paths.add(mount.containerPath)
