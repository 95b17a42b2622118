"""Why a call was refused, in a form that only who may decode it can read.

Owns: `message`, `sealed`, `opened`. Pure: the key and the time are arguments. Never decides who may read one.
Source: STS's API reference, DecodeAuthorizationMessage.

A sealed message is base64url of: form (1 byte), id of the installation's key (8 bytes), nonce (12 bytes), and the JSON, compressed, encrypted with
AES-GCM under a key derived from the installation's. The nonce is an HMAC of what is sealed: no chance is needed, and none repeats for other words.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import zlib
from typing import Any, Final

import msgspec

from homeport.errors import InvalidAuthorizationMessageError
from homeport.iam.evaluate import Decision, PolicyType, Request

MESSAGE_SECONDS: Final = 86_400
"""How long one can be decoded."""
CHARACTERS_MAX: Final = 10_240
"""Of a sealed one: what DecodeAuthorizationMessage takes."""
_FORM: Final = b"\x01"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_PURPOSE: Final = b"homeport authorization message 1"
_NONCE: Final = b"homeport authorization message nonce 1"
INVALID: Final = "The encoded authorization message is not one of this account's, or is too old."
_PLAIN_BYTES_MAX: Final = 1_048_576
_TYPES: Final = {each: each.value for each in PolicyType}


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What is encrypted."""

    account: str
    at: int
    text: str


def message(request: Request, decision: Decision, *, principal_id: str) -> dict[str, Any]:
    """The decision on `request` in STS's words: whether a Deny decided, the statements that did, and the request's context."""
    principal = request.principal
    return {
        "allowed": decision.allowed,
        "explicitDeny": decision.explicit,
        "matchedStatements": {"items": _statements(decision)},
        "failures": {"items": []},
        "context": {
            "principal": {"id": principal_id, "name": principal.arn.rpartition("/")[2], "arn": principal.arn},
            "action": request.action,
            "resource": request.resource,
            "conditions": {"items": [_condition(key, value) for key, value in sorted(request.context.items())]},
        },
        # ours: which type of policy refused, by a Deny or by not allowing
        "policyType": _TYPES[decision.type],
    }


def _statements(decision: Decision) -> list[dict[str, Any]]:
    if decision.statement is None or decision.policy is None:
        return []
    effect = "DENY" if decision.statement.deny else "ALLOW"
    return [{"statementId": decision.statement.sid, "effect": effect, "sourcePolicyId": decision.policy.name}]


def _condition(key: str, value: str | tuple[str, ...]) -> dict[str, Any]:
    values = (value,) if isinstance(value, str) else value
    return {"key": key, "values": {"items": [{"value": each} for each in values]}}


def sealed(told: dict[str, Any], *, account: str, now: float, key_id: str, key: str) -> str:
    """`told`, readable with `key` alone, for `account`. One that would be too long goes without the request's condition keys."""
    text = _seal(told, account, now, key_id, key)
    if len(text) > CHARACTERS_MAX:
        context = {**told["context"], "conditions": {"items": []}, "conditionsLeftOut": True}
        text = _seal({**told, "context": context}, account, now, key_id, key)
    return text


def key_id_of(text: str) -> str:
    """Which of the installation's keys `text` names; nothing of it is checked. Raises InvalidAuthorizationMessageError."""
    return _raw(text)[len(_FORM) : len(_FORM) + _KEY_ID_BYTES].decode("latin-1").strip()


def opened(text: str, key: str, *, account: str, now: float) -> str:
    """The JSON of a message that was sealed with `key` for `account` less than a day before `now`. Raises InvalidAuthorizationMessageError."""
    from cryptography.exceptions import InvalidTag  # only who asks for it pays for loading it
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    raw, head = _raw(text), len(_FORM) + _KEY_ID_BYTES
    nonce, cipher = raw[head : head + _NONCE_BYTES], raw[head + _NONCE_BYTES :]
    try:
        plain = AESGCM(_derived(key, _PURPOSE)).decrypt(nonce, cipher, raw[:head])
        found = msgspec.msgpack.decode(zlib.decompressobj().decompress(plain, _PLAIN_BYTES_MAX), type=_Sealed)
    except (InvalidTag, zlib.error, msgspec.DecodeError) as error:
        raise InvalidAuthorizationMessageError(INVALID) from error
    if found.account != account or not found.at <= now + 1 or now - found.at >= MESSAGE_SECONDS:
        raise InvalidAuthorizationMessageError(INVALID)
    return found.text


def _seal(told: dict[str, Any], account: str, now: float, key_id: str, key: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # as in `opened`

    plain = zlib.compress(msgspec.msgpack.encode(_Sealed(account, int(now), msgspec.json.encode(told).decode())), 9)
    head = _FORM + key_id.encode().ljust(_KEY_ID_BYTES)[:_KEY_ID_BYTES]
    nonce = hmac.digest(_derived(key, _NONCE), plain, "sha256")[:_NONCE_BYTES]
    cipher = AESGCM(_derived(key, _PURPOSE)).encrypt(nonce, plain, head)
    return base64.urlsafe_b64encode(head + nonce + cipher).decode().rstrip("=")


def _derived(key: str, purpose: bytes) -> bytes:
    return hmac.digest(key.encode(), purpose, "sha256")


def _raw(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise InvalidAuthorizationMessageError(INVALID) from error
    if not raw.startswith(_FORM) or len(raw) <= len(_FORM) + _KEY_ID_BYTES + _NONCE_BYTES + _TAG_BYTES:
        raise InvalidAuthorizationMessageError(INVALID)
    return raw
