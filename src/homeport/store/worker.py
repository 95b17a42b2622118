"""One thread that does blocking work for the event loop, a piece at a time.

Owns: `Worker`. Never decides what the work is, never runs two pieces at once.
Cheaper than `asyncio.to_thread`, which copies a context and takes an executor's locks for each call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """A daemon thread with a queue, for one event loop."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work()` in the thread, after everything given to it before; the future gives what it returns or raises."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((work, answer))
        return answer

    async def close(self) -> None:
        """End the thread after the work it has."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            work, answer = item
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                self._loop.call_soon_threadsafe(_answer, answer, None, error)
            else:
                self._loop.call_soon_threadsafe(_answer, answer, result, None)


def _answer(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
