"""Reports over the control connection: frames, answers by number, and what is left to the next way when the connection fails."""

from __future__ import annotations

import asyncio

import pytest

from homeport.acs.messages import Message, RefusedReport, StateReportsAck, StateReportsRequest
from homeport.agent.client import CallFailedError, UnreachableError
from homeport.agent.report_line import FRAME_REPORTS_MAX, ReportLine


class Wire:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.frames: list[StateReportsRequest] = []

    async def tell(self, message: Message) -> None:
        assert isinstance(message, StateReportsRequest)
        self.frames.append(message)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def line(wire: Wire, *, waiting_max: int = 1_000, timeout_seconds: float = 30.0) -> ReportLine:
    return ReportLine(wire.tell, waiting_max=waiting_max, timeout_seconds=timeout_seconds)


async def submitted(made: ReportLine, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(made.submit("SubmitTaskStateChange", {"task": f"t{number}"})) for number in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_reports_of_one_moment_share_frames_and_are_answered_by_number(wire):
    made = line(wire)
    tasks = await submitted(made, FRAME_REPORTS_MAX + 20)
    assert [len(frame.reports) for frame in wire.frames] == [FRAME_REPORTS_MAX, 20]
    first, second = wire.frames[0].reports[:2]
    assert (first.operation, bytes(first.request)) == ("SubmitTaskStateChange", b'{"task":"t0"}')
    assert not tasks[0].done()
    made.heard(StateReportsAck(taken=[second.number], refused=[RefusedReport(number=first.number, code="InvalidParameterException", message="no")]))
    await asyncio.gather(*tasks[:2], return_exceptions=True)
    assert isinstance(tasks[0].exception(), CallFailedError)
    assert tasks[1].result() is None
    assert not tasks[2].done()
    made.heard(StateReportsAck(taken=[second.number, 99_999]))  # a second answer, and one that nobody waits for
    made.end()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_more_wait_than_the_server_said(wire):
    made = line(wire, waiting_max=3)
    tasks = await submitted(made, 5)
    assert sum(len(frame.reports) for frame in wire.frames) == 3
    made.heard(StateReportsAck(taken=[report.number for frame in wire.frames for report in frame.reports]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert sum(len(frame.reports) for frame in wire.frames) == 5
    made.end()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_end_of_the_connection_leaves_every_report_to_be_told_again(wire):
    made = line(wire)
    tasks = await submitted(made, 3)
    made.end()
    assert all(isinstance(error, UnreachableError) for error in await asyncio.gather(*tasks, return_exceptions=True))
    assert not made.open
    with pytest.raises(UnreachableError):
        await made.submit("SubmitTaskStateChange", {})


async def test_a_report_without_an_answer_closes_the_line(wire):
    made = line(wire, timeout_seconds=0.01)
    with pytest.raises(UnreachableError):
        await made.submit("SubmitTaskStateChange", {})
    assert not made.open
