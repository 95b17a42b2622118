from __future__ import annotations

import asyncio

import pytest

from homeport.virtual_clock import START, VirtualClock


async def note(clock: VirtualClock, seconds: float, log: list[float]) -> None:
    await clock.sleep(seconds)
    log.append(clock.now() - START)


async def test_time_moves_only_when_told():
    clock, log = VirtualClock(), []
    sleepers = [asyncio.create_task(note(clock, seconds, log)) for seconds in (3.0, 1.0, 2.0)]
    await clock.settle()
    assert (log, clock.now()) == ([], START)
    await clock.advance(2.5)
    assert (log, clock.now()) == ([1.0, 2.0], START + 2.5)
    await clock.advance(1.0)
    assert log == [1.0, 2.0, 3.0]
    await asyncio.gather(*sleepers)


async def test_jump_goes_to_the_next_deadline():
    clock, log = VirtualClock(), []
    sleeper = asyncio.create_task(note(clock, 100.0, log))
    assert await clock.jump() is True
    assert (clock.now(), log) == (START + 100.0, [100.0])
    assert await clock.jump() is False
    await sleeper


async def test_deadlines_set_on_the_way_are_kept():
    clock, log = VirtualClock(), []

    async def tick() -> None:
        for _ in range(5):
            await clock.sleep(1.0)
            log.append(clock.now() - START)

    ticking = asyncio.create_task(tick())
    await clock.advance(3.5)
    assert log == [1.0, 2.0, 3.0]
    ticking.cancel()


async def test_run_carries_a_program_to_its_end():
    clock = VirtualClock()
    driver = asyncio.create_task(clock.run())
    await asyncio.wait_for(asyncio.gather(clock.sleep(86_400.0), clock.sleep(0.0)), 5)
    assert clock.now() == START + 86_400.0
    driver.cancel()


async def test_a_cancelled_sleeper_is_forgotten():
    clock = VirtualClock()
    sleeper = asyncio.create_task(clock.sleep(5.0))
    await clock.settle()
    sleeper.cancel()
    await clock.settle()
    assert clock.next_deadline is None


async def test_programs_that_run_in_circles_are_noticed():
    clock = VirtualClock()

    async def circle() -> None:
        while True:
            await asyncio.sleep(0)

    circling = asyncio.create_task(circle())
    with pytest.raises(RuntimeError, match="did not come to rest"):
        await clock.settle()
    circling.cancel()
