"""Which capacity provider the next task of a strategy goes to, and which gives one up: the arithmetic of ecs-reference 3.2.

Owns: `next_provider` and `giving_provider`. Never looks at instances: a provider that is full still gets its share.

The base comes first. Beyond it, the next task goes where (tasks beyond the base + 1) / weight is smallest, of equals to the first in the list;
scaling in is the exact mirror of it. Providers that are not in the strategy (any more) give up first, the base is given up last.
"""

from __future__ import annotations

from collections.abc import Mapping

from homeport.model.ecs.capacity_provider import Strategy


def _weights(strategy: Strategy) -> list[int]:
    """The weights; a strategy of one provider needs none."""
    return [1] if len(strategy) == 1 else [item.weight for item in strategy]


def next_provider(strategy: Strategy, counts: Mapping[str, int]) -> str:
    """The provider that the next task goes to, when each has `counts` tasks (0 where it is not named). `strategy` is not empty."""
    best = ""
    best_number, best_weight = 0, 0
    for item, weight in zip(strategy, _weights(strategy), strict=True):
        count = counts.get(item.capacity_provider, 0)
        if count < item.base:
            return item.capacity_provider
        number = count - item.base + 1
        # number / weight, compared without dividing: equal shares must be equal
        if weight and (not best or number * best_weight < best_number * weight):
            best, best_number, best_weight = item.capacity_provider, number, weight
    return best


def giving_provider(strategy: Strategy, counts: Mapping[str, int]) -> str:
    """The provider that gives up a task, when each has `counts` tasks of which at least one is above 0; "" when none has any."""
    weights = dict(zip((item.capacity_provider for item in strategy), _weights(strategy), strict=True))
    bases = {item.capacity_provider: item.base for item in strategy}
    best = ""
    best_number, best_weight = 0, 0
    in_order = [name for name in counts if name not in weights] + [item.capacity_provider for item in strategy]
    for name in in_order:
        number, weight = counts.get(name, 0) - bases.get(name, 0), weights.get(name, 0)
        if number > 0 and not weight:
            return name
        if number > 0 and (not best or number * best_weight >= best_number * weight):
            best, best_number, best_weight = name, number, weight
    return best or next((name for name in in_order if counts.get(name, 0)), "")
