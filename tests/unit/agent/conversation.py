"""What the agent's session tests stand on: a socket without a network, and an engine that only remembers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from homeport.acs.messages import Message, TaskHealth, TaskPayload, encode
from homeport.errors import HomeportError


class FakeSocket:
    """The part of aiohttp's websocket that the agent uses. A test says what comes in; what goes out is kept."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._waiting = False
        self._incoming: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()

    def hears(self, message: Message | str) -> None:
        """One text frame comes in."""
        text = message if isinstance(message, str) else encode(message).decode()
        self._incoming.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, text, None))

    async def heard(self) -> None:
        """Return when everything that came in was dealt with and the next is waited for."""
        while not (self._incoming.empty() and self._waiting):
            await asyncio.sleep(0)

    def ends(self, code: int) -> None:
        """The other side closes."""
        self.close_code = code
        self._incoming.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSE, code, None))

    def falls_silent(self) -> None:
        """The receive timeout passes."""
        self._incoming.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.ERROR, TimeoutError(), None))

    async def receive(self, timeout: float | None = None) -> aiohttp.WSMessage:  # noqa: ASYNC109 - aiohttp's own signature
        self._waiting = True
        message = await self._incoming.get()
        self._waiting = False
        if isinstance(message.data, TimeoutError):
            raise message.data
        return message

    def __aiter__(self) -> FakeSocket:
        return self

    async def __anext__(self) -> aiohttp.WSMessage:
        message = await self.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise StopAsyncIteration
        return message

    async def send_str(self, text: str) -> None:
        if self.close_code is not None:
            raise ConnectionResetError("closed")
        self.sent.append(json.loads(text))

    async def close(self, *, code: int = 1000) -> bool:
        self.close_code = self.close_code or code
        return True

    def sent_of(self, kind: str) -> list[dict[str, Any]]:
        """Of what went out the messages of a type."""
        return [frame["message"] for frame in self.sent if frame["type"] == kind]


class RememberingEngine:
    """Takes tasks and does nothing; a task named `bad…` cannot be read."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, str]] = []
        self.payloads: list[TaskPayload] = []
        self.held: dict[str, str] = {}
        self.healths: list[TaskHealth] = []

    def submit(self, task: TaskPayload) -> None:
        if task.arn.startswith("bad"):
            raise HomeportError("no essential container")
        self.payloads.append(task)
        self.submitted.append((task.arn, task.desiredStatus))
        self.held[task.arn] = task.desiredStatus

    def tasks(self) -> list[tuple[str, str, str]]:
        return [(arn, desired, desired) for arn, desired in self.held.items()]

    def health(self) -> list[TaskHealth]:
        return self.healths
