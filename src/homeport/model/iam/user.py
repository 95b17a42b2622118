"""A user: a principal with keys of its own.

Owns: `User`. Its access keys are records of their own, its membership in groups is written here.
"""

from __future__ import annotations

from homeport.model.iam.policy import InlinePolicy
from homeport.model.record import Instant, Record, Tags


class User(Record, frozen=True, kw_only=True):
    """A user of an account."""

    account: str
    name: str
    path: str = "/"
    id: str
    """AIDA…, unique for ever."""
    created_at: Instant
    tags: Tags = ()
    boundary: str = ""
    """ARN of the managed policy that is its permissions boundary."""
    groups: tuple[str, ...] = ()
    """Names of groups, in the order of joining."""
    attached: tuple[str, ...] = ()
    """ARNs of managed policies."""
    inline: tuple[InlinePolicy, ...] = ()

    @property
    def key(self) -> str:
        """ACCOUNT/NAME in lower case."""
        return f"{self.account}/{self.name.lower()}"
