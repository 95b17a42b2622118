"""What an installation is founded with at its first start: its identity, first account, keys, and the root's first access key.

Owns: `found_or_made`. Never starts a part; what several servers would make at once is made by whoever leads.
"""

from __future__ import annotations

from typing import Final, Protocol

from homeport import unlocking
from homeport.clock import Clock
from homeport.errors import HomeportError, LeadershipLostError, NotLeaderError
from homeport.iam.sigv4 import Credentials
from homeport.ids import Ids
from homeport.model import arn
from homeport.model.account import MANAGEMENT_NAME, Account
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.session_key import SessionKey
from homeport.model.installation import Installation
from homeport.store.store import Store
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS, DATA_KEYS, INSTALLATION, SESSION_KEYS
from homeport.vault.keyring import Vault, place_of

JOIN_PAUSE_SECONDS: Final = 0.1
"""Between two looks for the installation that another server is making."""


class InstallationMismatchError(HomeportError):
    """The account id or region given is not the one that this installation was made with."""


class Wanted(Protocol):
    """What the first start is told; None: made here. Later starts must be told the same, or nothing."""

    @property
    def account_id(self) -> str | None:
        """12 digits."""
        ...

    @property
    def region(self) -> str | None:
        """Such as us-east-1, which is the default."""
        ...

    @property
    def root_access_key_id(self) -> str | None:
        """Of the first account's root."""
        ...

    @property
    def root_secret_access_key(self) -> str | None:
        """What goes with it."""
        ...


async def found_or_made(store: Store, wanted: Wanted, vault: Vault, *, ids: Ids, clock: Clock) -> tuple[Installation, Credentials]:
    """What `_found` finds or makes (on a server that does not lead: whoever leads), and the root's access key, opened. Everything is sealed then."""

    def look(reader: Reader) -> tuple[Installation, AccessKey] | None:
        installation = reader.get(INSTALLATION, "installation")
        key = _root_key(reader, installation.account) if installation else None
        account = reader.get(ACCOUNTS, installation.account) if installation else None
        sealed = next(reader.scan(SESSION_KEYS), None) and next(reader.scan(DATA_KEYS), None)
        return (installation, key) if installation and key and account and sealed else None

    await unlocking.unlock(store, vault)
    while True:
        found = await store.view(look)
        try:
            if found is None:
                found = await store.update(lambda tx: _found(tx, wanted, ids, vault), cause="server start")
            _require_same(found[0], wanted)
            await unlocking.seal(store, vault, clock)
            return found[0], unlocking.credentials_of(found[1], vault, found[0].region)
        except (NotLeaderError, LeadershipLostError):
            await clock.sleep(JOIN_PAUSE_SECONDS)


def _found(tx: Transaction, wanted: Wanted, ids: Ids, vault: Vault) -> tuple[Installation, AccessKey]:
    """The installation and its root access key; made now if this is the first start."""
    installation = tx.get(INSTALLATION, "installation")
    if installation is None:
        installation = Installation(
            id=ids.hex(16),
            account=wanted.account_id or ids.digits(12),
            region=wanted.region or "us-east-1",
            created_at=tx.now,
        )
        tx.put(INSTALLATION, installation)
    _require_same(installation, wanted)
    unlocking.found(tx, vault)
    if next(tx.scan(SESSION_KEYS), None) is None:
        key_id = ids.name()
        tx.put(SESSION_KEYS, SessionKey(id=key_id, secret=vault.seal(ids.secret(64), place_of(SESSION_KEYS.name, key_id)), created_at=tx.now))
    if tx.get(ACCOUNTS, installation.account) is None:  # made by a version that had one account
        tx.put(ACCOUNTS, Account(id=installation.account, name=MANAGEMENT_NAME, created_at=installation.created_at))
    return installation, _root_key(tx, installation.account) or _make_root_key(tx, wanted, ids, vault, installation.account)


def _require_same(installation: Installation, wanted: Wanted) -> None:
    for name, given, kept in (("account id", wanted.account_id, installation.account), ("region", wanted.region, installation.region)):
        if given and given != kept:
            raise InstallationMismatchError(f"this installation's {name} is {kept}, not {given}; use another data directory for another one")


def _root_key(reader: Reader, account: str) -> AccessKey | None:
    root = arn.root_arn(account)
    return min(reader.find(ACCESS_KEYS, "principal", root), key=lambda key: (key.created_at, key.id), default=None)


def _make_root_key(tx: Transaction, wanted: Wanted, ids: Ids, vault: Vault, account: str) -> AccessKey:
    root, key_id = arn.root_arn(account), wanted.root_access_key_id or ids.access_key_id()
    made = AccessKey(
        id=key_id,
        secret=vault.seal(wanted.root_secret_access_key or ids.secret(), place_of(ACCESS_KEYS.name, key_id)),
        account=account,
        principal_arn=root,
        created_at=tx.now,
    )
    tx.put(ACCESS_KEYS, made)
    return made
