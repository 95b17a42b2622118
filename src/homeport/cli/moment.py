"""What `--at` takes: a revision, an instant, or how long ago.

Owns: `Moment`, `parse_moment`, `instant_text`. Never asks anybody what was then.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, Final

import msgspec

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One of the three is set."""

    revision: int | None = None
    instant: float | None = None
    """Seconds since the epoch."""
    ago: float | None = None
    """Seconds before now."""

    def parameters(self, now: float) -> dict[str, Any]:
        """As DescribeAt takes it."""
        if self.revision is not None:
            return {"revision": self.revision}
        return {"instant": self.instant if self.instant is not None else now - (self.ago or 0.0)}


def parse_moment(text: str) -> Moment:
    """`1234` (a revision), `2026-11-24T08:00:00Z` or the like (local time without a zone), `10m` (s, m, h or d ago). Raises ValueError."""
    if text.isascii() and text.isdigit():
        return Moment(revision=int(text))
    if found := _AGO.fullmatch(text.removesuffix(" ago").strip()):
        return Moment(ago=float(found[1]) * _SECONDS[found[2]])
    return Moment(instant=datetime.datetime.fromisoformat(text).astimezone().timestamp())


def instant_text(instant: float) -> str:
    """An instant to the microsecond, in local time with its zone; `parse_moment` reads it back."""
    return datetime.datetime.fromtimestamp(instant).astimezone().isoformat(timespec="microseconds")
