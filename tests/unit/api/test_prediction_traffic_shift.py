"""PredictServiceUpdate for services whose strategy shifts traffic, against what the controllers then really do."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.unit.api.test_prediction import cluster, definition, ecs, made_as_planned, own

from homeport.config import Settings

HOOK = {"hookTargetArn": "http://100.64.0.1/", "lifecycleStages": ["POST_SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT"]}
PAUSE = {"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}
STRATEGIES: list[dict[str, Any]] = [
    {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 7},
    {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 40.0, "stepBakeTimeInMinutes": 2}},
    {"strategy": "CANARY", "bakeTimeInMinutes": 1, "canaryConfiguration": {"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 3}},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda item: item["strategy"])
async def test_a_plan_s_steps_are_those_that_are_made_in_that_order(strategy):
    for seed in range(4):
        chance = random.Random(seed)
        cell = await cluster(chance, instances=4, services=1)
        try:
            await ecs(cell, "RegisterTaskDefinition", **definition("s0", chance.choice([128, 512]), 256))
            configuration = {**strategy, "lifecycleHooks": [HOOK] if chance.random() < 0.5 else []}
            update: dict[str, Any] = {"service": "s0", "taskDefinition": "s0", "deploymentConfiguration": configuration}
            if chance.random() < 0.5:
                update["desiredCount"] = chance.randint(1, 5)
            await made_as_planned(cell, update, seconds=1800)
        finally:
            await cell.close()


async def test_a_pause_is_taken_for_one_that_is_ended_at_once_and_a_long_bake_is_unfinished():
    cell = await cluster(random.Random(2), instances=4, services=1)
    try:
        configuration = {**STRATEGIES[0], "lifecycleHooks": [PAUSE]}
        update = {"service": "s0", "forceNewDeployment": True, "deploymentConfiguration": configuration}
        told = await own(cell, "PredictServiceUpdate", request=update)
        assert told["outcome"] == "COMPLETED"
        assert told["afterSeconds"] == pytest.approx(7 * 60 + 40, abs=30)
        long = {**update, "deploymentConfiguration": {**configuration, "bakeTimeInMinutes": 120}}
        assert (await own(cell, "PredictServiceUpdate", request=long))["outcome"] == "UNFINISHED"
    finally:
        await cell.close()


@pytest.mark.parametrize("strategy", [{}, *STRATEGIES])
async def test_alarms_are_taken_for_quiet_ones(strategy):
    cell = await cluster(random.Random(2), instances=4, services=1, settings=Settings(alarm_source="nowhere"))
    try:
        alarms = {"alarmNames": ["slow"], "enable": True, "rollback": True}
        update = {"service": "s0", "forceNewDeployment": True, "deploymentConfiguration": {**strategy, "alarms": alarms}}
        told = await own(cell, "PredictServiceUpdate", request=update)
        assert told["outcome"] == "COMPLETED", told["message"]
    finally:
        await cell.close()
