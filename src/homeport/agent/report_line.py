"""Reports over the control connection, once the server offered to take them there: many in a frame, each answered by its number.

Owns: `ReportLine`: what waits to be sent on one connection and what waits for its answer. Never keeps a report longer than its connection and never
tries one again: `reporter.py` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from homeport.acs.messages import Message, StateReport, StateReportsAck, StateReportsRequest
from homeport.agent.client import CallFailedError, UnreachableError

QUERY: Final = "stateReports"
"""Member of the control connection's query by which the agent asks for the offer (value 1)."""
WAITING_MAX: Final = 200
"""Reports without an answer at a time, or as many as the server says if that is less."""
FRAME_REPORTS_MAX: Final = 100
"""Reports in one frame."""
ENDED: Final = "the control connection ended"


class ReportLine:
    """One connection's reports. `submit` one at a time for a task: two of one connection may become durable in any order."""

    def __init__(self, tell: Callable[[Message], Awaitable[None]], *, waiting_max: int, timeout_seconds: float) -> None:
        """`tell` sends a message; `waiting_max` is the server's offer; `timeout_seconds`: a report without an answer for so long is given up."""
        self._tell = tell
        self._room = asyncio.Semaphore(max(1, min(WAITING_MAX, waiting_max)))
        self._timeout_seconds = timeout_seconds
        self._outgoing: list[StateReport] = []
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._number = 0
        self._sending: asyncio.Task[None] | None = None
        self.open = True
        """False once it ended, or an answer did not come: the way for reports is HTTP then, until the next connection."""

    async def submit(self, operation: str, request: Mapping[str, Any]) -> None:
        """Return once the report is durable. Raises CallFailedError when it is refused, UnreachableError when there is no answer."""
        async with self._room:
            if not self.open:
                raise UnreachableError(ENDED)
            self._number += 1
            number = self._number
            answer = self._answers[number] = asyncio.get_running_loop().create_future()
            self._outgoing.append(StateReport(number=number, operation=operation, request=msgspec.Raw(msgspec.json.encode(request))))
            if self._sending is None:
                self._sending = asyncio.get_running_loop().create_task(self._send())
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await answer
            except TimeoutError:
                self.open = False
                raise UnreachableError(f"{operation}: no answer within {self._timeout_seconds:g} s") from None
            finally:
                del self._answers[number]

    async def _send(self) -> None:
        """Send what waits; what came in one turn of the event loop goes together."""
        try:
            while self._outgoing:
                frame, self._outgoing = self._outgoing[:FRAME_REPORTS_MAX], self._outgoing[FRAME_REPORTS_MAX:]
                await self._tell(StateReportsRequest(reports=frame))
        finally:
            self._sending = None

    def heard(self, message: StateReportsAck) -> None:
        """Settle what is answered. An answer to what nobody asked, or a second one, changes nothing."""
        for number in message.taken:
            answer = self._answers.get(number)
            if answer is not None and not answer.done():
                answer.set_result(None)
        for refused in message.refused:
            answer = self._answers.get(refused.number)
            if answer is not None and not answer.done():
                answer.set_exception(CallFailedError(refused.code, refused.message))

    def end(self) -> None:
        """The connection is over: whether reports without an answer were taken is not known."""
        self.open = False
        if self._sending is not None:
            self._sending.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(UnreachableError(ENDED))
