"""Every operation of the model over a socket, with requests made from the model by the ten thousand: the answer is always one that the model has.

The seed is fixed, so that a failure is the same everywhere; HOMEPORT_WIRE_SEED and HOMEPORT_WIRE_CASES (cases an operation) look further.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.conformance.wire_bytes import Raw, raw_requests
from tests.conformance.wire_cases import OPERATIONS, Case, Generator, encoded
from tests.conformance.wire_world import GOOD, READS, Front, World, good, judge, world

from homeport.api.ecs.operations import OPERATIONS as BUILT
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend

SEED = int(os.environ.get("HOMEPORT_WIRE_SEED", "4"))
CASES = int(os.environ.get("HOMEPORT_WIRE_CASES", "200"))
SHARDS = 4
WALKS, STEPS = 20, 2 * CASES
SILENCE_SECONDS = 0.02
"""So long the server may say nothing before the client ends the connection. Server and client share a loop, so that any time would do."""


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_generated_requests_get_the_answers_that_are_modelled(shard):
    front = Front()
    async with front.open() as port:
        for operation in OPERATIONS[shard::SHARDS]:
            async with world(front, port, MemoryBackend(), seed=SEED) as made:
                generator = Generator(operation, seed=SEED, known=made.known, good=good(made, operation))
                statuses = await _send_all(made, generator.cases(CASES))
                assert statuses[200] or operation not in GOOD, f"{operation}: no request succeeded"


def test_there_are_ten_thousand_of_them_and_the_same_each_time():
    assert len(OPERATIONS) == 88
    assert len(OPERATIONS) * 200 >= 10_000
    known = {"cluster": ["default"]}
    first, second = (Generator("CreateService", seed=SEED, known=known).cases(200) for _ in "ab")
    assert first == second
    assert first != Generator("CreateService", seed=SEED + 1, known=known).cases(200)
    kinds = {case.kind for operation in OPERATIONS for case in Generator(operation, seed=SEED, known=known).cases(200)}
    assert kinds >= {
        "minimal",
        "full",
        "missing",
        "null",
        "null where it must not be",
        "wrong enum",
        "too long",
        "too short",
        "too large",
        "too small",
    }
    assert kinds >= {"wrong type", "many", "odd text", "odd number", "unknown member", "unknown deep member", "no JSON", "hardly JSON", "no object"}


async def _send_all(made: World, cases: list[Case]) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for case in cases:
        status, _ = await made.attempt(case)
        statuses[status] += 1
    return statuses


async def test_the_same_on_sqlite(tmp_path: Path):
    front = Front()
    async with front.open() as port:
        for number, operation in enumerate(OPERATIONS):
            async with world(front, port, SqliteBackend(tmp_path / f"{number}.db"), seed=SEED) as made:
                generator = Generator(operation, seed=SEED + 1, known=made.known, good=good(made, operation))
                await _send_all(made, generator.cases(12))


async def test_one_call_after_another_in_one_installation():
    """Each request uses what earlier answers named, so that calls meet what others made."""
    chance = random.Random(SEED)
    front = Front()
    succeeded: set[str] = set()
    async with front.open() as port:
        for walk in range(WALKS):
            async with world(front, port, MemoryBackend(), seed=walk) as made:
                for step in range(STEPS):
                    operation = chance.choice(tuple(BUILT))
                    members = good(made, operation) if chance.random() < 0.5 else {}
                    generator = Generator(operation, seed=walk * STEPS + step, known=made.known, good=members)
                    request = generator.odd() if step % 5 == 0 else {**generator.request(chance.choice((0, 0, 0.1, 0.3))), **members}
                    status, answer = await made.attempt(Case(operation, "walk", encoded(request)))
                    if status == 200:
                        succeeded.add(operation)
                        made.learn(answer, chance)
    assert set(GOOD) & set(BUILT) <= succeeded


async def test_a_wrong_answer_would_be_seen():
    """The judge itself: each way in which an answer can be wrong is one that it sees."""
    case = Case("DeleteCluster", "minimal", b"{}", "constraint", "cluster")
    assert "not an answer" in judge(case, 500, b'{"__type":"ServerException","message":"m"}')
    assert "not an answer" in judge(case, 400, b'{"__type":"ServiceNotFoundException","message":"m"}')
    assert "not an answer" in judge(case, 400, b'{"__type":"ClusterNotFoundException","message":""}')
    assert "no JSON" in judge(case, 400, b"<html>")
    assert "lost" in judge(case, 0, b"")
    assert "accepted" in judge(case, 200, b'{"cluster":{}}')
    assert "with its place" in judge(case, 400, b'{"__type":"InvalidParameterException","message":"1 validation error"}')
    valid = Case("DeleteCluster", "minimal", b"{}")
    assert judge(valid, 200, b'{"cluster":{"clusterName":"a"}}') == ""
    for wrong in (
        b'{"cluster":{"name":"a"}}',
        b'{"cluster":{"runningTasksCount":"1"}}',
        b'{"cluster":[]}',
        b'{"cluster":{"runningTasksCount":true}}',
    ):
        assert judge(valid, 200, wrong), wrong
    assert any(name.startswith(READS) for name in OPERATIONS)


async def test_any_bytes_at_all_leave_the_server_as_it_was():
    """No answer is a fault of the server's, the store is as before, and the next good call succeeds."""
    front = Front()
    async with front.open() as port, world(front, port, MemoryBackend(), seed=SEED) as made:
        before = made.context.store.revision
        for number, raw in enumerate(raw_requests(SEED, 2 * CASES, made.context.clock.now())):
            answers = await _exchange(port, raw)
            for head in answers.split(b"HTTP/1.1 ")[1:]:
                assert head[:3] in raw.statuses, f"{number}: {raw.kind}: {head[:300]!r} for {raw.pieces!r}"[:3000]
            if raw.answered:
                assert answers.startswith(b"HTTP/1.1 "), f"{number}: {raw.kind}: no answer to {raw.pieces!r}"[:3000]
            if raw.kind != "turned bytes" or (answers and b"HTTP/1.1 200" not in answers):  # a blank more, say, leaves a good request
                assert made.context.store.revision == before, f"{number}: {raw.kind} changed the store: {raw.pieces!r}"[:3000]
            before = made.context.store.revision
            if number % 20 == 0:
                await made.good("ListClusters")
        await made.good("CreateCluster", clusterName="after")


async def _exchange(port: int, raw: Raw) -> bytes:
    """All that comes back until there is silence for a moment, and then until the server closes because the client does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    with contextlib.suppress(ConnectionError):
        for piece in raw.pieces:
            writer.write(piece)
            await writer.drain()
        with contextlib.suppress(TimeoutError):
            while data := await asyncio.wait_for(reader.read(65536), SILENCE_SECONDS):
                got += data
        writer.write_eof()
        got += await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return got
