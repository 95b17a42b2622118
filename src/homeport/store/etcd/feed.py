"""A watch that loses nothing: it resumes at the revision after the last that it delivered, at another member if need be.

Owns: `Feed`. Never skips a revision: when etcd no longer has what comes next it says so, and the caller reads everything anew.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import grpc

from homeport.errors import EtcdCompactedError, EtcdRefusedError, EtcdUnavailableError
from homeport.store.etcd import messages
from homeport.store.etcd.client import HAS_LEADER, RETRY_SECONDS, Endpoint, EtcdClient

RETRY_SECONDS_MAX: Final = 0.5
"""Longest pause before another member is tried."""


class Feed:
    """The changes of all keys from `key` up to `end`, from revision `start` on, revision by revision. For one consumer."""

    def __init__(self, client: EtcdClient, key: bytes, end: bytes, *, start: int) -> None:
        self._client = client
        self._key = key
        self._end = end
        self.position = start
        """The first revision that was not delivered yet."""
        self._stream: Any = None
        self._endpoint = client.endpoint
        self._calls = self._endpoint.calls
        self._kicked = False
        self._pause = 0.0

    async def events(self) -> list[Any]:
        """The next events, at least one, whole revisions of them. Waits, through any number of broken connections.

        Raises EtcdCompactedError when they are not kept any more, EtcdRefusedError when they may not be read. Another call may follow a
        cancelled one: nothing is lost.
        """
        while True:
            try:
                if self._stream is None:
                    await self._start()
                answer = await self._stream.read()
                if answer is grpc.aio.EOF:
                    raise EtcdUnavailableError("the watch ended")
            except asyncio.CancelledError:
                self._stop()
                task = asyncio.current_task()
                if not self._kicked or (task is not None and task.cancelling()):
                    raise
                if self._endpoint.calls is self._calls:  # else it was only connected anew
                    self._client.leave(self._endpoint, silent=True)
            except grpc.aio.AioRpcError as error:
                self._stop()
                failure = self._client.failure(error, self._endpoint)
                if isinstance(failure, EtcdRefusedError):
                    raise failure from None
                await self._wait()
            except (EtcdUnavailableError, asyncio.InvalidStateError):
                self._stop()
                self._client.leave(self._endpoint)
                await self._wait()
            else:
                self._pause = 0.0
                if answer.canceled:
                    self._stop()
                    self._why(answer)
                    await self._wait()
                elif answer.events:
                    self.position = answer.events[-1].kv.mod_revision + 1
                    return list(answer.events)

    async def _start(self) -> None:
        self._kicked = False
        self._endpoint = self._client.endpoint
        self._calls = self._endpoint.calls
        self._client.when_silent(self._is_silent)
        self._stream = self._calls["Watch"](metadata=HAS_LEADER)
        create = messages.WatchCreateRequest(key=self._key, range_end=self._end, start_revision=self.position)
        await self._stream.write(messages.WatchRequest(create_request=create))

    def _why(self, answer: Any) -> None:
        """Raise what a cancellation by etcd means, unless it is worth another try."""
        if answer.compact_revision:
            raise EtcdCompactedError(answer.compact_revision)
        if "permission" in answer.cancel_reason:
            raise EtcdRefusedError(f"etcd at {self._endpoint.address} refused to be watched: {answer.cancel_reason}", "PERMISSION_DENIED")
        self._client.leave(self._endpoint)

    async def _wait(self) -> None:
        self._pause = min(RETRY_SECONDS_MAX, self._pause * 2 or RETRY_SECONDS)
        await self._client.clock.sleep(self._pause)

    def _is_silent(self, endpoint: Endpoint) -> None:
        if endpoint is self._endpoint and not self._kicked:
            self.kick()

    def kick(self) -> None:
        """The member seems to be silent: go on at another one."""
        if self._stream is not None:
            self._kicked = True
            self._stream.cancel()

    def _stop(self) -> None:
        self._client.no_more(self._is_silent)
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(asyncio.InvalidStateError):
                stream.cancel()

    def close(self) -> None:
        """Stop watching. `events` may be called again and goes on where it was."""
        self._stop()
