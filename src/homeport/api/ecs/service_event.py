"""A service's events as the API shows them.

Owns: the form and the order of `events[]` (newest first, at most 100). Never writes an event: `controllers/service_event.py` does.
"""

from __future__ import annotations

from typing import Any

from homeport.model.ecs.service import Service
from homeport.store.table import Reader
from homeport.store.tables import SERVICE_EVENTS


def events_json(reader: Reader, service: Service) -> list[dict[str, Any]]:
    """`events[]` of `service`. Events of a deleted service that had the same name are older than this one and are left out."""
    events = [event for event in reader.find(SERVICE_EVENTS, "service", service.key) if event.created_at >= service.created_at]
    return [{"id": event.id, "createdAt": event.created_at, "message": event.message} for event in reversed(events)]
