"""The simulator finds what it is there to find: each typical bug, planted by itself, within a few seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulation.planted_bugs import BUGS, NOTHING

SEEDS_MAX = 60
"""Seeds in which a bug must be found; most are found in the first, a crash between two steps of the agent takes the most."""
HOLDING_SEEDS = 20
"""Seeds that must hold without a bug here; `./dev sim` has many more."""
ROOT = Path(__file__).parents[2]


def _hunt(name: str, seeds: int = SEEDS_MAX) -> subprocess.CompletedProcess[str]:
    # In a process of its own: a planted bug stays, and the order of sets is the same in every run.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    command = [sys.executable, "-P", "-m", "tests.simulation.planted_bugs", name, str(seeds)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    done = _hunt(name)
    assert done.returncode == 0, f"{name} was not caught in {SEEDS_MAX} seeds\n{done.stderr[-2000:]}"
    assert "the simulation itself broke" not in done.stdout, done.stdout


def test_the_same_seeds_hold_without_a_bug() -> None:
    done = _hunt(NOTHING, HOLDING_SEEDS)
    assert done.stderr.strip() == "not caught", done.stdout
