"""What the operations on task sets take: the scale, references to sets, and the members that cannot act yet.

Owns: the limits and the words of those errors. Never reads the store.
Source: ecs-reference 3.9. Nothing that cannot act is dropped in silence: it is refused by its name.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.api.ecs.task_input import not_built
from homeport.errors import InvalidParameterError
from homeport.model.ecs.service import Service

SCALE_MAX: Final = 100.0
EXTERNAL_ID_CHARACTERS_MAX: Final = 1024
"""Ours; ECS documents no limit."""

_PREFIX: Final = "ecs-svc/"


def refuse(request: Any) -> None:
    """Raise for a member of CreateTaskSet that needs a part which does not exist yet, or does not go with launch types EC2 and EXTERNAL."""
    for member in ("loadBalancers", "serviceRegistries"):
        if getattr(request, member):
            raise not_built(member)
    if request.networkConfiguration is not None:
        raise InvalidParameterError("Network Configuration is not valid for the given networkMode of this task definition.")
    if request.platformVersion:
        raise InvalidParameterError("The platform version must be null when specifying an EC2 launch type.")
    if len(request.externalId or "") > EXTERNAL_ID_CHARACTERS_MAX:
        raise InvalidParameterError(f"externalId must be at most {EXTERNAL_ID_CHARACTERS_MAX} characters.")


def scale_of(given: Any) -> float:
    """The percentage of `scale`; 0.0 where none is given. Raises InvalidParameterError when it is not from 0 to 100."""
    value = 0.0 if given is None or given.value is None else float(given.value)
    if not 0.0 <= value <= SCALE_MAX:
        raise InvalidParameterError("The scale of a task set must be between 0 and 100 percent.")
    return value + 0.0  # -0.0 is 0.0


def id_of(call: Call, service: Service, reference: str) -> str:
    """Digits of the set that `reference` (an id with or without `ecs-svc/`, or an ARN) names.

    Raises InvalidParameterError for what can name no set of `service`.
    """
    text = reference
    if reference.startswith("arn:"):
        parsed = lookup.own_arn(call, reference)
        own = f"task-set/{service.cluster}/{service.name}/{_PREFIX}"
        if parsed is None:
            raise InvalidParameterError(f"Invalid identifier: {reference} is no ARN of a task set of this account and region")
        if not parsed.resource.startswith(own):
            raise InvalidParameterError(f"Invalid identifier: {reference} is no task set of the service {service.name}")
        text = _PREFIX + parsed.resource.removeprefix(own)
    digits = text.removeprefix(_PREFIX)
    if not digits or "/" in digits:
        raise InvalidParameterError(f"Invalid identifier: {reference} is no id and no ARN of a task set")
    return digits
