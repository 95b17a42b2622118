"""Several servers' stores on one etcd: who leads, who follows, what a read sees, and how roles change."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from tests.integration.etcd_members import EtcdMembers, etcd_members

from homeport.clock import SystemClock
from homeport.errors import (
    CommitFailedError,
    CommitUnknownError,
    HomeportError,
    LeadershipLostError,
    NoQuorumError,
    NotLeaderError,
    WatchLostError,
)
from homeport.store.etcd import messages
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
from homeport.store.replica import Replica
from homeport.store.table import Commit, Transaction
from homeport.store.watch import Watch
from homeport.testing.store import OTHERS, THINGS, Tally, Thing

PREFIXES = (f"/replica-{number}/" for number in itertools.count())
TABLES = (THINGS, OTHERS)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMembers]:
    with etcd_members(tmp_path_factory.mktemp("etcd")) as running:
        yield running


class Servers:
    """Replicas of one state."""

    def __init__(self, endpoints: list[str], prefix: str) -> None:
        self.endpoints = endpoints
        self.prefix = prefix
        self.all: list[Replica] = []
        self.tallies: list[Tally] = []

    async def join(self, **options: Any) -> Replica:
        number = len(self.all) + 1
        backend = EtcdBackend(self.endpoints, self.prefix, settings=EtcdSettings(name=f"s{number}", address=f"http://s{number}"))
        self.tallies.append(Tally())
        replica = await Replica.join(backend, tables=TABLES, clock=SystemClock(), derived=(self.tallies[-1],), **options)
        self.all.append(replica)
        return replica

    async def close(self) -> None:
        await asyncio.gather(*(replica.close() for replica in self.all))


@pytest.fixture
async def servers(members: EtcdMembers) -> AsyncIterator[Servers]:
    made = Servers(members.endpoints, next(PREFIXES))
    yield made
    await made.close()


async def until(condition: Callable[[], Any], seconds: float = 10) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come true"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def leading(replica: Replica) -> None:
    await until(lambda: replica.role.leading)


async def put_thing(replica: Replica, name: str, size: int = 0) -> int:
    def function(tx: Transaction) -> int:
        tx.put(THINGS, Thing(name=name, size=size))
        return tx.revision + 1

    return await replica.update(function, cause=name)


async def names(replica: Replica) -> list[str]:
    return await replica.view(lambda r: [thing.name for thing in r.scan(THINGS)])


def pause(replica: Replica) -> None:
    """What SIGSTOP does to a server, as far as etcd sees it: the lease is not renewed."""
    assert replica._leadership is not None
    replica._leadership._renewing.cancel()


def commits_of(watch: Watch) -> list[Commit]:
    return list(watch._commits)


async def test_one_leads_and_all_answer(servers):
    one = await servers.join()
    await leading(one)
    two, three = await servers.join(), await servers.join(local_reads=True)
    watches = [replica.watch() for replica in servers.all]
    for number in range(200):
        await put_thing(one, f"{number:03}")
        # A read that begins after a write was acknowledged sees it, on whichever server.
        assert (await names(two))[-1] == f"{number:03}"
    with pytest.raises(NotLeaderError) as raised:
        await put_thing(two, "x")
    assert raised.value.leader == "http://s1"
    assert (two.role.leading, two.role.leader.name, one.role.leader.name) == (False, "s1", "s1")
    with pytest.raises(NotLeaderError):
        await two.prune_journal(0)
    await one.update(lambda tx: (tx.delete(THINGS, "000"), tx.put(THINGS, Thing(name="001", size=1)), tx.put(OTHERS, Thing(name="o"))), cause="mixed")
    await until(lambda: three.revision == one.revision)
    assert await names(one) == await names(two) == await names(three)
    assert servers.tallies[0].records == servers.tallies[1].records == servers.tallies[2].records
    assert commits_of(watches[0]) == commits_of(watches[1]) == commits_of(watches[2])
    assert len(commits_of(watches[0])) == 201
    story = await one.journal.story(THINGS, "001")
    assert story == await two.journal.story(THINGS, "001")
    assert [change.kind for change in story] == ["create", "update"]
    assert await two.journal.records_at(THINGS, 1) == [Thing(name="000")]
    assert (await two.journal.verify()).problem == ""


async def test_many_writes_to_one_record_in_a_batch_are_followed_one_by_one(servers):
    one, two = await servers.join(), await servers.join()
    await leading(one)
    watch = two.watch()

    def grow(tx: Transaction) -> None:
        thing = tx.get(THINGS, "a") or Thing(name="a")
        tx.put(THINGS, Thing(name="a", size=thing.size + 1, labels=("x",) if thing.size % 3 else ()))

    def come_and_go(tx: Transaction) -> None:
        if tx.get(THINGS, "b") is None:
            tx.put(THINGS, Thing(name="b"))
        else:
            tx.delete(THINGS, "b")

    await asyncio.gather(*(one.update(function, cause="test") for _ in range(75) for function in (grow, come_and_go)))
    assert await two.view(lambda r: (r.get(THINGS, "a").size, r.get(THINGS, "b"))) == (75, Thing(name="b"))
    commits = commits_of(watch)
    assert [commit.revision for commit in commits] == list(range(1, 151))
    assert [commit.changes[0].after.size for commit in commits[::2]] == list(range(1, 76))
    assert [commit.changes[0].after for commit in commits[1::2]] == [Thing(name="b"), None] * 37 + [Thing(name="b")]
    await one.resign()
    await leading(two)
    await asyncio.gather(*(two.update(function, cause="test") for _ in range(3) for function in (grow, come_and_go)))
    assert await one.view(lambda r: (r.get(THINGS, "a").size, r.get(THINGS, "b"))) == (78, None)
    assert (await two.journal.verify()).problem == ""
    assert len(await two.journal.story(THINGS, "a")) == 78


async def test_large_transactions_reach_followers(servers):
    one, two = await servers.join(), await servers.join()
    await leading(one)
    watch = two.watch()
    for size in (900_000, 1_000_000, 10):
        blob = random.randbytes(size)
        await one.update(lambda tx, blob=blob: tx.put(THINGS, Thing(name="a", blob=blob)), cause="large")
        assert (await two.view(lambda r: r.get(THINGS, "a"))).blob == blob
    assert [commit.revision for commit in commits_of(watch)] == [1, 2, 3]


async def test_a_leader_that_resigns_is_followed_at_once(servers):
    one = await servers.join()
    await leading(one)
    two = await servers.join()
    roles = []

    async def record_roles() -> None:
        async for role in two.roles():
            roles.append((role.leading, role.leader.name if role.leader else None))

    recording = asyncio.create_task(record_roles())
    await put_thing(one, "a")
    watch = one.watch()
    updates = [asyncio.create_task(put_thing(one, f"b{number}")) for number in range(50)]
    await asyncio.sleep(0)
    await one.resign()
    await asyncio.gather(*updates)
    assert await until(lambda: two.role.leading) < 1
    await put_thing(two, "c")
    assert await names(one) == await names(two) == ["a", *sorted(f"b{number}" for number in range(50)), "c"]
    assert [commit.revision for commit in commits_of(watch)] == list(range(2, 53))
    with pytest.raises(NotLeaderError, match="http://s2"):
        await put_thing(one, "d")
    await asyncio.sleep(0)
    recording.cancel()
    assert roles[0] == (False, "s1")
    assert roles[-1] == (True, "s2")


async def test_a_leader_that_was_asleep_serves_nothing_stale_and_follows(servers):
    one = await servers.join()
    await leading(one)
    two = await servers.join()
    await put_thing(one, "a")
    watch = one.watch()
    pause(one)
    assert await until(lambda: two.role.leading) < 5
    await put_thing(two, "b")
    assert one.role.leading  # it does not know yet
    assert await names(one) == ["a", "b"]
    await until(lambda: not one.role.leading)
    await put_thing(two, "c")
    assert await names(one) == ["a", "b", "c"]
    assert [commit.revision for commit in commits_of(watch)] == [2, 3]
    assert servers.tallies[0].records == servers.tallies[1].records


async def test_a_leader_that_was_asleep_changes_nothing(servers):
    one = await servers.join()
    await leading(one)
    two = await servers.join()
    await put_thing(one, "a")
    pause(one)
    await leading(two)
    await put_thing(two, "b")
    results = await asyncio.gather(
        put_thing(one, "c"), one.update(lambda tx: tx.get(THINGS, "b"), cause="read"), put_thing(one, "d"), names(one), return_exceptions=True
    )
    # The second one wrote nothing: its caller may ask the new leader all the same.
    assert [type(result) for result in results[:3]] == [LeadershipLostError, LeadershipLostError, LeadershipLostError]
    assert results[3] == ["a", "b"]
    with pytest.raises(NotLeaderError):
        await put_thing(one, "e")
    with pytest.raises(CommitFailedError):  # an answer without a write is no answer either, when it may be stale
        pause(two)
        await leading(one)
        await put_thing(one, "f")
        await two.update(lambda tx: [thing.name for thing in tx.scan(THINGS)], cause="read")
    assert await names(two) == await names(one) == ["a", "b", "f"]
    assert (await one.journal.verify()).entries == one.revision == 3


async def test_a_leader_that_is_known_to_be_gone_is_deposed_at_once(servers):
    one = await servers.join()
    await leading(one)
    two = await servers.join()
    await put_thing(one, "a")
    leader = two.role.leader
    assert leader is not None
    assert not await two.depose(replace(leader, address="http://another"))
    await one._stop_campaigning()
    pause(one)
    assert await two.depose(leader)
    assert await until(lambda: two.role.leading) < 1
    assert not await two.depose(leader)
    await put_thing(two, "b")
    with pytest.raises(LeadershipLostError):  # it was not gone after all
        await put_thing(one, "c")
    assert await names(two) == ["a", "b"]


async def test_what_a_follower_missed_it_reads_anew(servers):
    one = await servers.join()
    await leading(one)
    two = await servers.join()
    for name in "abc":
        await put_thing(one, name)
    await until(lambda: two.revision == 3)
    watch = two.watch()
    await two._stop_following()
    for number in range(5):
        await put_thing(one, "a", number)
    await one.update(lambda tx: (tx.delete(THINGS, "b"), tx.put(THINGS, Thing(name="d", color="red"))), cause="test")
    revision = (await one._etcd.client.read(messages.RangeRequest(key=b"x"))).header.revision
    await one._etcd.client.call("Compact", messages.CALLS["Compact"][1](revision=revision))
    two._following = asyncio.create_task(two._follow())
    assert await two.view(lambda r: list(r.scan(THINGS))) == [Thing(name="a", size=4), Thing(name="c"), Thing(name="d", color="red")]
    assert await two.view(lambda r: r.count(THINGS, "color", "red")) == 1
    assert servers.tallies[0].records == servers.tallies[1].records
    with pytest.raises(WatchLostError):
        await watch.__anext__()
    with pytest.raises(WatchLostError):
        two.watch(3)
    watch = two.watch()
    await put_thing(one, "e")
    assert (await watch.__anext__()).changes[0].key == "e"
    await one.resign()
    await leading(two)
    await put_thing(two, "f")
    assert await names(one) == ["a", "c", "d", "e", "f"]


async def test_without_etcd_reads_say_so_and_everything_comes_back(tmp_path):
    with etcd_members(tmp_path) as alone:
        servers = Servers(alone.endpoints, "/alone/")
        one = await servers.join()
        await leading(one)
        two, three = await servers.join(), await servers.join(local_reads=True)
        await put_thing(one, "a")
        await until(lambda: three.revision == 1)
        alone.members[0].signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)  # until all of its threads stand still
        began = time.monotonic()
        asked = [names(one), names(two), put_thing(one, "b"), names(one), names(three)]  # the second read meets the change that is under way
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - began < 10, "8 s are promised"
        assert [type(result) for result in results[:4]] == [NoQuorumError, NoQuorumError, CommitUnknownError, NoQuorumError]
        assert results[4] == ["a"]
        alone.members[0].signal(signal.SIGCONT)
        await until(lambda: any(replica.role.leading for replica in servers.all), 20)
        leader = next(replica for replica in servers.all if replica.role.leading)
        await put_thing(leader, "c")
        for replica in servers.all:
            await replica.reach(leader.revision)
            assert await names(replica) in (["a", "c"], ["a", "b", "c"])
        assert servers.tallies[0].records == servers.tallies[1].records == servers.tallies[2].records
        assert (await two.journal.verify()).problem == ""
        await servers.close()


async def test_random_changes_of_leader_lose_nothing(servers):
    """Counters grow through whoever leads, while leaders are paused, deposed and replaced; every copy and every watch sees the same."""
    chance = random.Random(11)
    for _ in range(3):
        await servers.join()
    watches = [replica.watch(0) for replica in servers.all]
    acknowledged: dict[str, int] = {}
    doubtful = 0
    done = asyncio.Event()

    def grow(tx: Transaction, name: str) -> int:
        size = (tx.get(THINGS, name) or Thing(name=name)).size + 1
        tx.put(THINGS, Thing(name=name, size=size))
        return size

    async def write(name: str) -> None:
        nonlocal doubtful
        while not done.is_set():
            replica = chance.choice(servers.all)
            try:
                size = await replica.update(lambda tx: grow(tx, name), cause=name)
            except CommitUnknownError:
                doubtful += 1
            except HomeportError:
                await asyncio.sleep(0.01)
            else:
                acknowledged[name] = max(acknowledged.get(name, 0), size)
                reader = chance.choice(servers.all)
                with contextlib.suppress(NoQuorumError):
                    assert await reader.view(lambda r: r.get(THINGS, name).size) >= size

    writers = [asyncio.create_task(write(name)) for name in "abcdef"]
    for _ in range(5):
        await asyncio.sleep(0.5)
        leader = next((replica for replica in servers.all if replica.role.leading), None)
        if leader is None or leader._leadership is None:
            continue
        if chance.random() < 0.5:
            await leader._etcd.client.revoke(leader._leadership.lease)
        else:
            pause(leader)
            await asyncio.sleep(4)
    done.set()
    await asyncio.gather(*writers)
    assert not doubtful
    states = [await replica.view(lambda r: list(r.scan(THINGS))) for replica in servers.all]
    assert states[0] == states[1] == states[2]
    assert {thing.name: thing.size for thing in states[0]} == acknowledged
    assert sum(acknowledged.values()) == servers.all[0].revision > 100
    assert servers.tallies[0].records == servers.tallies[1].records == servers.tallies[2].records
    for watch in watches:
        assert [commit.revision for commit in commits_of(watch)] == list(range(1, servers.all[0].revision + 1))
    assert (await servers.all[0].journal.verify()).problem == ""
