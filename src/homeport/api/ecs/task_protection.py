"""UpdateTaskProtection and GetTaskProtection.

Owns: `protected_until` of tasks, and the limits of a protection. Never stops a task and never counts what a protection holds up:
`planner/protection.py` and the planners that ask it do.
Source: botocore's model of the two operations, ecs-reference 3.7. The agent's own endpoint for it (`$ECS_AGENT_URI/task-protection/v1/state`) needs
the agent's metadata endpoint, which is not built yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.errors import InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.task import Task
from homeport.model.record import Instant
from homeport.planner.protection import is_protected
from homeport.planner.task_set import desired_count_of
from homeport.store.table import Reader, Transaction
from homeport.store.tables import SERVICES, TASK_SETS, TASKS

UPDATE_MAX: Final = 10
GET_MAX: Final = 100
MINUTES_DEFAULT: Final = 120
MINUTES_MAX: Final = 2880

MISSING: Final = "MISSING"
TASK_NOT_VALID: Final = "TASK_NOT_VALID"
"""ECS's word for a task that cannot be protected: one of no service, or one that is on its way down."""

DEPLOYMENT_BLOCKED: Final = "DEPLOYMENT_BLOCKED"
"""ECS's word for a protection that would keep the service from ever reaching its desired count."""


async def update_task_protection(call: Call, request: Any) -> dict[str, Any]:
    """UpdateTaskProtection: protect up to 10 service tasks for 1 to 2,880 minutes (120 unless told otherwise), or end their protection.

    A task that is not there, or cannot be protected, is in `failures`; the others are done. Raises InvalidParameterError for wrong limits.
    """
    _check_count(request.tasks, UPDATE_MAX)
    minutes = MINUTES_DEFAULT if request.expiresInMinutes is None else request.expiresInMinutes
    if not 1 <= minutes <= MINUTES_MAX:
        raise InvalidParameterError(f"expiresInMinutes must be between 1 and {MINUTES_MAX}.")

    def update(tx: Transaction) -> dict[str, Any]:
        tasks, failures = _service_tasks(tx, call, request)
        changed = []
        for task in tasks:
            if request.protectionEnabled and not is_protected(task, tx.now) and _is_full(tx, task):
                named = arn.task_arn(call.region, task.account, task.cluster, task.id)
                failures.append(
                    {"arn": named, "reason": DEPLOYMENT_BLOCKED, "detail": "The service has as many protected tasks as it is to have tasks."}
                )
                continue
            until = tx.now + minutes * 60 if request.protectionEnabled else 0.0
            protected = msgspec.structs.replace(task, protected_until=until)
            if protected != task:
                tx.put(TASKS, protected)
            changed.append(_json(call, protected, tx.now))
        return {"protectedTasks": changed, "failures": failures}

    return await call.update(update)


def _is_full(tx: Transaction, task: Task) -> bool:
    """Whether one more protected task of its service (or task set) would be more than that is to have: then a deployment could never end."""
    service = tx.get(SERVICES, task.service_key)
    if service is None or service.scheduling_strategy == service_model.DAEMON:  # a daemon's number is its instances', whatever it says
        return False
    live = tx.find(TASKS, "service_desired", f"{task.service_key}/{model.RUNNING}")
    if service.has_task_sets:
        task_set = tx.get(TASK_SETS, f"{service.key}/{task.deployment_id}")
        own = sum(is_protected(other, tx.now) for other in live if other.deployment_id == task.deployment_id)
        return task_set is not None and own >= desired_count_of(service, task_set)
    return sum(is_protected(other, tx.now) for other in live) >= service.desired_count


async def get_task_protection(call: Call, request: Any) -> dict[str, Any]:
    """GetTaskProtection: the protection of up to 100 service tasks, the others are in `failures`; without tasks, all that are protected."""
    if request.tasks:
        _check_count(request.tasks, GET_MAX)
    now = call.context.clock.now()

    def look(reader: Reader) -> dict[str, Any]:
        if not request.tasks:
            cluster = lookup.cluster_of(reader, call, request.cluster)
            wanted = reader.find(TASKS, "cluster_desired", f"{cluster.key}/{model.RUNNING}")
            return {"protectedTasks": [_json(call, task, now) for task in wanted if is_protected(task, now)], "failures": []}
        tasks, failures = _service_tasks(reader, call, request)
        return {"protectedTasks": [_json(call, task, now) for task in tasks], "failures": failures}

    return await call.view(look)


def _check_count(references: Sequence[str] | None, most: int) -> None:
    if not references:
        raise InvalidParameterError("Tasks cannot be empty.")
    if len(references) > most:
        raise InvalidParameterError(f"Tasks may not be more than {most}.")


def _service_tasks(reader: Reader, call: Call, request: Any) -> tuple[list[Task], list[dict[str, str]]]:
    """The tasks that the call names and that protection is for, and a failure for each other one."""
    cluster = lookup.cluster_of(reader, call, request.cluster)
    tasks, failures = [], []
    for key in dict.fromkeys(lookup.task_key(call, cluster, reference) for reference in request.tasks):
        task = reader.get(TASKS, key)
        if task is None:
            failures.append(_failure(call, cluster, key, MISSING, "The referenced task was not found."))
        elif not task.service:
            failures.append(_failure(call, cluster, key, TASK_NOT_VALID, "The task is not part of a service."))
        elif task.desired_status == model.STOPPED:
            failures.append(_failure(call, cluster, key, TASK_NOT_VALID, "The task is stopping or stopped."))
        else:
            tasks.append(task)
    return tasks, failures


def _failure(call: Call, cluster: Cluster, key: str, reason: str, detail: str) -> dict[str, str]:
    named = arn.task_arn(call.region, cluster.account, cluster.name, key.rpartition("/")[2])
    return {"arn": named, "reason": reason, "detail": detail}


def _json(call: Call, task: Task, now: Instant) -> dict[str, Any]:
    protected = task.protected_until > now
    shown: dict[str, Any] = {"taskArn": arn.task_arn(call.region, task.account, task.cluster, task.id), "protectionEnabled": protected}
    if protected:
        shown["expirationDate"] = task.protected_until
    return shown
