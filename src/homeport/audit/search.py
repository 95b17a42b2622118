"""Looking for records in a log's files, the newest first.

Owns: `Wanted` (which ones), `Question`, `search`, `Found`, `Page`, `lives`. Never changes a file, nor looks at more than allowed in one go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from homeport.audit import cloudtrail
from homeport.audit.record import CALLS, Record, decode
from homeport.audit.segments import Segment, first_record, lines_backwards, segments

LINES_MAX: Final = 50_000
"""Lines that one search looks at; then it says how far it came."""
END: Final = ""
"""The place behind which there is nothing older."""
NEWEST: Final = "newest"
"""The place before everything."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for. Instants in seconds since the epoch, both ends included."""

    account: str
    """Only what belongs to it; "" for everything."""
    since: float = 0.0
    until: float = 2.0**53
    key: str = ""
    """CloudTrail's name of an attribute; "" for none."""
    value: str = ""

    def takes(self, record: Record) -> bool:
        """Whether a record is one of those."""
        if record.kind not in CALLS or (self.account and record.account != self.account):
            return False
        return self.since <= int(cloudtrail.event_time(record)) <= self.until and (not self.key or self._has(record))

    def _has(self, record: Record) -> bool:
        value = self.value
        if self.key == "ResourceName":
            return any(value in (item.name, item.name.rpartition("/")[2], item.name.rpartition(":")[2]) for item in cloudtrail.resources_of(record))
        if self.key == "ResourceType":
            return any(value == item.type for item in cloudtrail.resources_of(record))
        told = _ATTRIBUTES.get(self.key)
        return told is not None and told(record) == value

    def mark(self) -> bytes:
        """What the line of every record that is wanted has in it."""
        if self.key == "EventName" and self.value.isalnum():
            return f'"operation":"{self.value}"'.encode() if self.value != cloudtrail.UNKNOWN_OPERATION else b""
        if self.key == "AccessKeyId" and self.value.isalnum():
            return f'"access_key_id":"{self.value}"'.encode()
        return f'"account":"{self.account}"'.encode() if self.account else b""


_ATTRIBUTES: Final[dict[str, Callable[[Record], str]]] = {
    "EventId": cloudtrail.event_id,
    "EventName": cloudtrail.event_name,
    "EventSource": cloudtrail.event_source,
    "Username": cloudtrail.user_name,
    "AccessKeyId": lambda record: record.access_key_id,
    "ReadOnly": lambda record: "true" if record.read_only else "false",
}


class Found(msgspec.Struct, frozen=True):
    """A record, and the place from which a search finds it first."""

    instant: float
    place: str
    record: Record


class Page(msgspec.Struct, frozen=True):
    """What a search found, the newest first."""

    found: list[Found]
    place: str
    """Where the next search goes on; `END` when there is nothing more."""
    horizon: float
    """Nothing newer than this was left out."""


class Question(msgspec.Struct, frozen=True):
    """What a search is asked: up to `limit` of the wanted records, from `place` on into the past."""

    wanted: Wanted
    place: str
    limit: int


def search(directory: Path, question: Question) -> Page:
    """Raises OSError, and ValueError for a place that is none."""
    wanted, place, limit = question.wanted, question.place, question.limit
    found: list[Found] = []
    mark = wanted.mark()
    looked = 0
    for segment, end in _from(directory, place):
        for begin, line in lines_backwards(segment.path, end):
            here = f"{segment.first}.{begin + len(line) + 1}"
            if len(found) >= limit or looked >= LINES_MAX:
                unread = _read(line)
                return Page(found, here, unread.instant if unread is not None else wanted.until)
            looked += 1
            if mark not in line:
                continue
            record = _read(line)
            if record is None:
                continue
            if record.instant < wanted.since:
                return Page(found, END, wanted.since)
            if wanted.takes(record):
                found.append(Found(record.instant, here, record))
    return Page(found, END, 0.0)


def _read(line: bytes) -> Record | None:
    try:
        return decode(line)
    except msgspec.MsgspecError:
        return None


def _from(directory: Path, place: str) -> list[tuple[Segment, int]]:
    """The segments with how much of each is to be read, the newest first."""
    if place == END:
        return []
    found = list(reversed(segments(directory)))
    if place == NEWEST:
        return [(segment, segment.path.stat().st_size) for segment in found]
    number, offset = (int(part) for part in place.split("."))
    older = [segment for segment in found if segment.first <= number]
    return [(segment, min(segment.path.stat().st_size, offset if segment.first == number else 2**62)) for segment in older]


def lives(directory: Path) -> tuple[set[str], float]:
    """(what the request ids of every life in the log begin with, instant of the oldest record; infinite for an empty log). Raises OSError."""
    known: set[str] = set()
    oldest = float("inf")
    for segment in segments(directory):
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            record = first_record(segment)
            if record is not None:
                known.add(str((record.facts or {}).get("life", "")))
                oldest = min(oldest, record.instant)
    return known, oldest
