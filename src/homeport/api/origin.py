"""Where a call came from, told by the server that was asked first to the one that carries it out.

Owns: the sealed header. Policies look at the caller's address (aws:SourceIp): the leader must judge by the client's, not by that of the server
between, and must believe nobody but a server. The seal is made with the root key's secret, which every server has, over the call's own signature:
it is good for that one call.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

HEADER: Final = b"x-homeport-origin"
_PARTS: Final = 3


def sealed(secret: str, authorization: bytes, address: str, *, secure: bool) -> str:
    """The header's value for a call with this Authorization header, from `address`, over TLS or not."""
    told = f"{'https' if secure else 'http'} {address}"
    return f"{told} {_seal(secret, authorization, told)}"


def told(secret: str, headers: Mapping[bytes, bytes]) -> tuple[str, bool] | None:
    """(address, over TLS) that a server told of this call; None when none did, or somebody who is no server."""
    parts = headers.get(HEADER, b"").decode("latin-1").split(" ")
    if len(parts) != _PARTS:
        return None
    scheme, address, seal = parts
    good = _seal(secret, headers.get(b"authorization", b""), f"{scheme} {address}")
    return (address, scheme == "https") if hmac.compare_digest(seal.encode(), good.encode()) else None


def _seal(secret: str, authorization: bytes, text: str) -> str:
    return hmac.digest(secret.encode(), b"homeport origin\n" + authorization + b"\n" + text.encode(), "sha256").hex()
