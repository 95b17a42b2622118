"""What CreateService and UpdateService take about strategies that shift traffic, and about lifecycle hooks.

Owns: the limits, the defaults and the words of those errors; `with_strategy_members`, `check_strategy`. Never reads what a deployment has come to.
Sources: ecs-reference 3.9 and the API's model, in whose words a member is "only valid" for one strategy.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.api.ecs.task_input import check_runnable
from homeport.errors import ClientError, InvalidParameterError, UnsupportedFeatureError
from homeport.model.arn import parse_arn
from homeport.model.ecs import deployment as model
from homeport.model.ecs.service import Service
from homeport.planner.deployment_configuration import configuration_in
from homeport.planner.lifecycle_hook import DETAILS_BYTES_MAX
from homeport.store.table import Reader

MINUTES_MAX: Final = 1440
"""Bake times: a day."""
HOOKS_MAX: Final = 20
"""Lifecycle hooks of one service. Ours; the API names no limit."""
TARGET_CHARACTERS_MAX: Final = 2048
WHERE: Final = "deploymentConfiguration"

_ROLLING_STAGES: Final = (model.PRE_SCALE_UP, model.POST_SCALE_UP)
_NO_PAUSE: Final = (model.TEST_TRAFFIC_SHIFT, model.PRODUCTION_TRAFFIC_SHIFT)
_LINEAR_DEFAULT: Final = {"stepPercent": 10.0, "stepBakeTimeInMinutes": 6}
_CANARY_DEFAULT: Final = {"canaryPercent": 5.0, "canaryBakeTimeInMinutes": 10}
_OWN: Final = {"linearConfiguration": model.LINEAR, "canaryConfiguration": model.CANARY}


def with_strategy_members(merged: dict[str, Any], given: dict[str, Any], before: str) -> dict[str, Any]:
    """`merged`, a whole deploymentConfiguration, with the defaults of its strategy; members of another strategy that `given` does not name are gone.

    `given`: what the call says. `before`: the strategy until now. Raises InvalidParameterError for members out of range or of another strategy.
    """
    strategy = merged["strategy"]
    checked = dict(merged)
    if strategy != before:  # what belonged to the old strategy does not go on under the new one
        for member in ("linearConfiguration", "canaryConfiguration"):
            if member not in given:
                checked.pop(member, None)
        if "bakeTimeInMinutes" not in given:
            checked["bakeTimeInMinutes"] = 0
    _check_bake_time(checked, given, before)
    for member, of in _OWN.items():
        if strategy != of and checked.get(member) is not None:
            raise InvalidParameterError(f"{WHERE}.{member} is only valid when the deployment strategy is {of}.")
    if strategy == model.LINEAR:
        checked["linearConfiguration"] = _linear({**_LINEAR_DEFAULT, **(checked.get("linearConfiguration") or {})})
    if strategy == model.CANARY:
        checked["canaryConfiguration"] = _canary({**_CANARY_DEFAULT, **(checked.get("canaryConfiguration") or {})})
    if strategy != model.ROLLING and (checked.get("earlySuccessCriteria") or {}).get("enable"):
        raise InvalidParameterError(f"{WHERE}.earlySuccessCriteria is only valid when the deployment strategy is ROLLING.")
    hooks = checked.get("lifecycleHooks") or []
    if len(hooks) > HOOKS_MAX:
        raise InvalidParameterError(f"{WHERE}.lifecycleHooks may not be more than {HOOKS_MAX}.")
    for hook in hooks:
        _check_hook(hook, strategy)
    return checked


def _check_bake_time(merged: dict[str, Any], given: dict[str, Any], before: str) -> None:
    minutes = merged.get("bakeTimeInMinutes") or 0
    if not 0 <= minutes <= MINUTES_MAX:
        raise InvalidParameterError(f"{WHERE}.bakeTimeInMinutes must be between 0 and {MINUTES_MAX}.")
    if merged["strategy"] == model.BLUE_GREEN and before != model.BLUE_GREEN and given.get("bakeTimeInMinutes") is None:
        raise InvalidParameterError(f"{WHERE}.bakeTimeInMinutes must be specified when the deployment strategy is BLUE_GREEN.")
    if merged["strategy"] == model.ROLLING and minutes:
        raise InvalidParameterError(f"{WHERE}.bakeTimeInMinutes is only valid when the deployment strategy is BLUE_GREEN, LINEAR or CANARY.")


def _linear(linear: dict[str, Any]) -> dict[str, Any]:
    _check_percent(linear["stepPercent"], f"{WHERE}.linearConfiguration.stepPercent", lowest=3.0)
    _check_minutes(linear["stepBakeTimeInMinutes"], f"{WHERE}.linearConfiguration.stepBakeTimeInMinutes")
    return linear


def _canary(canary: dict[str, Any]) -> dict[str, Any]:
    _check_percent(canary["canaryPercent"], f"{WHERE}.canaryConfiguration.canaryPercent", lowest=0.1)
    _check_minutes(canary["canaryBakeTimeInMinutes"], f"{WHERE}.canaryConfiguration.canaryBakeTimeInMinutes")
    return canary


def _check_percent(value: float, where: str, *, lowest: float) -> None:
    if not lowest <= value <= 100.0 or abs(value * 10 - round(value * 10)) > 1e-6:
        raise InvalidParameterError(f"{where} must be a multiple of 0.1 between {lowest} and 100.0.")


def _check_minutes(value: int, where: str) -> None:
    if not 0 <= value <= MINUTES_MAX:
        raise InvalidParameterError(f"{where} must be between 0 and {MINUTES_MAX}.")


def _check_hook(hook: dict[str, Any], strategy: str) -> None:
    """Raise for a hook that does not hang together or whose stage `strategy` never comes to."""
    where = f"{WHERE}.lifecycleHooks"
    pause = hook.get("targetType") == model.PAUSE
    stages = hook.get("lifecycleStages") or ()
    if not stages:
        raise InvalidParameterError(f"{where}.lifecycleStages must have at least one stage.")
    if len(set(stages)) != len(stages):
        raise InvalidParameterError(f"{where}.lifecycleStages has a stage twice.")
    if pause and hook.get("hookTargetArn"):
        raise InvalidParameterError(f"{where}.hookTargetArn is not applicable to hooks of the target type PAUSE.")
    if pause and any(stage in _NO_PAUSE for stage in stages):
        raise InvalidParameterError(f"{where}: PAUSE hooks cannot be configured at the stages {' and '.join(_NO_PAUSE)}.")
    if not pause and not hook.get("hookTargetArn"):
        raise InvalidParameterError(f"{where}.hookTargetArn must be specified for hooks of the target type AWS_LAMBDA.")
    if len(hook.get("hookTargetArn") or "") > TARGET_CHARACTERS_MAX:
        raise InvalidParameterError(f"{where}.hookTargetArn may have {TARGET_CHARACTERS_MAX} characters at most.")
    if hook.get("hookDetails") is not None and len(msgspec.json.encode(hook["hookDetails"])) > DETAILS_BYTES_MAX:
        raise InvalidParameterError(f"{where}.hookDetails may have {DETAILS_BYTES_MAX} bytes at most.")
    if strategy == model.ROLLING and (unknown := [stage for stage in stages if stage not in _ROLLING_STAGES]):
        raise InvalidParameterError(
            f"{where}: a deployment with the ROLLING strategy does not come to the stage {unknown[0]}, only to {' and '.join(_ROLLING_STAGES)}."
        )


def is_url(target: str) -> bool:
    """Whether a hook's target is called over HTTP."""
    return target.startswith(("http://", "https://"))


def check_strategy(reader: Reader, call: Call, service: Service) -> None:
    """Raise InvalidParameterError for a strategy that does not go with the controller, and for a hook target that cannot run;
    UnsupportedFeatureError for a Lambda function.

    A target is an http(s) URL or the ARN of an ACTIVE task definition of this account. Ours: ECS takes Lambda functions.
    """
    asked = configuration_in(service)
    if service.deployment_controller != "ECS" and (asked.strategy != model.ROLLING or asked.lifecycle_hooks):
        raise InvalidParameterError(f"{WHERE}: strategies other than ROLLING and lifecycle hooks are only valid with the deployment controller ECS.")
    for hook in asked.lifecycle_hooks:
        target = hook.hook_target_arn or ""
        if hook.target_type == model.PAUSE or is_url(target):
            continue
        parsed = parse_arn(target)
        if parsed is not None and parsed.service == "lambda":
            raise UnsupportedFeatureError(
                f"{WHERE}.lifecycleHooks: {target}: this installation has no Lambda functions; give an http(s) URL or the ARN of a task definition."
            )
        if parsed is None or parsed.service != "ecs" or not parsed.resource.startswith("task-definition/"):
            raise InvalidParameterError(f"{WHERE}.lifecycleHooks: {target} is neither an http(s) URL nor the ARN of a task definition.")
        if ":" not in parsed.resource:
            raise InvalidParameterError(f"{WHERE}.lifecycleHooks: {target} names no revision.")
        try:
            check_runnable(lookup.task_definition_of(reader, call, target, missing=f"{WHERE}.lifecycleHooks: {target} was not found."))
        except ClientError as error:
            raise InvalidParameterError(f"{WHERE}.lifecycleHooks: {target}: {error}") from None
