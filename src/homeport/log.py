"""The program's log: one JSON object a line, on one stream.

Owns: `configure`, `logger`, the form of a line. Never decides what is worth logging; never writes the log of requests (`api/requestlog.py`).
A line has `instant` (ISO 8601, UTC), `level`, `logger`, `message`, the fields given as `extra={"fields": {…}}`, and `error` with the traceback.
"""

from __future__ import annotations

import datetime
import logging
import sys
from typing import IO, Any

import msgspec


class JsonLine(logging.Formatter):
    """A log record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "instant": instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update(fields)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str = "info", stream: IO[str] | None = None) -> None:
    """Send every log line of the process to `stream` (default: standard error) from `level` up: debug, info, warning, error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def logger(name: str) -> logging.Logger:
    """The logger of a part of the program, for example `logger("api")`; all are below `homeport`."""
    return logging.getLogger(f"homeport.{name}")


def instant(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds: 2026-01-31T12:00:00.000Z."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
