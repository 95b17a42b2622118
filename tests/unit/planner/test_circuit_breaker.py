"""Thresholds and counting of the circuit breaker, as tables (ecs-reference 3.9)."""

from __future__ import annotations

import pytest

from homeport.model.ecs.deployment import CircuitBreaker
from homeport.planner.circuit_breaker import Counter, threshold, watching
from homeport.planner.deployment_configuration import Breaker, Threshold


@pytest.mark.parametrize(
    ("desired", "kind", "value", "wanted"),
    [
        (1, "BOUNDED_PERCENT", 50, 3),
        (25, "BOUNDED_PERCENT", 50, 13),
        (400, "BOUNDED_PERCENT", 50, 200),
        (800, "BOUNDED_PERCENT", 50, 200),
        (0, "BOUNDED_PERCENT", 50, 3),
        (7, "BOUNDED_PERCENT", 50, 4),
        (100, "BOUNDED_PERCENT", 1, 3),
        (1, "UNBOUNDED_PERCENT", 50, 1),
        (25, "UNBOUNDED_PERCENT", 50, 13),
        (800, "UNBOUNDED_PERCENT", 50, 400),
        (0, "UNBOUNDED_PERCENT", 50, 1),
        (800, "COUNT", 5, 5),
        (1, "COUNT", 500, 500),
    ],
)
def test_threshold(desired, kind, value, wanted):
    assert threshold(desired, Threshold(kind, value)) == wanted


def counted(kinds, *, resets=True, at=3):
    asked = Breaker(enable=True, reset_on_healthy_task=resets, threshold_configuration=Threshold("COUNT", at))
    counter = Counter(watching(CircuitBreaker(), asked, 1), asked)
    for kind in kinds:
        counter.add(kind)
    return counter.breaker()


START, RAN, WELL, SICK, CRASH, LOST = "failed-to-start", "ran", "healthy", "failed", "crashed", "lost"


@pytest.mark.parametrize(
    ("kinds", "resets", "status", "failures"),
    [
        ([START] * 2, True, "MONITORING", 2),
        ([START] * 3, True, "TRIGGERED", 3),
        # Stage 2: launches that fail are not counted any more, failed checks and early ends are.
        ([START, RAN, START, START], True, "MONITORING", 1),
        ([RAN, SICK, RAN, CRASH, RAN, SICK], True, "TRIGGERED", 3),
        ([RAN, LOST, LOST, LOST, "ordered"], True, "MONITORING", 0),
        # A healthy task sets the count back, unless it was asked not to.
        ([START, START, RAN, WELL, SICK, SICK], True, "MONITORING", 2),
        ([START, START, RAN, WELL, SICK], False, "TRIGGERED", 3),
        ([START, START, RAN, WELL], False, "MONITORING", 2),
        # Once tripped it stays so.
        ([START, START, START, RAN, WELL], True, "TRIGGERED", 3),
    ],
)
def test_what_counts(kinds, resets, status, failures):
    breaker = counted(kinds, resets=resets)
    assert (breaker.status, breaker.failure_count, breaker.threshold) == (status, failures, 3)


def test_a_breaker_that_is_off_counts_nothing():
    asked = Breaker()
    counter = Counter(watching(CircuitBreaker(), asked, 1), asked)
    for _ in range(9):
        counter.add(START)
    assert counter.breaker() == CircuitBreaker()


def test_the_threshold_follows_the_desired_count_while_it_watches():
    asked = Breaker(enable=True)
    breaker = watching(CircuitBreaker(), asked, 25)
    assert (breaker.status, breaker.threshold) == ("MONITORING", 13)
    assert watching(breaker, asked, 1).threshold == 3
    assert watching(breaker, Breaker(), 25).status == "DISABLED"


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize(("desired", "wanted"), [(1, 3), (25, 13), (400, 200), (800, 200)])
def test_the_default_threshold_trips_at_its_number_of_failures_in_both_reset_modes(desired, wanted, resets):
    asked = Breaker(enable=True, reset_on_healthy_task=resets)

    def status_after(*kinds):
        counter = Counter(watching(CircuitBreaker(), asked, desired), asked)
        for kind in kinds:
            counter.add(kind)
        return counter.breaker().status

    assert status_after(*[START] * (wanted - 1)) == "MONITORING"
    assert status_after(*[START] * wanted) == "TRIGGERED"
    # One healthy task on the way: it takes all of them once more, or the one that is left.
    before = [START] * (wanted - 1) + [RAN, WELL]
    assert status_after(*before, SICK) == ("MONITORING" if resets else "TRIGGERED")
    assert status_after(*before, *[SICK] * (wanted - 1)) == ("MONITORING" if resets else "TRIGGERED")
    assert status_after(*before, *[SICK] * wanted) == "TRIGGERED"
