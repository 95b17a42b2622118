"""What a handler gets: the parts of the control plane that it may use, and the call itself.

Owns: `Context`, `Call`, `Handler`, and what a handler sees of a fork. Never knows HTTP and never decides anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from homeport.api.accounts import Accounts
from homeport.api.invocation import Invocation
from homeport.api.last_use import LastUses
from homeport.audit.log import Audit
from homeport.clock import Clock
from homeport.config import Settings
from homeport.iam.session import Session
from homeport.iam.web_identity import Claims
from homeport.ids import Ids
from homeport.model.forecast import Agents, Moment
from homeport.model.record import Instant, Record
from homeport.placement.index import PlacementIndex
from homeport.store.store import Store
from homeport.store.table import Reader, Table, Transaction
from homeport.vault.keyring import InClear, Secrets

T = TypeVar("T")


class Fork(Protocol):
    """A copy of a part of the state on which the controllers act in a time of its own; see `homeport.forecast`."""

    context: Context
    """For handlers that are to act on the copy."""

    @property
    def moments(self) -> list[Moment]:
        """What has happened on it, in order."""
        ...

    @property
    def now(self) -> Instant:
        """How far its time is."""
        ...

    @property
    def changed_at(self) -> Instant:
        """When something changed last."""
        ...

    async def view(self, function: Callable[[Reader], T]) -> T:
        """What `function` says of the copy."""
        ...

    async def update(self, function: Callable[[Transaction], T]) -> T:
        """One transaction on the copy."""
        ...

    async def run(self, seconds: float) -> bool:
        """Let things happen until nothing more does, or for so many seconds of its time. Whether it came to rest."""
        ...

    async def close(self) -> None:
        """The copy is gone."""
        ...


class Others(Protocol):
    """The audit logs of the other servers."""

    async def names(self) -> list[str]:
        """Who they are, those that should answer. Raises HomeportError."""
        ...

    async def ask(self, question: bytes) -> list[tuple[str, bytes | None]]:
        """(name, answer) of each; None from one that did not answer. Raises HomeportError."""
        ...

    async def ask_each(self, questions: Mapping[str, bytes]) -> list[tuple[str, bytes | None]]:
        """The same, with a question for each."""
        ...


class ForkMaker(Protocol):
    """Makes a copy that holds `records`."""

    async def __call__(self, context: Context, records: Iterable[tuple[Table[Any], Record]], *, agents: Agents, seed: str) -> Fork:
        """The copy, at the present."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Built once by `server.py`, the same for every call."""

    store: Store
    placement: PlacementIndex
    clock: Clock
    ids: Ids
    settings: Settings
    region: str
    installation_id: str
    endpoint: str
    """http(s)://HOST:PORT/ of this server, for DiscoverPollEndpoint."""
    trusted: Path | None = None
    """File of the certificates that clients of this server are to trust; None over plain HTTP, and where their systems trust it anyway."""
    fork: ForkMaker | None = None
    """For questions about what would happen."""
    management: str = ""
    """The account that the installation was made with, which manages the others; 12 digits. "": none does."""
    last_uses: LastUses | None = None
    """When keys and roles were used last. None: nobody keeps that."""
    accounts: Accounts | None = None
    """Which accounts have quotas of their own. None: none has."""
    audit: Audit | None = None
    """Where every call is recorded; None: nowhere."""
    vault: Secrets = dataclasses.field(default_factory=InClear)
    """Seals what is secret before it is stored. A server has a `Vault`; only tests of other things do without."""
    others: Others | None = None
    """The other servers and their logs; None for a server that is alone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated call of one operation."""

    context: Context
    operation: str
    request_id: str
    account: str
    """12 digits."""
    principal_arn: str
    invocation: Invocation | None = None
    """Under what the answer is kept, for calls that their client may send again as they are."""
    session: Session | None = None
    """Of a caller with temporary credentials."""
    identity: Claims | None = None
    """Of a caller with a web identity token."""

    @property
    def region(self) -> str:
        """The installation's region."""
        return self.context.region

    @property
    def ids(self) -> Ids:
        """The minter of ids. Draw what a transaction needs, or hand it in as an argument."""
        return self.context.ids

    @property
    def settings(self) -> Settings:
        """The named settings, with the quotas of the caller's account."""
        accounts = self.context.accounts
        return self.context.settings if accounts is None else accounts.settings(self.account, self.context.settings)

    async def view(self, function: Callable[[Reader], T]) -> T:
        """Run `function` on one moment of the store; see `Store.view`."""
        return await self.context.store.view(function)

    async def update(self, function: Callable[[Transaction], T]) -> T:
        """Run `function` as one durable transaction, with this call as its cause; see `Store.update`.

        A call that its client sent before, and that was done, gets what `function` returned then.
        """
        cause = f"{self.operation} {self.request_id} {self.principal_arn}"
        if self.invocation is not None:
            return await self.context.store.update(self.invocation.once(function), cause=cause)
        return await self.context.store.update(function, cause=cause)


Handler = Callable[[Call, Any], Awaitable[dict[str, Any]]]
"""(call, request) → answer. `request` is the msgspec Struct compiled from the operation's input shape: members in the API's camelCase,
an absent or null member is None. The answer is a dict in the API's camelCase of JSON values (floats for timestamps) or msgspec.Raw."""
