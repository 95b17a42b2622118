"""DescribeAt: what a Describe or List operation of Amazon ECS would have answered at an earlier moment.

Owns: the handler, and which operations may be asked. Never renders anything itself: the operations' own handlers run, over the state as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from homeport.api.call import Call
from homeport.api.ecs.operations import OPERATIONS
from homeport.api.protocol import json, model
from homeport.errors import ClientError, InvalidParameterError, JournalPrunedError
from homeport.store.past import view_at
from homeport.store.store import Store
from homeport.store.table import Reader

T = TypeVar("T")

READS: Final = frozenset(name for name in OPERATIONS if name.startswith(("Describe", "List")))
"""The operations that only read, and read only what the store has."""


class _PastStore:
    """In the place of the store: answers views from the state after one revision."""

    def __init__(self, store: Store, revision: int) -> None:
        self._store = store
        self.revision = revision

    async def view(self, function: Callable[[Reader], T]) -> T:
        """`Store.view`, long ago."""
        return await view_at(self._store.journal, self.revision, function)


async def describe_at(call: Call, request: Any) -> dict[str, Any]:
    """The answer of `request.operation` to `request.request` right after a revision, or at an instant.

    Raises InvalidParameterError for what is no read of ECS and when the journal does not tell the state, and what the operation raises.
    """
    if request.operation not in READS:
        raise InvalidParameterError(f"{request.operation} cannot be asked about the past; these can: {', '.join(sorted(READS))}")
    if (request.revision is None) == (request.instant is None):
        raise InvalidParameterError("Give either a revision or an instant.")
    operation = model.load().operations[request.operation]
    asked = json.decode(operation, msgspec.json.encode(request.request or {}))
    if getattr(asked, "filter", None):
        raise InvalidParameterError("A filter in the cluster query language works on the present only.")
    journal = call.context.store.journal
    try:
        revision = request.revision if request.instant is None else await journal.revision_at(request.instant)
        store: Any = _PastStore(call.context.store, revision)  # what a handler that reads needs of a store
        then = dataclasses.replace(call, context=dataclasses.replace(call.context, store=store), operation=request.operation)
        answer = await OPERATIONS[request.operation](then, asked)
        instant = await journal.instant_of(revision)
    except JournalPrunedError as error:
        raise ClientError(f"The past cannot be told: {error}.") from None
    return {"revision": revision, "instant": instant, "answer": answer}
