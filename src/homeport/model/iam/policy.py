"""Policies as they are stored: managed ones with their versions, and inline ones that live in what they are attached to.

Owns: `ManagedPolicy`, `PolicyVersion`, `InlinePolicy`. Never reads a document: `iam.document` does.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record, Tags

VERSIONS_MAX: Final = 5
"""Versions that a managed policy keeps (IAM's quota, not adjustable)."""


class InlinePolicy(Record, frozen=True, kw_only=True):
    """A policy that belongs to one user, group or role."""

    name: str
    document: str
    """JSON as given."""


class PolicyVersion(Record, frozen=True, kw_only=True):
    """One version of a managed policy; never changed."""

    number: int
    """Shown as v1, v2, …; numbers are not used again."""
    document: str
    created_at: Instant


class ManagedPolicy(Record, frozen=True, kw_only=True):
    """A managed policy of an account. Amazon's own are not stored: `iam/amazon_policies.py` has them."""

    account: str
    name: str
    path: str = "/"
    id: str
    """ANPA…, unique for ever."""
    created_at: Instant
    updated_at: Instant
    description: str = ""
    tags: Tags = ()
    versions: tuple[PolicyVersion, ...]
    """Oldest first."""
    default_version: int = 1
    next_version: int = 2

    @property
    def key(self) -> str:
        """ACCOUNT/NAME in lower case: IAM's names are unique without regard to case."""
        return f"{self.account}/{self.name.lower()}"

    @property
    def document(self) -> str:
        """The JSON of the default version."""
        return next(version.document for version in self.versions if version.number == self.default_version)
