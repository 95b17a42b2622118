"""Whether an instance's agent is there.

Owns: the writes of `instance.session`, `agent_connected`, `connected_at` and `disconnected_at` (architecture section 7), and the timer wheel that all
sessions share. Newest session wins; ending compares the id. Never talks to an agent; never stores a heartbeat.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from homeport.clock import Clock
from homeport.errors import HomeportError
from homeport.model.ecs.container_instance import INACTIVE, AgentSession, ContainerInstance
from homeport.model.record import Instant
from homeport.store.table import Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, INSTANCE_IDENTITIES

INVALID_INSTANCE: Final = "InvalidInstanceException"
INACTIVE_INSTANCE: Final = "InactiveInstanceException"
INVALID_CLUSTER: Final = "InvalidClusterException"
ACCESS_DENIED: Final = "AccessDeniedException"
BAD_REQUEST: Final = "BadRequestException"
SERVER_FAULT: Final = "ServerException"


class SessionRefusedError(HomeportError):
    """An agent may not connect. `exception` is the name that the agent protocol has for the reason."""

    def __init__(self, exception: str, message: str) -> None:
        super().__init__(message)
        self.exception = exception
        self.message = message


def admitted(instance: ContainerInstance | None, key: str) -> ContainerInstance:
    """`instance` when an agent may speak for it.

    Raises SessionRefusedError when there is none under `key`, or when it is deregistered.
    """
    if instance is None:
        raise SessionRefusedError(INVALID_INSTANCE, f"There is no container instance {key.rpartition('/')[2]} in this cluster.")
    if instance.status == INACTIVE:
        raise SessionRefusedError(INACTIVE_INSTANCE, f"Container instance {instance.id} is deregistered.")
    return instance


def is_own(reader: Reader, key: str, identity: str) -> bool:
    """Whether the host `identity` is the instance under `key`, and was not revoked; true of an agent with other credentials than a host's ("")."""
    known = reader.get(INSTANCE_IDENTITIES, identity) if identity else None
    return not identity or (known is not None and known.instance == key)


def require_own(reader: Reader, key: str, identity: str) -> None:
    """Raises SessionRefusedError unless `is_own`."""
    if not is_own(reader, key, identity):
        raise SessionRefusedError(
            ACCESS_DENIED, f"Container instance {key.rpartition('/')[2]} is not that of host {identity}, or the host was revoked."
        )


def opened(tx: Transaction, key: str, *, session_id: str, server: str) -> ContainerInstance:
    """Make `session_id` the one session of the instance under `key`, in place of any other; return the instance.

    Raises SessionRefusedError as `admitted` does.
    """
    instance = admitted(tx.get(CONTAINER_INSTANCES, key), key)
    there = msgspec.structs.replace(
        instance,
        session=AgentSession(id=session_id, server=server, since=tx.now),
        agent_connected=True,
        connected_at=instance.connected_at if instance.agent_connected else tx.now,
        version=instance.version + (not instance.agent_connected),
    )
    tx.put(CONTAINER_INSTANCES, there)
    return there


def ended(tx: Transaction, key: str, *, session_id: str) -> bool:
    """Say that `session_id` is over; return whether it was still the instance's session."""
    instance = tx.get(CONTAINER_INSTANCES, key)
    if instance is None or instance.session is None or instance.session.id != session_id:
        return False
    away = msgspec.structs.replace(
        instance, session=None, agent_connected=False, disconnected_at=tx.now, version=instance.version + instance.agent_connected
    )
    tx.put(CONTAINER_INSTANCES, away)
    return True


def is_over(instance: ContainerInstance | None, *, session_id: str, opened: Instant) -> bool:
    """Whether the session `session_id`, which began at `opened`, is over by what a copy of the store shows, which may not have its beginning yet.

    On one of several servers that is news: the leader ends the sessions of a server that it misses, and that may live and be cut off.
    """
    if instance is None or instance.session is None:
        return instance is None or instance.disconnected_at > opened
    return instance.session.id != session_id and instance.session.since > opened


def sessions_of(reader: Reader, server: str) -> tuple[tuple[str, str], ...]:
    """(instance key, session id) of every session that the store has for `server`."""
    return tuple((i.key, i.session.id) for i in reader.find(CONTAINER_INSTANCES, "server", server) if i.session is not None)


class Timed(Protocol):
    """Something that must be looked at from time to time."""

    def due(self, now: float) -> float | None:
        """Do what is due at `now` (monotonic seconds) without waiting; return when to come again, or None for never."""
        ...


class Wheel:
    """One timer for all sessions: a bucket per step of time, so that a session costs one list entry and no task.

    An item comes up to one step late, never early; one that is added for a time before all others up to `look_seconds` late. Steps are small so that
    what is due in one second is not done at one stroke: with ten thousand sessions that held up every call for a tenth of a second.
    """

    def __init__(self, clock: Clock, *, step_seconds: float, look_seconds: float, failed: Callable[[Exception], None]) -> None:
        self._clock = clock
        self._step = step_seconds
        self._look = look_seconds
        self._failed = failed
        self._buckets: dict[int, list[Timed]] = {}
        self._numbers: list[int] = []
        """A heap of the buckets' numbers."""

    def add(self, item: Timed, at: float) -> None:
        """Call `item.due` once monotonic time is `at`."""
        number = int(at / self._step) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = []
            heapq.heappush(self._numbers, number)
        bucket.append(item)

    def turn(self, now: float) -> None:
        """Call everything that is due at `now`. An exception of one item is handed to `failed` and ends only that item's turn."""
        position = int(now / self._step)
        while self._numbers and self._numbers[0] <= position:
            for item in self._buckets.pop(heapq.heappop(self._numbers)):
                try:
                    again = item.due(now)
                except Exception as error:  # one session's fault must not stop the others' heartbeats
                    self._failed(error)
                    continue
                if again is not None:
                    self.add(item, max(again, now))

    async def run(self) -> None:
        """Turn for ever."""
        while True:
            now = self._clock.monotonic()
            wait_seconds = self._numbers[0] * self._step - now if self._numbers else self._look
            await self._clock.sleep(min(max(wait_seconds, self._step), self._look))
            self.turn(self._clock.monotonic())
