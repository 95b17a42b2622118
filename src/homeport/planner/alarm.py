"""What the states of alarms mean for a deployment that watches some.

Owns: `AlarmState`, `observe`. Never reads an alarm (`controllers/alarm.py` does), never fails a deployment (`planner/deployment.py` does).
Source: ecs-reference 3.9: an alarm that is in ALARM at the start makes all be ignored for that deployment; the bake time of a rolling one follows
from their periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from homeport.model.ecs.deployment import AlarmMonitor
from homeport.model.record import Instant


class AlarmState(msgspec.Struct, frozen=True):
    """One alarm as its source has it."""

    in_alarm: bool
    period_seconds: float = 0.0
    """How long it looks back: period times evaluation periods."""


def observe(monitor: AlarmMonitor, names: Sequence[str], states: Mapping[str, AlarmState], *, now: Instant) -> AlarmMonitor:
    """`monitor` after `states` were read; the same when they say nothing new. `names`: the alarms that its deployment watches."""
    known = [states[name] for name in names if name in states]
    in_alarm = tuple(name for name in names if name in states and states[name].in_alarm)
    unknown = [name for name in names if name not in states]
    return msgspec.structs.replace(
        monitor,
        ignored=monitor.ignored or (not monitor.seen_at and bool(in_alarm)),
        in_alarm=in_alarm,
        seen_at=monitor.seen_at or now,
        period_seconds=max((state.period_seconds for state in known), default=0.0),
        trouble=f"The source of alarms does not know {', '.join(unknown)}." if unknown else "",
    )


def unreadable(monitor: AlarmMonitor, trouble: str) -> AlarmMonitor:
    """`monitor` when the source could not be read: what was seen stays."""
    return msgspec.structs.replace(monitor, trouble=trouble)
