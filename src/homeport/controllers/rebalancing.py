"""The part of the service controller that is about zones: when they are looked at, and what the planner of rebalancing reads.

Owns: `plan_rebalancing`. Never commits anything but the end of a rebalancing that was interrupted; the rest is for `controllers/service.py`.
"""

from __future__ import annotations

import msgspec

from homeport.controllers.service_event import write_event
from homeport.ids import Ids
from homeport.model.change import Event, Plan
from homeport.model.ecs.service import Service
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.placement.index import PlacementIndex
from homeport.placement.request import placement_request
from homeport.planner import rebalancing as planner
from homeport.planner.service import ServiceView, Victims, is_settled
from homeport.store.table import Transaction
from homeport.store.tables import CONTAINER_INSTANCES, SERVICES, TASK_DEFINITIONS

_ATTRIBUTE = planner.ZONE.removeprefix("attribute:")


class Rebalancing:
    """See the module."""

    def __init__(self, *, placement: PlacementIndex, ids: Ids, healthy_after_seconds: float) -> None:
        self._placement = placement
        self._ids = ids
        self._after = healthy_after_seconds

    def plan(self, tx: Transaction, view: ServiceView, victims: Victims) -> tuple[ServiceView, Plan | None]:
        """The step to take instead of the service's ordinary one, or None; and the view, without a rebalancing that was interrupted."""
        service = view.service
        if service.rebalancing:
            if planner.interrupted(view, self._after, tx.now):
                service = msgspec.structs.replace(service, rebalancing=0)
                tx.put(SERVICES, service)
                service = write_event(tx, service, Event(planner.stopped(service.name)), ids=self._ids, repeat_seconds=0.0)
                return msgspec.structs.replace(view, service=service), None
        elif not self._starts(tx, view):
            return view, None
        definition = tx.get(TASK_DEFINITIONS, task_definition_key(service.account, service.family, service.revision))
        counts = self._zones(service, definition)
        if not service.rebalancing and not planner.skewed(counts):
            return view, None
        found = {key: tx.get(CONTAINER_INSTANCES, key) for key in {task.instance_key for task in view.tasks}}
        zones = planner.Zones(
            usable=frozenset(counts),
            of_instance={key: (instance.attribute(_ATTRIBUTE) or "") for key, instance in found.items() if instance is not None},
        )
        return view, planner.plan(view, zones, victims, healthy_after_seconds=self._after, now=tx.now)

    def _zones(self, service: Service, definition: TaskDefinition | None) -> dict[str, int]:
        """Zones → tasks of the service there. With a strategy only those that all of its providers have instances in: whichever provider's turn it
        is, a task can be started there."""
        providers = [item.capacity_provider for item in service.capacity_provider_strategy] or [""]
        first, *others = (self._placement.zones(placement_request(service, definition, provider=provider)) for provider in providers)
        return {zone: count for zone, count in first.items() if all(zone in found for found in others)}

    def _starts(self, tx: Transaction, view: ServiceView) -> bool:
        """Whether the service is in the steady state that a rebalancing may begin from."""
        service = view.service
        if service.availability_zone_rebalancing != planner.ENABLED or not service.steady or len(view.deployments) != 1:
            return False
        if planner.ineligible(service) or not is_settled(view, self._after, tx.now):
            return False
        # What would end it at the next look must not begin: it would begin and end without a pause, each time with an event.
        begun = msgspec.structs.replace(service, rebalancing=service.desired_count)
        return not planner.interrupted(msgspec.structs.replace(view, service=begun), self._after, tx.now)
