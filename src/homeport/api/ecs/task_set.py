"""Operations on task sets: create, describe, update, delete, and which one is PRIMARY.

Owns: what whoever controls a service's deployments wants of its task sets. Never starts or stops a task: `controllers/task_set.py` does, when it sees
what is written here. Sources: ecs-reference 3.9; the API's documentation; sentences of errors as ECS is known to say them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from homeport.api import idempotency
from homeport.api.call import Call
from homeport.api.ecs import lookup, task_input, task_set_input
from homeport.api.ecs.admission import admit_task_set
from homeport.api.ecs.cluster_capacity import acting_strategy
from homeport.api.ecs.service_counts import Counts
from homeport.api.ecs.service_input import CLIENT_TOKEN_CHARACTERS_MAX, with_strategy
from homeport.api.ecs.tag_rules import tags_of
from homeport.api.ecs.task_set_json import task_set_json, task_sets_of
from homeport.errors import ConflictError, InvalidParameterError, ServiceNotActiveError, ServiceNotFoundError, TaskSetNotFoundError
from homeport.model import arn
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task_set as model
from homeport.model.ecs.service import Service
from homeport.model.ecs.task_set import TaskSet
from homeport.planner.task_set import computed_desired_count
from homeport.store.table import Reader, Transaction
from homeport.store.tables import SERVICES, TASK_SETS

EXTERNAL_ONLY: Final = "Amazon ECS only supports task set management on services configured to use external deployment controllers."
NOT_IDEMPOTENT: Final = "Creation of task set was not idempotent."
PRIMARY_STAYS: Final = "Primary TaskSet cannot be deleted"
SCALED: Final = "The TaskSet cannot be deleted while it is scaled above 0."
DRAINS: Final = "The TaskSet is draining and cannot be changed."


async def create_task_set(call: Call, request: Any) -> dict[str, Any]:
    """CreateTaskSet: an ACTIVE set, of 0 percent unless told otherwise. A repeated client token gives the set that it made.

    Raises InvalidParameterError for a service whose controller is not EXTERNAL, for a sixth set, and for members that do not go with the launch type.
    """
    task_set_input.refuse(request)
    scale = task_set_input.scale_of(request.scale)
    idempotency.check_token(request.clientToken, length_max=CLIENT_TOKEN_CHARACTERS_MAX)
    tags = tags_of(request.tags, tags_max=call.settings.tags_max)

    def create(tx: Transaction) -> dict[str, Any]:
        service = _external_service(tx, call, request, active=True)
        once = idempotency.Once(call=call, scope=service.key, token=request.clientToken, request=request)
        found = _made_before(tx, once)
        if found is None:
            found = msgspec.structs.replace(_new_task_set(tx, call, request, service), scale=scale, tags=tags)
            admit_task_set(tx, call, found)
            tx.put(TASK_SETS, found)
            once.remember(tx, (found.key,))
        return _answer(tx, call, service, found)

    return await call.update(create)


def _made_before(tx: Transaction, once: idempotency.Once) -> TaskSet | None:
    try:
        remembered = once.recall(tx)
    except ConflictError:
        # CreateTaskSet does not model ConflictException.
        raise InvalidParameterError(NOT_IDEMPOTENT) from None
    return tx.get(TASK_SETS, remembered.resources[0]) if remembered else None


def _new_task_set(tx: Transaction, call: Call, request: Any, service: Service) -> TaskSet:
    count = tx.count(TASK_SETS, "service", service.key)
    if count >= call.settings.task_sets_per_service_max:
        raise InvalidParameterError(f"{count} deployments exist on the service. Unable to create new TaskSet since this exceeds the maximum limit.")
    definition = lookup.task_definition_of(tx, call, request.taskDefinition, missing=lookup.TASK_DEFINITION_NOT_FOUND)
    task_input.check_runnable(definition)
    cluster = lookup.cluster_of(tx, call, request.cluster)
    wanted = msgspec.structs.replace(service, launch_type=task_input.launch_type(request.launchType), document=b"")
    strategy = acting_strategy(tx, call, cluster=cluster, request=request)
    capacity = with_strategy(wanted, strategy) if strategy else wanted
    return TaskSet(
        account=service.account,
        cluster=service.cluster,
        service=service.name,
        id=call.ids.digits(19),
        status=model.ACTIVE,
        family=definition.family,
        revision=definition.revision,
        launch_type=capacity.launch_type,
        created_at=tx.now,
        updated_at=tx.now,
        external_id=request.externalId or "",
        created_by=call.principal_arn,
        document=capacity.document,
        stability_status_at=tx.now,
    )


async def describe_task_sets(call: Call, request: Any) -> dict[str, Any]:
    """DescribeTaskSets: those named, or all of the service, the PRIMARY one first; one that is not there is in `failures` with reason MISSING."""
    with_tags = "TAGS" in (request.include or ())

    def look(reader: Reader) -> dict[str, Any]:
        service = _external_service(reader, call, request, active=False)
        counts = Counts(reader, service)
        shown = {item.id: task_set_json(call, item, service=service, counts=counts, with_tags=with_tags) for item in task_sets_of(reader, service)}
        if not request.taskSets:
            return {"taskSets": list(shown.values()), "failures": []}
        wanted = list(dict.fromkeys(task_set_input.id_of(call, service, reference) for reference in request.taskSets))
        scope = (call.region, service.account, service.cluster, service.name)
        missing = [{"arn": arn.task_set_arn(*scope, item), "reason": "MISSING"} for item in wanted if item not in shown]
        return {"taskSets": [shown[item] for item in wanted if item in shown], "failures": missing}

    return await call.view(look)


async def update_task_set(call: Call, request: Any) -> dict[str, Any]:
    """UpdateTaskSet: another scale, the only thing of a set that changes. Raises InvalidParameterError for a set that is DRAINING."""
    scale = task_set_input.scale_of(request.scale)

    def update(tx: Transaction) -> dict[str, Any]:
        service = _external_service(tx, call, request, active=True)
        found = _task_set(tx, call, service, request.taskSet)
        if found.status == model.DRAINING:
            raise InvalidParameterError(DRAINS)
        if scale != found.scale:
            changed = msgspec.structs.replace(found, scale=scale, updated_at=tx.now)
            if computed_desired_count(service.desired_count, scale) != computed_desired_count(service.desired_count, found.scale):
                changed = _unsettled(changed, tx)
            tx.put(TASK_SETS, changed)
            found = changed
        return _answer(tx, call, service, found)

    return await call.update(update)


async def delete_task_set(call: Call, request: Any) -> dict[str, Any]:
    """DeleteTaskSet: DRAINING at once, gone when its tasks are on their way down; asking again changes nothing.

    Raises InvalidParameterError for the PRIMARY set and for one that is scaled above 0, unless `force`.
    """

    def delete(tx: Transaction) -> dict[str, Any]:
        service = _external_service(tx, call, request, active=True)
        found = _task_set(tx, call, service, request.taskSet)
        if found.status != model.DRAINING:
            if not request.force and found.status == model.PRIMARY:
                raise InvalidParameterError(PRIMARY_STAYS)
            if not request.force and found.scale > 0:
                raise InvalidParameterError(SCALED)
            found = _draining(found, tx)
            tx.put(TASK_SETS, found)
        return _answer(tx, call, service, found)

    return await call.update(delete)


async def update_service_primary_task_set(call: Call, request: Any) -> dict[str, Any]:
    """UpdateServicePrimaryTaskSet: the named set is PRIMARY, the one before ACTIVE; the service shows the set's task definition and capacity."""

    def update(tx: Transaction) -> dict[str, Any]:
        service = _external_service(tx, call, request, active=True)
        found = _task_set(tx, call, service, request.primaryTaskSet)
        if found.status == model.DRAINING:
            raise InvalidParameterError(DRAINS)
        if found.status != model.PRIMARY:
            for item in list(tx.find(TASK_SETS, "service", service.key)):
                if item.status == model.PRIMARY:
                    tx.put(TASK_SETS, msgspec.structs.replace(item, status=model.ACTIVE, updated_at=tx.now))
            found = msgspec.structs.replace(found, status=model.PRIMARY, updated_at=tx.now)
            tx.put(TASK_SETS, found)
            service = msgspec.structs.replace(
                service, family=found.family, revision=found.revision, launch_type=found.launch_type, document=found.document
            )
            tx.put(SERVICES, service)
        return _answer(tx, call, service, found)

    return await call.update(update)


def put_first(tx: Transaction, service: Service, digits: str) -> None:
    """The PRIMARY set of a new service with the CODE_DEPLOY controller: all of what the service is."""
    tx.put(
        TASK_SETS,
        TaskSet(
            account=service.account,
            cluster=service.cluster,
            service=service.name,
            id=digits,
            status=model.PRIMARY,
            family=service.family,
            revision=service.revision,
            launch_type=service.launch_type,
            created_at=tx.now,
            updated_at=tx.now,
            scale=100.0,
            document=service.document,
            stability_status_at=tx.now,
        ),
    )


def unsettle(tx: Transaction, service: Service, *, desired_before: int) -> None:
    """`service` has another desired count: a set that gets another count is not in the steady state before its controller says so again."""
    for item in _kept(tx, service):
        if computed_desired_count(service.desired_count, item.scale) != computed_desired_count(desired_before, item.scale):
            tx.put(TASK_SETS, _unsettled(item, tx))


def drain_all(tx: Transaction, service: Service) -> None:
    """`service` is deleted, and its sets with it."""
    for item in _kept(tx, service):
        tx.put(TASK_SETS, _draining(item, tx))


def holds_up_deletion(reader: Reader, service: Service) -> bool:
    """Whether sets are in the way of the service's deletion: any with EXTERNAL, with CODE_DEPLOY all but the PRIMARY one."""
    sets = reader.find(TASK_SETS, "service", service.key)
    return any(service.deployment_controller == service_model.EXTERNAL or item.status != model.PRIMARY for item in sets)


def _kept(reader: Reader, service: Service) -> Iterable[TaskSet]:
    return [item for item in reader.find(TASK_SETS, "service", service.key) if item.status != model.DRAINING]


def _draining(found: TaskSet, tx: Transaction) -> TaskSet:
    return _unsettled(msgspec.structs.replace(found, status=model.DRAINING, updated_at=tx.now), tx)


def _unsettled(found: TaskSet, tx: Transaction) -> TaskSet:
    if found.stability_status == model.STABILIZING:
        return found
    return msgspec.structs.replace(found, stability_status=model.STABILIZING, stability_status_at=tx.now)


def _external_service(reader: Reader, call: Call, request: Any, *, active: bool) -> Service:
    """The service of the call. With `active` it has to be ACTIVE, otherwise DRAINING will do."""
    cluster = lookup.cluster_of(reader, call, request.cluster)
    service = reader.get(SERVICES, lookup.service_key(call, cluster, request.service))
    if service is None:
        raise ServiceNotFoundError
    if service.status != service_model.ACTIVE and (active or service.status == service_model.INACTIVE):
        raise ServiceNotActiveError
    if service.deployment_controller != service_model.EXTERNAL:
        raise InvalidParameterError(EXTERNAL_ONLY)
    return service


def _task_set(reader: Reader, call: Call, service: Service, reference: str) -> TaskSet:
    found = reader.get(TASK_SETS, f"{service.key}/{task_set_input.id_of(call, service, reference)}")
    if found is None:
        raise TaskSetNotFoundError
    return found


def _answer(reader: Reader, call: Call, service: Service, found: TaskSet) -> dict[str, Any]:
    return {"taskSet": task_set_json(call, found, service=service, counts=Counts(reader, service), with_tags=True)}
