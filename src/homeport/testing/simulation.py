"""`./dev sim`: many seeds, in as many processes as there are cores, and a report of the first that fails.

Owns: the arguments, the processes, the form of the report. Never simulates anything itself (`world.py` does).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence

from homeport.clock import SystemClock
from homeport.testing.faults import Trouble
from homeport.testing.world import Options, Outcome, simulate

HASH_SEED = "0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds that `arguments` name; 0 when every one of them held, else 1."""
    given = _parser().parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        # Sets of texts are gone through in an order that depends on it. It can only be set before Python starts.
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-P", "-m", "homeport.testing.simulation", *(arguments if arguments is not None else sys.argv[1:])])
    kinds = None if not given.faults else () if given.faults == "none" else tuple(given.faults.split(","))
    if kinds and not set(kinds) <= set(Trouble.KINDS):
        raise SystemExit(f"./dev sim: faults are {', '.join(Trouble.KINDS)}")
    options = Options(minutes=given.minutes, agents=given.agents, faults=kinds, servers=given.servers)
    clock = SystemClock()
    began = clock.monotonic()
    failed: list[Outcome] = []
    done = 0
    for outcome in outcomes(range(given.first_seed, given.first_seed + given.seeds), options, processes=given.processes):
        done += 1
        if given.verbose or outcome.violation:
            print(told(outcome), flush=True)
        if outcome.violation:
            failed.append(outcome)
            if not given.keep_going:
                break
    seconds = clock.monotonic() - began
    used = os.times()
    cpu_seconds = used.user + used.system + used.children_user + used.children_system
    size = f"{given.minutes:g} minutes and {given.agents} agents"
    print(f"{done} seeds of {size} in {seconds:.1f} s ({cpu_seconds / max(1, done):.2f} s of CPU each), {len(failed)} failed")
    if failed:
        print("again: " + " ".join(f"./dev sim --seeds 1 --first-seed {outcome.seed} --verbose;" for outcome in failed[:5]))
    return 1 if failed else 0


def outcomes(seeds: Sequence[int], options: Options, *, processes: int) -> Iterator[Outcome]:
    """The outcome of each seed, in order of seeds."""
    if processes <= 1 or len(seeds) <= 1:
        yield from (simulate(seed, options) for seed in seeds)
        return
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=None) as pool:
        futures = [pool.submit(simulate, seed, options) for seed in seeds]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def told(outcome: Outcome) -> str:
    """An outcome as a person reads it: one line, or for a failure the trace's end as well."""
    head = (
        f"seed {outcome.seed}: {outcome.digest}  {outcome.commits} commits, {outcome.tasks} tasks, {outcome.calls} calls, "
        f"{outcome.lives} server lives, {outcome.leaderships} leaderships, settled after {outcome.settled_after:.0f} s"
    )
    if not outcome.violation:
        return head
    lines = [head, f"faults: {' '.join(outcome.kinds)}", *outcome.tail, f"seed {outcome.seed} FAILED: {outcome.violation}"]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev sim", description="Simulate whole installations with faults; the same seed gives the same run.")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds (default 20)")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--minutes", type=float, default=10.0, help="cluster minutes of each (default 10)")
    parser.add_argument("--agents", type=int, default=30, help="hosts of each (default 30)")
    parser.add_argument("--servers", type=int, choices=(1, 3), help="servers of each (default: three in every sixteenth seed, else one)")
    parser.add_argument("--faults", default="", help="kinds of faults, separated by commas, instead of the seed's choice; `none` for none")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    parser.add_argument("--verbose", action="store_true", help="a line for each seed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
