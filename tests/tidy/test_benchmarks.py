"""Benchmarks: what is kept can be read again, and a bound is judged the right way round."""

from __future__ import annotations

import json

import pytest
from benchmarks.__main__ import names, verdict


def test_each_kept_row_says_what_when_and_where(root):
    files = sorted((root / "benchmarks/results").glob("*.jsonl"))
    assert files
    for path in files:
        assert path.stem in names()
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
