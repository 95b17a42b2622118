"""`./dev bench NAME [--json]`: runs one benchmark, or `all`, and keeps the results; `./dev bench alternate --base REV` compares two revisions.

Owns: the list of benchmarks (the modules beside this one that have `run`), how rows are shown, and `results/NAME.jsonl`, to which every kept run
adds its rows with machine and date. Never measures anything itself.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import alternate
from tests.busybox_image import engine_with_image

HERE = Path(__file__).parent
LESS_IS_BETTER = ("s", "ms", "MB", "MiB", "ratio", "% of a core", "tasks")
"""Units in which a floor is an upper bound."""
COLUMNS = ("bench", "case", "value", "unit", "floor", "target", "")
COMPARED_COLUMNS = ("case", "before", "after", "of", "value", "lowest", "highest", "floor", "")
ON_DOCKER = ("idle", "launch", "replace")
"""What needs Docker and the test image."""


def names() -> list[str]:
    """Every benchmark."""
    return sorted(path.stem for path in HERE.glob("*.py") if "\ndef run()" in path.read_text())


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit,
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def less_is_better(unit: str) -> bool:
    """Whether a smaller value of `unit` is the better one."""
    return unit in LESS_IS_BETTER or unit.endswith("ratio")


def verdict(row: dict[str, Any]) -> str:
    """`target`, `floor` or `BELOW`: how good a value is against its bounds; nothing for a row without bounds."""
    if row.get("floor") is None:
        return ""
    sign = -1 if less_is_better(row["unit"]) else 1
    if sign * row["value"] >= sign * (row["target"] if row.get("target") is not None else row["floor"]):
        return "target"
    return "floor" if sign * row["value"] >= sign * row["floor"] else "BELOW"


def show(rows: list[dict[str, Any]], header: tuple[str, ...] = COLUMNS) -> None:
    """The rows as a table."""
    cells = [header, *((*(str("" if row.get(name) is None else row[name]) for name in header[:-1]), verdict(row)) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def keep(name: str, rows: list[dict[str, Any]], context: dict[str, Any]) -> None:
    """Add the rows to the benchmark's results."""
    (HERE / "results").mkdir(exist_ok=True)
    with (HERE / "results" / f"{name}.jsonl").open("a") as file:
        for row in rows:
            file.write(json.dumps({**row, **context}) + "\n")


def main() -> int:
    """Run what was asked for; status 2 for a name that is not known."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it every start compiles all the sources, which no installation does
    parser = argparse.ArgumentParser(prog="./dev bench")
    help_text = f"all, or one of: {', '.join(names())}; after `alternate` those to compare (default: {' '.join(alternate.USUAL)})"
    parser.add_argument("names", nargs="*", metavar="NAME", help=help_text)
    parser.add_argument("--base", metavar="REV", help="with alternate: the revision to compare this checkout with, by turns")
    parser.add_argument(
        "--rounds", type=int, default=alternate.ROUNDS, metavar="N", help=f"with alternate: turns of each; default: {alternate.ROUNDS}"
    )
    parser.add_argument("--json", action="store_true", help="one object a line: bench, case, value, unit, floor, target")
    parser.add_argument("--no-keep", action="store_true", help="do not add the rows to benchmarks/results")
    options = parser.parse_intermixed_args()
    if not options.names:
        print("\n".join(names()))
        return 0
    name, *cases = options.names
    compared = name == "alternate"
    if compared != (options.base is not None) or (cases and not compared) or options.rounds < 1:
        parser.error("alternate needs --base REV; --base, --rounds and further names go with alternate alone")
    chosen = cases or list(alternate.USUAL) if compared else names() if name == "all" else [name]
    if unknown := sorted(set(chosen) - set(names())):
        print(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end, what was started is put away first
    with contextlib.ExitStack() as stack:
        if any(name in ON_DOCKER for name in chosen):
            stack.enter_context(engine_with_image(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        return compare(chosen, options) if compared else measure(chosen, options)


def measure(chosen: list[str], options: argparse.Namespace) -> int:
    """Run, show and keep each benchmark."""
    for name in chosen:
        context = machine()
        rows = importlib.import_module(f"benchmarks.{name}").run()
        if options.json:
            for row in rows:
                print(json.dumps(row), flush=True)
        else:
            show(rows)
        if not options.no_keep:
            keep(name, rows, context)
    return 0


def compare(chosen: list[str], options: argparse.Namespace) -> int:
    """Measure before and after by turns, show and keep the comparison."""
    context = machine()
    try:
        rows = alternate.alternate(chosen, options.base, rounds=options.rounds)
    except alternate.MeasurementFailedError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        for row in rows:
            print(json.dumps(row), flush=True)
    else:
        show(rows, COMPARED_COLUMNS)
    if not options.no_keep:
        keep("alternate", rows, context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
