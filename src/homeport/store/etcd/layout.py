"""How the state lies in etcd: keys and the form of their values.

Owns: `Layout` and the encodings. Never talks to etcd.

    PREFIX head                          format, head and anchor; written by every Txn that changes anything
    PREFIX leader                        who leads; bound to the leader's lease
    PREFIX rows/TABLE/ID                 one record: (version, revision, record)
    PREFIX journal/REVISION PART         entries up to REVISION, some at a time; PART counts the pieces of a value that is too large for one
    PREFIX deletions/REVISION            (table, key, revision) of records deleted by the commit up to REVISION

IDs and revisions are eight bytes, most significant first, so that etcd's order is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from homeport.errors import StoredFormError
from homeport.store.backend import Anchor, Head, StoredEntry, StoredRow
from homeport.store.codec import ENCODER

FORMAT: Final = 1
"""Version of this layout."""
CHUNK_ENTRIES: Final = 64
"""Journal entries that share a key."""
CHUNK_BYTES: Final = 262_144
"""Bytes after which the next entry goes under another key."""
PART_BYTES: Final = 1_000_000
"""Bytes of a journal value's piece: etcd's default bound for a request is 1.5 MiB."""

_LAST: Final = b"\0"
_MORE: Final = b"\1"


class Standing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The value of the head key. A program of a later format may append fields."""

    format: int = FORMAT
    revision: int = 0
    instant: float = 0.0
    hash: bytes = Head().hash
    anchor_revision: int = 0
    anchor_hash: bytes = Anchor().hash

    @property
    def head(self) -> Head:
        """The last transaction."""
        return Head(self.revision, self.instant, self.hash)

    @property
    def anchor(self) -> Anchor:
        """The last journal entry removed."""
        return Anchor(self.anchor_revision, self.anchor_hash)

    def encode(self) -> bytes:
        """The stored form."""
        return ENCODER.encode(self)


_STANDING: Final = msgspec.msgpack.Decoder(Standing)
_ROW: Final = msgspec.msgpack.Decoder(tuple[int, int, bytes])
_CHUNK: Final = msgspec.msgpack.Decoder(list[tuple[int, bytes, bytes]])
_DELETIONS: Final = msgspec.msgpack.Decoder(list[tuple[str, str, int]])


class Layout:
    """The keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        """`prefix` names the installation, for example `/homeport/`; two installations in one etcd have prefixes of which none begins the other."""
        self.prefix = prefix.encode()
        self.head = self.prefix + b"head"
        self.leader = self.prefix + b"leader"
        self.rows = self.prefix + b"rows/"
        self.journal = self.prefix + b"journal/"
        self.deletions = self.prefix + b"deletions/"
        self.copies = f"{prefix.rstrip('/')}-journals/".encode()
        """How far each server's own file of entries is; beside the state, so that no follower sees it."""

    @property
    def everything(self) -> tuple[bytes, bytes]:
        """First key and end of all that is stored."""
        return self.prefix, end_of(self.prefix)

    def table(self, name: str) -> bytes:
        """What the keys of a table's rows begin with."""
        return self.rows + name.encode() + b"/"

    def row_of(self, key: bytes) -> tuple[str, int]:
        """(table, row id) of a row's key."""
        return key[len(self.rows) : -9].decode(), int.from_bytes(key[-8:], "big")

    def journal_from(self, revision: int) -> bytes:
        """The first key that can have entry `revision` or a later one."""
        return self.journal + _number(revision)

    def journal_revision(self, key: bytes) -> int:
        """The last entry under a journal key."""
        return int.from_bytes(key[-9:-1], "big")

    def journal_parts(self, entries: list[tuple[int, bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every piece that `entries` are stored as."""
        for chunk in _chunks(entries):
            value = ENCODER.encode(chunk)
            stem = self.journal + _number(chunk[-1][0])
            pieces = range(0, len(value), PART_BYTES)
            for part, start in enumerate(pieces):
                flag = _LAST if part == len(pieces) - 1 else _MORE
                yield stem + bytes((part,)), flag + value[start : start + PART_BYTES]

    def deletions_from(self, revision: int) -> bytes:
        """The key of deletions up to `revision`."""
        return self.deletions + _number(revision)


def row_key(table: bytes, number: int) -> bytes:
    """The key of a row; `table` from `Layout.table`."""
    return table + number.to_bytes(8, "big")


def end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _chunks(entries: list[tuple[int, bytes, bytes]]) -> Iterator[list[tuple[int, bytes, bytes]]]:
    chunk: list[tuple[int, bytes, bytes]] = []
    size = 0
    for entry in entries:
        if len(chunk) == CHUNK_ENTRIES or (chunk and size + len(entry[1]) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry[1])
    if chunk:
        yield chunk


def encode_row(version: int, revision: int, record: bytes) -> bytes:
    """A row's value."""
    return ENCODER.encode((version, revision, record))


def decode_row(number: int, value: bytes) -> StoredRow:
    """The row that a value is. Raises StoredFormError."""
    try:
        return StoredRow(number, *_ROW.decode(value))
    except msgspec.MsgspecError as error:
        raise StoredFormError(f"a record in etcd cannot be read: {error}") from error


def decode_standing(value: bytes) -> Standing:
    """The head key's value. Raises StoredFormError when a newer program laid the state out."""
    try:
        standing = _STANDING.decode(value)
    except msgspec.MsgspecError as error:
        raise StoredFormError(f"the head in etcd cannot be read: {error}") from error
    if standing.format > FORMAT:
        raise StoredFormError(f"the state in etcd has layout {standing.format}, but this program knows {FORMAT}; use a newer program")
    return standing


class EntryReader:
    """Puts journal values together again, piece by piece, in key order."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, revision: int, value: bytes) -> list[StoredEntry]:
        """The entries that are complete with this value, which lies under a key of `revision`.

        What cannot be read is one entry with that revision and a payload that is none, so that `verify` can name the place.
        """
        self._pieces.append(value[1:])
        if value[:1] == _MORE:
            return []
        whole = b"".join(self._pieces)
        self._pieces.clear()
        try:
            return [StoredEntry(*entry) for entry in _CHUNK.decode(whole)]
        except msgspec.MsgspecError:
            return [StoredEntry(revision, whole, b"")]


def encode_deletions(deletions: list[tuple[str, str, int]]) -> bytes:
    """The value of a deletions key."""
    return ENCODER.encode(deletions)


def decode_deletions(values: Iterable[bytes]) -> list[tuple[str, str, int]]:
    """(table, key, revision) of all deletions in `values`. Raises StoredFormError."""
    try:
        return [deletion for value in values for deletion in _DELETIONS.decode(value)]
    except msgspec.MsgspecError as error:
        raise StoredFormError(f"deletions in etcd cannot be read: {error}") from error
