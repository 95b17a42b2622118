"""A join token: the right to bring one new host, or a few, into an account, for some time.

Owns: `JoinToken`. Never holds the token's secret, only its hash (`iam.join_token` has the form of the text).
"""

from __future__ import annotations

from homeport.model.record import Instant, Record


class JoinToken(Record, frozen=True, kw_only=True):
    """A token that was made. Owner of every field: `api/homeport/join_token.py`; of `uses_left`: `api/homeport/instance_identity.py`."""

    id: str
    """12 characters; stands in the token's text."""
    account: str
    secret_sha256: str
    """Hexadecimal hash of the secret half of the text."""
    cluster: str
    """Name of the cluster that hosts may register in."""
    role_arn: str
    """The role whose sessions the hosts get."""
    role_id: str
    """The role's unique id: another one of its name is another one."""
    instance: str = ""
    """Key of the container instance that the host is to go on as; "": it registers a new one."""
    uses: int = 1
    uses_left: int = 1
    created_at: Instant
    created_by: str
    """ARN of the principal."""
    expires_at: Instant
