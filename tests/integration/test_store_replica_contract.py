"""The store's contract on a replica that leads: the suite of tests/conformance, with servers instead of stores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.conformance import test_store_contract as contract
from tests.conformance.test_store_contract import *  # noqa: F403 - the whole suite
from tests.integration.etcd_members import EtcdMembers, etcd_members
from tests.integration.test_store_etcd_contract import test_a_batch_is_bounded  # noqa: F401 - as etcd bounds it

from homeport.store.backend import Backend
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.replica import Replica
from homeport.virtual_clock import VirtualClock

PREFIXES = (f"/test-{number}/" for number in itertools.count())


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMembers]:
    with etcd_members(tmp_path_factory.mktemp("etcd")) as running:
        yield running


class Gated(contract.GatedBackend):
    """Passes on what only etcd has, too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


@pytest.fixture
def backend(members: EtcdMembers, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Backend]:
    """A function that gives a backend on the same state each time."""

    async def opened(backend: Any, clock: VirtualClock | None = None, **options: Any) -> Replica:
        replica = await Replica.join(backend, tables=contract.TABLES, clock=clock or VirtualClock(), **options)
        async for role in replica.roles():
            if role.leading:
                break
        return replica

    monkeypatch.setattr(contract, "opened", opened)
    monkeypatch.setattr(contract, "GatedBackend", Gated)
    prefix = next(PREFIXES)
    return lambda: EtcdBackend(members.endpoints, prefix)


async def test_two_stores_never_share_a_backend(backend):
    """Two replicas share one, but only one leads."""
    one = await contract.opened(backend())
    two = await Replica.join(backend(), tables=contract.TABLES, clock=VirtualClock())
    assert (one.role.leading, two.role.leading) == (True, False)
    await two.close()
    await one.close()


async def test_a_view_of_durable_state_does_not_wait(backend):
    """It asks etcd, unless it is content with this server's copy."""
    store = await contract.opened(backend())
    await store.update(contract.put(contract.Thing(name="a")), cause="test")
    with pytest.raises(StopIteration) as answer:
        store.view_local(contract.names).send(None)
    assert answer.value.value == ["a"]
    await store.close()
