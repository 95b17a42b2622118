"""What a read on a copy waits for: etcd's word on how far the state is, and the copy to be that far.

Owns: `Barrier` and `Arrivals`. Never answers from memory: a question that was on its way when somebody asked is not good enough for them, they get
the next one, and share it with everybody else who asks meanwhile.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

import msgspec

from homeport.clock import Clock
from homeport.errors import EtcdUnavailableError, HomeportError, NoQuorumError
from homeport.store.etcd import messages
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.etcd.client import get
from homeport.store.etcd.layout import Standing, decode_standing

CLOSING: Final = "the server is closing"
LAG_SECONDS: Final = 1.0
"""How long a copy may be behind what etcd said before that is odd."""


class Truth(msgspec.Struct, frozen=True, gc=False):
    """What etcd's majority said at a moment after the question was asked."""

    revision: int
    """Of the last durable transaction."""
    leadership: int
    """Number of the leadership (create revision of the leader key), 0 when nobody leads."""


class Barrier:
    """Linearizable reads of the head and the leader key."""

    def __init__(self, backend: EtcdBackend, *, seconds: float) -> None:
        """`seconds` is how long to go on asking when etcd does not answer."""
        self._backend = backend
        self._seconds = seconds
        self._waiting: list[asyncio.Future[Truth | HomeportError]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self) -> Truth:
        """What is true now. Raises NoQuorumError when etcd does not answer in time."""
        future: asyncio.Future[Truth | HomeportError] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="store-barrier")
        answer = await future
        if isinstance(answer, HomeportError):
            raise NoQuorumError(str(answer))
        return answer

    async def _ask(self) -> None:
        try:
            while self._waiting:
                askers, self._waiting = self._waiting, []
                answer: Truth | HomeportError = EtcdUnavailableError(CLOSING)
                try:
                    answer = await self._question()
                except HomeportError as error:
                    answer = error
                finally:
                    for future in askers:
                        if not future.done():
                            future.set_result(answer)
        finally:
            self._asking = None

    async def _question(self) -> Truth:
        layout = self._backend.layout
        request = messages.TxnRequest(success=[get(layout.head), get(layout.leader)])
        answer = await self._backend.client.read(request, name="Txn", patience=self._seconds)
        heads, leaders = (response.response_range.kvs for response in answer.responses)
        standing = decode_standing(heads[0].value) if heads else Standing()
        return Truth(standing.revision, leaders[0].create_revision if leaders else 0)

    async def close(self) -> None:
        """Give up the question under way; who waits gets NoQuorumError."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait((self._asking,))
        for future in self._waiting:
            if not future.done():
                future.set_result(EtcdUnavailableError(CLOSING))
        self._waiting.clear()


class Arrivals:
    """Those who wait for the copy to reach a revision."""

    def __init__(self, clock: Clock, *, seconds: float, late: Callable[[], None]) -> None:
        """`seconds` is how long one waits at most; `late` is called about once a second while somebody has waited longer than that."""
        self._clock = clock
        self._seconds = seconds
        self._late = late
        self._waiting: list[tuple[int, float, asyncio.Future[NoQuorumError | None]]] = []
        self._patrol: asyncio.Task[None] | None = None

    async def wait(self, revision: int) -> None:
        """Return once `reached` was called with `revision` or more. Raises NoQuorumError when that takes too long."""
        future: asyncio.Future[NoQuorumError | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, self._clock.monotonic(), future))
        if self._patrol is None:
            self._patrol = asyncio.create_task(self._look_after(), name="store-arrivals")
        error = await future
        if error is not None:
            raise error

    def reached(self, revision: int) -> None:
        """The copy is at `revision`."""
        if self._waiting:
            self._release(None, revision=revision)

    async def _look_after(self) -> None:
        try:
            while self._waiting:
                await self._clock.sleep(LAG_SECONDS)
                now = self._clock.monotonic()
                self._release("this server's copy does not reach what etcd has", since=now - self._seconds)
                if any(now - since >= LAG_SECONDS for _, since, _ in self._waiting):
                    self._late()
        finally:
            self._patrol = None

    def _release(self, problem: str | None, *, revision: int = -1, since: float = -math.inf) -> None:
        """Answer those who want no more than `revision`, and those who ask since `since` or longer."""
        waiting, self._waiting = self._waiting, []
        for wanted, asked, future in waiting:
            if future.done():
                continue
            if wanted <= revision or asked <= since:
                future.set_result(None if problem is None else NoQuorumError(problem))
            else:
                self._waiting.append((wanted, asked, future))

    async def close(self) -> None:
        """Who waits gets NoQuorumError."""
        if self._patrol is not None:
            self._patrol.cancel()
            await asyncio.wait((self._patrol,))
        self._release(CLOSING, since=math.inf)
