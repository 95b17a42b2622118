"""A state copied to etcd, from etcd, and back to a file; a backup of an etcd that a server leads."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.test_store_copying import *  # noqa: F403 - the whole suite
from tests.conformance.test_store_copying import cluster, fill, opened, shown
from tests.integration.etcd_members import EtcdMembers, etcd_members

from homeport.errors import StoreLockedError
from homeport.store.backend import TargetBackend
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
from homeport.store.sqlite import SqliteBackend
from homeport.store.tables import CLUSTERS
from homeport.storekeeping import PROGRAMS

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMembers]:
    with etcd_members(tmp_path_factory.mktemp("etcd")) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """Where nothing is yet."""
    return f"/copy-{next(NUMBERS)}/"


@pytest.fixture
def target(members: EtcdMembers, prefix: str) -> TargetBackend:
    return EtcdBackend(members.endpoints, prefix, settings=EtcdSettings(locked_seconds=0.2))


def options(path: Path, command: str, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(command=command, data_dir=path, json=False, **{"store": None, **more})


async def test_from_a_file_to_etcd_and_back_by_the_programs(members, prefix, tmp_path, capsys):
    """What a user does: copy the file's state to etcd, go on there, back it up while a server leads, restore into a file and into etcd."""
    file = tmp_path / "homeport.sqlite"
    await fill(SqliteBackend(file))
    before = await shown(SqliteBackend(file))
    address = f"etcd://{members.endpoints[0].removeprefix('http://')}{prefix}"
    assert await PROGRAMS["store copy"](argparse.Namespace(data_dir=tmp_path, **{"from": f"sqlite:{file}", "to": address})) == 0
    etcd = EtcdBackend(members.endpoints, prefix)
    assert await shown(etcd) == before
    assert await PROGRAMS["journal verify"](options(tmp_path, "journal", store=address)) == 0
    async with opened(etcd) as store:
        await store.update(lambda tx: tx.put(CLUSTERS, cluster("on-etcd")), cause="on etcd")
        assert await PROGRAMS["backup"](options(tmp_path, "backup", store=address, file=tmp_path / "backup")) == 0
        await store.update(lambda tx: tx.put(CLUSTERS, cluster("later")), cause="later")
    other = tmp_path / "other"
    assert await PROGRAMS["restore"](options(other, "restore", file=tmp_path / "backup")) == 0
    restored = await shown(SqliteBackend(other / "homeport.sqlite"))
    assert "on-etcd" in [item.name for item in restored[0]] and "later" not in [item.name for item in restored[0]]
    assert await PROGRAMS["restore"](options(other, "restore", file=tmp_path / "backup", store=address)) == 0
    assert await shown(EtcdBackend(members.endpoints, prefix)) == restored
    assert "whole" in capsys.readouterr().out


async def test_a_copy_to_an_etcd_that_a_server_leads_is_refused(members, prefix, tmp_path):
    file = tmp_path / "homeport.sqlite"
    await fill(SqliteBackend(file), clusters=3)
    leading = EtcdBackend(members.endpoints, prefix)
    async with opened(leading) as store:
        await store.update(lambda tx: tx.put(CLUSTERS, cluster("mine")), cause="test")
        with pytest.raises(StoreLockedError, match="led by"):
            await PROGRAMS["store copy"](
                argparse.Namespace(data_dir=tmp_path, **{"from": f"sqlite:{file}", "to": f"etcd://{members.endpoints[0][7:]}{prefix}"})
            )
        assert [item.name for item in await store.view(lambda reader: list(reader.scan(CLUSTERS)))] == ["mine"]
