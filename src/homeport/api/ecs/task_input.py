"""What RunTask and StartTask take: overrides, placement members, and the members that are refused because they are not built.

Owns: the checks of a call's own parameters. Never reads the store and never places a task.
Limits: ecs-reference 3.5 (10 constraints, 5 strategies, 8192 characters of overrides, startedBy 128 characters, for StartTask 36).
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from homeport.api.ecs.container_definition_rules import MEMORY_MIN_MIB
from homeport.api.ecs.container_runtime_rules import GPU_COUNT
from homeport.api.ecs.task_definition_rules import check_role, cpu_units, memory_mib
from homeport.api.ecs.task_definition_support import missing
from homeport.errors import ClientError, InvalidParameterError, UnsupportedFeatureError
from homeport.model.ecs.service import PlacementConstraint, PlacementStrategy
from homeport.model.ecs.task_definition import ACTIVE, TaskDefinition
from homeport.placement.query import QueryError, parse
from homeport.planner.task import definition_document

OVERRIDES_CHARACTERS_MAX: Final = 8192
CONSTRAINTS_MAX: Final = 10
STRATEGIES_MAX: Final = 5

_STARTED_BY = re.compile(r"[A-Za-z0-9/_-]*")
_STRATEGY_FIELDS = {"binpack": ("cpu", "memory", "CPU", "MEMORY"), "random": ("",)}


def not_built(member: str) -> UnsupportedFeatureError:
    """The error for a member that is accepted elsewhere but cannot act here."""
    return UnsupportedFeatureError(f"{member} is not built yet.")


def plain(value: Any) -> Any:
    """`value` (a request's Struct, list or scalar) as JSON values, with absent members left out."""
    if isinstance(value, msgspec.Struct):
        return {name.rstrip("_"): plain(item) for name, item in msgspec.structs.asdict(value).items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def check_runnable(definition: TaskDefinition) -> None:
    """Raise ClientError when `definition` is not ACTIVE, UnsupportedFeatureError naming the first field that no task may use here."""
    if definition.status != ACTIVE:
        raise ClientError("TaskDefinition is inactive")
    if member := missing(definition):
        raise not_built(f"Task definition {definition.family}:{definition.revision}: {member}")


def launch_type(requested: str | None) -> str:
    """EC2 or EXTERNAL; EC2 when the call names none. Raises UnsupportedFeatureError for the others."""
    if requested in (None, "EC2"):
        return "EC2"
    if requested == "EXTERNAL":
        return "EXTERNAL"
    raise not_built(f"launchType {requested}")


def constraints_of(items: Any, definition: TaskDefinition) -> tuple[PlacementConstraint, ...]:
    """The call's constraints followed by the task definition's. Raises InvalidParameterError."""
    constraints = [constraint(item) for item in items or ()]
    constraints.extend(PlacementConstraint(type="memberOf", expression=text) for text in definition.placement_constraints)
    if len(constraints) > CONSTRAINTS_MAX:
        raise InvalidParameterError(f"Placement constraints may not be more than {CONSTRAINTS_MAX}, those of the task definition included.")
    return tuple(constraints)


def constraint(item: Any) -> PlacementConstraint:
    """One placement constraint. Raises InvalidParameterError for an unknown type, a missing or wrong expression."""
    if item.type == "distinctInstance":
        if item.expression:
            raise InvalidParameterError("An expression may not be specified for a distinctInstance constraint.")
        return PlacementConstraint(type="distinctInstance")
    if item.type != "memberOf":
        raise InvalidParameterError("Placement constraint type must be distinctInstance or memberOf.")
    if not item.expression:
        raise InvalidParameterError("An expression must be specified for a memberOf constraint.")
    try:
        parse(item.expression)
    except QueryError as error:
        raise InvalidParameterError(f"Invalid placement constraint expression: {error}") from None
    return PlacementConstraint(type="memberOf", expression=item.expression)


def strategies_of(items: Any) -> tuple[PlacementStrategy, ...]:
    """The placement strategies. Raises InvalidParameterError for too many, an unknown type or field."""
    strategies = []
    for item in items or ():
        field = item.field or ""
        if item.type == "spread":
            if field not in ("instanceId", "host") and not (field.startswith("attribute:") and field != "attribute:"):
                raise InvalidParameterError(f"The field '{field}' of a spread strategy must be instanceId, host or attribute:NAME.")
        elif item.type not in _STRATEGY_FIELDS:
            raise InvalidParameterError("Placement strategy type must be random, spread or binpack.")
        elif field not in _STRATEGY_FIELDS[item.type]:
            raise InvalidParameterError(f"The field '{field}' is not valid for a {item.type} strategy.")
        strategies.append(PlacementStrategy(type=item.type, field=field.lower() if item.type == "binpack" else field))
    if len(strategies) > STRATEGIES_MAX:
        raise InvalidParameterError(f"Placement strategies may not be more than {STRATEGIES_MAX}.")
    return tuple(strategies)


def started_by_of(value: str | None, *, most: int) -> str:
    """`startedBy`, or "". Raises InvalidParameterError for more than `most` characters or others than letters, digits, - / and _."""
    text = value or ""
    if len(text) > most or not _STARTED_BY.fullmatch(text):
        raise InvalidParameterError(f"startedBy must be at most {most} characters: letters, digits, hyphens, forward slashes and underscores.")
    return text


_OVERRIDES_NOT_BUILT = ("ephemeralStorage", "inferenceAcceleratorOverrides")
_CONTAINER_OVERRIDES_NOT_BUILT = ("environmentFiles",)


def overrides_of(value: Any, definition: TaskDefinition) -> dict[str, Any]:
    """`overrides` as JSON values. Raises InvalidParameterError for an unknown container or wrong figures, UnsupportedFeatureError."""
    if value is None:
        return {}
    overrides: dict[str, Any] = plain(value)
    if len(msgspec.json.encode(overrides)) > OVERRIDES_CHARACTERS_MAX:
        raise InvalidParameterError(f"Task overrides may not be more than {OVERRIDES_CHARACTERS_MAX} characters.")
    for member in _OVERRIDES_NOT_BUILT:
        if overrides.get(member):
            raise not_built(f"overrides.{member}")
    for member in ("taskRoleArn", "executionRoleArn"):
        check_role(overrides.get(member))
    containers = {container["name"]: container for container in definition_document(definition)["containerDefinitions"]}
    for item in overrides.get("containerOverrides") or ():
        _check_container_override(item, containers)
    for member, read in (("cpu", cpu_units), ("memory", memory_mib)):
        text = overrides.pop(member, None)
        if text:
            amount = read(text)
            if not amount:
                raise InvalidParameterError(f"Invalid setting for overrides.{member}: {text!r} must be a positive whole number.")
            overrides[member] = str(amount)
    return overrides


def _check_container_override(item: dict[str, Any], containers: dict[str, Any]) -> None:
    name = item.get("name")
    if not name:
        raise InvalidParameterError("Container override must specify a container name.")
    if name not in containers:
        raise InvalidParameterError(f"Override for container named {name} is not a container in the TaskDefinition.")
    for member in _CONTAINER_OVERRIDES_NOT_BUILT:
        if item.get(member):
            raise not_built(f"overrides.containerOverrides[{name}].{member}")
    for requirement in item.get("resourceRequirements") or ():
        value = requirement.get("value") or ""
        if requirement["type"] != "GPU" or requirement.get("sharingStrategy") or value == "ALL":
            raise not_built(f"overrides.containerOverrides[{name}].resourceRequirements but a number of GPUs")
        if not GPU_COUNT.fullmatch(value):
            raise InvalidParameterError(f"Invalid override for container {name}: the value of GPU must be a whole number, or ALL.")
    for member, least in (("cpu", 0), ("memory", MEMORY_MIN_MIB), ("memoryReservation", MEMORY_MIN_MIB)):
        if item.get(member) is not None and item[member] < least:
            raise InvalidParameterError(f"Invalid override for container {name}: {member} may not be less than {least}.")
    if not all(variable.get("name") for variable in item.get("environment") or ()):
        raise InvalidParameterError(f"Invalid override for container {name}: the name of an environment variable should not be null or empty.")
    merged = {**containers[name], **item}
    memory, reservation = merged.get("memory"), merged.get("memoryReservation")
    if memory is not None and reservation is not None and reservation > memory:
        raise InvalidParameterError(f"Invalid override for container {name}: memoryReservation may not be more than memory.")
