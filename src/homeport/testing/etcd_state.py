"""What an etcd cluster holds, as far as Homeport asks it: keys with every revision of theirs, leases, Txns and watches, in one thread.

Owns: `EtcdState`. Never delays, loses or repeats anything: `etcd_door.py` stands between it and its clients. Written from etcd's documented
behaviour: a Txn is whole or not there, has one revision, and a watch tells every revision once, in order, or says that it is no longer kept.
"""

from __future__ import annotations

import asyncio
import bisect
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from homeport.errors import EtcdRefusedError
from homeport.store.etcd import messages

TXN_OPERATIONS_MAX: Final = 128
"""As etcd allows unless told otherwise."""
REQUEST_BYTES_MAX: Final = 1_572_864
DUPLICATE: Final = "etcdserver: duplicate key given in txn request"
RangeResponse: Final[Any] = messages.CALLS["Range"][2]
TxnResponse: Final[Any] = messages.CALLS["Txn"][2]

Told = Callable[[int, list[Any]], None]
"""Called with a revision and its events."""


class Lease(msgspec.Struct):
    """Keys that go away together when nobody renews."""

    seconds: int
    timer: asyncio.TimerHandle
    keys: dict[bytes, None]


class Watcher(msgspec.Struct, eq=False):
    """Somebody who is told what happens from `key` up to `end`."""

    key: bytes
    end: bytes
    told: Told

    def events_of(self, events: list[Any]) -> list[Any]:
        """Those that concern it."""
        key, end = self.key, self.end or self.key + b"\0"
        return [event for event in events if key <= event.kv.key < end]


class EtcdState:
    """See the module. `applied` is called with the sender, the revision and the events of every change, before anybody else learns of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, applied: Callable[[str, int, list[Any]], None]) -> None:
        self._loop = loop
        self._applied = applied
        self.revision = 1
        self.term = 1
        """How many leaders etcd itself has had."""
        self.compacted = 0
        self._keys: list[bytes] = []
        """Every key that has a history, in order."""
        self._live: list[bytes] = []
        """Those that are there."""
        self._history: dict[bytes, list[tuple[int, Any]]] = {}
        self._log: deque[tuple[int, list[Any]]] = deque()
        self._leases: dict[int, Lease] = {}
        self._next_lease = 7_000
        self._watchers: dict[Watcher, None] = {}

    # -- reading ---------------------------------------------------------------------------------------------------------

    def get(self, key: bytes, revision: int = 0) -> Any:
        """The key as it was at `revision` (0: as it is); None when it is not there."""
        for changed, value in reversed(self._history.get(key, ())):
            if not revision or changed <= revision:
                return value
        return None

    def range(self, request: Any) -> Any:
        """The answer to a Range. Raises EtcdRefusedError for a revision that is no longer kept."""
        revision = request.revision
        if revision and revision < self.compacted:
            raise EtcdRefusedError("mvcc: required revision has been compacted", "OUT_OF_RANGE")
        answer = RangeResponse()
        answer.header.revision = self.revision
        if revision and revision < self.revision:
            keys = [request.key] if not request.range_end else _between(self._keys, request.key, request.range_end)
            values = [value for key in keys if (value := self.get(key, revision)) is not None]
        elif request.range_end:
            first, last = bisect.bisect_left(self._live, request.key), bisect.bisect_left(self._live, request.range_end)
            answer.count = max(0, last - first)
            values = [self._history[key][-1][1] for key in self._live[first : min(last, first + request.limit) if request.limit else last]]
        else:
            value = self.get(request.key)
            values = [value] if value is not None else []
        answer.count = answer.count or len(values)
        answer.kvs.extend(values[: request.limit] if request.limit else values)
        answer.more = answer.count > len(answer.kvs)
        return answer

    # -- writing ---------------------------------------------------------------------------------------------------------

    def txn(self, sender: str, request: Any) -> Any:
        """The answer to a Txn. Raises EtcdRefusedError for one that etcd does not take."""
        if max(len(request.success), len(request.failure)) > TXN_OPERATIONS_MAX:
            raise EtcdRefusedError("etcdserver: too many operations in txn request", "INVALID_ARGUMENT")
        if request.ByteSize() > REQUEST_BYTES_MAX:
            raise EtcdRefusedError("etcdserver: request is too large", "INVALID_ARGUMENT")
        for operations in (request.success, request.failure):
            _require_distinct(operations)
        succeeded = all(self._holds(compare) for compare in request.compare)
        operations = request.success if succeeded else request.failure
        self._require_leases(operations)
        answer = TxnResponse(succeeded=succeeded)
        events: list[Any] = []
        for operation in operations:
            kind = operation.WhichOneof("choice")
            response = answer.responses.add()
            if kind == "request_range":
                response.response_range.CopyFrom(self.range(operation.request_range))
            elif kind == "request_put":
                self._put(operation.request_put, events)
                response.response_put.SetInParent()
            else:
                response.response_delete_range.deleted = self._delete(operation.request_delete_range, events)
        self._done(sender, events)
        answer.header.revision = self.revision
        return answer

    def _holds(self, compare: Any) -> bool:
        value = self.get(compare.key)
        if compare.target == messages.CREATE_REVISION:
            return bool(compare.create_revision == (value.create_revision if value is not None else 0))
        if compare.target == messages.MOD_REVISION:
            return bool(compare.mod_revision == (value.mod_revision if value is not None else 0))
        raise EtcdRefusedError("the simulation knows no other comparison", "UNIMPLEMENTED")

    def _require_leases(self, operations: Any) -> None:
        for operation in operations:
            lease = operation.request_put.lease if operation.WhichOneof("choice") == "request_put" else 0
            if lease and lease not in self._leases:
                raise EtcdRefusedError("etcdserver: requested lease not found", "NOT_FOUND")

    def _put(self, put: Any, events: list[Any]) -> None:
        before, revision = self.get(put.key), self.revision + 1
        value = messages.KeyValue(key=put.key, value=put.value, lease=put.lease, mod_revision=revision)
        value.create_revision = before.create_revision if before is not None else revision
        value.version = before.version + 1 if before is not None else 1
        self._unbind(before)
        if put.lease:
            self._leases[put.lease].keys[put.key] = None
        if put.key not in self._history:
            bisect.insort(self._keys, put.key)
        if before is None:
            bisect.insort(self._live, put.key)
        self._history.setdefault(put.key, []).append((revision, value))
        events.append(messages.Event(kv=value))

    def _delete(self, request: Any, events: list[Any]) -> int:
        keys = [request.key] if not request.range_end else _between(self._live, request.key, request.range_end)
        revision, deleted = self.revision + 1, 0
        for key in keys:
            before = self.get(key)
            if before is not None:
                deleted += 1
                self._unbind(before)
                self._history[key].append((revision, None))
                del self._live[bisect.bisect_left(self._live, key)]
                events.append(messages.Event(type=messages.DELETE, kv=messages.KeyValue(key=key, mod_revision=revision)))
        return deleted

    def _unbind(self, value: Any) -> None:
        if value is not None and value.lease in self._leases:
            self._leases[value.lease].keys.pop(value.key, None)

    def _done(self, sender: str, events: list[Any]) -> None:
        """What was changed is one revision."""
        if not events:
            return
        self.revision += 1
        self._log.append((self.revision, events))
        self._applied(sender, self.revision, events)
        for watcher in tuple(self._watchers):
            concerned = watcher.events_of(events)
            if concerned:
                watcher.told(self.revision, concerned)

    # -- leases ----------------------------------------------------------------------------------------------------------

    def grant(self, seconds: int) -> int:
        """A new lease."""
        self._next_lease += 1
        self._leases[self._next_lease] = Lease(seconds, self._timer(self._next_lease, seconds), {})
        return self._next_lease

    def renew(self, lease: int) -> int:
        """The seconds that a lease has again; 0 when it is gone."""
        found = self._leases.get(lease)
        if found is None:
            return 0
        found.timer.cancel()
        found.timer = self._timer(lease, found.seconds)
        return found.seconds

    def revoke(self, lease: int) -> None:
        """End a lease and its keys. Raises EtcdRefusedError when it is gone."""
        if lease not in self._leases:
            raise EtcdRefusedError("etcdserver: requested lease not found", "NOT_FOUND")
        self._end(lease)

    def elect(self) -> None:
        """etcd has another leader, who gives every lease its whole time anew."""
        self.term += 1
        for lease in self._leases:
            self.renew(lease)

    def _timer(self, lease: int, seconds: float) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, self._end, lease, context=contextvars.Context())

    def _end(self, lease: int) -> None:
        found = self._leases.pop(lease)
        found.timer.cancel()
        events: list[Any] = []
        for key in tuple(found.keys):
            self._delete(messages.DeleteRangeRequest(key=key), events)
        self._done("", events)

    # -- watching --------------------------------------------------------------------------------------------------------

    def watch(self, request: Any, told: Told) -> Watcher | None:
        """Tell what happened from the request's start revision on, and what happens; None when that is no longer kept."""
        start = request.start_revision or self.revision + 1
        if start <= self.compacted:
            return None
        watcher = Watcher(request.key, request.range_end, told)
        for revision, events in self._log:
            concerned = watcher.events_of(events) if revision >= start else ()
            if concerned:
                told(revision, list(concerned))
        self._watchers[watcher] = None
        return watcher

    def forget(self, watcher: Watcher) -> None:
        """Tell it nothing more."""
        self._watchers.pop(watcher, None)

    def forget_past(self) -> None:
        """Compact as far as possible, as etcd does by itself now and then."""
        if self.revision > self.compacted:
            self.compact(self.revision)

    def compact(self, revision: int) -> None:
        """Keep nothing of what was before `revision`. Raises EtcdRefusedError when that was done already, or is in the future."""
        if revision <= self.compacted or revision > self.revision:
            raise EtcdRefusedError("mvcc: required revision has been compacted, or is a future revision", "OUT_OF_RANGE")
        self.compacted = revision
        while self._log and self._log[0][0] <= revision:
            self._log.popleft()
        for key in self._keys:
            history = self._history[key]
            first = max(0, bisect.bisect_right(history, revision, key=lambda version: version[0]) - 1)
            del history[: first + (history[first][0] <= revision and history[first][1] is None)]
        self._keys = [key for key in self._keys if self._history[key]]
        self._history = {key: history for key, history in self._history.items() if history}


def _between(keys: list[bytes], key: bytes, end: bytes) -> list[bytes]:
    return keys[bisect.bisect_left(keys, key) : bisect.bisect_left(keys, end)]


def _require_distinct(operations: Any) -> None:
    """A key is put once in a Txn, and not put where it is deleted."""
    written: set[bytes] = set()
    deleted: list[tuple[bytes, bytes]] = []
    for operation in operations:
        kind = operation.WhichOneof("choice")
        if kind == "request_put":
            if operation.request_put.key in written:
                raise EtcdRefusedError(DUPLICATE, "INVALID_ARGUMENT")
            written.add(operation.request_put.key)
        elif kind == "request_delete_range":
            deleted.append((operation.request_delete_range.key, operation.request_delete_range.range_end))
    for key, end in deleted:
        if any(key <= one < end if end else one == key for one in written):
            raise EtcdRefusedError(DUPLICATE, "INVALID_ARGUMENT")
