"""StopTask, DescribeTasks and ListTasks.

Owns: the three handlers. Never stops a container: wanting STOPPED is all that this writes.
Source: ecs-reference 3.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.api.ecs.task_json import RENDERER
from homeport.errors import InvalidParameterError, ServiceNotFoundError
from homeport.model import arn
from homeport.model.ecs import task as model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.task import Task
from homeport.planner.task import stop
from homeport.store.table import Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, DAEMONS, SERVICES, TASKS

DESCRIBE_MAX: Final = 100
LIST_MAX: Final = 100
REASON_CHARACTERS_MAX: Final = 1024


async def stop_task(call: Call, request: Any) -> dict[str, Any]:
    """StopTask: want the task STOPPED, without its tags, and answer at once. A task that is already on its way down keeps its first reason."""
    reason = (request.reason or "Task stopped by user")[:REASON_CHARACTERS_MAX]

    def transact(tx: Transaction) -> dict[str, Any]:
        cluster = lookup.cluster_of(tx, call, request.cluster)
        task = tx.get(TASKS, lookup.task_key(call, cluster, request.task))
        if task is None:
            raise InvalidParameterError("The referenced task was not found.")
        stopped = msgspec.structs.replace(stop(task, stop_code=model.USER_INITIATED, reason=reason, now=tx.now), tags=())
        tx.put(TASKS, stopped)
        return {"task": RENDERER.render(tx, call.region, stopped)}

    return await call.update(transact)


async def describe_tasks(call: Call, request: Any) -> dict[str, Any]:
    """DescribeTasks: up to 100 tasks; a task that is not there is in `failures` with reason MISSING."""
    if len(request.tasks) > DESCRIBE_MAX:
        raise InvalidParameterError(f"Tasks may not be more than {DESCRIBE_MAX}.")
    if not request.tasks:
        raise InvalidParameterError("Tasks cannot be empty.")
    with_tags = "TAGS" in (request.include or ())

    def look(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        tasks, failures = [], []
        for key in dict.fromkeys(lookup.task_key(call, cluster, reference) for reference in request.tasks):
            task = reader.get(TASKS, key)
            if task is None:
                missing = arn.task_arn(call.region, cluster.account, cluster.name, key.rsplit("/", 1)[1])
                failures.append({"arn": missing, "reason": "MISSING"})
            else:
                tasks.append(RENDERER.render(reader, call.region, task, with_tags=with_tags))
        return {"tasks": tasks, "failures": failures}

    return await call.view(look)


def _found(reader: Reader, call: Call, request: Any, cluster: Cluster, after: str) -> Iterator[Task]:
    """The tasks that the most selective filter finds; `_matches` sees to the others."""
    desired = request.desiredStatus or model.RUNNING
    if request.startedBy:
        return reader.find(TASKS, "started_by", f"{cluster.key}/{request.startedBy}/{desired}", after)
    if request.serviceName:
        key = lookup.service_key(call, cluster, request.serviceName)
        if reader.get(SERVICES, key) is None:
            raise ServiceNotFoundError
        return reader.find(TASKS, "service_desired", f"{key}/{desired}", after)
    if request.daemonName:
        if reader.get(DAEMONS, f"{cluster.key}/{request.daemonName}") is None:
            raise InvalidParameterError(f"The referenced daemon was not found: {request.daemonName}")
        return reader.find(TASKS, "daemon_desired", f"{cluster.key}/{request.daemonName}/{desired}", after)
    if request.containerInstance:
        key = lookup.container_instance_key(call, cluster, request.containerInstance)
        if reader.get(CONTAINER_INSTANCES, key) is None:
            raise InvalidParameterError("The referenced container instance was not found.")
        return reader.find(TASKS, "instance_desired", f"{key}/{desired}", after)
    if request.family:
        return reader.find(TASKS, "family_desired", f"{cluster.key}/{request.family}/{desired}", after)
    return reader.find(TASKS, "cluster_desired", f"{cluster.key}/{desired}", after)


def _matches(request: Any, call: Call, cluster: Cluster, task: Task) -> bool:
    if request.family and task.family != request.family:
        return False
    if request.launchType and task.launch_type != request.launchType:
        return False
    if request.containerInstance and task.instance_key != lookup.container_instance_key(call, cluster, request.containerInstance):
        return False
    if request.daemonName and task.daemon != request.daemonName:
        return False
    return not request.serviceName or task.service_key == lookup.service_key(call, cluster, request.serviceName)


async def list_tasks(call: Call, request: Any) -> dict[str, Any]:
    """ListTasks: ARNs in pages of at most 100, wanted RUNNING unless the call asks for STOPPED. `startedBy` goes with no other filter."""
    others = (request.family, request.serviceName, request.containerInstance, request.desiredStatus, request.launchType, request.daemonName)
    if request.startedBy and any(others):
        raise InvalidParameterError("startedBy cannot be combined with other filters.")
    limit = LIST_MAX if request.maxResults is None else request.maxResults
    if not 1 <= limit <= LIST_MAX:
        raise InvalidParameterError(f"maxResults must be between 1 and {LIST_MAX}.")

    def look(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        filters = (cluster.key, request.startedBy, *others)
        after = pagination.open_token(call, request.nextToken, filters) if request.nextToken else ""
        matching = (task for task in _found(reader, call, request, cluster, after) if _matches(request, call, cluster, task))
        page, last = pagination.paginate(matching, limit=limit, key=lambda task: task.key)
        answer: dict[str, Any] = {"taskArns": [arn.task_arn(call.region, task.account, task.cluster, task.id) for task in page]}
        if last is not None:
            answer["nextToken"] = pagination.page_token(call, last, filters)
        return answer

    return await call.view(look)
