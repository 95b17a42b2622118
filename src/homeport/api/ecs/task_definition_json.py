"""The API's form of a task definition.

Owns: the stored document (as ECS gives a definition back) and how an answer is put together from it. Never checks anything.
The document is stored encoded, so that an answer is a few bytes set in front of it and nothing is decoded.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.ecs import task_definition_requirements
from homeport.api.ecs.task_definition_rules import Checked
from homeport.api.ecs.volume_rules import KINDS
from homeport.model import arn
from homeport.model.ecs.task_definition import TaskDefinition

_AS_GIVEN: Final = (
    "taskRoleArn",
    "executionRoleArn",
    "networkMode",
    "requiresCompatibilities",
    "runtimePlatform",
    "pidMode",
    "ipcMode",
    "proxyConfiguration",
    "inferenceAccelerators",
    "ephemeralStorage",
    "enableFaultInjection",
    "trustedExecutionConfiguration",
)
"""Members that come back as they were given, and not at all when they were not (networkMode too: ECS does not write the default)."""

_encode = msgspec.json.Encoder().encode


def document(request: Any, checked: Checked, *, requires: list[str], compatibilities: list[str]) -> bytes:
    """The JSON object that is stored: everything of `taskDefinition` but its ARN, revision, status, dates and author."""
    members: dict[str, Any] = {
        "family": checked.family,
        "containerDefinitions": checked.containers,
        "volumes": [_volume(volume) for volume in checked.volumes],
        "placementConstraints": request.placementConstraints or [],
        "requiresAttributes": task_definition_requirements.requires_attributes_json(requires),
        "compatibilities": compatibilities,
    }
    if checked.cpu_text:
        members["cpu"] = checked.cpu_text
    if checked.memory_text:
        members["memory"] = checked.memory_text
    for member in _AS_GIVEN:
        value = getattr(request, member)
        if value is not None:
            members[member] = value
    return _encode(members)


def _volume(volume: Any) -> Any:
    """A volume that says nothing of its kind lives on the host for its task's lifetime; ECS shows it with an empty `host`."""
    if volume.configuredAtLaunch is None and all(getattr(volume, kind) is None for kind in KINDS):
        return {"name": volume.name, "host": {}}
    return volume


def task_definition_json(region: str, definition: TaskDefinition) -> msgspec.Raw:
    """The API's `taskDefinition`, encoded."""
    head: dict[str, Any] = {
        "taskDefinitionArn": arn.task_definition_arn(region, definition.account, definition.family, definition.revision),
        "revision": definition.revision,
        "status": definition.status,
        "registeredAt": definition.registered_at,
        "registeredBy": definition.registered_by,
    }
    if definition.deregistered_at:
        head["deregisteredAt"] = definition.deregistered_at
    if definition.delete_requested_at:
        head["deleteRequestedAt"] = definition.delete_requested_at
    return msgspec.Raw(_encode(head)[:-1] + b"," + definition.document[1:])
