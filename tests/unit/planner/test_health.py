from __future__ import annotations

import pytest

from homeport.model.ecs.task import Container
from homeport.planner.health import concerns, healthy_at, is_healthy, is_unhealthy
from homeport.testing import records

T0 = records.NOW
CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)


@pytest.mark.parametrize(
    ("fields", "at", "healthy"),
    [
        ({}, T0 + 39.9, False),
        ({}, T0 + 40.0, True),
        ({"last_status": "PENDING", "started_at": 0.0}, T0 + 100, False),
        ({"desired_status": "STOPPED"}, T0 + 100, False),
        ({"containers": CHECKED}, T0 + 100, False),
        ({"containers": CHECKED, "health_status": "HEALTHY"}, T0, True),
        ({"containers": CHECKED, "health_status": "UNHEALTHY"}, T0 + 100, False),
    ],
)
def test_is_healthy(fields, at, healthy):
    assert is_healthy(records.task(**fields), 40.0, at) is healthy


def test_only_a_task_without_a_check_comes_of_age_by_itself():
    assert healthy_at(records.task(), 40.0) == T0 + 40.0
    assert healthy_at(records.task(containers=CHECKED), 40.0) == 0.0
    assert healthy_at(records.task(last_status="PENDING"), 40.0) == 0.0


def test_unhealthy_needs_a_check_of_an_essential_container():
    assert is_unhealthy(records.task(containers=CHECKED, health_status="UNHEALTHY"))
    assert not is_unhealthy(records.task(health_status="UNHEALTHY"))
    sidecar = (Container(name="side", id="c", image="x", essential=False, has_health_check=True),)
    assert not is_unhealthy(records.task(containers=sidecar, health_status="UNHEALTHY"))


PENDING = {"last_status": "PENDING", "started_at": 0.0}


@pytest.mark.parametrize(
    ("before", "after", "concerned"),
    [
        (PENDING, {}, False),
        (PENDING, {**PENDING, "pull_started_at": T0, "version": 2}, False),
        ({**PENDING, "containers": CHECKED}, {"containers": CHECKED}, True),
        ({}, {"health_status": "UNHEALTHY"}, True),
        ({}, {"healthy_since": T0}, False),
        ({}, {"desired_status": "STOPPED"}, True),
        ({"desired_status": "STOPPED"}, {"desired_status": "STOPPED", "last_status": "STOPPED"}, True),
        ({}, {"protected_until": T0}, True),
        ({}, {"container_instance_id": "f" * 32}, True),
    ],
)
def test_only_the_way_to_running_concerns_nobody(before, after, concerned):
    assert concerns(records.task(**before), records.task(**after), 40.0) is concerned


def test_without_a_waiting_time_every_change_concerns():
    assert concerns(records.task(**PENDING), records.task(), 0.0)
    assert concerns(None, records.task(), 40.0)
    assert concerns(records.task(), None, 40.0)
