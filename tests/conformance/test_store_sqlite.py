"""What the SQLite backend adds to the contract: it survives kill -9, a full disk and a torn file, and its journal shows every tampering."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from homeport.clock import SystemClock
from homeport.errors import CommitFailedError, StoredFormError, StoreLockedError
from homeport.store.backend import Batch
from homeport.store.journal import verify
from homeport.store.lock import FileLock
from homeport.store.sqlite import SqliteBackend, _insert
from homeport.store.store import Store
from homeport.store.table import Table
from homeport.testing.store import OTHERS, THINGS, Thing
from homeport.virtual_clock import VirtualClock

TABLES = (THINGS, OTHERS)
WRITER = Path(__file__).with_name("store_writer.py")


def start_writer(path: Path, seed: int, *options: str) -> subprocess.Popen[str]:
    source = str(Path(__file__).parents[2] / "src")
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(seed), *options], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": source}
    )


def kill_after(writer: subprocess.Popen[str], lines: int) -> list[str]:
    """Let it acknowledge so many, kill it, and give every complete line that it said."""
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(lines)]
    writer.kill()
    said += writer.stdout.readlines()
    writer.wait()
    writer.stdout.close()
    assert said[0] == "open\n"
    return [line.strip() for line in said[1:] if line.endswith("\n")]


async def check(path: Path, acknowledged: dict[int, int]) -> None:
    """Everything acknowledged is there, nothing is half there, the chain holds and tells what the tables say."""
    store = await Store.open(SqliteBackend(path), tables=TABLES, clock=SystemClock())
    verdict = await store.journal.verify()
    assert verdict.problem == ""
    assert verdict.entries == store.revision

    things = await store.view(lambda r: list(r.scan(THINGS)))
    others = {other.name: other.size for other in await store.view(lambda r: list(r.scan(OTHERS)))}
    for writer, number in acknowledged.items():
        assert others[f"writer-{writer:02}"] >= number
    assert sum(thing.size for thing in things) == 1_000_000 * len(things)
    for name, number in others.items():
        if "/" in name:
            last = others[name.partition("/")[0]]
            assert number == last - last % 7
    assert sum(number for name, number in others.items() if "/" not in name) == store.revision
    for thing in things[:5]:
        assert (await store.journal.story(THINGS, thing.name))[-1].record == thing
    await store.close()


def note(acknowledged: dict[int, int], said: list[str]) -> None:
    for line in said:
        if line != "failed":
            writer, number = map(int, line.split())
            assert number > acknowledged.get(writer, 0)
            acknowledged[writer] = number


async def test_kill_dash_nine_loses_nothing_acknowledged(tmp_path):
    path = tmp_path / "state.db"
    acknowledged: dict[int, int] = {}
    for seed in range(6):
        note(acknowledged, kill_after(start_writer(path, seed), 100 + 400 * seed))
        await check(path, acknowledged)
    assert sum(acknowledged.values()) > 2_000, acknowledged


async def test_a_write_that_fails_on_disk_is_taken_back_and_the_store_goes_on(tmp_path):
    path = tmp_path / "state.db"
    said = kill_after(start_writer(path, 1, "600000"), 1_500)
    assert said.count("failed") >= 1
    assert said[-1] != "failed"
    acknowledged: dict[int, int] = {}
    note(acknowledged, said)
    await check(path, acknowledged)


class UnsureBackend(SqliteBackend):
    """Its next commits reach the disk, but say that they failed; and the file may be out of reach for a look."""

    unsure = 0
    hidden = False

    async def commit(self, batch: Batch) -> None:
        if self.unsure:
            self.unsure -= 1
            assert self._connection is not None
            self._connection.execute("BEGIN")
            _insert(self._connection, batch)
            self._connection.commit()
            if self.hidden:
                self.path.rename(self.path.with_name("hidden"))
        await super().commit(batch)  # the entry is there already: an sqlite3.IntegrityError


async def test_a_commit_that_arrived_in_spite_of_its_error_counts(tmp_path):
    backend = UnsureBackend(tmp_path / "state?#%.db")
    store = await Store.open(backend, tables=TABLES, clock=VirtualClock())
    backend.unsure = 1
    await store.update(lambda tx: tx.put(THINGS, Thing(name="a")), cause="test")
    await store.update(lambda tx: tx.put(THINGS, Thing(name="b")), cause="test")
    await store.close()
    store = await Store.open(backend, tables=TABLES, clock=VirtualClock())
    assert await store.view(lambda r: [thing.name for thing in r.scan(THINGS)]) == ["a", "b"]
    assert (await store.journal.verify()).entries == 2
    await store.close()


async def test_a_commit_with_an_unknown_outcome_stops_all_writing_until_a_restart(tmp_path):
    backend = UnsureBackend(tmp_path / "state.db")
    store = await Store.open(backend, tables=TABLES, clock=VirtualClock())
    backend.unsure, backend.hidden = 1, True
    with pytest.raises(CommitFailedError):
        await store.update(lambda tx: tx.put(THINGS, Thing(name="a")), cause="test")
    with pytest.raises(CommitFailedError, match="unable to open"):
        await store.update(lambda tx: tx.put(THINGS, Thing(name="b")), cause="test")
    assert not backend.path.exists()
    backend.path.with_name("hidden").rename(backend.path)
    for _ in range(2):
        with pytest.raises(CommitFailedError, match="at revision 1, not at 0 as expected: restart"):
            await store.update(lambda tx: tx.put(THINGS, Thing(name="b")), cause="test")
    assert await store.view(lambda r: list(r.scan(THINGS))) == []
    await store.close()
    store = await Store.open(backend, tables=TABLES, clock=VirtualClock())
    assert await store.view(lambda r: [thing.name for thing in r.scan(THINGS)]) == ["a"]
    await store.close()


async def test_a_wal_torn_anywhere_gives_a_whole_state(tmp_path):
    """What a power cut may leave: the file as of some sync, the log cut at any byte. Some transactions are missing, none is half there."""
    path = tmp_path / "state.db"
    kill_after(start_writer(path, 9), 300)
    whole = path.with_name("state.db-wal").read_bytes()
    revisions = []
    for cut in range(0, len(whole), len(whole) // 25):
        torn = tmp_path / f"torn-{cut}.db"
        shutil.copy(path, torn)
        torn.with_name(torn.name + "-wal").write_bytes(whole[:cut])
        store = await Store.open(SqliteBackend(torn), tables=TABLES, clock=VirtualClock())
        verdict = await store.journal.verify()
        assert (verdict.problem, verdict.entries) == ("", store.revision)
        things = await store.view(lambda r: list(r.scan(THINGS)))
        assert sum(thing.size for thing in things) == 1_000_000 * len(things)
        revisions.append(store.revision)
        await store.close()
    assert revisions == sorted(revisions)
    assert revisions[0] < revisions[-1]


async def test_a_second_process_is_refused_and_told_the_pid(tmp_path):
    path = tmp_path / "state.db"
    writer = start_writer(path, 1)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    with pytest.raises(StoreLockedError, match=f"process {writer.pid};") as raised:
        await Store.open(SqliteBackend(path), tables=TABLES, clock=VirtualClock())
    assert raised.value.pid == writer.pid
    kill_after_said = writer.stdout.readline()
    assert kill_after_said
    writer.kill()
    writer.wait()
    writer.stdout.close()
    await (await Store.open(SqliteBackend(path), tables=TABLES, clock=VirtualClock())).close()


def test_a_lock_names_its_holder_and_can_be_taken_again(tmp_path):
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    one.take()
    with pytest.raises(StoreLockedError):
        two.take()
    one.release()
    one.release()
    two.take()
    two.release()


async def twelve_entries(path: Path) -> None:
    store = await Store.open(SqliteBackend(path), tables=TABLES, clock=VirtualClock())
    for size in range(12):
        await store.update(lambda tx, size=size: tx.put(THINGS, Thing(name="a", size=size, blob=bytes(50))), cause=f"number {size}")
    await store.close()


def flip(position: int) -> Callable[[sqlite3.Connection], None]:
    def tamper(file: sqlite3.Connection) -> None:
        payload = bytearray(file.execute("SELECT payload FROM journal WHERE revision = 7").fetchone()[0])
        payload[position] ^= 1
        file.execute("UPDATE journal SET payload = ? WHERE revision = 7", (bytes(payload),))

    return tamper


def run(*statements: str) -> Callable[[sqlite3.Connection], None]:
    def tamper(file: sqlite3.Connection) -> None:
        for statement in statements:
            file.execute(statement)

    return tamper


SWAP = "UPDATE journal SET revision = CASE revision WHEN -4 THEN 5 WHEN -5 THEN 4 END WHERE revision < 0"
TAMPERINGS = {
    "an edit of the last byte": (flip(-1), 7, "edited"),
    "an edit in the middle": (flip(50), 7, ""),
    "an edit of the hash of the entry before": (flip(5), 7, "edited"),
    "an edit of the hash": (run("UPDATE journal SET hash = zeroblob(32) WHERE revision = 7"), 7, "edited"),
    "a payload that is no entry": (run("UPDATE journal SET payload = x'00' WHERE revision = 7"), 7, "edited"),
    "a lost entry": (run("DELETE FROM journal WHERE revision = 7"), 7, "missing"),
    "the first lost": (run("DELETE FROM journal WHERE revision = 1"), 1, "missing"),
    "the last lost": (run("DELETE FROM journal WHERE revision = 12"), 12, "missing"),
    "all lost": (run("DELETE FROM journal"), 1, "missing"),
    "the last two lost and the head moved back without its hash": (
        run("DELETE FROM journal WHERE revision > 10", "UPDATE head SET revision = 10"),
        10,
        "replaced",
    ),
    "an entry lost and the later ones moved up": (
        run("DELETE FROM journal WHERE revision = 7", "UPDATE journal SET revision = revision - 1 WHERE revision > 7"),
        7,
        "out of order",
    ),
    "two swapped": (run("UPDATE journal SET revision = -revision WHERE revision IN (4, 5)", SWAP), 4, "out of order"),
    "one repeated at the end": (run("INSERT INTO journal SELECT 13, payload, hash FROM journal WHERE revision = 3"), 13, "behind the head"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_verify_names_the_position_of_every_tampering(tmp_path, name):
    tamper, position, word = TAMPERINGS[name]
    path = tmp_path / "state.db"
    await twelve_entries(path)
    backend = SqliteBackend(path)
    assert (await verify(backend)).problem == ""
    with closing(sqlite3.connect(path)) as file:
        tamper(file)
        file.commit()
    verdict = await verify(backend)
    assert verdict.revision == position
    assert word in verdict.problem
    assert str(position) in verdict.problem


async def test_verify_finds_an_entry_that_was_replaced_together_with_its_hash(tmp_path):
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    await twelve_entries(one)
    store = await Store.open(SqliteBackend(two), tables=TABLES, clock=VirtualClock())
    for size in range(12):
        await store.update(lambda tx, size=size: tx.put(THINGS, Thing(name="another", size=size)), cause="forged")
    await store.close()
    with closing(sqlite3.connect(one)) as file:
        file.execute("ATTACH DATABASE ? AS forged", (str(two),))
        file.execute("REPLACE INTO journal SELECT * FROM forged.journal WHERE revision = 12")
        file.commit()
    verdict = await verify(SqliteBackend(one))
    assert verdict.problem
    assert verdict.revision in (11, 12)


async def test_the_file_has_one_row_an_entry_and_one_write_a_row(tmp_path):
    path = tmp_path / "state.db"
    await twelve_entries(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*), min(typeof(payload)), max(typeof(payload)) FROM journal").fetchone() == (12, "blob", "blob")
        assert file.execute("SELECT id, version, revision FROM things").fetchall() == [(1, 1, 12)]
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert not file.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()


async def test_each_commit_is_synced(tmp_path):
    """A power cut cannot be had here, so this looks at the setting that survives one."""
    backend = SqliteBackend(tmp_path / "state.db")
    await backend.load(("things",))
    assert backend._connection is not None
    assert backend._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert [oct(path.stat().st_mode & 0o777) for path in sorted(tmp_path.iterdir())] == ["0o600"] * 4  # the file, its WAL and index, its lock
    await backend.close()


@pytest.mark.parametrize(("place", "why"), [("missing/store.db", "No such file or directory"), ("", "directory"), ("text", "not a database")])
async def test_what_is_no_store_is_refused_with_its_reason(tmp_path, place, why):
    (tmp_path / "text").write_text("no database, but long enough to be looked at\n" * 100)
    with pytest.raises(StoredFormError, match=f"cannot be used as the store: .*{why}"):
        await SqliteBackend(tmp_path / place).load(("clusters",))
    assert (tmp_path / "text").read_text().startswith("no database")


async def test_a_file_of_a_newer_program_is_refused(tmp_path):
    path = tmp_path / "state.db"
    await twelve_entries(path)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(StoredFormError, match="newer program"):
        await Store.open(SqliteBackend(path), tables=TABLES, clock=VirtualClock())
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 1")
        file.execute("UPDATE things SET version = 2")
        file.commit()
    with pytest.raises(StoredFormError, match="things: stored in version 2"):
        await Store.open(SqliteBackend(path), tables=TABLES, clock=VirtualClock())
    with pytest.raises(StoredFormError, match="journal"):
        await Store.open(SqliteBackend(path), tables=(Table("journal", Thing, lambda r: r.name),), clock=VirtualClock())


async def test_the_wal_stays_small_under_constant_writing(tmp_path, monkeypatch):
    from homeport.store import sqlite as module

    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 500_000)
    path = tmp_path / "state.db"
    store = await Store.open(SqliteBackend(path), tables=TABLES, clock=VirtualClock())
    largest = 0
    for number in range(1_500):
        await store.update(lambda tx, number=number: tx.put(THINGS, Thing(name=str(number), blob=bytes(3_000))), cause="test")
        largest = max(largest, path.with_name("state.db-wal").stat().st_size)
    assert largest < 20_000_000  # without checkpoints it would be 60 MB
    await store.close()
    assert not path.with_name("state.db-wal").exists()
