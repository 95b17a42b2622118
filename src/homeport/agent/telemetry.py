"""The agent's telemetry (TCS) connection: container health and the state of the container runtime.

Owns: when something is published, and the acknowledgements. Never probes a container (Docker does) and never stores anything.
Health goes out when it changes, and all of it again with every heartbeat of the other connection, so that a lost frame does no lasting harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from homeport.acs.messages import InstanceStatus, Message, PublishHealthRequest, PublishInstanceStatusRequest, PublishMetadata, encode
from homeport.agent.session import Engine
from homeport.clock import Clock
from homeport.errors import HomeportError

SILENCE_SECONDS: Final = 100.0
"""A connection on which nothing came for so long is given up: three heartbeats, at each of which something is published and acknowledged."""

_log = logging.getLogger(__name__)


class Telemetry:
    """What is published, over whichever connection there is. `publish_soon` may be called at any time."""

    def __init__(self, *, engine: Engine, ping: Callable[[], Awaitable[None]], clock: Clock, cluster: str) -> None:
        """`ping` raises when the container runtime does not answer."""
        self._engine = engine
        self._ping = ping
        self._clock = clock
        self._cluster = cluster
        self._due = asyncio.Event()
        self._status = ""
        self._changed_at = 0.0
        self._ping_wanted = True

    def publish_soon(self) -> None:
        """Health has changed."""
        self._due.set()

    def heartbeat(self) -> None:
        """Look at the runtime too, and publish everything."""
        self._ping_wanted = True
        self._due.set()

    async def run(self, socket: aiohttp.ClientWebSocketResponse, instance_arn: str) -> None:
        """Publish on `socket` until it ends, or until nothing that was published is acknowledged any more."""
        self.heartbeat()
        publisher = asyncio.get_running_loop().create_task(self._publish(socket, instance_arn))
        try:
            # Acknowledgements. Nothing depends on one, but without any the connection leads nowhere, which TCP notices after a quarter of an hour.
            while (await socket.receive(timeout=SILENCE_SECONDS)).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                pass
        except TimeoutError:
            _log.warning("no telemetry was acknowledged for %.0f s", SILENCE_SECONDS)
        finally:
            publisher.cancel()
            await asyncio.gather(publisher, return_exceptions=True)

    async def _publish(self, socket: aiohttp.ClientWebSocketResponse, instance_arn: str) -> None:
        metadata = PublishMetadata(cluster=self._cluster, containerInstance=instance_arn)
        while True:
            await self._due.wait()
            self._due.clear()
            messages: list[Message] = []
            now = self._clock.now()
            if self._ping_wanted:
                self._ping_wanted = False
                messages.append(PublishInstanceStatusRequest(metadata=metadata, statuses=[await self._runtime_status()], timestamp=now))
            health = self._engine.health()
            if health:
                messages.append(PublishHealthRequest(metadata=metadata, tasks=health, timestamp=now))
            try:
                for message in messages:
                    await socket.send_str(encode(message).decode())
            except (ConnectionError, RuntimeError):  # the reader learns it too
                return

    async def _runtime_status(self) -> InstanceStatus:
        try:
            await self._ping()
            status = "OK"
        except HomeportError as error:
            _log.warning("the container runtime does not answer: %s", error)
            status = "IMPAIRED"
        now = self._clock.now()
        if status != self._status:
            self._status = status
            self._changed_at = now
        return InstanceStatus(type="ContainerRuntime", status=status, lastUpdated=now, lastStatusChange=self._changed_at)
