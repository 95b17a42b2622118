"""Operations on which clusters may use which gateways: associate, disassociate, list.

Owns: the `GatewayAssociation` records, but for those of a cluster that is deleted (`cluster.py` takes them away with it).
Source: the API's model. An association waits as DISASSOCIATING for its routes to go; there are no routes yet, so it ends at once.
"""

from __future__ import annotations

from typing import Any

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page, quota
from homeport.errors import ResourceNotFoundError
from homeport.model import arn
from homeport.model.ecs import gateway as model
from homeport.model.ecs.gateway import GatewayAssociation
from homeport.store.table import Reader, Transaction
from homeport.store.tables import GATEWAY_ASSOCIATIONS


async def associate_gateway_with_cluster(call: Call, request: Any) -> dict[str, Any]:
    """AssociateGatewayWithCluster: an ACTIVE association; one that is there already is given as it is. Raises ClientError above the quota."""

    def associate(tx: Transaction) -> dict[str, Any]:
        gateway = lookup.gateway_of(tx, call, request.gateway)
        cluster = lookup.cluster_of(tx, call, request.cluster)
        wanted = GatewayAssociation(account=call.account, gateway=gateway.name, cluster=cluster.name, status=model.ACTIVE, created_at=tx.now)
        existing = tx.get(GATEWAY_ASSOCIATIONS, wanted.key)
        if existing is not None:
            return _association_json(call, existing)
        quota.refuse_more_gateways(tx, call, cluster.key)
        tx.put(GATEWAY_ASSOCIATIONS, wanted)
        return _association_json(call, wanted)

    return await call.update(associate)


async def disassociate_gateway_from_cluster(call: Call, request: Any) -> dict[str, Any]:
    """DisassociateGatewayFromCluster: the association ends. Raises ResourceNotFoundError when there is none."""

    def disassociate(tx: Transaction) -> dict[str, Any]:
        gateway = lookup.gateway_of(tx, call, request.gateway)
        cluster = lookup.cluster_of(tx, call, request.cluster)
        association = tx.get(GATEWAY_ASSOCIATIONS, f"{gateway.key}/{cluster.name}")
        if association is None:
            raise ResourceNotFoundError(f"The gateway {gateway.name} is not associated with the cluster {cluster.name}.")
        tx.delete(GATEWAY_ASSOCIATIONS, association.key)
        return {**_association_json(call, association), "status": model.INACTIVE}

    return await call.update(disassociate)


async def list_gateway_cluster_associations(call: Call, request: Any) -> dict[str, Any]:
    """ListGatewayClusterAssociations: by gateway and cluster, filtered by either and by status, in pages of up to 100.

    A filter that names nothing finds nothing: the operation models no error for it.
    """
    limit = page.limit_of(request.maxResults)
    gateway = lookup.gateway_name(call, request.gateway) if request.gateway else ""
    cluster = lookup.cluster_name(call, request.cluster) if request.cluster else ""
    statuses = frozenset(request.status or ())

    def look(reader: Reader) -> dict[str, Any]:
        filters = (gateway, cluster, sorted(statuses))
        after = pagination.open_token(call, request.nextToken, filters)
        prefix = f"{call.account}/{gateway}/" if gateway else f"{call.account}/"
        matching = (
            item
            for item in reader.scan(GATEWAY_ASSOCIATIONS, prefix, after)
            if (not cluster or item.cluster == cluster) and (not statuses or item.status in statuses)
        )
        found, last = pagination.paginate(matching, limit=limit, key=lambda item: item.key)
        return {"gatewayClusterAssociations": [_association_json(call, item) for item in found], **page.next_page(call, last, filters)}

    return await call.view(look)


def _association_json(call: Call, association: GatewayAssociation) -> dict[str, Any]:
    return {
        "gatewayArn": arn.gateway_arn(call.region, association.account, association.gateway),
        "clusterArn": arn.cluster_arn(call.region, association.account, association.cluster),
        "status": association.status,
    }
