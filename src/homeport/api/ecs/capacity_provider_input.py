"""What Create- and UpdateCapacityProvider take: names, the members of a provider of an Auto Scaling group, those of managed instances.

Owns: their limits and words (ecs-reference 3.2). Never reads the store.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from homeport.api.ecs.task_input import plain
from homeport.errors import InvalidParameterError
from homeport.model.arn import parse_arn
from homeport.model.ecs.capacity_provider import CapacityProvider, ManagedScaling

STEP_MAX: Final = 10_000
SCALE_IN_AFTER_SECONDS_MAX: Final = 3_600
ENABLED: Final = "ENABLED"
INVALID_NAME: Final = (
    "The specified capacity provider name is invalid. Up to 255 characters are allowed, including letters (upper and lowercase), numbers, "
    'underscores, and hyphens. The name can\'t be prefixed with "aws", "ecs", or "fargate". Specify a valid name and try again.'
)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_RESERVED: Final = ("aws", "ecs", "fargate")


def name_of(name: str) -> str:
    """The name of a new provider. Raises InvalidParameterError for other characters, another length or a reserved beginning."""
    if not _NAME.fullmatch(name) or name.lower().startswith(_RESERVED):
        raise InvalidParameterError(INVALID_NAME)
    return name


def _between(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidParameterError(f"The {name} value is invalid. Specify a value from {low} to {high} and try again.")
    return value


def managed_scaling_of(given: Any, current: ManagedScaling) -> ManagedScaling:
    """`current` with the members of `given` over it; a block without a status enables. Raises InvalidParameterError."""
    if given is None:
        return current
    changed: dict[str, Any] = {"enabled": (given.status or ENABLED) == ENABLED}
    members = (
        ("target_capacity", "targetCapacity", 1, 100),
        ("step_min", "minimumScalingStepSize", 1, STEP_MAX),
        ("step_max", "maximumScalingStepSize", 1, STEP_MAX),
        ("warmup_seconds", "instanceWarmupPeriod", 0, STEP_MAX),
    )
    for field, member, low, high in members:
        value = getattr(given, member)
        if value is not None:
            changed[field] = _between(member, value, low, high)
    scaling = msgspec.structs.replace(current, **changed)
    if scaling.step_min > scaling.step_max:
        raise InvalidParameterError("The minimumScalingStepSize may not be greater than the maximumScalingStepSize.")
    return scaling


def with_group(provider: CapacityProvider, given: Any) -> CapacityProvider:
    """`provider` with `autoScalingGroupProvider` over it; absent members stay. Raises InvalidParameterError."""
    scaling = managed_scaling_of(given.managedScaling, provider.managed_scaling)
    protection = given.managedTerminationProtection
    draining = given.managedDraining
    changed = msgspec.structs.replace(
        provider,
        managed_scaling=scaling,
        termination_protection=provider.termination_protection if protection is None else protection == ENABLED,
        managed_draining=provider.managed_draining if draining is None else draining == ENABLED,
    )
    if changed.termination_protection and not scaling.enabled:
        raise InvalidParameterError(
            "The managed termination protection setting for the capacity provider is invalid. To enable managed termination protection for a "
            "capacity provider, managed scaling must be enabled."
        )
    return changed


def group_of(text: str) -> str:
    """`autoScalingGroupArn`: an ARN of Auto Scaling or a group's name. Raises InvalidParameterError."""
    arn = parse_arn(text)
    wrong_arn = text.startswith("arn:") and (arn is None or arn.service != "autoscaling" or "autoScalingGroupName/" not in arn.resource)
    if not text or len(text) > 1600 or wrong_arn:
        raise InvalidParameterError("The specified Auto Scaling group ARN is invalid. Specify a valid Auto Scaling group ARN and try again.")
    return text


def managed_instances_of(given: Any, current: bytes) -> bytes:
    """`managedInstancesProvider` as it is shown: `given` over `current`, template and all. Raises InvalidParameterError."""
    after = given.infrastructureOptimization.scaleInAfter if given.infrastructureOptimization is not None else None
    if after is not None and after != -1:
        _between("infrastructureOptimization.scaleInAfter", after, 0, SCALE_IN_AFTER_SECONDS_MAX)
    before: dict[str, Any] = msgspec.json.decode(current) if current else {"propagateTags": "NONE"}
    members: dict[str, Any] = plain(given)
    template = {**before.get("instanceLaunchTemplate", {}), **members.pop("instanceLaunchTemplate", {})}
    if not current:
        template = {"monitoring": "BASIC", "capacityOptionType": "ON_DEMAND", **template}
    if not template.get("networkConfiguration", {}).get("subnets"):
        raise InvalidParameterError("The instance launch template's network configuration must have at least one subnet.")
    return msgspec.json.encode({**before, **members, "instanceLaunchTemplate": template})
