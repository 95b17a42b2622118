from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.api.ecs.express_gateway_service import DELETED, STORED
from homeport.errors import (
    ClientError,
    ClusterContainsServicesError,
    ClusterNotFoundError,
    InvalidParameterError,
    ResourceNotFoundError,
    ServiceNotFoundError,
)
from homeport.store.tables import SERVICES

ROLE = f"arn:aws:iam::{ACCOUNT}:role/express"
SHOP = ARN + "service/default/shop"


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def made(ecs, **members):
    members = {"serviceName": "shop", "executionRoleArn": ROLE, "primaryContainer": {"image": "shop:1"}, **members}
    given = {name: value for name, value in members.items() if value is not None}
    return (await ecs("CreateExpressGatewayService", infrastructureRoleArn=ROLE, **given))["service"]


async def described(ecs, arn=SHOP, **members):
    return (await ecs("DescribeExpressGatewayService", serviceArn=arn, **members))["service"]


async def register(ecs, name="Main", *, port=None, **members):
    container = {"name": name, "image": "a:1", "portMappings": [port or {"containerPort": 8080, "name": "web"}]}
    members = {"networkMode": "awsvpc", "cpu": "512", "memory": "1024", "requiresCompatibilities": ["FARGATE"], **members}
    await ecs("RegisterTaskDefinition", family="own", containerDefinitions=[container], **members)


async def test_a_service_is_stored_with_the_models_defaults_and_is_not_called_active(ecs):
    service = await made(ecs)
    assert service == {
        "cluster": "default",
        "serviceName": "shop",
        "serviceArn": SHOP,
        "status": {"statusCode": "INACTIVE", "statusReason": STORED},
        "infrastructureRoleArn": ROLE,
        "activeConfigurations": [
            {
                "executionRoleArn": ROLE,
                "cpu": "256",
                "memory": "512",
                "cpuArchitecture": "X86_64",
                "healthCheckPath": "/ping",
                "primaryContainer": {"image": "shop:1", "containerPort": 80},
                "scalingTarget": {"autoScalingMetric": "AVERAGE_CPU", "autoScalingTargetValue": 60},
                "ingressPaths": [],
                "createdAt": service["createdAt"],
            }
        ],
        "tags": [],
        "createdAt": service["createdAt"],
        "updatedAt": service["createdAt"],
    }
    assert await described(ecs) == service


async def test_every_member_is_given_back(ecs):
    container = {
        "image": "shop:2",
        "containerPort": 8080,
        "awsLogsConfiguration": {"logGroup": "g", "logStreamPrefix": "ecs"},
        "repositoryCredentials": {"credentialsParameter": "arn:aws:secretsmanager:us-east-1:123456789012:secret:x"},
        "command": ["run"],
        "environment": [{"name": "A", "value": "1"}],
        "secrets": [{"name": "B", "valueFrom": "b"}],
    }
    network = {"securityGroups": ["sg-1"], "subnets": ["subnet-1"]}
    scaling = {"minTaskCount": 1, "maxTaskCount": 4, "autoScalingMetric": "REQUEST_COUNT_PER_TARGET", "autoScalingTargetValue": 100}
    tags = [{"key": "a", "value": "b"}]
    serving = {"healthCheckPath": "/h?x=1", "networkConfiguration": network, "scalingTarget": scaling, "taskRoleArn": ROLE}
    await made(ecs, primaryContainer=container, cpu="1 vCPU", memory="2 GB", cpuArchitecture="ARM64", tags=tags, **serving)
    found = await described(ecs, include=["TAGS"])
    configuration = found["activeConfigurations"][0]
    assert configuration["primaryContainer"] == container
    assert (configuration["cpu"], configuration["memory"], configuration["cpuArchitecture"]) == ("1024", "2048", "ARM64")
    assert {name: configuration[name] for name in serving} == serving
    assert found["tags"] == tags
    assert (await described(ecs))["tags"] == []


async def test_a_name_is_made_when_none_is_given_and_the_default_cluster_too(ecs):
    one, other = await made(ecs, serviceName=None), await made(ecs, serviceName=None)
    assert one["serviceName"] != other["serviceName"]
    assert (await ecs("ListClusters"))["clusterArns"] == [ARN + "cluster/default"]
    with pytest.raises(ClusterNotFoundError):
        await made(ecs, cluster="none")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"serviceName": "a b"}, "Service names must have"),
        ({"executionRoleArn": None}, "executionRoleArn must be specified"),
        ({"executionRoleArn": "role"}, "executionRoleArn must be the ARN"),
        ({"taskRoleArn": "role"}, "taskRoleArn must be the ARN"),
        ({"primaryContainer": None}, "primaryContainer must be specified"),
        ({"primaryContainer": {"image": ""}}, "image"),
        ({"primaryContainer": {"image": "a", "containerPort": 0}}, "containerPort must be between 1 and 65535"),
        ({"primaryContainer": {"image": "a", "environment": [{"value": "x"}]}}, "environment variable"),
        ({"primaryContainer": {"image": "a", "secrets": [{"name": "x", "valueFrom": ""}]}}, "secret"),
        ({"primaryContainer": {"image": "a", "awsLogsConfiguration": {"logGroup": "", "logStreamPrefix": "x"}}}, "logGroup"),
        ({"cpu": "256", "memory": "4096"}, "No Fargate configuration exists for given values: 256 CPU, 4096 memory"),
        ({"cpu": "much"}, "No Fargate configuration"),
        ({"healthCheckPath": "ping"}, "forward slash"),
        ({"networkConfiguration": {"securityGroups": ["sg"] * 6}}, "securityGroups can have at most 5"),
        ({"networkConfiguration": {"subnets": ["s"] * 17}}, "subnets can have at most 16"),
        ({"scalingTarget": {"minTaskCount": 3, "maxTaskCount": 2}}, "must not be greater"),
        ({"scalingTarget": {"maxTaskCount": 5001}}, "between 0 and 5000"),
        ({"scalingTarget": {"autoScalingTargetValue": 0}}, "at least 1"),
    ],
)
async def test_what_ecs_does_not_allow_is_refused(ecs, members, sentence):
    await ecs("CreateCluster")
    revision = ecs.context.store.revision
    with pytest.raises(InvalidParameterError, match=sentence):
        await made(ecs, **members)
    assert ecs.context.store.revision == revision


async def test_a_task_definition_of_ones_own_takes_the_place_of_the_container(ecs):
    await register(ecs, executionRoleArn=ROLE, runtimePlatform={"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"})
    own = {"taskDefinitionArn": ARN + "task-definition/own:1", "primaryContainer": None, "executionRoleArn": None}
    configuration = (await made(ecs, **own))["activeConfigurations"][0]
    assert configuration["taskDefinitionArn"] == ARN + "task-definition/own:1"
    assert "primaryContainer" not in configuration
    assert (configuration["cpu"], configuration["memory"], configuration["cpuArchitecture"]) == ("512", "1024", "ARM64")
    with pytest.raises(InvalidParameterError, match="cpu cannot be specified together"):
        await made(ecs, serviceName="b", cpu="256", **own)
    with pytest.raises(InvalidParameterError, match="primaryContainer must be specified"):
        await ecs("UpdateExpressGatewayService", serviceArn=SHOP, cpu="1024")
    kept = (await ecs("UpdateExpressGatewayService", serviceArn=SHOP, healthCheckPath="/h"))["service"]["targetConfiguration"]
    assert {**kept, "healthCheckPath": "", "createdAt": 0} == {**configuration, "healthCheckPath": "", "createdAt": 0}
    back = {"primaryContainer": {"image": "a"}, "executionRoleArn": ROLE}
    changed = (await ecs("UpdateExpressGatewayService", serviceArn=SHOP, **back))["service"]["targetConfiguration"]
    assert "taskDefinitionArn" not in changed
    assert (changed["cpu"], changed["memory"]) == ("256", "512")


async def test_a_task_definition_must_have_what_an_express_service_needs(ecs):
    own = {"taskDefinitionArn": "own", "primaryContainer": None, "executionRoleArn": None}
    with pytest.raises(ClientError, match="TaskDefinition not found"):
        await made(ecs, **own)
    await register(ecs, "app")
    with pytest.raises(InvalidParameterError, match="a container named Main"):
        await made(ecs, **own)
    await register(ecs, port={"containerPort": 80})
    with pytest.raises(InvalidParameterError, match="a name"):
        await made(ecs, **own)
    await register(ecs, port={"containerPort": 80, "name": "web", "protocol": "udp"})
    with pytest.raises(InvalidParameterError, match="single TCP port"):
        await made(ecs, **own)
    await register(ecs, requiresCompatibilities=["EC2"], networkMode="bridge")
    with pytest.raises(InvalidParameterError, match="does not support launch_type FARGATE"):
        await made(ecs, **own)
    await register(ecs)
    await ecs("DeregisterTaskDefinition", taskDefinition="own:5")
    with pytest.raises(ClientError, match="inactive"):
        await made(ecs, **{**own, "taskDefinitionArn": "own:5"})


async def test_an_update_changes_what_is_given_and_deploys_nothing(ecs):
    before = await made(ecs, cpu="512", memory="1024", scalingTarget={"minTaskCount": 2, "maxTaskCount": 3})
    await ecs.context.clock.advance(5)
    answer = (await ecs("UpdateExpressGatewayService", serviceArn=SHOP, healthCheckPath="/h", scalingTarget={"maxTaskCount": 9}))["service"]
    assert answer["status"] == {"statusCode": "INACTIVE", "statusReason": STORED}
    after = await described(ecs)
    old, new = before["activeConfigurations"][0], after["activeConfigurations"][0]
    assert answer["targetConfiguration"] == new
    assert new["createdAt"] == after["updatedAt"] > after["createdAt"] == before["createdAt"]
    assert {**new, "createdAt": 0} == {**old, "createdAt": 0, "healthCheckPath": "/h", "scalingTarget": {**old["scalingTarget"], "maxTaskCount": 9}}
    with pytest.raises(InvalidParameterError, match="No Fargate configuration"):
        await ecs("UpdateExpressGatewayService", serviceArn=SHOP, memory="8192")


async def test_a_deleted_service_is_gone(ecs):
    await made(ecs)
    answer = (await ecs("DeleteExpressGatewayService", serviceArn=SHOP))["service"]
    assert answer["status"] == {"statusCode": "INACTIVE", "statusReason": DELETED}
    for operation in ("DeleteExpressGatewayService", "UpdateExpressGatewayService"):
        with pytest.raises(ServiceNotFoundError, match="was not found"):
            await ecs(operation, serviceArn=SHOP)
    with pytest.raises(ResourceNotFoundError):
        await described(ecs)
    await made(ecs)


async def test_names_are_shared_with_other_services(ecs):
    await ecs("CreateCluster")
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[{"name": "a", "image": "a", "memory": 8}])
    await ecs("CreateService", serviceName="web", taskDefinition="web", desiredCount=0)
    await made(ecs)
    for call in (made(ecs), made(ecs, serviceName="web"), ecs("CreateService", serviceName="shop", taskDefinition="web", desiredCount=0)):
        with pytest.raises(InvalidParameterError, match="not idempotent"):
            await call
    with pytest.raises(InvalidParameterError, match="is not an Express service"):
        await described(ecs, ARN + "service/default/web")
    web = await ecs.get(SERVICES, f"{ACCOUNT}/default/web")
    await ecs.put((SERVICES, msgspec.structs.replace(web, status="DRAINING")))
    with pytest.raises(InvalidParameterError, match="not idempotent"):
        await made(ecs, serviceName="web")
    await ecs.put((SERVICES, msgspec.structs.replace(web, status="INACTIVE")))
    await made(ecs, serviceName="web")


async def test_a_service_is_named_by_its_arn(ecs):
    await made(ecs)
    for wrong in (
        "shop",
        "service/default/shop",
        ARN + "service/shop",
        ARN + "task/default/shop",
        "arn:aws:ecs:eu-west-1:123456789012:service/default/shop",
    ):
        with pytest.raises(InvalidParameterError):
            await described(ecs, wrong)
    with pytest.raises(ClusterNotFoundError):
        await described(ecs, ARN + "service/none/shop")


async def test_it_is_listed_among_what_ecs_manages_and_keeps_its_cluster(ecs):
    for name in ("b", "a", "c"):
        await made(ecs, serviceName=name)

    async def listed(**filters):
        return [arn[-1] for arn in (await ecs("ListServices", **filters))["serviceArns"]]

    assert await listed(resourceManagementType="ECS") == await listed(resourceManagementType="ECS", launchType="FARGATE") == ["a", "b", "c"]
    assert await listed() == await listed(resourceManagementType="CUSTOMER") == await listed(resourceManagementType="ECS", launchType="EC2") == []
    first = await ecs("ListServices", resourceManagementType="ECS", maxResults=2)
    second = await ecs("ListServices", resourceManagementType="ECS", maxResults=2, nextToken=first["nextToken"])
    assert [arn[-1] for arn in first["serviceArns"] + second["serviceArns"]] == ["a", "b", "c"]
    with pytest.raises(ClusterContainsServicesError, match="service/default/a"):
        await ecs("DeleteCluster", cluster="default")
    for name in "abc":
        await ecs("DeleteExpressGatewayService", serviceArn=f"{ARN}service/default/{name}")
    await ecs("DeleteCluster", cluster="default")


async def test_it_can_be_tagged(ecs):
    await made(ecs, tags=[{"key": "a", "value": "1"}])
    await ecs("TagResource", resourceArn=SHOP, tags=[{"key": "b", "value": "2"}])
    await ecs("UntagResource", resourceArn=SHOP, tagKeys=["a"])
    assert (await ecs("ListTagsForResource", resourceArn=SHOP))["tags"] == [{"key": "b", "value": "2"}]
