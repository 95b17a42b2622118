"""Tokens of OpenID Connect issuers: what they say, and whether a key set of the issuer vouches for it.

Owns: `Claims`, `Token`, `read`, `proven`, `key_set`. Pure: keys and the time are arguments. Never asks an issuer for anything (`api/sts/issuer.py`
does) and never decides which role a token is good for.
Source: OpenID Connect Core 1.0 (ID Token), RFC 7515, 7517, 7519 and 8725; STS's API reference, AssumeRoleWithWebIdentity; IAM user guide,
"Available keys for AWS OIDC federation".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from homeport.errors import IdpRejectedClaimError, InvalidIdentityTokenError, WebIdentityExpiredError

ALGORITHMS: Final[Mapping[str, str]] = {"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "ES256": "EC", "ES384": "EC", "ES512": "EC"}
"""Signature algorithm → type of its keys. Neither `none` nor any with a shared secret is among them."""
_CURVES: Final[Mapping[str, str]] = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
KEYS_MAX: Final = 200
"""Of one issuer; IAM takes 100 RSA and 100 EC keys."""
_RSA_BYTES: Final = (256, 1024)
"""Fewest and most bytes of an RSA modulus: 2,048 bits, and a bound on what one check costs."""
_EXPONENT_BYTES_MAX: Final = 4
SKEW_SECONDS: Final = 60
"""How far an issuer's clock may be ahead of this server's."""
_TAGS: Final = "https://aws.amazon.com/tags"
_SOURCE_IDENTITY: Final = "https://aws.amazon.com/source_identity"
_NOT_A_TOKEN: Final = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
_OWN_CLAIMS: Final = frozenset({"iss", "aud", "sub", "azp", "amr", "exp", "nbf", "iat", "jti", "oaud", _TAGS, _SOURCE_IDENTITY})
_CLAIM_CHARACTERS_MAX: Final = 1024


class Token(NamedTuple):
    """A token as it came, read but not proven."""

    text: str
    algorithm: str
    key_id: str
    """"" when it names none."""
    issuer: str
    payload: dict[str, Any]


class Claims(NamedTuple):
    """What a proven token says."""

    issuer: str
    subject: str
    audience: str
    """Whom it is for: `azp` where the token has one, else `aud`."""
    keys: dict[str, str | tuple[str, ...]]
    """Condition keys, in lower case: `ISSUER:sub`, `ISSUER:aud`, …"""
    tags: tuple[tuple[str, str], ...] = ()
    transitive: tuple[str, ...] = ()
    source_identity: str = ""

    @property
    def principal_id(self) -> str:
        """ISSUER:AUDIENCE:SUBJECT, as CloudTrail names who came with a token."""
        return f"{self.issuer.partition('://')[2]}:{self.audience}:{self.subject}"


def read(text: str) -> Token:
    """The token in `text`; nothing of it may be believed yet. Raises InvalidIdentityTokenError."""
    parts = text.split(".")
    if len(parts) != 3:
        raise InvalidIdentityTokenError(_NOT_A_TOKEN)
    header, payload = _json(parts[0]), _json(parts[1])
    algorithm, key_id, issuer = header.get("alg"), header.get("kid", ""), payload.get("iss")
    if not isinstance(algorithm, str) or not isinstance(key_id, str) or not isinstance(issuer, str):
        raise InvalidIdentityTokenError(_NOT_A_TOKEN)
    if algorithm not in ALGORITHMS:
        raise InvalidIdentityTokenError(f"The signing algorithm of the token is not one of {', '.join(ALGORITHMS)}.")
    if "crit" in header or "b64" in header:  # extensions that must be understood: none is
        raise InvalidIdentityTokenError("The token demands an extension that is not understood.")
    return Token(text, algorithm, key_id, issuer, payload)


def key_set(document: object) -> tuple[dict[str, Any], ...]:
    """The usable keys of a JSON Web Key Set, decoded; others in it are passed over. Raises ValueError for what is no key set."""
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > KEYS_MAX:
        raise ValueError("no key set")
    return tuple(key for key in keys if isinstance(key, dict) and _usable(key))


def chosen(token: Token, keys: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The key that the token says it was signed with; None when it is not among `keys`. Without a `kid` there must be one that fits, and only one."""
    fitting = [key for key in keys if _fits(key, token.algorithm) and (not token.key_id or key.get("kid") == token.key_id)]
    return fitting[0] if len(fitting) == 1 else None


def proven(token: Token, key: Mapping[str, Any], *, client_ids: Sequence[str], now: float) -> Claims:
    """What the token says, if `key` signed it, it is for one of `client_ids`, and it is good at `now`.

    Raises InvalidIdentityTokenError, WebIdentityExpiredError, IdpRejectedClaimError.
    """
    import jwt  # with cryptography it takes a tenth of a second and some MB: servers without web identities do without

    try:
        signing_key = jwt.PyJWK(dict(key), algorithm=token.algorithm)
        jwt.PyJWS().decode(token.text, signing_key, algorithms=[token.algorithm])
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InvalidIdentityTokenError("The token's signature is not its issuer's.") from error
    _require_time(token.payload, now)
    return _claims(token, client_ids)


def _claims(token: Token, client_ids: Sequence[str]) -> Claims:
    payload = token.payload
    subject = payload.get("sub")
    if not isinstance(subject, str) or not subject or len(subject) > 255:
        raise InvalidIdentityTokenError("Missing a required claim: sub")
    given, party = _audiences(payload), payload.get("azp", "")
    if not isinstance(party, str) or (len(given) > 1 and not party):
        raise InvalidIdentityTokenError("A token with several audiences must say in azp to whom it was issued.")
    audience = party or given[0]
    if audience not in client_ids:
        raise InvalidIdentityTokenError("Incorrect token audience")
    tags, transitive = _session_tags(payload.get(_TAGS))
    return Claims(
        token.issuer,
        subject,
        audience,
        _condition_keys(token, audience, given),
        tags,
        transitive,
        _source_identity(payload.get(_SOURCE_IDENTITY)),
    )


def _condition_keys(token: Token, audience: str, given: tuple[str, ...]) -> dict[str, str | tuple[str, ...]]:
    """`aud`, `sub`, `amr`, `oaud` and `azp` as AWS has them, and each other claim that is a text, number, truth value, or list of texts."""
    prefix, payload = token.issuer.partition("://")[2].lower(), token.payload
    found: dict[str, str | tuple[str, ...]] = {}
    for name, value in payload.items():
        shown = _shown(value)
        if shown is not None and name not in _OWN_CLAIMS:
            found[f"{prefix}:{name.lower()}"] = shown
    found |= {f"{prefix}:aud": audience, f"{prefix}:sub": payload["sub"]}
    if payload.get("azp"):
        found |= {f"{prefix}:azp": payload["azp"], f"{prefix}:oaud": given if len(given) > 1 else given[0]}
    if amr := _shown(payload.get("amr")):
        found[f"{prefix}:amr"] = (amr,) if isinstance(amr, str) else amr
    return found


def _shown(value: object) -> str | tuple[str, ...] | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return value[:_CLAIM_CHARACTERS_MAX]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return tuple(each[:_CLAIM_CHARACTERS_MAX] for each in value)
    return None


def _require_time(payload: Mapping[str, Any], now: float) -> None:
    expires, issued, begins = (_instant(payload, name) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None:
        raise InvalidIdentityTokenError(f"Missing a required claim: {'exp' if expires is None else 'iat'}")
    if now >= expires:
        shown = [datetime.fromtimestamp(int(min(each, _LAST)), UTC).isoformat().replace("+00:00", "Z") for each in (now, expires)]
        raise WebIdentityExpiredError(f"Token expired: current date/time {shown[0]} must be before the expiration date/time {shown[1]}")
    if max(issued, begins or 0) > now + SKEW_SECONDS:
        raise IdpRejectedClaimError("The token is not valid yet.")


_LAST: Final = 253_402_300_799.0
"""The last second of the year 9999."""


def _instant(payload: Mapping[str, Any], name: str) -> float | None:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST:
        raise InvalidIdentityTokenError(f"The claim {name} is no date.")
    return float(value)


def _audiences(payload: Mapping[str, Any]) -> tuple[str, ...]:
    given = payload.get("aud")
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not listed or not all(isinstance(each, str) and each for each in listed):
        raise InvalidIdentityTokenError("Missing a required claim: aud")
    return tuple(listed)


def _session_tags(given: object) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """(tags, transitive keys) of the claim; each tag is a list with one value. Raises InvalidIdentityTokenError for another form."""
    if given is None:
        return (), ()
    named = given.get("principal_tags", {}) if isinstance(given, dict) else None
    keys = given.get("transitive_tag_keys", []) if isinstance(given, dict) else None
    if not isinstance(named, dict) or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise InvalidIdentityTokenError(f"The claim {_TAGS} has not the form that it must have.")
    tags: list[tuple[str, str]] = []
    for key, values in named.items():
        value = values[0] if isinstance(values, list) and len(values) == 1 else values
        if not isinstance(value, str) or not 0 < len(key) <= 128 or len(value) > 256:
            raise InvalidIdentityTokenError(f"The claim {_TAGS} has not the form that it must have.")
        tags.append((key, value))
    return tuple(tags), tuple(keys)


def _source_identity(given: object) -> str:
    if given is None:
        return ""
    if not isinstance(given, str) or not 2 <= len(given) <= 64 or not all(each.isalnum() or each in "_+=,.@-" for each in given):
        raise InvalidIdentityTokenError(f"The claim {_SOURCE_IDENTITY} is no source identity.")
    return given


def _usable(key: Mapping[str, Any]) -> bool:
    """Whether a key of a set is for signatures, of a type and size that are taken, and public."""
    if key.get("use", "sig") != "sig" or not isinstance(key.get("kid", ""), str) or "d" in key:
        return False
    if key.get("kty") == "RSA":
        modulus, exponent = _number(key.get("n")), _number(key.get("e"))
        return (
            modulus is not None and exponent is not None and _RSA_BYTES[0] <= len(modulus) <= _RSA_BYTES[1] and len(exponent) <= _EXPONENT_BYTES_MAX
        )
    return key.get("kty") == "EC" and key.get("crv") in _CURVES.values()


def _number(text: object) -> bytes | None:
    try:
        return _decoded(text).lstrip(b"\0") if isinstance(text, str) else None
    except ValueError:
        return None


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    """Whether the key is one for `algorithm`: by its type, its curve, and what it says itself."""
    if key.get("kty") != ALGORITHMS[algorithm] or key.get("alg", algorithm) != algorithm:
        return False
    return algorithm not in _CURVES or key.get("crv") == _CURVES[algorithm]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error


def _json(part: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(_decoded(part), type=dict[str, Any])
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise InvalidIdentityTokenError(_NOT_A_TOKEN) from None
    return found
