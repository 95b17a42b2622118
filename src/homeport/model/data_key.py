"""The keys that secrets in the store are sealed with, and how far sealing has come.

Owns: `DataKey`, `Sealing`. Never opens or makes a key (that is `vault`).
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record

SEALING: Final = "sealing"
"""Key of the one `Sealing` record."""


class DataKey(Record, frozen=True, kw_only=True):
    """A key of the store, wrapped by a root key, which is not in the store. The newest one seals; all of them open."""

    id: str
    """8 characters; stands in everything that was sealed with it."""
    root_key_id: str
    """Which root key wraps it: 16 hexadecimal digits."""
    wrapped: str
    """Sealed by that root key."""
    created_at: Instant


class Sealing(Record, frozen=True, kw_only=True):
    """What an installation that an older program began still has, or had, in clear."""

    scrubbing: bool = False
    """Whether the store's files may still hold bytes of before: sealed, but not yet cleaned."""
    open_through: int = 0
    """Up to which revision the journal's entries may tell secrets; such entries are kept nowhere. 0: none ever did."""
