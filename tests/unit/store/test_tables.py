"""The declared tables: guards, keys and indexes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from msgspec.structs import replace
from tests.conformance.test_store_codec import SAMPLES

from homeport.errors import InvalidTransitionError
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import daemon, daemon_deployment, daemon_task_definition, deployment, gateway, task_set
from homeport.model.ecs import task as task_model
from homeport.store.sqlite import RESERVED
from homeport.store.table import Table
from homeport.store.tables import (
    CONTAINER_INSTANCES,
    DAEMON_DEPLOYMENTS,
    DAEMON_TASK_DEFINITIONS,
    DAEMONS,
    DEPLOYMENTS,
    GATEWAYS,
    TABLES,
    TASK_SETS,
    TASKS,
    guard_task,
)
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


MOVES: tuple[tuple[Table[Any], str, Mapping[str, Collection[str]]], ...] = (
    (CONTAINER_INSTANCES, "status", instance_model.TRANSITIONS),
    (DAEMON_TASK_DEFINITIONS, "status", daemon_task_definition.TRANSITIONS),
    (DAEMONS, "status", daemon.TRANSITIONS),
    (DAEMON_DEPLOYMENTS, "status", daemon_deployment.TRANSITIONS),
    (TASK_SETS, "status", task_set.TRANSITIONS),
    (GATEWAYS, "status", gateway.TRANSITIONS),
    (DEPLOYMENTS, "service_deployment_status", deployment.TRANSITIONS),
    (DEPLOYMENTS, "lifecycle_stage", deployment.LIFECYCLE),
)


@pytest.mark.parametrize(("table", "field", "transitions"), MOVES, ids=lambda item: getattr(item, "name", item if isinstance(item, str) else ""))
def test_a_state_moves_along_its_table(table: Table[Any], field: str, transitions: Mapping[str, Collection[str]]):
    some: Any = SAMPLES[table.name]
    guard: Any = table.guard
    for before, after in itertools.product(transitions, transitions):
        old, new = replace(some, **{field: before}), replace(some, **{field: after})
        if after == before or after in transitions[before]:
            guard(old, new)
        else:
            with pytest.raises(InvalidTransitionError, match=f"{field} may not go from {before or 'none'} to {after or 'none'}"):
                guard(old, new)
        guard(None, new)
        guard(old, None)


def test_a_deployment_of_an_older_version_has_no_status_and_gets_any():
    some: Any = SAMPLES[DEPLOYMENTS.name]
    guard: Any = DEPLOYMENTS.guard
    for status in deployment.TRANSITIONS:
        guard(replace(some, service_deployment_status=""), replace(some, service_deployment_status=status))


def test_a_stopped_task_is_live_nowhere():
    running = records.task(service="web", container_instance_id="1" * 32, last_status="RUNNING", started_by="me")
    stopped = replace(running, last_status="STOPPED")
    live = ("service_live", "instance_live", "definition_live")
    assert all(tuple(TASKS.indexes[index](running)) for index in live)
    assert not any(tuple(TASKS.indexes[index](stopped)) for index in live)
    assert tuple(TASKS.indexes["stopped"](stopped)) == ("stopped",)
    assert TASKS.key(running) == running.key
    assert CONTAINER_INSTANCES.key(records.container_instance()).endswith("1" * 32)
