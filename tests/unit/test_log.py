"""The program's log: one JSON object a line."""

from __future__ import annotations

import io
import json
import logging

import pytest

from homeport import log


@pytest.fixture
def stream():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    text = io.StringIO()
    log.configure("info", text)
    yield text
    root.handlers[:], root.level = before


def test_a_line_has_instant_level_logger_message_and_fields(stream):
    log.logger("api").info("moved %d tasks", 3, extra={"fields": {"cluster": 'a"b', "odd": {1}}})
    log.logger("api").debug("not shown")
    (line,) = stream.getvalue().splitlines()
    read = json.loads(line)
    assert read.pop("instant").endswith("Z")
    assert read == {"level": "info", "logger": "homeport.api", "message": "moved 3 tasks", "cluster": 'a"b', "odd": [1]}


def test_an_exception_is_one_line_too(stream):
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.logger("store").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["error"]


def test_an_instant_is_written_in_utc_with_milliseconds():
    assert log.instant(1_764_000_000.1239) == "2025-11-24T16:00:00.123Z"
