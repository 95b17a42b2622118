"""Keys in order: the list behind every `scan` and `find`.

Owns: `OrderedKeys`. Never holds records, never decides what a key means.

Writes are far more frequent than ordered reads, so a write only notes itself in a dict; the notes are worked into sorted chunks when somebody
reads in order, or when they have become many. Both stay cheap at a million keys: a note costs the same at any size, and working one in moves
at most one chunk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Final

CHUNK_KEYS_MAX: Final = 1_024
"""A chunk is split when it has more keys than this."""
NOTES_MAX: Final = 2_048
"""Notes are worked in at the latest when there are this many: bounds their memory, and the pause (about 2 ms)."""


class OrderedKeys:
    """A set of strings that can be walked in order. `size` is how many there are."""

    __slots__ = ("_chunks", "_firsts", "_notes", "size")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """`keys` must already be in order."""
        self._notes: dict[str, bool] = {}
        self._chunks: list[list[str]] = []
        self._firsts: list[str] = []
        self.size = 0
        self._rebuild(list(keys))
        self.size = sum(map(len, self._chunks))

    def add(self, key: str) -> None:
        """Add a key that is not in the set."""
        notes = self._notes
        if notes.pop(key, None) is None:
            notes[key] = True
            if len(notes) > NOTES_MAX:
                self._work_in()
        self.size += 1

    def remove(self, key: str) -> None:
        """Remove a key that is in the set."""
        notes = self._notes
        if notes.pop(key, None) is None:
            notes[key] = False
            if len(notes) > NOTES_MAX:
                self._work_in()
        self.size -= 1

    def walk(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Keys that start with `prefix` and are greater than `after`, in order.

        A walk may go on while keys are added and removed: it gives each key at most once, and none that was removed before its turn.
        """
        start, inclusive = (prefix, True) if prefix > after else (after, False)
        while True:
            if self._notes:
                self._work_in()
            part = self._part(start, inclusive)
            if not part:
                return
            for key in part:
                if prefix and not key.startswith(prefix):
                    return
                if self._notes.get(key) is not False:
                    yield key
            start, inclusive = part[-1], False

    def _part(self, start: str, inclusive: bool) -> list[str]:
        """A copy of the keys from `start` to the end of the chunk that has the first of them."""
        bisect = bisect_left if inclusive else bisect_right
        for chunk in range(max(0, bisect_right(self._firsts, start) - 1), len(self._chunks)):
            keys = self._chunks[chunk]
            position = bisect(keys, start)
            if position < len(keys):
                return keys[position:]
        return []

    def _work_in(self) -> None:
        notes, self._notes = self._notes, {}
        if len(self._chunks) < 2 or len(notes) * 4 > self.size:
            keys = [key for chunk in self._chunks for key in chunk if key not in notes]
            keys.extend(key for key, added in notes.items() if added)
            keys.sort()
            self._rebuild(keys)
            return
        for key, added in notes.items():
            if added:
                self._insert(key)
            else:
                self._delete(key)

    def _rebuild(self, keys: list[str]) -> None:
        half = CHUNK_KEYS_MAX // 2 if len(keys) > CHUNK_KEYS_MAX else CHUNK_KEYS_MAX
        self._chunks = [keys[start : start + half] for start in range(0, len(keys), half)]
        self._firsts = [chunk[0] for chunk in self._chunks]

    def _insert(self, key: str) -> None:
        number = max(0, bisect_right(self._firsts, key) - 1)
        chunk = self._chunks[number]
        insort(chunk, key)
        if chunk[0] is key:
            self._firsts[number] = key
        if len(chunk) > CHUNK_KEYS_MAX:
            half = len(chunk) // 2
            self._chunks.insert(number + 1, chunk[half:])
            self._firsts.insert(number + 1, chunk[half])
            del chunk[half:]

    def _delete(self, key: str) -> None:
        number = max(0, bisect_right(self._firsts, key) - 1)
        chunk = self._chunks[number]
        del chunk[bisect_left(chunk, key)]
        if chunk:
            self._firsts[number] = chunk[0]
        elif len(self._chunks) > 1:
            del self._chunks[number]
            del self._firsts[number]
