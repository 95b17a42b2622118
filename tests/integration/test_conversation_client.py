"""The agent's client against servers that answer wrongly, late or not at all. Needs nothing but a loopback port."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from homeport.agent.client import CallFailedError, EcsClient, UnreachableError
from homeport.agent.settings import AgentSettings
from homeport.clock import SystemClock

CLOCK = SystemClock()


@contextlib.asynccontextmanager
async def client_of(*ports: int, call_timeout_seconds: float = 0.3):
    settings = AgentSettings(
        endpoint=",".join(f"http://127.0.0.1:{port}" for port in ports),
        ping_seconds=0.2,
        region="us-east-1",
        access_key_id="AKID",
        secret_access_key="secret",
        call_timeout_seconds=call_timeout_seconds,
    )
    client = EcsClient(settings, CLOCK)
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def server_of(handler):
    """An HTTP server with one handler for everything; gives its port."""
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_a_call_is_signed_and_its_answer_decoded():
    seen = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(request.headers, body=await request.read())
        return web.Response(body=b'{"clusterArns":[]}', content_type="application/x-amz-json-1.1")

    async with server_of(handler) as port, client_of(port) as client:
        assert await client.call("ListClusters", {"maxResults": 1}) == {"clusterArns": []}
    assert seen["X-Amz-Target"] == "AmazonEC2ContainerServiceV20141113.ListClusters"
    assert seen["Content-Type"] == "application/x-amz-json-1.1"
    assert seen["body"] == b'{"maxResults":1}'
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-target" in seen["Authorization"]


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (400, b'{"__type":"com.amazonaws#ClientException","message":"no"}', CallFailedError, "ClientException: no"),
        (500, b'{"__type":"ServerException"}', CallFailedError, "ServerException"),
        (502, b"<html>", UnreachableError, "502"),
        (404, b"{}", UnreachableError, "404"),
        (200, b"[]", UnreachableError, "no JSON object"),
        (307, b"", UnreachableError, "307"),
    ],
)
async def test_errors_are_read(status, body, error, text):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Location": "http://127.0.0.1:1/"} if status == 307 else {})

    async with server_of(handler) as port, client_of(port) as client:
        with pytest.raises(error, match=text):
            await client.call("ListClusters", {})


async def test_nobody_listens():
    async with client_of(1) as client:
        with pytest.raises(UnreachableError):
            await client.call("ListClusters", {})
        with pytest.raises(UnreachableError):
            await client.connect("http://127.0.0.1:1/acs/", {})


async def test_a_server_that_never_answers_is_given_up():
    ended = []

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.current_task())
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, client_of(port) as client:
        for attempt in (client.call("ListClusters", {}), client.connect(f"http://127.0.0.1:{port}/acs/", {})):
            began = CLOCK.monotonic()
            with pytest.raises(UnreachableError):
                await attempt
            assert CLOCK.monotonic() - began < 5
    await asyncio.gather(*ended)


async def test_an_open_connection_outlives_the_limit_of_its_handshake():
    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await CLOCK.sleep(0.8)
        await socket.send_str("still here")
        await socket.close()
        return socket

    async with server_of(handler) as port, client_of(port) as client:
        socket = await client.connect(f"http://127.0.0.1:{port}/acs/", {"containerInstanceArn": "arn:a/b:c d"})
        assert (await socket.receive(timeout=5)).data == "still here"
        await socket.close()


@pytest.mark.parametrize(("headers", "error"), [({"x-amzn-errortype": "InvalidInstanceException"}, CallFailedError), ({}, UnreachableError)])
async def test_a_refused_connection_has_the_exceptions_name(headers, error):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=400, headers=headers)

    async with server_of(handler) as port, client_of(port) as client:
        with pytest.raises(error):
            await client.connect(f"http://127.0.0.1:{port}/acs", {})


async def test_the_query_arrives_as_it_was_signed():
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(status=400)

    async with server_of(handler) as port, client_of(port) as client:
        with pytest.raises(UnreachableError):
            await client.connect(f"http://127.0.0.1:{port}/acs/", {"containerInstanceArn": "arn:aws:x/y", "dockerVersion": "DockerVersion: 1+2"})
    assert seen == ["/acs/ws?containerInstanceArn=arn%3Aaws%3Ax%2Fy&dockerVersion=DockerVersion%3A+1%2B2"]


async def test_a_connection_to_a_server_that_hangs_ends_soon_where_there_is_another():
    hung = asyncio.Event()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)  # takes pings and says nothing, as a stopped process does
        await socket.prepare(request)
        await hung.wait()
        return socket

    async with server_of(handler) as port, client_of(port, 1) as several, client_of(port) as alone:
        watched = await several.connect(f"http://127.0.0.1:{port}/acs/", {}, ping=True)
        unwatched = await alone.connect(f"http://127.0.0.1:{port}/acs/", {}, ping=True)
        assert (await watched.receive(timeout=10)).type is WSMsgType.ERROR
        assert watched.close_code == 1006
        with pytest.raises(TimeoutError):
            await unwatched.receive(timeout=0.5)
        hung.set()
        await unwatched.close()


async def test_an_agent_that_moved_on_returns_when_its_server_serves_again():
    told: dict[str, Any] = {"leader": ""}

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(told)

    async with server_of(handler) as one, server_of(handler) as two, client_of(one, two) as client:
        home = client.endpoint
        client.leave_server_of(home)
        away = client.endpoint
        assert away != home
        client.leave_server_of(home)  # where it is not any more
        assert client.endpoint == away
        await client.return_home()
        assert client.endpoint == away, "a server that knows no leader does not serve yet"
        told["leader"] = "server-1"
        await client.return_home()
        assert client.endpoint == home
