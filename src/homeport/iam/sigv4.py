"""AWS Signature Version 4 in request headers: sign, and check a signature, as pure functions.

Owns: `Request`, `Credentials`, `sign`, `Authorization`, `read_authorization`, `verify`.
Never looks up a key, never reads a clock: secret and `now` are arguments. Never accepts a signature in the query string.

Canonical form (the SigV4 chapter of AWS's general reference): every service but S3 encodes the path twice; header values are trimmed and
inner blanks squeezed; several headers of one name are joined by commas; query pairs are sorted in their encoded form.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from homeport.errors import IncompleteSignatureError, InvalidSignatureError, MissingAuthenticationTokenError
from homeport.model.secret import hides

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TERMINATOR: Final = "aws4_request"
EMPTY_BODY_SHA256: Final = hashlib.sha256(b"").hexdigest()
AUTHORIZATION_BYTES_MAX: Final = 4096
_ISO_BASIC: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z", re.ASCII)
_SIGNATURE: Final = re.compile(rb"(?<=[\s,])Signature=([^,\s]*)")
_MUST_BE_SIGNED: Final = (b"x-amz-target", b"x-amz-date", b"x-amz-content-sha256", b"x-amz-security-token")
"""Headers that decide what the request means: present, they must be signed."""
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. "
    "Consult the service documentation for details."
)


class Request(NamedTuple):
    """What a signature covers. Header names are lower case; several headers of one name are joined by commas."""

    method: str
    path: bytes
    """As in the request line, percent-encoded, without the query."""
    query: bytes
    """As in the request line, without the question mark."""
    headers: Mapping[bytes, bytes]
    body_sha256: str
    """Lower-case hexadecimal SHA-256 of the body as received."""


@hides("secret_access_key")
class Credentials(NamedTuple):
    """What a client signs with, and for which region and service."""

    access_key_id: str
    secret_access_key: str
    region: str
    service: str = "ecs"


class Authorization(NamedTuple):
    """An Authorization header, taken apart and checked for form."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[bytes, ...]
    signature: bytes
    """As sent, in lower-case hexadecimal if it is any good."""

    @property
    def scope(self) -> str:
        """date/region/service/aws4_request."""
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


def amz_date(instant: float) -> str:
    """`instant` as X-Amz-Date has it: YYYYMMDDTHHMMSSZ."""
    return datetime.datetime.fromtimestamp(int(instant), datetime.UTC).strftime("%Y%m%dT%H%M%SZ")


def sign(request: Request, credentials: Credentials, now: float) -> dict[str, str]:
    """The headers to add to `request` so that it is signed at `now`: X-Amz-Date and Authorization.

    Signs every header of `request.headers`, among which must be `host`.
    """
    date = amz_date(now)
    headers = {**request.headers, b"x-amz-date": date.encode()}
    names = tuple(sorted(headers))
    authorization = Authorization(credentials.access_key_id, date[:8], credentials.region, credentials.service, names, b"")
    signature = _signature(request._replace(headers=headers), authorization, credentials.secret_access_key, date)
    signed = b";".join(names).decode()
    return {
        "X-Amz-Date": date,
        "Authorization": f"{ALGORITHM} Credential={credentials.access_key_id}/{authorization.scope}, SignedHeaders={signed}, Signature={signature}",
    }


def read_authorization(headers: Mapping[bytes, bytes]) -> Authorization:
    """The parts of the Authorization header.

    Raises MissingAuthenticationTokenError when there is none, IncompleteSignatureError when a part is missing or malformed, or a header
    that must be signed is not; InvalidSignatureError when the scope does not end as it must.
    """
    header = headers.get(b"authorization")
    if not header:
        raise MissingAuthenticationTokenError
    if len(header) > AUTHORIZATION_BYTES_MAX:
        raise IncompleteSignatureError(f"Authorization header is longer than {AUTHORIZATION_BYTES_MAX} bytes.")
    if b"x-amz-date" not in headers and b"date" not in headers:
        raise IncompleteSignatureError("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    found = _SIGNATURE.search(header)
    if found is None:
        _read_claims(header)
        raise IncompleteSignatureError("Authorization header requires 'Signature' parameter.")
    # What comes before the signature is the same for all requests of a client on one day: it is read once.
    authorization = _read_claims(header[: found.start()] + header[found.end() :])._replace(signature=found[1])
    for name in _MUST_BE_SIGNED:
        if name in headers and name not in authorization.signed_headers:
            raise IncompleteSignatureError(f"'{name.decode().title()}' must be a 'SignedHeader' in the AWS Authorization.")
    if b"x-amz-date" not in headers and b"date" not in authorization.signed_headers:
        raise IncompleteSignatureError("'Date' must be a 'SignedHeader' in the AWS Authorization.")
    return authorization


def check_scope(authorization: Authorization, *, region: str, service: str) -> None:
    """Raise InvalidSignatureError unless the signature was made for `region` and `service`."""
    if authorization.region != region:
        found = authorization.region
        raise InvalidSignatureError(f"Credential should be scoped to a valid region, not '{found}'. This installation's is '{region}'.")
    if authorization.service != service:
        raise InvalidSignatureError(f"Credential should be scoped to correct service: '{service}'.")


def verify(request: Request, authorization: Authorization, *, secret: str, now: float, skew_seconds: float) -> None:
    """Return if `request` was signed with `secret` at most `skew_seconds` before or after `now`; else raise InvalidSignatureError.

    Raises IncompleteSignatureError for a date that cannot be read.
    """
    headers = request.headers
    date = (headers.get(b"x-amz-date") or headers.get(b"date") or b"").decode("latin-1")
    instant = _instant(date)
    if date[:8] != authorization.date:
        raise InvalidSignatureError(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{authorization.date}' != '{date[:8]}', from '{date}'."
        )
    if not -skew_seconds <= instant - now <= skew_seconds:
        raise InvalidSignatureError(_skew_message(date, instant, now, skew_seconds))
    claimed = headers.get(b"x-amz-content-sha256")
    if claimed is not None and claimed != request.body_sha256.encode():
        raise InvalidSignatureError(_MISMATCH)
    expected = _signature(request, authorization, secret, date).encode()
    if not hmac.compare_digest(expected, authorization.signature):
        raise InvalidSignatureError(_MISMATCH)


@functools.lru_cache(maxsize=1024)
def _read_claims(text: bytes) -> Authorization:
    """An Authorization header without its signature. Kept for the next request of the same client."""
    algorithm, _, rest = text.decode("latin-1").strip().partition(" ")
    if algorithm != ALGORITHM:
        raise IncompleteSignatureError(f"Unsupported AWS 'algorithm': '{algorithm[:64]}'. Supported is '{ALGORITHM}'.")
    parts: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        name, separator, value = part.partition("=")
        if not separator:
            raise IncompleteSignatureError(f"'{part[:64]}' not a valid key=value pair (missing equal-sign) in Authorization header.")
        if name in parts:
            raise IncompleteSignatureError(f"Authorization header has '{name[:64]}' more than once.")
        parts[name] = value
    missing = [name for name in ("Credential", "SignedHeaders") if not parts.get(name)]
    if missing:
        raise IncompleteSignatureError(" ".join(f"Authorization header requires '{name}' parameter." for name in missing))
    # A key id may hold slashes (any string that SigV4 allows): the scope is the last four elements.
    elements = parts["Credential"].rsplit("/", 4)
    if len(elements) != 5 or not elements[0]:
        raise IncompleteSignatureError(
            f"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{parts['Credential'][:128]}'"
        )
    key_id, date, region, service, terminator = elements
    if terminator != TERMINATOR:
        raise InvalidSignatureError(f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator[:64]}'.")
    signed = tuple(parts["SignedHeaders"].lower().encode("latin-1").split(b";"))
    if b"host" not in signed:
        raise IncompleteSignatureError("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    return Authorization(key_id, date, region, service, signed, b"")


@functools.lru_cache(maxsize=256)
def _instant(date: str) -> float:
    """Seconds since the epoch of an ISO-8601 basic date; IncompleteSignatureError if it is none."""
    found = _ISO_BASIC.fullmatch(date)
    try:
        if found is not None:
            year, month, day, hour, minute, second = (int(part) for part in found.groups())
            return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC).timestamp()
    except ValueError:
        pass
    raise IncompleteSignatureError(f"Date must be in ISO-8601 'basic format'. Got '{date[:64]}'. See http://en.wikipedia.org/wiki/ISO_8601")


def _skew_message(date: str, instant: float, now: float, skew_seconds: float) -> str:
    minutes = f"{skew_seconds / 60:g} min."
    if instant < now:
        return f"Signature expired: {date} is now earlier than {amz_date(now - skew_seconds)} ({amz_date(now)} - {minutes})"
    return f"Signature not yet current: {date} is still later than {amz_date(now + skew_seconds)} ({amz_date(now)} + {minutes})"


@functools.lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of one secret for one day, region and service: the same for a whole day, so it is kept."""
    key = ("AWS4" + secret).encode()
    for element in (date, region, service, TERMINATOR):
        key = hmac.digest(key, element.encode(), "sha256")
    return key


def _signature(request: Request, authorization: Authorization, secret: str, date: str) -> str:
    """The signature that `request` must have, in hexadecimal."""
    headers = request.headers
    signed = authorization.signed_headers
    lines = [name + b":" + b" ".join(headers.get(name, b"").split()) for name in signed]
    canonical = b"\n".join(
        (
            request.method.encode(),
            _canonical_path(request.path),
            _canonical_query(request.query) if request.query else b"",
            *lines,
            b"",
            b";".join(signed),
            request.body_sha256.encode(),
        )
    )
    to_sign = f"{ALGORITHM}\n{date}\n{authorization.scope}\n{hashlib.sha256(canonical).hexdigest()}"
    key = _signing_key(secret, authorization.date, authorization.region, authorization.service)
    return hmac.digest(key, to_sign.encode("latin-1"), "sha256").hex()


def _canonical_path(path: bytes) -> bytes:
    """`path` without empty, `.` and `..` segments, encoded once more."""
    if path in {b"/", b""}:
        return b"/"
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in {b"", b"."}:
            segments.append(segment)
    ending = b"/" if path.endswith(b"/") and segments else b""
    return quote(b"/" + b"/".join(segments) + ending, safe="/~").encode()


def _canonical_query(query: bytes) -> bytes:
    """The pairs of `query` in one spelling, sorted."""
    pairs = []
    for pair in filter(None, query.split(b"&")):
        name, _, value = pair.partition(b"=")
        pairs.append((_encoded(name), _encoded(value)))
    return b"&".join(name + b"=" + value for name, value in sorted(pairs))


def _encoded(text: bytes) -> bytes:
    return quote(unquote_to_bytes(text), safe="-_.~").encode()
