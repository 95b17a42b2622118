"""Page tokens: where the next page starts, sealed.

Owns: `page_token`, `open_token`, `paginate`. Never keeps anything: a token holds the last key given out, so any server can go on from it,
also after a restart. Never trusts a token: it is sealed with a key derived from the installation's id, and bound to the operation, the
account and the filter it was made for.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from homeport.errors import InvalidParameterError

if TYPE_CHECKING:
    from homeport.api.call import Call

R = TypeVar("R")

_SEAL_BYTES: Final = 16
_TOKEN_CHARACTERS_MAX: Final = 4096
_VERSION: Final = b"\x01"


def page_token(call: Call, last_key: str, filter_values: Sequence[Any] = ()) -> str:
    """The nextToken of a page that ended with the record `last_key`.

    `filter_values` are the parameters that choose and order the records (cluster, family, status, …): JSON values, in a fixed order.
    """
    key = last_key.encode()
    return base64.urlsafe_b64encode(_VERSION + _seal(call, key, filter_values) + key).decode().rstrip("=")


def open_token(call: Call, token: str | None, filter_values: Sequence[Any] = ()) -> str:
    """The last key that `token` holds; "" for no token, which starts at the beginning.

    Raises InvalidParameterError if the token was altered, or was made by another installation, account, operation or filter.
    """
    if not token:
        return ""
    if len(token) > _TOKEN_CHARACTERS_MAX:
        raise InvalidParameterError("Invalid token: nextToken is too long.")
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        key = sealed[1 + _SEAL_BYTES :]
        last_key = key.decode()
    except (binascii.Error, ValueError):
        raise InvalidParameterError("Invalid token: nextToken is malformed.") from None
    if sealed[:1] != _VERSION or not hmac.compare_digest(sealed[1 : 1 + _SEAL_BYTES], _seal(call, key, filter_values)):
        raise InvalidParameterError("Invalid token: nextToken was not given by this operation with these parameters.")
    return last_key


def paginate(records: Iterable[R], *, limit: int, key: Callable[[R], str]) -> tuple[list[R], str | None]:
    """The first `limit` records, and the key of the last of them if there are more (else None). Takes one record more than it gives."""
    items: list[R] = []
    for record in records:
        if len(items) == limit:
            return items, key(items[-1])
        items.append(record)
    return items, None


@functools.lru_cache(maxsize=16)
def _sealing_key(installation_id: str) -> bytes:
    return hashlib.sha256(b"homeport page token\n" + installation_id.encode()).digest()


def _seal(call: Call, last_key: bytes, filter_values: Sequence[Any]) -> bytes:
    text = msgspec.json.encode((call.operation, call.account, tuple(filter_values))) + b"\n" + last_key
    return hmac.digest(_sealing_key(call.context.installation_id), text, "sha256")[:_SEAL_BYTES]
