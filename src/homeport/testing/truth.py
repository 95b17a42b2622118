"""What is durable in the simulated etcd, commit by commit, and who made it: what the invariants of a replicated installation are checked on.

Owns: `Truth`. Never believes a server: it sees what etcd applied, before anybody learns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from homeport.store.backend import Head, StoredRow
from homeport.store.contents import Contents
from homeport.store.etcd import messages
from homeport.store.etcd.layout import EntryReader, Layout, decode_row, decode_standing
from homeport.store.mirror import Mirror
from homeport.store.table import Commit
from homeport.store.tables import TABLES


class Truth:
    """See the module. `applied` is what `EtcdState` calls."""

    def __init__(self, layout: Layout, *, committed: Callable[[Sequence[Commit]], None], violated: Callable[[str], None]) -> None:
        self.contents = {table.name: Contents(table) for table in TABLES}
        self.head = Head()
        self.leader = ""
        """Who leads, by etcd's word: the life of a server that made the leader key that there is."""
        self.leaderships = 0
        """How many there were."""
        self._layout = layout
        self._committed = committed
        self._violated = violated
        self._mirror = Mirror(self.contents, ())
        self._staged: dict[bytes, bytes] = {}

    def applied(self, sender: str, revision: int, events: list[Any]) -> None:
        """One change of etcd. Whoever changes the state must lead at this very moment."""
        del revision
        layout, head = self._layout, None
        rows: dict[str, dict[int, StoredRow | None]] = {}
        leader, others = self.leader, False
        for event in events:
            key, gone = event.kv.key, event.type == messages.DELETE
            if key == layout.leader:
                leader = "" if gone else sender
                self.leaderships += not gone
                continue
            if not key.startswith(layout.prefix):
                continue
            others = True
            if key.startswith(layout.rows):
                table, number = layout.row_of(key)
                rows.setdefault(table, {})[number] = None if gone else decode_row(number, event.kv.value)
            elif key.startswith(layout.journal) and not gone:
                self._staged[key] = event.kv.value
            elif key.startswith(layout.journal):
                self._staged.pop(key, None)
            elif key == layout.head:
                head = decode_standing(event.kv.value).head
        if others and sender != self.leader:
            self._violated(f"{sender} changed the state in etcd while {self.leader or 'nobody'} led")
        self.leader = leader
        if head is not None and head != self.head:
            self._moved(head, rows)

    def _moved(self, head: Head, rows: dict[str, dict[int, StoredRow | None]]) -> None:
        reader, entries = EntryReader(), []
        for key in sorted(self._staged):
            entries.extend(reader.add(self._layout.journal_revision(key), self._staged[key]))
        self._staged.clear()
        entries = [entry for entry in entries if self.head.revision < entry.revision <= head.revision]
        expected = list(range(self.head.revision + 1, head.revision + 1))
        if head.revision <= self.head.revision or [entry.revision for entry in entries] != expected:
            self._violated(f"the head in etcd went from {self.head.revision} to {head.revision} with entries {[e.revision for e in entries]}")
            return
        self.head = head
        self._committed(self._mirror.apply(entries, rows))
