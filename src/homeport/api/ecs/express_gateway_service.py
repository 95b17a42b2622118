"""Operations on express gateway services: create, update, delete, describe.

Owns: the `ExpressGatewayService` records and their form in the API. Never starts anything: an express service runs on Fargate, behind a load
balancer, and is scaled, and none of that is built. It is stored and given back, and never called ACTIVE: its status is INACTIVE with the reason.
Source: ecs-reference 3.20 and the API's model.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import cluster as cluster_api
from homeport.api.ecs import express_gateway_service_input as given
from homeport.api.ecs import lookup, quota
from homeport.api.ecs.tag_rules import tags_json, tags_of
from homeport.errors import ApiError, InvalidParameterError, ResourceNotFoundError, ServiceNotFoundError
from homeport.model import arn
from homeport.model.arn import parse_arn
from homeport.model.ecs import express_gateway_service as model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.express_gateway_service import ExpressGatewayService
from homeport.store.table import Reader, Transaction
from homeport.store.tables import EXPRESS_GATEWAY_SERVICES, SERVICES

NOT_IDEMPOTENT: Final = "Creation of service was not idempotent."
STORED: Final = (
    "The service is stored and nothing of it runs: Fargate capacity, load balancers and service auto scaling, which an Express service needs, are "
    "not built yet."
)
DELETED: Final = "The service was deleted."
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_GENERATED: Final = "express-"


async def create_express_gateway_service(call: Call, request: Any) -> dict[str, Any]:
    """CreateExpressGatewayService: stored, with ECS's defaults; a name is made when none is given, and the cluster `default` when it is wanted."""
    name = request.serviceName or _GENERATED + call.ids.hex(8)
    if not _NAME.fullmatch(name):
        raise InvalidParameterError("Service names must have 1 to 255 letters (uppercase and lowercase), numbers, hyphens or underscores.")
    role = lookup.role_arn("infrastructureRoleArn", request.infrastructureRoleArn)
    tags = tags_of(request.tags, tags_max=call.settings.tags_max)

    def create(tx: Transaction) -> dict[str, Any]:
        cluster = lookup.cluster_of(tx, call, request.cluster) if request.cluster else cluster_api.default_cluster(tx, call)
        _refuse_taken(tx, cluster, name)
        quota.refuse_more_services(tx, call, cluster.key)
        configuration = given.configured(tx, call, request, before=b"")
        service = ExpressGatewayService(
            account=call.account,
            cluster=cluster.name,
            name=name,
            created_at=tx.now,
            updated_at=tx.now,
            infrastructure_role=role,
            configuration=msgspec.json.encode(configuration),
            configured_at=tx.now,
            tags=tags,
        )
        tx.put(EXPRESS_GATEWAY_SERVICES, service)
        return {"service": service_json(call, service, with_tags=True)}

    return await call.update(create)


def _refuse_taken(tx: Transaction, cluster: Cluster, name: str) -> None:
    key = f"{cluster.key}/{name}"
    ordinary = tx.get(SERVICES, key)
    if tx.get(EXPRESS_GATEWAY_SERVICES, key) is not None or (ordinary is not None and ordinary.status != model.INACTIVE):
        raise InvalidParameterError(NOT_IDEMPOTENT)


async def update_express_gateway_service(call: Call, request: Any) -> dict[str, Any]:
    """UpdateExpressGatewayService: absent members stay. There is nothing to deploy to, so the new configuration is what is stored."""

    def update(tx: Transaction) -> dict[str, Any]:
        service = _existing(tx, call, request.serviceArn, ServiceNotFoundError)
        configuration = given.configured(tx, call, request, before=service.configuration)
        service = msgspec.structs.replace(service, configuration=msgspec.json.encode(configuration), configured_at=tx.now, updated_at=tx.now)
        tx.put(EXPRESS_GATEWAY_SERVICES, service)
        return {"service": {**_head(call, service, STORED), "targetConfiguration": _configuration_json(service)}}

    return await call.update(update)


async def delete_express_gateway_service(call: Call, request: Any) -> dict[str, Any]:
    """DeleteExpressGatewayService: gone at once, since nothing of it has to drain."""

    def delete(tx: Transaction) -> dict[str, Any]:
        service = _existing(tx, call, request.serviceArn, ServiceNotFoundError)
        tx.delete(EXPRESS_GATEWAY_SERVICES, service.key)
        return {"service": service_json(call, service, with_tags=True, reason=DELETED)}

    return await call.update(delete)


async def describe_express_gateway_service(call: Call, request: Any) -> dict[str, Any]:
    """DescribeExpressGatewayService: with its tags when `include` has TAGS. Raises ResourceNotFoundError when there is none of that ARN."""
    with_tags = "TAGS" in (request.include or ())

    def look(reader: Reader) -> dict[str, Any]:
        return {"service": service_json(call, _existing(reader, call, request.serviceArn, ResourceNotFoundError), with_tags=with_tags)}

    return await call.view(look)


def _existing(reader: Reader, call: Call, reference: str, missing: type[ApiError]) -> ExpressGatewayService:
    found = parse_arn(reference)
    parts = found.resource.split("/") if found else []
    if len(parts) != 3:
        raise InvalidParameterError(f"Invalid identifier: serviceArn must be the ARN of a service, with its cluster, but was {reference}")
    cluster = lookup.cluster_of(reader, call, parts[1])
    key = lookup.service_key(call, cluster, reference)
    service = reader.get(EXPRESS_GATEWAY_SERVICES, key)
    if service is not None:
        return service
    if reader.get(SERVICES, key) is not None:
        raise InvalidParameterError(f"{reference} is not an Express service.")
    raise missing(f"The specified Express service was not found: {reference}")


def service_json(call: Call, service: ExpressGatewayService, *, with_tags: bool, reason: str = STORED) -> dict[str, Any]:
    """The API's `ECSExpressGatewayService`. Its one configuration has no revision and no ingress path, for there is none."""
    return {
        **_head(call, service, reason),
        "infrastructureRoleArn": service.infrastructure_role,
        "activeConfigurations": [_configuration_json(service)],
        "tags": tags_json(service.tags) if with_tags else [],
    }


def _head(call: Call, service: ExpressGatewayService, reason: str) -> dict[str, Any]:
    return {
        "cluster": service.cluster,
        "serviceName": service.name,
        "serviceArn": arn.service_arn(call.region, service.account, service.cluster, service.name),
        "status": {"statusCode": model.INACTIVE, "statusReason": reason},
        "createdAt": service.created_at,
        "updatedAt": service.updated_at,
    }


def _configuration_json(service: ExpressGatewayService) -> dict[str, Any]:
    return {**msgspec.json.decode(service.configuration), "ingressPaths": [], "createdAt": service.configured_at}
