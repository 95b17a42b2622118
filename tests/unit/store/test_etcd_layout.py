"""How the state lies in etcd: keys in the order of what they name, values in pieces."""

from __future__ import annotations

import pytest

from homeport.errors import StoredFormError
from homeport.store.backend import StoredEntry
from homeport.store.etcd.layout import (
    CHUNK_ENTRIES,
    PART_BYTES,
    EntryReader,
    Layout,
    Standing,
    decode_deletions,
    decode_row,
    decode_standing,
    encode_deletions,
    encode_row,
    end_of,
    row_key,
)

LAYOUT = Layout("/homeport/")


def test_keys_are_in_the_order_of_what_they_name():
    table = LAYOUT.table("tasks")
    numbers = [1, 2, 255, 256, 65_535, 1 << 40]
    assert sorted(row_key(table, number) for number in numbers) == [row_key(table, number) for number in numbers]
    assert [LAYOUT.row_of(row_key(table, number)) for number in numbers] == [("tasks", number) for number in numbers]
    assert sorted(LAYOUT.journal_from(number) for number in numbers) == [LAYOUT.journal_from(number) for number in numbers]
    slash = int.from_bytes(b"/" * 8, "big")
    assert LAYOUT.row_of(row_key(table, slash)) == ("tasks", slash)


def test_a_table_s_keys_end_before_the_next_table_s():
    keys = [row_key(LAYOUT.table(name), (1 << 64) - 1) for name in ("task", "tasks", "task_definitions")]
    start = LAYOUT.table("tasks")
    assert [key for key in keys if start <= key < end_of(start)] == [keys[1]]
    first, end = LAYOUT.everything
    assert all(first <= key < end for key in (*keys, LAYOUT.head, LAYOUT.leader, LAYOUT.deletions_from(5)))


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [10],
        [10] * CHUNK_ENTRIES,
        [10] * (2 * CHUNK_ENTRIES + 1),
        [100_000] * 7,
        [PART_BYTES * 3],
        [10, PART_BYTES, 10, PART_BYTES + 1, 5 * PART_BYTES, 10],
    ],
)
def test_entries_are_read_as_they_were_written(sizes):
    entries = [(number, bytes([number % 256]) * size, bytes(32)) for number, size in enumerate(sizes, 7)]
    parts = list(LAYOUT.journal_parts(entries))
    assert [key for key, _ in parts] == sorted({key for key, _ in parts})
    assert all(len(value) <= PART_BYTES + 1 for _, value in parts)
    reader, found = EntryReader(), []
    for key, value in parts:
        found += reader.add(LAYOUT.journal_revision(key), value)
    assert found == [StoredEntry(*entry) for entry in entries]
    for revision, _, _ in entries:  # the first key at or behind a revision has its entry
        key = next(key for key, _ in parts if key >= LAYOUT.journal_from(revision))
        assert LAYOUT.journal_revision(key) >= revision


def test_an_edited_journal_value_is_an_entry_that_cannot_be_right():
    [(key, value)] = LAYOUT.journal_parts([(5, b"payload", bytes(32))])
    assert EntryReader().add(LAYOUT.journal_revision(key), value[:-1]) == [StoredEntry(5, value[1:-1], b"")]


def test_values():
    assert decode_row(9, encode_row(2, 77, b"record")).record == b"record"
    assert decode_deletions([encode_deletions([("tasks", "a", 5)]), encode_deletions([("tasks", "b", 6)])]) == [("tasks", "a", 5), ("tasks", "b", 6)]
    standing = Standing(revision=5, instant=1.5, hash=b"h" * 32, anchor_revision=2, anchor_hash=b"a" * 32)
    assert decode_standing(standing.encode()) == standing
    assert (standing.head.revision, standing.anchor.revision) == (5, 2)
    for decode in (lambda: decode_row(1, b"\xc1"), lambda: decode_deletions([b"x"]), lambda: decode_standing(b"x")):
        with pytest.raises(StoredFormError):
            decode()


def test_a_newer_layout_is_refused():
    with pytest.raises(StoredFormError, match="newer program"):
        decode_standing(Standing(format=2).encode())
