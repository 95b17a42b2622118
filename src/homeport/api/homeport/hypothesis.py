"""A hypothetical change, made to a copy as the real one would be.

Owns: `apply`. Never touches the state itself: its transaction is one of a fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import lookup, service_input
from homeport.errors import InvalidParameterError, ServiceNotFoundError
from homeport.model.ecs import container_instance as model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.store.table import Transaction
from homeport.store.tables import CONTAINER_INSTANCES, SERVICES

ZONE: Final = "ecs.availability-zone"
ADDED_MAX: Final = 1000


def apply(tx: Transaction, call: Call, *, cluster: Cluster, hypotheses: Iterable[Any]) -> None:
    """Make the changes in `tx`, in order. Raises InvalidParameterError for one that makes no sense, and ServiceNotFoundError."""
    for hypothesis in hypotheses:
        _KINDS[hypothesis.kind](tx, call, cluster, hypothesis)


def _named(tx: Transaction, call: Call, cluster: Cluster, hypothesis: Any) -> Iterator[ContainerInstance]:
    if not hypothesis.containerInstances:
        raise InvalidParameterError(f"{hypothesis.kind} needs containerInstances.")
    for reference in hypothesis.containerInstances:
        instance = tx.get(CONTAINER_INSTANCES, lookup.container_instance_key(call, cluster, reference))
        if instance is None or instance.status == model.INACTIVE:
            raise InvalidParameterError(f"There is no container instance {reference} in the cluster {cluster.name}.")
        yield instance


def _add(tx: Transaction, call: Call, cluster: Cluster, hypothesis: Any) -> None:
    count = 1 if hypothesis.count is None else hypothesis.count
    if not 1 <= count <= ADDED_MAX:
        raise InvalidParameterError(f"count must be between 1 and {ADDED_MAX}.")
    for pattern in list(_named(tx, call, cluster, hypothesis)):
        zone = hypothesis.availabilityZone or pattern.attribute(ZONE)
        kept = tuple(attribute for attribute in pattern.attributes if attribute.name != ZONE)
        placed = (*kept, Attribute(name=ZONE, value=zone)) if zone else kept
        for _ in range(count):
            new = msgspec.structs.replace(
                pattern, id=call.ids.hex(32), status=model.ACTIVE, agent_connected=True, attributes=placed, registered_at=tx.now, session=None
            )
            tx.put(CONTAINER_INSTANCES, new)


def _leave(tx: Transaction, instance: ContainerInstance) -> None:
    tx.put(CONTAINER_INSTANCES, msgspec.structs.replace(instance, status=model.INACTIVE, agent_connected=False, session=None))


def _lose(tx: Transaction, call: Call, cluster: Cluster, hypothesis: Any) -> None:
    for instance in list(_named(tx, call, cluster, hypothesis)):
        _leave(tx, instance)


def _lose_zone(tx: Transaction, call: Call, cluster: Cluster, hypothesis: Any) -> None:
    in_zone = [
        instance
        for instance in tx.scan(CONTAINER_INSTANCES, f"{cluster.key}/")
        if instance.status != model.INACTIVE and instance.attribute(ZONE) == hypothesis.availabilityZone
    ]
    if not in_zone:
        raise InvalidParameterError(f"No container instance is in the availability zone {hypothesis.availabilityZone}.")
    for instance in in_zone:
        _leave(tx, instance)


def _drain(tx: Transaction, call: Call, cluster: Cluster, hypothesis: Any) -> None:
    for instance in list(_named(tx, call, cluster, hypothesis)):
        if instance.status == model.ACTIVE:
            tx.put(CONTAINER_INSTANCES, msgspec.structs.replace(instance, status=model.DRAINING))


def _set_desired_count(tx: Transaction, call: Call, cluster: Cluster, hypothesis: Any) -> None:
    service = tx.get(SERVICES, lookup.service_key(call, cluster, hypothesis.service or ""))
    if service is None:
        raise ServiceNotFoundError
    desired = service_input.desired_count_of(hypothesis.desiredCount, most=call.settings.tasks_per_service_max)
    tx.put(SERVICES, msgspec.structs.replace(service, desired_count=desired))


_KINDS: Final[dict[str, Callable[[Transaction, Call, Cluster, Any], None]]] = {
    "ADD_INSTANCES": _add,
    "LOSE_INSTANCES": _lose,
    "DRAIN_INSTANCES": _drain,
    "LOSE_AVAILABILITY_ZONE": _lose_zone,
    "SET_DESIRED_COUNT": _set_desired_count,
}
