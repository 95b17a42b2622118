"""A server's own file of journal entries: what may be put into it, what is read from it and etcd together, and what etcd need not keep."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.config import Settings
from homeport.errors import ServiceUnavailableError
from homeport.store.backend import Anchor, Head, StoredEntry
from homeport.store.etcd.journal_copies import Copy, held_by_all, to_trim
from homeport.store.etcd.journal_copy import JournalCopy
from homeport.store.journal import difference, verify
from homeport.store.journal_chain import ChainError, require_chain
from homeport.store.journal_file import JournalFile
from homeport.store.journal_join import JoinedJournal
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.testing.store import THINGS, Thing
from homeport.virtual_clock import VirtualClock


class Etcd(MemoryBackend):
    """In the place of etcd's journal: entries of a real store, trimmed at will."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock

    async def written(self, count: int, *, color: str = "") -> None:
        store = await Store.open(self, tables=(THINGS,), clock=self.clock)
        for number in range(count):
            await store.update(lambda tx, number=number: tx.put(THINGS, Thing(name=f"{number}", color=color)), cause="test")
        await store.update(lambda tx: tx.delete(THINGS, "0"), cause="test")
        await store.close()

    async def all(self) -> list[StoredEntry]:
        return await self.entries(1, 10_000)


class Others:
    """Another server with a file of its own, or with none that answers."""

    def __init__(self, name: str = "other", entries: list[StoredEntry] | None = None, *, page: int = 3) -> None:
        self.name, self.kept, self.page = name, entries or [], page

    async def holders(self) -> list[Copy]:
        return [Copy(self.name, self.kept[0].revision, self.kept[-1].revision, 0.0)] if self.kept else []

    async def entries(self, holder: str, first: int, last: int, *, newest: bool = False) -> list[StoredEntry]:
        if holder != self.name:
            raise ServiceUnavailableError("away")
        found = [entry for entry in self.kept if first <= entry.revision <= last]
        return found[-self.page :] if newest else found[: self.page]


NOBODY = Others()


def another_story(after: StoredEntry, entries: list[StoredEntry]) -> list[StoredEntry]:
    """As `entries`, each a second later: a chain without a flaw that follows `after` but is another one."""
    told = []
    for entry in entries:
        _, revision, instant, *rest = msgspec.msgpack.decode(entry.payload)
        payload = msgspec.msgpack.encode([after.hash, revision, instant + 1.0, *rest])
        after = StoredEntry(entry.revision, payload, hashlib.sha256(payload).digest())
        told.append(after)
    require_chain(told, Anchor(entries[0].revision - 1, msgspec.msgpack.decode(told[0].payload)[0]))
    return told


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def etcd(clock: VirtualClock) -> Etcd:
    made = Etcd(clock)
    await made.written(11)
    return made


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[JournalFile]:
    made = JournalFile(tmp_path / "journal.sqlite")
    await made.open()
    yield made
    await made.close()


def copier(file: JournalFile, etcd: Etcd, **settings: Any) -> JournalCopy:
    return JournalCopy(file, etcd, Settings(**settings))  # type: ignore[arg-type]  # of the backend it only reads the journal and the clock


async def revisions(file: JournalFile) -> list[int]:
    return [entry.revision for entry in await file.entries(0, 1_000)]


async def test_a_file_takes_what_continues_it_at_either_end_and_nothing_else(file, etcd):
    entries = await etcd.all()
    await file.begin_at(Anchor(entries[3].revision, entries[3].hash))
    await file.append(entries[4:8])
    for wrong in (entries[9:], entries[5:8], [StoredEntry(9, entries[8].payload + b"x", entries[8].hash)], [StoredEntry(9, b"", b"")]):
        with pytest.raises(ChainError):
            await file.append(wrong)
    for wrong in (entries[:3], entries[2:5], [entries[3], entries[2]]):
        with pytest.raises(ChainError):
            await file.extend_back(wrong)
    await file.extend_back(entries[1:4])
    assert await revisions(file) == list(range(2, 9))
    assert (file.anchor.revision, file.head) == (1, (await file.ends())[1])
    assert not (await verify(file)).problem


async def test_what_is_offered_is_written_and_what_was_not_offered_is_read_from_etcd(file, etcd):
    copy = copier(file, etcd)
    entries = await etcd.all()
    copy.offer(entries[:2])
    await copy.step(NOBODY)
    assert await revisions(file) == list(range(1, 13)), "etcd has more than was offered"
    await etcd.written(3, color="red")
    late = (await etcd.all())[12:]
    copy.offer(late[1:])  # one was not told
    await copy.step(NOBODY)
    assert file.head == (await etcd.ends())[1] and not (await difference(file, etcd)).problem
    assert (await file.deletions("things", "0"))[0] == 12


async def test_what_etcd_has_no_more_comes_from_another_server(file, etcd):
    copy = copier(file, etcd)
    entries = await etcd.all()
    await file.append(entries[:3])
    await etcd.prune(8, 100)
    await copy.step(NOBODY)
    assert not copy.met and await revisions(file) == [1, 2, 3], "it waits: there are never holes"
    forged = [*entries[:5], StoredEntry(6, entries[5].payload + b" ", entries[5].hash), *entries[6:]]
    await copy.step(Others(entries=forged))
    assert not copy.met and await revisions(file) == [1, 2, 3], "what does not lead to etcd's anchor does not count"
    await copy.step(Others(entries=[*entries[:3], *another_story(entries[2], entries[3:])]))
    assert not copy.met and await revisions(file) == [1, 2, 3], "nor does a whole chain that leads somewhere else"
    await copy.step(Others(entries=entries[:6]))
    assert not copy.met and await revisions(file) == [1, 2, 3]
    await copy.step(Others(entries=entries))
    assert copy.met and await revisions(file) == list(range(1, 13))
    assert file.gaps() == []


async def test_a_gap_that_nobody_fills_is_remembered_with_its_anchor_and_filled_when_somebody_returns(file, etcd, clock):
    copy = copier(file, etcd, journal_gap_patience_seconds=10.0)
    entries = await etcd.all()
    await file.append(entries[:3])
    await etcd.prune(8, 100)
    await copy.step(NOBODY)
    clock._now += 20
    await copy.step(NOBODY)
    assert copy.met and await revisions(file) == [9, 10, 11, 12]
    (gap,) = file.gaps()
    assert (gap.first, gap.last, gap.hash) == (4, 8, entries[7].hash)
    aside = JournalFile(file.path.with_name(gap.aside))
    assert [entry.revision for entry in await aside.entries(0, 100)] == [1, 2, 3] and not (await verify(aside)).problem
    clock._now += 100
    await copy.step(Others(entries=entries[5:]))
    assert await revisions(file) == list(range(6, 13))
    assert [(gap.first, gap.last, gap.hash) for gap in file.gaps()] == [(4, 5, entries[4].hash)]
    clock._now += 100
    await copy.step(Others(entries=entries))
    assert await revisions(file) == list(range(1, 13)) and file.gaps() == []
    assert not (await verify(file)).problem


@pytest.mark.parametrize("longer", [False, True])
async def test_a_file_of_another_history_is_set_aside(file, etcd, clock, longer):
    other = Etcd(clock)
    await other.written(20 if longer else 5, color="blue")
    await file.append(await other.all())
    copy = copier(file, etcd)
    await copy.step(NOBODY)
    assert file.head == (await etcd.ends())[1] and not (await difference(file, etcd)).problem
    assert file.path.with_name("journal.sqlite.replaced-1").exists()


async def test_a_damaged_file_is_set_aside_and_made_anew(tmp_path):
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"this is no database" * 1_000)
    file = JournalFile(path)
    await file.open()
    assert file.empty and (tmp_path / "journal.sqlite.damaged-1").exists()
    await file.close()


async def test_file_and_etcd_read_as_one_journal(file, etcd):
    entries = await etcd.all()
    await file.append(entries[:9])
    await etcd.prune(6, 100)
    joined = JoinedJournal(file, etcd)
    assert await joined.entries(1, 1_000) == entries
    assert await joined.entries(8, 2) == entries[7:9]
    assert await joined.ends() == (Anchor(), Head(12, *_instant_and_hash(await etcd.ends())))
    assert await joined.deletions("things", "0") == [12] and await joined.deletions_after("things", 0) == [("0", 12)]
    assert not (await verify(joined)).problem
    apart = JoinedJournal(file, etcd, usable=lambda: False)
    assert await apart.entries(1, 1_000) == entries[6:]
    await file.cut_back(Head(4, 0.0, entries[3].hash))
    assert (await joined.ends())[0].revision == 6, "there is a hole between the two"


def _instant_and_hash(ends: tuple[Anchor, Head]) -> tuple[float, bytes]:
    return ends[1].instant, ends[1].hash


async def test_the_first_difference_of_two_histories_is_named(etcd, clock):
    other = Etcd(clock)
    await other.written(4)  # the deletion comes as the fifth
    await other.written(9, color="red")
    verdict = await difference(other, etcd)
    assert verdict.problem and 1 <= verdict.revision <= 5
    assert (await difference(etcd, etcd)).problem == ""


def test_etcd_keeps_what_one_of_those_that_count_lacks():
    copies = [Copy("a", 1, 100, 1000.0), Copy("b", 1, 80, 1000.0), Copy("c", 1, 20, 10.0)]
    assert held_by_all(copies, ["a", "b"], since=500.0) == 80
    assert held_by_all(copies, ["a", "b"], since=5.0) == 20, "not seen for a while, but not for long"
    assert held_by_all(copies, ["a", "b", "c"], since=500.0) == 20, "it lives, and had nothing new to tell"
    assert held_by_all(copies, ["a", "b", "d"], since=500.0) == 0, "it lives and says nothing"
    assert held_by_all([], [], since=0.0) == 0


def test_etcd_is_trimmed_to_its_tail_when_that_is_worth_a_txn():
    assert to_trim(anchor=0, head=1_000, held=1_000, keep=100) == 900
    assert to_trim(anchor=0, head=1_000, held=300, keep=100) == 300
    assert to_trim(anchor=895, head=1_000, held=1_000, keep=100) == 895, "five are not worth it"
    assert to_trim(anchor=0, head=50, held=50, keep=100) == 0
