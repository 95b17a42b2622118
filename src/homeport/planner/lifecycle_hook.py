"""What becomes of a deployment's lifecycle hooks: their runs at a stage, what an answer means, when one has timed out.

Owns: `entered`, `expired`, `passed`, `failed_run`, and what becomes of a run (`answered` and so on). Never calls anything (that is
`controllers/lifecycle_hook.py`); never says which stage comes next (`planner/traffic_shift.py`).
Source: ecs-reference 3.9 (lifecycle hooks): a stage is over when all its hooks have succeeded; an answer that is none of the three is a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from homeport.model.ecs import deployment as model
from homeport.model.ecs.deployment import Deployment, LifecycleHook
from homeport.model.record import Instant
from homeport.planner.deployment_configuration import Configuration, HookTimeout

CALL_BACK_SECONDS: Final = 30.0
"""When a hook that is IN_PROGRESS is called again, unless its answer says otherwise."""
CALL_BACK_SECONDS_MAX: Final = 86_400.0
ATTEMPTS_MAX: Final = 3
"""Calls in a row without any answer, after which a hook has failed. Ours: whoever answers may be restarting just now."""
RETRY_SECONDS: Final = 5.0
"""Before such a call is made again, times the number of calls."""
RUNS_MAX: Final = 60
"""Runs that a deployment remembers: those that are open and the newest of the others."""
DETAILS_BYTES_MAX: Final = 16_384
"""`hookDetails` of one hook, as JSON. Ours: a deployment's record has those of all open hooks, and no transaction takes more than a mebibyte."""
REASON_CHARACTERS_MAX: Final = 500
IN_ROLLBACKS: Final = frozenset((model.TEST_TRAFFIC_SHIFT, model.PRODUCTION_TRAFFIC_SHIFT))
"""The stages whose hooks run in a rollback as well."""


def entered(deployment: Deployment, asked: Configuration, now: Instant) -> Deployment:
    """`deployment`, which has just come to its stage, with a run of each hook of that stage."""
    if deployment.rollback_of and deployment.lifecycle_stage not in IN_ROLLBACKS:
        return deployment
    runs = []
    for number, hook in enumerate(asked.lifecycle_hooks):
        if deployment.lifecycle_stage in hook.lifecycle_stages:
            timeout = hook.timeout_configuration or HookTimeout()
            pause = hook.target_type == model.PAUSE
            kind = "pause" if pause else "hook"
            runs.append(
                LifecycleHook(
                    id=f"ecs-{kind}-{deployment.id}-{len(deployment.stage_changes)}-{number}",
                    target_type=hook.target_type,
                    target="" if pause else hook.hook_target_arn or "",
                    stage=deployment.lifecycle_stage,
                    status=model.AWAITING_ACTION if pause else model.IN_PROGRESS,
                    expires_at=now + timeout.timeout_in_minutes * 60.0,
                    timeout_action=timeout.action,
                    call_at=0.0 if pause else now,
                    details=b"" if hook.hook_details is None else msgspec.json.encode(hook.hook_details),
                    started_at=now,
                    step=deployment.step,
                )
            )
    if not runs:
        return deployment
    known = [run for run in deployment.hooks if run.open]
    over = [run for run in deployment.hooks if not run.open]
    kept = over[max(0, len(over) - max(0, RUNS_MAX - len(runs) - len(known))) :]
    return msgspec.structs.replace(deployment, hooks=(*kept, *known, *runs))


def expired(deployment: Deployment, now: Instant) -> Deployment:
    """`deployment` with those hooks TIMED_OUT whose time is over."""
    if not any(run.open and run.expires_at <= now for run in deployment.hooks):
        return deployment
    return msgspec.structs.replace(deployment, hooks=tuple(_expired(run) if run.open and run.expires_at <= now else run for run in deployment.hooks))


def _expired(run: LifecycleHook) -> LifecycleHook:
    return _over(run, model.TIMED_OUT, f"It was not resolved in time. {run.reason}".strip())


def passed(deployment: Deployment) -> bool:
    """Whether no hook of the present stage holds the deployment any more."""
    here = (run for run in deployment.hooks if (run.stage, run.step) == (deployment.lifecycle_stage, deployment.step))
    return all(not run.open and not is_failed(run) for run in here)


def is_failed(run: LifecycleHook) -> bool:
    """Whether `run` ended so that its deployment is to be rolled back."""
    return run.status == model.FAILED or (run.status == model.TIMED_OUT and run.timeout_action == model.ROLLBACK)


def failed_run(deployment: Deployment) -> LifecycleHook | None:
    """The first hook that ended so that `deployment` is to be rolled back."""
    return next((run for run in deployment.hooks if is_failed(run)), None)


def next_at(deployment: Deployment) -> Instant:
    """When the first of the open hooks times out; 0.0: none is open."""
    return min((run.expires_at for run in deployment.hooks if run.open), default=0.0)


def answered(run: LifecycleHook, answer: Any, now: Instant) -> LifecycleHook:
    """`run` after its target answered `answer`: an object with `hookStatus` and, with IN_PROGRESS, `callBackDelay` (seconds) and `hookDetails`."""
    status = answer.get("hookStatus") if isinstance(answer, Mapping) else None
    if status == model.SUCCEEDED:
        return _over(run, model.SUCCEEDED, "")
    if status == model.FAILED:
        return _over(run, model.FAILED, "Its answer was FAILED.")
    if status != model.IN_PROGRESS or not isinstance(answer, Mapping):
        return _over(run, model.FAILED, "Its answer has no hookStatus of SUCCEEDED, FAILED or IN_PROGRESS.")
    delay = answer.get("callBackDelay")
    if delay is not None and (isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= CALL_BACK_SECONDS_MAX):
        return _over(run, model.FAILED, "Its answer has a callBackDelay that is no number of seconds.")
    details = run.details if answer.get("hookDetails") is None else msgspec.json.encode(answer["hookDetails"])
    if len(details) > DETAILS_BYTES_MAX:
        return _over(run, model.FAILED, f"Its answer has hookDetails of more than {DETAILS_BYTES_MAX} bytes.")
    return msgspec.structs.replace(
        run,
        call_at=now + (CALL_BACK_SECONDS if delay is None else max(1.0, float(delay))),
        details=details,
        attempts=0,
        reason="",
    )


def unanswered(run: LifecycleHook, why: str, now: Instant) -> LifecycleHook:
    """`run` after a call of its target that brought no answer."""
    attempts = run.attempts + 1
    if attempts >= ATTEMPTS_MAX:
        return _over(msgspec.structs.replace(run, attempts=attempts), model.FAILED, why)
    return msgspec.structs.replace(run, attempts=attempts, call_at=now + attempts * RETRY_SECONDS, reason=why[:REASON_CHARACTERS_MAX])


def waiting(run: LifecycleHook, why: str, now: Instant) -> LifecycleHook:
    """`run` of a task that could not be started yet: it is tried again for as long as the hook may take."""
    return msgspec.structs.replace(run, call_at=now + RETRY_SECONDS, reason=why[:REASON_CHARACTERS_MAX])


def begun(run: LifecycleHook, task_id: str) -> LifecycleHook:
    """`run` whose one-off task was made."""
    return msgspec.structs.replace(run, task_id=task_id, call_at=0.0, reason="")


def ended(run: LifecycleHook, failure: str) -> LifecycleHook:
    """`run` whose one-off task is over. `failure`: why it does not count as succeeded, or ""."""
    return _over(run, model.FAILED if failure else model.SUCCEEDED, failure)


def continued(run: LifecycleHook, action: str) -> LifecycleHook:
    """A PAUSE hook after somebody's word: `action` CONTINUE or ROLLBACK."""
    return _over(run, model.FAILED, "A rollback was asked for.") if action == model.ROLLBACK else _over(run, model.SUCCEEDED, "")


def closed(hooks: tuple[LifecycleHook, ...]) -> tuple[LifecycleHook, ...]:
    """`hooks` of a deployment that does not go on: what was open has failed with it."""
    if not any(run.open for run in hooks):
        return hooks
    return tuple(_over(run, model.FAILED, "The deployment does not go on.") if run.open else run for run in hooks)


def _over(run: LifecycleHook, status: str, reason: str) -> LifecycleHook:
    return msgspec.structs.replace(run, status=status, call_at=0.0, details=b"", reason=reason[:REASON_CHARACTERS_MAX])
