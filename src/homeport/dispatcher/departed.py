"""Sessions of servers that died: ended by the leader, unless their agents have come to another server by then.

Owns: `end_departed`. A server that comes back under its name in time looks after its own sessions (hub.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from homeport.clock import Clock
from homeport.dispatcher.command import EndSession
from homeport.errors import HomeportError
from homeport.store.store import Store
from homeport.store.table import Reader
from homeport.store.tables import CONTAINER_INSTANCES

PERIOD_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 10.0
"""From the moment when a server was first missed; its lease has run out by then, and its agents have looked for another one."""

_log = logging.getLogger(__name__)


async def end_departed(store: Store, servers: Callable[[], Awaitable[frozenset[str]]], clock: Clock) -> None:
    """Run on the leader until cancelled. `servers` names those that live."""
    missed: dict[str, float] = {}
    while True:
        try:
            lost = await store.view(_sessions)
            there = await servers()
            now = clock.monotonic()
            missed = {name: missed.get(name, now) for name in lost if name not in there}
            for name, since in missed.items():
                if now - since >= GRACE_SECONDS:
                    for key, session_id in lost[name]:
                        command = EndSession(key, session_id, f"{name} is gone, and the agent did not come back")
                        await store.update(command.apply, cause=command.cause)
        except HomeportError as error:
            _log.info("sessions of servers that are gone could not be looked at: %s", error)
        await clock.sleep(PERIOD_SECONDS)


def _sessions(reader: Reader) -> dict[str, list[tuple[str, str]]]:
    """Server → (instance key, session id) of its sessions."""
    found: dict[str, list[tuple[str, str]]] = {}
    for instance in reader.scan(CONTAINER_INSTANCES):
        if instance.session is not None:
            found.setdefault(instance.session.server, []).append((instance.key, instance.session.id))
    return found
