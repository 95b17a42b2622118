"""The files of an audit log: which there are, what is in them, and how a torn end is mended.

Owns: the names of files, `segments`, `mend`, `lines_backwards`. Never decides what is recorded or removed.

A log is a directory of segments, `NUMBER.jsonl` by the number of their first record, which is of the kind `segment`. Each life of a server begins
one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from homeport.audit.record import ENDED, NO_HASH, Record, decode, digest

DIRECTORY: Final = "audit"
"""In a server's data directory."""
SUFFIX: Final = ".jsonl"
_DIGITS: Final = 15
_BLOCK_BYTES: Final = 262_144


class Segment(NamedTuple):
    """One file."""

    path: Path
    first: int
    """Number of its first record."""


class End(NamedTuple):
    """Where a log ends."""

    number: int = 0
    hash: str = NO_HASH
    instant: float = 0.0
    kind: str = ""
    """Of the last record."""
    life: str = ""
    """What the request ids of the life that wrote it begin with."""
    torn_bytes: int = 0
    """Half a record, which was cut off."""
    problem: str = ""
    """Why what is there cannot be continued as if nothing was; the next record is numbered on all the same."""

    @property
    def unclean(self) -> bool:
        """Whether the life that wrote it did not end in order."""
        return self.number > 0 and self.kind != ENDED


def name_of(number: int) -> str:
    """The name of the segment that begins with record `number`."""
    return f"{number:0{_DIGITS}d}{SUFFIX}"


def segments(directory: Path) -> list[Segment]:
    """Every segment, oldest first; none when there is no such directory."""
    if not directory.is_dir():
        return []
    found = [Segment(path, int(path.stem)) for path in directory.glob(f"*{SUFFIX}") if path.stem.isdecimal() and len(path.stem) == _DIGITS]
    return sorted(found, key=lambda segment: segment.first)


def mend(directory: Path) -> End:
    """The end of the log, after cutting off a last line that was not written whole. Everything else is left as it is. Raises OSError."""
    found = segments(directory)
    torn = 0
    while found:
        last = found.pop()
        content = last.path.read_bytes()
        whole = content.rstrip(b"\0")
        whole = whole[: whole.rfind(b"\n") + 1]
        if len(whole) < len(content):
            torn += len(content) - len(whole)
            _cut(last.path, len(whole))
        if whole:
            return _end(last, whole, torn)
        last.path.unlink()  # a crash while it was begun: nothing of it is known
    return End(torn_bytes=torn)


def _cut(path: Path, size: int) -> None:
    with path.open("rb+") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _end(segment: Segment, content: bytes, torn: int) -> End:
    """The last record of a file's whole lines, and whether the lines follow one another so far that it can be believed."""
    lines = content[:-1].rsplit(b"\n", 2)[-2:]
    number = segment.first + content.count(b"\n") - 1
    end = End(number, digest(lines[-1]), torn_bytes=torn, life=_life(content))
    try:
        record = decode(lines[-1])
    except msgspec.MsgspecError as error:
        return end._replace(problem=f"the last record, {number}, cannot be read: {error}")
    end = end._replace(number=max(number, record.number), instant=record.instant, kind=record.kind)
    if record.number != number:
        return end._replace(problem=f"the last record should be {number}, but is {record.number}")
    if len(lines) > 1 and record.previous != digest(lines[0]):
        return end._replace(problem=f"record {number} does not follow the one before")
    return end


def _life(content: bytes) -> str:
    try:
        return str((decode(content.partition(b"\n")[0]).facts or {}).get("life", ""))
    except msgspec.MsgspecError:
        return ""


def first_record(segment: Segment) -> Record | None:
    """The record that a segment begins with; None when it cannot be read. Raises OSError."""
    with segment.path.open("rb") as file:
        line = file.readline()
    try:
        return decode(line)
    except msgspec.MsgspecError:
        return None


def lines_backwards(path: Path, end: int) -> Iterator[tuple[int, bytes]]:
    """(where it begins, the line) of the file's first `end` bytes, the last line first. Raises OSError."""
    with path.open("rb") as file:
        rest = b""
        while end > 0:
            begin = max(0, end - _BLOCK_BYTES)
            file.seek(begin)
            block = file.read(end - begin) + rest
            pieces = block.split(b"\n")
            rest = pieces[0]
            place = begin + len(block)
            for piece in reversed(pieces[1:]):
                place -= len(piece)
                if piece:
                    yield place, piece
                place -= 1
            end = begin
        if rest:
            yield 0, rest
