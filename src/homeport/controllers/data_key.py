"""Keeps what is secret sealed, with keys that are not too old: in the store, and in the bytes that its files kept from before.

Owns: the steps of sealing (`seal_all`), cleaning up after it (`scrub`), new data keys from time to time, and wrapping them by another root key. Never
keeps a secret, never decides who may read one. Every step is a transaction of its own, after which everything can be read, by every server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport import log
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError, LeadershipLostError, NotLeaderError
from homeport.model.data_key import SEALING, DataKey, Sealing
from homeport.model.installation import Effect
from homeport.model.record import Record
from homeport.model.secret import Place, is_sealed
from homeport.store.store import Store
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import DATA_KEYS, EFFECTS, SEALINGS, TABLES
from homeport.vault.keyring import Vault

RECORDS_MAX: Final = 50
"""Records written in one transaction."""
LOOK_SECONDS: Final = 600.0
"""Between two looks at the age of the newest data key."""
RETRY_SECONDS: Final = 0.1
"""Between two looks for what the server that leads is sealing."""
CAUSE: Final = "server seals"
_TOLD: Final = b'"SecretAccessKey"'

_log = log.logger("controllers.data_key")


def unsealed(reader: Reader) -> Iterator[tuple[Table[Any], Record]]:
    """Every record that has a secret in clear, which older programs stored."""
    for table in TABLES:
        if table.sealed:
            yield from ((table, record) for record in reader.scan(table) if not all(is_sealed(getattr(record, name)) for name in table.sealed))


def told(reader: Reader) -> Iterator[Effect]:
    """Every kept answer that may tell a secret, as older programs kept them. None once all is clean: what looks like one is somebody's words."""
    sealing = reader.get(SEALINGS, SEALING)
    if sealing is not None and sealing.scrubbing:
        yield from (effect for effect in reader.scan(EFFECTS) if _TOLD in effect.answer)


async def seal_all(store: Store, vault: Vault, clock: Clock) -> None:
    """Return when nothing in the store is in clear. On a server that does not lead: when the leader has sealed it."""

    def seal_some(tx: Transaction) -> bool:
        """True when nothing was left."""
        found = [record for _, record in zip(range(RECORDS_MAX), unsealed(tx), strict=False)]
        answers = [effect for _, effect in zip(range(RECORDS_MAX), told(tx), strict=False)] if not found else []
        if found:
            kept = tx.get(SEALINGS, SEALING) or Sealing()
            tx.put(SEALINGS, msgspec.structs.replace(kept, scrubbing=True))
        for table, record in found:
            tx.put(table, _sealed(vault, table, record))
        for effect in answers:
            tx.delete(EFFECTS, effect.key)
        return not found and not answers

    while not await store.view(lambda reader: next(unsealed(reader), None) is None and next(told(reader), None) is None):
        try:
            while not await store.update(seal_some, cause=CAUSE):
                _log.warning("sealing secrets that an older program stored in clear")
        except (NotLeaderError, LeadershipLostError):
            await clock.sleep(RETRY_SECONDS)


def _sealed(vault: Vault, table: Table[Any], record: Record) -> Record:
    """The record with each secret sealed by the newest key."""
    fields = {}
    for name in table.sealed:
        stored, place = getattr(record, name), Place(table.name, table.key(record), name)
        if not is_sealed(stored):
            fields[name] = vault.seal(stored, place)
        elif not vault.is_current(stored):
            fields[name] = vault.seal(vault.open(stored, place).reveal(), place)
    return msgspec.structs.replace(record, **fields)


async def scrub(store: Store) -> None:
    """After `seal_all`: nothing that it sealed is left in the journal, nor in bytes that the store's files do not use any more.

    The journal begins anew, behind the entries that tell what was in clear. Nothing to do for an installation that never had anything so. Raises
    NotLeaderError on a server that does not lead.
    """
    sealing = await store.view(lambda reader: reader.get(SEALINGS, SEALING))
    if sealing is None or not sealing.scrubbing:
        return
    _log.warning("removing what older programs stored in clear: the journal begins anew behind revision %d", store.revision)
    through = store.revision
    while await store.prune_journal_through(through):
        pass
    await store.scrub()
    await store.update(lambda tx: tx.put(SEALINGS, Sealing(open_through=through)), cause=CAUSE)


async def keep_data_keys(store: Store, vault: Vault, *, clock: Clock, settings: Settings) -> None:
    """Run until cancelled: make a new data key when the newest is `settings.data_key_seconds` old, and seal everything in the store with it."""
    while True:
        try:
            await scrub(store)
            await renew(store, vault, before=clock.now() - settings.data_key_seconds)
        except (HomeportError, OSError) as error:
            _log.warning("the store's data keys could not be seen to, which is tried again: %s", error)
        await clock.sleep(LOOK_SECONDS)


async def renew(store: Store, vault: Vault, *, before: float) -> None:
    """A new data key, if the newest was made before that instant; and whatever an older one sealed is sealed with the newest."""

    def make(tx: Transaction) -> None:
        if vault.newest.created_at < before:
            tx.put(DATA_KEYS, vault.new_data_key(tx.now))

    await store.update(make, cause="new data key")
    for table in TABLES:
        if table.sealed:
            after: str | None = ""
            while after is not None:
                after = await store.update(lambda tx, table=table, after=after: _reseal(tx, vault, table, after), cause="new data key")  # type: ignore[misc]


def _reseal(tx: Transaction, vault: Vault, table: Table[Any], after: str) -> str | None:
    """Seal the next records behind the key `after` with the newest data key; behind which one to go on, None at the end."""
    page = [record for _, record in zip(range(RECORDS_MAX), tx.scan(table, after=after), strict=False)]
    for record in page:
        tx.put(table, _sealed(vault, table, record))
    return table.key(page[-1]) if len(page) == RECORDS_MAX else None


async def rewrap(store: Store, vault: Vault) -> int:
    """Wrap every data key by the newest root key instead of an older one; how many there were. Raises NotLeaderError, RootKeyError."""
    total = 0
    while True:
        done = await store.update(lambda tx: _rewrap_some(tx, vault), cause="root key rotated")
        total += done
        if not done:
            return total


def _rewrap_some(tx: Transaction, vault: Vault) -> int:
    newest = vault.roots.newest.id
    others = (record for record in list(tx.scan(DATA_KEYS)) if record.root_key_id != newest)
    some: list[DataKey] = [record for _, record in zip(range(RECORDS_MAX), others, strict=False)]
    for record in some:
        tx.put(DATA_KEYS, vault.rewrapped(record))
    return len(some)
