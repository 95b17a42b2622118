"""ListServicesByNamespace: the services of all clusters that Service Connect puts into a namespace.

Owns: which namespaces there are: those that clusters name as their default for Service Connect. Never makes one. Services with Service Connect are
refused (`service_input.py`), so that a namespace that exists has none.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import page
from homeport.errors import InvalidParameterError, NamespaceNotFoundError
from homeport.model.arn import parse_arn
from homeport.model.ecs import cluster as cluster_model
from homeport.store.table import Reader
from homeport.store.tables import CLUSTERS

PAGE_DEFAULT: Final = 10


async def list_services_by_namespace(call: Call, request: Any) -> dict[str, Any]:
    """ListServicesByNamespace: none of a namespace that a cluster names. Raises NamespaceNotFoundError for any other."""
    page.limit_of(request.maxResults, default=PAGE_DEFAULT)
    namespace: str = request.namespace
    if not namespace:
        raise InvalidParameterError("The namespace can not be blank.")
    if namespace.startswith("arn:") and ((found := parse_arn(namespace)) is None or found.service != "servicediscovery"):
        raise InvalidParameterError(f"Invalid identifier: {namespace} is no ARN of a namespace")

    def look(reader: Reader) -> dict[str, Any]:
        if namespace not in _namespaces(reader, call.account):
            raise NamespaceNotFoundError
        pagination.open_token(call, request.nextToken, (namespace,))
        return {"serviceArns": []}

    return await call.view(look)


def _namespaces(reader: Reader, account: str) -> set[str]:
    clusters = reader.scan(CLUSTERS, f"{account}/")
    defaults = (cluster.service_connect_defaults for cluster in clusters if cluster.status != cluster_model.INACTIVE)
    return {msgspec.json.decode(text)["namespace"] for text in defaults if text}
