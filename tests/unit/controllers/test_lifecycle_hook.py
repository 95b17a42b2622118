"""Calls of lifecycle hooks over real HTTP, to a server on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from homeport.config import Settings
from homeport.controllers.lifecycle_hook import ANSWER_BYTES_MAX, HookCallError, HttpCaller

PAYLOAD = {"serviceArn": "arn:aws:ecs:us-east-1:123456789012:service/default/web", "executionId": "ecs-hook-1"}


@pytest.fixture
async def target():
    """Starts a server that answers as told; gives its URL and what it was sent."""
    runners, got = [], []

    async def start(answer):
        async def handle(request):
            got.append((request.method, request.path, request.headers["Content-Type"], json.loads(await request.read())))
            return await answer(request) if asyncio.iscoroutinefunction(answer) else answer

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, shutdown_timeout=0.05)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/check?a=b", got

    yield start
    for runner in runners:
        await runner.cleanup()


async def called(url, seconds=5.0):
    return await HttpCaller(Settings()).call(url, PAYLOAD, within_seconds=seconds)


async def test_the_payload_is_posted_as_json_and_the_answer_read(target):
    url, got = await target(web.json_response({"hookStatus": "SUCCEEDED", "more": [1]}))
    assert await called(url) == {"hookStatus": "SUCCEEDED", "more": [1]}
    assert got == [("POST", "/check", "application/json", PAYLOAD)]


@pytest.mark.parametrize(
    ("status", "final", "words"),
    [(500, False, "status 500"), (503, False, "status 503"), (404, True, "status 404"), (401, True, "status 401"), (204, True, "no JSON")],
)
async def test_what_other_statuses_mean(target, status, final, words):
    url, _ = await target(web.Response(status=status))
    with pytest.raises(HookCallError, match=words) as raised:
        await called(url)
    assert raised.value.final == final


async def test_redirects_are_not_followed(target):
    url, got = await target(web.Response(status=302, headers={"Location": "/elsewhere"}))
    with pytest.raises(HookCallError, match="status 302"):
        await called(url)
    assert len(got) == 1


@pytest.mark.parametrize(
    "text", ["", "SUCCEEDED", '{"hookStatus": "SUCCEEDED"', '{"hookStatus": "SUCCEEDED", "padding": "' + "x" * ANSWER_BYTES_MAX + '"}']
)
async def test_what_is_no_json_or_too_long(target, text):
    url, _ = await target(web.Response(text=text))
    with pytest.raises(HookCallError, match="no JSON|longer than") as raised:
        await called(url)
    assert raised.value.final


async def test_nobody_answers(target):
    async def wait(request):
        await asyncio.Event().wait()

    url, _ = await target(wait)
    with pytest.raises(HookCallError, match="did not answer within") as raised:
        await called(url, seconds=0.3)
    assert not raised.value.final
    for nowhere in ("http://127.0.0.1:9/", "http://127.0.0.1:99999/", "http://", "http://[", "https://" + url.removeprefix("http://")):
        with pytest.raises(HookCallError, match="could not be called") as raised:
            await called(nowhere)
        assert not raised.value.final


async def test_a_connection_that_breaks_off(target):
    async def cut(request):
        request.transport.abort()
        await asyncio.Event().wait()

    url, _ = await target(cut)
    with pytest.raises(HookCallError, match="could not be called"), contextlib.suppress(asyncio.CancelledError):
        await called(url)
