"""What CreateService and UpdateService take as `deploymentController`, and what goes with which.

Owns: the members that belong to a task set and not to its service, and the words of those errors. Never reads the store.
Sources: ecs-reference 3.8 and 3.9; the API's documentation of CreateService, UpdateService and DeploymentConfiguration. Where that tells no words of
the error, they are ours.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.ecs.task_input import not_built
from homeport.errors import InvalidParameterError
from homeport.model.ecs.service import CODE_DEPLOY, ECS, EXTERNAL, Service

_IN_TASK_SET: Final = (
    "taskDefinition",
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "networkConfiguration",
    "loadBalancers",
    "serviceRegistries",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
)
"""Members that a service with the EXTERNAL controller has in its task sets only."""
_NOT_UPDATED: Final = {
    "taskDefinition": "task definition",
    "capacityProviderStrategy": "capacity provider strategy",
    "platformVersion": "platform version",
    "networkConfiguration": "network parameters",
    "loadBalancers": "load balancers",
    "serviceRegistries": "service registries",
    "serviceConnectConfiguration": "Service Connect configuration",
    "volumeConfigurations": "volume configurations",
    "vpcLatticeConfigurations": "VPC Lattice configurations",
    "enableExecuteCommand": "execute command settings",
}
"""Members that UpdateService does not take for a service with task sets, as the error names them."""
_HOW: Final = {
    CODE_DEPLOY: "Use AWS CodeDeploy to trigger a new deployment.",
    EXTERNAL: "Use CreateTaskSet to create a new task set.",
}
_ROLLING_ONLY: Final = (
    "alarms",
    "bakeTimeInMinutes",
    "canaryConfiguration",
    "deploymentCircuitBreaker",
    "earlySuccessCriteria",
    "lifecycleHooks",
    "linearConfiguration",
)
"""Members of `deploymentConfiguration` that the ECS controller alone acts on."""
_PERCENTS: Final = {"maximumPercent": 200, "minimumHealthyPercent": 100}


def controller_of(request: Any) -> str:
    """The controller that a CreateService asks for."""
    return ECS if request.deploymentController is None else str(request.deploymentController.type)


def refuse_at_creation(request: Any) -> None:
    """Raise InvalidParameterError for what does not go with the controller of a CreateService."""
    controller = controller_of(request)
    if controller == EXTERNAL:
        for member in _IN_TASK_SET:
            if _says_something(getattr(request, member)):
                raise InvalidParameterError(
                    f"{member} cannot be specified for a service with an EXTERNAL deployment controller. It is specified in its task sets."
                )
    _refuse_configuration(controller, request.deploymentConfiguration)


def refuse_at_update(service: Service, request: Any) -> None:
    """Raise for what UpdateService does not take for `service`: InvalidParameterError, UnsupportedFeatureError for another controller."""
    controller = service.deployment_controller
    if request.deploymentController is not None and request.deploymentController.type != controller:
        raise not_built(f"deploymentController {request.deploymentController.type} in place of {controller}")
    if controller == ECS:
        return
    for member, words in _NOT_UPDATED.items():
        given = getattr(request, member)
        if _says_something(given) or (member == "capacityProviderStrategy" and given is not None):
            raise InvalidParameterError(f"Unable to update {words} on services with {_article(controller)} deployment controller. {_HOW[controller]}")
    if request.forceNewDeployment:
        raise InvalidParameterError(
            f"Cannot force a new deployment on services with {_article(controller)} deployment controller. {_HOW[controller]}"
        )
    _refuse_configuration(controller, request.deploymentConfiguration)


def _article(controller: str) -> str:
    return f"an {controller}" if controller == EXTERNAL else f"a {controller}"


def _refuse_configuration(controller: str, given: Any) -> None:
    """Nothing of a rolling update goes with task sets; of the percentages only the defaults do, which bound the draining of instances."""
    if controller == ECS or given is None:
        return
    for member in _ROLLING_ONLY:
        if _says_something(getattr(given, member)):
            raise InvalidParameterError(f"deploymentConfiguration.{member} is not supported with {_article(controller)} deployment controller.")
    if given.strategy not in (None, "ROLLING"):
        raise InvalidParameterError(f"Deployment strategy {given.strategy} is not supported with {_article(controller)} deployment controller.")
    for member, default in _PERCENTS.items():
        if getattr(given, member) not in (None, default):
            raise InvalidParameterError(
                f"deploymentConfiguration.{member} must be {default}, its default, for a service with {_article(controller)} deployment controller."
            )


def _says_something(value: Any) -> bool:
    """Whether a member is more than empty or switched off; tools send a breaker that is off with every service."""
    return bool(value) and bool(getattr(value, "enable", True)) and bool(getattr(value, "enabled", True))
