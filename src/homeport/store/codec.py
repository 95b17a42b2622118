"""Stored form of records: a msgpack array of the fields, beside the version of its table.

Owns: `Codec`, and how an older version is read (the table's upgrades, one step at a time). Never reads or writes a file.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import msgspec

from homeport.errors import StoredFormError
from homeport.model.ecs.task import Task
from homeport.model.record import Record
from homeport.model.sharing import share
from homeport.store.table import Table

R = TypeVar("R", bound=Record)

UNFINISHED: Final = 0
"""Version of the one row that a state has while another state is being copied into it, so that nobody takes it for whole."""
ENCODER = msgspec.msgpack.Encoder()
"""The one encoder of stored forms (it holds no state between calls)."""


class Codec(Generic[R]):
    """Reads one table's stored bytes. (Writing them is `ENCODER.encode(record)`: always the current version.)"""

    def __init__(self, table: Table[R]) -> None:
        self.table = table
        self._decoder: msgspec.msgpack.Decoder[R] = msgspec.msgpack.Decoder(table.record)

    def decode(self, version: int, stored: bytes) -> R:
        """The record that `stored`, written in `version`, is today.

        Raises StoredFormError when it was written by a newer version, or is no record of this table.
        """
        try:
            if version != self.table.version:
                stored = ENCODER.encode(self.upgrade(version, msgspec.msgpack.decode(stored)))
            record = self._decoder.decode(stored)
        except (msgspec.MsgspecError, TypeError, ValueError, LookupError) as error:  # the latter from an upgrade that meets what it was not made for
            raise StoredFormError(f"table {self.table.name}: a stored record of version {version} cannot be read: {error}") from error
        return share(record) if isinstance(record, Task) else record  # type: ignore[return-value]  # a task is what it was

    def upgrade(self, version: int, fields: list[Any]) -> list[Any]:
        """The fields as the current version has them. Raises StoredFormError when `version` is not one that this program knows."""
        if version == UNFINISHED:
            raise StoredFormError(
                f"table {self.table.name}: a copy of another state was being written here and was not finished; copy or restore it again"
            )
        if not 1 <= version <= self.table.version:
            raise StoredFormError(
                f"table {self.table.name}: stored in version {version}, but this program knows 1 to {self.table.version}; use a newer program"
            )
        for step in self.table.upgrades[version - 1 :]:
            fields = step(fields)
        return fields
