"""`homeport audit`: what it prints and what it answers, on a data directory and on a copy."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from homeport.__main__ import main
from homeport.audit import checkpoint
from homeport.model.ecs.cluster import Cluster
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.tables import CLUSTERS, TABLES
from homeport.virtual_clock import VirtualClock


@pytest.fixture
async def data_dir(desk):
    await desk.open()
    desk.call("ListClusters", principal="arn:aws:iam::123456789012:root", request_id="r1", address="100.64.0.1")
    desk.call("CreateCluster", request_id="r2")
    await desk.close()
    return desk.data_dir


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main(["audit", *arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_a_whole_log(data_dir, capsys):
    status, out, _ = run(capsys, "verify", "--data-dir", str(data_dir))
    assert status == 0
    assert "is whole: records 1 to 4" in out
    assert "1 checkpoints are signed" in out
    assert "0 records are newer" in out
    assert "journal does not lie beside it" in out
    status, out, _ = run(capsys, "verify", "--json", str(data_dir / "audit"))
    (told,) = json.loads(out)
    assert (status, told["whole"], told["last"], told["flaws"]) == (0, True, 4, [])


def test_a_log_that_was_tampered_with(data_dir, capsys):
    path = data_dir / "audit" / "000000000000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"CreateCluster", b"DeleteCluster"))
    status, out, _ = run(capsys, "verify", "--data-dir", str(data_dir))
    assert status == 1
    assert "record 3 was edited or replaced" in out
    assert "000000000000001.jsonl line 4" in out


def test_a_copy_with_key_and_checkpoint_that_were_kept_elsewhere(data_dir, tmp_path, capsys):
    _, pem, _ = run(capsys, "key", "--data-dir", str(data_dir))
    _, line, _ = run(capsys, "checkpoint", "--data-dir", str(data_dir))
    key, held = tmp_path / "key.pem", tmp_path / "held.jsonl"
    key.write_text(pem)
    held.write_text(line)
    copy = tmp_path / "copy"
    shutil.copytree(data_dir / "audit", copy)
    kept = ["verify", str(copy), "--key", str(key), "--checkpoint", str(held)]
    assert run(capsys, *kept)[0] == 0
    # Everything after the checkpoint's record, and the checkpoint itself, is cut off: only what was kept elsewhere can tell.
    (copy / checkpoint.FILE).unlink()
    path = copy / "000000000000001.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert run(capsys, "verify", str(copy), "--key", str(key))[0] == 0
    status, out, _ = run(capsys, *kept)
    assert status == 1
    assert "records 4 to 4 are missing at the end" in out


async def journal(path: Path, *names: str) -> None:
    """A store of as many revisions as there are names."""
    store = await Store.open(SqliteBackend(path), tables=TABLES, clock=VirtualClock())
    for name in names:
        made = Cluster(account="123456789012", name=name, status="ACTIVE", created_at=1.0)
        await store.update(lambda tx, made=made: tx.put(CLUSTERS, made), cause="server test")
    await store.close()


async def signed(desk: Any, path: Path) -> None:
    """Sign what the journal there is now."""
    backend = SqliteBackend(path)
    _, head = await backend.ends()
    desk.journal.hashes[head.revision] = head.hash.hex()
    await desk.open()
    await desk.close()


async def test_a_journal_that_is_not_the_one_that_was_signed(desk, capsys):
    path = desk.data_dir / "homeport.sqlite"
    await journal(path, "a", "b", "c")
    await signed(desk, path)
    status, out = await asyncio.to_thread(run_quietly, capsys, desk.data_dir)
    assert (status, "up to revision 3; 1 checkpoints were held against it" in out) == (0, True)
    path.unlink()
    await journal(path, "a", "x", "c", "d")
    status, out = await asyncio.to_thread(run_quietly, capsys, desk.data_dir)
    assert status == 1
    assert "journal entry 3 was replaced: checkpoint 1 signed another one" in out
    path.unlink()
    await journal(path, "a", "b")
    status, out = await asyncio.to_thread(run_quietly, capsys, desk.data_dir)
    assert status == 1
    assert "journal entries 3 to 3 are missing at the end" in out
    path.write_bytes(b"no store")
    assert (await asyncio.to_thread(run_quietly, capsys, desk.data_dir))[0] == 1


def run_quietly(capsys: Any, data_dir: Path) -> tuple[int, str]:
    status, out, _ = run(capsys, "verify", "--data-dir", str(data_dir))
    return status, out


def test_no_log_and_no_key(tmp_path, capsys):
    status, _, err = run(capsys, "verify", "--data-dir", str(tmp_path))
    assert status == 1
    assert "there is no audit log" in err


def test_an_export(data_dir, tmp_path, capsys):
    _, out, _ = run(capsys, "export", "--data-dir", str(data_dir))
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["eventName"] for event in events] == ["ListClusters", "CreateCluster"]
    assert events[0]["userIdentity"]["type"] == "Root"
    assert events[0]["sourceIPAddress"] == "100.64.0.1"
    status, _, _ = run(capsys, "export", "--data-dir", str(data_dir), "--cloudtrail", str(tmp_path / "out"), "--account", "123456789012")
    assert status == 0
    (file,) = (tmp_path / "out").iterdir()
    assert file.name.startswith("123456789012_CloudTrail_us-east-1_19700112T")
    assert json.loads(file.read_text())["Records"] == events
    _, out, _ = run(capsys, "export", "--data-dir", str(data_dir), "--account", "999999999999")
    assert out == ""
    _, out, _ = run(capsys, "export", "--data-dir", str(data_dir), "--since", "2026-01-01T00:00:00Z")
    assert out == ""
