from __future__ import annotations

import asyncio
import logging

import pytest

from homeport.controllers.loop import Activation, Loop
from homeport.errors import NoQuorumError
from homeport.model.ecs.cluster import Cluster
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import CLUSTERS, TABLES
from homeport.testing import records
from homeport.virtual_clock import VirtualClock


class Recorder:
    """A controller of clusters that notes what it is asked to look at."""

    def __init__(self, name: str, log: list[tuple[str, str]]) -> None:
        self.name = name
        self.log = log
        self.answers: dict[str, Activation] = {}
        self.fail = False

    def keys_of(self, change):
        return (change.key,) if isinstance(change.after, Cluster) else ()

    def keys(self, reader):
        return [cluster.key for cluster in reader.scan(CLUSTERS)]

    def activate(self, tx, key):
        self.log.append((self.name, key.rsplit("/", 1)[1]))
        if self.fail:
            raise RuntimeError("no luck")
        return self.answers.pop(key, Activation())


class Bench:
    def __init__(self, store, clock, loop, recorders, log):
        self.store, self.clock, self.loop, self.recorders, self.log = store, clock, loop, recorders, log

    async def put(self, *names: str, **fields) -> None:
        clusters = [records.cluster(name=name, **fields) for name in names]
        await self.store.update(lambda tx: [tx.put(CLUSTERS, cluster) for cluster in clusters], cause="test")
        await self.clock.settle()

    def taken(self):
        taken, self.log[:] = list(self.log), []
        return taken


@pytest.fixture
async def bench():
    clock = VirtualClock()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)
    log: list[tuple[str, str]] = []
    recorders = [Recorder("first", log), Recorder("second", log)]
    loop = Loop(store=store, controllers=recorders, clock=clock, sweep_seconds=10.0)
    running = asyncio.create_task(loop.run())
    await clock.settle()
    yield Bench(store, clock, loop, recorders, log)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_a_commit_activates_its_keys_once_in_the_controllers_order(bench):
    await bench.put("a", "b")
    assert bench.taken() == [("first", "a"), ("first", "b"), ("second", "a"), ("second", "b")]
    assert bench.loop.idle


async def test_nothing_happens_without_a_change_until_the_sweep(bench):
    await bench.put("a")
    bench.taken()
    await bench.clock.advance(9.9)
    assert bench.taken() == []
    await bench.clock.advance(0.2)
    assert bench.taken() == [("first", "a"), ("second", "a")]


async def test_a_key_is_activated_when_it_asked_to_be(bench):
    bench.recorders[0].answers["123456789012/a"] = Activation(wake_at=bench.clock.now() + 3.0)
    await bench.put("a")
    bench.taken()
    await bench.clock.advance(2.9)
    assert bench.taken() == []
    await bench.clock.advance(0.1)
    assert bench.taken() == [("first", "a")]


async def test_only_the_newest_wish_to_wake_counts(bench):
    key = "123456789012/a"
    bench.recorders[0].answers[key] = Activation(wake_at=bench.clock.now() + 3.0)
    await bench.put("a")
    bench.recorders[0].answers[key] = Activation(wake_at=bench.clock.now() + 5.0)
    await bench.put("a", status="INACTIVE")
    bench.taken()
    await bench.clock.advance(4.0)
    assert bench.taken() == []
    await bench.clock.advance(1.0)
    assert bench.taken() == [("first", "a")]


async def test_an_activation_may_mark_keys_of_others(bench):
    bench.recorders[0].answers["123456789012/a"] = Activation(mark=(("second", "123456789012/z"), ("absent", "x")))
    await bench.put("a")
    assert bench.taken() == [("first", "a"), ("second", "a"), ("second", "z")]


async def test_a_failure_is_noted_and_the_sweep_is_the_retry(bench, caplog):
    caplog.set_level(logging.CRITICAL, logger="homeport.controllers")
    bench.recorders[0].fail = True
    await bench.put("a")
    assert bench.taken() == [("first", "a"), ("second", "a")]
    first, second = bench.loop.status()
    assert (first.errors, first.last_error) == (1, "123456789012/a: no luck")
    assert (second.errors, second.activations, second.last_key) == (0, 1, "123456789012/a")
    bench.recorders[0].fail = False
    await bench.clock.advance(10.1)
    assert bench.taken() == [("first", "a"), ("second", "a")]
    assert bench.loop.status()[0].errors == 1


async def test_at_start_every_key_is_looked_at(bench):
    await bench.put("a", "b")
    bench.taken()
    again = Loop(store=bench.store, controllers=bench.recorders, clock=bench.clock, sweep_seconds=10.0)
    running = asyncio.create_task(again.run())
    await bench.clock.settle()
    assert bench.taken() == [("first", "a"), ("first", "b"), ("second", "a"), ("second", "b")]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_loop_ends_with_the_store():
    clock = VirtualClock()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)
    running = asyncio.create_task(Loop(store=store, controllers=[], clock=clock, sweep_seconds=10.0).run())
    await clock.settle()
    await store.close()
    await clock.settle()
    assert running.done()
    running.result()


async def test_every_activation_says_its_cause(bench):
    class Renamer(Recorder):
        def activate(self, tx, key):
            tx.put(CLUSTERS, records.cluster(name=key.rsplit("/", 1)[1], status="INACTIVE"))
            return Activation()

    causes = []
    watch = bench.store.watch()
    loop = Loop(store=bench.store, controllers=[Renamer("renamer", [])], clock=bench.clock, sweep_seconds=10.0)
    running = asyncio.create_task(loop.run())
    await bench.put("a")
    watch.close()
    async for commit in watch:
        causes.append(commit.cause)
    assert causes == ["test", "controller/renamer 123456789012/a"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_changed_does_not_wait_for_a_sweep(bench):
    names = [f"c{number:03d}" for number in range(900)]
    for start in range(0, 900, 90):
        await bench.put(*names[start : start + 90])
    bench.taken()
    changed = asyncio.Event()

    class Changer(Recorder):
        def activate(self, tx, key):
            if not changed.is_set():
                changed.set()
                tx.put(CLUSTERS, records.cluster(name="c899", status="INACTIVE"))
            return super().activate(tx, key)

    log: list[tuple[str, str]] = []
    loop = Loop(store=bench.store, controllers=[Changer("only", log)], clock=bench.clock, sweep_seconds=10.0)
    running = asyncio.create_task(loop.run())
    await bench.clock.settle()
    order = [name for _, name in log]
    assert sorted(order) == names  # each once: the change took its key out of the sweep
    assert order.index("c899") < 800
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_wall_clock_that_is_set_back_does_not_stop_the_sweep():
    class Uneven(VirtualClock):
        offset = 0.0

        def now(self) -> float:
            return super().now() + self.offset

    clock, log = Uneven(), []
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)
    await store.update(lambda tx: tx.put(CLUSTERS, records.cluster(name="a")), cause="test")
    running = asyncio.create_task(Loop(store=store, controllers=[Recorder("only", log)], clock=clock, sweep_seconds=10.0).run())
    await clock.settle()
    log.clear()
    clock.offset = -3600.0
    await clock.advance(21.0)
    assert len(log) == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


class BusyClock(VirtualClock):
    """On which every activation takes a tenth of a second."""

    def work(self) -> None:
        self._monotonic_extra = getattr(self, "_monotonic_extra", 0.0) + 0.1

    def monotonic(self) -> float:
        return super().monotonic() + getattr(self, "_monotonic_extra", 0.0)


async def test_after_much_work_changes_of_one_key_are_looked_at_together():
    clock = BusyClock()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)
    log: list[tuple[str, str]] = []
    recorder = Recorder("first", log)
    answer = recorder.activate

    def busily(tx, key):
        clock.work()
        return answer(tx, key)

    recorder.activate = busily
    loop = Loop(store=store, controllers=[recorder], clock=clock, sweep_seconds=1000.0)
    running = asyncio.create_task(loop.run())
    await clock.settle()
    bench = Bench(store, clock, loop, [recorder], log)
    await bench.put("a")
    assert bench.taken() == [("first", "a")]
    await bench.put("a", tags=(("n", "1"),))
    await bench.put("a", tags=(("n", "2"),))
    await bench.put("a", tags=(("n", "3"),))
    assert bench.taken() == []
    await clock.advance(0.11)
    assert bench.taken() == [("first", "a")]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_a_leader_whose_reads_nobody_confirms_goes_on_sweeping(bench):
    """etcd is silent for a while: what the sweep reads needs no confirmation, and the loop must not end of it."""

    async def view(function):
        raise NoQuorumError("etcd does not answer")

    await bench.put("a")
    bench.taken()
    bench.store.view_local = bench.store.view
    bench.store.view = view
    for _ in range(2):
        await bench.clock.advance(10.1)
        assert bench.taken() == [("first", "a"), ("second", "a")]


async def test_an_error_that_passes_is_a_warning_without_a_traceback(bench, caplog):
    def activate(tx, key):
        raise NoQuorumError("etcd does not answer")

    bench.recorders[0].activate = activate
    with caplog.at_level(logging.WARNING):
        await bench.put("a")
    told = [record for record in caplog.records if "could not bring" in record.getMessage()]
    assert [(record.levelname, record.exc_info) for record in told] == [("WARNING", None)]
    assert bench.loop.status()[0].errors == 1
