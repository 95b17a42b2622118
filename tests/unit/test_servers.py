"""When a follower deposes a leader that does not answer it."""

from __future__ import annotations

import asyncio
import math

from homeport.ids import Ids
from homeport.servers import WATCH_SECONDS, Silence
from homeport.store.etcd import messages
from homeport.store.etcd.client import EtcdClient
from homeport.store.leader import LEASE_SECONDS, Leader
from homeport.testing.etcd_door import DoorFaults, EtcdDoor
from homeport.testing.etcd_state import EtcdState
from homeport.testing.virtual_loop import Chance
from homeport.virtual_clock import VirtualClock

LEADER = Leader("server-1", "http://100.64.0.1:8470")


def looks(silence: Silence, *, begin: float, seconds: float, term_since: float = -math.inf, leader: Leader = LEADER) -> list[float]:
    """When it is to be deposed, while nobody hears it for `seconds`."""
    times = [begin + number * WATCH_SECONDS for number in range(1, int(seconds / WATCH_SECONDS) + 1)]
    return [now for now in times if silence.is_over_long(leader, answered=False, term_since=term_since, now=now)]


def heard(silence: Silence, now: float, leader: Leader = LEADER) -> None:
    assert not silence.is_over_long(leader, answered=True, term_since=math.inf, now=now)


def test_a_silent_leader_is_deposed_once_when_etcd_has_another_leader_since() -> None:
    silence = Silence(100.0)
    heard(silence, 100.0)
    assert looks(silence, begin=100.0, seconds=3 * LEASE_SECONDS, term_since=101.0) == [100.0 + LEASE_SECONDS]


def test_while_etcd_keeps_its_leader_the_lease_alone_decides() -> None:
    silence = Silence(100.0)
    heard(silence, 100.0)
    assert looks(silence, begin=100.0, seconds=60.0) == []
    assert looks(silence, begin=160.0, seconds=60.0, term_since=99.0) == []


def test_who_answers_in_time_is_never_deposed() -> None:
    silence, now = Silence(100.0), 100.0
    for _ in range(20):
        heard(silence, now)
        assert looks(silence, begin=now, seconds=LEASE_SECONDS - WATCH_SECONDS, term_since=math.inf) == []
        now += LEASE_SECONDS


def test_another_leader_has_its_own_time() -> None:
    silence = Silence(100.0)
    heard(silence, 100.0)
    other = Leader("server-2", "http://100.64.0.2:8470")
    assert looks(silence, begin=100.0, seconds=LEASE_SECONDS - WATCH_SECONDS, term_since=math.inf) == []
    begin = 100.0 + LEASE_SECONDS - WATCH_SECONDS
    assert looks(silence, begin=begin, seconds=LEASE_SECONDS, term_since=math.inf, leader=other) == []


def test_a_server_that_stood_still_itself_takes_that_time_for_nobody_s_silence() -> None:
    silence = Silence(100.0)
    heard(silence, 100.0)
    assert looks(silence, begin=110.0, seconds=LEASE_SECONDS, term_since=math.inf) == []
    assert looks(silence, begin=110.0 + LEASE_SECONDS, seconds=LEASE_SECONDS, term_since=math.inf) == [110.0 + LEASE_SECONDS + WATCH_SECONDS]


async def test_the_first_leader_of_etcd_that_is_heard_of_is_no_new_one() -> None:
    clock = VirtualClock(100.0)
    state = EtcdState(asyncio.get_running_loop(), lambda sender, revision, events: None)
    client = EtcdClient(EtcdDoor(state, "test", faults=DoorFaults(), chance=Chance(Ids(1)), crash=lambda: None).members, clock=clock)
    for elections, since in ((0, -math.inf), (0, -math.inf), (1, clock.monotonic()), (0, clock.monotonic())):
        for _ in range(elections):
            state.elect()
        await client.read(messages.RangeRequest(key=b"k"))
        assert (client.term, client.term_since) == (state.term, since)
    await client.close()
