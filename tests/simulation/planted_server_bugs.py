"""Typical bugs of several servers on etcd, each planted by itself in the product: the simulator must find every one (`planted_bugs.py` plants them).

Two of them the product had, until the simulator found them: the controllers of a leader that ended with a read, and a session that others had ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from homeport.controllers import leading
from homeport.controllers.loop import Loop
from homeport.dispatcher import liveness
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.mirror import Mirror
from homeport.store.replica import Replica
from homeport.store.store import Store

Plant = Callable[[], None]


def _replace(owner: Any, name: str, planted: Any) -> None:
    getattr(owner, name)
    setattr(owner, name, planted)


def commit_without_asking_who_leads() -> None:
    """A Txn does not compare the leader key."""
    right = EtcdBackend._txn

    def txn(self: Any, operations: Any, wanted: Any, leadership: Any) -> Any:
        request = right(self, operations, wanted, leadership)
        del request.compare[0]
        return request

    _replace(EtcdBackend, "_txn", txn)


def commit_without_asking_where_the_head_is() -> None:
    """A Txn does not compare the head, so that two of one leader can land for the same state."""
    right = EtcdBackend._txn

    def txn(self: Any, operations: Any, wanted: Any, leadership: Any) -> Any:
        request = right(self, operations, wanted, leadership)
        del request.compare[1]
        return request

    _replace(EtcdBackend, "_txn", txn)


def take_an_unknown_outcome_for_done() -> None:
    """A Txn without an answer counts as applied."""

    async def settle(self: Any, wanted: Any, leadership: Any, deadline: float) -> bool:
        answer = await self.client.read(_head(self))
        self._standing, self._mod_revision = wanted, answer.kvs[0].mod_revision
        return True

    _replace(EtcdBackend, "_settle", settle)


def _head(backend: Any) -> Any:
    from homeport.store.etcd import messages

    return messages.RangeRequest(key=backend.layout.head)


def read_the_copy_as_it_is() -> None:
    """A follower answers from its copy without asking how far etcd is."""
    right = Replica._linearizable

    async def linearizable(self: Any, function: Any) -> Any:
        return self._try(function) if self._leadership is None else await right(self, function)

    _replace(Replica, "_linearizable", linearizable)


def leave_the_controllers_running() -> None:
    """A server that is deposed does not stop what only a leader does."""

    async def end(running: Any) -> None:
        """The cancelling is left out."""
        await asyncio.sleep(0)

    _replace(leading, "_end", end)


def keep_deleted_records_when_reading_anew() -> None:
    """A copy that is read anew keeps what was deleted meanwhile."""
    right = Mirror.replace

    def replace(self: Any, name: str, keys: Any, changed: Any) -> None:
        right(self, name, {*keys, *self._contents[name].rows}, changed)

    _replace(Mirror, "replace", replace)


def begin_to_lead_behind_the_head() -> None:
    """A new leader does not wait until its copy has what the leader before committed."""

    async def begin(self: Any, leadership: Any) -> None:
        await self._stop_following()
        head = await self._etcd.lead(leadership)
        self._newest = self._durable = head
        self._leadership = leadership
        self._tell()

    _replace(Replica, "_begin", begin)


def follow_again_from_the_newest_revision() -> None:
    """A deposed leader follows on from its newest transaction, not from its last durable one: what was not durable stays in its copy."""
    right = Store._take_back

    def take_back(self: Any, *arguments: Any) -> Any:
        if getattr(self, "_leadership", None) is None or not self._leadership.lost.is_set():
            return right(self, *arguments)
        groups = ([self._flying] if self._flying is not None else []) + list(self._waiting)
        for group in groups:
            group.transactions.clear()
        return right(self, *arguments)

    _replace(Store, "_take_back", take_back)


def end_the_controllers_with_a_read() -> None:
    """The sweep reads what etcd confirms, and the loop ends when etcd does not."""

    async def mark_all(self: Any) -> None:
        def every_key(reader: Any) -> Any:
            return [(name, list(controller.keys(reader))) for name, controller in self._controllers.items()]

        for name, keys in await self._store.view(every_key):
            self._swept.update(dict.fromkeys((name, key) for key in keys))
        self._work.set()

    _replace(Loop, "_mark_all", mark_all)


def keep_sessions_that_others_ended() -> None:
    """A server that was cut off keeps the sessions that the leader ended meanwhile."""
    _replace(liveness, "is_over", lambda instance, *, session_id, opened: False)


BUGS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        commit_without_asking_who_leads,
        commit_without_asking_where_the_head_is,
        take_an_unknown_outcome_for_done,
        read_the_copy_as_it_is,
        leave_the_controllers_running,
        keep_deleted_records_when_reading_anew,
        begin_to_lead_behind_the_head,
        follow_again_from_the_newest_revision,
        end_the_controllers_with_a_read,
        keep_sessions_that_others_ended,
    )
}
FAULTS: dict[str, tuple[str, ...]] = {
    "commit_without_asking_who_leads": ("server-pause", "server-crash", "etcd-errors"),
    "end_the_controllers_with_a_read": ("etcd-cut",),
    "begin_to_lead_behind_the_head": ("watch-lag", "server-crash", "server-restart"),
}
"""Bugs that few kinds of faults show, now and then: those alone."""
