"""What CreateService and UpdateService take: checks of the call's own members, and the refusal of those that are not built.

Owns: the limits and the words of those errors. Never reads the store. An absent member and null are both None here: they keep what is.
Sources: ecs-reference 3.8 and 3.9. Nothing that cannot act is dropped in silence: it is refused by its name.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from homeport.api.ecs.deployment_controller import controller_of
from homeport.api.ecs.task_input import constraint, not_built
from homeport.errors import InvalidParameterError
from homeport.model.ecs.capacity_provider import Strategy
from homeport.model.ecs.service import DAEMON, EXTERNAL, PlacementConstraint, Service
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.planner import rebalancing

CLIENT_TOKEN_CHARACTERS_MAX: Final = 36
CONSTRAINTS_MAX: Final = 10

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_NOT_BUILT = (
    "loadBalancers",
    "serviceRegistries",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
    "gatewayConnectors",
)
"""Members that refuse to be anything but empty."""


def name_of(name: str) -> str:
    """The service's name. Raises InvalidParameterError when it has other characters or another length than ECS allows."""
    if not _NAME.fullmatch(name):
        raise InvalidParameterError("Service names must have 1 to 255 letters (uppercase and lowercase), numbers, hyphens or underscores.")
    return name


def desired_count_of(value: int, *, most: int) -> int:
    """The desired count. Raises InvalidParameterError for a negative one and for one above the quota `most`."""
    if not 0 <= value <= most:
        raise InvalidParameterError(f"desiredCount must be between 0 and {most}.")
    return value


def refuse_not_built(request: Any) -> None:
    """Raise for a member, of either operation, that needs a part which does not exist yet, or does not go with launch types EC2 and EXTERNAL."""
    for member in _NOT_BUILT:
        if getattr(request, member):
            raise not_built(member)
    connect = request.serviceConnectConfiguration
    if connect is not None and (connect.enabled or connect.services):
        raise not_built("serviceConnectConfiguration")
    if request.monitoring is not None and request.monitoring.metricConfigurations:
        raise not_built("monitoring")
    if request.enableExecuteCommand:
        raise not_built("enableExecuteCommand")
    if request.networkConfiguration is not None:
        raise InvalidParameterError("Network Configuration is not valid for the given networkMode of this task definition.")
    if request.platformVersion:
        raise InvalidParameterError("The platform version must be null when specifying an EC2 launch type.")
    if request.healthCheckGracePeriodSeconds:
        raise InvalidParameterError("Health check grace period is only valid for services configured to use load balancers")


def refuse_at_creation(request: Any) -> None:
    """Raise for members that only CreateService has."""
    if request.role:
        raise InvalidParameterError("You cannot specify an IAM role for a service that has no load balancer.")
    external = controller_of(request) == EXTERNAL  # its only required member is the name
    if not request.taskDefinition and not external:
        raise InvalidParameterError("TaskDefinition can not be blank.")
    if request.desiredCount is None and request.schedulingStrategy != DAEMON and not external:
        raise InvalidParameterError("desiredCount must be specified for a service with the REPLICA scheduling strategy.")


def with_rebalancing(service: Service, given: str | None, *, kept: str | None) -> Service:
    """`service` with `availabilityZoneRebalancing`: as given, else as kept (UpdateService), else ENABLED if the service is eligible.

    One that is kept ENABLED though the service is eligible no more rests until it is again. Raises InvalidParameterError for an explicit ENABLED
    on an ineligible service.
    """
    reason = rebalancing.ineligible(service)
    if given == rebalancing.ENABLED and reason:
        raise InvalidParameterError(reason)
    wanted = given or kept or (rebalancing.DISABLED if reason else rebalancing.ENABLED)
    return msgspec.structs.replace(service, availability_zone_rebalancing=wanted)


def placement_constraints(items: Any) -> tuple[PlacementConstraint, ...]:
    """The service's own constraints. Raises InvalidParameterError for too many or a wrong one."""
    if len(items or ()) > CONSTRAINTS_MAX:
        raise InvalidParameterError(f"Placement constraints may not be more than {CONSTRAINTS_MAX}.")
    return tuple(constraint(item) for item in items or ())


def check_constraints(service: Service, definition: TaskDefinition | None) -> None:
    """Raise InvalidParameterError when the service's constraints and its task definition's are more than a task may have."""
    if definition is not None and len(service.placement_constraints) + len(definition.placement_constraints) > CONSTRAINTS_MAX:
        raise InvalidParameterError(f"Placement constraints may not be more than {CONSTRAINTS_MAX}, those of the task definition included.")


def with_strategy(service: Service, strategy: Strategy) -> Service:
    """`service` with a capacity provider strategy in place of its launch type; with an empty one, on launch type EC2 again."""
    document: dict[str, Any] = msgspec.json.decode(service.document) if service.document else {}
    document.pop("capacityProviderStrategy", None)
    if strategy:
        document["capacityProviderStrategy"] = msgspec.to_builtins(strategy)
    launch_type = "" if strategy else service.launch_type or "EC2"
    return msgspec.structs.replace(service, launch_type=launch_type, document=msgspec.json.encode(document) if document else b"")
