"""Writing a service's events: numbered, newest 100 kept, the same cause not again while it persists.

Owns: `write_event` and the limit. Never words an event: planners and placement do (ecs-reference 3.8).
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeport.ids import Ids
from homeport.model.change import Event
from homeport.model.ecs.service import Service, ServiceEvent
from homeport.store.table import Reader, Transaction
from homeport.store.tables import SERVICE_EVENTS, SERVICES

EVENTS_MAX: Final = 100
"""Events kept per service, as ECS shows at most."""


def was_written(reader: Reader, service: Service, cause: str, *, since: float) -> bool:
    """Whether an event of `service` with `cause` was written after the instant `since`."""
    return any(event.cause == cause and event.created_at > since for event in reader.find(SERVICE_EVENTS, "service", service.key))


def write_event(tx: Transaction, service: Service, event: Event, *, ids: Ids, repeat_seconds: float) -> Service:
    """Write `event`, unless its cause was written within `repeat_seconds`; the service as it is stored afterwards.

    The event that this one pushes out of the newest 100 is deleted.
    """
    if event.cause and was_written(tx, service, event.cause, since=max(service.created_at, tx.now - repeat_seconds)):
        return service
    number = service.events_written + 1
    counted = msgspec.structs.replace(service, events_written=number)
    tx.put(SERVICES, counted)
    tx.put(
        SERVICE_EVENTS,
        ServiceEvent(
            account=service.account,
            cluster=service.cluster,
            service=service.name,
            number=number,
            id=ids.uuid(),
            created_at=tx.now,
            message=event.message,
            cause=event.cause,
        ),
    )
    if number > EVENTS_MAX:
        tx.delete(SERVICE_EVENTS, f"{service.key}/{number - EVENTS_MAX:010d}")
    return counted
