"""One sample of a capacity provider: what its pool is, what is asked of the instance provider, and which instances drain and end.

Owns: `sample`, `unlisted`, `ready`, `drains`. Never computes the formula (`planner/capacity.py` does), never asks anybody, never writes.
Source: ecs-reference 3.2. The state that is handed in and given back is kept in the provider's record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs.capacity_provider import CapacityProvider, InstanceSize, Leaving, ScalingState
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.planner.capacity import Instance, Pool, Samples, Size, Waiting, instances_needed, plan

LEAVE_TOGETHER_MAX: Final = 80
"""Instances that begin to leave in one sample: they are set DRAINING in the transaction of that sample, which writes 100 records at most."""
UNLISTED: Final = "their machines are gone, or their agents have another HOMEPORT_INSTANCE_ID than it gives them."


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of the pool as the instance provider has it."""

    id: str
    """The same as the ec2InstanceId of its container instance."""
    leaving: bool = False
    """Whether the instance provider wants to take it away and waits for leave to do so."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance provider says that there is; what it does not say is None."""

    desired: int | None = None
    machines: tuple[Machine, ...] | None = None
    sizes: tuple[InstanceSize, ...] = ()
    """What a new machine would have, where that is known."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A container instance of the pool that is not INACTIVE."""

    instance: ContainerInstance
    tasks: int
    """Live tasks on it that are no daemon's."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a sample looks at."""

    provider: CapacityProvider
    members: tuple[Member, ...]
    waiting: tuple[Task, ...]
    """Tasks that wait for an instance of it."""
    fleet: Fleet = Fleet()
    served: bool = True
    """Whether there is an instance provider to ask; without one nothing leaves, since nobody would end it."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the state to keep, and how many machines to ask for (None: no more than there are)."""

    state: ScalingState
    ask: int | None = None
    gone: frozenset[str] = frozenset()
    """Machines that leave and that the instance provider does not list any more: they have ended already."""


def sample(view: View, *, now: Instant) -> Sample:
    """The next state of the pool of `view`. Without managed scaling only what the instance provider takes away is seen."""
    provider, state = view.provider, view.provider.scaling
    leaving = _leaving(view, state.leaving, now) if view.served else ()
    gone = _gone(view, leaving)
    if not provider.managed_scaling.enabled:
        return Sample(state=_changed(state, now, leaving=leaving), gone=gone)
    staying = _staying(view, leaving)
    there = len(staying) + len(leaving) - len(gone)
    known = view.fleet.desired if view.fleet.desired is not None else max(state.desired, there)
    sizes = view.fleet.sizes or _sizes(staying) or state.sizes
    pool = Pool(
        instances=tuple(Instance(member.instance.key, member.instance.registered_at, member.tasks) for member in staying),
        further=_further(view.waiting, sizes),
        launching=known > there and now < state.asked_at + provider.managed_scaling.warmup_seconds,
    )
    found = plan(provider.managed_scaling, pool, samples=Samples(state.below), now=now)
    ask = max(known, found.desired + there - len(staying)) if found.desired > len(staying) else None
    removed = found.remove[:LEAVE_TOGETHER_MAX] if view.served else ()
    machine_of = {member.instance.key: member.instance.ec2_instance_id for member in staying}
    going = tuple(Leaving(machine_id=machine_of[key], instance_key=key, since=now, scale_in=True) for key in removed)
    changed = _changed(
        state,
        now,
        instances=len(staying),
        needed=found.needed,
        reservation=round(found.reservation, 2),
        desired=known if ask is None or not view.served else ask,
        asked_at=state.asked_at if ask is None or not view.served else now,
        below=found.samples.below,
        leaving=leaving + going,
        sizes=sizes,
    )
    return Sample(state=changed, ask=ask, gone=gone)


def _changed(state: ScalingState, now: Instant, **fields: object) -> ScalingState:
    """`state` with `fields`; the same when they say nothing new, so that a quiet pool writes nothing."""
    found = msgspec.structs.replace(state, **fields)
    return state if found == state else msgspec.structs.replace(found, changed_at=now)


def _leaving(view: View, leaving: tuple[Leaving, ...], now: Instant) -> tuple[Leaving, ...]:
    """Those that leave already, and those that the instance provider takes away."""
    there = {item.machine_id for item in leaving}
    keys = {member.instance.ec2_instance_id: member.instance.key for member in view.members}
    asked = (machine.id for machine in view.fleet.machines or () if machine.leaving and machine.id not in there)
    return (*leaving, *(Leaving(machine_id=found, instance_key=keys.get(found, ""), since=now) for found in asked))


def _gone(view: View, leaving: Iterable[Leaving]) -> frozenset[str]:
    if view.fleet.machines is None:
        return frozenset()
    return frozenset(item.machine_id for item in leaving) - {machine.id for machine in view.fleet.machines}


def _staying(view: View, leaving: Iterable[Leaving]) -> list[Member]:
    """The instances of the pool that do not leave; none whose machine the instance provider does not know (any more)."""
    gone = {item.instance_key for item in leaving}
    machines = None if view.fleet.machines is None else {machine.id for machine in view.fleet.machines}
    return [
        member for member in view.members if member.instance.key not in gone and (machines is None or member.instance.ec2_instance_id in machines)
    ]


def unlisted(view: View) -> str:
    """What is wrong when the instance provider lists its machines and instances of the pool are none of them; "" when nothing is."""
    listed = {machine.id for machine in view.fleet.machines or ()}
    names = sorted(member.instance.ec2_instance_id for member in view.members if member.instance.ec2_instance_id not in listed)
    if view.fleet.machines is None or not names:
        return ""
    return f"The instance provider does not list {len(names)} instances of the pool, which are not counted ({', '.join(names[:3])}): {UNLISTED}"


def _sizes(members: Sequence[Member]) -> tuple[InstanceSize, ...]:
    sizes = [InstanceSize(cpu=m.instance.cpu, memory_mib=m.instance.memory_mib, gpus=len(m.instance.gpu_ids)) for m in members]
    ordered = sorted(sizes, key=lambda size: (size.cpu, size.memory_mib, size.gpus))
    return tuple(dict.fromkeys((ordered[0], ordered[-1]))) if ordered else ()


def _further(waiting: Sequence[Task], sizes: Sequence[InstanceSize]) -> int:
    """Further instances for the waiting tasks. Of a pool that never had an instance nobody knows the size: it is asked for the smallest step."""
    if not sizes:
        return 1 if waiting else 0
    wanted = Counter((task.cpu, task.memory_mib, task.gpus, frozenset((use.port, use.protocol) for use in task.host_ports)) for task in waiting)
    groups = [Waiting(Size(cpu, memory, gpus, ports), count) for (cpu, memory, gpus, ports), count in wanted.items()]
    return instances_needed(groups, [Size(size.cpu, size.memory_mib, size.gpus) for size in sizes])


def drains(provider: CapacityProvider, item: Leaving, instance: ContainerInstance | None) -> bool:
    """Whether an instance that leaves is to be set DRAINING. One that scale-in chose is so in any case, lest a task come to it before it ends."""
    return (provider.managed_draining or item.scale_in) and instance is not None and instance.status == instance_model.ACTIVE


def ready(provider: CapacityProvider, item: Leaving, *, tasks: int, seconds_max: float, now: Instant) -> bool:
    """Whether a leaving instance may end now, with `tasks` live tasks of any kind on it: at once without managed draining, else without tasks or
    after `seconds_max`."""
    return not provider.managed_draining or not tasks or item.since + seconds_max <= now
