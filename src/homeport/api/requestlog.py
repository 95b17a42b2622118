"""The log of requests: one JSON line for each, with its id.

Owns: `RequestLog`, `Answered`, the form of a line, the file and its size. Never holds a request up: lines are gathered and written together a
moment later, so the last `FLUSH_SECONDS` can be missing after a crash. The record of what changed is the store's journal, not this.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
from typing import Final, NamedTuple

from homeport import log
from homeport.clock import Clock

FLUSH_SECONDS: Final = 0.1
PENDING_LINES_MAX: Final = 10_000
"""Lines gathered before they are written at once, without waiting."""
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""At this size the file becomes FILE.1, replacing the one before."""


class Answered(NamedTuple):
    """One line. All texts are the server's own words, never the caller's, so that none needs escaping."""

    now: float
    """When the request began, seconds since the epoch."""
    request_id: str
    operation: str
    """"" for a request that named none."""
    account: str
    """"" before the signature is verified."""
    status: int
    """HTTP status."""
    error: str
    """AWS's code; "" for success."""
    seconds: float
    """How long it took."""


class RequestLog:
    """Appends to one file. `write` is cheap and synchronous; `flush` and `close` do the IO."""

    def __init__(self, path: pathlib.Path, *, clock: Clock, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        """Open `path` for appending, creating it readable by its owner only. OSError if that fails."""
        self._path = path
        self._clock = clock
        self._file_bytes_max = file_bytes_max
        self._lines: list[str] = []
        self._flusher: asyncio.Task[None] | None = None
        self._second = -1
        self._second_text = ""
        self._open()

    def write(self, request: Answered) -> None:
        """Note one request."""
        now, request_id, operation, account, status, error, seconds = request
        self._lines.append(
            f'{{"instant":"{self._instant(now)}","requestId":"{request_id}","operation":"{operation}","account":"{account}",'
            f'"status":{status},"error":"{error}","milliseconds":{seconds * 1000:.3f}}}\n'
        )
        if len(self._lines) >= PENDING_LINES_MAX:
            self.flush()
        elif self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush_soon())

    def flush(self) -> None:
        """Write what has been gathered. A full disk loses lines rather than requests."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            data = "".join(lines).encode()
            if self._size + len(data) > self._file_bytes_max:
                self._rotate()
            self._size += os.write(self._descriptor, data)
        except OSError as error:
            log.logger("requests").warning("%d lines of the request log could not be written: %s", len(lines), error)

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        self.flush()
        os.close(self._descriptor)

    async def _flush_soon(self) -> None:
        await self._clock.sleep(FLUSH_SECONDS)
        self._flusher = None
        self.flush()

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        os.close(self._descriptor)
        try:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        finally:
            self._open()

    def _instant(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second, self._second_text = second, log.instant(second)[:-4]
        return f"{self._second_text}{int((now - second) * 1000):03d}Z"
