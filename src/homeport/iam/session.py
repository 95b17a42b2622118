"""Temporary credentials that need no record: the session itself is in the token, sealed.

Owns: `Session`, `access_key_id`, `issue`, `opened`. Pure: the key, the ids and the time are arguments. Never decides who gets a session.

A token is base64url of: form (1 byte), id of the installation's key (8 bytes), the session (MessagePack, compressed), HMAC-SHA-256 over all of it.
The secret access key is an HMAC of the same bytes under another key derived from the installation's, and stands nowhere: whoever sees a token, or
makes one up, cannot sign with it. What a token says (role, tags, policies) is readable to who holds it, and is no secret of theirs.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import zlib
from typing import Final, NamedTuple

import msgspec

from homeport.errors import UnrecognizedClientError
from homeport.model.secret import hides

TOKEN_CHARACTERS_MAX: Final = 12_288
"""A longer one is none of ours; it is refused unread."""
PACKED_BYTES_MAX: Final = 6144
"""Of a packed session: policies, tags and names, compressed."""
_FORM: Final = b"\x01"
_KEY_ID_BYTES: Final = 8
_SEAL_BYTES: Final = 32
_HEAD_BYTES: Final = len(_FORM) + _KEY_ID_BYTES
_SEAL: Final = b"homeport session seal 1"
_SECRET: Final = b"homeport session secret 1"


class Session(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Somebody's temporary identity."""

    access_key_id: str
    """ASIA…"""
    account: str
    arn: str
    """What GetCallerIdentity says."""
    source_arn: str
    """The role that was assumed, or the user that asked for the session; an account's root."""
    source_id: str
    """Its unique id, so that another one of the same name is another one; "" for root."""
    issued_at: int
    expires_at: int
    policies: tuple[str, ...] | None = None
    """The session's own policies: JSON, or ARNs of managed ones. None: made without any; empty: they allow nothing."""
    tags: tuple[tuple[str, str], ...] = ()
    transitive: tuple[str, ...] = ()
    """Keys, in lower case, of the tags that the next role in a chain inherits."""
    source_identity: str = ""
    instance: str = ""
    """Id of the instance identity that it was made for: of container instances it may act for that one's alone, and for none when it is revoked."""
    task: str = ""
    """ACCOUNT/CLUSTER/ID of the task that it was made for, or whose session took this role on: it ends with that task. "": of no task."""
    claims: tuple[tuple[str, str], ...] = ()
    """Condition keys, in lower case, of the web identity that it was made for: its provider, subject and audience."""

    @property
    def name(self) -> str:
        """The last part of the ARN: the name that its maker gave the session."""
        return self.arn.rpartition("/")[2]

    @property
    def kind(self) -> str:
        """assumed-role, federated-user, user or root."""
        return self.arn.split(":", 5)[5].partition("/")[0]


@hides("token", "secret")
class Issued(NamedTuple):
    """What a client gets: beside the key id of the session."""

    token: str
    secret: str
    packed_percent: int
    """How much of the space for policies and tags is used."""


def access_key_id(account: str, chance: str) -> str:
    """Key id of a session: ASIA, the account in 8 characters, 8 of `chance`; two of one id still have tokens and secrets of their own."""
    return "ASIA" + base64.b32encode(int(account).to_bytes(5, "big")).decode() + chance[:8]


def issue(session: Session, key_id: str, key: str) -> Issued:
    """The credentials of `session`, made from the installation's key `key`. More than 100 % are too much; the caller refuses them."""
    packed = zlib.compress(msgspec.msgpack.encode(session), 9)
    sealed = _FORM + key_id.encode().ljust(_KEY_ID_BYTES)[:_KEY_ID_BYTES] + packed
    token = base64.urlsafe_b64encode(sealed + _mac(key, _SEAL, sealed)).decode()
    return Issued(token, _secret(key, sealed), -(-100 * len(packed) // PACKED_BYTES_MAX))


def key_id_of(token: str) -> str:
    """Which of the installation's keys `token` names; nothing of it is checked. Raises UnrecognizedClientError for what cannot be a token."""
    return _raw(token)[len(_FORM) : _HEAD_BYTES].decode("latin-1").strip()


def opened(token: str, key: str) -> tuple[Session, str]:
    """(session, secret access key) of a token that was made from `key`. Whether it has expired is for the caller to ask.

    Raises UnrecognizedClientError for any other text.
    """
    raw = _raw(token)
    sealed, seal = raw[:-_SEAL_BYTES], raw[-_SEAL_BYTES:]
    if not hmac.compare_digest(_mac(key, _SEAL, sealed), seal):
        raise UnrecognizedClientError
    try:
        session = msgspec.msgpack.decode(zlib.decompress(sealed[_HEAD_BYTES:]), type=Session)
    except (zlib.error, msgspec.DecodeError) as error:  # sealed by a version with other sessions
        raise UnrecognizedClientError from error
    return session, _secret(key, sealed)


def _raw(token: str) -> bytes:
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise UnrecognizedClientError
    try:
        raw = base64.b64decode(token.encode("ascii"), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise UnrecognizedClientError from error
    # One token, one spelling: the bits that base64 leaves over are not free.
    if not raw.startswith(_FORM) or len(raw) <= _HEAD_BYTES + _SEAL_BYTES or base64.urlsafe_b64encode(raw).decode() != token:
        raise UnrecognizedClientError
    return raw


def _mac(key: str, purpose: bytes, sealed: bytes) -> bytes:
    return hmac.digest(hmac.digest(key.encode(), purpose, "sha256"), sealed, "sha256")


def _secret(key: str, sealed: bytes) -> str:
    return base64.b64encode(_mac(key, _SECRET, sealed))[:40].decode()
