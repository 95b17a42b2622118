"""A service that lacks tasks while nothing else is about: what `planner/service.py` would plan, from counts instead of from every task.

Owns: `plan_launch`. Never decides whether nothing else is about (`controllers/service_launch.py` does), and decides nothing that `service.plan` would
decide otherwise: `tests/property/test_planner_launch.py` compares the two. A large service comes into being in many steps, and a step that reads all
tasks that are there already costs the more the further it has come.
"""

from __future__ import annotations

import msgspec

from homeport.model.change import Change, Plan, StartTask, UpdateService
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.record import Instant
from homeport.planner.service import MISSING_REASON, NOT_STEADY, bounds, starts_of


def plan_launch(service: Service, primary: Deployment, live: int, *, now: Instant) -> Plan | None:
    """The starts of `service`, which has `live` tasks that are not STOPPED; None when there is nothing to start, which `service.plan` has to explain.

    All of those tasks are `primary`'s, wanted RUNNING, not unhealthy and on instances that stay. The plan has no instant to look again: what it
    starts brings the next look, and when nothing can be started the whole service is to be read.
    """
    starts, _ = starts_of(primary, missing=service.desired_count - live, room=bounds(service).upper - live, now=now)
    if not starts:
        return None
    changes: list[Change] = [StartTask(primary, MISSING_REASON) for _ in range(starts)]
    if service.steady:
        changes.append(UpdateService(msgspec.structs.replace(service, steady=False), NOT_STEADY))
    return Plan(tuple(changes))
