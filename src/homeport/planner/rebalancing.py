"""Availability-zone rebalancing of a service, as pure functions.

Owns: `ineligible` (why a service may not be rebalanced), `interrupted`, `plan` (start in the emptiest zone, wait until healthy, stop in the fullest),
and the words of its events. Never chooses an instance or a victim. `Service.rebalancing` is all that it remembers: the desired count that it runs
for; how far it has come follows from the tasks.
Source: ecs-reference 3.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from homeport.model.change import Change, Event, Plan, StartTask, StopTask, UpdateService
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.service import Service
from homeport.model.record import Instant
from homeport.planner.protection import ends_at, is_protected, unable_to_scale_in
from homeport.planner.service import STARTS_MAX, ServiceView, Standing, Victims, bounds, standing

ZONE: Final = "attribute:ecs.availability-zone"
ENABLED: Final = "ENABLED"
DISABLED: Final = "DISABLED"
SKEW_MAX: Final = 1
"""A difference up to this between the fullest and the emptiest zone is balanced."""


def ineligible(service: Service) -> str:
    """Why zones of `service` cannot be rebalanced, as a sentence; "" when they can."""
    if service.scheduling_strategy != service_model.REPLICA:
        return "Availability Zone rebalancing needs the REPLICA scheduling strategy."
    if service.deployment_controller != "ECS":
        return "Availability Zone rebalancing needs the ECS deployment controller."
    if service.launch_type == "EXTERNAL":
        return "Availability Zone rebalancing is not supported with the EXTERNAL launch type."
    first = service.placement_strategy[0] if service.placement_strategy else None
    if first is not None and (first.type, first.field) != ("spread", ZONE):
        return f"Availability Zone rebalancing needs spread by {ZONE} as the first placement strategy, or none."
    if service.maximum_percent <= 100:
        return "Availability Zone rebalancing needs a maximumPercent greater than 100."
    if any(ZONE in constraint.expression for constraint in service.placement_constraints):
        return f"Availability Zone rebalancing is not supported with a placement constraint on {ZONE}."
    return ""


def skewed(counts: Mapping[str, int]) -> bool:
    """Whether the zones are out of balance. `counts`: usable zone → tasks."""
    return bool(counts) and max(counts.values()) - min(counts.values()) > SKEW_MAX


def interrupted(view: ServiceView, healthy_after_seconds: float, now: Instant) -> bool:
    """Whether the rebalancing that runs has to end: a deployment, another desired count, a task that is missing, sick or on a draining instance."""
    service, primary = view.service, view.primary
    if service.desired_count != service.rebalancing or len(view.deployments) != 1 or primary is None:
        return True
    if service.availability_zone_rebalancing != ENABLED or ineligible(service) or primary.rollout_state != deployment_model.COMPLETED:
        return True
    state = standing(view, healthy_after_seconds, now)
    return bool(state.leaving or state.unhealthy) or len(state.good) < state.desired


class Zones(msgspec.Struct, frozen=True, kw_only=True):
    """Where the instances are."""

    usable: frozenset[str]
    """Zones with an instance that suits the service."""
    of_instance: Mapping[str, str]
    """Key of every instance with a task of the service → its zone, "" where it has none."""


def plan(view: ServiceView, zones: Zones, victims: Victims, *, healthy_after_seconds: float, now: Instant) -> Plan | None:
    """The next step of a service in steady state, or of a rebalancing that nothing interrupts; None when there is nothing to rebalance."""
    primary, running = view.primary, bool(view.service.rebalancing)
    if primary is None:
        return None
    state = standing(view, healthy_after_seconds, now)
    if len(state.good) > state.desired:
        return _finish_round(view, state, zones, victims, now=now)
    counts = _counts(state, zones)
    if not skewed(counts):
        if not running:
            return None
        done = msgspec.structs.replace(view.service, rebalancing=0)
        return Plan((UpdateService(done, "its zones are balanced"), Event(balanced(view.service.name, counts))))
    emptiest = min(counts, key=lambda zone: (counts[zone], zone))
    fullest = max(counts, key=lambda zone: (counts[zone], zone))
    movable = sum(not is_protected(task, now) for task in state.good if zones.of_instance.get(task.instance_key) == fullest)
    room = bounds(view.service).upper - state.occupied
    count = min((counts[fullest] - counts[emptiest]) // 2, movable, room, STARTS_MAX)
    if primary.throttled_until > now:
        return Plan(wake_at=primary.throttled_until)
    if count <= 0:
        return Plan(wake_at=ends_at(state.good, now)) if running else None
    changes: list[Change] = [StartTask(primary, "its zones are out of balance", zone=emptiest) for _ in range(count)]
    if not running:
        begun = msgspec.structs.replace(view.service, rebalancing=view.service.desired_count)
        changes = [UpdateService(begun, "its zones are out of balance"), *changes, Event(not_balanced(view.service.name, counts))]
    return Plan(tuple(changes))


def _finish_round(view: ServiceView, state: Standing, zones: Zones, victims: Victims, *, now: Instant) -> Plan:
    """More tasks than desired: once all are healthy, those that are too many stop in the fullest zone."""
    if state.good_healthy < len(state.good):
        return Plan(wake_at=state.of_age_at, waiting_on=("tasks that are not healthy yet",))
    counts = _counts(state, zones)
    reason = f"Scaling activity initiated by (deployment {view.primary.shown_id if view.primary else ''})"
    for zone in sorted(counts, key=lambda name: (-counts[name], name)):
        there = [task for task in state.good if zones.of_instance.get(task.instance_key) == zone and not is_protected(task, now)]
        surplus = len(state.good) - state.desired
        chosen = victims(there, min(surplus, len(there), max(1, counts[zone] - min(counts.values()))))
        if chosen:
            return Plan(tuple(StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, reason, zone=zone) for task in chosen))
    withheld = [task for task in state.good if is_protected(task, now)]
    event = Event(unable_to_scale_in(view.service.name, len(withheld)), cause="rebalancing protection")
    return Plan((event,), wake_at=ends_at(withheld, now))


def _counts(state: Standing, zones: Zones) -> dict[str, int]:
    counts = dict.fromkeys(sorted(zones.usable), 0)
    for task in state.good:
        zone = zones.of_instance.get(task.instance_key, "")
        if zone in counts:
            counts[zone] += 1
    return counts


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} tasks in {zone}" for zone, count in sorted(counts.items()))


def not_balanced(name: str, counts: Mapping[str, int]) -> str:
    """SERVICE_REBALANCING_STARTED."""
    return f"(service {name}) is not AZ balanced with {_listed(counts)}. AZ Rebalancing in progress."


def balanced(name: str, counts: Mapping[str, int]) -> str:
    """SERVICE_REBALANCING_COMPLETED."""
    return f"(service {name}) is AZ balanced with {_listed(counts)}."


def unable_to_place(name: str, zone: str) -> str:
    """SERVICE_TASK_PLACEMENT_FAILURE of a rebalancing."""
    return f"(service {name}) is unable to place a task in {zone} because no container instance met all of its requirements."


def stopped(name: str) -> str:
    """SERVICE_REBALANCING_STOPPED."""
    return f"(service {name}) has stopped AZ Rebalancing."
