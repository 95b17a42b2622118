from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.api.ecs.gateway import NO_LOAD_BALANCER
from homeport.errors import (
    ClientError,
    ClusterNotFoundError,
    GatewayNotFoundError,
    InvalidParameterError,
    InvalidTransitionError,
    ResourceNotFoundError,
)
from homeport.store.tables import GATEWAYS

ROLE = f"arn:aws:iam::{ACCOUNT}:role/infra"
ACL = f"arn:aws:wafv2:us-east-1:{ACCOUNT}:regional/webacl/shop/0123"


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def made(ecs, name="shop", *, alb=None, **members):
    return await ecs("CreateGateway", name=name, infrastructureRoleArn=ROLE, configuration={"hostSharedAlb": alb or {}}, **members)


async def described(ecs, gateway="shop"):
    return (await ecs("DescribeGateway", gateway=gateway))["gateway"]


async def test_a_gateway_is_made_with_the_models_defaults_and_says_that_it_carries_no_traffic(ecs):
    assert await made(ecs) == {"gatewayArn": ARN + "gateway/shop", "name": "shop", "status": "ACTIVE"}
    found = await described(ecs)
    assert found == {
        "gatewayArn": ARN + "gateway/shop",
        "name": "shop",
        "status": "ACTIVE",
        "statusReason": NO_LOAD_BALANCER,
        "failures": [],
        "infrastructureRoleArn": ROLE,
        "deletionProtection": True,
        "configuration": {
            "hostSharedAlb": {
                "scheme": "internet-facing",
                "port": 443,
                "protocol": "HTTPS",
                "maxAlbCount": 10,
                "currentAlbCount": 0,
                "httpDesync": "defensive",
                "networkConfiguration": {"ipAddressType": "dualstack"},
            }
        },
        "accessType": "PUBLIC",
        "propagateTags": "GATEWAY",
        "tags": [],
        "createdAt": found["createdAt"],
        "updatedAt": found["createdAt"],
    }
    assert await described(ecs, ARN + "gateway/shop") == found


async def test_every_member_is_given_back(ecs):
    alb = {
        "networkConfiguration": {"inboundSecurityGroup": "sg-1", "subnets": ["subnet-1", "subnet-2"], "ipAddressType": "ipv4"},
        "scheme": "internal",
        "webACLArn": ACL,
        "accessLogs": {"destination": {"s3": {"bucket": "logs", "prefix": "p"}}},
        "port": 443,
        "protocol": "HTTPS",
        "maxAlbCount": 3,
        "httpDesync": "strictest",
        "testTrafficRules": {"header": {"name": "x-test", "values": ["a", "b"]}},
    }
    tags = [{"key": "team", "value": "shop"}]
    await made(ecs, alb=alb, deletionProtection=False, propagateTags="NONE", tags=tags)
    found = await described(ecs)
    assert found["configuration"]["hostSharedAlb"] == {**alb, "currentAlbCount": 0}
    assert (found["deletionProtection"], found["propagateTags"], found["tags"], found["accessType"]) == (False, "NONE", tags, "PRIVATE")


@pytest.mark.parametrize(
    ("alb", "sentence"),
    [
        ({"port": 80}, "only HTTPS at port 443"),
        ({"protocol": "HTTP"}, "only HTTPS at port 443"),
        ({"maxAlbCount": 0}, "maxAlbCount must be between 1 and 200"),
        ({"maxAlbCount": 201}, "maxAlbCount must be between 1 and 200"),
        ({"webACLArn": "acl"}, "must be the ARN of a web ACL"),
        ({"webACLArn": ROLE}, "must be the ARN of a web ACL"),
        ({"networkConfiguration": {"subnets": [f"subnet-{n}" for n in range(17)]}}, "at most 16"),
        ({"networkConfiguration": {"subnets": ["a", "a"]}}, "different"),
        ({"networkConfiguration": {"subnets": [""]}}, "none may be blank"),
        ({"scheme": "internal", "networkConfiguration": {"ipAddressType": "dualstack-without-public-ipv4"}}, "internet-facing"),
        ({"accessLogs": {"destination": {}}}, "destination"),
        ({"accessLogs": {"destination": {"s3": {"bucket": ""}}}}, "bucket"),
        ({"testTrafficRules": {"header": {"name": "", "values": ["a"]}}}, "1 to 40"),
        ({"testTrafficRules": {"header": {"name": "x" * 41, "values": ["a"]}}}, "1 to 40"),
        ({"testTrafficRules": {"header": {"name": "x", "values": []}}}, "1 to 5 values"),
        ({"testTrafficRules": {"header": {"name": "x", "values": ["x" * 129]}}}, "1 to 128"),
    ],
)
async def test_a_wrong_configuration_is_refused_at_creation(ecs, alb, sentence):
    with pytest.raises(InvalidParameterError, match=sentence):
        await made(ecs, alb=alb)
    assert (await ecs("ListGateways"))["gateways"] == []


async def test_other_wrong_members_are_refused(ecs):
    with pytest.raises(InvalidParameterError, match="Exactly one configuration variant"):
        await ecs("CreateGateway", name="a", infrastructureRoleArn=ROLE, configuration={})
    with pytest.raises(InvalidParameterError, match="ARN of an IAM role"):
        await ecs("CreateGateway", name="a", infrastructureRoleArn="infra", configuration={"hostSharedAlb": {}})
    for name in ("", "a b", "a" * 256, ARN + "gateway/a"):
        with pytest.raises(InvalidParameterError, match="Gateway names must have"):
            await made(ecs, name)
    with pytest.raises(InvalidParameterError, match="clientToken"):
        await made(ecs, clientToken="a b")


async def test_a_name_is_taken_once_and_a_token_that_matches_has_no_second_effect(ecs):
    first = await made(ecs, clientToken="t")
    assert await made(ecs, clientToken="t") == first
    assert await made(ecs, "other", clientToken="t") == first
    with pytest.raises(ClientError, match="already exists"):
        await made(ecs, clientToken="u")
    assert [item["name"] for item in (await ecs("ListGateways"))["gateways"]] == ["shop"]


async def test_an_update_changes_what_is_given_and_is_complete_at_once(ecs):
    before = {"webACLArn": ACL, "networkConfiguration": {"inboundSecurityGroup": "sg-1", "subnets": ["subnet-1"]}, "maxAlbCount": 3}
    await made(ecs, alb=before)
    await ecs.context.clock.advance(5)
    answer = await ecs(
        "UpdateGateway", gateway="shop", deletionProtection=False, configuration={"hostSharedAlb": {"httpDesync": "monitor", "webACLArn": ""}}
    )
    assert answer == {"gatewayArn": ARN + "gateway/shop", "name": "shop", "status": "UPDATE_COMPLETE"}
    found = await described(ecs)
    alb = found["configuration"]["hostSharedAlb"]
    assert (alb["httpDesync"], alb["maxAlbCount"], "webACLArn" in alb) == ("monitor", 3, False)
    assert alb["networkConfiguration"] == {"ipAddressType": "dualstack", "inboundSecurityGroup": "sg-1", "subnets": ["subnet-1"]}
    assert (found["deletionProtection"], found["propagateTags"], found["statusReason"]) == (False, "GATEWAY", NO_LOAD_BALANCER)
    assert found["updatedAt"] - found["createdAt"] == pytest.approx(5, abs=0.1)
    with pytest.raises(InvalidParameterError, match="maxAlbCount"):
        await ecs("UpdateGateway", gateway="shop", configuration={"hostSharedAlb": {"maxAlbCount": 0}})
    with pytest.raises(InvalidParameterError, match="variant"):
        await ecs("UpdateGateway", gateway="shop", configuration={})
    with pytest.raises(GatewayNotFoundError):
        await ecs("UpdateGateway", gateway="none")


async def test_an_updated_gateway_is_not_new_again(ecs):
    await made(ecs)
    await ecs("UpdateGateway", gateway="shop")
    gateway = await ecs.get(GATEWAYS, f"{ACCOUNT}/shop")
    with pytest.raises(InvalidTransitionError, match="may not go from UPDATE_COMPLETE to ACTIVE"):
        await ecs.put((GATEWAYS, msgspec.structs.replace(gateway, status="ACTIVE")))


async def test_a_gateway_goes_when_nothing_protects_it_and_is_not_found_afterwards(ecs):
    await made(ecs)
    await ecs("CreateCluster", clusterName="a")
    await ecs("AssociateGatewayWithCluster", gateway="shop", cluster="a")
    with pytest.raises(ClientError, match="deletion protection"):
        await ecs("DeleteGateway", gateway="shop")
    await ecs("UpdateGateway", gateway="shop", deletionProtection=False)
    with pytest.raises(ClientError, match=f"In the way: {ARN}cluster/a"):
        await ecs("DeleteGateway", gateway="shop")
    await ecs("DisassociateGatewayFromCluster", gateway="shop", cluster="a")
    assert (await ecs("DeleteGateway", gateway=ARN + "gateway/shop"))["status"] == "DELETED"
    for operation in ("DescribeGateway", "UpdateGateway", "DeleteGateway", "DescribeGatewayResources", "ListGatewayRoutes"):
        with pytest.raises(GatewayNotFoundError):
            await ecs(operation, gateway="shop")
    assert (await made(ecs))["status"] == "ACTIVE"


async def test_an_association_begins_and_ends_and_is_listed(ecs):
    await made(ecs, "a")
    await made(ecs, "b")
    for name in ("one", "two"):
        await ecs("CreateCluster", clusterName=name)
        answer = await ecs("AssociateGatewayWithCluster", gateway="a", cluster=name)
        assert answer == {"gatewayArn": ARN + "gateway/a", "clusterArn": ARN + "cluster/" + name, "status": "ACTIVE"}
    revision = ecs.context.store.revision
    assert (await ecs("AssociateGatewayWithCluster", gateway=ARN + "gateway/a", cluster=ARN + "cluster/one"))["status"] == "ACTIVE"
    assert ecs.context.store.revision == revision
    await ecs("AssociateGatewayWithCluster", gateway="b", cluster="one")

    async def listed(**filters):
        found = (await ecs("ListGatewayClusterAssociations", **filters))["gatewayClusterAssociations"]
        return [(item["gatewayArn"][-1], item["clusterArn"].rpartition("/")[2]) for item in found]

    assert await listed() == [("a", "one"), ("a", "two"), ("b", "one")]
    assert await listed(gateway="a") == [("a", "one"), ("a", "two")]
    assert await listed(cluster="one", status=["ACTIVE"]) == [("a", "one"), ("b", "one")]
    assert await listed(status=["DISASSOCIATING"]) == await listed(gateway="none") == await listed(cluster="none") == []
    assert (await ecs("DisassociateGatewayFromCluster", gateway="a", cluster="one"))["status"] == "INACTIVE"
    with pytest.raises(ResourceNotFoundError, match="is not associated"):
        await ecs("DisassociateGatewayFromCluster", gateway="a", cluster="one")
    for operation in ("AssociateGatewayWithCluster", "DisassociateGatewayFromCluster"):
        with pytest.raises(ClusterNotFoundError):
            await ecs(operation, gateway="a", cluster="none")
        with pytest.raises(GatewayNotFoundError):
            await ecs(operation, gateway="none", cluster="two")


async def test_the_associations_of_a_deleted_cluster_go_with_it(ecs):
    await made(ecs)
    await ecs("CreateCluster", clusterName="a")
    await ecs("AssociateGatewayWithCluster", gateway="shop", cluster="a")
    await ecs("DeleteCluster", cluster="a")
    assert (await ecs("ListGatewayClusterAssociations"))["gatewayClusterAssociations"] == []
    await ecs("CreateCluster", clusterName="a")
    assert (await ecs("ListGatewayClusterAssociations", cluster="a"))["gatewayClusterAssociations"] == []


async def test_lists_are_paged_in_the_order_of_names(ecs):
    for name in ("c", "a", "b"):
        await made(ecs, name)
        await ecs("CreateCluster", clusterName=name)
        await ecs("AssociateGatewayWithCluster", gateway=name, cluster=name)
    for operation, member in (("ListGateways", "gateways"), ("ListGatewayClusterAssociations", "gatewayClusterAssociations")):
        first = await ecs(operation, maxResults=2)
        second = await ecs(operation, maxResults=2, nextToken=first["nextToken"])
        assert [item["gatewayArn"][-1] for item in first[member] + second[member]] == ["a", "b", "c"]
        assert "nextToken" not in second
        with pytest.raises(InvalidParameterError, match="not given by this operation"):
            await ecs(operation, status=["ACTIVE"], nextToken=first["nextToken"])
        for wrong in (0, 101):
            with pytest.raises(InvalidParameterError, match="between 1 and 100"):
                await ecs(operation, maxResults=wrong)
    assert [item["name"] for item in (await ecs("ListGateways", names=["c", "a"]))["gateways"]] == ["a", "c"]
    assert (await ecs("ListGateways", status=["UPDATE_FAILED"]))["gateways"] == []
    with pytest.raises(InvalidParameterError, match="at most 10"):
        await ecs("ListGateways", names=["a"] * 11)


async def test_there_are_no_load_balancers_and_no_routes_and_the_answers_say_so(ecs):
    await made(ecs)
    resources = {"gatewayArn": ARN + "gateway/shop", "resources": {"hostSharedAlb": []}}
    assert await ecs("DescribeGatewayResources", gateway="shop") == {"gatewayResources": resources}
    assert await ecs("ListGatewayRoutes", gateway="shop", cluster="x", service="web", status=["ACTIVE"]) == {"gatewayRoutes": []}
    with pytest.raises(InvalidParameterError, match="between 1 and 20"):
        await ecs("DescribeGatewayResources", gateway="shop", maxResults=21)
    with pytest.raises(ResourceNotFoundError, match="gateway route was not found"):
        await ecs("DescribeGatewayRoute", gatewayRouteArn=ARN + "gateway-route/shop/1")
    for wrong in ("shop", ARN + "cluster/x", "arn:aws:ecs:eu-west-1:123456789012:gateway-route/x"):
        with pytest.raises(InvalidParameterError, match="no ARN of a gateway route"):
            await ecs("DescribeGatewayRoute", gatewayRouteArn=wrong)


async def test_gateways_of_other_accounts_are_not_seen(ecs, context):
    await made(ecs)
    other = Ecs(context, account="210987654321")
    assert (await other("ListGateways"))["gateways"] == []
    with pytest.raises(GatewayNotFoundError):
        await other("DescribeGateway", gateway="shop")
    with pytest.raises(InvalidParameterError, match="Your accountId is"):
        await other("DescribeGateway", gateway=ARN + "gateway/shop")


async def test_a_gateway_can_be_tagged(ecs):
    await made(ecs, tags=[{"key": "a", "value": "1"}])
    await ecs("TagResource", resourceArn=ARN + "gateway/shop", tags=[{"key": "b", "value": "2"}])
    await ecs("UntagResource", resourceArn=ARN + "gateway/shop", tagKeys=["a"])
    assert (
        (await ecs("ListTagsForResource", resourceArn=ARN + "gateway/shop"))["tags"] == [{"key": "b", "value": "2"}] == (await described(ecs))["tags"]
    )
    with pytest.raises(ResourceNotFoundError):
        await ecs("TagResource", resourceArn=ARN + "gateway/none", tags=[{"key": "b", "value": "2"}])
