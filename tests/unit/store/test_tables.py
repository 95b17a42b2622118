"""The declared tables: guards, keys and indexes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from homeport.errors import InvalidTransitionError
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import task as task_model
from homeport.store.sqlite import RESERVED
from homeport.store.tables import CONTAINER_INSTANCES, TABLES, TASKS, guard_container_instance, guard_task
from homeport.testing import records


def test_names_are_used_once_and_not_by_the_backend():
    names = [table.name for table in TABLES]
    assert len(set(names)) == len(names)
    assert not RESERVED.intersection(names)


@pytest.mark.parametrize("before", task_model.ORDER)
@pytest.mark.parametrize("after", task_model.ORDER)
def test_a_task_only_moves_forward(before: str, after: str):
    old, new = records.task(last_status=before), records.task(last_status=after)
    if task_model.ORDER.index(after) < task_model.ORDER.index(before):
        with pytest.raises(InvalidTransitionError, match=f"from {before} to {after}"):
            guard_task(old, new)
    else:
        guard_task(old, new)
    guard_task(None, new)
    guard_task(old, None)


def test_a_task_wanted_stopped_stays_so():
    stopped = records.task(desired_status="STOPPED")
    guard_task(records.task(), stopped)
    with pytest.raises(InvalidTransitionError, match="may not leave STOPPED"):
        guard_task(stopped, records.task())


@pytest.mark.parametrize("before", instance_model.TRANSITIONS)
@pytest.mark.parametrize("after", instance_model.TRANSITIONS)
def test_an_instance_moves_along_its_table(before: str, after: str):
    old = records.container_instance(status=before)
    if after == before or after in instance_model.TRANSITIONS[before]:
        guard_container_instance(old, replace(old, status=after))
    else:
        with pytest.raises(InvalidTransitionError, match=f"from {before} to {after}"):
            guard_container_instance(old, replace(old, status=after))


def test_a_stopped_task_is_live_nowhere():
    running = records.task(service="web", container_instance_id="1" * 32, last_status="RUNNING", started_by="me")
    stopped = replace(running, last_status="STOPPED")
    live = ("service_live", "instance_live", "definition_live")
    assert all(tuple(TASKS.indexes[index](running)) for index in live)
    assert not any(tuple(TASKS.indexes[index](stopped)) for index in live)
    assert tuple(TASKS.indexes["stopped"](stopped)) == ("stopped",)
    assert TASKS.key(running) == running.key
    assert CONTAINER_INSTANCES.key(records.container_instance()).endswith("1" * 32)
