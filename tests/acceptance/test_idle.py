"""Must show 7: a fast start, and next to nothing at rest. The figures are those of `./dev bench idle`."""

from __future__ import annotations

from benchmarks import idle


def test_the_server_starts_fast_and_an_idle_installation_costs_next_to_nothing(docker_engine):
    for row in idle.run():
        assert row["floor"] is None or row["value"] <= row["floor"], row
