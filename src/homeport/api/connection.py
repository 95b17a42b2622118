"""uvicorn's HTTP connection with bounds on what a client may make it hold before a request is a request.

Owns: `BoundedHttp`: the largest head of a request, and how long a client may take to send one. Never looks into a request: `server.py` does, and
bounds the body.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from homeport.ids import Ids
from homeport.tls.names import server_named

HEAD_BYTES_MAX: Final = 64 * 1024
"""Request line and headers together; a signed call needs about 1 kB. Checked after each read, so one read more can be held."""
HEAD_SECONDS_MAX: Final = 20.0
"""From a head's first byte to its end."""

_REFUSALS: Final = {
    "large": b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    "slow": b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
}


SERVER_CERTIFICATE: Final = "homeport.server_certificate"
"""Key of the scope of a request whose connection was made with the certificate of a server of the installation: that server's name."""


class WholeAnswers:
    """A transport that sends an answer's head and body in one write.

    uvicorn writes them one after the other. A server that is killed between the two leaves a head with status 200 and no body, which boto3
    takes for a success with nothing in it: an effect that never was. One write also saves a system call per answer.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Keep a head back until what follows it is there."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            return
        self.transport.write(data)

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            head, self._head = self._head, b""
            self.transport.write(head)

    def close(self) -> None:
        """Send what is kept, then close."""
        self.flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


def _server_at(secure: ssl.SSLObject | None) -> str:
    """The server whose verified certificate the other end has shown on this very connection; "" when it has shown none.

    TLS 1.3 alone counts: an older connection may be one resumed, for which nothing was shown and nothing verified again.
    """
    if secure is None or secure.version() != "TLSv1.3":
        return ""
    return server_named((secure.getpeercert() or {}).get("subjectAltName", ()))  # type: ignore[arg-type]  # pairs of words, as Python documents it


class BoundedHttp(HttpToolsProtocol):
    """One connection. A client that says nothing at all is dropped after the keep-alive time."""

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None
    _server = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start to wait for the first byte."""
        super().connection_made(transport)
        self._server = _server_at(transport.get_extra_info("ssl_object"))
        self._whole = WholeAnswers(transport)
        self.transport = self._whole  # type: ignore[assignment]  # all that uvicorn asks of it is there
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Read on; refuse a head that grows or takes too long."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes:
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse("large")
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self._refuse, "slow")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._server:
            self.scope[SERVER_CERTIFICATE] = self._server  # type: ignore[typeddict-unknown-key]  # a scope may have more than the protocol names

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._head_bytes = 0
        self._forget_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The answer is whole, with or without a body."""
        self._whole.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all is refused in the API's form too; `msg` is uvicorn's word for what is wrong.

        A request before it that is under way gets its own answer, not this one: it may have changed something. Then the connection ends.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        body = msgspec.json.encode({"__type": "SerializationException", "message": msg})
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {len(body)}\r\n"
            f"x-amzn-requestid: {Ids().uuid()}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        """A websocket writes its own frames, each whole."""
        self.transport = self._whole.transport
        super().handle_websocket_upgrade()

    def on_message_complete(self) -> None:
        """The request is whole: what comes next is the head of another."""
        self._in_head = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._forget_timer()
        super().connection_lost(exc)

    def _refuse(self, why: str) -> None:
        self._forget_timer()
        if not self.transport.is_closing():
            self.transport.write(_REFUSALS[why])
            self.transport.close()

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
