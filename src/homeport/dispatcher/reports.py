"""Reports that come over agents' connections: gathered from all sessions of this server, made durable together, answered one by one.

Owns: `Desk`, its bounds, and `TakeReports`, the port through which reports become durable. Never looks into a report and never tries one again:
an agent does.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, Protocol

TOGETHER_MAX: Final = 80
"""Reports in one transaction, which writes one record for each: under a transaction's 100."""
TOGETHER_BYTES_MAX: Final = 262_144
"""And of so many bytes at most; a larger one goes alone."""
UNDER_WAY_MAX: Final = 4
"""Transactions of reports at a time. What comes meanwhile goes into the next ones, which grow with the load."""
WAITING_MAX: Final = 1_000
"""Reports of one connection that have no answer yet; what is over that is refused, so that no agent fills the server's memory."""
THROTTLED: Final = "ThrottlingException"
FAILED: Final = "ServerException"

_log = logging.getLogger(__name__)


class Principal(NamedTuple):
    """Who signed a connection's handshake."""

    account: str
    arn: str


class Refused(Protocol):
    """Why a report was not taken, in the words of the API's error."""

    @property
    def code(self) -> str:
        """AWS's name of the error."""
        ...

    @property
    def message(self) -> str:
        """Its sentence."""
        ...


class Refusal(NamedTuple):
    """A `Refused` of the dispatcher's own."""

    code: str
    message: str


class Handed(NamedTuple):
    """A report as a connection hands it in."""

    instance: str
    """Key of the container instance whose connection it is; it may report its own tasks only."""
    request: bytes
    """JSON, as in the body of a call."""


TakeReports = Callable[[str, str, str, Sequence[Handed]], Awaitable[Sequence[Refused | None]]]
"""(account, principal ARN, operation, reports) → for each report None once it is durable, or its refusal.

The API gives it, so that a report meets the same checks here as over HTTP."""


class Answerable(Protocol):
    """A session, as far as its reports and their answers go."""

    @property
    def key(self) -> str:
        """Key of its container instance."""
        ...

    def answered(self, number: int, refused: Refused | None) -> None:
        """The report `number` is durable, or refused."""
        ...


class Desk:
    """Where the sessions of one server hand in their reports."""

    def __init__(self, take: TakeReports, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """`spawn` runs a coroutine in the background; a report whose work is cancelled gets no answer."""
        self._take = take
        self._spawn = spawn
        self._waiting: dict[tuple[Principal, str], deque[tuple[Answerable, int, bytes]]] = {}
        self._under_way = 0
        self._starting = False

    def put(self, session: Answerable, who: Principal, operation: str, *, number: int, request: bytes) -> None:
        """Take a report in; its answer comes later. What comes in one turn of the event loop is made durable together."""
        key = (who, operation)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque()
        waiting.append((session, number, request))
        self._start()

    def _start(self) -> None:
        if not self._starting and self._under_way < UNDER_WAY_MAX:
            self._starting = True
            self._under_way += 1
            self._spawn(self._work())

    async def _work(self) -> None:
        """Make durable what waits, until nothing does."""
        self._starting = False
        try:
            while self._waiting:
                (who, operation), group = self._next()
                if self._waiting:
                    self._start()
                answers = await self._answers(who, operation, [Handed(session.key, request) for session, _, request in group])
                for (session, number, _), refused in zip(group, answers, strict=True):
                    session.answered(number, refused)
        finally:
            self._under_way -= 1

    def _next(self) -> tuple[tuple[Principal, str], list[tuple[Answerable, int, bytes]]]:
        key, waiting = next(iter(self._waiting.items()))
        group = [waiting.popleft()]
        size = len(group[0][2])
        while waiting and len(group) < TOGETHER_MAX and (size := size + len(waiting[0][2])) <= TOGETHER_BYTES_MAX:
            group.append(waiting.popleft())
        del self._waiting[key]
        if waiting:  # at the end, so that one principal's reports do not hold up another's
            self._waiting[key] = waiting
        return key, group

    async def _answers(self, who: Principal, operation: str, reports: list[Handed]) -> Sequence[Refused | None]:
        try:
            return await self._take(who.account, who.arn, operation, reports)
        except Exception:
            _log.exception("%d reports of agents could not be taken", len(reports))
            return [Refusal(FAILED, "The server met an error of its own.")] * len(reports)
