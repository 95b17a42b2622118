"""One object for texts that thousands of records hold alike.

Owns: `share`. A decoder makes a text of its own for each field of each record; of a million tasks the texts that say the same would take a quarter of
the memory. Never changes what a record says: the object is exchanged for an equal one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeport.model.ecs.task import Container, NetworkBinding, Task

SHARED_MAX: Final = 50_000
"""Texts kept at a time: one for each service, instance and so on. When there are more, it begins anew, which costs some doubles."""

_TASK: Final = (
    "account",
    "cluster",
    "family",
    "desired_status",
    "last_status",
    "group",
    "launch_type",
    "container_instance_id",
    "started_by",
    "service",
    "deployment_id",
    "observed_status",
    "connectivity",
    "stop_code",
    "health_status",
    "cpu_shown",
    "memory_shown",
    "capacity_provider",
)
_CONTAINER: Final = ("name", "image", "status", "image_digest", "health_status", "cpu", "memory", "memory_reservation", "pinned_digest")
_BINDING: Final = ("bind_ip", "protocol")

_texts: dict[str, str] = {}


def share(task: Task) -> Task:
    """`task`, with one object for each text that other tasks have too."""
    if len(_texts) > SHARED_MAX:
        _texts.clear()
    _share(task, _TASK)
    for container in task.containers:
        _share(container, _CONTAINER)
        for binding in container.network_bindings:
            _share(binding, _BINDING)
    return task


def _share(record: Task | Container | NetworkBinding, names: tuple[str, ...]) -> None:
    texts, exchange = _texts, msgspec.structs.force_setattr
    for name in names:
        text: str = getattr(record, name)
        if text:
            known = texts.setdefault(text, text)
            if known is not text:
                exchange(record, name, known)
