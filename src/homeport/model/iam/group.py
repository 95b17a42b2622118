"""A group: policies that several users share. Who is in it stands in the users.

Owns: `Group`.
"""

from __future__ import annotations

from homeport.model.iam.policy import InlinePolicy
from homeport.model.record import Instant, Record


class Group(Record, frozen=True, kw_only=True):
    """A group of an account."""

    account: str
    name: str
    path: str = "/"
    id: str
    """AGPA…, unique for ever."""
    created_at: Instant
    attached: tuple[str, ...] = ()
    """ARNs of managed policies."""
    inline: tuple[InlinePolicy, ...] = ()

    @property
    def key(self) -> str:
        """ACCOUNT/NAME in lower case."""
        return f"{self.account}/{self.name.lower()}"
