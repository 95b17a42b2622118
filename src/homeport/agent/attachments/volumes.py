"""The volumes of a task: which Docker volumes it needs, and what each mount point becomes.

Owns: the names of the volumes that live as long as their task, and the rules of dockerVolumeConfiguration.
Pure but for `VolumeKeeper`, which asks the runtime. Never removes a shared volume. Source: ecs-reference.md 3.4, agent-protocol.md 7.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from homeport.acs.messages import ContainerPayload, TaskPayload, VolumePayload
from homeport.agent.runtime.contract import NoSuchObjectError, Runtime, RuntimeFailureError, VolumeDocument


class VolumeError(ValueError):
    """A volume's description cannot be used. The message names the volume."""


class VolumePlan(msgspec.Struct, frozen=True):
    """Volumes to make for a task, those to remove with it, those that must exist already, and each volume's source for a bind."""

    create: tuple[VolumeDocument, ...] = ()
    remove: tuple[str, ...] = ()
    expect: tuple[str, ...] = ()
    sources: dict[str, str] = msgspec.field(default_factory=dict)


def plan(task: TaskPayload, labels: Mapping[str, str]) -> VolumePlan:
    """What the task's volumes need. `labels` go on the volumes made for the task. Raises VolumeError."""
    create: list[VolumeDocument] = []
    remove: list[str] = []
    expect: list[str] = []
    sources: dict[str, str] = {}
    for volume in task.volumes:
        if volume.type not in ("", "host", "docker"):
            raise VolumeError(f"volume {volume.name}: type {volume.type} is not built yet")
        if volume.type != "docker" and volume.host is not None and volume.host.sourcePath:
            sources[volume.name] = volume.host.sourcePath
            continue
        document, shared = _docker_volume(task, volume, labels)
        sources[volume.name] = document.name
        if shared and volume.dockerVolumeConfiguration is not None and not volume.dockerVolumeConfiguration.autoprovision:
            expect.append(document.name)
            continue
        create.append(document)
        if not shared:
            remove.append(document.name)
    return VolumePlan(tuple(create), tuple(remove), tuple(expect), sources)


def _docker_volume(task: TaskPayload, volume: VolumePayload, labels: Mapping[str, str]) -> tuple[VolumeDocument, bool]:
    wanted = volume.dockerVolumeConfiguration
    if wanted is None:
        return VolumeDocument(name=task_volume_name(task, volume.name), labels=dict(labels)), False
    if wanted.scope == "shared":
        return VolumeDocument(name=volume.name, driver=wanted.driver or "local", driver_opts=wanted.driverOpts, labels=wanted.labels), True
    name = task_volume_name(task, volume.name)
    return VolumeDocument(name=name, driver=wanted.driver or "local", driver_opts=wanted.driverOpts, labels={**wanted.labels, **labels}), False


def task_volume_name(task: TaskPayload, volume: str) -> str:
    """Name of a volume that lives as long as the task; the same each time, so that a repeated creation makes no second one."""
    digest = hashlib.sha256(f"{task.arn}/volume/{volume}".encode()).hexdigest()[:20]
    return f"ecs-{task.family}-{task.version}-{volume}-{digest}"


def binds(container: ContainerPayload, volumes: VolumePlan) -> list[str]:
    """Docker's Binds for the container's mount points. Raises VolumeError for a volume that the task does not have."""
    found = []
    for mount in container.mountPoints:
        source = volumes.sources.get(mount.sourceVolume)
        if source is None:
            raise VolumeError(f"container {container.name} mounts volume {mount.sourceVolume!r}, which the task does not have")
        found.append(f"{source}:{mount.containerPath}" + (":ro" if mount.readOnly else ""))
    return found


class VolumeKeeper:
    """Makes and removes what a plan says."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def prepare(self, volumes: VolumePlan) -> None:
        """Make the volumes. Raises NoSuchObjectError for one that must exist and does not, and the runtime's errors."""
        for name in volumes.expect:
            if not await self._runtime.volume_exists(name):
                raise NoSuchObjectError(f"the shared volume {name} does not exist and autoprovision is off")
        for document in volumes.create:
            await self._runtime.create_volume(document)

    async def discard(self, volumes: VolumePlan) -> list[str]:
        """Remove the task's own volumes; return the reason for each that could not be removed."""
        kept = []
        for name in volumes.remove:
            try:
                await self._runtime.remove_volume(name)
            except RuntimeFailureError as error:
                if error.temporary:
                    raise
                kept.append(str(error))
        return kept
