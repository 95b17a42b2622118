"""Delays between attempts, and the nudge that ends them."""

from __future__ import annotations

import asyncio

import pytest

from homeport.agent.backoff import Backoff
from homeport.agent.settings import AgentSettings
from homeport.ids import Ids
from homeport.virtual_clock import VirtualClock

SETTINGS = AgentSettings(endpoint="http://127.0.0.1:1", region="us-east-1", access_key_id="a", secret_access_key="s")


def test_delays_grow_up_to_the_ceiling():
    backoff = Backoff(SETTINGS, clock=VirtualClock(), ids=Ids(1))
    for failures, seconds in ((0, 0.25), (1, 0.25), (2, 0.375), (5, 0.25 * 1.5**4), (50, 10.0), (10**9, 10.0)):
        delays = [backoff.delay(failures) for _ in range(50)]
        assert min(delays) >= seconds * 0.8 - 1e-9
        assert max(delays) <= seconds * 1.2 + 1e-9
        assert len(set(delays)) > 1


@pytest.mark.parametrize(("patient", "over"), [(False, True), (True, False)])
async def test_a_nudge_ends_every_wait_but_a_patient_one(patient, over):
    clock = VirtualClock()
    backoff = Backoff(SETTINGS, clock=clock, ids=Ids(1))
    waits = [asyncio.create_task(backoff.wait(10, patient=patient)) for _ in range(3)]
    await clock.advance(1)
    backoff.nudge()
    await clock.settle()
    assert [wait.done() for wait in waits] == [over] * 3
    again = asyncio.create_task(backoff.wait(10))
    await clock.settle()
    assert not again.done()  # the nudge was for those who waited then
    await clock.advance(20)
    assert again.done()
    assert all(wait.done() for wait in waits)
