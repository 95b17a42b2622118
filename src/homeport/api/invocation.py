"""A call that its client sends again, or that reaches the leader twice: one effect, and the first answer.

Owns: the reading and writing of `Effect` records. SDKs name each call with the header `amz-sdk-invocation-id`, the same in every try of theirs; what
a change of the call returned is kept under that name in the change's own transaction. Never keeps what agents report: that may be repeated anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from homeport.api.signature import Principal
from homeport.model.installation import Effect
from homeport.model.record import Record
from homeport.store.table import Transaction
from homeport.store.tables import EFFECTS, TABLES

T = TypeVar("T")

HEADER: Final = b"amz-sdk-invocation-id"
HEADER_BYTES_MAX: Final = 64
"""A longer one is not an SDK's; the call has no name then."""
ANSWER_BYTES_MAX: Final = 262_144
"""A longer answer is not kept, so that a transaction stays within its bound; what has such answers may be repeated."""
REPEATABLE: Final = frozenset(
    (
        "CreateJoinToken",
        "DiscoverPollEndpoint",
        "Join",
        "RegisterContainerInstance",
        "RenewInstanceCredentials",
        "SubmitAttachmentStateChanges",
        "SubmitContainerStateChange",
        "SubmitTaskStateChange",
    )
)
"""What agents call. Reports come at least once by contract, a registration has a client token, joining a key and renewing a proof. And what must
not be kept: a join token that is made again is another one, and nobody knows the first."""
_RECORDS: Final[Mapping[str, type[Record]]] = {table.record.__name__: table.record for table in TABLES}


def invocation_of(operation: str, principal: Principal, headers: Mapping[bytes, bytes], body: bytes) -> str:
    """The name of a call, "" when it has none or needs none. Other bodies under the same id are other calls."""
    given = headers.get(HEADER, b"")
    if not given or len(given) > HEADER_BYTES_MAX or operation in REPEATABLE or not operation.startswith(_CHANGES):
        return ""
    call = hashlib.sha256(operation.encode() + b"\0" + body).hexdigest()[:24]
    return f"{principal.access_key_id}/{given.hex()}/{call}"


_CHANGES: Final = (
    "Add",
    "Associate",
    "Attach",
    "Close",
    "Continue",
    "Create",
    "Delete",
    "Deregister",
    "Detach",
    "Disassociate",
    "Put",
    "Register",
    "Remove",
    "Reopen",
    "Revoke",
    "Run",
    "Set",
    "Start",
    "Stop",
    "Tag",
    "Untag",
    "Update",
)
"""What the names of operations that change something begin with; the others never look."""


class Invocation:
    """One try of a call, counting its changes. `name` as `invocation_of` gives it."""

    __slots__ = ("_name", "_ordinal")

    def __init__(self, name: str) -> None:
        self._name = name
        self._ordinal = 0

    def once(self, function: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        """`function` as the call's next change: done the first time, remembered afterwards."""
        self._ordinal += 1
        key = f"{self._name}/{self._ordinal}"

        def change(tx: Transaction) -> T:
            kept = tx.get(EFFECTS, key)
            if kept is not None:
                return _answer(kept)  # type: ignore[no-any-return]  # what `function` returned
            result = function(tx)
            effect = _effect(key, result, tx.now)
            if len(effect.answer) <= ANSWER_BYTES_MAX:
                tx.put(EFFECTS, effect)
            return result

        return change


def _effect(key: str, result: Any, now: float) -> Effect:
    if isinstance(result, Record):
        return Effect(key=key, answer=msgspec.msgpack.encode(result), record=type(result).__name__, made_at=now)
    return Effect(key=key, answer=msgspec.json.encode(result), made_at=now)


def _answer(effect: Effect) -> Any:
    if effect.record:
        return msgspec.msgpack.decode(effect.answer, type=_RECORDS[effect.record])
    return msgspec.json.decode(effect.answer)
