"""When access keys and roles were used last: noted at every call, written down rarely.

Owns: `LastUses`. A note costs a call next to nothing; at most one write a key or role per `last_use_seconds` makes it durable, so that a crash loses
no more than that. Never says what was done: the audit log does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from homeport import log
from homeport.api.signature import Principal
from homeport.clock import Clock
from homeport.errors import HomeportError
from homeport.model import arn
from homeport.model.iam.last_use import LastUse
from homeport.store.store import Store
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCESS_KEYS, LAST_USES, ROLES

LAST_USES_PATH: Final = "/homeport/last-uses"
"""Where the leader is told of uses on other servers."""
LOOK_SECONDS_MAX: Final = 60.0
"""Between two looks for what is to be written."""
WRITES_MAX: Final = 50
"""In one transaction."""
NOTED_MAX: Final = 100_000

_log = log.logger("last_use")


class Use(msgspec.Struct, frozen=True, array_like=True):
    """One use of a key, or of a role by a session."""

    id: str
    at: float
    service: str
    role: str = ""
    """Key of the role's record; "" for an access key."""


OnLeader = Callable[..., Awaitable[Any]]
"""As `Fellowship.on_leader`."""
_BATCH: Final = msgspec.msgpack.Decoder(list[Use])


class Shown(NamedTuple):
    """The last use as IAM tells it."""

    at: float
    service: str
    region: str


class LastUses:
    """The uses that one server saw. `run` until cancelled."""

    def __init__(self, store: Store, clock: Clock, *, seconds: float, region: str) -> None:
        """`seconds`: how often one key's or role's last use is written at most; 0: never."""
        self._store, self._clock = store, clock
        self._seconds, self._region = seconds, region
        self._on_leader: OnLeader | None = None
        self._noted: dict[str, Use] = {}
        self._written: dict[str, tuple[float, float]] = {}
        """Id → (the use that was written last, when)."""

    def through(self, on_leader: OnLeader | None) -> None:
        """With several servers: let the leader write. None: this one is alone."""
        self._on_leader = on_leader

    def note(self, principal: Principal, service: str, now: float) -> None:
        """`principal` made a call of `service` at `now`."""
        session = principal.session
        if session is None:
            self._noted[principal.access_key_id] = Use(principal.access_key_id, now, service)
        elif session.kind == "assumed-role":
            role = f"{session.account}/{session.source_arn.rpartition('/')[2].lower()}"
            self._noted[session.source_id] = Use(session.source_id, now, service, role)

    def last(self, reader: Reader, use_id: str) -> Shown | None:
        """The last use of a key or role, as far as this server knows; None for none."""
        stored, noted = reader.get(LAST_USES, use_id), self._noted.get(use_id)
        if noted is not None and (stored is None or noted.at > stored.used_at):
            return Shown(noted.at, noted.service, self._region)
        return Shown(stored.used_at, stored.service, stored.region) if stored is not None else None

    async def run(self) -> None:
        """Write down what is due, until cancelled."""
        while self._seconds:
            await self._clock.sleep(min(self._seconds, LOOK_SECONDS_MAX))
            await self.flush()

    async def flush(self) -> None:
        """Write every use that is due. What cannot be written now is tried at the next look."""
        now = self._clock.now()
        due = [use for use in self._noted.values() if self._is_due(use, now)]
        for start in range(0, len(due), WRITES_MAX):
            batch = due[start : start + WRITES_MAX]
            try:
                await self._write(batch)
            except HomeportError as error:
                _log.info("last uses could not be written: %s", error)
                return
            self._written.update((use.id, (use.at, now)) for use in batch)
        if len(self._noted) > NOTED_MAX:
            self._noted.clear()
            self._written.clear()

    def _is_due(self, use: Use, now: float) -> bool:
        used_at, written_at = self._written.get(use.id, (0.0, 0.0))
        return use.at > used_at and now - written_at >= self._seconds

    async def carry_out(self, body: bytes) -> bytes:
        """The leader's end of `on_leader`. Raises what `Store.update` raises, msgspec.DecodeError for what is no batch."""
        await self._keep(_BATCH.decode(body))
        return b""

    async def _write(self, batch: list[Use]) -> None:
        if self._on_leader is None:
            await self._keep(batch)
        else:
            await self._on_leader(lambda: self._keep(batch), LAST_USES_PATH, msgspec.msgpack.encode(batch), read=lambda _: None)

    async def _keep(self, batch: Sequence[Use]) -> None:
        # Several servers see the same key: what another one wrote already is not written again.
        fresh = await self._store.view_local(lambda reader: [use for use in batch if self._is_news(reader, use)])
        if fresh:
            await self._store.update(lambda tx: self._put(tx, fresh), cause="last use")

    @staticmethod
    def _is_news(reader: Reader, use: Use) -> bool:
        """Whether it is later than what is written, and its key or role is still there."""
        before = reader.get(LAST_USES, use.id)
        if before is not None and use.at <= before.used_at:
            return False
        if not use.role:
            return reader.get(ACCESS_KEYS, use.id) is not None
        role = reader.get(ROLES, use.role)
        return role is not None and role.id == use.id

    def _put(self, tx: Transaction, batch: Sequence[Use]) -> None:
        for use in batch:
            if self._is_news(tx, use):
                tx.put(LAST_USES, LastUse(id=use.id, used_at=use.at, service=use.service, region=self._region))


def forget(tx: Transaction, use_id: str) -> None:
    """The key or role is gone: so is what is known of its last use."""
    if tx.get(LAST_USES, use_id) is not None:
        tx.delete(LAST_USES, use_id)


def when(shown: Shown | None) -> dict[str, Any]:
    """AccessKeyLastUsed's form; "N/A" where it was never used."""
    if shown is None:
        return {"ServiceName": "N/A", "Region": "N/A"}
    return {"LastUsedDate": int(shown.at), "ServiceName": shown.service, "Region": shown.region}


def owner_of(principal_arn: str, account: str) -> str:
    """The name of whose key it is: a user, or the account's id for its root."""
    return account if principal_arn == arn.root_arn(account) else principal_arn.rpartition("/")[2]
