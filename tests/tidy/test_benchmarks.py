"""Benchmarks: what is kept can be read again, and a bound is judged the right way round."""

from __future__ import annotations

import json

import pytest
from benchmarks.__main__ import names, verdict
from benchmarks.alternate import MeasurementFailedError, checked_out, compare


def test_each_kept_row_says_what_when_and_where(root):
    files = sorted((root / "benchmarks/results").glob("*.jsonl"))
    assert files
    for path in files:
        assert path.stem in {*names(), "alternate"}
        for line in path.read_text().splitlines():
            row = json.loads(line)
            assert row.keys() >= {"bench", "case", "value", "unit", "floor", "target", "date", "cpu", "cores", "python"}, path.name


@pytest.mark.parametrize(
    ("value", "unit", "floor", "target", "expected"),
    [
        (9, "calls per CPU-second", 5, 8, "target"),
        (6, "calls per CPU-second", 5, 8, "floor"),
        (4, "calls per CPU-second", 5, 8, "BELOW"),
        (1.02, "ratio", 1.2, 1.05, "target"),
        (1.1, "ratio", 1.2, 1.05, "floor"),
        (1.3, "ratio", 1.2, 1.05, "BELOW"),
        (120, "MB", 100, 100, "BELOW"),
        (7, "s", None, None, ""),
    ],
)
def test_a_bound_is_judged_by_its_unit(value, unit, floor, target, expected):
    assert verdict({"value": value, "unit": unit, "floor": floor, "target": target}) == expected


def turn(**values):
    return {("calls", "calls per CPU-second"): {"value": values["calls"], "floor": 1}, ("start", "ms"): {"value": values["start"], "floor": None}}


def test_a_comparison_says_what_the_change_costs_whichever_way_is_better():
    rounds = [(turn(calls=100, start=10), turn(calls=80, start=11)), (turn(calls=100, start=10), turn(calls=50, start=9))]
    rounds += [(turn(calls=200, start=20), turn(calls=200, start=30))]
    slower, start = compare("api", rounds, {"base": "abc"})
    assert (slower["case"], slower["value"], slower["lowest"], slower["highest"]) == ("api: calls", 1.25, 1.0, 2.0)
    assert (slower["before"], slower["after"], slower["of"], slower["base"]) == (100, 80, "calls per CPU-second", "abc")
    assert verdict(slower) == "BELOW"
    assert (start["value"], start["before"], start["after"], verdict(start)) == (1.1, 10, 11, "")


def test_a_case_that_one_side_lacks_is_not_compared():
    both = turn(calls=1, start=1)
    assert [row["case"] for row in compare("api", [(both, both), ({("start", "ms"): both["start", "ms"]}, both)], {})] == ["api: start"]


def test_the_base_is_laid_out_beside_the_checkout_and_removed(root):
    with checked_out("HEAD") as (directory, short):
        assert (directory / "src/homeport/__init__.py").is_file()
        assert directory != root
        assert short
    assert not directory.exists()
    with pytest.raises(MeasurementFailedError, match="no revision"), checked_out("no-such-revision"):
        pass
