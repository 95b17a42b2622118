"""The store's contract on the simulated etcd: what a simulation has in the place of etcd passes the suite that etcd passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.conformance import test_store_contract as contract
from tests.conformance.test_store_contract import *  # noqa: F403 - the whole suite

from homeport.ids import Ids
from homeport.store.backend import Backend
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
from homeport.store.replica import Replica
from homeport.testing.etcd_door import DoorFaults, EtcdDoor
from homeport.testing.etcd_state import EtcdState
from homeport.testing.virtual_loop import Chance
from homeport.virtual_clock import VirtualClock


class Gated(contract.GatedBackend):
    """Passes on what only etcd has, too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


@pytest.fixture(params=["backend", "replica"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Backend]:
    """A function that gives a backend on the same state each time."""
    states: list[EtcdState] = []
    if request.param == "replica":

        async def opened(backend: Any, clock: VirtualClock | None = None, **options: Any) -> Replica:
            replica = await Replica.join(backend, tables=contract.TABLES, clock=clock or VirtualClock(), **options)
            async for role in replica.roles():
                if role.leading:
                    break
            return replica

        monkeypatch.setattr(contract, "opened", opened)
        monkeypatch.setattr(contract, "GatedBackend", Gated)

    def make() -> EtcdBackend:
        if not states:
            states.append(EtcdState(asyncio.get_running_loop(), lambda sender, revision, events: None))
        door = EtcdDoor(states[0], "server", faults=DoorFaults(), chance=Chance(Ids(1)), crash=lambda: None)
        return EtcdBackend(door.members, settings=EtcdSettings(locked_seconds=0.2))

    return make


async def test_two_stores_never_share_a_backend(backend):
    """Two replicas share one, but only one leads; a store that is no replica is refused (the suite of etcd itself shows it)."""
    one = await contract.opened(backend())
    two = await Replica.join(backend(), tables=contract.TABLES, clock=VirtualClock())
    leading = one.role.leading if isinstance(one, Replica) else True
    assert (leading, two.role.leading) == (True, False)
    await two.close()
    await one.close()


async def test_a_view_of_durable_state_does_not_wait(backend):
    """A replica asks etcd, unless it is content with this server's copy."""
    store = await contract.opened(backend())
    await store.update(contract.put(contract.Thing(name="a")), cause="test")
    view = store.view_local if isinstance(store, Replica) else store.view
    with pytest.raises(StopIteration) as answer:
        view(contract.names).send(None)
    assert answer.value.value == ["a"]
    await store.close()


async def test_a_batch_is_bounded(backend):
    """As etcd bounds it: 128 operations a Txn, 1.5 MiB a request; the simulated one refuses more, too."""
    gated = Gated(backend())
    store = await contract.opened(gated)
    limits = gated.limits
    await asyncio.gather(*(store.update(contract.put(contract.Thing(name=str(number))), cause="test") for number in range(300)))
    assert gated.commits[0] == min(limits.transactions, limits.records) < 128
    await asyncio.gather(*(store.update(contract.put(contract.Thing(name=str(number), blob=bytes(100_000))), cause="test") for number in range(40)))
    assert 1 < gated.commits[-2] <= limits.bytes // 200_000
    assert sum(gated.commits) == store.revision == 340
    await store.close()
