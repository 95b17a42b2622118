"""The simulation itself: small runs hold, a seed replays, and what fails says how to see it again."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys

import pytest

from homeport.store.etcd import messages
from homeport.store.etcd.client import put
from homeport.store.leader import Leader
from homeport.store.replica import Replica
from homeport.testing import simulation, world
from homeport.testing.etcd_state import EtcdState
from homeport.testing.faults import Trouble
from homeport.testing.server_faults import LoneServer, SeveralServers
from homeport.testing.virtual_loop import VirtualLoop
from homeport.testing.world import Options, simulate

SMALL = Options(minutes=3.0, agents=8, services=3)


@pytest.mark.parametrize("seed", range(1, 7))
def test_everything_holds_whatever_happens(seed: int) -> None:
    outcome = simulate(seed, SMALL)
    assert not outcome.violation, simulation.told(outcome)
    assert outcome.commits > 100
    assert outcome.acknowledged > 30


def test_the_same_seed_gives_the_same_trace_also_in_another_process() -> None:
    program = "from homeport.testing.world import *; print(*(simulate(seed, Options(minutes=2.0, agents=8, services=3)).digest for seed in (SEEDS)))"

    def digests(*seeds: int) -> list[str]:
        command = [sys.executable, "-c", program.replace("SEEDS", repr(seeds))]
        return subprocess.run(command, env=_environment(), capture_output=True, text=True, check=True).stdout.split()

    first, second = digests(6, 9), digests(9, 6)
    assert first == second[::-1]
    assert first[0] != first[1]


def _environment() -> dict[str, str]:
    import os
    from pathlib import Path

    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


def test_a_run_without_faults_settles_at_once() -> None:
    outcome = simulate(3, Options(minutes=3.0, agents=8, services=3, faults=(), servers=1))
    assert not outcome.violation, simulation.told(outcome)
    assert outcome.kinds == ()
    assert outcome.lives == 1


def test_what_is_stuck_is_found_in_fifteen_minutes_and_what_only_moves_in_seventy_five(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(minutes=0.5, agents=3, services=1, faults=(), servers=1)
    monkeypatch.setattr(world, "unsettled", lambda *_: ["nothing ever is"])
    assert "900 s after the last step" in simulate(3, options).violation
    numbers = itertools.count()
    monkeypatch.setattr(world, "steps_taken", lambda _: {(next(numbers),)})
    assert "4500 s after the last fault and 0 s after the last step" in simulate(3, options).violation


KINDS = [
    *((kind, 1) for kind in (*Trouble.HOST_KINDS, *LoneServer.KINDS)),
    *((kind, 3) for kind in SeveralServers.KINDS),
]


@pytest.mark.parametrize(("kind", "servers"), KINDS)
def test_each_kind_of_fault_alone(kind: str, servers: int) -> None:
    outcome = simulate(1, Options(minutes=3.0, agents=8, services=3, faults=(kind,), servers=servers))
    assert not outcome.violation, simulation.told(outcome)
    assert outcome.kinds == (kind,)


def test_several_servers_without_faults_keep_their_first_leader() -> None:
    outcome = simulate(1, Options(minutes=3.0, agents=8, services=3, faults=(), servers=3))
    assert not outcome.violation, simulation.told(outcome)
    assert (outcome.lives, outcome.leaderships) == (3, 1)


def test_a_leader_that_stands_still_is_followed_by_another_and_changes_nothing_when_it_wakes() -> None:
    outcome = simulate(2, Options(minutes=5.0, agents=8, services=3, faults=("server-pause",), servers=3))
    assert not outcome.violation, simulation.told(outcome)
    assert outcome.lives == 3
    assert outcome.leaderships > 1


def test_a_leader_that_stands_still_while_etcd_elects_is_deposed_before_its_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    deposed: list[bool] = []
    right = Replica.depose

    async def depose(self: Replica, leader: Leader) -> bool:
        deposed.append(await right(self, leader))
        return deposed[-1]

    monkeypatch.setattr(Replica, "depose", depose)
    for seed in range(1, 9):
        outcome = simulate(seed, Options(minutes=5.0, agents=3, services=1, faults=("server-pause", "etcd-election"), servers=3))
        assert not outcome.violation, simulation.told(outcome)
        if any(deposed):
            return
    raise AssertionError("no leader was deposed")


def test_another_leader_of_etcd_gives_every_lease_its_whole_time_anew() -> None:
    loop = VirtualLoop()
    ended: list[float] = []
    state = EtcdState(loop, lambda sender, revision, events: ended.append(loop.time()))
    state.txn("server", messages.TxnRequest(success=[put(b"leader", b"", state.grant(3))]))
    loop.call_later(2.0, state.elect)
    loop.run_until_complete(asyncio.sleep(10.0))
    loop.close()
    assert ended == [0.0, pytest.approx(5.0)]
    assert state.term == 2


def test_every_sixteenth_seed_has_several_servers() -> None:
    lives = [simulate(seed, Options(minutes=0.5, agents=3, services=1, faults=())).lives for seed in (1, 10, 15, 16, 17, 32)]
    assert lives == [1, 1, 1, 3, 1, 3]


def test_a_failing_seed_prints_itself_its_invariant_and_the_end_of_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from homeport.planner import service as planner

    right = planner.bounds
    monkeypatch.setattr(planner, "bounds", lambda service: right(service).__class__(0, 1000))
    monkeypatch.setenv("PYTHONHASHSEED", simulation.HASH_SEED)
    status = simulation.main(["--seeds", "5", "--minutes", "4", "--agents", "8", "--processes", "1"])
    said = capsys.readouterr().out
    assert status == 1
    assert "FAILED: service " in said
    assert "commit " in said
    assert "./dev sim --seeds 1 --first-seed" in said


@pytest.mark.parametrize("seed", [1, 2])
def test_a_capacity_provider_follows_its_tasks_whatever_happens(seed: int) -> None:
    outcome = simulate(seed, Options(minutes=3.0, agents=4, services=1, pool=4))
    assert not outcome.violation, simulation.told(outcome)
    assert outcome.commits > 100


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("drains", lambda _provider, _item, _instance: False, "without having drained"),
        ("ready", lambda _provider, _item, **_: True, "tasks"),
    ],
)
def test_managed_scaling_that_ends_machines_too_early_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, wrong: object, told: str) -> None:
    from homeport.planner import managed_scaling

    monkeypatch.setattr(managed_scaling, name, wrong)
    options = Options(minutes=6.0, agents=4, services=1, pool=4, faults=())
    assert any(told in simulate(seed, options).violation for seed in range(1, 6))
