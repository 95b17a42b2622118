"""An OpenID Connect provider: an issuer of tokens, outside of the installation, that an account trusts.

Owns: `OidcProvider`. Never asks the issuer for its keys (that is `api/sts/issuer.py`) and never reads a token (`iam.web_identity`).
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record, Tags

PROVIDERS_MAX: Final = 100
"""Per account (IAM's quota)."""
CLIENT_IDS_MAX: Final = 100
THUMBPRINTS_MAX: Final = 5


class OidcProvider(Record, frozen=True, kw_only=True):
    """An OpenID Connect provider of an account."""

    account: str
    issuer: str
    """As tokens have it in `iss`: https://…; http://… only where the installation allows it."""
    created_at: Instant
    client_ids: tuple[str, ...] = ()
    """Audiences that a token may be for."""
    thumbprints: tuple[str, ...] = ()
    """Kept and told; certificates are checked against the trusted authorities instead."""
    tags: Tags = ()

    @property
    def name(self) -> str:
        """What ARNs and condition keys call it: the issuer without its scheme."""
        return self.issuer.partition("://")[2]

    @property
    def key(self) -> str:
        """ACCOUNT/NAME."""
        return f"{self.account}/{self.name}"
