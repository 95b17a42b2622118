"""An access key: the pair that signs requests.

Owns: `AccessKey`. Never verifies a signature (that is `iam.sigv4`).
"""

from __future__ import annotations

from homeport.model.record import Instant, Record
from homeport.model.secret import Sealed


class AccessKey(Record, frozen=True, kw_only=True):
    """A key pair of a principal. The root key of the installation has `principal_arn` arn:aws:iam::ACCOUNT:root."""

    id: str
    secret: Sealed
    account: str
    principal_arn: str
    created_at: Instant
    status: str = "Active"
