"""Errors as AWS answers them. The only module that knows HTTP status.

Owns: `Fault`, `fault`, `not_built`. Never logs: `server.py` does, for the errors that `fault` calls unexpected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from homeport.api.protocol.model import Operation
from homeport.errors import (
    ApiError,
    ClientError,
    CommitFailedError,
    ConflictError,
    HomeportError,
    LeadershipLostError,
    NoQuorumError,
    NotLeaderError,
    ServerError,
    ServiceUnavailableError,
    TransactionTooLargeError,
    UnknownOperationError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)

_STATUS: Final[Mapping[str, int]] = {
    "ServerException": 500,
    "RequestEntityTooLargeException": 413,
    "ServiceUnavailable": 503,
    "NotLeader": 421,
}
"""Every other code is a fault of the client and answered with 400, authentication faults included (ecs-reference 1)."""
_CLIENT_FAULT: Final = 400
_UNAVAILABLE: Final = 503
_UNDONE: Final = "The service could not store the change and undid it{why}. Try again."
_DISK_TROUBLE: Final = ("database or disk is full", "disk I/O error", "attempt to write a readonly database", "unable to open database file")
"""SQLite's words that the caller is told; what else stands in such an error names files of the server."""
_OUR_FAULT: Final = "The server met an error of its own; its log has the details under this request's id."


class Fault(NamedTuple):
    """An error as it goes to the client; the protocols give it its form."""

    status: int
    code: str
    members: Mapping[str, Any]
    """`message`, and what else the model gives the error."""
    unexpected: bool = False
    """A fault of ours, to be logged with its traceback."""

    @property
    def body(self) -> bytes:
        """Its form in AWS JSON 1.1."""
        return msgspec.json.encode({"__type": self.code, **self.members})


def fault(error: Exception) -> Fault:
    """The answer to `error`. What is not an error of the API is a ServerException whose message tells nothing of the inside."""
    if isinstance(error, ApiError):
        members: dict[str, Any] = {"message": error.message}
        if isinstance(error, ConflictError):
            members["resourceIds"] = error.resource_ids
        status = _STATUS.get(error.code, _CLIENT_FAULT)
        return Fault(_UNAVAILABLE if status == 500 and error.temporary else status, error.code, members)
    if isinstance(error, TransactionTooLargeError):
        return fault(ClientError("The request changes more than one call may change. Split it."))
    if isinstance(error, NotLeaderError | NoQuorumError | LeadershipLostError):
        return fault(ServiceUnavailableError(f"The servers cannot serve this call now ({error}). Try again."))
    if isinstance(error, HomeportError) and error.temporary:
        # SDKs retry a 503 with a delay, whatever its code.
        why = next((f": {words}" for words in _DISK_TROUBLE if words in str(error)), "")
        return Fault(_UNAVAILABLE, ServerError.code, {"message": _UNDONE.format(why=why)}, isinstance(error, CommitFailedError))
    return Fault(500, ServerError.code, {"message": _OUR_FAULT}, True)


def not_built(operation: Operation) -> ApiError:
    """The refusal of an operation that Homeport does not have yet, with a code that the operation models."""
    message = f"{operation.name} is not built yet."
    if operation.model.protocol == "query":
        return UnknownOperationError(message)
    if UnsupportedOperationError.code in operation.errors:
        return UnsupportedOperationError(message)
    return UnsupportedFeatureError(message) if UnsupportedFeatureError.code in operation.errors else ClientError(message)
