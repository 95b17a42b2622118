from __future__ import annotations

import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.errors import ClientError, ClusterNotFoundError, InvalidParameterError, LimitExceededError, ResourceNotFoundError
from homeport.store.tables import SERVICES, TASKS
from homeport.testing import records

SIMPLE = {"family": "web", "containerDefinitions": [{"name": "web", "image": "web", "memory": 16}]}


@pytest.fixture
def ecs(context):
    return Ecs(context)


@pytest.fixture
async def resources(ecs):
    instance = await ecs.register_instance()
    definition = (await ecs("RegisterTaskDefinition", **SIMPLE))["taskDefinition"]["taskDefinitionArn"]
    service, task = records.service(account=ACCOUNT, cluster="default"), records.task(account=ACCOUNT, cluster="default")
    await ecs.put((SERVICES, service), (TASKS, task))
    return [
        ARN + "cluster/default",
        instance["containerInstanceArn"],
        definition,
        ARN + f"service/default/{service.name}",
        ARN + f"task/default/{task.id}",
    ]


async def test_every_kind_can_be_tagged_listed_and_untagged(ecs, resources):
    for arn in resources:
        assert await ecs("ListTagsForResource", resourceArn=arn) == {"tags": []}
        await ecs("TagResource", resourceArn=arn, tags=[{"key": "team", "value": "a"}, {"key": "Team"}])
        await ecs("TagResource", resourceArn=arn, tags=[{"key": "team", "value": "b"}, {"key": "x", "value": ""}])
        listed = await ecs("ListTagsForResource", resourceArn=arn)
        assert listed["tags"] == [{"key": "team", "value": "b"}, {"key": "Team", "value": ""}, {"key": "x", "value": ""}]
        await ecs("UntagResource", resourceArn=arn, tagKeys=["team", "unknown"])
        assert [tag["key"] for tag in (await ecs("ListTagsForResource", resourceArn=arn))["tags"]] == ["Team", "x"]


async def test_unknown_resources_are_named(ecs, resources):
    unknown = [
        ARN + "task/default/" + "0" * 32,
        ARN + "service/default/none",
        ARN + "task-definition/none:1",
        ARN + "container-instance/default/" + "0" * 32,
    ]
    for arn in unknown:
        with pytest.raises(ResourceNotFoundError, match=arn):
            await ecs("TagResource", resourceArn=arn, tags=[])
        with pytest.raises(ClientError):
            await ecs("ListTagsForResource", resourceArn=arn)
    with pytest.raises(ClusterNotFoundError):
        await ecs("TagResource", resourceArn=ARN + "cluster/none", tags=[])
    with pytest.raises(ClusterNotFoundError):
        await ecs("TagResource", resourceArn=ARN + "service/none/web", tags=[])


@pytest.mark.parametrize(
    "arn",
    ["web", "arn:aws:s3:::bucket", ARN + "service/web", ARN + "daemon-revision/default/x/1", "arn:aws:ecs:us-east-1:210987654321:cluster/default"],
)
async def test_what_cannot_be_tagged_is_refused(ecs, resources, arn):
    for operation, members in (("TagResource", {"tags": []}), ("UntagResource", {"tagKeys": []}), ("ListTagsForResource", {})):
        with pytest.raises(InvalidParameterError):
            await ecs(operation, resourceArn=arn, **members)


@pytest.mark.parametrize(
    "tags",
    [
        [{"key": "aws:x", "value": "v"}],
        [{"key": "AWS:x", "value": "v"}],
        [{"key": "", "value": "v"}],
        [{"value": "v"}],
        [{"key": "k" * 129, "value": "v"}],
        [{"key": "k", "value": "v" * 257}],
        [{"key": "k", "value": "v"}, {"key": "k", "value": "w"}],
        [{"key": "k", "value": "<v>"}],
        [{"key": str(number), "value": "v"} for number in range(51)],
    ],
)
async def test_wrong_tags_are_refused_everywhere(ecs, resources, tags):
    with pytest.raises(InvalidParameterError):
        await ecs("TagResource", resourceArn=resources[0], tags=tags)
    with pytest.raises(InvalidParameterError):
        await ecs("CreateCluster", clusterName="web", tags=tags)
    with pytest.raises(InvalidParameterError):
        await ecs("RegisterTaskDefinition", **SIMPLE, tags=tags)
    assert (await ecs("DescribeClusters", clusters=["web"]))["clusters"] == []


async def test_fifty_tags_and_no_more(ecs, resources):
    await ecs("TagResource", resourceArn=resources[0], tags=[{"key": f"k{number}", "value": "é ü"} for number in range(50)])
    await ecs("TagResource", resourceArn=resources[0], tags=[{"key": "k0", "value": "other"}])
    with pytest.raises(LimitExceededError):
        await ecs("TagResource", resourceArn=resources[0], tags=[{"key": "k50", "value": "v"}])
