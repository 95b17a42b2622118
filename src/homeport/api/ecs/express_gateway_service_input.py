"""What Create- and UpdateExpressGatewayService take: a container, or a task definition of the caller's own, and how it is to be served.

Owns: limits, defaults and the merging of an update (ecs-reference 3.20, the API's model). Never writes; reads the task definition that a call names.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.api.ecs.task_definition_compatibility import FARGATE_MEMORY_MIB
from homeport.api.ecs.task_definition_rules import cpu_units, memory_mib
from homeport.api.ecs.task_input import plain
from homeport.errors import ClientError, InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import express_gateway_service as model
from homeport.model.ecs import task_definition as definition_model
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.store.table import Reader

MANAGED: Final = ("primaryContainer", "executionRoleArn", "taskRoleArn", "cpu", "memory", "cpuArchitecture")
"""What a call says that brings no task definition of its own."""
_SERVING: Final = ("healthCheckPath", "networkConfiguration", "scalingTarget")
IMAGE_CHARACTERS_MAX: Final = 255
PORT_MAX: Final = 65_535

_FIRST: Final[dict[str, Any]] = {
    "healthCheckPath": model.HEALTH_CHECK_PATH,
    "scalingTarget": {"autoScalingMetric": model.SCALING_METRIC, "autoScalingTargetValue": model.SCALING_TARGET},
}
_FIRST_MANAGED: Final[dict[str, Any]] = {"cpu": model.CPU_UNITS, "memory": model.MEMORY_MIB, "cpuArchitecture": model.CPU_ARCHITECTURE}


def configured(reader: Reader, call: Call, request: Any, *, before: bytes) -> dict[str, Any]:
    """The configuration that a call asks for: what it gives over what was `before` (b"": ECS's defaults), checked.

    Raises InvalidParameterError for what ECS does not allow, ClientError for a task definition that is not there.
    """
    shown: dict[str, Any] = {**_FIRST, **(msgspec.json.decode(before) if before else {})}
    given = {member: plain(value) for member in _SERVING if (value := getattr(request, member)) is not None}
    if "scalingTarget" in given:
        given["scalingTarget"] = {**shown["scalingTarget"], **given["scalingTarget"]}
    shown |= given
    shown = _of_definition(reader, call, request, shown) if request.taskDefinitionArn is not None else _managed(request, shown)
    _check_serving(call, shown)
    return shown


def _managed(request: Any, shown: dict[str, Any]) -> dict[str, Any]:
    given = {member: plain(value) for member in MANAGED if (value := getattr(request, member)) is not None}
    if not given and "taskDefinitionArn" in shown:
        return shown
    if "taskDefinitionArn" in shown:  # from a definition of the caller's own back to a container
        shown = {member: shown[member] for member in _SERVING if member in shown}
    shown = {**_FIRST_MANAGED, **shown, **given}
    for member in ("primaryContainer", "executionRoleArn"):
        if member not in shown:
            raise InvalidParameterError(f"{member} must be specified for an Express service without taskDefinitionArn.")
    for member in ("executionRoleArn", "taskRoleArn"):
        if member in shown:
            lookup.role_arn(member, shown[member])
    _check_size(shown)
    shown["primaryContainer"] = {"containerPort": model.CONTAINER_PORT, **shown["primaryContainer"]}
    _check_container(shown["primaryContainer"])
    return shown


def _check_size(shown: dict[str, Any]) -> None:
    units, mib = cpu_units(shown["cpu"]), memory_mib(shown["memory"])
    if units is None or mib is None or mib not in FARGATE_MEMORY_MIB.get(units, ()):
        raise InvalidParameterError(f"No Fargate configuration exists for given values: {shown['cpu']} CPU, {shown['memory']} memory.")
    shown |= {"cpu": str(units), "memory": str(mib)}


def _check_container(container: dict[str, Any]) -> None:
    if not 1 <= len(container["image"]) <= IMAGE_CHARACTERS_MAX:
        raise InvalidParameterError(f"The image of primaryContainer must have 1 to {IMAGE_CHARACTERS_MAX} characters.")
    if not 1 <= container["containerPort"] <= PORT_MAX:
        raise InvalidParameterError(f"containerPort must be between 1 and {PORT_MAX}.")
    if not all(container.get("awsLogsConfiguration", {"logGroup": "x"}).values()):
        raise InvalidParameterError("logGroup and logStreamPrefix can not be blank.")
    if any(not item.get("name") for item in container.get("environment", ())):
        raise InvalidParameterError("The name of an environment variable can not be blank.")
    if any(not (item["name"] and item["valueFrom"]) for item in container.get("secrets", ())):
        raise InvalidParameterError("The name and valueFrom of a secret can not be blank.")


def _of_definition(reader: Reader, call: Call, request: Any, shown: dict[str, Any]) -> dict[str, Any]:
    for member in MANAGED:
        if getattr(request, member) is not None:
            raise InvalidParameterError(f"{member} cannot be specified together with taskDefinitionArn.")
    definition = lookup.task_definition_of(reader, call, request.taskDefinitionArn, missing=lookup.TASK_DEFINITION_NOT_FOUND)
    if definition.status != definition_model.ACTIVE:
        raise ClientError("TaskDefinition is inactive")
    document = msgspec.json.decode(definition.document)
    _check_definition(document)
    serving: dict[str, Any] = {member: shown[member] for member in _SERVING if member in shown}
    own = {member: document[member] for member in ("executionRoleArn", "taskRoleArn", "cpu", "memory") if member in document}
    if architecture := document.get("runtimePlatform", {}).get("cpuArchitecture"):
        own["cpuArchitecture"] = architecture
    return {**serving, **own, "taskDefinitionArn": _arn_of(call, definition)}


def _arn_of(call: Call, definition: TaskDefinition) -> str:
    return arn.task_definition_arn(call.region, definition.account, definition.family, definition.revision)


def _check_definition(document: dict[str, Any]) -> None:
    if "FARGATE" not in document["compatibilities"]:
        raise InvalidParameterError("Task definition does not support launch_type FARGATE.")
    main: dict[str, Any] = next((container for container in document["containerDefinitions"] if container["name"] == model.MAIN_CONTAINER), {})
    ports = main.get("portMappings", [])
    if len(ports) != 1 or ports[0].get("protocol", "tcp") != "tcp" or not ports[0].get("containerPort") or not ports[0].get("name"):
        raise InvalidParameterError(
            f"The task definition must have a container named {model.MAIN_CONTAINER} with a single TCP port mapping that has a container port and "
            "a name."
        )


def _check_serving(call: Call, shown: dict[str, Any]) -> None:
    settings = call.settings
    if not shown["healthCheckPath"].startswith("/"):
        raise InvalidParameterError("healthCheckPath must begin with a forward slash.")
    network = shown.get("networkConfiguration", {})
    for member, most in (("securityGroups", settings.security_groups_max), ("subnets", settings.subnets_max)):
        if len(network.get(member, ())) > most:
            raise InvalidParameterError(f"{member} can have at most {most} items.")
    scaling = shown["scalingTarget"]
    least, most = scaling.get("minTaskCount"), scaling.get("maxTaskCount")
    if any(count is not None and not 0 <= count <= settings.tasks_per_service_max for count in (least, most)):
        raise InvalidParameterError(f"minTaskCount and maxTaskCount must be between 0 and {settings.tasks_per_service_max}.")
    if least is not None and most is not None and least > most:
        raise InvalidParameterError("minTaskCount must not be greater than maxTaskCount.")
    if scaling["autoScalingTargetValue"] < 1:
        raise InvalidParameterError("autoScalingTargetValue must be at least 1.")
