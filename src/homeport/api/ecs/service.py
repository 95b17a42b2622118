"""Operations on services: create, update, delete, describe, list.

Owns: what a user wants of a service (desired count, task definition, configuration, tags) and the making of deployments.
Never starts or stops a task: `controllers/service.py` does, when it sees what is written here.
Source: ecs-reference 3.8 and 3.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.api import idempotency, pagination
from homeport.api.call import Call
from homeport.api.ecs import deployment_controller, lookup, page, quota, service_input, task_input, task_set
from homeport.api.ecs.admission import admit_service
from homeport.api.ecs.cluster_capacity import acting_strategy
from homeport.api.ecs.daemon_input import as_daemon, refuse_for_daemon
from homeport.api.ecs.deployment_configuration import with_configuration
from homeport.api.ecs.deployment_strategy_rules import check_strategy
from homeport.api.ecs.service_json import deployments_of, service_json
from homeport.api.ecs.tag_rules import tags_of
from homeport.errors import ConflictError, InvalidParameterError, ServiceNotActiveError, ServiceNotFoundError
from homeport.model import arn
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.express_gateway_service import ExpressGatewayService
from homeport.model.ecs.service import Service
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.planner.deployment_start import new_deployment, start
from homeport.planner.service_revision import derived_revision, new_revision, starts_deployment
from homeport.store.table import Reader, Transaction
from homeport.store.tables import DEPLOYMENTS, EXPRESS_GATEWAY_SERVICES, SERVICE_REVISIONS, SERVICES, TASK_DEFINITIONS, TASKS

DESCRIBE_MAX: Final = 10
LIST_DEFAULT: Final = 10

DEFINITION_MISSING: Final = "TaskDefinition not found."
DEPLOYMENTS_ACTIVE: Final = "The service cannot be stopped while deployments are active."
"""The very words that Terraform waits out; ECS calls task sets deployments as well where it counts them."""
NOT_IDEMPOTENT: Final = "Creation of service was not idempotent."


async def create_service(call: Call, request: Any) -> dict[str, Any]:
    """CreateService: an ACTIVE service with its first deployment. A repeated client token gives the service that it made."""
    service_input.name_of(request.serviceName)
    daemon = request.schedulingStrategy == model.DAEMON
    service_input.refuse_at_creation(request)
    if daemon:
        refuse_for_daemon(request)
    deployment_controller.refuse_at_creation(request)
    service_input.refuse_not_built(request)
    if not daemon:
        service_input.desired_count_of(request.desiredCount or 0, most=call.settings.tasks_per_service_max)
    idempotency.check_token(request.clientToken, length_max=service_input.CLIENT_TOKEN_CHARACTERS_MAX)
    task_input.launch_type(request.launchType)

    def create(tx: Transaction) -> dict[str, Any]:
        cluster = lookup.cluster_of(tx, call, request.cluster)
        once = idempotency.Once(call=call, scope=cluster.key, token=request.clientToken, request=request)
        again = _made_before(tx, once, cluster)
        if again is not None:
            return {"service": service_json(tx, call, again, with_tags=True)}
        quota.refuse_more_services(tx, call, cluster.key)
        service = _new_service(tx, call, request, cluster)
        admit_service(tx, call, service)
        tx.put(SERVICES, service)
        _first_version(tx, service, call.ids.digits(19))
        once.remember(tx, (service.key,))
        return {"service": service_json(tx, call, service, with_tags=True)}

    return await call.update(create)


def _made_before(tx: Transaction, once: idempotency.Once, cluster: Cluster) -> Service | None:
    """The service that the same call made earlier. Raises InvalidParameterError when the name is taken by another."""
    try:
        remembered = once.recall(tx)
    except ConflictError:
        # CreateService does not model ConflictException; this is what it says instead.
        raise InvalidParameterError(NOT_IDEMPOTENT) from None
    if remembered is not None:
        service = tx.get(SERVICES, remembered.resources[0])
        if service is not None and service.status == model.ACTIVE:
            return service
    key = f"{cluster.key}/{once.request.serviceName}"
    if tx.get(EXPRESS_GATEWAY_SERVICES, key) is not None:
        raise InvalidParameterError(NOT_IDEMPOTENT)
    existing = tx.get(SERVICES, key)
    if existing is None or existing.status == model.INACTIVE:
        return None
    if existing.status == model.DRAINING:
        raise InvalidParameterError("Unable to Start a service that is still Draining.")
    raise InvalidParameterError(NOT_IDEMPOTENT)


def _first_version(tx: Transaction, service: Service, digits: str) -> None:
    """What a new service begins with: a deployment; with CODE_DEPLOY a task set that is PRIMARY; with EXTERNAL nothing."""
    if service.deployment_controller == model.ECS:
        _start_deployment(tx, service, digits)
    elif service.deployment_controller == model.CODE_DEPLOY:
        task_set.put_first(tx, service, digits)


def _runnable_definition(reader: Reader, call: Call, reference: str) -> TaskDefinition:
    definition = lookup.task_definition_of(reader, call, reference, missing=DEFINITION_MISSING)
    task_input.check_runnable(definition)
    return definition


def _new_service(tx: Transaction, call: Call, request: Any, cluster: Cluster) -> Service:
    controller = deployment_controller.controller_of(request)
    definition = None if controller == model.EXTERNAL else _runnable_definition(tx, call, request.taskDefinition)
    before = tx.get(SERVICES, f"{cluster.key}/{request.serviceName}")
    service = Service(
        account=cluster.account,
        cluster=cluster.name,
        name=request.serviceName,
        status=model.ACTIVE,
        created_at=tx.now,
        created_by=call.principal_arn,
        desired_count=0 if request.schedulingStrategy == model.DAEMON else request.desiredCount or 0,
        scheduling_strategy=request.schedulingStrategy or model.REPLICA,
        family=definition.family if definition else "",
        revision=definition.revision if definition else 0,
        deployment_controller=controller,
        launch_type=task_input.launch_type(request.launchType),
        placement_constraints=service_input.placement_constraints(request.placementConstraints),
        placement_strategy=task_input.strategies_of(request.placementStrategy),
        enable_ecs_managed_tags=bool(request.enableECSManagedTags),
        propagate_tags=request.propagateTags or "NONE",
        tags=tags_of(request.tags, tags_max=call.settings.tags_max),
        # A deleted service of the same name left its events behind, and a number is never used twice.
        events_written=before.events_written if before else 0,
    )
    service_input.check_constraints(service, definition)
    service = with_configuration(service, request.deploymentConfiguration, call.settings)
    check_strategy(tx, call, service)
    if service.scheduling_strategy == model.DAEMON and definition is not None:
        service = service_input.with_rebalancing(service, request.availabilityZoneRebalancing, kept=None)
        return as_daemon(tx, call, service=service, definition=definition)
    strategy = acting_strategy(tx, call, cluster=cluster, request=request) if definition else ()
    service = service_input.with_strategy(service, strategy) if strategy else service
    return service_input.with_rebalancing(service, request.availabilityZoneRebalancing, kept=None)


async def update_service(call: Call, request: Any) -> dict[str, Any]:
    """UpdateService: change what is given, keep what is not. Another task definition or forceNewDeployment starts a deployment."""
    service_input.refuse_not_built(request)

    def update(tx: Transaction) -> dict[str, Any]:
        before = _active_service(tx, call, request)
        if before.scheduling_strategy == model.DAEMON:
            refuse_for_daemon(request)
        deployment_controller.refuse_at_update(before, request)
        service = with_configuration(_with_members(call, before, request), request.deploymentConfiguration, call.settings)
        if request.deploymentConfiguration is not None:
            check_strategy(tx, call, service)
        if request.capacityProviderStrategy is not None:
            strategy = acting_strategy(tx, call, cluster=lookup.cluster_of(tx, call, request.cluster), request=request)
            service = service_input.with_strategy(service, strategy)
        kept = before.availability_zone_rebalancing
        service = service_input.with_rebalancing(service, request.availabilityZoneRebalancing, kept=kept)
        if request.taskDefinition is not None:
            definition = _runnable_definition(tx, call, request.taskDefinition)
            service = msgspec.structs.replace(service, family=definition.family, revision=definition.revision)
        if request.taskDefinition or request.placementConstraints:
            service_input.check_constraints(service, _definition(tx, service))
        deploys = bool(request.forceNewDeployment or starts_deployment(before, service))
        admit_service(tx, call, service, before=before, deploys=deploys)
        if deploys:
            service = msgspec.structs.replace(service, steady=False, completed_revision_id=_completed_revision_id(tx, service))
            _start_deployment(tx, service, call.ids.digits(19))
        elif service.deployment_configuration != before.deployment_configuration:
            _reconfigure(tx, service)
        if service.scheduling_strategy == model.DAEMON and (current := _definition(tx, service)) is not None:
            service = as_daemon(tx, call, service=service, definition=current)
        tx.put(SERVICES, service)
        task_set.unsettle(tx, service, desired_before=before.desired_count)
        return {"service": service_json(tx, call, service, with_tags=True)}

    return await call.update(update)


def _with_members(call: Call, service: Service, request: Any) -> Service:
    changed: dict[str, Any] = {}
    if request.desiredCount is not None and service.scheduling_strategy != model.DAEMON:
        changed["desired_count"] = service_input.desired_count_of(request.desiredCount, most=call.settings.tasks_per_service_max)
    if request.placementConstraints is not None:
        changed["placement_constraints"] = service_input.placement_constraints(request.placementConstraints)
    if request.placementStrategy is not None:
        given = [item for item in request.placementStrategy if item.type or item.field]  # an empty object removes what is, says the model
        changed["placement_strategy"] = task_input.strategies_of(given)
    if request.enableECSManagedTags is not None:
        changed["enable_ecs_managed_tags"] = request.enableECSManagedTags
    if request.propagateTags is not None:
        changed["propagate_tags"] = request.propagateTags
    return msgspec.structs.replace(service, **changed)


def _start_deployment(tx: Transaction, service: Service, deployment_id: str) -> None:
    """Put a new PRIMARY deployment of what `service` is now in front, with its service revision; the one before drains and its rollout is over."""
    before = list(tx.find(DEPLOYMENTS, "service", service.key))
    for item in before:  # one that a version without revisions made gets its own now, so that a rollback can go back to it
        if item.status == deployment_model.PRIMARY and tx.get(SERVICE_REVISIONS, f"{service.key}/{item.target_id}") is None:
            tx.put(SERVICE_REVISIONS, derived_revision(item, _definition(tx, item)))
    tx.put(SERVICE_REVISIONS, new_revision(service, _definition(tx, service), revision_id=deployment_id, now=tx.now))
    for item in start(service, before, new_deployment(service, deployment_id, tx.now)):
        tx.put(DEPLOYMENTS, item)


def _completed_revision_id(reader: Reader, service: Service) -> str:
    """What a rollback goes to, also in a service that was last deployed by a version that kept no revisions."""
    completed = (item.target_id for item in deployments_of(reader, service) if item.rollout_state == deployment_model.COMPLETED)
    return service.completed_revision_id or next(completed, "")


def _reconfigure(tx: Transaction, service: Service) -> None:
    """Have the deployment that is on its way go on as `service` is configured now."""
    for item in list(tx.find(DEPLOYMENTS, "service", service.key)):
        if item.status == deployment_model.PRIMARY and item.progress not in deployment_model.TERMINAL:
            tx.put(DEPLOYMENTS, msgspec.structs.replace(item, configuration=service.deployment_configuration, updated_at=tx.now))


def _definition(reader: Reader, of: Service | Deployment) -> TaskDefinition | None:
    return reader.get(TASK_DEFINITIONS, task_definition_key(of.account, of.family, of.revision))


def _service(reader: Reader, call: Call, request: Any) -> Service:
    cluster = lookup.cluster_of(reader, call, request.cluster)
    service = reader.get(SERVICES, lookup.service_key(call, cluster, request.service))
    if service is None:
        raise ServiceNotFoundError
    return service


def _active_service(reader: Reader, call: Call, request: Any) -> Service:
    service = _service(reader, call, request)
    if service.status != model.ACTIVE:
        raise ServiceNotActiveError
    return service


async def delete_service(call: Call, request: Any) -> dict[str, Any]:
    """DeleteService: DRAINING at once, INACTIVE when its tasks are on their way down. Needs a desired count of 0, or `force`."""

    def delete(tx: Transaction) -> dict[str, Any]:
        service = _service(tx, call, request)
        if service.status == model.INACTIVE:
            raise ServiceNotFoundError
        if service.status == model.ACTIVE:
            if not request.force and service.scheduling_strategy != model.DAEMON:
                _require_scaled_down(tx, service)
            service = msgspec.structs.replace(service, status=model.DRAINING, desired_count=0, steady=False, placement_failure="")
            tx.put(SERVICES, service)
            task_set.drain_all(tx, service)
        return {"service": service_json(tx, call, service, with_tags=True)}

    return await call.update(delete)


def _require_scaled_down(reader: Reader, service: Service) -> None:
    if service.desired_count > 0:
        raise InvalidParameterError("The service cannot be stopped while it is scaled above 0.")
    if task_set.holds_up_deletion(reader, service):
        raise InvalidParameterError(DEPLOYMENTS_ACTIVE)
    live = {task.deployment_id for task in reader.find(TASKS, "service_live", service.key)}
    old = (item for item in deployments_of(reader, service) if item.status == deployment_model.ACTIVE)
    if any(item.target_id in live for item in old):
        raise InvalidParameterError(DEPLOYMENTS_ACTIVE)


async def describe_services(call: Call, request: Any) -> dict[str, Any]:
    """DescribeServices: up to 10 services; one that is not there is in `failures` with reason MISSING."""
    if not request.services:
        raise InvalidParameterError("Services cannot be empty.")
    if len(request.services) > DESCRIBE_MAX:
        raise InvalidParameterError(f"Services may not be more than {DESCRIBE_MAX}.")
    with_tags = "TAGS" in (request.include or ())

    def look(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        services, failures = [], []
        for key in dict.fromkeys(lookup.service_key(call, cluster, reference) for reference in request.services):
            service = reader.get(SERVICES, key)
            if service is None:
                name = key.rsplit("/", 1)[1]
                failures.append({"arn": arn.service_arn(call.region, cluster.account, cluster.name, name), "reason": "MISSING"})
            else:
                services.append(service_json(reader, call, service, with_tags=with_tags))
        return {"services": services, "failures": failures}

    return await call.view(look)


async def list_services(call: Call, request: Any) -> dict[str, Any]:
    """ListServices: ARNs of the ACTIVE services in pages of 10 unless told otherwise."""
    limit = page.limit_of(request.maxResults, default=LIST_DEFAULT)

    def look(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        filters = (cluster.key, request.launchType, request.schedulingStrategy, request.resourceManagementType)
        after = pagination.open_token(call, request.nextToken, filters)
        services, last = pagination.paginate(_matching(reader, cluster, request, after), limit=limit, key=lambda service: service.key)
        arns = [arn.service_arn(call.region, service.account, service.cluster, service.name) for service in services]
        return {"serviceArns": arns, **page.next_page(call, last, filters)}

    return await call.view(look)


def _matching(reader: Reader, cluster: Cluster, request: Any, after: str) -> Iterator[Service | ExpressGatewayService]:
    """The ACTIVE services that a list asks for; express ones, which are not ACTIVE, for those who ask for what ECS manages the resources of."""
    if request.resourceManagementType != "ECS":
        found = reader.find(SERVICES, "cluster_status", f"{cluster.key}/{model.ACTIVE}", after)
        return (service for service in found if _listed(service, request))
    if request.launchType not in (None, "FARGATE") or request.schedulingStrategy not in (None, model.REPLICA):
        return iter(())
    return reader.scan(EXPRESS_GATEWAY_SERVICES, f"{cluster.key}/", after)


def _listed(service: Service, request: Any) -> bool:
    if request.launchType and service.launch_type != request.launchType:
        return False
    return request.schedulingStrategy in (None, service.scheduling_strategy)
