"""Operations on container instances that users call: describe, list, change the state, deregister, update the agent.

Owns: the status of a `ContainerInstance` after its registration. Never opens or closes a session: the dispatcher does, and it ends the session
of an instance that it sees INACTIVE. Registration is in `container_instance_registration.py`, the form in the API in `container_instance_json.py`.
Source: ecs-reference 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page
from homeport.api.ecs.container_instance_json import container_instance_json
from homeport.api.ecs.container_instance_registration import register_container_instance
from homeport.errors import ClientError, InvalidParameterError, NoUpdateAvailableError
from homeport.model import arn
from homeport.model.ecs import container_instance as model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.placement.query import QueryError
from homeport.planner.task import lost
from homeport.store.table import Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, INSTANCE_IDENTITIES, TASKS

__all__ = [
    "deregister_container_instance",
    "describe_container_instances",
    "list_container_instances",
    "register_container_instance",
    "update_container_agent",
    "update_container_instances_state",
]

DESCRIBE_MAX: Final = 100
UPDATE_STATE_MAX: Final = 10
ORPHANS_PER_TRANSACTION_MAX: Final = 60
"""A transaction holds 100 records at most, so a full instance is emptied in several."""

SETTABLE: Final = (model.ACTIVE, model.DRAINING)

STILL_RUNNING: Final = "Found running tasks on the instance."
NOT_FOUND: Final = "The specified container instance was not found in the cluster."
FORCED: Final = "Container instance deregistration forced by user."


async def describe_container_instances(call: Call, request: Any) -> dict[str, Any]:
    """DescribeContainerInstances: up to 100; what is missing comes back in `failures`."""
    references = request.containerInstances
    include = tuple(request.include or ())
    if not references:
        raise InvalidParameterError("Container instances can not be empty.")
    if len(references) > DESCRIBE_MAX:
        raise InvalidParameterError(f"Container instances cannot have more than {DESCRIBE_MAX} elements.")

    def describe(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        found, failures = [], []
        for key in dict.fromkeys(lookup.container_instance_key(call, cluster, reference) for reference in references):
            instance = reader.get(CONTAINER_INSTANCES, key)
            if instance is None:
                failures.append(_failure(call, cluster, key, "MISSING"))
            else:
                found.append(container_instance_json(reader, call.region, instance, include=include))
        return {"containerInstances": found, "failures": failures}

    return await call.view(describe)


def _failure(call: Call, cluster: Cluster, key: str, reason: str) -> dict[str, str]:
    return {"arn": arn.container_instance_arn(call.region, cluster.account, cluster.name, key.rpartition("/")[2]), "reason": reason}


async def list_container_instances(call: Call, request: Any) -> dict[str, Any]:
    """ListContainerInstances: ARNs by id, in pages; `status` and `filter` (an expression of the cluster query language) choose.

    Without a status everything but INACTIVE is listed. Raises InvalidParameterError for an expression that cannot be read.
    """
    limit = page.limit_of(request.maxResults)

    def list_page(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        filters = (cluster.key, request.filter, request.status)
        after = pagination.open_token(call, request.nextToken, filters)
        found, last = pagination.paginate(_matching(reader, call, cluster, request, after), limit=limit, key=lambda instance: instance.key)
        arns = [arn.container_instance_arn(call.region, cluster.account, cluster.name, instance.id) for instance in found]
        return {"containerInstanceArns": arns, **page.next_page(call, last, filters)}

    return await call.view(list_page)


def _matching(reader: Reader, call: Call, cluster: Cluster, request: Any, after: str) -> Iterator[ContainerInstance]:
    if request.filter:
        try:
            keys = sorted(call.context.placement.matching(cluster.key, request.filter))
        except QueryError as error:
            raise InvalidParameterError(str(error)) from None
        candidates: Iterator[ContainerInstance] = (
            found for key in keys if key > after and (found := reader.get(CONTAINER_INSTANCES, key)) is not None
        )
    elif request.status:
        return reader.find(CONTAINER_INSTANCES, "cluster_status", f"{cluster.key}/{request.status}", after)
    else:
        candidates = reader.scan(CONTAINER_INSTANCES, f"{cluster.key}/", after)
    wanted = (request.status,) if request.status else None
    return (instance for instance in candidates if (instance.status in wanted if wanted else instance.status != model.INACTIVE))


async def update_container_instances_state(call: Call, request: Any) -> dict[str, Any]:
    """UpdateContainerInstancesState: ACTIVE ⇄ DRAINING for up to 10 instances; an instance in another state is a failure of its own.

    Who drains an instance is the service controller, which sees the new status; standalone tasks are never touched.
    """
    if request.status not in SETTABLE:
        raise InvalidParameterError(f"Container instance status should be one of [{','.join(SETTABLE)}]")
    if not request.containerInstances:
        raise InvalidParameterError("Container instances can not be empty.")
    if len(request.containerInstances) > UPDATE_STATE_MAX:
        raise InvalidParameterError(f"Container instances cannot have more than {UPDATE_STATE_MAX} elements.")

    def change(tx: Transaction) -> dict[str, Any]:
        cluster = lookup.cluster_of(tx, call, request.cluster)
        changed, failures = [], []
        for key in dict.fromkeys(lookup.container_instance_key(call, cluster, reference) for reference in request.containerInstances):
            instance = tx.get(CONTAINER_INSTANCES, key)
            if instance is None or instance.status not in SETTABLE:
                failures.append(_failure(call, cluster, key, "MISSING" if instance is None else instance.status))
                continue
            if instance.status != request.status:
                instance = msgspec.structs.replace(instance, status=request.status, version=instance.version + 1)
                tx.put(CONTAINER_INSTANCES, instance)
            changed.append(container_instance_json(tx, call.region, instance))
        return {"containerInstances": changed, "failures": failures}

    return await call.update(change)


async def deregister_container_instance(call: Call, request: Any) -> dict[str, Any]:
    """DeregisterContainerInstance: the instance becomes INACTIVE.

    Without `force` it is refused while tasks are on the instance. With `force` the tasks are orphaned: their containers run on, the books
    show them STOPPED, services replace them, and a host that joined may do and renew nothing any more.
    An instance with many tasks is DEREGISTERING between the transactions that this takes.
    """
    while True:
        answer = await call.update(lambda tx: _deregister(tx, call, request))
        if answer is not None:
            return {"containerInstance": answer}


def _deregister(tx: Transaction, call: Call, request: Any) -> dict[str, Any] | None:
    """One step of deregistration; None when tasks are left for another one."""
    cluster = lookup.cluster_of(tx, call, request.cluster)
    instance = tx.get(CONTAINER_INSTANCES, lookup.container_instance_key(call, cluster, request.containerInstance))
    if instance is None:
        raise InvalidParameterError(NOT_FOUND)
    if instance.status == model.INACTIVE:
        return container_instance_json(tx, call.region, instance)
    batch = [task for _, task in zip(range(ORPHANS_PER_TRANSACTION_MAX), tx.find(TASKS, "instance_live", instance.key), strict=False)]
    if batch and not request.force:
        raise InvalidParameterError(STILL_RUNNING)
    for task in batch:
        tx.put(TASKS, lost(task, stop_code=task_model.USER_INITIATED, reason=FORCED, now=tx.now))
    left = tx.count(TASKS, "instance_live", instance.key)
    status = model.DEREGISTERING if left else model.INACTIVE
    if instance.status != status:
        instance = msgspec.structs.replace(
            instance, status=status, version=instance.version + 1, agent_connected=instance.agent_connected and bool(left)
        )
        tx.put(CONTAINER_INSTANCES, instance)
    if request.force:
        for identity in list(tx.find(INSTANCE_IDENTITIES, "instance", instance.key)):
            tx.delete(INSTANCE_IDENTITIES, identity.id)
    return None if left else container_instance_json(tx, call.region, instance)


async def update_container_agent(call: Call, request: Any) -> dict[str, Any]:
    """UpdateContainerAgent: there is never an update, because an agent is updated together with its host's Homeport.

    Raises NoUpdateAvailableError for every known instance, ClientError for an EXTERNAL one (ecs-reference 3.20).
    """

    def find(reader: Reader) -> ContainerInstance | None:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        return reader.get(CONTAINER_INSTANCES, lookup.container_instance_key(call, cluster, request.containerInstance))

    instance = await call.view(find)
    if instance is None or instance.status == model.INACTIVE:
        raise InvalidParameterError(NOT_FOUND)
    if instance.launch_type == "EXTERNAL":
        raise ClientError("The agent of an external instance cannot be updated through Amazon ECS.")
    raise NoUpdateAvailableError("There is no update available for your container agent.")
