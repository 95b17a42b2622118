"""Every server's own file of the journal: three server processes on a real etcd. Takes about 40 s."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.acceptance.soak import ROOT, Client, Servers, wait_until_whole
from tests.integration.etcd_members import EtcdMembers, etcd_members

from homeport.cli.client import Api
from homeport.cli.installation import LocalCredentials
from homeport.clock import SystemClock

SETTINGS = ("journal_etcd_entries=5", "journal_gap_patience_seconds=5")
OPTIONS = tuple(word for setting in SETTINGS for word in ("--set", setting))


@pytest.fixture
def members(tmp_path: Path) -> Iterator[EtcdMembers]:
    with etcd_members(tmp_path / "etcd", 3) as running:
        yield running


@pytest.fixture
def servers(tmp_path: Path, members: EtcdMembers) -> Iterator[Servers]:
    made = Servers(tmp_path / "data", "etcd://" + ",".join(endpoint.partition("//")[2] for endpoint in members.endpoints))
    made.directory.mkdir()
    try:
        for number in range(3):
            made.start(number, *OPTIONS)
        wait_until_whole(made)
        yield made
    finally:
        made.stop()


def file_of(servers: Servers, number: int) -> Path:
    return servers.directory / f"soak-{number}" / "journal.sqlite"


def query(path: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
        return file.execute(statement).fetchall()


def span(servers: Servers, number: int) -> tuple[int, int, int]:
    """(first, last, how many) entries of a server's file."""
    found = query(file_of(servers, number), "SELECT min(revision), max(revision), count(*) FROM journal")[0]
    return found[0] or 0, found[1] or 0, found[2]


def homeport(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-m", "homeport", *arguments], env=environ, capture_output=True, text=True, timeout=timeout, check=False)


def verdict(servers: Servers) -> tuple[int, dict[str, Any]]:
    done = homeport("journal", "verify", "--data-dir", str(servers.directory), "--store", servers.store, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def eventually(condition: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)
    return found


def write(servers: Servers, server: int, names: range) -> None:
    with Client(servers, 1) as client:
        for number in names:
            client.call(server, "CreateCluster", clusterName=f"c{number}")


def test_entries_leave_etcd_when_all_have_them_and_a_server_that_was_away_fetches_its_part(servers: Servers) -> None:
    write(servers, 0, range(30))
    # All three have everything in their files, from the first entry on; then etcd is trimmed to its tail.
    code, found = eventually(lambda: (now := verdict(servers))[1]["firstRevision"] > 20 and now)
    assert code == 0 and found["entries"] < 30 and [copy["firstRevision"] for copy in found["copies"]] == [1, 1, 1]
    assert all(copy["whole"] and copy["comparedEntries"] >= 5 for copy in found["copies"])
    away = next(number for number in range(3) if number != servers.leader())
    others = [number for number in range(3) if number != away]
    # While one is away nothing goes that it lacks: it was seen a moment ago.
    servers.kill(away)
    held = span(servers, away)[1]
    write(servers, others[0], range(30, 60))
    eventually(lambda: min(span(servers, number)[1] for number in others) >= held + 30)
    time.sleep(12)  # more than the leader's time between two looks
    assert verdict(servers)[1]["firstRevision"] <= held + 1
    # When it has been away for too long it does not count any more.
    for number in others:
        servers.signal(number, signal.SIGTERM)
        process = servers.processes[number]
        assert process is not None
        process.wait(30)
        servers.start(number, *OPTIONS, "--set", "journal_member_seconds=5")
    eventually(lambda: verdict(servers)[1]["firstRevision"] > held + 10)
    assert span(servers, away)[1] == held
    # It comes back, and etcd has not what it missed: another server has.
    servers.start(away, *OPTIONS)
    eventually(lambda: span(servers, away)[1] >= held + 30)
    first, last, count = span(servers, away)
    assert (first, count) == (1, last)
    assert query(file_of(servers, away), "SELECT count(*) FROM gaps") == [(0,)]
    assert f"came from soak-{others[0]}" in log(servers, away) or f"came from soak-{others[1]}" in log(servers, away)
    assert verdict(servers)[0] == 0
    # History and the past reach back beyond what etcd has, at each server.
    keys = servers.credentials()
    for number in range(3):
        told = ask(servers, number, keys, "DescribeHistory", resource="cluster/c3")
        assert told["entries"][0]["kind"] == "create" and told["entries"][0]["revision"] < held
        revision = told["entries"][0]["revision"]
        past = ask(servers, number, keys, "DescribeAt", operation="ListClusters", request={}, revision=revision)
        assert len(past["answer"]["clusterArns"]) == 4
    # A backup has the journal from its beginning.
    copy = servers.directory.parent / "state.backup"
    done = homeport("backup", str(copy), "--data-dir", str(servers.directory), "--store", servers.store)
    assert done.returncode == 0, done.stderr
    assert query(copy, "SELECT min(revision) FROM journal") == [(1,)]
    # Tampering with a stopped server's file is found, and where.
    servers.signal(away, signal.SIGTERM)
    process = servers.processes[away]
    assert process is not None
    process.wait(30)
    servers.processes[away] = None
    kept = file_of(servers, away).read_bytes()
    for statements, position, words in TAMPERINGS:
        file_of(servers, away).write_bytes(kept)
        with contextlib.closing(sqlite3.connect(file_of(servers, away))) as file, file:
            for statement in statements:
                file.execute(statement)
        offline = homeport("journal", "verify", "--data-dir", str(file_of(servers, away).parent))
        assert offline.returncode == 1 and f"broken at revision {position or last}:" in offline.stdout and words in offline.stdout, offline
    assert verdict(servers)[0] == 1


TAMPERINGS = [
    (("UPDATE journal SET payload = replace(CAST(payload AS TEXT), 'a', 'b') WHERE revision = 5",), 5, "edited"),
    (("DELETE FROM journal WHERE revision = 4",), 4, "missing"),
    (("DELETE FROM journal WHERE revision <= 3",), 1, "missing"),
    (("DELETE FROM journal WHERE revision = (SELECT max(revision) FROM journal)",), 0, "missing"),
    (
        (
            "UPDATE journal SET revision = -1 WHERE revision = 6",
            "UPDATE journal SET revision = 6 WHERE revision = 7",
            "UPDATE journal SET revision = 7 WHERE revision = -1",
        ),
        6,
        "out of order",
    ),
]


def log(servers: Servers, number: int) -> str:
    return (servers.directory / f"soak-{number}.log").read_text()


def ask(servers: Servers, number: int, keys: dict[str, str], called: str, /, **parameters: Any) -> dict[str, Any]:
    """Call one of Homeport's own operations."""
    credentials = msgspec.convert(keys | {"endpoint": f"http://127.0.0.1:{servers.ports[number]}"}, LocalCredentials, strict=False)
    return Api(credentials, SystemClock()).call(called, **parameters)
