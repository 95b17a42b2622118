"""One installation: its account, region and identity; and the records of one-time effects.

Owns: `Installation`, `rules_table`, `IdempotencyToken`, `Effect`. Never holds settings (those are `config.Settings`).
"""

from __future__ import annotations

import hashlib

from homeport.model.record import Instant, Record


class Installation(Record, frozen=True, kw_only=True):
    """The installation's identity, written at first start."""

    id: str
    """16 hexadecimal digits; labels every container of this installation."""
    account: str
    """12 digits."""
    region: str
    created_at: Instant
    authority_sha256: str = ""
    """SHA-256 of the certificate of the authority that the servers trust; "" as long as none spoke TLS. Written at a server's start, and by the
    leader when the authority is replaced."""


def rules_table(installation_id: str, agent_id: str) -> str:
    """Name of the nftables table that an agent makes on its host and nobody else."""
    return f"homeport_{hashlib.sha256(installation_id.encode()).hexdigest()[:12]}_{agent_id.replace('-', '')[:12]}"


class IdempotencyToken(Record, frozen=True, kw_only=True):
    """A client token seen with an operation, kept 24 h in the transaction of the call's effect."""

    account: str
    operation: str
    token: str
    scope: str
    """The cluster key, or "" for operations outside a cluster."""
    fingerprint: str
    """Hash of the call's parameters without the token: another fingerprint under the same token is a conflict."""
    resources: tuple[str, ...]
    """Keys of the records that the first call made."""
    created_at: Instant
    expires_at: Instant
    failures: bytes = b""
    """JSON of the first answer's failures[], so that a repeated call answers the same."""

    @property
    def key(self) -> str:
        """account/operation/scope/token."""
        return f"{self.account}/{self.operation}/{self.scope}/{self.token}"


class Effect(Record, frozen=True, kw_only=True):
    """What one change of a call answered, kept for some minutes in the change's transaction, so that the call sent again has one effect."""

    key: str
    """ACCESS-KEY-ID/INVOCATION-ID/HASH-OF-THE-CALL/ORDINAL: the ordinal counts the changes within one call."""
    answer: bytes
    """JSON of what the change returned."""
    record: str = ""
    """Name of the class when it returned a record; `answer` is MessagePack then."""
    made_at: Instant
