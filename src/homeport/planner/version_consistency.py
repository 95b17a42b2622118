"""Version consistency: all tasks of a service revision run the very images that its first task ran.

Owns: `needs_digests`, `pinned`, `digests_of`. Never asks a registry: a digest is what an agent reported of the image that it has.
Source: ecs-reference 3.9 (digest pinned per revision); `versionConsistency` of a container definition switches it off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from homeport.model.ecs import task as task_model
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.service_revision import RevisionContainer, ServiceRevision
from homeport.model.ecs.task import Task
from homeport.model.record import Instant

Revision = TypeVar("Revision", ServiceRevision, DaemonRevision)

NO_DIGEST: Final = "The image has no digest of a registry, so later tasks run whatever its name stands for at that time."


def needs_digests(revision: ServiceRevision | DaemonRevision) -> bool:
    """Whether `revision` has containers to be held to the first task's images, and no task has told them yet."""
    return not revision.pinned_at and any(container.consistent for container in revision.containers)


def pinned(revision: Revision, tasks: Iterable[Task], now: Instant) -> Revision | None:
    """`revision` with the digests that its first RUNNING task reported; None while there is no such task, or nothing to pin."""
    if not needs_digests(revision):
        return None
    running = (task for task in tasks if task.deployment_id == revision.id and task.last_status == task_model.RUNNING)
    first = min(running, key=lambda task: (task.started_at, task.id), default=None)
    if first is None:
        return None
    reported = {container.name: container.image_digest for container in first.containers}
    containers = tuple(_pinned(container, reported.get(container.name, "")) for container in revision.containers)
    return msgspec.structs.replace(revision, containers=containers, pinned_at=now)


def _pinned(container: RevisionContainer, digest: str) -> RevisionContainer:
    if not container.consistent:
        return container
    if not digest.startswith("sha256:"):
        return msgspec.structs.replace(container, note=NO_DIGEST)
    return msgspec.structs.replace(container, digest=digest)


def digests_of(revision: ServiceRevision | DaemonRevision | None) -> Mapping[str, str]:
    """Container name → the digest that a new task of `revision` is held to."""
    return {container.name: container.digest for container in revision.containers if container.digest} if revision else {}
