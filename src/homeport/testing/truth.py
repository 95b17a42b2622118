"""What is durable in the simulated etcd, commit by commit, and who made it: what the invariants of a replicated installation are checked on.

Owns: `Truth`. Never believes a server: it sees what etcd applied, before anybody learns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from homeport.store.backend import Head, StoredRow
from homeport.store.codec import Codec
from homeport.store.contents import Contents
from homeport.store.etcd import messages
from homeport.store.etcd.layout import EntryReader, Layout, decode_row, decode_standing, end_of
from homeport.store.mirror import Mirror
from homeport.store.store import Store
from homeport.store.table import Commit
from homeport.store.tables import TABLES
from homeport.testing.etcd_state import EtcdState


class Truth:
    """See the module. `applied` is what `EtcdState` calls."""

    def __init__(
        self, layout: Layout, *, committed: Callable[[Sequence[Commit]], None], violated: Callable[[str], None], note: Callable[[str], None]
    ) -> None:
        self.contents = {table.name: Contents(table) for table in TABLES}
        self.head = Head()
        self.leader = ""
        """Who leads, by etcd's word: the life of a server that made the leader key that there is."""
        self.leaderships = 0
        """How many there were."""
        self._layout = layout
        self._committed = committed
        self._violated = violated
        self._note = note
        self.commits: dict[int, Commit] = {}
        """Revision → commit."""
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
                self._note(f"{leader or 'nobody'} leads")
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
        commits = self._mirror.apply(entries, rows)
        self.commits.update((commit.revision, commit) for commit in commits)
        self._committed(commits)

    # -- what servers show -----------------------------------------------------------------------------------------------

    def problem(self, commit: Commit) -> str:
        """What is wrong with a commit that a server shows; "" when nothing."""
        right = self.commits.get(commit.revision)
        if right is None:
            return f"it is not durable: etcd's head is at {self.head.revision}"
        if (commit.cause, commit.now) != (right.cause, right.now):
            return f"it was caused by {right.cause!r} at {right.now}"
        for shown, durable in zip(commit.changes, right.changes, strict=False):
            if shown != durable:
                return f"it shows {shown}, and what was committed is {durable}"
        return "" if len(commit.changes) == len(right.changes) else f"it shows {len(commit.changes)} changes of {len(right.changes)}"

    def differences(self, name: str, store: Store) -> Iterator[str]:
        """What a server's durable state has other than the truth, in words."""
        if store._durable != self.head:
            yield f"{name} is at revision {store._durable.revision}, etcd at {self.head.revision}"
            return
        for table, contents in self.contents.items():
            there = store._contents[table].rows
            for key in sorted(contents.rows.keys() | there.keys()):
                one, other = contents.rows.get(key), there.get(key)
                if one is None or other is None or one.record != other.record:
                    yield f"{table} {key} of {name} is not what etcd has"

    def apart_from(self, etcd: EtcdState) -> Iterator[str]:
        """What the rows in etcd are other than what its journal's entries add up to, in words."""
        for table, contents in self.contents.items():
            start, codec = self._layout.table(table), Codec(contents.table)
            answer = etcd.range(messages.RangeRequest(key=start, range_end=end_of(start)))
            rows = (decode_row(int.from_bytes(kv.key[-8:], "big"), kv.value) for kv in answer.kvs)
            records = {contents.table.key(record): record for record in (codec.decode(row.version, row.record) for row in rows)}
            expected = {key: row.record for key, row in contents.rows.items()}
            for key in sorted(records.keys() | expected.keys()):
                if records.get(key) != expected.get(key):
                    yield f"the row of {table} {key} in etcd is not what its journal says"
