"""The store on etcd, where things go wrong: rivals, calls that are lost or late, members that die, certificates."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.etcd_members import EtcdMembers, etcd_members

from homeport.clock import SystemClock
from homeport.errors import (
    CommitFailedError,
    CommitUnknownError,
    EtcdCompactedError,
    EtcdRefusedError,
    EtcdUnavailableError,
    LeadershipLostError,
    StoreLockedError,
)
from homeport.store.etcd import messages
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
from homeport.store.etcd.client import EtcdClient, Tls, put
from homeport.store.etcd.feed import Feed
from homeport.store.etcd.room import full, make_room
from homeport.store.store import Store
from homeport.store.table import Transaction
from homeport.testing.store import THINGS, Thing
from homeport.tls import files
from homeport.tls.authority import Wanted

PREFIXES = (f"/test-{number}/" for number in itertools.count())
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMembers]:
    with etcd_members(tmp_path_factory.mktemp("etcd")) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    return next(PREFIXES)


class TroubledClient(EtcdClient):
    """A client between which and etcd Txns get lost, as the test says: `fates` has one letter a Txn, and the rest goes well.

    r: the request is lost. a: the answer is lost. l: late, the request is kept in `late` for the test to deliver.
    """

    fates: str = ""

    def trouble(self, fates: str) -> None:
        self.fates = fates
        self.late: list[Any] = []

    async def txn(self, request: Any, *, seconds: float | None = None) -> Any:
        fate, self.fates = self.fates[:1], self.fates[1:]
        if fate == "l":
            self.late.append(request)
        if fate in ("r", "l"):
            raise EtcdUnavailableError("the request was lost")
        answer = await super().txn(request, seconds=seconds)
        if fate == "a":
            raise EtcdUnavailableError("the answer was lost")
        return answer


async def troubled(members: EtcdMembers, prefix: str) -> tuple[EtcdBackend, TroubledClient]:
    backend = EtcdBackend(members.endpoints, prefix, settings=EtcdSettings(locked_seconds=0.2))
    client = backend._client = TroubledClient(members.endpoints, clock=CLOCK)
    return backend, client


async def opened(backend: EtcdBackend) -> Store:
    return await Store.open(backend, tables=(THINGS,), clock=CLOCK)


async def put_thing(store: Store, name: str, size: int = 0) -> None:
    await store.update(lambda tx: tx.put(THINGS, Thing(name=name, size=size)), cause=name)


async def names(store: Store) -> list[str]:
    return await store.view(lambda r: [thing.name for thing in r.scan(THINGS)])


def stop_renewing(backend: EtcdBackend) -> None:
    """What a pause of the whole server does: its lease runs out, and it does not know."""
    assert backend.leadership is not None
    backend.leadership._renewing.cancel()


@pytest.mark.parametrize("fates", ["r", "a", "ar", "rr", "aa", "arr", "rara", "aara", "rrrra", "rrrrrrrraaaa"])
async def test_a_txn_of_unknown_outcome_is_settled(members, prefix, fates):
    backend, client = await troubled(members, prefix)
    store = await opened(backend)
    await put_thing(store, "before")
    client.trouble(fates)
    await put_thing(store, "a", 1)
    client.trouble(fates)
    await put_thing(store, "a", 2)
    await put_thing(store, "after")
    story = await store.journal.story(THINGS, "a")
    assert [(change.revision, change.record.size) for change in story if isinstance(change.record, Thing)] == [(2, 1), (3, 2)]
    await store.close()
    store = await opened(EtcdBackend(members.endpoints, prefix))
    assert await names(store) == ["a", "after", "before"]
    assert (await store.journal.verify()).problem == ""
    assert store.revision == 4
    await store.close()


async def test_a_delayed_txn_never_lands(members, prefix):
    backend, client = await troubled(members, prefix)
    store = await opened(backend)
    client.trouble("l")
    await put_thing(store, "a", 1)
    await put_thing(store, "a", 2)
    for request in client.late:
        answer = await client.call("Txn", request)
        assert not answer.succeeded
    assert await store.view(lambda r: r.get(THINGS, "a")) == Thing(name="a", size=2)
    await store.close()


async def test_a_late_prune_changes_nothing(members, prefix):
    backend, client = await troubled(members, prefix)
    store = await opened(backend)
    for number in range(6):
        await put_thing(store, "a", number)
    client.trouble("l")
    assert await backend.prune(2, 10) == 2
    assert await backend.prune(4, 10) == 2
    client.trouble("a")
    assert await backend.prune(5, 10) == 1
    for request in client.late:
        assert not (await client.call("Txn", request)).succeeded
    verdict = await store.journal.verify()
    assert (verdict.entries, verdict.problem) == (1, "")
    await store.close()


async def test_a_deposed_leader_changes_nothing(members, prefix):
    one, client = await troubled(members, prefix)
    first = await opened(one)
    await put_thing(first, "a")
    stop_renewing(one)
    other = EtcdBackend(members.endpoints, prefix, settings=EtcdSettings(name="two"))
    second = await opened(other)
    await put_thing(second, "b")
    with pytest.raises(LeadershipLostError):
        await put_thing(first, "c")
    with pytest.raises(LeadershipLostError):
        await put_thing(first, "d")
    assert await names(first) == ["a"]
    await first.close()
    await put_thing(second, "e")
    assert await names(second) == ["a", "b", "e"]
    assert (await second.journal.verify()).entries == 3
    with pytest.raises(StoreLockedError, match="two"):
        await opened(EtcdBackend(members.endpoints, prefix, settings=EtcdSettings(locked_seconds=0.2)))
    await second.close()


@pytest.mark.parametrize("fates", ["l", "a"])
async def test_what_became_of_a_commit_is_known_even_when_another_leads(members, prefix, fates):
    """The first leader's Txn has no answer, and when it asks, another leads already: the journal tells."""
    one, client = await troubled(members, prefix)
    first = await opened(one)
    await put_thing(first, "a")
    stop_renewing(one)
    client.trouble(fates)
    settle, second = one._settle, []

    async def after_the_other_leads(*arguments: Any) -> bool:
        second.append(await opened(EtcdBackend(members.endpoints, prefix)))
        await put_thing(second[0], "b")
        return await settle(*arguments)

    one._settle = after_the_other_leads  # type: ignore[method-assign]
    if fates == "a":
        await put_thing(first, "c")
    else:
        with pytest.raises(LeadershipLostError):
            await put_thing(first, "c")
        assert not (await client.call("Txn", client.late[0])).succeeded
    assert await names(second[0]) == (["a", "b", "c"] if fates == "a" else ["a", "b"])
    with pytest.raises(LeadershipLostError):
        await put_thing(first, "d")
    await first.close()
    assert (await second[0].journal.verify()).problem == ""
    await second[0].close()


async def test_random_trouble_applies_nothing_twice(members, prefix):
    chance = random.Random(7)
    backend, client = await troubled(members, prefix)
    store = await opened(backend)
    expected: dict[str, int] = {}

    def add(tx: Transaction, name: str) -> int:
        size = (tx.get(THINGS, name) or Thing(name=name)).size + 1
        tx.put(THINGS, Thing(name=name, size=size, blob=bytes(chance.choice((0, 0, 0, 700_000)))))
        return size

    for _ in range(60):
        client.trouble("".join(chance.choice("....ral") for _ in range(chance.randrange(5))).replace(".", "_"))
        chosen = [chance.choice("abc") for _ in range(chance.randrange(1, 4))]
        answers = await asyncio.gather(*(store.update(lambda tx, name=name: add(tx, name), cause="test") for name in chosen))
        for name, answer in zip(chosen, answers, strict=True):
            expected[name] = expected.get(name, 0) + 1
            assert answer == expected[name]
        for late in client.late:
            assert not (await client.call("Txn", late)).succeeded
    await store.close()
    store = await opened(EtcdBackend(members.endpoints, prefix))
    assert await store.view(lambda r: {thing.name: thing.size for thing in r.scan(THINGS)}) == expected
    assert store.revision == sum(expected.values())
    assert (await store.journal.verify()).problem == ""
    await store.close()


async def test_a_full_etcd_is_reported_and_survived(tmp_path):
    with etcd_members(tmp_path, options=("--quota-backend-bytes=8388608",)) as small:
        backend = EtcdBackend(small.endpoints)
        store = await opened(backend)
        blob, written = random.randbytes(400_000), 0
        with pytest.raises(CommitFailedError, match="space"):
            for number in range(1, 100):  # the blob is in the journal at creation and at every 16th change only; etcd's own history is what fills it
                await store.update(lambda tx, n=number: tx.put(THINGS, Thing(name="a", size=n, blob=blob)), cause="fill")
                written = number
        assert await store.view(lambda r: r.get(THINGS, "a").size) == written
        assert await full(backend.client)
        with pytest.raises(CommitFailedError, match="space"):
            await put_thing(store, "still full")
        assert await make_room(backend.client) > 1_000_000
        assert not await full(backend.client)
        await put_thing(store, "after")
        assert await names(store) == ["a", "after"]
        assert (await store.journal.verify()).problem == ""
        await store.close()


async def test_a_feed_leaves_a_member_that_let_a_call_time_out(tmp_path, prefix):
    """It would wait there for seconds more: only gRPC's sign of life tells that a silent member's stream is dead."""
    with etcd_members(tmp_path, 3) as three:
        client = EtcdClient(three.endpoints, clock=CLOCK, call_seconds=0.5)
        other = EtcdClient(three.endpoints[1:], clock=CLOCK)
        key, end = prefix.encode(), prefix.encode() + b"\xff"
        first = (await client.txn(messages.TxnRequest(success=[put(key, b"1")]))).header.revision
        feed = Feed(client, key, end, start=first)
        assert [event.kv.value for event in await feed.events()] == [b"1"]
        waiting = asyncio.create_task(feed.events())
        await asyncio.sleep(0.1)
        three.members[0].signal(signal.SIGSTOP)
        await client.read(messages.RangeRequest(key=key))
        assert client.endpoint.address != three.endpoints[0].partition("//")[2]
        await other.read(messages.TxnRequest(success=[put(key, b"2")]), name="Txn")
        assert [event.kv.value for event in await asyncio.wait_for(waiting, 4)] == [b"2"]
        three.members[0].signal(signal.SIGCONT)
        feed.close()
        assert not client._silenced, "a feed that is closed is told nothing more"
        await client.close()
        await other.close()


async def test_a_feed_resumes_and_says_when_it_cannot(members, prefix):
    client = EtcdClient(members.endpoints, clock=CLOCK)
    key, end = prefix.encode(), prefix.encode() + b"\xff"

    async def write(name: str) -> int:
        return (
            await client.txn(messages.TxnRequest(success=[put(key + name.encode(), b"1"), put(key + name.encode() + b"/2", b"2")]))
        ).header.revision

    first = await write("a")
    feed = Feed(client, key, end, start=first)
    assert [event.kv.key[len(key) :] for event in await feed.events()] == [b"a", b"a/2"]
    waiting = asyncio.create_task(feed.events())
    await asyncio.sleep(0.1)
    feed.kick()
    await asyncio.sleep(0.1)
    second = await write("b")
    assert {event.kv.mod_revision for event in await waiting} == {second}
    waiting = asyncio.create_task(feed.events())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    third = await write("c")
    assert {event.kv.mod_revision for event in await feed.events()} == {third}
    for cancel in (True, False):  # a cancellation that comes together with a kick is not lost, and no kick is taken for one
        waiting = asyncio.create_task(feed.events())
        await asyncio.sleep(0.05)
        feed.kick()
        if cancel:
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waiting, 2)
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 2)
    await write("d")
    await client.call("Compact", messages.CALLS["Compact"][1](revision=third))
    old = Feed(client, key, end, start=first)
    with pytest.raises(EtcdCompactedError):
        await old.events()
    await client.close()


async def test_a_member_that_is_gone_is_left(members, prefix):
    client = EtcdClient(["127.0.0.1:1", *members.endpoints], clock=CLOCK)
    assert (await client.read(messages.RangeRequest(key=b"x"))).header.revision
    assert client.endpoint.address in members.endpoints[0]
    await client.close()
    client = EtcdClient(["127.0.0.1:1"], clock=CLOCK)
    began = time.monotonic()
    with pytest.raises(EtcdUnavailableError):
        await client.read(messages.RangeRequest(key=b"x"), patience=0.5)
    assert time.monotonic() - began < 3
    await client.close()


async def test_the_lease_of_a_leader_that_lives_is_kept(members, prefix):
    backend = EtcdBackend(members.endpoints, prefix)
    store = await opened(backend)
    await asyncio.sleep(7)
    await put_thing(store, "a")
    assert backend.leadership is not None and not backend.leadership.lost.is_set()
    await backend.client.revoke(backend.leadership.lease)
    await asyncio.wait_for(backend.leadership.lost.wait(), 3)
    await store.close()


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server and client certificates, and the client certificate of a stranger."""
    directory = tmp_path_factory.mktemp("certificates")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for authority in ("ca", "strangers-ca"):
        openssl(
            directory, "req", "-x509", *curve, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-days", "2", "-subj", f"/CN={authority}"
        )
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "strangers-ca")):
        openssl(directory, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return directory


@pytest.fixture
async def secured(tmp_path, certificates) -> AsyncIterator[EtcdMembers]:
    options = ("--client-cert-auth", f"--trusted-ca-file={certificates}/ca.pem")
    options += (f"--cert-file={certificates}/server.pem", f"--key-file={certificates}/server.key")
    with etcd_members(tmp_path, options=options, scheme="https") as running:
        yield running


async def test_tls_with_client_certificates(secured, certificates):
    def tls(name: str, authority: str = "ca") -> Tls:
        return Tls(ca=certificates / f"{authority}.pem", certificate=certificates / f"{name}.pem", key=certificates / f"{name}.key")

    store = await opened(EtcdBackend(secured.endpoints, tls=tls("client")))
    await put_thing(store, "a")
    assert await names(store) == ["a"]
    await store.close()
    by_name = [endpoint.replace("127.0.0.1", "localhost").removeprefix("https://") for endpoint in secured.endpoints]
    store = await opened(EtcdBackend(by_name, tls=tls("client")))
    assert await names(store) == ["a"]
    await store.close()
    for wrong in (tls("stranger"), tls("client", "strangers-ca"), Tls(ca=certificates / "ca.pem"), Tls()):
        client = EtcdClient(secured.endpoints, clock=CLOCK, tls=wrong)
        with pytest.raises((EtcdUnavailableError, EtcdRefusedError)):
            await client.read(messages.RangeRequest(key=b"x"), patience=0.3)
        await client.close()


async def test_a_client_certificate_that_is_replaced_is_shown_from_then_on_and_no_call_or_event_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("homeport.store.etcd.client.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("homeport.store.etcd.client.RETIRED_SECONDS", 0.3)
    authority, own, member = files.ensure_authority(tmp_path, now=CLOCK.now(), seconds=600), tmp_path / "client.pem", tmp_path / "etcd.pem"
    files.ensure_certificate(member, Wanted(subject="etcd", names=("127.0.0.1",)), authority, now=CLOCK.now(), seconds=600)

    def give(seconds: float) -> float:
        made = authority.issue(Wanted(subject="client"), now=CLOCK.now(), seconds=seconds)
        files.write(own, made.certificate + made.key)
        return time.monotonic() + seconds

    ends = give(3)
    options = ("--client-cert-auth", f"--trusted-ca-file={tmp_path}/ca.pem", f"--cert-file={member}", f"--key-file={member}")
    with etcd_members(tmp_path / "etcd", options=options, scheme="https") as running:
        client = EtcdClient(running.endpoints, clock=CLOCK, tls=Tls(ca=tmp_path / "ca.pem", certificate=own, key=own))
        first = (await client.read(messages.RangeRequest(key=b"x"))).header.revision
        feed, seen = Feed(client, b"k", b"l", start=first + 1), list[bytes]()

        async def follow() -> None:
            while True:
                seen.extend(event.kv.key for event in await feed.events())

        following, number = asyncio.create_task(follow()), 0
        channel = client.endpoint.channel
        while time.monotonic() < ends + 0.5:
            if number == 50:
                give(600)
            await client.txn(messages.TxnRequest(success=[put(b"k%d" % number, b"")]))  # each at the first try
            number += 1
            await asyncio.sleep(0.01)
        assert client.endpoint.channel is not channel
        assert seen == [b"k%d" % each for each in range(number)]
        # Now every connection is made anew, after the end of the certificate that the client began with.
        running.members[0].kill()
        running.members[0].start()
        await asyncio.to_thread(running.members[0].wait)
        assert len((await client.read(messages.RangeRequest(key=b"k", range_end=b"l"))).kvs) == number
        following.cancel()
        feed.close()
        await client.close()


async def test_nothing_is_lost_or_done_twice_while_members_die(tmp_path):
    """Three members, killed and paused one after the other under constant writing."""
    with etcd_members(tmp_path, 3) as three:
        store = await opened(EtcdBackend(three.endpoints))
        acknowledged: list[str] = []
        failed: list[str] = []
        unknown: list[str] = []
        gaps = [time.monotonic()]
        done = asyncio.Event()

        async def write(writer: int) -> None:
            for number in itertools.count():
                name = f"{writer}/{number:06}"
                if done.is_set():
                    return
                try:
                    await put_thing(store, name)
                except CommitUnknownError:
                    unknown.append(name)
                except CommitFailedError:
                    failed.append(name)
                    await asyncio.sleep(0.05)
                else:
                    acknowledged.append(name)
                    gaps.append(time.monotonic())

        writers = [asyncio.create_task(write(number)) for number in range(4)]
        for member in three.members:
            await asyncio.sleep(1)
            member.kill()
            await asyncio.sleep(2.5)
            member.start()
            await asyncio.to_thread(member.wait)
        for member in three.members[:2]:
            member.signal(signal.SIGSTOP)
            await asyncio.sleep(3.5)
            member.signal(signal.SIGCONT)
            await asyncio.sleep(1)
        done.set()
        await asyncio.gather(*writers)
        longest = max(after - before for before, after in itertools.pairwise(gaps))
        print(f"{len(acknowledged)} acknowledged, {len(failed)} failed, longest gap {longest:.2f} s")
        assert not unknown
        assert longest < 8
        await store.close()

        store = await opened(EtcdBackend(three.endpoints))
        assert set(await names(store)) == set(acknowledged)
        assert store.revision == len(acknowledged)
        verdict = await store.journal.verify()
        assert (verdict.entries, verdict.problem) == (len(acknowledged), "")
        await store.close()
