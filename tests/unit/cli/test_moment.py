"""What `--at` takes."""

from __future__ import annotations

import time

import pytest

from homeport.cli.moment import Moment, instant_text, parse_moment


def test_revisions_instants_and_times_ago():
    assert parse_moment("1234") == Moment(revision=1234)
    assert parse_moment("10m") == Moment(ago=600.0)
    assert parse_moment("1.5h ago") == Moment(ago=5400.0)
    assert parse_moment("2026-11-24T08:00:00Z") == Moment(instant=1795507200.0)
    assert parse_moment("2026-11-24 09:00:00+01:00") == Moment(instant=1795507200.0)


def test_an_instant_without_a_zone_is_local(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert parse_moment("2026-11-24T09:00:00") == Moment(instant=1795507200.0)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_is_shown_can_be_asked_for():
    instant = 1795507200.123456
    assert parse_moment(instant_text(instant)).instant == pytest.approx(instant, abs=1e-6)


@pytest.mark.parametrize("text", ["", "yesterday", "10", "-5", "2026-13-01", "10x"])
def test_anything_else_is_refused(text):
    if text == "10":
        assert parse_moment(text).revision == 10
        return
    with pytest.raises(ValueError):
        parse_moment(text)


def test_ago_counts_from_now():
    assert parse_moment("10m").parameters(1000.0) == {"instant": 400.0}
    assert parse_moment("7").parameters(1000.0) == {"revision": 7}
