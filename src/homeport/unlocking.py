"""How a server gets at what is sealed, at its start: which root keys it has, and whether they belong to this state.

Owns: `vault_of`, `unlock`, `seal`, and the file that tells the installation's own programs the root's access key. Never seals a record itself
(`controllers.data_key` does); changes nothing when the keys are other ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from homeport import log
from homeport.clock import Clock
from homeport.config import Settings, UnknownSettingError
from homeport.controllers.data_key import RETRY_SECONDS, scrub, seal_all
from homeport.errors import CommitFailedError, NotLeaderError
from homeport.iam.sigv4 import Credentials
from homeport.ids import Ids
from homeport.model.data_key import SEALING
from homeport.model.iam.access_key import AccessKey
from homeport.model.secret import Secret, is_sealed
from homeport.store.store import Store
from homeport.store.table import Transaction
from homeport.store.tables import ACCESS_KEYS, DATA_KEYS, SEALINGS
from homeport.vault.keyring import Vault, place_of
from homeport.vault.root_key import FILE_NAME, KeyCommand, KeyFile, RootKeyError, RootKeys, Source, write_private

_log: Final = log.logger("server")


def vault_of(settings: Settings, directory: Path, ids: Ids) -> Vault:
    """A vault with the root keys that `root_keys_of` finds, which knows no data key yet."""
    return Vault(root_keys_of(settings, directory, ids), ids)


def root_keys_of(settings: Settings, directory: Path, ids: Ids) -> RootKeys:
    """The root keys of a server, none of them read yet; by default those of DIRECTORY/root.key. Raises UnknownSettingError for two sources."""
    if settings.root_key_file and settings.root_key_command:
        raise UnknownSettingError(
            "root keys come from a file or from a command: end one of the two with --set root_key_file= or --set root_key_command="
        )
    source: Source
    if settings.root_key_command:
        source = KeyCommand(settings.root_key_command)
    elif settings.root_key_file:
        source = KeyFile(Path(settings.root_key_file), must_exist=True)
    else:
        source = KeyFile(directory / FILE_NAME)
    return RootKeys(source, ids.bytes)


async def unlock(store: Store, vault: Vault) -> None:
    """Return when everything that is sealed in the store can be opened. A store in which nothing is sealed yet gets a root key, if it has none.

    Raises RootKeyError when the root key is missing or another one, and has changed nothing then.
    """
    there = vault.roots.load()
    if not await store.view(lambda reader: next(reader.scan(DATA_KEYS), None) is not None):
        if not there:
            vault.roots.create()
            _log.info("made %s; without it what is secret in the state cannot be read: keep a copy, apart from backups", vault.roots.source.text)
        return
    vault.require_open()


def found(tx: Transaction, vault: Vault) -> None:
    """The first data key, made now if there is none."""
    if next(tx.scan(DATA_KEYS), None) is None:
        tx.put(DATA_KEYS, vault.new_data_key(tx.now))


async def seal(store: Store, vault: Vault, clock: Clock) -> None:
    """Seal what older programs stored in clear, and clean up. Raises RootKeyError when this server cannot open what is sealed."""
    vault.require_open()
    await seal_all(store, vault, clock)
    while True:
        try:
            await scrub(store)
        except NotLeaderError:
            await clock.sleep(RETRY_SECONDS)
        except CommitFailedError as error:  # it is tried again beside the work (`keep_data_keys`)
            _log.error("what older programs stored in clear is sealed, but bytes of it may be left in the store's files: %s", error)
            return
        sealing = await store.view(lambda reader: reader.get(SEALINGS, SEALING))
        if sealing is None or not sealing.scrubbing:
            break
    if sealing is not None:
        await store.forget_copies(sealing.open_through)


def credentials_of(key: AccessKey, vault: Vault, region: str) -> Credentials:
    """What the installation's own programs sign with."""
    secret = key.secret if not is_sealed(key.secret) else vault.open(key.secret, place_of(ACCESS_KEYS.name, key.id))
    return Credentials(key.id, secret, region)


def write_credentials(directory: Path, keys: Credentials, told: Mapping[str, str]) -> Path:
    """DIRECTORY/credentials.json, readable by its owner alone: what our own programs sign with. `told` is what else stands there."""
    path = directory / "credentials.json"
    secret = Secret(keys.secret_access_key).reveal()
    content = {"access_key_id": keys.access_key_id, "secret_access_key": secret, "region": keys.region, **told}
    write_private(path, msgspec.json.format(msgspec.json.encode(content)), error=RootKeyError)
    return path
