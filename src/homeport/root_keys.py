"""What a server answers about its root keys, and does with them, when the command line asks as the account's root: `homeport key`.

Owns: `RootKeyDesk`. Never makes or removes a root key: that is done where they are kept. Every wish can be asked again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from homeport.controllers.data_key import rewrap
from homeport.errors import ClientError, LeadershipLostError, NotLeaderError
from homeport.store.store import Store
from homeport.store.tables import DATA_KEYS
from homeport.vault.envelope import SealBrokenError
from homeport.vault.keyring import Vault
from homeport.vault.root_key import KeyFile, RootKeyError
from homeport.vault.sealed_file import rewrap_file, root_key_of, sealed_files

TELL: Final = "tell"
READ: Final = "read"
"""Read the root keys anew from where they are kept."""
WRAP: Final = "wrap"
"""Wrap this server's sealed files, and on the leader the data keys, with the newest root key."""


class _Asked(msgspec.Struct, frozen=True):
    do: str = TELL


class RootKeyDesk:
    """One server's."""

    def __init__(self, store: Store, vault: Vault, *, name: str, data_dir: Path) -> None:
        """Sealed files are looked for below `data_dir`."""
        self._store = store
        self._vault = vault
        self._name = name
        self._data_dir = data_dir

    async def answer(self, body: bytes) -> bytes:
        """What is asked, done, and how things are then; JSON. Raises ClientError with the reason when it cannot be done."""
        try:
            asked = msgspec.json.decode(body, type=_Asked).do
            if asked == READ:
                await asyncio.to_thread(self._read)
            elif asked == WRAP:
                await self._wrap()
            elif asked != TELL:
                raise ClientError(f"{asked!r} is not known here.")
            return msgspec.json.encode(await self._told())
        except msgspec.MsgspecError as error:
            raise ClientError(str(error)) from None
        except (RootKeyError, SealBrokenError) as error:
            raise ClientError(str(error)) from None

    def _read(self) -> None:
        """Raises RootKeyError when they are gone, or one that is in use is missing; what was known stays then."""
        roots = self._vault.roots
        before = roots.keys
        try:
            if not roots.load():
                raise RootKeyError(f"{roots.source.text} is gone")
            self._vault.require_open()
            for path in sealed_files(self._data_dir):
                roots.get(root_key_of(path), what=str(path))
        except BaseException:
            roots.keys = before
            raise

    async def _wrap(self) -> None:
        for path in sealed_files(self._data_dir):
            await asyncio.to_thread(rewrap_file, path, self._vault.roots)
        try:
            await rewrap(self._store, self._vault)
        except (NotLeaderError, LeadershipLostError):
            return  # whoever leads is asked as well

    async def _told(self) -> dict[str, Any]:
        roots = self._vault.roots
        wrapped = await self._store.view(lambda reader: Counter(record.root_key_id for record in reader.scan(DATA_KEYS)))
        return {
            "server": self._name,
            "source": roots.source.text,
            "file": str(roots.source.path) if isinstance(roots.source, KeyFile) else None,
            "rootKeys": roots.ids,
            "dataKeys": wrapped,
            "newestDataKeyAt": self._vault.newest.created_at,
            "sealedFiles": Counter(root_key_of(path) for path in sealed_files(self._data_dir)),
        }
