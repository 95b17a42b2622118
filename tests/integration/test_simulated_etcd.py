"""The simulated etcd answers as a real one: the same random requests to both, and every answer and every event compared."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from tests.integration.etcd_members import etcd_members

from homeport.clock import SystemClock
from homeport.errors import EtcdCompactedError, EtcdRefusedError
from homeport.ids import Ids
from homeport.store.etcd import messages
from homeport.store.etcd.client import EtcdClient, delete, equal, get, get_range, put
from homeport.store.etcd.feed import Feed
from homeport.testing.etcd_door import DoorFaults, EtcdDoor
from homeport.testing.etcd_state import REQUEST_BYTES_MAX, TXN_OPERATIONS_MAX, EtcdState
from homeport.testing.virtual_loop import Chance

KEYS = tuple(b"/k/%d" % number for number in range(6))
END = b"/k0"
REQUESTS = 600


def _operation(dice: random.Random) -> Any:
    key = dice.choice(KEYS)
    kind = dice.randrange(7)
    if kind < 3:
        return put(key, dice.randbytes(3))
    if kind == 3:
        return delete(key)
    if kind == 4:
        return delete(key, min(END, key + b"\1"))
    return get(key) if kind == 5 else get_range(b"/k/", END, limit=dice.choice((0, 2)))


def _request(dice: random.Random, revision: int) -> Any:
    compare = []
    if dice.random() < 0.4:
        compare.append(equal(dice.choice(KEYS), create_revision=0))
    if dice.random() < 0.3:
        compare.append(equal(dice.choice(KEYS), mod_revision=dice.randint(max(1, revision - 8), revision)))
    return messages.TxnRequest(
        compare=compare, success=[_operation(dice) for _ in range(dice.randint(0, 4))], failure=[_operation(dice) for _ in range(dice.randint(0, 2))]
    )


async def _answer(client: EtcdClient, name: str, request: Any) -> Any:
    """The answer without what differs between any two clusters; for a refusal its code."""
    try:
        answer = await client.call(name, request)
    except EtcdRefusedError as error:
        return error.code
    if name == "Compact":
        return "compacted"
    told = [answer.header.revision]
    for response in getattr(answer, "responses", ()):
        kind = response.WhichOneof("choice")
        if kind == "response_range":
            told.append(([kv.SerializeToString() for kv in response.response_range.kvs], response.response_range.more, response.response_range.count))
        else:
            told.append((kind, response.response_delete_range.deleted))
    if name == "Range":
        told.append(([kv.SerializeToString() for kv in answer.kvs], answer.more, answer.count))
    return getattr(answer, "succeeded", None), told


async def _told(client: EtcdClient, start: int, until: int) -> Any:
    """Events from revision `start` up to `until`."""
    feed, found = Feed(client, b"/k/", END, start=start), []
    try:
        while not found or found[-1][0] < until:
            for event in await feed.events():
                found.append((event.kv.mod_revision, event.type, event.kv.SerializeToString()))
    except EtcdCompactedError:
        return "compacted"
    finally:
        feed.close()
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_requests_get_the_same_answers(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    with etcd_members(tmp_path, count=1) as members:
        state = EtcdState(asyncio.get_running_loop(), lambda sender, revision, events: None)
        door = EtcdDoor(state, "test", faults=DoorFaults(latency_min=0.0, latency_max=0.00001), chance=Chance(Ids(1)), crash=lambda: None)
        real, simulated = EtcdClient(members.endpoints, clock=SystemClock()), EtcdClient(door.members, clock=SystemClock())
        last = 0  # the last revision that changed one of the keys
        for number in range(REQUESTS):
            request, name = _request(dice, state.revision), "Txn"
            if dice.random() < 0.1:
                request, name = messages.RangeRequest(key=b"/k/", range_end=END, revision=dice.randint(1, state.revision)), "Range"
            elif dice.random() < 0.01:
                _, compaction, _ = messages.CALLS["Compact"]
                request, name = compaction(revision=dice.randint(1, state.revision)), "Compact"
            before = state.revision
            expected, found = await _answer(real, name, request), await _answer(simulated, name, request)
            assert found == expected, f"request {number}, {name}: {request}"
            last = state.revision if state.revision != before else last
        for start in (state.compacted + 1, last, (state.compacted + last) // 2 + 1):
            assert await _told(simulated, start, last) == await _told(real, start, last)
        assert await _told(simulated, max(1, state.compacted - 1), last) == await _told(real, max(1, state.compacted - 1), last)
        await real.close()
        await simulated.close()


async def test_what_is_too_much_for_one_txn_is_refused_by_both(tmp_path: Path) -> None:
    many = [put(b"/k/%d" % number, b"") for number in range(TXN_OPERATIONS_MAX + 1)]
    requests = (
        messages.TxnRequest(success=many[1:]),
        messages.TxnRequest(success=many),
        messages.TxnRequest(failure=many),
        messages.TxnRequest(success=[put(b"/k/1", bytes(REQUEST_BYTES_MAX - 200))]),
        messages.TxnRequest(success=[put(b"/k/1", bytes(REQUEST_BYTES_MAX))]),
    )
    with etcd_members(tmp_path, count=1) as members:
        state = EtcdState(asyncio.get_running_loop(), lambda sender, revision, events: None)
        door = EtcdDoor(state, "test", faults=DoorFaults(), chance=Chance(Ids(1)), crash=lambda: None)
        for client in (EtcdClient(members.endpoints, clock=SystemClock()), EtcdClient(door.members, clock=SystemClock())):
            answers = [await _answer(client, "Txn", request) for request in requests]
            assert [isinstance(answer, str) for answer in answers] == [False, True, True, False, True], answers
            assert {answer for answer in answers if isinstance(answer, str)} == {"INVALID_ARGUMENT"}
            await client.close()


async def test_a_lease_takes_its_keys_along(tmp_path: Path) -> None:
    with etcd_members(tmp_path, count=1) as members:
        state = EtcdState(asyncio.get_running_loop(), lambda sender, revision, events: None)
        door = EtcdDoor(state, "test", faults=DoorFaults(), chance=Chance(Ids(1)), crash=lambda: None)
        clients = (EtcdClient(members.endpoints, clock=SystemClock()), EtcdClient(door.members, clock=SystemClock()))
        for client in clients:
            lease, seconds = await client.grant(1)
            assert seconds >= 1
            await client.txn(messages.TxnRequest(success=[put(b"/k/1", b"a", lease), put(b"/k/2", b"b", lease)]))
            await client.txn(messages.TxnRequest(success=[put(b"/k/2", b"c")]))  # is bound to it no more
            assert await client.keep_alive(lease, seconds=1.0) >= 1
            events = await asyncio.wait_for(_told(client, 4, 4), seconds + 8.0)
            assert [(kind, revision) for revision, kind, _ in events] == [(messages.DELETE, 4)]
            assert await client.keep_alive(lease, seconds=1.0) <= 0
            with pytest.raises(EtcdRefusedError):
                await client.txn(messages.TxnRequest(success=[put(b"/k/1", b"a", lease)]))
            with pytest.raises(EtcdRefusedError):
                await client.revoke(lease)
            await client.close()
