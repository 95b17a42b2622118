"""How large the journal is, estimated from samples, and which entries are too many or too old.

Owns: `surplus`, `older_than`. Never removes anything. No backend can tell the size of its journal cheaply, but revisions have
no gaps: so the number of entries between two revisions is known, and a few entries here and there tell how large they are.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant
from homeport.store.backend import JournalSource
from homeport.store.journal_entry import ENTRY_DECODER

BLOCKS: Final = 64
"""Parts of the journal that are looked at separately, since the size of entries changes with what was going on; none has fewer entries than this."""
SAMPLE_ENTRIES: Final = 16
"""Entries read in each."""
ENTRY_BYTES: Final = 48
"""What an entry takes beside its payload: hash, revision, the row's head."""


async def surplus(backend: JournalSource, bytes_max: int) -> int:
    """The revision up to which entries would have to go so that about the newest `bytes_max` bytes remain; the anchor's when none have to."""
    anchor, head = await backend.ends()
    step = max(BLOCKS, -(-(head.revision - anchor.revision) // BLOCKS))
    position, left = head.revision, float(bytes_max)
    while position > anchor.revision:
        lower = max(anchor.revision, position - step)
        sample = await backend.entries(lower + 1, min(SAMPLE_ENTRIES, position - lower))
        if not sample:
            break  # pruned meanwhile
        size = ENTRY_BYTES + sum(len(entry.payload) for entry in sample) / len(sample)
        if size * (position - lower) > left:
            return position - int(left / size)
        left -= size * (position - lower)
        position = lower
    return anchor.revision


async def older_than(backend: JournalSource, before: Instant) -> int:
    """The revision of the last entry made before the instant `before`; the anchor's when there is none."""
    anchor, head = await backend.ends()
    low, high = anchor.revision, head.revision
    while low < high:  # instants grow with revisions, so it is found by halving
        middle = (low + high + 1) // 2
        entries = await backend.entries(middle, 1)
        if entries and ENTRY_DECODER.decode(entries[0].payload).instant < before:
            low = middle
        else:
            high = middle - 1
    return low
