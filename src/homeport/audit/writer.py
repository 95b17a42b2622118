"""The only hand that writes an audit log's files.

Owns: `Writer`, `Batch`. Never decides what is written or when; runs in a thread of its own, one call at a time.

A batch that failed is written again from where the last good one ended: over what the failure left behind, never after it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

FILE_MODE: Final = 0o600


class Batch(NamedTuple):
    """Lines that belong into one segment, with their ends."""

    segment: str
    """The file's name; another one than before begins it."""
    lines: list[bytes]


class Writer:
    """Writes lines into the segments of `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._segment = ""
        self._descriptor = -1
        self._size = 0
        """Of the segment, as far as it is known to be on the disk."""

    def write(self, batches: list[Batch]) -> int:
        """Put every line on the disk, for good; how many bytes. Raises OSError, after which the same batches are to be given again."""
        written = 0
        while batches:
            batch = batches[0]
            if batch.segment != self._segment:
                self._begin(batch.segment)
            content = b"".join(batch.lines)
            self._put(content)
            os.fdatasync(self._descriptor)
            self._size += len(content)
            written += len(content)
            del batches[0]  # what is on the disk is never written twice
        return written

    def _begin(self, segment: str) -> None:
        descriptor = os.open(self._directory / segment, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        self.close()
        self._segment, self._descriptor, self._size = segment, descriptor, 0
        sync_directory(self._directory)

    def _put(self, content: bytes) -> None:
        view, place = memoryview(content), self._size
        while view:
            count = os.pwrite(self._descriptor, view, place)
            view, place = view[count:], place + count

    def close(self) -> None:
        """Close the file that is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor, self._segment = -1, ""


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
