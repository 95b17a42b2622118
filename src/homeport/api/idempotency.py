"""Client tokens: the same call twice has one effect.

Owns: the reading and writing of `IdempotencyToken` records. Never decides what a call's answer is: the handler renders it from the keys kept.
A token is remembered in the very transaction of its call's effect (ecs-reference 1: 24 h; other parameters under the same token conflict).
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec

from homeport.api.call import Call
from homeport.errors import ConflictError, InvalidParameterError
from homeport.model.installation import IdempotencyToken
from homeport.store.table import Transaction
from homeport.store.tables import IDEMPOTENCY_TOKENS

_PRINTABLE = range(33, 127)


def fingerprint(request: Any) -> str:
    """A hash of everything in the request."""
    return hashlib.sha256(msgspec.msgpack.encode(request)).hexdigest()


def check_token(token: str | None, *, length_max: int) -> None:
    """Raise InvalidParameterError when `token` is too long or has a character outside ASCII 33 to 126."""
    if token is None:
        return
    if not token or len(token) > length_max or any(ord(character) not in _PRINTABLE for character in token):
        raise InvalidParameterError(f"clientToken must be 1 to {length_max} characters, each an ASCII character from 33 to 126.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """A call that is to have one effect under its token. Without a token both methods do nothing."""

    call: Call
    scope: str
    """The cluster's key, or "" for an operation outside a cluster."""
    token: str | None
    request: Any

    def recall(self, tx: Transaction) -> IdempotencyToken | None:
        """The token's record when this call was made before with the same parameters; None when it is new.

        Raises ConflictError with the first call's resources when the parameters differ.
        """
        if not self.token:
            return None
        found = tx.get(IDEMPOTENCY_TOKENS, f"{self.call.account}/{self.call.operation}/{self.scope}/{self.token}")
        if found is None or found.expires_at <= tx.now:
            return None
        if found.fingerprint != fingerprint(self.request):
            raise ConflictError("The clientToken was used before with different parameters.", found.resources)
        return found

    def remember(self, tx: Transaction, resources: tuple[str, ...], *, failures: bytes = b"") -> None:
        """Keep the token with the keys or ARNs of what the call made, and its answer's failures."""
        if not self.token:
            return
        token = IdempotencyToken(
            account=self.call.account,
            operation=self.call.operation,
            token=self.token,
            scope=self.scope,
            fingerprint=fingerprint(self.request),
            resources=resources,
            created_at=tx.now,
            expires_at=tx.now + self.call.settings.idempotency_seconds,
            failures=failures,
        )
        tx.put(IDEMPOTENCY_TOKENS, token)
