"""What a connection itself tells of who is at the other end."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from homeport.api.connection import SERVER_CERTIFICATE
from homeport.api.server import SERVER_OPTIONS

NAMED = {"subjectAltName": (("IP Address", "127.0.0.1"), ("URI", "homeport://server/server-2"))}


class Secure:
    """As much of an SSLObject as is asked."""

    def __init__(self, version, certificate):
        self._version, self._certificate = version, certificate

    def version(self):
        return self._version

    def getpeercert(self):
        return self._certificate


class Transport(asyncio.Transport):
    def __init__(self, secure):
        super().__init__({"ssl_object": secure, "sslcontext": secure, "peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})

    def is_closing(self):
        return False

    def write(self, data):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(
    ("secure", "name"),
    [
        (None, None),
        (Secure("TLSv1.3", None), None),
        (Secure("TLSv1.3", {}), None),
        (Secure("TLSv1.3", {"subjectAltName": (("DNS", "homeport://server/server-2"),)}), None),
        (Secure("TLSv1.3", NAMED), "server-2"),
        (Secure("TLSv1.2", NAMED), None),  # it may be a session resumed, for which nothing was verified
    ],
)
async def test_a_request_tells_of_the_server_whose_certificate_its_own_connection_has_shown(secure, name):
    seen = []

    async def application(scope, receive, send):
        seen.append((scope["scheme"], scope.get(SERVER_CERTIFICATE)))

    config = uvicorn.Config(application, **SERVER_OPTIONS)
    config.load()
    connection = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(Transport(secure))
    for _ in range(2):  # the second request of a connection as well
        connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    for _ in range(3):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    assert seen[0] == ("https" if secure else "http", name)
