"""How large the pool of a capacity provider with managed scaling should be: the formula of ecs-reference 3.2 as pure functions.

Owns: `instances_needed`, `reservation`, `plan`. Never makes an instance; it is asked once a minute, and keeps nothing: what it has to remember is in
`Samples`, which its caller hands in again. What surrounds the formula (draining, machines on their way) is in `planner/managed_scaling.py`.

    N = instances of the pool          M = instances that the tasks need          CapacityProviderReservation = 100 * M / N
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from homeport.model.ecs.capacity_provider import ManagedScaling
from homeport.model.record import Instant

SAMPLES_BELOW: Final = 15
"""So many samples in a row, a minute apart, must be below the target before the pool shrinks."""
IDLE: Final = 100.0
"""The reservation of an empty pool that nobody needs."""
FROM_NOTHING: Final = 200.0
"""The reservation of an empty pool that somebody needs: it asks for two steps at once."""


class Size(msgspec.Struct, frozen=True):
    """What an instance type has, or what a task takes."""

    cpu: int
    memory_mib: int
    gpus: int = 0
    ports: frozenset[tuple[int, str]] = frozenset()
    """Fixed host ports of a task: two tasks with one in common share no instance."""


class Waiting(msgspec.Struct, frozen=True):
    """Tasks that wait for the provider and ask for the same."""

    size: Size
    count: int


class Instance(msgspec.Struct, frozen=True):
    """An instance of the pool."""

    id: str
    registered_at: Instant
    tasks: int
    """Tasks on it that are no daemon's."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's instances, and what its waiting tasks need beyond them."""

    instances: tuple[Instance, ...]
    further: int = 0
    """What `instances_needed` gave."""
    launching: bool = False
    """Whether machines that were asked for are still on their way."""


class Samples(msgspec.Struct, frozen=True):
    """What has to be remembered from one minute to the next."""

    below: int = 0
    """How many samples in a row were below the target."""


class Plan(msgspec.Struct, frozen=True):
    """The answer. `remove` is not empty only when the pool shrinks."""

    desired: int
    needed: int
    """M."""
    reservation: float
    samples: Samples
    remove: tuple[str, ...] = ()
    """Ids of instances, the first to go first; with managed draining they are to be DRAINING before they end."""


def _fit(task: Size, instance: Size) -> int:
    """How many such tasks one empty instance takes."""
    shares = [have // take for take, have in ((task.cpu, instance.cpu), (task.memory_mib, instance.memory_mib), (task.gpus, instance.gpus)) if take]
    return min([*shares, *([1] if task.ports else [])], default=1_000_000)


def instances_needed(waiting: Sequence[Waiting], types: Sequence[Size]) -> int:
    """Further instances that the waiting tasks need: each group alone, on the largest type; the most that one asks for.

    A group that the smallest type cannot take is left out: nobody knows that a larger one would come. What the answer does not cover waits on and is
    counted again a minute later, so that groups which fit together are not paid for twice.
    """
    if not types:
        return 0
    smallest, largest = min(types, key=_order), max(types, key=_order)
    fitting = [group for group in waiting if group.count and _fit(group.size, smallest)]
    return max((-(-group.count // _fit(group.size, largest)) for group in fitting), default=0)


def _order(size: Size) -> tuple[int, int, int]:
    return size.cpu, size.memory_mib, size.gpus


def reservation(needed: int, there: int) -> float:
    """CapacityProviderReservation in percent."""
    if there:
        return 100.0 * needed / there
    return FROM_NOTHING if needed else IDLE


def plan(scaling: ManagedScaling, pool: Pool, *, samples: Samples, now: Instant) -> Plan:
    """The size that the pool should have now."""
    instances, further = pool.instances, pool.further
    there = len(instances)
    used = sum(1 for instance in instances if instance.tasks)
    needed = used + (min(max(further, scaling.step_min), scaling.step_max) if further else 0)
    percent = reservation(needed, there)
    wanted = -(-100 * needed // scaling.target_capacity)
    if percent > scaling.target_capacity and wanted > there:
        if pool.launching or any(instance.registered_at + scaling.warmup_seconds > now for instance in instances):
            return Plan(there, needed, percent, Samples())
        wanted = wanted if there else max(wanted, 2 * scaling.step_min)
        return Plan(min(wanted, there + max(scaling.step_max, 1)), needed, percent, Samples())
    if percent >= scaling.target_capacity or wanted >= there:
        return Plan(there, needed, percent, Samples())
    below = Samples(min(samples.below + 1, SAMPLES_BELOW))
    if below.below < SAMPLES_BELOW:
        return Plan(there, needed, percent, below)
    count = max(1, (there - wanted) // 2)  # there - wanted is no more than have no task, so none with a task is among them
    going = sorted(instances, key=lambda instance: (instance.tasks, instance.registered_at, instance.id))[:count]
    return Plan(there - len(going), needed, percent, below, tuple(instance.id for instance in going))
