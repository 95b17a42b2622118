"""BLUE_GREEN, LINEAR and CANARY: handlers, controllers, hooks and agents together, in memory."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.controllers.test_deployment import HANDLERS, Aws, fail

from homeport.api.ecs import service_deployment
from homeport.config import Settings
from homeport.controllers.alarm import keep_alarms
from homeport.controllers.lifecycle_hook import HookRunner, HookTasks
from homeport.errors import ConflictError, InvalidParameterError, ServiceDeploymentNotFoundError
from homeport.planner.alarm import AlarmState
from homeport.store.tables import DEPLOYMENTS, SERVICES, TASKS
from homeport.testing import records
from homeport.testing.store import UnconfirmedStore

HANDLERS.setdefault("ContinueServiceDeployment", service_deployment.continue_service_deployment)
BLUE_GREEN = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5}
LINEAR = {"strategy": "LINEAR", "bakeTimeInMinutes": 5, "linearConfiguration": {"stepPercent": 40.0, "stepBakeTimeInMinutes": 2}}
CANARY = {"strategy": "CANARY", "bakeTimeInMinutes": 5, "canaryConfiguration": {"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 3}}
STRATEGIES = {"BLUE_GREEN": BLUE_GREEN, "LINEAR": LINEAR, "CANARY": CANARY}
URL = "http://100.64.0.1/hook"
START = ["PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT"]
STEP = ["PRE_PRODUCTION_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT"]
END = ["POST_PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME", "CLEAN_UP"]
STEPS = {"BLUE_GREEN": [100.0], "LINEAR": [40.0, 80.0, 100.0], "CANARY": [10.0, 100.0]}
HOOK_STAGES = ["PRE_SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT", *STEP, "POST_PRODUCTION_TRAFFIC_SHIFT"]


def hook(*stages, **members):
    return {"hookTargetArn": URL, "lifecycleStages": list(stages), **members}


def pause(stage, **members):
    return {"targetType": "PAUSE", "lifecycleStages": [stage], **members}


@pytest.fixture
async def aws(make_cell):
    return Aws(await make_cell(records.task_definition(revision=2), records.task_definition(revision=3)))


async def serving(aws, **configuration):
    """A service of web:1 whose first deployment is over, and its tasks' ids."""
    await aws.create(**configuration)
    await aws.cell.clock.advance(60)
    assert [item["status"] for item in await aws.listed()] == ["SUCCESSFUL"]
    return {task.id for task in await aws.cell.all(TASKS)}


async def primary(aws):
    (found,) = [item for item in await aws.cell.all(DEPLOYMENTS) if item.status == "PRIMARY"]
    return found


def weights(described):
    """(source's production, target's production, target's test)."""
    target, (source, *_) = described["targetServiceRevision"], described["sourceServiceRevisions"]
    return source["requestedProductionTrafficWeight"], target["requestedProductionTrafficWeight"], target["requestedTestTrafficWeight"]


async def until(aws, stage, step=None, seconds=2000):
    """Let time pass until the newest deployment is at `stage`."""
    clock = aws.cell.clock
    for _ in range(seconds):
        deployment = await primary(aws)
        if deployment.lifecycle_stage == stage and step in (None, deployment.step):
            return deployment
        await clock.advance(1)
    raise AssertionError(f"{stage} was not reached; it is at {deployment.lifecycle_stage}")


@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_deployment_goes_through_its_stages_and_blue_stays_until_the_bake_time_is_over(aws, name):
    old = await serving(aws, **STRATEGIES[name])
    await aws.update(taskDefinition="web:2")
    seen = []
    while True:
        deployment = await primary(aws)
        tasks = [task for task in await aws.cell.all(TASKS) if task.desired_status == "RUNNING"]
        production = {item.service_revision_id: item.production for item in deployment.weights}
        assert not production or sum(production.values()) == 100.0
        if deployment.lifecycle_stage == "PRODUCTION_TRAFFIC_SHIFT" and (not seen or seen[-1] != production[deployment.target_id]):
            seen.append(production[deployment.target_id])
        if deployment.lifecycle_stage == "CLEAN_UP":
            break
        assert old <= {task.id for task in tasks}, "a blue task was stopped before CLEAN_UP"
        await aws.cell.clock.advance(1)
    assert seen == STEPS[name][:-1], "the last step is not dwelt at"
    await aws.cell.clock.advance(10)
    deployment = await primary(aws)
    assert [item.stage for item in deployment.stage_changes] == [*START, *STEP * len(STEPS[name]), *END]
    assert await aws.running() == [2, 2]
    described = await aws.newest()
    assert (described["status"], described["lifecycleStage"], weights(described)) == ("SUCCESSFUL", "CLEAN_UP", (0.0, 100.0, 0.0))
    at = {item.stage: item.at for item in deployment.stage_changes}
    assert at["CLEAN_UP"] - at["BAKE_TIME"] == pytest.approx(300, abs=2)
    (shown,) = (await aws.service())["deployments"]
    assert shown["rolloutState"] == "COMPLETED"


@pytest.mark.parametrize("stage", HOOK_STAGES)
@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_hook_that_fails_at_any_stage_brings_blue_back_without_restarting_it(aws, name, stage):
    old = await serving(aws, **STRATEGIES[name])
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "FAILED" if not payload["isRollback"] else "SUCCEEDED"}
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook(stage)]})
    await aws.cell.clock.advance(900)
    described = await aws.newest()
    assert described["status"] == "ROLLBACK_SUCCESSFUL"
    assert f"lifecycle hook {URL} failed at {stage}" in described["rollback"]["reason"]
    assert {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"} == old
    assert weights(described) == (100.0, 0.0, 0.0)
    back = await primary(aws)
    assert (back.revision, back.rollout_state, back.lifecycle_stage) == (1, "COMPLETED", "CLEAN_UP")
    failed = next(item for item in await aws.cell.all(DEPLOYMENTS) if item.id == back.rollback_of)
    expected = ["SCALE_UP"]
    if any(weight.production for weight in failed.weights if weight.service_revision_id == failed.target_id):
        expected.append("PRODUCTION_TRAFFIC_SHIFT")
    if any(weight.test for weight in failed.weights):
        expected.append("TEST_TRAFFIC_SHIFT")
    assert [item.stage for item in back.stage_changes] == [*expected, "CLEAN_UP"]
    assert (await aws.service())["taskDefinition"].endswith("web:1")


@pytest.mark.parametrize(
    ("name", "stage", "step"),
    [
        ("BLUE_GREEN", "SCALE_UP", 0),
        ("BLUE_GREEN", "BAKE_TIME", 1),
        ("LINEAR", "SCALE_UP", 0),
        ("LINEAR", "PRODUCTION_TRAFFIC_SHIFT", 1),
        ("LINEAR", "PRODUCTION_TRAFFIC_SHIFT", 2),
        ("LINEAR", "BAKE_TIME", 3),
        ("CANARY", "SCALE_UP", 0),
        ("CANARY", "PRODUCTION_TRAFFIC_SHIFT", 1),
        ("CANARY", "BAKE_TIME", 2),
    ],
)
async def test_a_stop_brings_blue_back(aws, name, stage, step):
    old = await serving(aws, **STRATEGIES[name])
    await aws.update(taskDefinition="web:2")
    await until(aws, stage, step)
    arn = (await aws.newest())["serviceDeploymentArn"]
    await aws("StopServiceDeployment", serviceDeploymentArn=arn, stopType="ROLLBACK")
    at = aws.cell.clock.now()
    assert (await primary(aws)).revision == 1, "the traffic goes back at once"
    assert weights(await aws.newest())[:2] == (100.0, 0.0)
    assert aws.cell.clock.now() == at
    await aws.cell.clock.advance(120)
    assert (await aws.newest())["status"] == "ROLLBACK_SUCCESSFUL"
    assert {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"} == old


async def test_a_deployment_in_its_clean_up_is_not_stopped(aws):
    await serving(aws, **BLUE_GREEN)
    await aws.update(taskDefinition="web:2")
    await until(aws, "CLEAN_UP")
    arn = (await aws.newest())["serviceDeploymentArn"]
    with pytest.raises(ConflictError, match="CLEAN_UP"):
        await aws("StopServiceDeployment", serviceDeploymentArn=arn)


async def test_the_breaker_brings_blue_back_before_any_traffic_has_moved(aws):
    old = await serving(aws, **BLUE_GREEN, deploymentCircuitBreaker={"enable": True, "rollback": True})
    fail(aws, 2)
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(300)
    assert (await aws.newest())["status"] == "ROLLBACK_SUCCESSFUL"
    assert {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"} == old


async def test_an_alarm_in_the_bake_time_brings_blue_back(make_cell):
    settings = Settings(alarm_source="told by the test", alarm_poll_seconds=2.0)
    aws = Aws(await make_cell(records.task_definition(revision=2), settings=settings))
    known = {"slow": AlarmState(False, 30.0)}

    class Source:
        async def states(self):
            return known

    reading = asyncio.create_task(keep_alarms(aws.cell.store, aws.cell.clock, settings, source=Source()))
    old = await serving(aws, **BLUE_GREEN, alarms={"alarmNames": ["slow"], "enable": True, "rollback": True})
    await aws.update(taskDefinition="web:2")
    await until(aws, "BAKE_TIME")
    known["slow"] = AlarmState(True, 30.0)
    await aws.cell.clock.advance(60)
    assert (await aws.newest())["status"] == "ROLLBACK_SUCCESSFUL"
    assert {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"} == old
    reading.cancel()


async def test_a_blue_task_that_is_lost_is_replaced_beside_green(aws):
    await serving(aws, **BLUE_GREEN)
    await aws.update(taskDefinition="web:2")
    await until(aws, "BAKE_TIME")
    await aws.cell.clock.advance(30)
    lost = next(task for task in await aws.cell.all(TASKS) if task.revision == 1)
    await aws.cell.report(lost, "STOPPED")
    await aws.cell.clock.advance(5)
    assert await aws.running() == [1, 1, 2, 2]


async def test_blue_that_does_not_start_is_tried_ever_more_rarely(aws):
    await aws("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=0, deploymentConfiguration=BLUE_GREEN)
    await aws.cell.clock.advance(60)
    fail(aws, 1)
    await aws.update(taskDefinition="web:2", desiredCount=2, deploymentConfiguration={"lifecycleHooks": [pause("POST_SCALE_UP")]})
    await aws.cell.clock.advance(600)
    made = sorted(task.created_at for task in await aws.cell.all(TASKS) if task.revision == 1)
    assert 8 <= len(made) <= 16, "two rounds at once, then 15 s doubling"
    assert made[-1] - made[-3] > 200
    assert sum("unable to consistently start tasks" in message for message in await aws.messages()) == 1
    assert (await primary(aws)).lifecycle_stage == "POST_SCALE_UP", "green is held up by nothing that befalls blue"
    fail(aws, 9)
    await aws.cell.clock.advance(400)
    assert await aws.running() == [1, 1, 2, 2]
    (blue,) = [item for item in await aws.cell.all(DEPLOYMENTS) if item.status == "ACTIVE"]
    assert (blue.failures_to_start, blue.throttled_until, blue.failed_tasks) == (0, 0.0, 0)


async def test_the_first_deployment_has_nobody_to_share_with_and_nothing_to_bake_beside(aws):
    await aws.create(**CANARY)
    await aws.cell.clock.advance(60)
    deployment = await primary(aws)
    assert [item.stage for item in deployment.stage_changes] == [*START, *STEP, *END]
    assert [(weight.production, weight.test) for weight in deployment.weights] == [(100.0, 0.0)]


async def test_an_update_amid_another_reconciles_first(aws):
    old = await serving(aws, **LINEAR)
    await aws.update(taskDefinition="web:2")
    await until(aws, "PRODUCTION_TRAFFIC_SHIFT", 1)
    await aws.update(taskDefinition="web:3")
    newest = await primary(aws)
    assert newest.stage_changes[0].stage == "RECONCILE_SERVICE"
    assert {item.service_revision_id: item.production for item in newest.weights}[newest.blue_revision_id] == 100.0
    assert not any(item.test for item in newest.weights), "test traffic went to what is superseded"
    await aws.cell.clock.advance(20)
    tasks = [task for task in await aws.cell.all(TASKS) if task.desired_status == "RUNNING"]
    assert sorted(task.revision for task in tasks) == [1, 1, 3, 3]
    assert old <= {task.id for task in tasks}
    await aws.cell.clock.advance(1200)
    assert await aws.running() == [3, 3]
    assert [item["status"] for item in await aws.listed()] == ["SUCCESSFUL", "STOPPED", "SUCCESSFUL"]


async def test_an_update_amid_another_does_not_wait_for_a_blue_that_never_served(aws):
    await aws("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=0, deploymentConfiguration=LINEAR)
    await aws.cell.clock.advance(60)
    fail(aws, 1)
    await aws.update(taskDefinition="web:2", desiredCount=2)
    await until(aws, "PRODUCTION_TRAFFIC_SHIFT", 1)
    serving_now = {task.id for task in await aws.cell.all(TASKS) if task.revision == 2 and task.last_status == "RUNNING"}
    await aws.update(taskDefinition="web:3")
    newest = await primary(aws)
    production = {item.service_revision_id: item.production for item in newest.weights}
    (green,) = [item for item in await aws.cell.all(DEPLOYMENTS) if item.revision == 2]
    assert (newest.blue_revision_id, production[green.target_id]) == (green.target_id, 100.0)
    await until(aws, "BAKE_TIME")
    assert serving_now <= {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"}
    await aws.cell.clock.advance(600)
    assert await aws.running() == [3, 3]


async def test_a_blue_that_crashes_while_it_shall_stand_in_does_not_keep_the_repair_away(aws):
    old = await serving(aws, **LINEAR)
    await aws.update(taskDefinition="web:2")
    await until(aws, "PRODUCTION_TRAFFIC_SHIFT", 1)
    kept = {task.id for task in await aws.cell.all(TASKS) if task.revision == 2}
    fail(aws, 1)
    first, second = [task for task in await aws.cell.all(TASKS) if task.id in old]
    await aws.cell.report(first, "STOPPED", containers={"app": {"status": "STOPPED", "exit_code": 1}})
    await aws.update(taskDefinition="web:3")
    await aws.cell.report(second, "STOPPED", containers={"app": {"status": "STOPPED", "exit_code": 1}})
    assert (await primary(aws)).lifecycle_stage == "RECONCILE_SERVICE"
    await until(aws, "BAKE_TIME")
    assert kept & {task.id for task in await aws.cell.all(TASKS) if task.desired_status == "RUNNING"}, "what served was taken down before"
    await aws.cell.clock.advance(900)
    assert await aws.running() == [3, 3]
    assert (await aws.newest())["status"] == "SUCCESSFUL"


async def test_a_hook_of_the_reconciliation_that_fails(aws):
    old = await serving(aws, **LINEAR)
    await aws.update(taskDefinition="web:2")
    await until(aws, "PRODUCTION_TRAFFIC_SHIFT", 1)
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "FAILED"}
    await aws.update(taskDefinition="web:3", deploymentConfiguration={"lifecycleHooks": [hook("RECONCILE_SERVICE")]})
    await aws.cell.clock.advance(120)
    described = await aws.newest()
    assert described["status"] == "ROLLBACK_SUCCESSFUL"
    assert {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"} == old
    (told,) = [payload for _, payload in aws.cell.hook_targets.calls if payload["lifecycleStage"] == "RECONCILE_SERVICE"]
    assert sorted(told["productionTrafficWeights"].values()) == [0.0, 0.0, 100.0]
    assert (
        described["sourceServiceRevisions"][0]["requestedProductionTrafficWeight"]
        + described["sourceServiceRevisions"][1]["requestedProductionTrafficWeight"]
        == 100.0
    )


async def test_an_update_amid_the_first_deployment_keeps_what_serves(aws):
    await aws.create(**BLUE_GREEN, lifecycleHooks=[pause("POST_PRODUCTION_TRAFFIC_SHIFT")])
    await aws.cell.clock.advance(60)
    serving_now = {task.id for task in await aws.cell.all(TASKS)}
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(60)
    assert serving_now <= {task.id for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"}
    assert (await primary(aws)).blue_revision_id


async def test_a_rolling_update_amid_a_shift_takes_everything_over(aws):
    await serving(aws, **LINEAR)
    await aws.update(taskDefinition="web:2")
    await until(aws, "PRODUCTION_TRAFFIC_SHIFT", 1)
    await aws.update(taskDefinition="web:3", deploymentConfiguration={"strategy": "ROLLING"})
    await aws.cell.clock.advance(120)
    assert await aws.running() == [3, 3]
    assert (await aws.service())["deploymentConfiguration"]["bakeTimeInMinutes"] == 0


async def test_scaling_amid_a_deployment_scales_both(aws):
    await serving(aws, **BLUE_GREEN)
    await aws.update(taskDefinition="web:2")
    await until(aws, "BAKE_TIME")
    await aws.update(desiredCount=3)
    await aws.cell.clock.advance(60)
    assert await aws.running() == [1, 1, 1, 2, 2, 2]
    await aws.update(desiredCount=1)
    await aws.cell.clock.advance(60)
    assert await aws.running() == [1, 2]


async def test_other_steps_amid_a_deployment_go_on_from_where_it_is(aws):
    await serving(aws, **LINEAR)
    await aws.update(taskDefinition="web:2")
    await until(aws, "PRODUCTION_TRAFFIC_SHIFT", 1)
    await aws.update(deploymentConfiguration={"linearConfiguration": {"stepPercent": 30.0, "stepBakeTimeInMinutes": 1}})
    seen = []
    while (deployment := await primary(aws)).lifecycle_stage != "BAKE_TIME":
        green = next(item.production for item in deployment.weights if item.service_revision_id == deployment.target_id)
        seen += [green] if not seen or seen[-1] != green else []
        await aws.cell.clock.advance(1)
    assert seen == [40.0, 60.0, 90.0]
    assert weights(await aws.newest())[:2] == (0.0, 100.0)


async def test_deleting_the_service_amid_a_deployment(aws):
    await serving(aws, **BLUE_GREEN)
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [pause("POST_SCALE_UP")]})
    await until(aws, "POST_SCALE_UP")
    await aws("DeleteService", service="web", force=True)
    await aws.cell.clock.advance(30)
    assert await aws.running() == []
    (service,) = await aws.cell.all(SERVICES)
    assert service.status == "INACTIVE"
    assert (await aws.newest())["lifecycleHookDetails"][0]["status"] == "FAILED"


# -- hooks -----------------------------------------------------------------------------------------------------------------


async def test_what_a_hook_is_told(aws):
    await serving(aws, **BLUE_GREEN)
    await aws.update(
        taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("POST_TEST_TRAFFIC_SHIFT", hookDetails={"bucket": "b"})]}
    )
    await until(aws, "BAKE_TIME")
    described = await aws.newest()
    green, blue = described["targetServiceRevision"]["arn"], described["sourceServiceRevisions"][0]["arn"]
    ((url, payload),) = aws.cell.hook_targets.calls
    assert url == URL
    assert payload.pop("executionDetails") == {
        name: payload[name] for name in ("serviceArn", "targetServiceRevisionArn", "testTrafficWeights", "productionTrafficWeights")
    }
    assert payload == {
        "serviceArn": described["serviceArn"],
        "targetServiceRevisionArn": green,
        "testTrafficWeights": {green: 100.0, blue: 0.0},
        "productionTrafficWeights": {green: 0.0, blue: 100.0},
        "executionId": described["lifecycleHookDetails"][0]["hookId"],
        "lifecycleStage": "POST_TEST_TRAFFIC_SHIFT",
        "resourceArn": described["serviceDeploymentArn"],
        "isRollback": False,
        "hookDetails": {"bucket": "b"},
    }


async def test_a_hook_in_progress_is_called_again_with_what_it_returned(aws):
    await serving(aws, **BLUE_GREEN)
    answers = [{"hookStatus": "IN_PROGRESS", "callBackDelay": 7, "hookDetails": {"n": 1}}, {"hookStatus": "IN_PROGRESS"}, {"hookStatus": "SUCCEEDED"}]
    at = []

    def answer(payload):
        at.append((aws.cell.clock.now(), payload.get("hookDetails"), payload["executionId"]))
        return answers[len(at) - 1]

    aws.cell.hook_targets.answers[URL] = answer
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("PRE_SCALE_UP")]})
    await until(aws, "SCALE_UP")
    assert [round(later[0] - earlier[0]) for earlier, later in zip(at, at[1:], strict=False)] == [7, 30]
    assert [details for _, details, _ in at] == [None, {"n": 1}, {"n": 1}]
    assert len({execution for _, _, execution in at}) == 1


@pytest.mark.parametrize(
    "answer", [None, {}, [], "SUCCEEDED", {"hookStatus": "MAYBE"}, {"hookStatus": "IN_PROGRESS", "callBackDelay": "soon"}, {"hookStatus": None}]
)
async def test_an_answer_that_says_nothing_rolls_back(aws, answer):
    await serving(aws, **BLUE_GREEN)
    aws.cell.hook_targets.answers[URL] = lambda payload: answer
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("PRE_SCALE_UP")]})
    await aws.cell.clock.advance(60)
    assert (await aws.newest())["status"] == "ROLLBACK_SUCCESSFUL"
    assert len(aws.cell.hook_targets.calls) == (3 if answer is None else 1)


@pytest.mark.parametrize(("action", "ends"), [("ROLLBACK", "ROLLBACK_SUCCESSFUL"), ("CONTINUE", "SUCCESSFUL"), (None, "ROLLBACK_SUCCESSFUL")])
async def test_a_hook_that_takes_too_long(aws, action, ends):
    await serving(aws, **BLUE_GREEN)
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "IN_PROGRESS"}
    timeout = {"timeoutInMinutes": 2, **({"action": action} if action else {})}
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("POST_SCALE_UP", timeoutConfiguration=timeout)]})
    await aws.cell.clock.advance(900)
    described = await aws.newest()
    assert described["status"] == ends
    assert [(run["status"], run["timeoutAction"]) for run in described["lifecycleHookDetails"]] == [("TIMED_OUT", action or "ROLLBACK")]


@pytest.mark.parametrize(("action", "ends"), [("ROLLBACK", "ROLLBACK_SUCCESSFUL"), ("CONTINUE", "SUCCESSFUL"), (None, "SUCCESSFUL")])
async def test_a_pause_waits_for_somebodys_word(aws, action, ends):
    await serving(aws, **BLUE_GREEN)
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [pause("POST_TEST_TRAFFIC_SHIFT")]})
    await aws.cell.clock.advance(3600)
    described = await aws.newest()
    (run,) = described["lifecycleHookDetails"]
    assert (run["targetType"], run["status"], "targetArn" in run) == ("PAUSE", "AWAITING_ACTION", False)
    assert (described["status"], described["lifecycleStage"]) == ("IN_PROGRESS", "POST_TEST_TRAFFIC_SHIFT")
    call = {"serviceDeploymentArn": described["serviceDeploymentArn"], "hookId": run["hookId"]}
    for wrong, words in (({"hookId": "other"}, "no lifecycle hook"),):
        with pytest.raises(InvalidParameterError, match=words):
            await aws("ContinueServiceDeployment", **{**call, **wrong})
    unknown = described["serviceDeploymentArn"][:-1] + ("1" if described["serviceDeploymentArn"][-1] != "1" else "2")
    with pytest.raises(ServiceDeploymentNotFoundError):
        await aws("ContinueServiceDeployment", **{**call, "serviceDeploymentArn": unknown})
    answer = await aws("ContinueServiceDeployment", **call, **({"action": action} if action else {}))
    assert answer == {"serviceDeploymentArn": described["serviceDeploymentArn"]}
    with pytest.raises(InvalidParameterError, match="does not await an action|so it cannot be continued"):
        await aws("ContinueServiceDeployment", **call)
    await aws.cell.clock.advance(600)
    assert (await aws.newest())["status"] == ends


async def test_all_hooks_of_a_stage_must_be_over(aws):
    await serving(aws, **BLUE_GREEN)
    hooks = [hook("POST_SCALE_UP"), pause("POST_SCALE_UP"), pause("POST_SCALE_UP")]
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": hooks})
    await until(aws, "POST_SCALE_UP")
    arn = (await aws.newest())["serviceDeploymentArn"]
    for run in (await aws.newest())["lifecycleHookDetails"]:
        if run["targetType"] == "PAUSE":
            assert (await primary(aws)).lifecycle_stage == "POST_SCALE_UP"
            await aws("ContinueServiceDeployment", serviceDeploymentArn=arn, hookId=run["hookId"])
    assert (await primary(aws)).lifecycle_stage == "BAKE_TIME"


async def test_a_hook_that_is_no_pause_is_not_continued(aws):
    await serving(aws, **BLUE_GREEN)
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "IN_PROGRESS"}
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("POST_SCALE_UP")]})
    await until(aws, "POST_SCALE_UP")
    described = await aws.newest()
    with pytest.raises(InvalidParameterError, match="not of the target type PAUSE"):
        await aws(
            "ContinueServiceDeployment",
            serviceDeploymentArn=described["serviceDeploymentArn"],
            hookId=described["lifecycleHookDetails"][0]["hookId"],
        )


TASK_HOOK = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:task-definition/web:3"


@pytest.mark.parametrize(("exit_code", "ends"), [(0, "SUCCESSFUL"), (1, "ROLLBACK_SUCCESSFUL"), (None, "ROLLBACK_SUCCESSFUL")])
async def test_a_hook_runs_as_a_task(aws, exit_code, ends):
    await serving(aws, **BLUE_GREEN)
    hooks = [{"hookTargetArn": TASK_HOOK, "lifecycleStages": ["POST_SCALE_UP"]}]
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": hooks})
    await until(aws, "POST_SCALE_UP")
    await aws.cell.clock.advance(3)
    (task,) = [task for task in await aws.cell.all(TASKS) if task.revision == 3]
    assert (task.service, task.group, task.last_status) == ("", "family:web", "RUNNING")
    assert b"HOMEPORT_HOOK" in task.overrides and b"POST_SCALE_UP" in task.overrides
    assert task.started_by == (await primary(aws)).hooks[0].id
    await aws.cell.report(task, "STOPPED", containers={"app": {"status": "STOPPED", "exit_code": exit_code}})
    await aws.cell.clock.advance(600)
    assert (await aws.newest())["status"] == ends


async def test_the_task_of_a_hook_is_stopped_when_nobody_waits_for_it(aws):
    await serving(aws, **BLUE_GREEN)
    hooks = [{"hookTargetArn": TASK_HOOK, "lifecycleStages": ["POST_SCALE_UP"], "timeoutConfiguration": {"timeoutInMinutes": 1}}]
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": hooks})
    await until(aws, "POST_SCALE_UP")
    await aws.cell.clock.advance(90)
    assert (await aws.newest())["status"] == "ROLLBACK_SUCCESSFUL"
    (task,) = [task for task in await aws.cell.all(TASKS) if task.revision == 3]
    assert task.last_status == "STOPPED" and "is over" in task.stopped_reason


async def test_a_deployment_with_as_many_and_as_large_hooks_as_may_be_goes_through_all_its_stages(aws):
    await serving(aws, **BLUE_GREEN)
    many = [hook(*HOOK_STAGES, hookDetails="x" * 16_000) for _ in range(20)]
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": many})
    await aws.cell.clock.advance(600)
    deployment = await primary(aws)
    assert (deployment.rollout_state, len(deployment.hooks)) == ("COMPLETED", 60)
    assert {len(payload["hookDetails"]) for _, payload in aws.cell.hook_targets.calls} == {16_000}


async def test_a_hook_is_called_though_nobody_confirms_a_read(aws):
    await serving(aws, **BLUE_GREEN)
    aws.cell._running.pop(1).cancel()
    tasks = HookTasks(placement=aws.cell.context.placement, ids=aws.cell.context.ids)
    hooks = HookRunner(UnconfirmedStore(aws.cell.store), aws.cell.clock, caller=aws.cell.hook_targets, tasks=tasks, region=records.REGION)
    aws.cell._running.append(asyncio.create_task(hooks.run()))
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("PRE_SCALE_UP")]})
    await until(aws, "BAKE_TIME", seconds=120)


async def test_another_leader_calls_what_the_first_did_not_get_an_answer_from(aws):
    await serving(aws, **BLUE_GREEN)
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "IN_PROGRESS", "callBackDelay": 20}
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("PRE_SCALE_UP")]})
    await aws.cell.clock.advance(1)
    first = aws.cell._running[1]
    first.cancel()
    aws.cell._running.remove(first)
    aws.cell.hook_targets.answers.clear()
    await aws.cell.clock.advance(60)
    assert (await primary(aws)).lifecycle_stage == "PRE_SCALE_UP"
    aws.cell._running.append(asyncio.create_task(aws.cell.new_hooks().run()))
    await aws.cell.clock.advance(5)
    assert (await primary(aws)).lifecycle_stage == "SCALE_UP"
    assert len({payload["executionId"] for _, payload in aws.cell.hook_targets.calls}) == 1


@pytest.mark.parametrize(("stage", "fails"), [("PRE_SCALE_UP", False), ("POST_SCALE_UP", False), ("PRE_SCALE_UP", True), ("POST_SCALE_UP", True)])
async def test_hooks_of_a_rolling_deployment(aws, stage, fails):
    await serving(aws)
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "IN_PROGRESS"}
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook(stage)], "minimumHealthyPercent": 0})
    await aws.cell.clock.advance(120)
    assert await aws.running() == ([1, 1] if stage == "PRE_SCALE_UP" else [2, 2])
    assert (await aws.newest())["lifecycleStage"] == stage
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "FAILED" if fails else "SUCCEEDED"}
    await aws.cell.clock.advance(240)
    assert await aws.running() == ([1, 1] if fails else [2, 2])
    assert (await aws.newest())["status"] == ("ROLLBACK_SUCCESSFUL" if fails else "SUCCESSFUL")


async def test_a_rollback_whose_own_hook_fails_has_failed(aws):
    await serving(aws, **BLUE_GREEN)
    aws.cell.hook_targets.answers[URL] = lambda payload: {"hookStatus": "FAILED"}
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [hook("PRODUCTION_TRAFFIC_SHIFT")]})
    await aws.cell.clock.advance(300)
    described = await aws.newest()
    assert described["status"] == "ROLLBACK_FAILED"
    assert weights(described)[:2] == (100.0, 0.0)
    aws.cell.hook_targets.answers.clear()
    await aws.update(taskDefinition="web:3")
    await aws.cell.clock.advance(900)
    assert await aws.running() == [3, 3]


# -- traffic ---------------------------------------------------------------------------------------------------------------


class Router:
    """A `Traffic` whose weights come into effect when the test says so."""

    def __init__(self):
        self.effective = None

    def in_effect(self, reader, service):
        return self.effective


async def test_no_stage_is_over_before_its_weights_are_in_effect(aws):
    await serving(aws, **CANARY)
    router = Router()
    controller = aws.cell.loop._controllers["deployment"]
    controller._traffic = router
    wanted = tuple(weight for weight in (await primary(aws)).weights if weight.production or weight.test)
    router.effective = wanted
    await aws.update(taskDefinition="web:2")
    for stage, step in (("TEST_TRAFFIC_SHIFT", 0), ("PRODUCTION_TRAFFIC_SHIFT", 1), ("PRODUCTION_TRAFFIC_SHIFT", 2), ("CLEAN_UP", 2)):
        deployment = await until(aws, stage, step)
        assert deployment.rollout_state == "IN_PROGRESS"
        if stage != "CLEAN_UP":
            await aws.cell.clock.advance(400)
            assert await primary(aws) == deployment, "it went on though the traffic did not"
        router.effective = tuple(weight for weight in deployment.weights if weight.production or weight.test)
    await aws.cell.clock.advance(30)
    assert (await primary(aws)).rollout_state == "COMPLETED"
