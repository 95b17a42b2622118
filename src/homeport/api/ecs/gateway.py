"""Operations on gateways: create, update, delete, describe, list.

Owns: the `Gateway` records and their form in the API. Never associates one with a cluster (`gateway_association.py` does).
Source: ecs-reference 3.20 and the API's model. A gateway has load balancers only while services use it, and none can yet: so it is ACTIVE with no
load balancer, its `statusReason` says so, and an update is complete when it is stored.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api import idempotency, pagination
from homeport.api.call import Call
from homeport.api.ecs import gateway_input as given
from homeport.api.ecs import lookup, page
from homeport.api.ecs.tag_rules import tags_json, tags_of
from homeport.errors import ClientError, ConflictError, InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import gateway as model
from homeport.model.ecs.gateway import Gateway
from homeport.store.table import Reader, Transaction
from homeport.store.tables import GATEWAY_ASSOCIATIONS, GATEWAYS

NAMES_MAX: Final = 10
RESOURCES_PAGE_MAX: Final = 20
RESOURCES_PAGE_DEFAULT: Final = 10
CLIENT_TOKEN_CHARACTERS_MAX: Final = 64
NO_LOAD_BALANCER: Final = (
    "The gateway is stored. It has no load balancer and carries no traffic: load balancers are not built yet, so no service can use a gateway."
)


async def create_gateway(call: Call, request: Any) -> dict[str, Any]:
    """CreateGateway: an ACTIVE gateway. A client token that made one gives that one again, whatever else the call says (as the model has it)."""
    idempotency.check_token(request.clientToken, length_max=CLIENT_TOKEN_CHARACTERS_MAX)
    configuration = given.created(request.configuration, subnets_max=call.settings.subnets_max)
    wanted = Gateway(
        account=call.account,
        name=lookup.gateway_name(call, "" if request.name.startswith("arn:") else request.name),
        status=model.ACTIVE,
        created_at=0.0,
        updated_at=0.0,
        infrastructure_role=lookup.role_arn("infrastructureRoleArn", request.infrastructureRoleArn),
        deletion_protection=request.deletionProtection is not False,
        propagate_tags=request.propagateTags or "GATEWAY",
        scheme=configuration["scheme"],
        configuration=msgspec.json.encode(configuration),
        tags=tags_of(request.tags, tags_max=call.settings.tags_max),
    )

    def create(tx: Transaction) -> dict[str, Any]:
        once = idempotency.Once(call=call, scope="", token=request.clientToken, request=request)
        if (again := _made_before(tx, once)) is not None:
            return _summary(call, again)
        if tx.get(GATEWAYS, wanted.key) is not None:
            raise ClientError(f"A gateway with the name {wanted.name} already exists. Specify another name and try again.")
        gateway = msgspec.structs.replace(wanted, created_at=tx.now, updated_at=tx.now)
        tx.put(GATEWAYS, gateway)
        once.remember(tx, (gateway.key,))
        return _summary(call, gateway)

    return await call.update(create)


def _made_before(tx: Transaction, once: idempotency.Once) -> Gateway | None:
    try:
        remembered = once.recall(tx)
        keys = remembered.resources if remembered else ()
    except ConflictError as error:  # the model: a token that matches an earlier request makes this one be ignored, without an error
        keys = error.resource_ids
    return tx.get(GATEWAYS, keys[0]) if keys else None


async def update_gateway(call: Call, request: Any) -> dict[str, Any]:
    """UpdateGateway: absent members stay. There is no load balancer to bring up to date, so it is UPDATE_COMPLETE at once."""
    changed: dict[str, Any] = {}
    if request.infrastructureRoleArn is not None:
        changed["infrastructure_role"] = lookup.role_arn("infrastructureRoleArn", request.infrastructureRoleArn)
    if request.deletionProtection is not None:
        changed["deletion_protection"] = request.deletionProtection
    if request.propagateTags is not None:
        changed["propagate_tags"] = request.propagateTags

    def update(tx: Transaction) -> dict[str, Any]:
        gateway = lookup.gateway_of(tx, call, request.gateway)
        if request.configuration is not None:
            changed["configuration"] = msgspec.json.encode(given.updated(request.configuration, stored=gateway.configuration))
        gateway = msgspec.structs.replace(gateway, **changed, status=model.UPDATE_COMPLETE, updated_at=tx.now)
        tx.put(GATEWAYS, gateway)
        return _summary(call, gateway)

    return await call.update(update)


async def delete_gateway(call: Call, request: Any) -> dict[str, Any]:
    """DeleteGateway: gone at once. Raises ClientError for a protected gateway and for one that is associated with a cluster."""

    def delete(tx: Transaction) -> dict[str, Any]:
        gateway = lookup.gateway_of(tx, call, request.gateway)
        if gateway.deletion_protection:
            raise ClientError("The gateway cannot be deleted while deletion protection is enabled. Disable it with UpdateGateway and try again.")
        association = next(iter(tx.find(GATEWAY_ASSOCIATIONS, "gateway", gateway.key)), None)
        if association is not None:
            raise ClientError(
                "The gateway cannot be deleted while it is associated with clusters. Disassociate it and try again. In the way: "
                f"{arn.cluster_arn(call.region, association.account, association.cluster)}"
            )
        tx.delete(GATEWAYS, gateway.key)
        return {**_summary(call, gateway), "status": model.DELETED}

    return await call.update(delete)


async def describe_gateway(call: Call, request: Any) -> dict[str, Any]:
    """DescribeGateway: everything about one, tags included."""
    return await call.view(lambda reader: {"gateway": gateway_json(call, lookup.gateway_of(reader, call, request.gateway))})


def gateway_json(call: Call, gateway: Gateway) -> dict[str, Any]:
    """The API's `gateway`."""
    return {
        **_summary(call, gateway),
        "statusReason": NO_LOAD_BALANCER,
        "failures": [],
        "infrastructureRoleArn": gateway.infrastructure_role,
        "deletionProtection": gateway.deletion_protection,
        "configuration": {"hostSharedAlb": {**msgspec.json.decode(gateway.configuration), "currentAlbCount": 0}},
        "accessType": "PUBLIC" if gateway.scheme == model.INTERNET_FACING else "PRIVATE",
        "propagateTags": gateway.propagate_tags,
        "tags": tags_json(gateway.tags),
        "createdAt": gateway.created_at,
        "updatedAt": gateway.updated_at,
    }


def _summary(call: Call, gateway: Gateway) -> dict[str, Any]:
    return {"gatewayArn": arn.gateway_arn(call.region, gateway.account, gateway.name), "name": gateway.name, "status": gateway.status}


async def list_gateways(call: Call, request: Any) -> dict[str, Any]:
    """ListGateways: by name, filtered by up to 10 names and by statuses, in pages of up to 100."""
    limit = page.limit_of(request.maxResults)
    if len(request.names or ()) > NAMES_MAX:
        raise InvalidParameterError(f"names can have at most {NAMES_MAX} items.")
    names = frozenset(lookup.gateway_name(call, name) for name in request.names or ())
    statuses = frozenset(request.status or ())

    def look(reader: Reader) -> dict[str, Any]:
        filters = (sorted(names), sorted(statuses))
        after = pagination.open_token(call, request.nextToken, filters)
        prefix = f"{call.account}/"
        known = reader.scan(GATEWAYS, prefix, prefix + after if after else "")
        matching = (item for item in known if (not names or item.name in names) and (not statuses or item.status in statuses))
        found, last = pagination.paginate(matching, limit=limit, key=lambda item: item.name)
        return {"gateways": [{**_summary(call, item), "createdAt": item.created_at} for item in found], **page.next_page(call, last, filters)}

    return await call.view(look)


async def describe_gateway_resources(call: Call, request: Any) -> dict[str, Any]:
    """DescribeGatewayResources: of an existing gateway, no load balancer: nothing here makes one."""
    page.limit_of(request.maxResults, limit_max=RESOURCES_PAGE_MAX, default=RESOURCES_PAGE_DEFAULT)

    def look(reader: Reader) -> dict[str, Any]:
        gateway = lookup.gateway_of(reader, call, request.gateway)
        pagination.open_token(call, request.nextToken, (gateway.key,))
        gateway_arn = arn.gateway_arn(call.region, gateway.account, gateway.name)
        return {"gatewayResources": {"gatewayArn": gateway_arn, "resources": {"hostSharedAlb": []}}}

    return await call.view(look)
