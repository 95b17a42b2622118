"""The lock that lets one process hold an installation's state.

Owns: `FileLock`. Never waits: a lock that is held elsewhere is an error that names the holder.
The kernel drops the lock when its process ends, however it ends; the file stays, since removing it would race with the next holder.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from homeport.errors import StoreLockedError


class FileLock:
    """An flock'd file with its holder's pid inside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock, or raise StoreLockedError that names the pid of its holder."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreLockedError(self.path.parent, int(holder) if holder.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go, if held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
