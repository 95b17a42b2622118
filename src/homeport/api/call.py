"""What a handler gets: the parts of the control plane that it may use, and the call itself.

Owns: `Context`, `Call`, `Handler`. Never knows HTTP and never decides anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from homeport.api.invocation import Invocation
from homeport.clock import Clock
from homeport.config import Settings
from homeport.ids import Ids
from homeport.placement.index import PlacementIndex
from homeport.store.store import Store
from homeport.store.table import Reader, Transaction

T = TypeVar("T")


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
        """The named settings."""
        return self.context.settings

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
