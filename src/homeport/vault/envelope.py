"""Sealing and opening: AES-256-GCM under one key, bound to a place.

Owns: `Key`, the form of what is sealed. Pure but for the nonce, which is an argument. Never stores anything, never says what it could not open.

Sealed text is `sealed:1:KEY-ID:` and base64url of nonce (12 bytes), ciphertext and tag. The associated data are the head of that and the place, each
with its length: what was sealed for one record, field or file does not open in another, nor under another key's id.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from homeport.errors import HomeportError
from homeport.model.secret import SEALED

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_FORM: Final = f"{SEALED}1:"


class SealBrokenError(HomeportError):
    """What should be a sealed secret cannot be opened: it was altered, moved, or sealed with another key."""


class Key:
    """A key that seals and opens. Its material does not show."""

    __slots__ = ("_cipher", "id")

    def __init__(self, key_id: str, material: bytes) -> None:
        """`material`: 32 bytes."""
        if len(material) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self.id = key_id
        self._cipher = AESGCM(material)

    def seal(self, content: bytes, place: Sequence[str], nonce: bytes) -> str:
        """`content` for `place` alone. `nonce`: 12 bytes that this key never sees again."""
        head = f"{_FORM}{self.id}:"
        sealed = nonce + self._cipher.encrypt(nonce, content, _bound(head, place))
        return head + base64.urlsafe_b64encode(sealed).decode()

    def open(self, sealed: str, place: Sequence[str]) -> bytes:
        """What was sealed for `place`. Raises SealBrokenError."""
        head, _, body = sealed.rpartition(":")
        head += ":"
        try:
            if head != f"{_FORM}{self.id}:":
                raise InvalidTag
            raw = base64.b64decode(body.encode("ascii"), b"-_", validate=True)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(head, place))
        except (InvalidTag, binascii.Error, UnicodeEncodeError, ValueError):
            raise SealBrokenError(
                f"the secret of {'/'.join(place)} cannot be opened: it was altered, moved here, or sealed with another key"
            ) from None


def key_id_of(sealed: str) -> str:
    """Which key sealed it, as it says itself; "" when it is not sealed."""
    parts = sealed.split(":", 3)
    return parts[2] if len(parts) == 4 and sealed.startswith(_FORM) else ""


def _bound(head: str, place: Sequence[str]) -> bytes:
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in (head, *place))
