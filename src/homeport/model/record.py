"""The base of every stored record, and the words that all records share.

Owns: the stored form's shape (an array in the order of the fields) and `Tags`. Never holds behaviour of one resource.
A new field goes at the end of its class with a default; any other change of a record's shape needs a step in the
record's table (`store/tables.py`), so that what an older version stored stays readable.
"""

from __future__ import annotations

import msgspec

Instant = float
"""An instant: seconds since 1970-01-01T00:00:00Z with fraction; 0.0 means "has not happened"."""

Tags = tuple[tuple[str, str], ...]
"""Tags in the order given: (key, value)."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """A frozen value in the store; it holds only strings, numbers, bytes, tuples and other records."""
