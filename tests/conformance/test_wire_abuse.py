"""A socket that does not behave: heads without end, silence, garbage, pipelines. The server stays up and answers the next one."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvicorn

from homeport.api import connection
from homeport.api.server import SERVER_OPTIONS

GOOD = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"


async def application(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(**changes):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(application, **{**SERVER_OPTIONS, "loop": "none", **changes}))
        running = asyncio.create_task(server._serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send the pieces, one after the other; everything that comes back until the server closes or is silent for half a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        while data := await asyncio.wait_for(reader.read(65536), 0.5):
            got += data
    writer.close()
    return got


@pytest.mark.parametrize("piece", [b"X-1: " + b"a" * 9_993 + b"\r\n", b"a" * 10_000], ids=["many headers", "one header"])
async def test_a_head_without_end_is_refused_at_its_limit(piece):
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nX: ")
        answer = None
        for _ in range(connection.HEAD_BYTES_MAX // len(piece) + 1):
            assert answer is None, "refused too early"
            writer.write(piece)
            with contextlib.suppress(TimeoutError):
                answer = await asyncio.wait_for(reader.read(65536), 0.02)
        answer = answer or await asyncio.wait_for(reader.read(65536), 2)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()
        assert (await exchange(port, GOOD)).startswith(b"HTTP/1.1 200 ")


async def test_a_slow_head_is_refused_and_a_silent_client_dropped(monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS_MAX", 0.1)
    async with serving(timeout_keep_alive=0.2) as port:
        assert (await exchange(port, b"POST / HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408 ")
        second = await exchange(port, GOOD, b"POST / HT")
        assert second.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in second
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


async def test_a_body_longer_than_the_head_may_be_is_no_head():
    async with serving() as port:
        body = b"a" * 60_000
        answer = await exchange(port, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n" + body, GOOD)
        assert answer.count(b"HTTP/1.1 200 ") == 2


async def test_pipelined_requests_are_answered_in_order():
    async with serving() as port:
        requests = b"".join(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(5))
        answer = await exchange(port, requests)
        assert [part[-1:] for part in answer.split(b"HTTP/1.1 200 ")[1:]] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00", b"HELLO\r\n\r\n", b"POST  HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n" * 10]
)
async def test_garbage_is_no_reason_to_end(garbage):
    async with serving() as port:
        await exchange(port, garbage)
        assert (await exchange(port, GOOD)).startswith(b"HTTP/1.1 200 ")


async def test_garbage_behind_a_request_does_not_take_its_answer():
    async with serving() as port:
        answer = await exchange(port, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi" + b"garbage \x00\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"hi")
        assert answer.count(b"HTTP/1.1 ") == 1
