"""One journal from two places: a server's own file, which reaches far back, and etcd, which has what is newest.

Owns: `JoinedJournal`. Never writes. What both have is the same, so either may be asked; the file is nearer.
"""

from __future__ import annotations

from collections.abc import Callable

from homeport.store.backend import Anchor, Head, JournalSource, StoredEntry


class JoinedJournal:
    """`JournalSource` over the entries of both."""

    def __init__(self, file: JournalSource, tail: JournalSource, *, usable: Callable[[], bool] = lambda: True) -> None:
        """`usable` says whether the file is known to have the same history as `tail`; only then is it read."""
        self._file = file
        self._tail = tail
        self._usable = usable

    async def ends(self) -> tuple[Anchor, Head]:
        """From the file's oldest entry to the newest of all, if the file reaches what is left in `tail`; else what `tail` has."""
        anchor, head = await self._tail.ends()
        if self._usable():
            begin, end = await self._file.ends()
            if begin.revision <= anchor.revision <= end.revision:
                return begin, head
        return anchor, head

    async def entries(self, from_revision: int, limit: int) -> list[StoredEntry]:
        """Entries from `from_revision` on."""
        found = await self._file.entries(from_revision, limit) if self._usable() else []
        if found and len(found) < limit:
            after = await self._tail.entries(found[-1].revision + 1, limit - len(found))
            if after and after[0].revision == found[-1].revision + 1:
                found += after
        return found or await self._tail.entries(from_revision, limit)

    async def deletions(self, table: str, key: str) -> list[int]:
        """Revisions at which the record was deleted, oldest first."""
        earlier = await self._file.deletions(table, key) if self._usable() else []
        return sorted({*earlier, *await self._tail.deletions(table, key)})

    async def deletions_after(self, table: str, revision: int) -> list[tuple[str, int]]:
        """(key, revision) of every deletion in `table` after `revision`, oldest first."""
        earlier = await self._file.deletions_after(table, revision) if self._usable() else []
        return sorted({*earlier, *await self._tail.deletions_after(table, revision)}, key=lambda deletion: (deletion[1], deletion[0]))
