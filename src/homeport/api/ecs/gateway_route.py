"""Operations on gateway routes: describe, list.

Owns: the checks of what is asked. There is no record of a route: a route begins with a service's `gatewayConnectors`, which are refused
(`service_input.py`), so that the truthful answer is that there is none.
"""

from __future__ import annotations

from typing import Any

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page
from homeport.errors import InvalidParameterError, ResourceNotFoundError
from homeport.store.table import Reader


async def describe_gateway_route(call: Call, request: Any) -> dict[str, Any]:
    """DescribeGatewayRoute: raises ResourceNotFoundError for every ARN of a route, InvalidParameterError for what is none."""
    found = lookup.own_arn(call, request.gatewayRouteArn)
    if found is None or "route" not in found.resource:
        raise InvalidParameterError(f"Invalid identifier: {request.gatewayRouteArn} is no ARN of a gateway route of this account and region")
    raise ResourceNotFoundError(f"The specified gateway route was not found: {request.gatewayRouteArn}")


async def list_gateway_routes(call: Call, request: Any) -> dict[str, Any]:
    """ListGatewayRoutes: none. Raises GatewayNotFoundError for a gateway that is not there, InvalidParameterError for a malformed filter."""
    page.limit_of(request.maxResults)
    cluster = lookup.cluster_name(call, request.cluster) if request.cluster else ""
    filters = (request.gateway, cluster, request.service, request.serviceContainerPortName, sorted(request.status or ()))

    def look(reader: Reader) -> dict[str, Any]:
        if request.gateway:
            lookup.gateway_of(reader, call, request.gateway)
        pagination.open_token(call, request.nextToken, filters)
        return {"gatewayRoutes": []}

    return await call.view(look)
