"""Text that must not show by accident, and the form in which it is stored.

Owns: `Secret`, `Sealed`, `is_sealed`, `Place`. Never seals or opens anything (that is `vault`).
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

SEALED: Final = "sealed:"
"""What a sealed value begins with; no secret that is made here has a colon."""
Sealed = Annotated[str, "sealed"]
"""The type of a record's field that is stored sealed. The name of a place is that of its table, its record's key and such a field."""
HIDDEN: Final = "Secret(...)"


class Secret(str):
    """A secret in clear. It can be signed with (`encode`), but printing, formatting and logging it say only that there is one; `reveal` says what."""

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        """Also of a secret, which would else tell that it is one."""
        return str.__new__(cls, str.__str__(text))

    def reveal(self) -> str:
        """The text itself, for the one place where it is to be told."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return HIDDEN

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, form: str) -> str:
        return HIDDEN


class Place(NamedTuple):
    """Where a secret is stored. It is sealed for this place: anywhere else it cannot be opened."""

    table: str
    key: str
    field: str


def is_sealed(text: str) -> bool:
    """Whether a stored value is sealed; what an older program stored is not."""
    return text.startswith(SEALED)
