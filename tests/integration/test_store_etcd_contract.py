"""The store's contract on a real etcd: the suite of tests/conformance, with a backend of ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from tests.conformance.test_store_contract import *  # noqa: F403 - the whole suite
from tests.integration.etcd_members import EtcdMembers, etcd_members

from homeport.store.backend import Backend
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings

PREFIXES = (f"/test-{number}/" for number in itertools.count())


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMembers]:
    with etcd_members(tmp_path_factory.mktemp("etcd")) as running:
        yield running


@pytest.fixture
def backend(members: EtcdMembers) -> Callable[[], Backend]:
    """A function that gives a backend on the same state each time."""
    prefix = next(PREFIXES)
    return lambda: EtcdBackend(members.endpoints, prefix, settings=EtcdSettings(locked_seconds=0.2))


async def test_a_batch_is_bounded(backend):
    gated = GatedBackend(backend())  # noqa: F405
    store = await opened(gated)  # noqa: F405
    limits = gated.limits
    await asyncio.gather(*(store.update(put(Thing(name=str(number))), cause="test") for number in range(1_000)))  # noqa: F405
    assert gated.commits[0] == min(limits.transactions, limits.records) < 128
    await asyncio.gather(*(store.update(put(Thing(name=str(number), blob=bytes(100_000))), cause="test") for number in range(40)))  # noqa: F405
    assert 1 < gated.commits[-2] <= limits.bytes // 200_000
    assert sum(gated.commits) == store.revision == 1_040
    await store.close()
