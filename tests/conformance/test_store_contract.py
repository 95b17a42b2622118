"""The store's contract, on every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from homeport.errors import (
    CommitFailedError,
    InvalidTransitionError,
    JournalPrunedError,
    StoreClosedError,
    StoreLockedError,
    TransactionTooLargeError,
    WatchLostError,
)
from homeport.store import watch as watch_module
from homeport.store.backend import Backend
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.table import Change, Reader, Transaction
from homeport.testing.store import OTHERS, THINGS, GatedBackend, Part, Tally, Thing
from homeport.virtual_clock import START, VirtualClock

TABLES = (THINGS, OTHERS)


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
    """A function that gives a backend on the same state each time."""
    if request.param == "memory":
        memory = MemoryBackend()
        yield lambda: memory
    else:
        yield lambda: SqliteBackend(tmp_path / "state.db")


async def opened(backend: Backend, clock: VirtualClock | None = None, **options: Any) -> Store:
    return await Store.open(backend, tables=TABLES, clock=clock or VirtualClock(), **options)


def put(*things: Thing) -> Callable[[Transaction], None]:
    def function(tx: Transaction) -> None:
        for thing in things:
            tx.put(THINGS, thing)

    return function


def names(reader: Reader) -> list[str]:
    return [thing.name for thing in reader.scan(THINGS)]


async def test_what_was_updated_is_viewed_and_found_after_a_restart(backend):
    store = await opened(backend())
    thing = Thing(name="a", color="red", size=3, labels=("x", "y"), blob=b"\0\xff", parts=(Part(name="p", weight=1.5),))
    assert await store.update(lambda tx: (tx.put(THINGS, thing), tx.revision, "answer")[2], cause="test") == "answer"
    assert store.revision == 1
    for current in (store, None):
        if current is None:
            await store.close()
            store = await opened(backend())
        assert await store.view(lambda r: r.get(THINGS, "a")) == thing
        assert await store.view(lambda r: (r.get(OTHERS, "a"), r.get(THINGS, "b"))) == (None, None)
        assert await store.view(lambda r: r.revision) == store.revision == 1
        assert await store.view(lambda r: [t.name for t in r.find(THINGS, "label", "y")]) == ["a"]
        assert store.stats.records == {"things": 1, "others": 0}
    await store.close()


async def test_reads_are_in_key_order_and_can_go_on_after_a_key(backend):
    store = await opened(backend())
    for name in ("b/2", "a", "c", "b/10", "b", "b/1"):
        await store.update(put(Thing(name=name, color="red" if name != "c" else "blue")), cause="test")
    assert await store.view(names) == ["a", "b", "b/1", "b/10", "b/2", "c"]
    assert await store.view(lambda r: [t.name for t in r.scan(THINGS, "b/")]) == ["b/1", "b/10", "b/2"]
    assert await store.view(lambda r: [t.name for t in r.scan(THINGS, "b/", after="b/1")]) == ["b/10", "b/2"]
    assert await store.view(lambda r: [t.name for t in r.scan(THINGS, after="b/2")]) == ["c"]
    assert await store.view(lambda r: [t.name for t in r.find(THINGS, "color", "red", after="b/1")]) == ["b/10", "b/2"]
    assert await store.view(lambda r: (r.count(THINGS, "color", "red"), r.count(THINGS, "color", "green"))) == (5, 0)
    with pytest.raises(KeyError):
        await store.view(lambda r: r.count(THINGS, "no such index", ""))
    await store.close()


async def test_a_transaction_sees_its_own_writes(backend):
    store = await opened(backend())
    await store.update(put(Thing(name="a", color="red"), Thing(name="b", color="red")), cause="test")

    def function(tx: Transaction) -> list[Any]:
        seen: list[Any] = []
        for thing in tx.find(THINGS, "color", "red"):
            tx.put(THINGS, replace(thing, color="blue"))
            seen.append((tx.count(THINGS, "color", "red"), tx.count(THINGS, "color", "blue")))
        tx.delete(THINGS, "a")
        tx.delete(THINGS, "never was")
        tx.put(THINGS, Thing(name="c"))
        seen.append(names(tx))
        tx.put(THINGS, Thing(name="a", color="green"))
        seen.append(tx.get(THINGS, "a"))
        return seen

    assert await store.update(function, cause="test") == [(1, 1), (0, 2), ["b", "c"], Thing(name="a", color="green")]
    await store.close()
    store = await opened(backend())
    assert await store.view(lambda r: list(r.scan(THINGS))) == [Thing(name="a", color="green"), Thing(name="b", color="blue"), Thing(name="c")]
    await store.close()


async def test_an_exception_undoes_everything(backend):
    tally = Tally()
    store = await opened(backend(), derived=(tally,))
    await store.update(put(Thing(name="a", color="red"), Thing(name="b", color="red")), cause="test")
    before = dict(tally.records)

    def function(tx: Transaction) -> None:
        tx.put(THINGS, Thing(name="a", color="blue"))
        tx.put(THINGS, Thing(name="a", color="green"))
        tx.delete(THINGS, "b")
        tx.put(THINGS, Thing(name="b", size=7))
        tx.put(OTHERS, Thing(name="new"))
        tx.delete(THINGS, "a")
        raise LookupError("changed my mind")

    with pytest.raises(LookupError, match="changed my mind"):
        await store.update(function, cause="test")
    assert tally.records == before
    assert await store.view(lambda r: [t.name for t in r.find(THINGS, "color", "red")]) == ["a", "b"]
    assert await store.view(lambda r: (r.count(THINGS, "color", "blue"), r.count(THINGS, "color", "green"), list(r.scan(OTHERS)))) == (0, 0, [])
    assert store.revision == 1
    await store.update(put(Thing(name="c")), cause="test")
    await store.close()
    store = await opened(backend())
    assert await store.view(names) == ["a", "b", "c"]
    assert (await store.journal.verify()).problem == ""
    await store.close()


async def test_a_guard_refuses_the_whole_transaction(backend):
    store = await opened(backend())
    await store.update(put(Thing(name="a", color="nailed")), cause="test")
    with pytest.raises(InvalidTransitionError, match="size may not be -1"):
        await store.update(put(Thing(name="b"), Thing(name="c", size=-1)), cause="test")
    with pytest.raises(InvalidTransitionError, match="nailed down"):
        await store.update(lambda tx: (tx.put(THINGS, Thing(name="b")), tx.delete(THINGS, "a")), cause="test")
    assert await store.view(names) == ["a"]
    await store.close()


async def test_no_writes_make_no_revision(backend):
    store = await opened(backend())
    await store.update(put(Thing(name="a")), cause="test")
    assert await store.update(lambda tx: tx.get(THINGS, "a"), cause="test") == Thing(name="a")
    await store.update(put(Thing(name="a")), cause="the same again")
    await store.update(lambda tx: (tx.put(THINGS, Thing(name="b")), tx.delete(THINGS, "b")), cause="there and away")
    await store.update(lambda tx: (tx.put(THINGS, Thing(name="a", size=2)), tx.put(THINGS, Thing(name="a"))), cause="forth and back")
    await store.update(lambda tx: (tx.delete(THINGS, "a"), tx.put(THINGS, Thing(name="a"))), cause="away and there")
    assert store.revision == 1
    assert len(await store.journal.entries()) == 1
    await store.close()


async def test_a_transaction_has_at_most_100_records_and_1_mib(backend):
    tally = Tally()
    store = await opened(backend(), derived=(tally,))
    hundred = [Thing(name=f"{number:03}") for number in range(100)]
    await store.update(put(*hundred), cause="test")
    with pytest.raises(TransactionTooLargeError, match="101 records"):
        await store.update(put(*[replace(thing, size=1) for thing in hundred], Thing(name="one more")), cause="test")
    with pytest.raises(TransactionTooLargeError, match="bytes"):
        await store.update(put(Thing(name="x", blob=bytes(600_000)), Thing(name="y", blob=bytes(600_000))), cause="test")
    await store.update(put(Thing(name="z", blob=bytes(1_000_000))), cause="test")
    assert (await store.view(names))[-2:] == ["099", "z"]
    assert len(tally.records) == 101
    assert store.revision == 2
    await store.close()


async def test_a_record_that_has_no_stored_form_or_no_key_is_undone(backend):
    store = await opened(backend())
    with pytest.raises(ValueError, match="key may not be empty"):
        await store.update(put(Thing(name="a"), Thing(name="")), cause="test")
    with pytest.raises(TypeError):
        await store.update(put(Thing(name="a"), Thing(name="b", size=object())), cause="test")
    assert await store.view(names) == []
    await store.close()


async def test_a_transaction_is_dead_after_its_function(backend):
    store = await opened(backend())
    escaped: list[Transaction] = []
    await store.update(escaped.append, cause="test")
    with pytest.raises(StoreClosedError):
        escaped[0].put(THINGS, Thing(name="a"))
    with pytest.raises(StoreClosedError):
        escaped[0].delete(THINGS, "a")
    await store.close()


async def test_now_grows_over_transactions_and_restarts_even_when_the_clock_goes_back(backend):
    clock = VirtualClock()
    store = await opened(backend(), clock)
    instants = [await store.update(lambda tx, n=n: (tx.put(THINGS, Thing(name=str(n))), tx.now)[1], cause="test") for n in range(3)]
    assert instants[0] == START
    clock = VirtualClock(START - 1_000)
    await store.close()
    store = await opened(backend(), clock)
    instants.append(await store.update(lambda tx: (tx.put(THINGS, Thing(name="x")), tx.now, tx.now)[1], cause="test"))
    assert instants == sorted(set(instants))
    assert instants[-1] - instants[0] < 1e-4
    await clock.advance(2_000)
    assert await store.update(lambda tx: tx.now, cause="test") == START + 1_000
    await store.close()


async def test_later_transactions_see_earlier_ones_at_once_and_share_a_commit(backend):
    gated = GatedBackend(backend())
    store = await opened(gated)

    def count_up(tx: Transaction) -> int:
        size = (tx.get(THINGS, "counter") or Thing(name="counter")).size + 1
        tx.put(THINGS, Thing(name="counter", size=size))
        return size

    answers = await asyncio.gather(*(store.update(count_up, cause="test") for _ in range(300)))
    assert answers == list(range(1, 301))
    assert gated.commits[0] == 300
    assert len(await store.journal.entries(1, 1000)) == 300
    await store.close()
    store = await opened(backend())
    assert await store.view(lambda r: [t.size for t in r.scan(THINGS)]) == [300]
    await store.close()


async def test_a_batch_is_bounded(backend):
    gated = GatedBackend(backend())
    store = await opened(gated)
    await asyncio.gather(*(store.update(put(Thing(name=str(number))), cause="test") for number in range(4_500)))
    await asyncio.gather(*(store.update(put(Thing(name=str(number), blob=bytes(500_000))), cause="test") for number in range(40)))
    assert gated.commits[:3] == [2_000, 2_000, 500]
    assert max(gated.commits[3:]) <= 17
    assert sum(gated.commits) == store.revision == 4_540
    await store.close()


async def test_answers_leave_only_when_durable(backend):
    gated = GatedBackend(backend())
    store = await opened(gated)
    watch = store.watch()
    gated.gate.clear()
    update = asyncio.create_task(store.update(put(Thing(name="a")), cause="test"))
    await asyncio.sleep(0)
    view = asyncio.create_task(store.view(names))
    read_only = asyncio.create_task(store.update(names, cause="test"))
    failing = asyncio.create_task(store.update(lambda tx: 1 // len([t for t in tx.scan(THINGS) if t.name == "b"]), cause="test"))
    following = asyncio.create_task(watch.__anext__())
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (update, view, read_only, failing, following))
    assert store.revision == 0
    gated.gate.set()
    assert await view == await read_only == ["a"]
    with pytest.raises(ZeroDivisionError):
        await failing
    await update
    assert (await following).revision == store.revision == 1
    await store.close()


async def test_a_view_of_durable_state_does_not_wait(backend):
    store = await opened(backend())
    await store.update(put(Thing(name="a")), cause="test")
    view = store.view(names)
    with pytest.raises(StopIteration) as answer:
        view.send(None)
    assert answer.value.value == ["a"]
    await store.close()


async def test_a_failed_commit_takes_back_everything_behind_it(backend):
    tally = Tally()
    gated = GatedBackend(backend())
    store = await opened(gated, derived=(tally,))
    await store.update(put(Thing(name="a", color="red"), Thing(name="b", color="red")), cause="test")
    records, watch = dict(tally.records), store.watch()
    gated.gate.clear()
    gated.failure = "the disk is full"
    updates = [asyncio.create_task(store.update(put(Thing(name="a", color="blue"), Thing(name="c")), cause="first batch"))]
    await asyncio.sleep(0.01)
    for function in (
        lambda tx: tx.delete(THINGS, "a"),
        put(Thing(name="a", color="green")),
        put(Thing(name="c", size=5)),
        lambda tx: (tx.delete(THINGS, "c"), tx.delete(THINGS, "b")),
    ):
        updates.append(asyncio.create_task(store.update(function, cause="next batch")))
        await asyncio.sleep(0)
    view = asyncio.create_task(store.view(names))
    read_only = asyncio.create_task(store.update(names, cause="test"))
    failing = asyncio.create_task(store.update(lambda tx: 1 // 0, cause="test"))
    await asyncio.sleep(0)
    gated.gate.set()
    for update in (*updates, read_only, failing):
        with pytest.raises(CommitFailedError) as raised:
            await update
        assert raised.value.temporary
    assert await view == ["a", "b"]
    assert gated.commits == [1, 1]
    assert tally.records == records
    assert store.revision == 1
    gated.failure = ""
    await store.update(put(Thing(name="d", color="red")), cause="after it")
    assert store.revision == 2
    assert [change.key for change in (await watch.__anext__()).changes] == ["d"]
    for _ in range(2):
        assert await store.view(lambda r: [t.name for t in r.find(THINGS, "color", "red")]) == ["a", "b", "d"]
        assert [(change.kind, change.revision) for change in await store.journal.story(THINGS, "a")] == [("create", 1)]
        assert (await store.journal.verify()).problem == ""
        await store.close()
        store = await opened(backend())
    await store.close()


async def test_a_cancelled_caller_disturbs_nobody(backend):
    gated = GatedBackend(backend())
    store = await opened(gated)
    gated.gate.clear()
    updates = [asyncio.create_task(store.update(put(Thing(name=str(number))), cause="test")) for number in range(3)]
    await asyncio.sleep(0)
    updates[1].cancel()
    await asyncio.sleep(0)
    gated.gate.set()
    results = await asyncio.gather(*updates, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
    assert await store.view(names) == ["0", "1", "2"]
    await store.close()


async def test_watch_gives_every_durable_commit_in_order(backend):
    clock = VirtualClock()
    store = await opened(backend(), clock)
    await store.update(put(Thing(name="before")), cause="test")
    watch = store.watch()
    await asyncio.gather(*(store.update(put(Thing(name=str(number))), cause=f"cause {number}") for number in range(50)))
    await store.update(lambda tx: (tx.delete(THINGS, "7"), tx.put(OTHERS, Thing(name="7")), tx.put(OTHERS, Thing(name="7", size=1))), cause="move")
    commits = [await watch.__anext__() for _ in range(51)]
    assert [commit.revision for commit in commits] == list(range(2, 53))
    assert [commit.cause for commit in commits[:2]] == ["cause 0", "cause 1"]
    assert commits[0].changes == (Change("things", "0", None, Thing(name="0")),)
    assert commits[0].now > START
    assert commits[-1].changes == (Change("things", "7", Thing(name="7"), None), Change("others", "7", None, Thing(name="7", size=1)))
    assert [commit.revision for commit in await store.watch(50).take()] == [51, 52]
    assert [commit.revision for commit in await store.watch(0).take()] == list(range(1, 53))
    watch.close()
    assert [commit async for commit in watch] == []
    await store.close()


async def test_a_watch_ends_with_the_store_and_starts_at_what_is_kept(backend):
    store = await opened(backend())
    await store.update(put(Thing(name="a")), cause="test")
    watch = store.watch()
    await store.update(put(Thing(name="b")), cause="test")
    await store.close()
    assert [commit.revision async for commit in watch] == [2]
    store = await opened(backend())
    with pytest.raises(WatchLostError):
        store.watch(0)
    watch = store.watch(2)
    await store.update(put(Thing(name="c")), cause="test")
    assert (await watch.__anext__()).revision == 3
    await store.close()


async def test_a_watch_that_falls_behind_is_lost(backend, monkeypatch):
    store = await opened(backend())
    slow = watch_module.Watch(store._watches, commits_max=5)
    for number in range(6):
        await store.update(put(Thing(name=str(number))), cause="test")
    with pytest.raises(WatchLostError):
        await slow.__anext__()
    assert slow not in store._watches
    await store.close()


async def test_the_journal_has_changed_fields_and_full_records(backend):
    store = await opened(backend())
    for size in range(40):
        await store.update(put(Thing(name="a", color="red", size=size, parts=(Part(name="p"),))), cause=f"request {size}")
    entries = await store.journal.entries(1, 1000)
    changes = [entry.changes[0] for entry in entries]
    assert [entry.revision for entry in entries] == list(range(1, 41))
    assert [entry.cause for entry in entries] == [f"request {size}" for size in range(40)]
    assert [change.previous for change in changes] == list(range(40))
    assert [number for number, change in enumerate(changes) if change.record is not None] == [0, 16, 32]
    assert [(field.name, field.value) for field in changes[20].fields] == [("size", 20)]
    assert len(changes[1].fields) == 1
    await store.close()


async def test_a_record_s_story_is_told_over_restarts_and_deletions(backend):
    store = await opened(backend())
    await store.update(put(Thing(name="a", parts=(Part(name="p"),)), Thing(name="b")), cause="1")
    await store.update(put(Thing(name="a", size=2, parts=(Part(name="q", weight=2.5),))), cause="2")
    await store.update(put(Thing(name="b", size=3)), cause="3")
    await store.close()
    store = await opened(backend())
    await store.update(put(Thing(name="a", size=4)), cause="4")
    await store.update(lambda tx: tx.delete(THINGS, "a"), cause="5")
    await store.update(put(Thing(name="a", color="again")), cause="6")
    await store.update(lambda tx: (tx.delete(THINGS, "a"), tx.put(THINGS, Thing(name="a", color="swapped"))), cause="7")
    story = await store.journal.story(THINGS, "a")
    assert [(change.revision, change.kind, change.cause) for change in story] == [
        (1, "create", "1"),
        (2, "update", "2"),
        (4, "update", "4"),
        (5, "delete", "5"),
        (6, "create", "6"),
        (7, "update", "7"),
    ]
    states = [
        Thing(name="a", parts=(Part(name="p"),)),
        Thing(name="a", size=2, parts=(Part(name="q", weight=2.5),)),
        Thing(name="a", size=4),
        None,
        Thing(name="a", color="again"),
        Thing(name="a", color="swapped"),
    ]
    assert [change.record for change in story] == states
    assert [name for name, _ in story[1].fields] == ["size", "parts"]
    at = [await store.journal.record_at(THINGS, "a", revision) for revision in range(9)]
    assert at == [None, states[0], states[1], states[1], states[2], None, states[4], states[5], states[5]]
    assert [thing.name for thing in await store.journal.records_at(THINGS, 4)] == ["a", "b"]
    assert await store.journal.records_at(THINGS, 5) == [Thing(name="b", size=3)]
    assert await store.journal.records_at(THINGS, 0) == []
    await store.close()


async def test_the_journal_is_pruned_to_an_anchor(backend):
    clock = VirtualClock()
    store = await opened(backend(), clock)
    for number in range(10):
        await clock.advance(10)
        await store.update(put(Thing(name="a", size=number), Thing(name=str(number))), cause="test")
    await store.update(lambda tx: tx.delete(THINGS, "0"), cause="test")
    assert await store.prune_journal(before=START + 50) == 4
    assert await store.prune_journal(before=START + 50) == 0
    assert [entry.revision for entry in await store.journal.entries()] == list(range(5, 12))
    assert (await store.journal.verify()).entries == 7
    assert [change.revision for change in await store.journal.story(THINGS, "a")] == list(range(5, 11))
    with pytest.raises(JournalPrunedError):
        await store.journal.record_at(THINGS, "a", 3)
    with pytest.raises(JournalPrunedError):
        await store.journal.records_at(THINGS, 3)
    assert await store.prune_journal(before=START + 1e6) == 7
    assert (await store.journal.verify()).problem == ""
    await store.close()
    store = await opened(backend(), clock)
    await store.update(put(Thing(name="a", size=99)), cause="test")
    assert (await store.journal.verify()).entries == 1
    assert [change.record for change in await store.journal.story(THINGS, "a")] == [Thing(name="a", size=99)]
    await store.close()


async def test_two_stores_never_share_a_backend(backend):
    one = backend()
    store = await opened(one)
    with pytest.raises(StoreLockedError):
        await opened(backend())
    await store.update(put(Thing(name="a")), cause="still works")
    await store.close()
    await (await opened(backend())).close()


async def test_close_makes_durable_what_waits(backend):
    gated = GatedBackend(backend())
    store = await opened(gated)
    gated.gate.clear()
    updates = [asyncio.create_task(store.update(put(Thing(name=str(number))), cause="test")) for number in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreClosedError):
        await store.update(put(Thing(name="late")), cause="test")
    with pytest.raises(StoreClosedError):
        await store.view(names)
    gated.gate.set()
    await closing
    await asyncio.gather(*updates)
    store = await opened(backend())
    assert await store.view(names) == ["0", "1", "2"]
    await store.close()


async def test_the_journal_is_kept_at_a_size(backend):
    store = await opened(backend())
    for number in range(400):
        await store.update(put(Thing(name=str(number), blob=bytes(1_000 if number < 200 else 100))), cause="test")
    payloads = [len(entry.payload) for entry in await store._backend.entries(1, 1_000)]
    assert await store.prune_journal_to(10 * sum(payloads)) == 0
    wanted = sum(payloads[300:]) + 48 * 100
    assert 250 < await store.prune_journal_to(wanted) < 350
    (anchor, head) = await store._backend.ends()
    left = sum(payloads[anchor.revision :])
    assert 0.8 * wanted < left + 48 * (head.revision - anchor.revision) < 1.2 * wanted
    assert await store.prune_journal_to(wanted) <= 1
    assert not (await store.journal.verify()).problem
    await store.close()


async def test_a_journal_is_verified_while_it_grows_and_is_pruned(backend):
    store = await opened(backend())
    done = False

    async def write() -> None:
        number = 0
        while not done:
            await asyncio.gather(*(store.update(put(Thing(name=str(number + n))), cause="test") for n in range(10)))
            number += 10
            if number % 200 == 0:
                anchor, head = await store._backend.ends()
                await store._prune_through((anchor.revision + head.revision) // 2)

    writing = asyncio.create_task(write())
    try:
        for number in range(30):
            await store.update(put(Thing(name="mine", size=number)), cause="test")
            verdict = await store.journal.verify()
            assert not verdict.problem
    finally:
        done = True
        await writing
    assert (await store.journal.verify()).entries > 0
    await store.close()
