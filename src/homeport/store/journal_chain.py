"""How journal entries hang together: what follows what, what they say of deletions, and where a chain of them breaks.

Owns: `require_chain`, `deletions_of`. Never reads or writes anything: entries come as bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from homeport.errors import HomeportError
from homeport.model.record import Instant
from homeport.store.backend import Anchor, Head, StoredEntry
from homeport.store.codec import ENCODER
from homeport.store.journal_entry import DELETE, ENTRY_DECODER

_DELETE_MARK: Final = ENCODER.encode(DELETE)
"""What an entry's bytes have in them if it tells of a deletion; decoding the others can be spared."""


class ChainError(HomeportError):
    """Entries do not follow one another. `revision` is the first that does not fit."""

    def __init__(self, revision: int, why: str) -> None:
        super().__init__(f"journal entry {revision} {why}")
        self.revision = revision


class _Opening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of an entry; the rest is passed over."""

    previous_hash: bytes
    revision: int
    instant: Instant


_OPENINGS: Final = msgspec.msgpack.Decoder(_Opening)


def require_chain(entries: Sequence[StoredEntry], after: Head | Anchor) -> Head:
    """The head that `entries` lead to from `after`. Raises ChainError when they are not its successors, whole and in order."""
    revision, digest, instant = after.revision, after.hash, 0.0
    for entry in entries:
        revision += 1
        opening = _opening(entry, revision)
        if opening.previous_hash != digest:
            raise ChainError(revision, f"does not follow the entry {revision - 1} that is known")
        digest, instant = entry.hash, opening.instant
    return Head(revision, instant, digest)


def require_chain_before(entries: Sequence[StoredEntry], before: Anchor) -> Anchor:
    """The anchor that `entries` begin behind, if the last of them is the one that `before` names. Raises ChainError, as `require_chain`."""
    revision, digest = before.revision, before.hash
    for entry in reversed(entries):
        opening = _opening(entry, revision)
        if entry.hash != digest:
            raise ChainError(revision, "is not the one that its successor follows")
        revision, digest = revision - 1, opening.previous_hash
    return Anchor(revision, digest)


def instant_of(entry: StoredEntry) -> Instant:
    """When the entry was made. Raises ChainError when it cannot be read."""
    return _opening(entry, entry.revision).instant


def _opening(entry: StoredEntry, revision: int) -> _Opening:
    if entry.revision != revision:
        raise ChainError(revision, f"is missing: the next one there is {entry.revision}")
    if hashlib.sha256(entry.payload).digest() != entry.hash:
        raise ChainError(revision, "was edited: its hash is another")
    try:
        opening = _OPENINGS.decode(entry.payload)
    except msgspec.MsgspecError as error:
        raise ChainError(revision, f"cannot be read ({error})") from None
    if opening.revision != revision:
        raise ChainError(revision, f"is out of order: it was written as entry {opening.revision}")
    return opening


def deletions_of(entries: Sequence[StoredEntry]) -> list[tuple[str, str, int]]:
    """(table, key, revision) of every deletion that the entries tell of, in order. They are whole: `require_chain` was satisfied."""
    return [
        (change.table, change.key, entry.revision)
        for entry in entries
        if _DELETE_MARK in entry.payload
        for change in ENTRY_DECODER.decode(entry.payload).changes
        if change.kind == DELETE
    ]
