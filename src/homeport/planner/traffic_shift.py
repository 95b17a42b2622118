"""The lifecycle of a deployment: which stage comes next, and what part of the traffic each service revision is to get.

Owns: `advance` (one transition at most), `shares` (the steps of a strategy), `side_by_side` and `requested_count`, `wake_at`. Never starts or stops a
task (`planner/side_by_side.py` and `planner/service.py` do), never routes anything (`ServiceView.traffic` says what is in effect), never says what
follows from a failure (`planner/rollback.py`).
Source: ecs-reference 3.9.

    forward    [RECONCILE_SERVICE] → PRE_SCALE_UP → SCALE_UP → POST_SCALE_UP → TEST_TRAFFIC_SHIFT → POST_TEST_TRAFFIC_SHIFT
               → (PRE_PRODUCTION_TRAFFIC_SHIFT → PRODUCTION_TRAFFIC_SHIFT [+ bake of the step]) for every step
               → POST_PRODUCTION_TRAFFIC_SHIFT → BAKE_TIME → CLEAN_UP → COMPLETED
    rollback   SCALE_UP → [PRODUCTION_TRAFFIC_SHIFT] → [TEST_TRAFFIC_SHIFT] → CLEAN_UP → COMPLETED, with the older revision as the target
    rolling    PRE_SCALE_UP → SCALE_UP → POST_SCALE_UP → COMPLETED, where it has hooks

Blue is the revision that has the production traffic when a deployment begins, green the one that is deployed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeport.model.ecs import deployment as model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment, StageChange, TrafficWeight
from homeport.model.record import Instant
from homeport.planner import lifecycle_hook
from homeport.planner.deployment_configuration import Canary, Configuration, Linear, configuration_of
from homeport.planner.failures import holds_up
from homeport.planner.health import is_healthy, is_unhealthy
from homeport.planner.service import ServiceView, is_settled

STAGES_MAX: Final = 80
"""Stages that a deployment remembers having come to: those of the finest linear one."""

_NEXT: Final = {
    model.RECONCILE_SERVICE: model.PRE_SCALE_UP,
    model.PRE_SCALE_UP: model.SCALE_UP,
    model.SCALE_UP: model.POST_SCALE_UP,
    model.POST_SCALE_UP: model.TEST_TRAFFIC_SHIFT,
    model.TEST_TRAFFIC_SHIFT: model.POST_TEST_TRAFFIC_SHIFT,
    model.POST_TEST_TRAFFIC_SHIFT: model.PRE_PRODUCTION_TRAFFIC_SHIFT,
    model.PRE_PRODUCTION_TRAFFIC_SHIFT: model.PRODUCTION_TRAFFIC_SHIFT,
    model.POST_PRODUCTION_TRAFFIC_SHIFT: model.BAKE_TIME,
    model.BAKE_TIME: model.CLEAN_UP,
}


def shifts(deployment: Deployment) -> bool:
    """Whether the strategy of `deployment` keeps two revisions side by side and shifts traffic from one to the other."""
    return deployment.strategy != model.ROLLING


def shares(deployment: Deployment, asked: Configuration) -> tuple[float, ...]:
    """What percent of the production traffic green has after each step; the last is 100. One step where there is nobody to share it with."""
    if not deployment.blue_revision_id or deployment.rollback_of:
        return (100.0,)
    if deployment.strategy == model.LINEAR:
        tenths = max(1, round((asked.linear_configuration or Linear()).step_percent * 10))
        return (*(step / 10 for step in range(tenths, 1000, tenths)), 100.0)
    if deployment.strategy == model.CANARY:
        first = (asked.canary_configuration or Canary()).canary_percent
        return (first, 100.0) if first < 100 else (100.0,)
    return (100.0,)


def _share_of_target(deployment: Deployment) -> float:
    return next((item.production for item in deployment.weights if item.service_revision_id == deployment.target_id), 0.0)


def _step_bake_seconds(deployment: Deployment, asked: Configuration) -> float:
    """How long to wait after the present step; none after the last."""
    if _share_of_target(deployment) >= 100.0:
        return 0.0
    if deployment.strategy == model.LINEAR:
        return (asked.linear_configuration or Linear()).step_bake_time_in_minutes * 60.0
    return (asked.canary_configuration or Canary()).canary_bake_time_in_minutes * 60.0


def _bake_seconds(deployment: Deployment, asked: Configuration) -> float:
    """The bake time after the shift: as long as both revisions shall run, so none where there is only one."""
    return asked.bake_time_in_minutes * 60.0 if deployment.blue_revision_id else 0.0


def advance(view: ServiceView, deployment: Deployment, *, reached: bool, healthy_after_seconds: float, now: Instant) -> Deployment:
    """`deployment`, the PRIMARY one of `view`, one stage further if its present one is over; or with what it waits for begun, or timed out.

    `reached`: of a rolling one, whether enough of its tasks are healthy. Completing it is for the caller, when `is_through` or `hooks_are_through`.
    """
    asked = configuration_of(view.service, deployment)
    if not shifts(deployment) and not deployment.lifecycle_stage:
        return deployment
    if not deployment.stage_changes:
        return _begun(view, deployment, asked, now)
    deployment = lifecycle_hook.expired(deployment, now)
    if not shifts(deployment):
        done = reached or deployment.lifecycle_stage != model.SCALE_UP
    else:
        done = _is_done(view, deployment, after=healthy_after_seconds, now=now)
    if not done or not lifecycle_hook.passed(deployment):
        return deployment
    seconds = _waits_seconds(deployment, asked)
    if seconds and not deployment.bake_started_at:
        return msgspec.structs.replace(deployment, bake_started_at=now, updated_at=now)
    if seconds and now < deployment.bake_started_at + seconds:
        return deployment
    following = _following(deployment)
    return _entered(deployment, following, asked, now) if following else deployment


def is_through(view: ServiceView, deployment: Deployment, *, healthy_after_seconds: float, now: Instant) -> bool:
    """Whether a deployment whose strategy shifts traffic is through its last stage: green alone is left, and settled."""
    return deployment.lifecycle_stage == model.CLEAN_UP and len(view.deployments) == 1 and is_settled(view, healthy_after_seconds, now)


def hooks_are_through(deployment: Deployment) -> bool:
    """Whether the hooks of a rolling deployment hold it up no more: it has none, or is past them."""
    return not deployment.lifecycle_stage or (deployment.lifecycle_stage == model.POST_SCALE_UP and lifecycle_hook.passed(deployment))


def wake_at(deployment: Deployment, asked: Configuration) -> Instant:
    """When something of it changes without anybody's word: a hook times out or a bake time ends. 0.0: nothing does."""
    if deployment.rollout_state != model.IN_PROGRESS or not deployment.stage_changes:
        return 0.0
    waits = [lifecycle_hook.next_at(deployment)]
    if deployment.bake_started_at:
        waits.append(deployment.bake_started_at + _waits_seconds(deployment, asked))
    return min((at for at in waits if at), default=0.0)


def _waits_seconds(deployment: Deployment, asked: Configuration) -> float:
    if deployment.lifecycle_stage == model.BAKE_TIME:
        return _bake_seconds(deployment, asked)
    return _step_bake_seconds(deployment, asked) if deployment.lifecycle_stage == model.PRODUCTION_TRAFFIC_SHIFT else 0.0


# -- stages ----------------------------------------------------------------------------------------------------------------


def _begun(view: ServiceView, deployment: Deployment, asked: Configuration, now: Instant) -> Deployment:
    """`deployment` at its first stage, with the weights as they are."""
    if not shifts(deployment):
        return _entered(deployment, deployment.lifecycle_stage, asked, now)
    before = {weight.service_revision_id: weight for weight in _weights_before(view, deployment)}
    sources = [item for item in deployment.source_revision_ids if item != deployment.target_id]
    if deployment.rollback_of:
        names = dict.fromkeys((deployment.target_id, *before, *sources))
        weights = tuple(before.get(name, TrafficWeight(service_revision_id=name)) for name in names)
        if not any(weight.production for weight in weights):  # what failed had not begun, so the traffic never was shared out
            weights = _shared(weights, {deployment.target_id: 100.0})
        return _entered(msgspec.structs.replace(deployment, weights=weights), model.SCALE_UP, asked, now)
    blue = _blue(view, sources, before)
    weights = tuple(before.get(name, TrafficWeight(service_revision_id=name)) for name in (deployment.target_id, *sources))
    if not any(weight.production for weight in weights) and blue:  # until now nobody shared the traffic out
        weights = _shared(weights, {blue: 100.0})
    ready = msgspec.structs.replace(deployment, blue_revision_id=blue, weights=weights)
    return _entered(ready, model.RECONCILE_SERVICE if set(sources) - {blue} else model.PRE_SCALE_UP, asked, now)


def _weights_before(view: ServiceView, deployment: Deployment) -> tuple[TrafficWeight, ...]:
    """The weights of the newest deployment before this one that came to have some; one that was superseded or stopped at once has none."""
    if view.undone is not None and view.undone.weights:
        return view.undone.weights
    others = sorted((item for item in view.deployments if item.id != deployment.id), key=lambda item: item.created_at, reverse=True)
    return next((item.weights for item in others if item.weights), ())


def _blue(view: ServiceView, sources: list[str], before: dict[str, TrafficWeight]) -> str:
    """The source that keeps the traffic: what a rollback would go to; before anything completed, what has most of it.

    So has that of those with tasks that serve, where what completed has none: a revision that completed without a task, or whose image is gone,
    would be given all the traffic and be waited for without end.
    """
    completed = view.service.completed_revision_id
    serving = {task.deployment_id for task in view.tasks if task.last_status == task_model.RUNNING and not is_unhealthy(task)}
    known = [before[item] for item in sources if item in before and before[item].production > 0]
    able = [weight for weight in known if weight.service_revision_id in serving]
    if completed in sources and (completed in serving or not able):
        return completed
    return max(able or known, key=lambda weight: weight.production).service_revision_id if known else ""


def _entered(deployment: Deployment, stage: str, asked: Configuration, now: Instant) -> Deployment:
    """`deployment` at `stage`, with what that stage wants of the traffic and with its hooks' runs."""
    step = deployment.step + (stage == model.PRODUCTION_TRAFFIC_SHIFT)
    changes = (*deployment.stage_changes, StageChange(stage=stage, at=now))[-STAGES_MAX:]
    moved = msgspec.structs.replace(deployment, lifecycle_stage=stage, stage_changes=changes, step=step, bake_started_at=0.0, updated_at=now)
    return lifecycle_hook.entered(msgspec.structs.replace(moved, weights=_wanted(moved, asked)), asked, now)


def _wanted(deployment: Deployment, asked: Configuration) -> tuple[TrafficWeight, ...]:
    """The weights at the present stage."""
    target, blue, weights = deployment.target_id, deployment.blue_revision_id, deployment.weights
    if deployment.lifecycle_stage == model.RECONCILE_SERVICE:
        return _shared(weights, {blue: 100.0}, test={}) if blue else weights
    if deployment.lifecycle_stage == model.PRODUCTION_TRAFFIC_SHIFT:
        # The next above what it has: the configuration may have been changed on the way.
        green = next((share for share in shares(deployment, asked) if share > _share_of_target(deployment)), 100.0)
        return _shared(weights, {target: green, blue: round(100.0 - green, 1)})
    if deployment.lifecycle_stage == model.TEST_TRAFFIC_SHIFT:
        return _shared(weights, None, test={} if deployment.rollback_of else {target: 100.0})
    return _shared(weights, None, test={}) if deployment.lifecycle_stage == model.CLEAN_UP else weights


def _shared(
    weights: tuple[TrafficWeight, ...], production: dict[str, float] | None, *, test: dict[str, float] | None = None
) -> tuple[TrafficWeight, ...]:
    """`weights` with the shares given, 0 for who is not named; None leaves them."""
    return tuple(
        msgspec.structs.replace(
            weight,
            production=weight.production if production is None else production.get(weight.service_revision_id, 0.0),
            test=weight.test if test is None else test.get(weight.service_revision_id, 0.0),
        )
        for weight in weights
    )


def _is_done(view: ServiceView, deployment: Deployment, *, after: float, now: Instant) -> bool:
    """Whether the present stage has reached what it is for; its hooks and its bake time apart."""
    stage = deployment.lifecycle_stage
    if stage == model.CLEAN_UP:
        return False
    if view.traffic is not None and set(view.traffic) != {weight for weight in deployment.weights if weight.production or weight.test}:
        return False
    if stage == model.RECONCILE_SERVICE:
        # Blue is to stand in for the others. Where its tasks do not get up, waiting for it would keep the repair away for ever: the others stay.
        fails = any(item.target_id == deployment.blue_revision_id and holds_up(item) for item in view.deployments)
        return fails or {task.deployment_id for task in view.tasks} <= {deployment.target_id, deployment.blue_revision_id}
    if stage not in (model.SCALE_UP, model.BAKE_TIME):
        return True
    if stage == model.BAKE_TIME and deployment.alarms.status == model.MONITORING and not deployment.alarms.seen_at:
        return False  # nobody has read them yet
    healthy = sum(task.deployment_id == deployment.target_id and is_healthy(task, after, now) for task in view.tasks)
    if deployment.rollback_of:  # away from what failed at once, as soon as anybody can take the traffic
        return healthy >= min(1, view.service.desired_count)
    return healthy >= view.service.desired_count


def _following(deployment: Deployment) -> str:
    """The stage after the present one, which is over; "": the caller has to say that it is through."""
    stage = deployment.lifecycle_stage
    if deployment.rollback_of:
        return _following_back(deployment)
    if not shifts(deployment) and stage == model.POST_SCALE_UP:
        return ""
    if stage == model.PRODUCTION_TRAFFIC_SHIFT:
        return model.PRE_PRODUCTION_TRAFFIC_SHIFT if _share_of_target(deployment) < 100.0 else model.POST_PRODUCTION_TRAFFIC_SHIFT
    return _NEXT.get(stage, "")


def _following_back(deployment: Deployment) -> str:
    """In a rollback: what of the traffic is still to be shifted back, then CLEAN_UP."""
    others = [weight for weight in deployment.weights if weight.service_revision_id != deployment.target_id]
    stage = deployment.lifecycle_stage
    if stage == model.SCALE_UP and any(weight.production for weight in others):
        return model.PRODUCTION_TRAFFIC_SHIFT
    if stage in (model.SCALE_UP, model.PRODUCTION_TRAFFIC_SHIFT) and any(weight.test for weight in deployment.weights):
        return model.TEST_TRAFFIC_SHIFT
    return model.CLEAN_UP


# -- tasks -----------------------------------------------------------------------------------------------------------------


def side_by_side(deployment: Deployment) -> bool:
    """Whether the revisions of `deployment`'s service each keep their tasks for now, instead of one replacing the other."""
    return shifts(deployment) and deployment.lifecycle_stage != model.CLEAN_UP and deployment.rollout_state != model.COMPLETED


def requested_count(deployment: Deployment, revision_id: str, desired_count: int) -> int:
    """How many tasks the revision is to have, as `requestedTaskCount` tells it. `deployment`: the PRIMARY one."""
    if revision_id == deployment.target_id:
        waits = side_by_side(deployment) and deployment.lifecycle_stage in model.BEFORE_GREEN and not deployment.rollback_of
        return 0 if waits else desired_count
    return desired_count if side_by_side(deployment) and revision_id == deployment.blue_revision_id else 0


def shown_stage(deployment: Deployment) -> str:
    """`lifecycleStage` as the API has it, which knows no PRE_PRODUCTION_TRAFFIC_SHIFT: that is the end of what came before it."""
    if deployment.lifecycle_stage != model.PRE_PRODUCTION_TRAFFIC_SHIFT:
        return deployment.lifecycle_stage
    return model.PRODUCTION_TRAFFIC_SHIFT if deployment.step else model.POST_TEST_TRAFFIC_SHIFT
