"""Steps, weights and stages of strategies that shift traffic, as tables."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from homeport.model.ecs import deployment as model
from homeport.model.ecs.deployment import LifecycleHook, StageChange, TrafficWeight
from homeport.planner import lifecycle_hook
from homeport.planner.deployment_configuration import Canary, Configuration, Linear
from homeport.planner.service import ServiceView
from homeport.planner.traffic_shift import advance, requested_count, shares, shown_stage, wake_at
from homeport.testing import records

BLUE, GREEN = "1" * 19, "2" * 19
NOW = records.NOW + 100


def deployment(**fields):
    weights = (TrafficWeight(service_revision_id=GREEN), TrafficWeight(service_revision_id=BLUE, production=100.0))
    given = {"id": GREEN, "strategy": "BLUE_GREEN", "blue_revision_id": BLUE, "weights": weights, "source_revision_ids": (BLUE,), **fields}
    if given.get("lifecycle_stage"):
        given.setdefault("stage_changes", (StageChange(stage=given["lifecycle_stage"], at=records.NOW),))
    return records.deployment(**given)


def configured(configuration):
    return records.service(deployment_configuration=msgspec.json.encode(configuration))


def moved(item, configuration, tasks=(), now=NOW):
    others = (records.deployment(id=BLUE, status="ACTIVE"),)
    view = ServiceView(service=configured(configuration), deployments=(item, *others), tasks=tuple(tasks))
    return advance(view, item, reached=False, healthy_after_seconds=40.0, now=now)


@pytest.mark.parametrize("tenths", [30, 31, 99, 100, 250, 333, 334, 500, 999, 1000])
def test_linear_steps_are_equal_but_for_the_last_and_end_at_100(tenths):
    asked = Configuration(strategy="LINEAR", linear_configuration=Linear(step_percent=tenths / 10))
    found = shares(deployment(strategy="LINEAR"), asked)
    assert len(found) == -(-1000 // tenths)
    assert found[-1] == 100.0
    assert [round(later * 10) - round(earlier * 10) for earlier, later in itertools.pairwise((0.0, *found[:-1]))] == [tenths] * (len(found) - 1)


@pytest.mark.parametrize(("percent", "expected"), [(0.1, (0.1, 100.0)), (5.0, (5.0, 100.0)), (99.9, (99.9, 100.0)), (100.0, (100.0,))])
def test_canary_steps(percent, expected):
    asked = Configuration(strategy="CANARY", canary_configuration=Canary(canary_percent=percent))
    assert shares(deployment(strategy="CANARY"), asked) == expected


def test_one_step_where_nobody_shares():
    asked = Configuration(strategy="LINEAR", linear_configuration=Linear())
    assert shares(deployment(strategy="LINEAR", blue_revision_id=""), asked) == (100.0,)
    assert shares(deployment(strategy="LINEAR", rollback_of="3" * 19), asked) == (100.0,)


LINEAR = {"strategy": "LINEAR", "bakeTimeInMinutes": 2, "linearConfiguration": {"stepPercent": 50.0, "stepBakeTimeInMinutes": 1}}
HEALTHY = [records.task(number, deployment_id=GREEN) for number in (1, 2)]


@pytest.mark.parametrize(
    ("stage", "production", "following", "weights"),
    [
        ("PRE_SCALE_UP", 0.0, "SCALE_UP", (0.0, 100.0, 0.0)),
        ("SCALE_UP", 0.0, "POST_SCALE_UP", (0.0, 100.0, 0.0)),
        ("POST_SCALE_UP", 0.0, "TEST_TRAFFIC_SHIFT", (0.0, 100.0, 100.0)),
        ("TEST_TRAFFIC_SHIFT", 0.0, "POST_TEST_TRAFFIC_SHIFT", (0.0, 100.0, 0.0)),
        ("POST_TEST_TRAFFIC_SHIFT", 0.0, "PRE_PRODUCTION_TRAFFIC_SHIFT", (0.0, 100.0, 0.0)),
        ("PRE_PRODUCTION_TRAFFIC_SHIFT", 0.0, "PRODUCTION_TRAFFIC_SHIFT", (50.0, 50.0, 0.0)),
        ("PRE_PRODUCTION_TRAFFIC_SHIFT", 50.0, "PRODUCTION_TRAFFIC_SHIFT", (100.0, 0.0, 0.0)),
        ("PRODUCTION_TRAFFIC_SHIFT", 100.0, "POST_PRODUCTION_TRAFFIC_SHIFT", (100.0, 0.0, 0.0)),
        ("POST_PRODUCTION_TRAFFIC_SHIFT", 100.0, "BAKE_TIME", (100.0, 0.0, 0.0)),
    ],
)
def test_what_follows_a_stage_and_what_it_wants_of_the_traffic(stage, production, following, weights):
    given = (TrafficWeight(service_revision_id=GREEN, production=production), TrafficWeight(service_revision_id=BLUE, production=100.0 - production))
    after = moved(deployment(strategy="LINEAR", lifecycle_stage=stage, weights=given, step=int(production > 0)), LINEAR, HEALTHY)
    assert after.lifecycle_stage == following
    green, blue = after.weights
    assert (green.production, blue.production, green.test) == weights
    assert after.stage_changes[-1] == StageChange(stage=following, at=NOW)


@pytest.mark.parametrize(
    ("stage", "production", "seconds", "following"),
    [
        ("PRODUCTION_TRAFFIC_SHIFT", 50.0, 60, "PRE_PRODUCTION_TRAFFIC_SHIFT"),
        ("BAKE_TIME", 100.0, 120, "CLEAN_UP"),
    ],
)
def test_bake_times_begin_when_the_stage_is_done_and_are_waited_for(stage, production, seconds, following):
    given = (TrafficWeight(service_revision_id=GREEN, production=production), TrafficWeight(service_revision_id=BLUE, production=100.0 - production))
    begun = moved(deployment(strategy="LINEAR", lifecycle_stage=stage, weights=given, step=1), LINEAR, HEALTHY)
    assert (begun.lifecycle_stage, begun.bake_started_at) == (stage, NOW)
    asked = Configuration(strategy="LINEAR", bake_time_in_minutes=2, linear_configuration=Linear(50.0, 1))
    assert wake_at(begun, asked) == NOW + seconds
    assert moved(begun, LINEAR, HEALTHY, now=NOW + seconds - 0.01) == begun
    assert moved(begun, LINEAR, HEALTHY, now=NOW + seconds).lifecycle_stage == following


@pytest.mark.parametrize(
    ("blue", "others", "following"),
    [
        ({}, 0, "PRE_SCALE_UP"),
        ({}, 1, ""),
        ({"crashes": 3}, 1, ""),
        ({"crashes": 4}, 1, "PRE_SCALE_UP"),
        ({"failures_to_start": 2}, 1, ""),
        ({"failures_to_start": 3}, 1, "PRE_SCALE_UP"),
    ],
)
def test_a_reconciliation_waits_for_blue_to_stand_in_unless_it_cannot(blue, others, following):
    item = deployment(lifecycle_stage="RECONCILE_SERVICE")
    deployments = (item, records.deployment(id=BLUE, status="ACTIVE", **blue), records.deployment(id="3" * 19, status="ACTIVE", crashes=9))
    tasks = tuple(records.task(number, deployment_id="3" * 19, last_status="RUNNING") for number in range(others))
    view = ServiceView(service=configured({"strategy": "BLUE_GREEN"}), deployments=deployments, tasks=tasks)
    after = advance(view, item, reached=False, healthy_after_seconds=40.0, now=NOW)
    assert after.lifecycle_stage == (following or "RECONCILE_SERVICE")


def test_a_bake_is_not_over_while_green_is_short():
    given = (TrafficWeight(service_revision_id=GREEN, production=100.0), TrafficWeight(service_revision_id=BLUE))
    item = deployment(lifecycle_stage="BAKE_TIME", weights=given, bake_started_at=records.NOW - 9999)
    assert moved(item, {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1}, HEALTHY[:1]) == item


def test_a_bake_is_not_over_before_the_alarms_were_read_once():
    given = (TrafficWeight(service_revision_id=GREEN, production=100.0), TrafficWeight(service_revision_id=BLUE))
    item = deployment(lifecycle_stage="BAKE_TIME", weights=given, bake_started_at=records.NOW - 9999, alarms=model.AlarmMonitor(status="MONITORING"))
    asked = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1}
    assert moved(item, asked, HEALTHY) == item
    read = msgspec.structs.replace(item, alarms=model.AlarmMonitor(status="MONITORING", seen_at=NOW))
    assert moved(read, asked, HEALTHY).lifecycle_stage == "CLEAN_UP"


@pytest.mark.parametrize("tenths", [1, 299, 334, 701, 999])
def test_blue_keeps_the_rest_to_the_tenth(tenths):
    asked = {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": tenths / 10, "canaryBakeTimeInMinutes": 1}}
    after = moved(deployment(strategy="CANARY", lifecycle_stage="PRE_PRODUCTION_TRAFFIC_SHIFT"), asked, HEALTHY)
    assert [weight.production for weight in after.weights] == [tenths / 10, (1000 - tenths) / 10]


@pytest.mark.parametrize(
    ("production", "test", "path"),
    [
        (0.0, 0.0, ["SCALE_UP", "CLEAN_UP"]),
        (0.0, 100.0, ["SCALE_UP", "TEST_TRAFFIC_SHIFT", "CLEAN_UP"]),
        (10.0, 100.0, ["SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT", "CLEAN_UP"]),
        (100.0, 0.0, ["SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT", "CLEAN_UP"]),
    ],
)
def test_the_way_back(production, test, path):
    failed = deployment(
        status="ACTIVE",
        rollout_state="FAILED",
        weights=(
            TrafficWeight(service_revision_id=GREEN, production=production, test=test),
            TrafficWeight(service_revision_id=BLUE, production=100.0 - production),
        ),
    )
    back = records.deployment(id="3" * 19, service_revision_id=BLUE, strategy="CANARY", rollback_of=GREEN, source_revision_ids=(GREEN, BLUE))
    tasks = [records.task(1, deployment_id=BLUE)]
    for number, stage in enumerate(path):
        view = ServiceView(service=configured({"strategy": "CANARY"}), deployments=(back, failed), tasks=tuple(tasks), undone=failed)
        back = advance(view, back, reached=False, healthy_after_seconds=40.0, now=NOW + number)
        assert back.lifecycle_stage == stage
    assert {item.service_revision_id: (item.production, item.test) for item in back.weights} == {BLUE: (100.0, 0.0), GREEN: (0.0, 0.0)}


def test_what_is_requested_and_shown():
    before, amid, over = deployment(lifecycle_stage="PRE_SCALE_UP"), deployment(lifecycle_stage="BAKE_TIME"), deployment(lifecycle_stage="CLEAN_UP")
    assert [(requested_count(item, GREEN, 3), requested_count(item, BLUE, 3)) for item in (before, amid, over)] == [(0, 3), (3, 3), (3, 0)]
    pre = deployment(lifecycle_stage="PRE_PRODUCTION_TRAFFIC_SHIFT")
    assert shown_stage(pre) == "POST_TEST_TRAFFIC_SHIFT"
    assert shown_stage(msgspec.structs.replace(pre, step=1)) == "PRODUCTION_TRAFFIC_SHIFT"


# -- hooks -----------------------------------------------------------------------------------------------------------------


def run(**fields):
    given = {"target_type": "AWS_LAMBDA", "target": "http://100.64.0.1/", "stage": "BAKE_TIME", "status": "IN_PROGRESS"}
    return LifecycleHook(**{"id": "h", "expires_at": NOW + 60, "timeout_action": "ROLLBACK", "call_at": NOW, **given, **fields})


@pytest.mark.parametrize(
    ("answer", "status", "again"),
    [
        ({"hookStatus": "SUCCEEDED"}, "SUCCEEDED", 0.0),
        ({"hookStatus": "FAILED"}, "FAILED", 0.0),
        ({"hookStatus": "IN_PROGRESS"}, "IN_PROGRESS", NOW + 30),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": 90.5}, "IN_PROGRESS", NOW + 90.5),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": 0}, "IN_PROGRESS", NOW + 1),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": -1}, "FAILED", 0.0),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": True}, "FAILED", 0.0),
        ({"hookStatus": "IN_PROGRESS", "callBackDelay": 1e12}, "FAILED", 0.0),
        ({"hookStatus": "IN_PROGRESS", "hookDetails": "x" * 16_382}, "IN_PROGRESS", NOW + 30),
        ({"hookStatus": "IN_PROGRESS", "hookDetails": "x" * 16_383}, "FAILED", 0.0),
        ({"hookStatus": "succeeded"}, "FAILED", 0.0),
        ({}, "FAILED", 0.0),
        (None, "FAILED", 0.0),
        ([{"hookStatus": "SUCCEEDED"}], "FAILED", 0.0),
    ],
)
def test_answers(answer, status, again):
    after = lifecycle_hook.answered(run(), answer, NOW)
    assert (after.status, after.call_at) == (status, again)
    assert lifecycle_hook.is_failed(after) == (status == "FAILED")


def test_three_calls_without_an_answer():
    once = lifecycle_hook.unanswered(run(), "nobody", NOW)
    twice = lifecycle_hook.unanswered(once, "nobody", NOW + 5)
    assert [(item.status, item.call_at) for item in (once, twice)] == [("IN_PROGRESS", NOW + 5), ("IN_PROGRESS", NOW + 15)]
    assert lifecycle_hook.unanswered(twice, "nobody", NOW + 15).status == "FAILED"
    between = lifecycle_hook.answered(twice, {"hookStatus": "IN_PROGRESS"}, NOW + 15)
    assert lifecycle_hook.unanswered(between, "nobody", NOW + 45).status == "IN_PROGRESS"


@pytest.mark.parametrize(("action", "failed"), [("ROLLBACK", True), ("CONTINUE", False)])
def test_timeouts(action, failed):
    waiting = deployment(lifecycle_stage="BAKE_TIME", hooks=(run(timeout_action=action),))
    assert lifecycle_hook.expired(waiting, NOW + 59) == waiting and not lifecycle_hook.passed(waiting)
    assert wake_at(waiting, Configuration(strategy="BLUE_GREEN")) == NOW + 60
    over = lifecycle_hook.expired(waiting, NOW + 60)
    assert over.hooks[0].status == model.TIMED_OUT
    assert (lifecycle_hook.failed_run(over) is not None, lifecycle_hook.passed(over)) == (failed, not failed)


def test_a_deployment_remembers_the_open_runs_and_the_newest():
    old = tuple(run(id=f"old{number}", status="SUCCEEDED") for number in range(lifecycle_hook.RUNS_MAX))
    item = deployment(lifecycle_stage="POST_SCALE_UP", hooks=(run(id="open"), *old))
    hooks = [{"hookTargetArn": "http://100.64.0.1/", "lifecycleStages": ["POST_SCALE_UP"]}] * 3
    asked = msgspec.convert({"lifecycleHooks": hooks}, Configuration)
    after = lifecycle_hook.entered(item, asked, NOW)
    assert len(after.hooks) == lifecycle_hook.RUNS_MAX
    assert {"open", "old59"} <= {found.id for found in after.hooks}
    assert len({found.id for found in after.hooks}) == len(after.hooks)
