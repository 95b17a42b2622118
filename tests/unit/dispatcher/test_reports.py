"""Reports over agents' connections: the offer, the gathering, and one answer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from unit.dispatcher.cell import INSTANCE_ARN, Cell

from homeport.acs.messages import RefusedReport, StateReport, StateReportsAck, StateReportsOffer, StateReportsRequest, decode, encode
from homeport.dispatcher.reports import THROTTLED, TOGETHER_MAX, UNDER_WAY_MAX, WAITING_MAX, Desk, Handed, Principal, Refusal, Refused
from homeport.model import arn
from homeport.testing import records
from homeport.testing.agent import Socket


class Taker:
    """Makes reports durable when the test says so; `bad` ones are refused."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, str, str, list[bytes]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def __call__(self, account: str, principal: str, operation: str, reports: Sequence[Handed]) -> list[Refused | None]:
        requests = [request for _, request in reports]
        self.instances = {instance for instance, _ in reports}
        self.batches.append((account, principal, operation, requests))
        await self.gate.wait()
        if self.broken:
            raise RuntimeError("a fault of ours")
        return [Refusal("InvalidParameterException", "no") if b"bad" in request else None for request in requests]


@pytest.fixture
async def taker(cell: Cell) -> Taker:
    made = Taker()
    cell.dispatcher.offer_reports(made)
    return made


async def opened(cell: Cell, *, query: str = "&stateReports=1") -> Socket:
    """The raw connection of an agent, after the first messages."""
    socket = Socket(cell.dispatcher.acs, "/acs/ws", f"clusterArn=default&containerInstanceArn={INSTANCE_ARN}&protocolVersion=2{query}")
    await socket.open()
    await cell.clock.settle()
    return socket


async def heard(cell: Cell, socket: Socket) -> list[Any]:
    await cell.clock.settle()
    found = []
    while not socket._from_server.empty():
        found.append(decode(await socket.receive() or ""))
    return found


def request(*bodies: dict[str, Any], first: int = 1, operation: str = "SubmitTaskStateChange") -> str:
    reports = [StateReport(number=first + n, operation=operation, request=msgspec.Raw(msgspec.json.encode(body))) for n, body in enumerate(bodies)]
    return encode(StateReportsRequest(reports=reports)).decode()


async def test_the_offer_comes_first_and_only_to_those_who_asked(cell, taker):
    asked = await opened(cell)
    assert isinstance((await heard(cell, asked))[0], StateReportsOffer)
    silent = await opened(cell, query="")
    assert not any(isinstance(message, StateReportsOffer) for message in await heard(cell, silent))
    silent.send(request({"task": "t"}))
    await cell.clock.settle()
    assert taker.batches == []


async def test_reports_go_in_together_under_the_name_of_who_signed_and_each_has_its_answer(cell, taker):
    socket = await opened(cell)
    await heard(cell, socket)
    socket.send(request({"task": "a"}, {"task": "bad"}, {"task": "c"}))
    (answer,) = await heard(cell, socket)
    assert answer == StateReportsAck(taken=[1, 3], refused=[RefusedReport(number=2, code="InvalidParameterException", message="no")])
    who = (records.ACCOUNT, arn.root_arn(records.ACCOUNT), "SubmitTaskStateChange")
    assert taker.batches == [(*who, [b'{"task":"a"}', b'{"task":"bad"}', b'{"task":"c"}'])]
    assert taker.instances == {f"{records.ACCOUNT}/{INSTANCE_ARN.partition('/')[2]}"}


async def test_nothing_is_answered_before_it_is_durable(cell, taker):
    socket = await opened(cell)
    await heard(cell, socket)
    taker.gate.clear()
    socket.send(request({"task": "a"}))
    assert await heard(cell, socket) == []
    taker.gate.set()
    assert await heard(cell, socket) == [StateReportsAck(taken=[1])]


async def test_a_fault_of_ours_is_an_answer_too(cell, taker):
    socket = await opened(cell)
    await heard(cell, socket)
    taker.broken = True
    socket.send(request({"task": "a"}))
    (answer,) = await heard(cell, socket)
    assert [(refused.number, refused.code) for refused in answer.refused] == [(1, "ServerException")]


async def test_more_than_a_connection_may_have_waiting_is_refused(cell, taker):
    socket = await opened(cell)
    await heard(cell, socket)
    taker.gate.clear()
    socket.send(request(*({"task": str(number)} for number in range(WAITING_MAX + 2))))
    (answer,) = await heard(cell, socket)
    assert [(refused.number, refused.code) for refused in answer.refused] == [(WAITING_MAX + 1, THROTTLED), (WAITING_MAX + 2, THROTTLED)]
    taker.gate.set()
    taken = [number for message in await heard(cell, socket) for number in message.taken]
    assert sorted(taken) == list(range(1, WAITING_MAX + 1))


async def test_the_end_of_a_connection_leaves_nothing_behind(cell, taker):
    socket = await opened(cell)
    taker.gate.clear()
    socket.send(request({"task": "a"}))
    await cell.clock.settle()
    socket.close()
    await socket.ended()
    taker.gate.set()
    await cell.clock.settle()
    again = await opened(cell)
    again.send(request({"task": "a"}, first=7))
    assert StateReportsAck(taken=[7]) in await heard(cell, again)


async def test_the_desk_keeps_its_bounds():
    taker, tasks = Taker(), []
    taker.gate.clear()
    desk = Desk(taker, lambda work: tasks.append(asyncio.create_task(work)))
    answers: list[int] = []

    class Session:
        key = "1/default/i"

        def answered(self, number: int, refused: Refused | None) -> None:
            answers.append(number)

    who = Principal("1", "arn:aws:iam::1:root")
    total = TOGETHER_MAX * (UNDER_WAY_MAX + 2)
    for number in range(total):
        desk.put(Session(), who, "SubmitTaskStateChange", number=number, request=b"{}")
    for _ in range(10):
        await asyncio.sleep(0)
    assert [len(batch[3]) for batch in taker.batches] == [TOGETHER_MAX] * UNDER_WAY_MAX
    taker.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(answers) == list(range(total))
    # Large ones do not go together.
    taker.batches.clear()
    for number in range(3):
        desk.put(Session(), who, "SubmitTaskStateChange", number=number, request=b"x" * 200_000)
    await asyncio.gather(*tasks[-1:])
    await asyncio.gather(*tasks)
    assert [len(batch[3]) for batch in taker.batches] == [1, 1, 1]
