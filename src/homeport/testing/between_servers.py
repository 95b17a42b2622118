"""How one simulated server reaches the others: as much of `aiohttp.ClientSession` as `api.forward` uses, over the simulation's network.

Owns: `VirtualHttp`. Never decides what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

from homeport.agent.client import UnreachableError
from homeport.testing.network import REFUSED, TARGET_PREFIX, Ask, Link, Network

_TARGET: Final = "x-amz-target"


class _Response:
    """What came back."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._body = body

    async def read(self) -> bytes:
        """The body."""
        return self._body


class VirtualHttp:
    """See the module."""

    def __init__(self, network: Network, link: Link) -> None:
        """`link` is the way of the server that asks."""
        self._network = network
        self._link = link

    @contextlib.asynccontextmanager
    async def post(self, url: str, *, data: bytes, headers: Mapping[str, str], allow_redirects: bool, ssl: object) -> AsyncIterator[_Response]:
        """POST; waits for ever for an answer that does not come. Raises aiohttp.ClientError."""
        del allow_redirects, ssl
        parts = urlsplit(url)
        named = {name.lower(): value for name, value in headers.items()}
        ask = Ask(
            operation=named.get(_TARGET, "").removeprefix(TARGET_PREFIX),
            body=data,
            to=f"{parts.scheme}://{parts.netloc}",
            path=parts.path,
            headers=tuple((name.encode(), value.encode()) for name, value in named.items()),
            repeated=False,
        )
        yield await self._exchange(ask)

    @contextlib.asynccontextmanager
    async def get(self, url: str, *, timeout: aiohttp.ClientTimeout, allow_redirects: bool, ssl: object) -> AsyncIterator[_Response]:
        """GET. Raises aiohttp.ClientError, and TimeoutError."""
        del allow_redirects, ssl
        parts = urlsplit(url)
        ask = Ask(operation="", body=b"", to=f"{parts.scheme}://{parts.netloc}", path=parts.path, method="GET", repeated=False)
        async with asyncio.timeout(timeout.total):
            response = await self._exchange(ask)
        yield response

    async def _exchange(self, ask: Ask) -> _Response:
        try:
            status, body = await self._network.exchange(self._link, ask)
        except UnreachableError as error:
            raise _failure(ask.to, refused=REFUSED in str(error)) from None
        return _Response(status, body)

    async def close(self) -> None:
        """Nothing is open."""


def _failure(address: str, *, refused: bool) -> aiohttp.ClientError:
    if not refused:
        return aiohttp.ServerDisconnectedError()
    parts = urlsplit(address)
    key: Any = ConnectionKey(parts.hostname or "", parts.port, False, True, None, None, None)
    return aiohttp.ClientConnectorError(key, ConnectionRefusedError(111, REFUSED))
