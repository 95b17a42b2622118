"""The agent's local journal: what must outlive the process.

Owns: one append-only file of (kind, key, value) records in the data directory, and the lock that keeps a second agent out of it.
Never interprets a value: the engine, the reporter and the registration store their own bytes here.

A `put` is in the kernel's hands when it returns, so a killed process loses nothing; a power cut loses at most what came after the last
`sync`. Such a cut ends every container too, and the control plane sends again what it wants, so the ordinary path does not wait for the disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import zlib
from pathlib import Path
from typing import Final

import msgspec

from homeport.errors import HomeportError

_HEADER_BYTES: Final = 8
_GARBAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""The file is rewritten once it holds this much more than its live records."""


class StateLockedError(HomeportError):
    """Another agent uses the data directory. The message names its process id."""


class _Entry(msgspec.Struct, array_like=True):
    kind: str
    key: str
    value: bytes | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Entry)


def _frame(entry: _Entry) -> bytes:
    body = _encoder.encode(entry)
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


class State:
    """Records by kind and key, in memory and in the file. Open it with `State.open`; one per data directory."""

    def __init__(self, path: Path, lock: int, descriptor: int, kinds: dict[str, dict[str, bytes]]) -> None:
        """Use `State.open`."""
        self._path = path
        self._lock = lock
        self._descriptor = descriptor
        self._kinds = kinds
        self._live_bytes = 0
        self._file_bytes = 0
        self._written = 0
        self._durable = 0
        self._syncing: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, directory: str | Path) -> State:
        """Take the directory (made if missing), read the file, cut a torn tail off.

        Raises StateLockedError when another process has it.
        """
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _take_lock(path / "agent.lock")
        file = path / "agent.journal"
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        data = file.read_bytes()
        kinds, end = _replay(data)
        if end < len(data):
            os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        state = cls(file, lock, descriptor, kinds)
        state._rewrite()
        return state

    def load(self, kind: str) -> dict[str, bytes]:
        """Every record of `kind`: key to value, in order of keys."""
        return dict(sorted(self._kinds.get(kind, {}).items()))

    def get(self, kind: str, key: str) -> bytes | None:
        """One record's value, or None."""
        return self._kinds.get(kind, {}).get(key)

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Create or replace a record."""
        records = self._kinds.setdefault(kind, {})
        before = records.get(key)
        if before == value:
            return
        records[key] = value
        self._append(_Entry(kind, key, value))

    def delete(self, kind: str, key: str) -> None:
        """Remove a record, if it is there."""
        if self._kinds.get(kind, {}).pop(key, None) is not None:
            self._append(_Entry(kind, key, None))

    async def sync(self) -> None:
        """Return once everything put so far is on the disk. The disk is waited for in a thread, once for all who wait."""
        wanted = self._written
        while self._durable < wanted:
            if self._syncing is None:
                self._syncing = asyncio.get_running_loop().create_task(self._flush())
            await asyncio.shield(self._syncing)

    async def _flush(self) -> None:
        written = self._written
        # A duplicate, because a rewrite or the end may close the original while the thread still waits.
        descriptor = os.dup(self._descriptor)
        try:
            await asyncio.to_thread(os.fdatasync, descriptor)
            self._durable = max(self._durable, written)
        finally:
            os.close(descriptor)
            self._syncing = None

    def close(self) -> None:
        """Bring the file to the disk and give the directory up."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            os.close(self._lock)
            self._descriptor = self._lock = -1

    def _append(self, entry: _Entry) -> None:
        frame = _frame(entry)
        try:
            _write_all(self._descriptor, frame)
        except OSError:
            # Half a frame in the middle would hide every later one from the next start.
            os.ftruncate(self._descriptor, self._file_bytes)
            os.lseek(self._descriptor, self._file_bytes, os.SEEK_SET)
            raise
        self._written += 1
        self._file_bytes += len(frame)
        if self._file_bytes > 2 * self._live_bytes + _GARBAGE_BYTES_MAX:
            self._rewrite()

    def _rewrite(self) -> None:
        """Write the live records to a new file and put it in the old one's place, atomically."""
        data = b"".join(_frame(_Entry(kind, key, value)) for kind, records in self._kinds.items() for key, value in records.items())
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        _write_all(descriptor, data)
        os.fsync(descriptor)
        os.rename(new, self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(directory)
        os.close(directory)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._live_bytes = self._file_bytes = len(data)
        self._durable = self._written


def _take_lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StateLockedError(f"another agent (pid {holder}) uses {path.parent}") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _replay(data: bytes) -> tuple[dict[str, dict[str, bytes]], int]:
    """The live records of `data`, and the end of its last whole frame."""
    kinds: dict[str, dict[str, bytes]] = {}
    position = 0
    while position + _HEADER_BYTES <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        checksum = int.from_bytes(data[position + 4 : position + 8], "big")
        body = data[position + _HEADER_BYTES : position + _HEADER_BYTES + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            break
        entry = _decoder.decode(body)
        if entry.value is None:
            kinds.get(entry.kind, {}).pop(entry.key, None)
        else:
            kinds.setdefault(entry.kind, {})[entry.key] = entry.value
        position += _HEADER_BYTES + length
    return kinds, position


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
