"""A role: a principal that others take on for a time; and instance profiles, which carry a role to a machine.

Owns: `Role`, `InstanceProfile`. Sessions of a role are not stored with it.
"""

from __future__ import annotations

from homeport.model.iam.policy import InlinePolicy
from homeport.model.record import Instant, Record, Tags


class Role(Record, frozen=True, kw_only=True):
    """A role of an account."""

    account: str
    name: str
    path: str = "/"
    id: str
    """AROA…, unique for ever."""
    created_at: Instant
    trust: str
    """JSON of the policy that says who may assume it."""
    description: str = ""
    session_seconds_max: int = 3600
    """3,600 to 43,200."""
    tags: Tags = ()
    boundary: str = ""
    """ARN of the managed policy that is its permissions boundary."""
    attached: tuple[str, ...] = ()
    """ARNs of managed policies."""
    inline: tuple[InlinePolicy, ...] = ()
    service: str = ""
    """Of a service-linked role: the service that it belongs to, such as ecs.amazonaws.com."""

    @property
    def key(self) -> str:
        """ACCOUNT/NAME in lower case."""
        return f"{self.account}/{self.name.lower()}"


class InstanceProfile(Record, frozen=True, kw_only=True):
    """An instance profile of an account."""

    account: str
    name: str
    path: str = "/"
    id: str
    """AIPA…, unique for ever."""
    created_at: Instant
    role: str = ""
    """Name of its one role."""
    tags: Tags = ()

    @property
    def key(self) -> str:
        """ACCOUNT/NAME in lower case."""
        return f"{self.account}/{self.name.lower()}"
