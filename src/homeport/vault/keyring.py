"""The data keys of the store, and what they seal and open.

Owns: `Vault`. It follows the store's table of data keys (a `Derived` view) and unwraps each at its first use. Never writes to the store: who makes or
wraps a key anew (`new_data_key`, `rewrapped`) gets the record and puts it there.
"""

from __future__ import annotations

from typing import Final, Protocol

from homeport.ids import Ids
from homeport.model.data_key import DataKey
from homeport.model.record import Instant, Record
from homeport.model.secret import Place, Secret
from homeport.vault.envelope import KEY_BYTES, Key, SealBrokenError, key_id_of
from homeport.vault.root_key import RootKeyError, RootKeys

_DATA_KEY: Final = "data key"
SECRET: Final = "secret"
"""What the one secret of a record is called."""


class Secrets(Protocol):
    """Who seals and opens."""

    def seal(self, secret: str, place: Place) -> str:
        """What is stored for `secret` at `place`."""
        ...

    def open(self, sealed: str, place: Place) -> Secret:
        """The secret that is stored there."""
        ...


class InClear:
    """Seals nothing: for records of tests of other things."""

    def seal(self, secret: str, place: Place) -> str:
        """The secret itself."""
        del place
        return secret

    def open(self, sealed: str, place: Place) -> Secret:
        """What stands there."""
        del place
        return Secret(sealed)


def place_of(table: str, key: str, field: str = SECRET) -> Place:
    """The place of a record's secret."""
    return Place(table, key, field)


class Vault:
    """Seals secrets for their places in the store, and opens them."""

    def __init__(self, roots: RootKeys, ids: Ids) -> None:
        """`ids` draws nonces and names of keys."""
        self.roots = roots
        self._ids = ids
        self._records: dict[str, DataKey] = {}
        self._keys: dict[str, Key] = {}
        self._newest: DataKey | None = None

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow the store; records other than data keys are passed over."""
        del table
        if isinstance(before, DataKey):
            self._records.pop(before.id, None)
            if not isinstance(after, DataKey):
                self._keys.pop(before.id, None)
        if isinstance(after, DataKey):
            self._records[after.id] = after
        elif not isinstance(before, DataKey):
            return
        self._newest = max(self._records.values(), key=lambda each: (each.created_at, each.id), default=None)

    @property
    def newest(self) -> DataKey:
        """The key that seals. Raises RootKeyError when there is none yet."""
        if self._newest is None:
            raise RootKeyError("this store has no data key yet")
        return self._newest

    def seal(self, secret: str, place: Place) -> str:
        """`secret` for `place`. Raises RootKeyError when there is no key for that."""
        return self._key(self.newest.id).seal(secret.encode(), place, self._ids.bytes(12))

    def open(self, sealed: str, place: Place) -> Secret:
        """The secret that was sealed for `place`. Raises SealBrokenError, or RootKeyError when its root key is not there."""
        key_id = key_id_of(sealed)
        if key_id not in self._records:
            raise SealBrokenError(f"the secret of {'/'.join(place)} is not sealed with a key of this store")
        return Secret(self._key(key_id).open(sealed, place).decode())

    def is_current(self, sealed: str) -> bool:
        """Whether the newest key sealed it."""
        return key_id_of(sealed) == self.newest.id

    def new_data_key(self, now: Instant) -> DataKey:
        """A new key, wrapped by the root key that wraps the newest of now; if it is the first, by the newest root key."""
        root = self.roots.get(self._newest.root_key_id, what="this store") if self._newest is not None else self.roots.newest
        key_id = self._ids.name()
        wrapped = root.key.seal(self._ids.bytes(KEY_BYTES), (_DATA_KEY, key_id), self._ids.bytes(12))
        return DataKey(id=key_id, root_key_id=root.id, wrapped=wrapped, created_at=now)

    def rewrapped(self, record: DataKey) -> DataKey:
        """The same key, wrapped by the newest root key. Raises as `open`."""
        root = self.roots.newest
        material = self._unwrapped(record)
        wrapped = root.key.seal(material, (_DATA_KEY, record.id), self._ids.bytes(12))
        return DataKey(id=record.id, root_key_id=root.id, wrapped=wrapped, created_at=record.created_at)

    def require_open(self) -> None:
        """Return when every data key can be used. Raises RootKeyError or SealBrokenError otherwise."""
        for record in self._records.values():
            self._unwrapped(record)

    def _key(self, key_id: str) -> Key:
        key = self._keys.get(key_id)
        if key is None:
            key = self._keys[key_id] = Key(key_id, self._unwrapped(self._records[key_id]))
        return key

    def _unwrapped(self, record: DataKey) -> bytes:
        root = self.roots.get(record.root_key_id, what="this store")
        return root.key.open(record.wrapped, (_DATA_KEY, record.id))
