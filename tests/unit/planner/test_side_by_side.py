"""What a service does while revisions stand side by side, as tables: which of them gets tasks, and which loses some."""

from __future__ import annotations

import pytest

from homeport.model.change import StartTask, StopTask, UpdateService
from homeport.model.ecs.deployment import LINEAR
from homeport.model.ecs.task import Container
from homeport.planner.service import ServiceView
from homeport.planner.side_by_side import applies, plan
from homeport.testing import records

BLUE, OTHER, GREEN = "1" * 19, "2" * 19, "3" * 19
NOW = records.NOW + 100  # every RUNNING task of the builders is healthy by then
CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)
LETTERS = {BLUE: "blue", OTHER: "other", GREEN: "green"}


def first(tasks, count):
    return list(tasks)[:count]


def decided(stage, *, blue=2, other=2, green=0, desired=2, now=NOW, steady=False, of=None, more=()):
    """(starts, stops) by revision, with so many healthy tasks of each and `more`; `of`: fields of a revision's deployment. And the changes."""
    given = {
        BLUE: {"status": "ACTIVE", "rollout_state": "COMPLETED"},
        OTHER: {"status": "ACTIVE", "strategy": LINEAR, "lifecycle_stage": "PRODUCTION_TRAFFIC_SHIFT"},
        GREEN: {"status": "PRIMARY", "strategy": LINEAR, "lifecycle_stage": stage, "blue_revision_id": BLUE},
    }
    counts, tasks, number = {BLUE: blue, OTHER: other, GREEN: green}, list(more), 0
    for digits, count in counts.items():
        for _ in range(count):
            number += 1
            tasks.append(records.task(number, deployment_id=digits))
    deployments = tuple(records.deployment(id=digits, **{**fields, **(of or {}).get(digits, {})}) for digits, fields in given.items())
    view = ServiceView(service=records.service(desired_count=desired, steady=steady), deployments=deployments, tasks=tuple(tasks))
    assert applies(view)
    changes = plan(view, first, healthy_after_seconds=40.0, now=now).changes
    starts, stops = {}, {}
    for change in changes:
        if isinstance(change, StartTask):
            starts[LETTERS[change.deployment.id]] = starts.get(LETTERS[change.deployment.id], 0) + 1
        elif isinstance(change, StopTask):
            stops[LETTERS[change.task.deployment_id]] = stops.get(LETTERS[change.task.deployment_id], 0) + 1
    return starts, stops, changes


@pytest.mark.parametrize(
    ("blue", "other", "starts", "stops"),
    [(2, 2, {}, {"other": 2}), (1, 2, {"blue": 1}, {"other": 1}), (0, 2, {"blue": 2}, {}), (1, 1, {"blue": 1}, {}), (2, 0, {}, {})],
)
def test_before_green_the_rest_goes_as_blue_stands_in_for_it(blue, other, starts, stops):
    assert decided("RECONCILE_SERVICE", blue=blue, other=other)[:2] == (starts, stops)


def test_without_a_blue_the_rest_goes_at_once():
    assert decided("RECONCILE_SERVICE", of={GREEN: {"blue_revision_id": ""}}, blue=0)[:2] == ({}, {"other": 2})


@pytest.mark.parametrize("stage", ["SCALE_UP", "BAKE_TIME"])
def test_green_scales_up_whatever_blue_has(stage):
    assert decided(stage, other=0)[:2] == ({"green": 2}, {})
    assert decided(stage, other=0, green=2, blue=1)[:2] == ({"blue": 1}, {})


def test_what_is_neither_blue_nor_green_is_kept_but_not_replaced_and_not_beyond_the_desired_count():
    assert decided("SCALE_UP", green=2, other=1)[:2] == ({}, {})
    assert decided("SCALE_UP", green=2, other=3)[:2] == ({}, {"other": 1})
    sick = records.task(99, deployment_id=OTHER, health_status="UNHEALTHY", containers=CHECKED)
    assert decided("SCALE_UP", green=2, other=1, more=[sick])[:2] == ({}, {})


@pytest.mark.parametrize("was", [{"rollout_state": "FAILED"}, {"lifecycle_stage": "PRE_SCALE_UP"}, {}])
def test_blue_is_kept_whatever_its_own_deployment_came_to(was):
    assert decided("SCALE_UP", blue=1, other=0, green=2, of={BLUE: was})[:2] == ({"blue": 1}, {})


def test_blue_waits_for_its_own_launch_delay():
    assert decided("SCALE_UP", blue=1, other=0, green=2, of={BLUE: {"throttled_until": NOW + 5}})[:2] == ({}, {})


def test_two_revisions_are_no_steady_state():
    *_, changes = decided("SCALE_UP", other=0, green=2, steady=True)
    assert [change.service.steady for change in changes if isinstance(change, UpdateService)] == [False]
