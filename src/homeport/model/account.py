"""An account: a part of the installation with users, clusters and quotas of its own, which no other account sees.

Owns: `Account`, its statuses, and the names that belong to every account. Never says who may make one.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record

ACTIVE: Final = "ACTIVE"
SUSPENDED: Final = "SUSPENDED"
"""Closed: nobody of it may do anything; what it has stays."""
MANAGEMENT_NAME: Final = "management"
"""Name of the account that the installation was made with: the only one that may make, close and count others."""
ACCESS_ROLE: Final = "OrganizationAccountAccessRole"
"""Default name of the role in a new account that the management account's administrators may assume, as AWS Organizations has it."""


def organization_id(installation_id: str) -> str:
    """What policies and ARNs know all accounts of an installation by, as those of an organization."""
    return f"o-{installation_id}"


class Account(Record, frozen=True, kw_only=True):
    """An account of the installation."""

    id: str
    """12 digits."""
    name: str
    """Unique in the installation, without regard to case."""
    created_at: Instant
    status: str = ACTIVE
    closed_at: Instant = 0.0
    quotas: tuple[tuple[str, int], ...] = ()
    """(setting, value) of the quotas that differ from the installation's own, by name."""
    alias: str = ""
    """IAM's account alias: a second name, unique in the installation. "": none."""
