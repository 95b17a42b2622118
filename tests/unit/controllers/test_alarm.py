"""Alarms that stop a deployment: what is read of them, and what follows."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from tests.unit.controllers.test_deployment import Aws

from homeport.config import Settings
from homeport.controllers.alarm import Alarms, AlarmSourceError, DocumentSource, alarm_states, keep_alarms
from homeport.model.ecs.deployment import AlarmMonitor
from homeport.planner.alarm import AlarmState, observe
from homeport.store.tables import DEPLOYMENTS
from homeport.testing import records
from homeport.testing.store import UnconfirmedStore

ALARMS = {"alarmNames": ["slow", "errors"], "enable": True, "rollback": True}
SETTINGS = Settings(alarm_source="told by the test", alarm_poll_seconds=2.0)


def test_the_forms_of_a_document():
    listed = {
        "MetricAlarms": [{"AlarmName": "slow", "StateValue": "ALARM", "Period": 60, "EvaluationPeriods": 3}],
        "CompositeAlarms": [{"AlarmName": "all", "StateValue": "OK"}],
    }
    assert alarm_states(json.dumps(listed).encode()) == {"slow": AlarmState(True, 180.0), "all": AlarmState(False)}
    assert alarm_states(b'{"slow":"ALARM","errors":"INSUFFICIENT_DATA"}') == {"slow": AlarmState(True), "errors": AlarmState(False)}


def test_an_alarm_is_known_to_its_own_account_and_one_of_no_account_to_the_first():
    arn = "arn:aws:cloudwatch:eu-west-1:222222222222:alarm:slow"
    listed = [{"AlarmName": "slow", "AlarmArn": arn, "StateValue": "ALARM"}, {"AlarmName": "own", "StateValue": "OK"}]
    states = alarm_states(json.dumps({"MetricAlarms": listed}).encode()) | alarm_states(b'{"333333333333/own":"ALARM"}')
    read, names = Alarms(states, "111111111111"), ["slow", "own", "none", "333333333333/own"]
    assert read.of("222222222222", names) == {"slow": AlarmState(True)}
    assert read.of("333333333333", names) == {"own": AlarmState(True)}
    assert read.of("444444444444", names) == {}
    assert read.of("111111111111", ["slow", "own"]) == {"slow": AlarmState(True), "own": AlarmState(False)}
    assert Alarms(states, "").of("444444444444", ["own"]) == {"own": AlarmState(False)}
    assert Alarms({**states, "111111111111/own": AlarmState(True)}, "111111111111").of("111111111111", ["own"]) == {"own": AlarmState(True)}


@pytest.mark.parametrize("document", [b"", b"[]", b"<html>", b'{"MetricAlarms":[{}]}', b'{"MetricAlarms":7}', b'{"a":1}'])
def test_documents_that_are_refused(document):
    with pytest.raises(AlarmSourceError):
        alarm_states(document)


async def test_a_file_is_read_and_a_missing_one_is_an_error(tmp_path):
    path = tmp_path / "alarms.json"
    with pytest.raises(AlarmSourceError):
        await DocumentSource(str(path)).states()
    path.write_text('{"slow": "OK"}')
    assert await DocumentSource(str(path)).states() == {"slow": AlarmState(False)}


def test_what_is_seen_is_written_once():
    first = observe(AlarmMonitor(status="MONITORING"), ["slow", "gone"], {"slow": AlarmState(False, 60.0)}, now=5.0)
    assert (first.seen_at, first.period_seconds, first.ignored, "gone" in first.trouble) == (5.0, 60.0, False, True)
    assert observe(first, ["slow", "gone"], {"slow": AlarmState(False, 60.0)}, now=9.0) == first
    later = observe(first, ["slow", "gone"], {"slow": AlarmState(True, 60.0)}, now=9.0)
    assert (later.in_alarm, later.ignored) == (("slow",), False)


class Told:
    """A source that the test speaks through."""

    def __init__(self):
        self.known = {"slow": AlarmState(False, 30.0), "errors": AlarmState(False, 10.0)}
        self.broken = False

    async def states(self):
        if self.broken:
            raise AlarmSourceError("no answer")
        return self.known


@pytest.fixture
async def told(make_cell):
    source = Told()
    cell = await make_cell(records.task_definition(revision=2), records.task_definition(revision=3), settings=SETTINGS)
    aws = Aws(cell)
    running = asyncio.create_task(keep_alarms(cell.store, cell.clock, SETTINGS, source=source))
    yield aws, source
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_alarms_are_read_though_nobody_confirms_what_watches_them(make_cell):
    source = Told()
    aws = Aws(await make_cell(records.task_definition(revision=2), settings=SETTINGS))
    running = asyncio.create_task(keep_alarms(UnconfirmedStore(aws.cell.store), aws.cell.clock, SETTINGS, source=source))
    await completed(aws)
    running.cancel()


async def completed(aws):
    await aws.create(alarms=ALARMS)
    await aws.cell.clock.advance(120)
    assert (await aws.newest())["status"] == "SUCCESSFUL"


async def test_an_alarm_rolls_a_deployment_back(told):
    aws, source = told
    await completed(aws)
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(5)
    source.known = {**source.known, "slow": AlarmState(True, 30.0)}
    await aws.cell.clock.advance(3)
    shown = await aws.newest()
    assert shown["alarms"] == {"status": "TRIGGERED", "alarmNames": ["slow", "errors"], "triggeredAlarmNames": ["slow"]}
    assert shown["status"].startswith("ROLLBACK_")
    assert [text for text in await aws.messages() if text.endswith("deployment failed: alarm detected.")]
    await aws.cell.clock.advance(120)
    assert ((await aws.newest())["status"], await aws.running()) == ("ROLLBACK_SUCCESSFUL", [1, 1])


async def test_one_in_alarm_at_the_start_makes_all_be_ignored(told):
    aws, source = told
    await completed(aws)
    source.known = {**source.known, "slow": AlarmState(True, 30.0)}
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(5)
    source.known = {name: AlarmState(True, 30.0) for name in source.known}
    await aws.cell.clock.advance(100)
    shown = await aws.newest()
    assert (shown["status"], shown["alarms"]["status"], await aws.running()) == ("SUCCESSFUL", "DISABLED", [2, 2])


async def test_the_bake_time_follows_the_longest_period_and_an_alarm_in_it_still_counts(told):
    aws, source = told
    await completed(aws)
    await aws.update(taskDefinition="web:2")
    while not (newest := max(await aws.cell.all(DEPLOYMENTS), key=lambda item: item.created_at)).bake_started_at:
        await aws.cell.clock.advance(1)
    await aws.cell.clock.advance(25)
    assert ((await aws.newest())["status"], newest.alarms.period_seconds) == ("IN_PROGRESS", 30.0)
    source.known = {**source.known, "errors": AlarmState(True, 10.0)}
    await aws.cell.clock.advance(3)
    assert (await aws.newest())["status"] == "ROLLBACK_IN_PROGRESS"


async def test_alarms_that_cannot_be_read_hold_the_end_of_a_deployment_up(told):
    aws, source = told
    await completed(aws)
    source.broken = True
    await aws.update(taskDefinition="web:2")
    await aws.cell.clock.advance(200)
    assert ((await aws.newest())["status"], await aws.running()) == ("IN_PROGRESS", [2, 2])
    source.broken = False
    await aws.cell.clock.advance(60)
    assert (await aws.newest())["status"] == "SUCCESSFUL"
