from __future__ import annotations

import pytest
from tests.unit.api.ecs.caller import Ecs

from homeport.errors import InvalidParameterError, NamespaceNotFoundError


async def test_namespaces_are_those_that_clusters_name_and_no_service_is_in_one(context):
    ecs = Ecs(context)
    arn = "arn:aws:servicediscovery:us-east-1:123456789012:namespace/ns-1"
    await ecs("CreateCluster", clusterName="a", serviceConnectDefaults={"namespace": "shop"})
    await ecs("CreateCluster", clusterName="b", serviceConnectDefaults={"namespace": arn})
    for known in ("shop", arn):
        assert await ecs("ListServicesByNamespace", namespace=known) == {"serviceArns": []}
    await ecs("DeleteCluster", cluster="a")
    for unknown in ("shop", "none", arn + "2"):
        with pytest.raises(NamespaceNotFoundError):
            await ecs("ListServicesByNamespace", namespace=unknown)
    for members, sentence in (
        ({"namespace": ""}, "blank"),
        ({"namespace": "arn:aws:ecs:x"}, "no ARN"),
        ({"namespace": arn, "maxResults": 101}, "between 1"),
    ):
        with pytest.raises(InvalidParameterError, match=sentence):
            await ecs("ListServicesByNamespace", **members)
