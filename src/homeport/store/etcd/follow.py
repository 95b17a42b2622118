"""What the leader committed, as a follower reads it from etcd: Txn by Txn, each whole, in order, none left out.

Owns: `Follower` and `Followed`. Never changes anything, in etcd or in a table.

A commit's rows arrive with the head that it moved. Its journal entries arrive with them or before (a large commit writes them first); what is not
there is fetched.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from homeport.errors import EtcdCompactedError
from homeport.store.backend import Head, StoredEntry, StoredRow
from homeport.store.etcd import messages
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.etcd.feed import Feed
from homeport.store.etcd.layout import EntryReader, decode_row, decode_standing
from homeport.store.leader import Leader, decode_leader


class Followed(msgspec.Struct, gc=False):
    """Commits that became durable together."""

    head: Head
    entries: list[StoredEntry]
    """Every entry after the head before, up to this one."""
    rows: dict[str, dict[int, StoredRow | None]]
    """Table → row id → the row as the last of these commits left it; None: it is gone."""


class Follower:
    """The commits after `head`, which was the head at etcd's revision `position`. For one consumer."""

    def __init__(self, backend: EtcdBackend, *, head: Head, position: int, leader: Leader | None = None) -> None:
        self._backend = backend
        self._layout = backend.layout
        self._head = head
        self._feed = Feed(backend.client, *self._layout.everything, start=position + 1)
        self._staged: dict[bytes, bytes] = {}
        self.leader = leader
        """Who leads, as far as is known here."""

    async def changes(self) -> list[Followed]:
        """What comes next; empty when only the leader changed. Waits for it, through any trouble with etcd.

        Raises EtcdCompactedError when etcd no longer has it, or when the state was replaced by another one: read everything anew then. A call
        that was cancelled may have lost what it had: make a new follower then.
        """
        found = []
        events = await self._feed.events()
        for _, group in itertools.groupby(events, key=lambda event: event.kv.mod_revision):
            followed = self._take(group)
            if followed is not None:
                entries = followed.entries
                if [entry.revision for entry in entries] != list(range(self._head.revision + 1, followed.head.revision + 1)):
                    followed.entries = await self._backend.entries(self._head.revision + 1, followed.head.revision - self._head.revision)
                    if len(followed.entries) != followed.head.revision - self._head.revision:
                        raise EtcdCompactedError  # pruned meanwhile: this follower was far behind
                self._head = followed.head
                found.append(followed)
        return found

    def _take(self, events: Iterator[Any]) -> Followed | None:
        """One Txn."""
        layout, head = self._layout, None
        rows: dict[str, dict[int, StoredRow | None]] = {}
        for event in events:
            key, gone = event.kv.key, event.type == messages.DELETE
            if key.startswith(layout.rows):
                table, number = layout.row_of(key)
                rows.setdefault(table, {})[number] = None if gone else decode_row(number, event.kv.value)
            elif key.startswith(layout.journal):
                if gone:
                    self._staged.pop(key, None)
                else:
                    self._staged[key] = event.kv.value
            elif key == layout.head:
                head = Head() if gone else decode_standing(event.kv.value).head
            elif key == layout.leader:
                self.leader = None if gone else decode_leader(event.kv.value)
        if head is None or head == self._head:
            return None
        if head.revision <= self._head.revision:
            raise EtcdCompactedError  # somebody put a backup in
        return Followed(head, self._entries(head), rows)

    def _entries(self, head: Head) -> list[StoredEntry]:
        reader, found = EntryReader(), []
        for key in sorted(self._staged):
            found.extend(reader.add(self._layout.journal_revision(key), self._staged[key]))
        self._staged.clear()
        return [entry for entry in found if self._head.revision < entry.revision <= head.revision]

    def kick(self) -> None:
        """What should have come did not: go on at another member of etcd."""
        self._feed.kick()

    def close(self) -> None:
        """Stop following."""
        self._feed.close()
