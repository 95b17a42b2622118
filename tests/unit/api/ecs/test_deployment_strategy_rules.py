"""What CreateService and UpdateService take and refuse of strategies and lifecycle hooks."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.ecs.test_service import Caller

from homeport.errors import InvalidParameterError, UnsupportedFeatureError
from homeport.store.tables import DEPLOYMENTS, SERVICE_REVISIONS, SERVICES
from homeport.testing import records
from homeport.testing.cell import MemoryCell

URL = "http://100.64.0.1/hook"
TASK = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:task-definition/web:1"
BLUE_GREEN = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5}


@pytest.fixture
async def aws():
    cell = await MemoryCell.open()
    inactive = records.task_definition(revision=3, status="INACTIVE")
    await cell.put(records.cluster(), records.container_instance(), records.task_definition(), records.task_definition(revision=2), inactive)
    yield Caller(cell)
    await cell.close()


def hooks(**members):
    return {**BLUE_GREEN, "lifecycleHooks": [{"hookTargetArn": URL, "lifecycleStages": ["POST_SCALE_UP"], **members}]}


@pytest.mark.parametrize(
    ("configuration", "shown"),
    [
        (BLUE_GREEN, {}),
        ({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0}, {}),
        ({"strategy": "LINEAR"}, {"linearConfiguration": {"stepPercent": 10.0, "stepBakeTimeInMinutes": 6}}),
        (
            {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 3.0}},
            {"linearConfiguration": {"stepPercent": 3.0, "stepBakeTimeInMinutes": 6}},
        ),
        ({"strategy": "CANARY"}, {"canaryConfiguration": {"canaryPercent": 5.0, "canaryBakeTimeInMinutes": 10}}),
        ({"strategy": "CANARY", "bakeTimeInMinutes": 1440, "canaryConfiguration": {"canaryPercent": 0.1, "canaryBakeTimeInMinutes": 0}}, {}),
        (hooks(), {}),
        (hooks(hookTargetArn=TASK, hookDetails={"a": [1, None]}), {}),
        (hooks(targetType="PAUSE", hookTargetArn=None, timeoutConfiguration={"timeoutInMinutes": 20160, "action": "CONTINUE"}), {}),
        ({"lifecycleHooks": [{"hookTargetArn": URL, "lifecycleStages": ["PRE_SCALE_UP", "POST_SCALE_UP"]}]}, {}),
    ],
)
async def test_what_is_taken_and_shown(aws, configuration, shown):
    given = msgspec.json.decode(msgspec.json.encode(configuration))
    for hook in given.get("lifecycleHooks", []):
        if hook.get("hookTargetArn", 1) is None:
            del hook["hookTargetArn"]
    service = await aws.create(deploymentConfiguration=given)
    assert {**given, **shown}.items() <= service["deploymentConfiguration"].items()


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"strategy": "BLUE_GREEN"}, "bakeTimeInMinutes must be specified"),
        ({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": -1}, "between 0 and 1440"),
        ({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1441}, "between 0 and 1440"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 2.9}}, "multiple of 0.1 between 3.0 and 100.0"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 100.1}}, "multiple of 0.1"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 3.05}}, "multiple of 0.1"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepBakeTimeInMinutes": 1441}}, "between 0 and 1440"),
        ({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0.05}}, "multiple of 0.1 between 0.1 and 100.0"),
        ({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0}}, "multiple of 0.1"),
        ({"strategy": "CANARY", "canaryConfiguration": {"canaryBakeTimeInMinutes": -1}}, "between 0 and 1440"),
        ({"strategy": "CANARY", "linearConfiguration": {}}, "linearConfiguration is only valid when the deployment strategy is LINEAR"),
        ({"canaryConfiguration": {"canaryPercent": 5}}, "canaryConfiguration is only valid when the deployment strategy is CANARY"),
        ({"bakeTimeInMinutes": 3}, "bakeTimeInMinutes is only valid"),
        (
            {
                **BLUE_GREEN,
                "earlySuccessCriteria": {"enable": True, "healthyPercent": 100, "sourceServiceRevisionCleanup": "BLOCKING"},
            },
            "earlySuccessCriteria is only valid when the deployment strategy is ROLLING",
        ),
        ({**BLUE_GREEN, "lifecycleHooks": [{"lifecycleStages": ["POST_SCALE_UP"]}]}, "hookTargetArn must be specified"),
        ({**BLUE_GREEN, "lifecycleHooks": [{"hookTargetArn": URL}]}, "at least one stage"),
        (hooks(lifecycleStages=[]), "at least one stage"),
        (hooks(lifecycleStages=["POST_SCALE_UP", "POST_SCALE_UP"]), "a stage twice"),
        (hooks(targetType="PAUSE"), "not applicable"),
        (
            {**BLUE_GREEN, "lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["PRODUCTION_TRAFFIC_SHIFT"]}]},
            "cannot be configured at the stages TEST_TRAFFIC_SHIFT and PRODUCTION_TRAFFIC_SHIFT",
        ),
        (hooks(hookTargetArn="somewhere"), "neither an http"),
        (hooks(hookTargetArn="ftp://100.64.0.1/"), "neither an http"),
        (hooks(hookTargetArn=TASK.replace("web:1", "web:9")), "was not found"),
        (hooks(hookTargetArn=TASK.replace("web:1", "web:3")), "inactive"),
        (hooks(hookTargetArn=TASK.replace("web:1", "web")), "names no revision"),
        (hooks(hookTargetArn=TASK.replace("web:1", "web:x")), "Invalid revision number"),
        (hooks(hookTargetArn=URL + "x" * 2048), "2048 characters"),
        (hooks(hookDetails="x" * 16_383), "hookDetails may have 16384 bytes"),
        ({**BLUE_GREEN, "lifecycleHooks": [{"hookTargetArn": URL, "lifecycleStages": ["PRE_SCALE_UP"]}] * 21}, "may not be more than 20"),
        (
            {"lifecycleHooks": [{"hookTargetArn": URL, "lifecycleStages": ["TEST_TRAFFIC_SHIFT"]}]},
            "ROLLING strategy does not come to the stage TEST_TRAFFIC_SHIFT",
        ),
    ],
)
async def test_what_is_refused_changes_nothing(aws, configuration, words):
    for call in (aws.create, aws.update):
        before = [await aws.cell.all(table) for table in (SERVICES, DEPLOYMENTS, SERVICE_REVISIONS)]
        with pytest.raises(InvalidParameterError, match=words):
            await call(deploymentConfiguration=configuration)
        assert before == [await aws.cell.all(table) for table in (SERVICES, DEPLOYMENTS, SERVICE_REVISIONS)]
        if not before[0]:
            await aws.create()


async def test_there_are_no_lambda_functions(aws):
    with pytest.raises(UnsupportedFeatureError, match="no Lambda functions"):
        await aws.create(deploymentConfiguration=hooks(hookTargetArn="arn:aws:lambda:us-east-1:123456789012:function:check"))


async def test_another_strategy_does_away_with_what_was_only_the_old_ones(aws):
    await aws.create(deploymentConfiguration={"strategy": "LINEAR", "bakeTimeInMinutes": 7})
    rolling = (await aws.update(deploymentConfiguration={"strategy": "ROLLING"}))["deploymentConfiguration"]
    assert (rolling["strategy"], rolling["bakeTimeInMinutes"], "linearConfiguration" in rolling) == ("ROLLING", 0, False)
    kept = (await aws.update(deploymentConfiguration={"minimumHealthyPercent": 50}))["deploymentConfiguration"]
    assert kept["strategy"] == "ROLLING"


async def test_hooks_that_the_new_strategy_never_comes_to_must_be_given_up_with_it(aws):
    await aws.create(deploymentConfiguration=hooks(lifecycleStages=["TEST_TRAFFIC_SHIFT"]))
    with pytest.raises(InvalidParameterError, match="does not come to the stage"):
        await aws.update(deploymentConfiguration={"strategy": "ROLLING"})
    service = await aws.update(deploymentConfiguration={"strategy": "ROLLING", "lifecycleHooks": []})
    assert service["deploymentConfiguration"]["lifecycleHooks"] == []


async def test_no_hooks_on_a_daemon(aws):
    with pytest.raises(InvalidParameterError, match="not supported with the DAEMON"):
        await aws.create(schedulingStrategy="DAEMON", desiredCount=None, deploymentConfiguration={"lifecycleHooks": hooks()["lifecycleHooks"]})


async def test_only_the_controller_ecs_shifts_traffic(aws):
    for configuration in ({"strategy": "CANARY"}, {"lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["PRE_SCALE_UP"]}]}):
        with pytest.raises(InvalidParameterError, match="only valid with the deployment controller ECS|not supported with an EXTERNAL"):
            await aws.create(deploymentController={"type": "EXTERNAL"}, taskDefinition=None, deploymentConfiguration=configuration)
