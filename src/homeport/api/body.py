"""The first step of every call: its body.

Owns: `read_body`. Never holds more than the limit, never looks into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeport.api.exchange import Disconnected, Exchange
from homeport.errors import RequestTooLargeError

if TYPE_CHECKING:
    from homeport.api.server import Application


async def read_body(application: Application, exchange: Exchange) -> None:
    """The whole body, of which no more than the limit is ever held."""
    limit = application.context.settings.body_bytes_max
    declared = exchange.headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    message = await exchange.receive()
    if message["type"] != "http.request":
        raise Disconnected
    body = message.get("body", b"")
    if message.get("more_body"):
        pieces = [body]
        size = len(body)
        while message.get("more_body"):
            message = await exchange.receive()
            if message["type"] != "http.request":
                raise Disconnected
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit:
                raise _too_large(limit)
        body = b"".join(pieces)
    if len(body) > limit:
        raise _too_large(limit)
    exchange.body = body


def _too_large(limit: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"Request must be no larger than {limit} bytes.")
