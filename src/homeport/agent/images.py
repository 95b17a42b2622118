"""Images: whether one is here, and getting it when it is not.

Owns: the four pull behaviours (agent-protocol.md 3.1), one pull at a time for one image, and the memory of what was pulled.
Never goes to a network for an image that is here, unless the behaviour says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from homeport.agent.runtime.contract import ImageObservation, PullError, Runtime
from homeport.clock import Clock

PULL_ATTEMPTS_MAX: Final = 3
PULL_RETRY_SECONDS: Final = 1.0
_PASSING = ("timeout", "TLS handshake", "EOF", "connection reset", "too many requests", "nothing came from the registry", "unavailable")
"""Words of errors that a second attempt may not meet."""


class Resolution(msgspec.Struct, frozen=True):
    """An image that is here. `fresh`: its registry was asked just now."""

    image: ImageObservation
    fresh: bool


class Images:
    """The images of one runtime."""

    def __init__(self, *, runtime: Runtime, clock: Clock, behavior: str, pulled: Callable[[str], bool], note_pulled: Callable[[str], None]) -> None:
        """`behavior`: default, always, once or prefer-cached. `pulled` and `note_pulled` remember, for `once`, what this agent pulled."""
        self._runtime = runtime
        self._clock = clock
        self._behavior = behavior
        self._pulled = pulled
        self._note_pulled = note_pulled
        self._flights: dict[str, asyncio.Task[Resolution]] = {}

    async def ensure(self, reference: str) -> Resolution:
        """The image, here. Raises PullError, and the runtime's temporary errors."""
        return await self._shared(reference, lambda: self._resolve(reference))

    async def _resolve(self, reference: str) -> Resolution:
        if self._behavior == "prefer-cached" or (self._behavior == "once" and self._pulled(reference)):
            image = await self._runtime.image(reference)
            if image is not None:
                return Resolution(image, fresh=False)
        try:
            await self._pull(reference)
        except PullError:
            image = await self._runtime.image(reference) if self._behavior in ("default", "once") else None
            if image is None:
                raise
            return Resolution(image, fresh=False)
        self._note_pulled(reference)
        image = await self._runtime.image(reference)
        if image is None:
            raise PullError(f"image {reference} was pulled but is not here")
        return Resolution(image, fresh=True)

    async def _pull(self, reference: str) -> None:
        for attempt in range(1, PULL_ATTEMPTS_MAX + 1):
            try:
                return await self._runtime.pull(reference)
            except PullError as error:
                if attempt == PULL_ATTEMPTS_MAX or not any(word.lower() in str(error).lower() for word in _PASSING):
                    raise
            await self._clock.sleep(PULL_RETRY_SECONDS * attempt)
        return None

    async def _shared(self, reference: str, work: Callable[[], Coroutine[Any, Any, Resolution]]) -> Resolution:
        """One flight for all that ask while it is in the air."""
        flight = self._flights.get(reference)
        if flight is None:
            flight = asyncio.create_task(work())
            self._flights[reference] = flight
            flight.add_done_callback(lambda _: self._flights.pop(reference, None))
        return await asyncio.shield(flight)
