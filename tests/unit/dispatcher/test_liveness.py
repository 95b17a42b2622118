"""The timer wheel, and the writes of an instance's session."""

from __future__ import annotations

import pytest
from unit.dispatcher.cell import instance

from homeport.dispatcher import liveness
from homeport.dispatcher.liveness import SessionRefusedError, Wheel
from homeport.testing.clock import VirtualClock


class Item:
    """Counts its calls; comes again after `period`."""

    def __init__(self, period: float | None) -> None:
        self.period = period
        self.calls: list[float] = []

    def due(self, now: float) -> float | None:
        self.calls.append(now)
        if self.period == 0:
            raise ValueError("broken")
        return None if self.period is None else now + self.period


def test_the_wheel_calls_up_to_one_step_late_and_never_early():
    failures: list[Exception] = []
    wheel = Wheel(VirtualClock(0.0), step_seconds=1.0, failed=failures.append)
    once, often, broken = Item(None), Item(2.0), Item(0)
    wheel.add(once, 1.5)
    wheel.add(often, 0.0)
    wheel.add(broken, 1.0)
    for tenth in range(61):
        wheel.turn(tenth / 10)
    assert once.calls == [2.0]
    assert often.calls == [1.0, 4.0]
    assert [str(failure) for failure in failures] == ["broken"]
    assert len(broken.calls) == 1


async def test_ending_compares_the_id(cell):
    key = instance().key
    await liveness.open_session(cell.store, key, session_id="a", server="s1")
    await liveness.open_session(cell.store, key, session_id="b", server="s2")
    assert not await liveness.end_session(cell.store, key, session_id="a", why="test")
    assert (await cell.stored_instance()).agent_connected
    assert await liveness.end_session(cell.store, key, session_id="b", why="test")
    assert not (await cell.stored_instance()).agent_connected
    assert not await liveness.end_session(cell.store, key, session_id="b", why="test")


async def test_the_version_grows_when_the_agent_comes_and_goes_not_when_a_session_is_replaced(cell):
    key = instance().key
    versions = []
    for act in (
        lambda: liveness.open_session(cell.store, key, session_id="a", server="s"),
        lambda: liveness.open_session(cell.store, key, session_id="b", server="s"),
        lambda: liveness.end_session(cell.store, key, session_id="b", why="test"),
    ):
        await act()
        versions.append((await cell.stored_instance()).version)
    assert versions == [2, 2, 3]


async def test_sessions_of_a_server(cell):
    await liveness.open_session(cell.store, instance().key, session_id="a", server="s1")
    assert await cell.store.view(lambda reader: liveness.sessions_of(reader, "s1")) == ((instance().key, "a"),)
    assert await cell.store.view(lambda reader: liveness.sessions_of(reader, "s2")) == ()


async def test_nobody_connects_for_an_instance_that_is_not_there(cell):
    with pytest.raises(SessionRefusedError) as unknown:
        await liveness.open_session(cell.store, "123456789012/default/none", session_id="a", server="s")
    assert unknown.value.exception == "InvalidInstanceException"
    await cell.change(instance(), status="INACTIVE")
    with pytest.raises(SessionRefusedError) as inactive:
        await liveness.open_session(cell.store, instance().key, session_id="a", server="s")
    assert inactive.value.exception == "InactiveInstanceException"
