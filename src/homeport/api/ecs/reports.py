"""Reports that agents hand in over their connections instead of HTTP: many in one transaction, each checked as a call of its own.

Owns: `StateReports`: which operations come this way, one answer a report, the way to the leader. Never decides what a report means: `state_change`
does, for both ways.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from homeport import log
from homeport.api import faults
from homeport.api.call import Call, Context
from homeport.api.ecs import state_change
from homeport.api.ecs.state_change import Report
from homeport.api.protocol import json, model
from homeport.errors import ApiError, HomeportError, RequestTooLargeError, UnknownOperationError
from homeport.store.table import Transaction

REPORTS_PATH: Final = "/homeport/reports"
"""Where servers hand reports to their leader."""
READERS: Final[dict[str, Callable[[Any], Report]]] = {
    "SubmitTaskStateChange": state_change.task_report,
    "SubmitContainerStateChange": state_change.container_report,
}
"""Operation → what reads its request."""

_log = log.logger("api")


class Refusal(msgspec.Struct, frozen=True):
    """The error of one report, as the API has it."""

    code: str
    message: str


class Batch(msgspec.Struct, frozen=True):
    """Reports of one principal and one operation."""

    account: str
    principal_arn: str
    operation: str
    request_id: str
    requests: tuple[bytes, ...]
    """JSON, as in the body of a call."""
    instances: tuple[str, ...] = ()
    """For each request the key of the instance whose connection it came over; a server of an earlier version tells none."""


class OnLeader(Protocol):
    """Runs `attempt` here or, when this server does not lead, asks the leader at `path`; `servers.Fellowship` has the one that there is."""

    async def __call__(self, attempt: Callable[[], Awaitable[Any]], path: str, body: bytes, *, read: Callable[[bytes], Any]) -> Any:
        """What `attempt` returns, or what `read` makes of the leader's answer."""
        ...


_BATCH: Final = msgspec.msgpack.Decoder(Batch)
_ANSWERS: Final = msgspec.msgpack.Decoder(list[Refusal | None])


class StateReports:
    """Makes reports durable. One per server."""

    def __init__(self, context: Context, *, on_leader: OnLeader | None = None) -> None:
        """`on_leader`: with several servers."""
        self._context = context
        self._on_leader = on_leader
        self._operations = {name: model.load("ecs").operations[name] for name in READERS}

    async def take(self, account: str, principal_arn: str, operation: str, reports: Sequence[tuple[str, bytes]]) -> list[Refusal | None]:
        """For each report (key of the instance whose connection it came over, JSON), in order, None once it is durable, or the error that a call
        with it would have got."""
        requests, instances = tuple(request for _, request in reports), tuple(instance for instance, _ in reports)
        batch = Batch(account, principal_arn, operation, self._context.ids.uuid(), requests, instances)
        try:
            if self._on_leader is None:
                return await self._keep(batch)
            body = msgspec.msgpack.encode(batch)
            answers: list[Refusal | None] = await self._on_leader(lambda: self._keep(batch), REPORTS_PATH, body, read=_ANSWERS.decode)
            return answers
        except Exception as error:
            return [self._refusal(error, batch)] * len(requests)

    async def carry_out(self, body: bytes) -> bytes:
        """The leader's end of `on_leader`. Raises what `Store.update` raises, msgspec.DecodeError for what is no batch."""
        return msgspec.msgpack.encode(await self._keep(_BATCH.decode(body)))

    async def _keep(self, batch: Batch) -> list[Refusal | None]:
        try:
            return await self._together(batch)
        except Exception as error:
            if len(batch.requests) == 1 and not _is_of_the_store(error):
                return [self._refusal(error, batch)]
            if _is_of_the_store(error):
                raise
        # One of them is more than the others can be asked to share: together too large, or a fault of ours. Each alone, then.
        alone = [msgspec.structs.replace(batch, requests=(request,), instances=(instance,)) for instance, request in _handed(batch)]
        return [(await self._keep(each))[0] for each in alone]

    async def _together(self, batch: Batch) -> list[Refusal | None]:
        """One transaction. A report that is refused changes nothing, and no other."""
        call = Call(
            context=self._context,
            operation=batch.operation,
            request_id=batch.request_id,
            account=batch.account,
            principal_arn=batch.principal_arn,
        )
        reports = [(instance, self._read(batch.operation, request)) for instance, request in _handed(batch)]

        def transact(tx: Transaction) -> list[Refusal | None]:
            return [report if isinstance(report, Refusal) else _kept(tx, call, report, instance) for instance, report in reports]

        return await call.update(transact)

    def _read(self, operation: str, request: bytes) -> Report | Refusal:
        try:
            found = self._operations.get(operation)
            if found is None:
                raise UnknownOperationError(f"{operation[:200]} is no report.")
            if len(request) > self._context.settings.body_bytes_max:
                raise RequestTooLargeError(f"Request must be no larger than {self._context.settings.body_bytes_max} bytes.")
            return READERS[operation](json.decode(found, request))
        except ApiError as error:
            return _refusal_of(error)

    def _refusal(self, error: Exception, batch: Batch) -> Refusal:
        found = faults.fault(error)
        if found.unexpected:
            fields = {"requestId": batch.request_id, "operation": batch.operation}
            _log.error("reports failed: %s", error, exc_info=error, extra={"fields": fields})
        return Refusal(found.code, str(msgspec.json.decode(found.body)["message"]))


def _is_of_the_store(error: Exception) -> bool:
    """Whether the error befell all reports: nothing could be written now, or not here."""
    return isinstance(error, HomeportError) and error.temporary


def _handed(batch: Batch) -> list[tuple[str, bytes]]:
    return list(zip(batch.instances or [""] * len(batch.requests), batch.requests, strict=True))


def _kept(tx: Transaction, call: Call, report: Report, instance: str) -> Refusal | None:
    try:
        state_change.keep(tx, call, report, instance=instance)
    except ApiError as error:
        return _refusal_of(error)
    return None


def _refusal_of(error: ApiError) -> Refusal:
    return Refusal(error.code, error.message)
