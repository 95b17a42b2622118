"""`./dev bench alternate --base REV NAME…`: what a change cost, measured before and after by turns in one run.

Owns: laying out the base revision, the turns, and the comparison of their rows. Never measures anything itself: each turn is a process that runs one
benchmark, today's, on the code of the base or of this checkout. A machine's speed drifts; two halves of one run drift together, and which of them
comes first changes with every round.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
ROUNDS: Final = 5
USUAL: Final = ("api", "store", "placement", "launch", "replace", "idle")
"""What is compared unless told otherwise."""
COST_MAX, COST_TARGET = 1.10, 1.05
"""A change that costs more than a tenth is no noise of five rounds on a quiet machine."""
_SIZE: Final = re.compile(r" of \d+ B$")
"""What a case says of a record's size, which grows with its fields."""


class MeasurementFailedError(Exception):
    """A turn did not end well. The message is the end of what it said."""


class Side(NamedTuple):
    """One of the two things compared."""

    name: str
    source: Path
    """Checkout whose `src` is measured."""
    benchmarks: Path
    """Checkout whose benchmarks measure it."""

    def measure(self, benchmark: str) -> dict[tuple[str, str], dict[str, Any]]:
        """One turn: (case, unit) → row. Raises MeasurementFailedError."""
        environ = {**os.environ, "PYTHONPATH": f"{self.source / 'src'}:{self.benchmarks}"}
        with tempfile.TemporaryDirectory() as directory:  # nothing of a checkout is found by where a turn runs
            command = [sys.executable, "-P", "-m", "benchmarks", benchmark, "--json", "--no-keep"]
            status, said, complaints = _run(command, Path(directory), environ)
        if status:
            raise MeasurementFailedError(f"{benchmark}, {self.name}: status {status}\n{complaints.strip()[-2000:]}")
        rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return {(_SIZE.sub("", str(row["case"])), str(row["unit"])): row for row in rows}


def _run(command: Sequence[str], directory: Path, environ: dict[str, str]) -> tuple[int, str, str]:
    """Status, output and complaints. When this is asked to end, the command is, once, and has the time to put away what it started."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=directory, env=environ, text=True, start_new_session=True, **pipes) as process:
        try:
            said, complaints = process.communicate()
        except BaseException:
            process.terminate()
            process.communicate()
            raise
        return process.returncode, said, complaints


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[tuple[Path, str]]:
    """A directory with the files of `revision`, removed afterwards, and its short name. Raises MeasurementFailedError for one that is not known."""
    known = subprocess.run(["git", "rev-parse", "--short", f"{revision}^{{commit}}"], cwd=ROOT, capture_output=True, text=True, check=False)
    if known.returncode:
        raise MeasurementFailedError(f"{revision} is no revision of this repository")
    with tempfile.TemporaryDirectory(prefix="homeport-base-") as directory:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", directory], input=archive, check=True)
        yield Path(directory), known.stdout.strip()


def alternate(names: Sequence[str], revision: str, *, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """The rows of the comparison: `value` is the cost, above 1 when the change made it slower or larger; `before` and `after` are medians.

    Where today's benchmark does not run on the base, each side is measured by its own, and the row says so. Raises MeasurementFailedError.
    """
    rows = []
    with checked_out(revision) as (base, short):
        for name in names:
            sides = (Side(f"before ({short})", base, ROOT), Side("after", ROOT, ROOT))
            try:
                first = sides[0].measure(name)
            except MeasurementFailedError as error:
                print(f"today's {name} does not run on {short}, so each side is measured by its own: {error}", file=sys.stderr)
                sides = (Side(f"before ({short})", base, base), Side("after", ROOT, ROOT))
                first = sides[0].measure(name)
            turns = list(_turns(name, sides, first, rounds))
            own = sides[0].benchmarks != ROOT
            rows += compare(name, turns, {"base": short, "rounds": rounds} | ({"measured": "each by its own benchmark"} if own else {}))
    return rows


Measured = dict[tuple[str, str], dict[str, Any]]


def _turns(name: str, sides: tuple[Side, Side], first: Measured, rounds: int) -> Iterator[tuple[Measured, Measured]]:
    """(before, after) of each round. `first`: the turn of the base that has been made already."""
    for number in range(rounds):
        _say(f"{name}: round {number + 1} of {rounds}")
        if number == 0:
            yield first, sides[1].measure(name)
        elif number % 2:
            after = sides[1].measure(name)
            yield sides[0].measure(name), after
        else:
            before = sides[0].measure(name)
            yield before, sides[1].measure(name)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compare(name: str, turns: Sequence[tuple[Measured, Measured]], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each case that both sides have in every round. The cost is the median of the rounds' ratios, `lowest` and `highest` their ends."""
    from benchmarks.__main__ import less_is_better

    found = []
    for key in turns[0][1]:
        pairs = [(float(before[key]["value"]), float(after[key]["value"])) for before, after in turns if key in before and key in after]
        if len(pairs) < len(turns) or not all(before > 0 and after > 0 for before, after in pairs):
            _say(f"{name}: {key[0]}: not compared, because a side lacks it or measured nothing")
            continue
        case, unit = key
        costs = [after / before if less_is_better(unit) else before / after for before, after in pairs]
        bound = turns[0][1][key].get("floor") is not None
        found.append(
            {
                "bench": "alternate",
                "case": f"{name}: {case}",
                "value": round(statistics.median(costs), 3),
                "unit": "ratio",
                "floor": COST_MAX if bound else None,
                "target": COST_TARGET if bound else None,
                "lowest": round(min(costs), 3),
                "highest": round(max(costs), 3),
                "before": statistics.median(before for before, _ in pairs),
                "after": statistics.median(after for _, after in pairs),
                "of": unit,
                **facts,
            }
        )
    return found
