"""Proof that an audit log is whole, from its files alone.

Owns: `verify`, `Verdict`, `Flaw`. Never changes a file; needs neither the server nor the journal (`seen` gives what the checkpoints say of that one).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from homeport.audit import checkpoint
from homeport.audit.checkpoint import Checkpoint, check
from homeport.audit.record import BROKEN, LOST, MENDED, NO_HASH, PRUNED, SEGMENT, Record, decode, digest
from homeport.audit.segments import Segment, segments
from homeport.log import instant


class Flaw(NamedTuple):
    """Something that does not hold, and where."""

    number: int
    """Of the record; 0 for a checkpoint or a file."""
    place: str
    """File and line."""
    problem: str


class Verdict(NamedTuple):
    """What was found."""

    records: int
    first: int
    """Number of the oldest record; 0 for an empty log."""
    last: int
    hash: str
    """Of the last record."""
    checkpoints: tuple[Checkpoint, ...]
    """Those whose signatures are good, oldest first."""
    flaws: tuple[Flaw, ...]
    notices: tuple[str, ...]
    """What the log itself tells of: cuts, gaps, prunings."""


class _Walk:
    """One way through all files."""

    def __init__(self, signed: dict[int, str]) -> None:
        self.number, self.hash, self.first, self.records = 0, NO_HASH, 0, 0
        self.instant = 0.0
        self.flaws: list[Flaw] = []
        self.notices: list[str] = []
        self.pruned: dict[int, str] = {}
        self._signed = signed
        self._edited: tuple[int, str] | None = None

    def file(self, segment: Segment, *, newest: bool) -> None:
        content = segment.path.read_bytes()
        if content and not content.endswith(b"\n") and newest:
            kept = content.rfind(b"\n") + 1
            self.notices.append(f"{segment.path.name} ends with {len(content) - kept} bytes of a record that was not written whole")
            content = content[:kept]
        for place, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
            if content:
                self.line(segment, place, line)

    def line(self, segment: Segment, place: int, line: bytes) -> None:
        where = f"{segment.path.name} line {place}"
        try:
            record = decode(line)
        except (msgspec.MsgspecError, ValueError) as error:
            self.flaws.append(Flaw(self.number + 1, where, f"record {self.number + 1} was edited: it cannot be read ({error})"))
            self._step(self.number + 1, line)
            return
        if not self.records:
            self._begin(record, segment, where)
        self._follow(record, where)
        self._note(record, where)
        self._step(record.number, line)
        wanted = self._signed.get(record.number)
        if wanted is not None and wanted != self.hash:
            self.flaws.append(Flaw(record.number, where, f"record {record.number} was edited or replaced: a checkpoint signed another one"))

    def _begin(self, record: Record, segment: Segment, where: str) -> None:
        self.first = record.number
        self.number, self.hash = record.number - 1, record.previous
        if record.number != segment.first:
            self.flaws.append(Flaw(record.number, where, f"the file begins with record {record.number}, not with {segment.first}"))

    def _follow(self, record: Record, where: str) -> None:
        expected = self.number + 1
        if record.number > expected:
            self.flaws.append(Flaw(expected, where, f"records {expected} to {record.number - 1} are missing"))
        elif record.number < expected:
            self.flaws.append(Flaw(record.number, where, f"record {record.number} is out of order: it stands where {expected} should"))
        elif record.previous != self.hash:
            changed = self.number
            self.flaws.append(Flaw(changed, where, f"record {changed} was edited or replaced: record {expected} follows another one"))
        if record.instant < self.instant:
            self.flaws.append(Flaw(record.number, where, f"record {record.number} is earlier than the one before"))

    def _note(self, record: Record, where: str) -> None:
        facts = record.facts or {}
        self.instant = record.instant
        if record.kind == PRUNED:
            self.pruned[int(facts.get("through", 0))] = str(facts.get("hash", ""))
        elif record.kind == MENDED:
            self.notices.append(f"record {record.number}: a crash left {facts.get('bytes')} bytes of a record before it, which were cut off")
        elif record.kind == LOST:
            self.notices.append(f"record {record.number}: {facts.get('records')} records could not be written ({facts.get('why')})")
        elif record.kind == BROKEN:
            problem = f"the server found that the log before record {record.number} did not hold: {facts.get('problem')}"
            self.flaws.append(Flaw(record.number, where, problem))
        elif record.kind == SEGMENT and facts.get("unclean"):
            self.notices.append(f"record {record.number}: the server's life before did not end in order")

    def _step(self, number: int, line: bytes) -> None:
        self.number, self.hash = number, digest(line)
        self.records += 1


def verify(directory: Path, key: Ed25519PublicKey, held: Sequence[Checkpoint] = ()) -> Verdict:
    """Walk every file and hold it against the checkpoints that `key` signed, `held` among them: those that were kept somewhere else.

    Raises OSError when a file cannot be read.
    """
    good, flaws = _checkpoints(directory, key)
    ours = [item for item in held if check(item, key)]
    if len(ours) < len(held):
        flaws.append(Flaw(0, "held", f"{len(held) - len(ours)} of the checkpoints that were kept elsewhere are not signed by this key"))
    walk = _Walk({item.number: item.hash for item in (*good, *ours) if item.number})
    found = segments(directory)
    for place, segment in enumerate(found, 1):
        walk.file(segment, newest=place == len(found))
    flaws += walk.flaws
    if walk.first > 1:
        if walk.pruned.get(walk.first - 1) is None:
            flaws.append(Flaw(1, found[0].path.name, f"records 1 to {walk.first - 1} are missing, and the log does not say that they were removed"))
        else:
            walk.notices.append(f"records 1 to {walk.first - 1} were removed by retention")
    newest = max((*good, *ours), key=lambda item: item.number, default=None)
    if newest is not None and newest.number > walk.number:
        flaws.append(
            Flaw(walk.number + 1, checkpoint.FILE, f"records {walk.number + 1} to {newest.number} are missing at the end: a checkpoint signed them")
        )
    for item in good:
        if item.went_back:
            told = f"at {instant(item.instant)} the journal was not the one that had been signed: it was restored from a backup, or replaced"
            walk.notices.append(told)
    return Verdict(walk.records, walk.first, walk.number, walk.hash, tuple(good), tuple(flaws), tuple(walk.notices))


def _checkpoints(directory: Path, key: Ed25519PublicKey) -> tuple[list[Checkpoint], list[Flaw]]:
    """(those that hold, what is wrong with the others)."""
    good: list[Checkpoint] = []
    flaws: list[Flaw] = []
    before = ""
    for place, line in enumerate(checkpoint.lines(directory), 1):
        where = f"{checkpoint.FILE} line {place}"
        found: Checkpoint | None = None
        with contextlib.suppress(msgspec.MsgspecError):
            found = checkpoint.read(line)
        if found is None or not check(found, key):
            flaws.append(Flaw(0, where, f"checkpoint {place} was edited, or signed with another key"))
        else:
            if before and found.previous != before:
                flaws.append(Flaw(0, where, f"checkpoint {place} does not follow the one before: one is missing, replaced or out of order"))
            good.append(found)
        before = checkpoint.line_hash(line)
    return good, flaws


def journal_seen(checkpoints: tuple[Checkpoint, ...]) -> Iterator[tuple[Checkpoint, bool]]:
    """(checkpoint, whether the journal of today must still be the one that it saw), oldest first."""
    last_restore = max((place for place, item in enumerate(checkpoints) if item.went_back), default=0)
    for place, item in enumerate(checkpoints):
        yield item, place >= last_restore
