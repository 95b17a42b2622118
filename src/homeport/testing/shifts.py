"""Deployments that shift traffic, in a simulation: what must hold of them, what users ask for, and the targets of their hooks.

Owns: `stage_problem`, `side_problem`, `holds_back`, `a_strategy`, `Approver`, `UnreliableTargets`. Never trusts the planners: which stage may follow
which, and how many tasks each revision keeps, is written down again (ecs-reference 3.9).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from homeport.agent.client import CallFailedError, UnreachableError
from homeport.clock import Clock
from homeport.controllers.lifecycle_hook import HookCallError
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import RANK, Task
from homeport.store.table import Change
from homeport.testing.records import ACCOUNT, REGION
from homeport.testing.virtual_loop import Chance

if TYPE_CHECKING:
    from homeport.testing.workload import Workload

_ORDER: Final = (
    "",
    "RECONCILE_SERVICE",
    "PRE_SCALE_UP",
    "SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
    "BAKE_TIME",
    "CLEAN_UP",
)
_BACKWARDS: Final = ("", "SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT", "CLEAN_UP")
_WITHOUT_GREEN: Final = ("", "RECONCILE_SERVICE", "PRE_SCALE_UP")
STRATEGY_SHARE: Final = 0.4
"""What part of the services shifts traffic."""
HOOK_SHARE: Final = 0.5
"""What part of these has lifecycle hooks."""
URL: Final = "http://100.64.0.9/hook"


def stage_problem(before: Deployment | None, after: Deployment) -> str:
    """What is wrong with a deployment's stage and weights after a commit; "" when nothing."""
    name = f"deployment {after.id}"
    for kind, sums in (("production", sum(item.production for item in after.weights)), ("test", sum(item.test for item in after.weights))):
        if round(sums, 6) not in (0.0, 100.0):
            return f"{name}: its {kind} weights sum to {sums}"
    if after.rollout_state == "COMPLETED" and any(_has_failed(run) for run in after.hooks):
        return f"{name} is COMPLETED though a hook of it failed"
    if before is None:
        return ""
    production = {item.service_revision_id: item.production for item in before.weights}
    for item in after.weights:
        if item.service_revision_id == after.target_id and item.production < production.get(after.target_id, 0.0):
            return f"{name}: the traffic of what it deploys went from {production[after.target_id]} back to {item.production}"
    return _move_problem(name, before, after)


def _has_failed(run: Any) -> bool:
    return run.status in ("FAILED", "AWAITING_ACTION", "IN_PROGRESS") or (run.status == "TIMED_OUT" and run.timeout_action != "CONTINUE")


def _move_problem(name: str, before: Deployment, after: Deployment) -> str:
    old, new = before.lifecycle_stage, after.lifecycle_stage
    if old == new:
        return ""
    if any(run.stage == old and run.step == before.step and _has_failed(run) for run in after.hooks):
        return f"{name} went from {old} to {new} though not all hooks of {old} have succeeded"
    order = _BACKWARDS if after.rollback_of else _ORDER
    again = (old, new) == ("PRODUCTION_TRAFFIC_SHIFT", "PRE_PRODUCTION_TRAFFIC_SHIFT") and not after.rollback_of
    if old not in order or new not in order or (order.index(new) <= order.index(old) and not again):
        return f"{name} went from {old!r} to {new}"
    skipped = order[order.index(old) + 1 : order.index(new)]
    if not after.rollback_of and set(skipped) - {"RECONCILE_SERVICE", "PRE_SCALE_UP"}:
        return f"{name} went from {old!r} to {new} past {', '.join(skipped)}"
    return ""


def holds_back(primary: Deployment | None) -> bool:
    """Whether hooks, or what comes before green, keep the PRIMARY deployment from starting tasks."""
    if primary is None or not (primary.strategy != "ROLLING" or primary.lifecycle_stage):
        return False
    return primary.lifecycle_stage in _WITHOUT_GREEN and not primary.rollback_of


def stands_side_by_side(primary: Deployment | None) -> bool:
    """Whether the revisions of the service are to keep their tasks, each its own."""
    return primary is not None and primary.strategy != "ROLLING" and primary.lifecycle_stage != "CLEAN_UP" and primary.rollout_state != "COMPLETED"


def side_problem(service: Service, primary: Deployment, *, tasks: Iterable[Task], changed: Iterable[Change], draining: set[str]) -> str:
    """What is wrong with what the scheduler did at one commit while revisions stand side by side. `tasks`: the service's live ones afterwards;
    `draining`: keys of instances that do not stay."""
    of: dict[str, list[Task]] = {}
    for item in tasks:
        of.setdefault(item.deployment_id, []).append(item)
    upper = service.desired_count * service.maximum_percent // 100
    for change in changed:
        task = change.after
        if not isinstance(task, Task):
            continue
        own = of.get(task.deployment_id, [])
        if change.before is None:
            occupied = sum(1 for item in own if RANK[item.last_status] <= RANK["RUNNING"])
            if occupied > upper:
                return f"service {service.name}: {occupied} tasks of revision {task.deployment_id} with a start, over {upper}"
            if task.deployment_id == primary.target_id and holds_back(primary):
                return f"service {service.name}: a task of green was started at stage {primary.lifecycle_stage!r}"
        elif (
            isinstance(change.before, Task) and change.before.desired_status != task.desired_status and task.deployment_id == primary.blue_revision_id
        ):
            kept = sum(1 for item in own if item.desired_status == "RUNNING")
            excused = task.health_status == "UNHEALTHY" or task.instance_key in draining or primary.lifecycle_stage == ""
            if kept < service.desired_count and not excused:
                return f"service {service.name}: blue was taken down to {kept} of {service.desired_count} at stage {primary.lifecycle_stage}"
    return ""


def a_strategy(chance: Chance) -> dict[str, Any]:
    """Members of a deploymentConfiguration: a strategy that shifts traffic, or hooks of a rolling deployment, or nothing."""
    if not chance.happens(STRATEGY_SHARE):
        return {"lifecycleHooks": [_a_hook(chance, ("PRE_SCALE_UP", "POST_SCALE_UP"))]} if chance.happens(0.15) else {}
    strategy = chance.pick(("BLUE_GREEN", "LINEAR", "CANARY"))
    asked: dict[str, Any] = {"strategy": strategy, "bakeTimeInMinutes": chance.number(0, 1)}
    if strategy == "LINEAR":
        asked["linearConfiguration"] = {"stepPercent": chance.pick((30.0, 50.0, 100.0)), "stepBakeTimeInMinutes": chance.number(0, 1)}
    if strategy == "CANARY":
        asked["canaryConfiguration"] = {"canaryPercent": chance.pick((0.1, 20.0, 100.0)), "canaryBakeTimeInMinutes": chance.number(0, 1)}
    if chance.happens(HOOK_SHARE):
        stages = [stage for stage in _ORDER if stage not in ("", "SCALE_UP", "BAKE_TIME", "CLEAN_UP")]
        asked["lifecycleHooks"] = [_a_hook(chance, stages) for _ in range(chance.number(1, 3))]
    return asked


def _a_hook(chance: Chance, stages: Iterable[str]) -> dict[str, Any]:
    kind = chance.pick(("url", "url", "pause", "task"))
    stage = chance.pick([stage for stage in stages if kind != "pause" or stage not in ("TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT")])
    timeout = {"timeoutInMinutes": chance.number(1, 2), "action": chance.pick(("CONTINUE", "ROLLBACK"))}
    hook: dict[str, Any] = {"lifecycleStages": [stage], "timeoutConfiguration": timeout}
    if kind == "pause":
        return hook | {"targetType": "PAUSE"}
    family = chance.pick(("job", "job", "failing", "unstartable"))
    return hook | {"hookTargetArn": URL if kind == "url" else f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:1"}


class Approver:
    """Somebody who lets paused deployments go on, or back, and now and then stops one."""

    def __init__(self, workload: Workload, chance: Chance) -> None:
        self._workload = workload
        self._chance = chance

    async def run(self) -> None:
        """Do it until cancelled."""
        while True:
            await self._workload.clock.sleep(self._chance.wait(20.0))
            try:
                await self._act()
            except UnreachableError:
                continue
            except CallFailedError as error:
                # Whoever decides may be too late: by then it has timed out, was superseded, or is over.
                if error.code not in ("InvalidParameterException", "ConflictException", "ServiceDeploymentNotFoundException"):
                    raise

    async def _act(self) -> None:
        workload, chance = self._workload, self._chance
        deployments = sorted(workload.invariants.records["deployments"].values(), key=lambda item: item.key)
        waiting = [(item, run) for item in deployments for run in item.hooks if run.status == "AWAITING_ACTION"]
        going = [
            item for item in deployments if item.status == "PRIMARY" and item.service_deployment_status == "IN_PROGRESS" and not item.rollback_of
        ]
        if waiting:
            item, run = chance.pick(waiting)
            request = {"serviceDeploymentArn": _arn(item), "hookId": run.id, "action": chance.pick(("CONTINUE", "CONTINUE", "ROLLBACK"))}
            await workload.call("ContinueServiceDeployment", request)
            durable = workload.invariants.records["deployments"].get(item.key)
            right = durable is None or all(found.status != "AWAITING_ACTION" for found in durable.hooks if found.id == run.id)
            workload.invariants.acknowledged("ContinueServiceDeployment", right, f"what is durable of it is {durable}")
        elif going and chance.happens(0.15):
            item = chance.pick(going)
            await workload.call("StopServiceDeployment", {"serviceDeploymentArn": _arn(item)})
            durable = workload.invariants.records["deployments"].get(item.key)
            right = durable is None or durable.service_deployment_status not in ("PENDING", "IN_PROGRESS")
            workload.invariants.acknowledged("StopServiceDeployment", right, f"what is durable of it is {durable}")


def _arn(deployment: Deployment) -> str:
    return f"arn:aws:ecs:{REGION}:{deployment.account}:service-deployment/{deployment.cluster}/{deployment.service}/{deployment.id}"


class UnreliableTargets:
    """A `HookCaller` whose targets take their time, say no, ask to be called again, or do not answer."""

    def __init__(self, chance: Chance, clock: Clock) -> None:
        self._chance = chance
        self._clock = clock

    async def call(self, url: str, payload: dict[str, Any], *, within_seconds: float) -> Any:
        """One answer. The same execution may be called more than once."""
        await self._clock.sleep(min(within_seconds, self._chance.wait(2.0)))
        if self._chance.happens(0.08):
            raise HookCallError("It could not be called: simulated", final=False)
        if self._chance.happens(0.06):
            return {"hookStatus": "FAILED"}
        if self._chance.happens(0.25):
            return {"hookStatus": "IN_PROGRESS", "callBackDelay": self._chance.number(1, 15), "hookDetails": {"n": self._chance.number(0, 9)}}
        return {"hookStatus": "SUCCEEDED"} if not self._chance.happens(0.02) else "SUCCEEDED"
