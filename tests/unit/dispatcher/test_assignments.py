"""What a session sends next, as a table of stored against sent."""

from __future__ import annotations

import pytest

from homeport.dispatcher.assignments import assign, concerns, held, to_stop
from homeport.testing import records

INSTANCE = records.container_instance().key
ELSEWHERE = {"container_instance_id": "2" * 32}

CASES = [
    # last status, desired status, fields, sent before, expected
    ("PENDING", "RUNNING", {}, None, "run"),
    ("RUNNING", "RUNNING", {}, None, "run"),
    ("PENDING", "RUNNING", {}, "RUNNING", ""),
    ("PROVISIONING", "RUNNING", {}, None, ""),
    ("PENDING", "STOPPED", {}, None, "stop"),
    ("RUNNING", "STOPPED", {}, "RUNNING", "stop"),
    ("RUNNING", "STOPPED", {}, "STOPPED", ""),
    ("PROVISIONING", "STOPPED", {}, None, "stop"),
    ("STOPPED", "STOPPED", {}, "STOPPED", "gone"),
    ("STOPPED", "STOPPED", {}, None, ""),
    ("RUNNING", "RUNNING", ELSEWHERE, "RUNNING", "gone"),
    ("RUNNING", "RUNNING", ELSEWHERE, None, ""),
]


@pytest.mark.parametrize(("last", "desired", "fields", "sent", "expected"), CASES)
def test_what_is_sent(last, desired, fields, sent, expected):
    task = records.task(last_status=last, desired_status=desired, **fields)
    wanted = assign({task.key: task}, {task.key: sent} if sent else {}, instance_key=INSTANCE)
    assert {"run": wanted.run, "stop": wanted.stop, "gone": wanted.gone}.get(expected, ()) or expected == ""
    assert len(wanted.run) + len(wanted.stop) + len(wanted.gone) == bool(expected)


def test_a_deleted_task_is_forgotten():
    assert assign({"a": None, "b": None}, {"a": "RUNNING"}, instance_key=INSTANCE).gone == ("a",)


def test_a_manifest_lists_what_the_agent_may_hold():
    tasks = [records.task(number, last_status=status) for number, status in enumerate(("PROVISIONING", "PENDING", "RUNNING", "STOPPING", "STOPPED"))]
    assert [task.last_status for task in held(tasks)] == ["PENDING", "RUNNING", "STOPPING"]


def test_strays_to_stop():
    wanted, unwanted = records.task(1), records.task(2, desired_status="STOPPED")
    moved, ended = records.task(3, **ELSEWHERE), records.task(4, last_status="STOPPED")
    candidates = {task.key: task for task in (wanted, unwanted, moved, ended)} | {"nobody's": None}
    assert to_stop(candidates, instance_key=INSTANCE) == (unwanted.key, moved.key, ended.key, "nobody's")


def test_an_agents_own_reports_wake_nobody():
    pending = records.task(last_status="PENDING", observed_status="")
    running = records.task()
    assert not concerns(pending, running)
    assert not concerns(running, records.task(health_status="HEALTHY"))
    assert concerns(None, pending)
    assert concerns(running, None)
    assert concerns(running, records.task(desired_status="STOPPED"))
    assert concerns(records.task(last_status="PROVISIONING"), pending)
    assert concerns(records.task(desired_status="STOPPED"), records.task(desired_status="STOPPED", last_status="STOPPED"))
    assert concerns(records.task(container_instance_id=""), running)
