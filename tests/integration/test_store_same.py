"""The same random transactions on memory, SQLite, etcd and a plain dict: the same answers, states and journals."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.etcd_members import EtcdMembers, etcd_members
from tests.property.test_store_model import Restart, Run, Together, everything, steps

from homeport.store.backend import Backend
from homeport.store.etcd.backend import EtcdBackend
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend

PREFIXES = (f"/same-{number}/" for number in itertools.count())


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMembers]:
    with etcd_members(tmp_path_factory.mktemp("etcd")) as running:
        yield running


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(plan=st.lists(steps, max_size=12))
def test_three_backends_and_a_dict_agree(members: EtcdMembers, plan: list[Together | Restart]) -> None:
    memory, prefix = MemoryBackend(), next(PREFIXES)

    async def main(directory: str) -> None:
        makers: list[Callable[[], Backend]] = [
            lambda: memory,
            lambda: SqliteBackend(Path(directory) / "state.db"),
            lambda: EtcdBackend(members.endpoints, prefix),
        ]
        runs = [Run(make) for make in makers]
        for run in runs:
            await run.open()
        for step in plan:
            for run in runs:
                if isinstance(step, Together):
                    await run.together(step)
                else:
                    await run.close()
                    await run.open()
                await run.check()  # against the dict
            states = [await run.store.view(everything) for run in runs]
            assert states[0] == states[1] == states[2]
        for run in runs:
            await run.check_journal()
        journals = [await run.gated.entries(1, 10_000) for run in runs]
        assert journals[0] == journals[1] == journals[2]
        for run in runs:
            await run.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))
