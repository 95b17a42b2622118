"""Why a task fits nowhere, and the smallest change that would make it fit.

Owns: `remedies`, what a remedy is, and the order of their sizes. Every remedy is tried on a copy of its instance by the placement that acts,
before it is told. Never changes a record; never says what an operator must prefer beyond the order of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final

import msgspec

from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.ecs.task import Task
from homeport.placement import reasons
from homeport.placement.constraints import MEMBER_OF
from homeport.placement.index import PlacementIndex
from homeport.placement.request import PlacementRequest

WAIT: Final = "WAIT_FOR_STOPPING_TASKS"
CONNECT: Final = "CONNECT_AGENT"
ACTIVATE: Final = "ACTIVATE_INSTANCE"
ATTRIBUTES: Final = "PUT_ATTRIBUTES"
LOWER: Final = "LOWER_REQUEST"
STOP: Final = "STOP_TASKS"
CONSTRAINTS: Final = "DROP_CONSTRAINTS"
ADD: Final = "ADD_INSTANCE"
KINDS: Final = (WAIT, CONNECT, ACTIVATE, ATTRIBUTES, LOWER, STOP, CONSTRAINTS, ADD)
"""From what costs nothing to what costs most; of one kind the smaller size comes first."""

EXACT_TASKS_MAX: Final = 3
"""Up to so many tasks the fewest that must stop are found by trying every choice; beyond, the largest are taken until it fits, and then those
that were not needed are left out again."""
EXACT_CANDIDATES_MAX: Final = 40
"""Of an instance with more tasks than this, only the largest are tried in every choice."""

_HELD = {reasons.CPU, reasons.MEMORY, reasons.PORTS, reasons.GPU, reasons.DISTINCT_INSTANCE}
_AMOUNTS = {reasons.CPU, reasons.MEMORY}
_NOT_A_USER_S = ("ecs.", "com.amazonaws.")
"""Attributes that an agent says of its host; nobody can put them."""


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One change after which the task fits on `instance_key`, or for ADD_INSTANCE on a new instance like it."""

    kind: str
    size: int
    """Tasks, attributes, constraints or instances; for LOWER_REQUEST CPU units and MiB together."""
    instance_key: str
    task_keys: tuple[str, ...] = ()
    """The tasks to wait for or to stop."""
    attributes: tuple[tuple[str, str], ...] = ()
    constraints: tuple[str, ...] = ()
    """memberOf expressions, or `distinctInstance`."""
    cpu: int = 0
    """LOWER_REQUEST: the CPU units that would fit. ADD_INSTANCE: those of the new instance."""
    memory_mib: int = 0
    """The same in MiB."""

    @property
    def order(self) -> tuple[int, int, str]:
        """Sorts the smallest change first."""
        return KINDS.index(self.kind), self.size, self.instance_key


def fits(request: PlacementRequest, instance: ContainerInstance, tasks: Iterable[Task]) -> bool:
    """Whether `instance` with just `tasks` on it can take the task: placement's own answer on a copy of it."""
    return not failures(request, instance, tasks)


def failures(request: PlacementRequest, instance: ContainerInstance, tasks: Iterable[Task]) -> tuple[str, ...]:
    """Every reason why not, in the order of the checks."""
    copy = PlacementIndex()
    copy.change("container_instances", None, instance)
    for task in tasks:
        copy.change("tasks", None, task)
    return tuple(obstacle.reason for obstacle in copy.obstacles(request, instance.key))


def remedies(request: PlacementRequest, instance: ContainerInstance, tasks: Sequence[Task]) -> list[Remedy]:
    """The smallest remedy of each kind that makes the task fit on `instance`, the smallest first. `tasks`: those on it that are not STOPPED.

    Nothing when it fits already.
    """
    why = set(failures(request, instance, tasks))
    if not why:
        return []
    found: list[Remedy] = []
    if why <= _HELD:
        found += _held(request, instance, tasks, why)
    if why == {reasons.AGENT} and fits(request, msgspec.structs.replace(instance, agent_connected=True), tasks):
        found.append(Remedy(kind=CONNECT, size=1, instance_key=instance.key))
    if why == {instance_model.DRAINING} and fits(request, msgspec.structs.replace(instance, status=instance_model.ACTIVE), tasks):
        found.append(Remedy(kind=ACTIVATE, size=1, instance_key=instance.key))
    if why == {reasons.ATTRIBUTE}:
        found += _attributes(request, instance, tasks)
    if why <= {reasons.MEMBER_OF, reasons.DISTINCT_INSTANCE}:
        found += _constraints(request, instance, tasks)
    empty = msgspec.structs.replace(instance, status=instance_model.ACTIVE, agent_connected=True)
    if instance.status in (instance_model.ACTIVE, instance_model.DRAINING) and fits(request, empty, ()):
        found.append(Remedy(kind=ADD, size=1, instance_key=instance.key, cpu=instance.cpu, memory_mib=instance.memory_mib))
    return sorted(found, key=lambda remedy: remedy.order)


def _held(request: PlacementRequest, instance: ContainerInstance, tasks: Sequence[Task], why: set[str]) -> Iterator[Remedy]:
    stopping = [task for task in tasks if task.desired_status == task_model.STOPPED]
    staying = [task for task in tasks if task.desired_status != task_model.STOPPED]
    if (waited := _fewest(request, instance, tasks, stopping)) is not None:
        yield Remedy(kind=WAIT, size=len(waited), instance_key=instance.key, task_keys=waited)
    if why <= _AMOUNTS and (lower := _lower(request, instance, tasks)) is not None:
        yield lower
    if (stopped := _fewest(request, instance, tasks, staying)) is not None:
        yield Remedy(kind=STOP, size=len(stopped), instance_key=instance.key, task_keys=stopped)


def _lower(request: PlacementRequest, instance: ContainerInstance, tasks: Iterable[Task]) -> Remedy | None:
    held = list(tasks)
    cpu = min(request.cpu, instance.cpu - sum(task.cpu for task in held))
    memory_mib = min(request.memory_mib, instance.memory_mib - sum(task.memory_mib for task in held))
    if cpu < 0 or memory_mib <= 0:
        return None
    smaller = msgspec.structs.replace(request, cpu=cpu, memory_mib=memory_mib)
    if not fits(smaller, instance, held):
        return None
    size = request.cpu - cpu + request.memory_mib - memory_mib
    return Remedy(kind=LOWER, size=size, instance_key=instance.key, cpu=cpu, memory_mib=memory_mib)


def _fewest(request: PlacementRequest, instance: ContainerInstance, tasks: Sequence[Task], among: Sequence[Task]) -> tuple[str, ...] | None:
    """Keys of the fewest tasks of `among` without which the task fits; None when it does not fit without any of them."""

    def without(gone: Iterable[Task]) -> bool:
        keys = {task.key for task in gone}
        return fits(request, instance, [task for task in tasks if task.key not in keys])

    if not among or not without(among):
        return None
    largest = sorted(among, key=lambda task: (-task.cpu - task.memory_mib, task.key))
    cpu = request.cpu - instance.cpu + sum(task.cpu for task in tasks)
    memory_mib = request.memory_mib - instance.memory_mib + sum(task.memory_mib for task in tasks)
    for count in range(max(1, _at_least(among, cpu, memory_mib)), EXACT_TASKS_MAX + 1):
        for chosen in combinations(largest[:EXACT_CANDIDATES_MAX], count):
            # Cpu and memory first: that is cheap, and most choices fail there.
            frees_enough = sum(task.cpu for task in chosen) >= cpu and sum(task.memory_mib for task in chosen) >= memory_mib
            if frees_enough and without(chosen):
                return tuple(task.key for task in chosen)
    needed: list[Task] = []
    for task in largest:
        needed.append(task)
        if without(needed):
            break
    for task in list(needed):
        rest = [other for other in needed if other is not task]
        if without(rest):
            needed = rest
    return tuple(task.key for task in needed)


def _at_least(among: Sequence[Task], cpu: int, memory_mib: int) -> int:
    """So many tasks must go at least to free `cpu` and `memory_mib`, each resource by itself: fewer need not be tried."""

    def fewest(short: int, held: Iterable[int]) -> int:
        count = 0
        for amount in sorted(held, reverse=True):
            if short <= 0:
                break
            short -= amount
            count += 1
        return count

    return max(fewest(cpu, (task.cpu for task in among)), fewest(memory_mib, (task.memory_mib for task in among)))


def _attributes(request: PlacementRequest, instance: ContainerInstance, tasks: Sequence[Task]) -> Iterator[Remedy]:
    known = {attribute.name: attribute.value for attribute in instance.attributes}
    tokens = set(known) | {f"{name}={value}" for name, value in known.items()}
    missing = [token for token in request.required_attributes if token not in tokens]
    if not missing or any(token.startswith(_NOT_A_USER_S) for token in missing):
        return
    put = tuple((name, value) for name, _, value in (token.partition("=") for token in missing))
    names = {name for name, _ in put}
    kept = tuple(attribute for attribute in instance.attributes if attribute.name not in names)
    added = tuple(Attribute(name=name, value=value, custom=True) for name, value in put)
    if fits(request, msgspec.structs.replace(instance, attributes=kept + added), tasks):
        yield Remedy(kind=ATTRIBUTES, size=len(put), instance_key=instance.key, attributes=put)


def _constraints(request: PlacementRequest, instance: ContainerInstance, tasks: Sequence[Task]) -> Iterator[Remedy]:
    """The fewest of the request's constraints without which it fits; there are at most ten and those of the definition."""
    for count in range(1, min(len(request.constraints), EXACT_TASKS_MAX) + 1):
        for dropped in combinations(request.constraints, count):
            rest = tuple(constraint for constraint in request.constraints if constraint not in dropped)
            if fits(msgspec.structs.replace(request, constraints=rest), instance, tasks):
                words = tuple(constraint.expression if constraint.type == MEMBER_OF else constraint.type for constraint in dropped)
                yield Remedy(kind=CONSTRAINTS, size=count, instance_key=instance.key, constraints=words)
                return
