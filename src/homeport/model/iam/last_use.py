"""When an access key, or a role by any of its sessions, was used last.

Owns: `LastUse`. Never says what was done: the audit log does.
"""

from __future__ import annotations

from homeport.model.record import Instant, Record


class LastUse(Record, frozen=True, kw_only=True):
    """The last use that was written down; later ones may follow that are not yet."""

    id: str
    """Of an access key (AKIA…) or a role (AROA…)."""
    used_at: Instant
    service: str
    """ecs, iam, sts, …"""
    region: str
