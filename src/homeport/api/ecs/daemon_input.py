"""What CreateService and UpdateService take for a service with the DAEMON strategy.

Owns: the members that do not go with it, and the first share and desired count of such a service. Never keeps them up to date: the service's
controller does.
Source: ecs-reference 3.8.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.errors import InvalidParameterError
from homeport.model.ecs.service import Service
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.placement.daemons import daemon_request
from homeport.planner.daemon import desired_instances, share_of
from homeport.store.table import Reader
from homeport.store.tables import TASKS

MAXIMUM_PERCENT: Final = 100
"""The only maximumPercent of a daemon: an instance's old task stops before its new one starts."""


def refuse_for_daemon(request: Any) -> None:
    """Raise InvalidParameterError for a member, of either operation, that does not go with the DAEMON strategy."""
    if request.placementStrategy:
        raise InvalidParameterError("Placement strategies are not supported with the DAEMON scheduling strategy.")
    if request.deploymentController is not None and request.deploymentController.type in ("CODE_DEPLOY", "EXTERNAL"):
        raise InvalidParameterError("The DAEMON scheduling strategy is not supported with the CODE_DEPLOY or EXTERNAL deployment controllers.")
    if getattr(request, "launchType", None) == "FARGATE":
        raise InvalidParameterError("The DAEMON scheduling strategy is not supported with the FARGATE launch type.")
    if request.capacityProviderStrategy:
        raise InvalidParameterError("Capacity provider strategies are not supported with the DAEMON scheduling strategy.")
    if request.availabilityZoneRebalancing == "ENABLED":
        raise InvalidParameterError("Availability Zone rebalancing is not supported with the DAEMON scheduling strategy.")
    configuration = request.deploymentConfiguration
    if configuration is None:
        return
    if configuration.maximumPercent not in (None, MAXIMUM_PERCENT):
        raise InvalidParameterError("maximumPercent must be 100 for a service with the DAEMON scheduling strategy.")
    if configuration.lifecycleHooks:
        raise InvalidParameterError("Lifecycle hooks are not supported with the DAEMON scheduling strategy.")
    if configuration.strategy not in (None, "ROLLING"):
        raise InvalidParameterError(f"Deployment strategy {configuration.strategy} is not supported with the DAEMON scheduling strategy.")


def as_daemon(reader: Reader, call: Call, *, service: Service, definition: TaskDefinition) -> Service:
    """`service` with the share and the desired count that it has at this moment."""
    share = share_of(service, definition)
    targets = call.context.placement.targets(daemon_request(service, share))
    desired = desired_instances(targets, reader.find(TASKS, "service_live", service.key))
    return msgspec.structs.replace(service, daemon_share=share, desired_count=len(desired))
