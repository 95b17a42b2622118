"""The timer wheel, and the writes of an instance's session."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from msgspec.structs import replace
from unit.dispatcher.cell import instance

from homeport.dispatcher import liveness
from homeport.dispatcher.command import EndSession, OpenSession, commit_to
from homeport.dispatcher.liveness import SessionRefusedError, Wheel
from homeport.model.ecs.container_instance import AgentSession
from homeport.store.tables import CONTAINER_INSTANCES
from homeport.virtual_clock import VirtualClock


async def opened(cell, key: str, session_id: str, server: str):
    return await commit_to(cell.store)(OpenSession(key, session_id, server))


async def ended(cell, key: str, session_id: str) -> bool:
    before = await cell.store.view(lambda reader: reader.get(CONTAINER_INSTANCES, key))
    await commit_to(cell.store)(EndSession(key, session_id, "test"))
    return await cell.store.view(lambda reader: reader.get(CONTAINER_INSTANCES, key)) != before


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
    wheel = Wheel(VirtualClock(0.0), step_seconds=1.0, look_seconds=1.0, failed=failures.append)
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


async def test_what_is_due_in_one_second_is_not_done_at_one_stroke():
    clock = VirtualClock(0.0)
    wheel = Wheel(clock, step_seconds=0.02, look_seconds=1.0, failed=lambda error: None)
    items = [Item(30.0) for _ in range(1000)]
    for number, item in enumerate(items):
        wheel.add(item, 5.0 + number / 1000)
    running = asyncio.create_task(wheel.run())
    await clock.advance(10.0)
    running.cancel()
    together: dict[float, int] = defaultdict(int)
    for number, item in enumerate(items):
        [at] = item.calls
        together[at] += 1
        assert 5.0 + number / 1000 <= at <= 5.0 + number / 1000 + 0.05
    assert max(together.values()) <= 40


async def test_an_item_that_is_due_before_all_others_is_noticed_within_the_look():
    clock = VirtualClock(0.0)
    wheel = Wheel(clock, step_seconds=0.02, look_seconds=1.0, failed=lambda error: None)
    wheel.add(Item(None), 600.0)
    running = asyncio.create_task(wheel.run())
    await clock.advance(10.5)
    soon = Item(None)
    wheel.add(soon, 10.6)
    await clock.advance(2.0)
    running.cancel()
    assert 10.6 <= soon.calls[0] <= 11.7


async def test_ending_compares_the_id(cell):
    key = instance().key
    await opened(cell, key, "a", "s1")
    await opened(cell, key, "b", "s2")
    assert not await ended(cell, key, "a")
    assert (await cell.stored_instance()).agent_connected
    assert await ended(cell, key, "b")
    assert not (await cell.stored_instance()).agent_connected
    assert not await ended(cell, key, "b")


async def test_the_version_grows_when_the_agent_comes_and_goes_not_when_a_session_is_replaced(cell):
    key = instance().key
    versions = []
    for act in (
        lambda: opened(cell, key, "a", "s"),
        lambda: opened(cell, key, "b", "s"),
        lambda: ended(cell, key, "b"),
    ):
        await act()
        versions.append((await cell.stored_instance()).version)
    assert versions == [2, 2, 3]


OURS = AgentSession(id="ours", server="s", since=100.0)


@pytest.mark.parametrize(
    ("session", "disconnected_at", "over"),
    [
        (OURS, 0.0, False),
        (OURS, 150.0, False),  # ended by an earlier session's end, and begun again
        (AgentSession(id="newer", server="t", since=101.0), 0.0, True),
        (AgentSession(id="older", server="t", since=99.0), 0.0, False),  # the copy does not have ours yet
        (None, 101.0, True),  # given up by the leader
        (None, 99.0, False),  # as it was before ours
    ],
)
def test_a_session_is_over_when_a_newer_one_or_its_end_is_seen(session, disconnected_at, over):
    there = replace(instance(), session=session, disconnected_at=disconnected_at)
    assert liveness.is_over(there, session_id="ours", opened=100.0) == over
    assert liveness.is_over(None, session_id="ours", opened=100.0)


async def test_the_instant_of_connecting_stays_when_a_session_is_replaced_and_is_new_after_an_end(cell):
    key, instants = instance().key, []
    for act in (
        lambda: opened(cell, key, "a", "s"),
        lambda: opened(cell, key, "b", "s"),
        lambda: ended(cell, key, "b"),
        lambda: opened(cell, key, "c", "s"),
    ):
        await cell.clock.advance(5.0)
        await act()
        instants.append((await cell.stored_instance()).connected_at)
    assert instants == [instants[0], instants[0], instants[0], instants[0] + 15.0]


async def test_sessions_of_a_server(cell):
    await opened(cell, instance().key, "a", "s1")
    assert await cell.store.view(lambda reader: liveness.sessions_of(reader, "s1")) == ((instance().key, "a"),)
    assert await cell.store.view(lambda reader: liveness.sessions_of(reader, "s2")) == ()


async def test_nobody_connects_for_an_instance_that_is_not_there(cell):
    with pytest.raises(SessionRefusedError) as unknown:
        await opened(cell, "123456789012/default/none", "a", "s")
    assert unknown.value.exception == "InvalidInstanceException"
    await cell.change(instance(), status="INACTIVE")
    with pytest.raises(SessionRefusedError) as inactive:
        await opened(cell, instance().key, "a", "s")
    assert inactive.value.exception == "InactiveInstanceException"
