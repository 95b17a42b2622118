"""The key that temporary credentials are made from.

Owns: `SessionKey`. Never makes or opens a token (that is `iam.session`).
"""

from __future__ import annotations

from homeport.model.record import Instant, Record
from homeport.model.secret import Sealed


class SessionKey(Record, frozen=True, kw_only=True):
    """A key of the installation. Whoever has it can make credentials of anybody: no operation ever tells it."""

    id: str
    """8 characters; stands in every token that was made from it."""
    secret: Sealed
    created_at: Instant
