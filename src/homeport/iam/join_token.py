"""The text of a join token: what an operator copies to a new host.

Owns: its form, `written`, `read`, `hashed`. Pure. Never decides whether a token is good.

`hpj1.ID.SECRET`, or `hpj1.ID.SECRET.CA` where the server has a certificate authority of its own: CA is the SHA-256 of its certificate (DER), by
which the host knows the server before it has sent anything.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

from homeport.model.secret import hides

FORM: Final = "hpj1"
SECRET_DIGITS: Final = 64
"""Hexadecimal, 256 bits: nobody guesses one, so that a plain hash of it may be stored."""
_TEXT: Final = re.compile(rf"{FORM}\.([a-z0-9]{{12}})\.([0-9a-f]{{{SECRET_DIGITS}}})(?:\.([0-9a-f]{{64}}))?", re.ASCII)


@hides("secret")
class Parts(NamedTuple):
    """A token's text, taken apart."""

    id: str
    secret: str
    ca_sha256: str
    """"" where the server has no authority of its own."""


def written(parts: Parts) -> str:
    """The text."""
    return ".".join((FORM, *filter(None, parts)))


def read(text: str) -> Parts | None:
    """The parts of a token; None for any other text."""
    found = _TEXT.fullmatch(text.strip())
    return Parts(found[1], found[2], found[3] or "") if found else None


def hashed(secret: str) -> str:
    """What is stored of a token's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
