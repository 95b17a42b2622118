"""What the person at the terminal sees: progress, failures, tables.

Owns: `Terminal`, `CommandError`, `table`. Progress goes to stderr, so that stdout holds only what a command is asked for. Never decides anything.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from homeport.clock import SystemClock
from homeport.errors import HomeportError


class CommandError(HomeportError):
    """A command cannot go on. The message says what is wrong and what to do about it; the program ends with status 1."""


class Terminal:
    """Progress of one command, and the waiting in it."""

    def __init__(self, clock: SystemClock) -> None:
        self.clock = clock

    def say(self, text: str) -> None:
        """One line of progress."""
        print(text, file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """What the command was asked for."""
        print(text, flush=True)

    def pause(self, seconds: float) -> None:
        """Wait."""
        self.clock.sleep_blocking(seconds)

    def deadline(self, seconds: float) -> float:
        """The monotonic instant `seconds` from now."""
        return self.clock.monotonic() + seconds

    def is_past(self, deadline: float) -> bool:
        """Whether a deadline has come."""
        return self.clock.monotonic() >= deadline


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table with columns as wide as they need be; nothing for no rows."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
