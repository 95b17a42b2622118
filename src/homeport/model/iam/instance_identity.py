"""Who a host is: what its agent proves, and what credentials are made for it.

Owns: `InstanceIdentity`. Never holds a secret: the private key stays with the host, sessions are stored nowhere.
"""

from __future__ import annotations

from homeport.model.record import Instant, Record


class InstanceIdentity(Record, frozen=True, kw_only=True):
    """The identity of one host that joined. Revoking it deletes the record; sessions made for it may nothing from then on.

    Owner: `api/homeport/instance_identity.py`; of `instance`, once it has joined, `api/ecs/container_instance_registration.py`.
    """

    id: str
    """hi- and 17 hexadecimal digits; the name of its role's sessions."""
    account: str
    cluster: str
    """Name of the one cluster that it may register in."""
    role_arn: str
    role_id: str
    public_key: bytes
    """Ed25519, 32 bytes."""
    token_id: str
    """The join token that it came with."""
    joined_at: Instant
    proved_at: Instant
    """The instant that its last proof names, on the host's clock: an older proof, or the same one, is a replay."""
    instance: str = ""
    """Key of its container instance; "" before it has registered."""
