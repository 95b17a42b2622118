"""Text that must not show by accident, and the form in which it is stored.

Owns: `Secret`, `Sealed`, `hides`, `is_sealed`, `Place`. Never seals or opens anything (that is `vault`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, NamedTuple, TypeVar

T = TypeVar("T")

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


def hides(*names: str) -> Callable[[type[T]], type[T]]:
    """A decorator of classes with fields (named tuples, dataclasses, structs): they print without what these fields hold."""

    def decorated(kind: type[T]) -> type[T]:
        fields: tuple[str, ...] = (
            getattr(kind, "_fields", None) or getattr(kind, "__struct_fields__", None) or tuple(getattr(kind, "__dataclass_fields__", ()))
        )
        if unknown := set(names) - set(fields):
            raise TypeError(f"{kind.__name__} has no {' and '.join(sorted(unknown))}")

        def shown(self: T) -> str:
            values = (f"{name}={HIDDEN if name in names and getattr(self, name) else repr(getattr(self, name))}" for name in fields)
            return f"{kind.__name__}({', '.join(values)})"

        kind.__repr__ = kind.__str__ = shown  # type: ignore[assignment,method-assign]  # of this class alone
        return kind

    return decorated


class Place(NamedTuple):
    """Where a secret is stored. It is sealed for this place: anywhere else it cannot be opened."""

    table: str
    key: str
    field: str


def is_sealed(text: str) -> bool:
    """Whether a stored value is sealed; what an older program stored is not."""
    return text.startswith(SEALED)
