from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.ecs.capacity_provider import StrategyItem
from homeport.placement.capacity import giving_provider, next_provider


def strategy(*items):
    return tuple(StrategyItem(name, weight, base) for name, weight, base in items)


def shared(plan, count):
    """The providers of `count` tasks in order."""
    counts, order = Counter(), []
    for _ in range(count):
        name = next_provider(plan, counts)
        counts[name] += 1
        order.append(name)
    return order


def plainly(plan, count):
    """The rule of the reference, word for word and slowly: the base first, then the smallest (assigned after base + 1) / weight."""
    order = []
    for item in plan:
        order += [item.capacity_provider] * min(item.base, count - len(order))
    after = dict.fromkeys((item.capacity_provider for item in plan), 0)
    while len(order) < count:
        able = [item for item in plan if item.weight or len(plan) == 1]
        best = min(able, key=lambda item: Fraction(after[item.capacity_provider] + 1, item.weight or 1))
        after[best.capacity_provider] += 1
        order.append(best.capacity_provider)
    return order


@pytest.mark.parametrize(
    ("plan", "count", "expected"),
    [
        (strategy(("a", 1, 0), ("b", 4, 0)), 5, {"a": 1, "b": 4}),
        (strategy(("a", 1, 0), ("b", 3, 0)), 8, {"a": 2, "b": 6}),
        (strategy(("a", 1, 2), ("b", 1, 0)), 6, {"a": 4, "b": 2}),
        (strategy(("a", 0, 2), ("b", 1, 0)), 6, {"a": 2, "b": 4}),
        (strategy(("a", 1, 10), ("b", 1, 0)), 6, {"a": 6}),
        (strategy(("a", 0, 0)), 3, {"a": 3}),
    ],
)
def test_tasks_are_shared_out_by_base_and_weight(plan, count, expected):
    assert Counter(shared(plan, count)) == expected


def test_the_grid_agrees_with_the_plain_rule():
    for weights, base, where in product(product(range(5), repeat=3), range(4), range(3)):
        if any(weights):
            plan = strategy(*((name, weight, base if at == where else 0) for at, (name, weight) in enumerate(zip("abc", weights, strict=True))))
            assert shared(plan, 12) == plainly(plan, 12)


weighted = st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(lambda found: len(found) == 1 or any(found))


@given(weighted, st.integers(0, 5), st.integers(0, 5), st.integers(0, 30))
def test_scaling_in_undoes_scaling_out_step_by_step(weights, base, where, count):
    plan = strategy(*((str(at), weight, base if at == where % len(weights) else 0) for at, weight in enumerate(weights)))
    order = shared(plan, count)
    counts = Counter(order)
    for name in reversed(order):
        assert giving_provider(plan, counts) == name
        counts[name] -= 1


def test_a_provider_outside_the_strategy_gives_first():
    assert (
        giving_provider(
            strategy(
                ("a", 1, 0),
            ),
            {"a": 9, "old": 1},
        )
        == "old"
    )
