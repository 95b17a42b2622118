"""Register, describe, list, deregister and delete: revisions, references, pages."""

from __future__ import annotations

import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, ROOT, Ecs

from homeport.errors import ClientError, InvalidParameterError
from homeport.store.tables import TASK_DEFINITIONS

CONTAINER = {"name": "web", "image": "web:1", "memory": 16}


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def register(ecs, family="web", **members):
    return (await ecs("RegisterTaskDefinition", family=family, containerDefinitions=[CONTAINER], **members))["taskDefinition"]


async def test_a_minimal_definition_comes_back_normalised(ecs):
    made = await register(ecs)
    assert made == {
        "taskDefinitionArn": ARN + "task-definition/web:1",
        "family": "web",
        "revision": 1,
        "status": "ACTIVE",
        "registeredAt": made["registeredAt"],
        "registeredBy": ROOT,
        "containerDefinitions": [
            {
                "name": "web",
                "image": "web:1",
                "cpu": 0,
                "memory": 16,
                "essential": True,
                "portMappings": [],
                "environment": [],
                "mountPoints": [],
                "volumesFrom": [],
                "systemControls": [],
            }
        ],
        "volumes": [],
        "placementConstraints": [],
        "requiresAttributes": [],
        "compatibilities": ["EXTERNAL", "EC2"],
    }
    assert made["registeredAt"] > 1_600_000_000
    assert (await ecs("DescribeTaskDefinition", taskDefinition="web"))["taskDefinition"] == made


async def test_tags_come_back_beside_the_definition(ecs):
    tags = [{"key": "team", "value": "a"}]
    answer = await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[CONTAINER], tags=tags)
    assert answer["tags"] == tags
    assert "tags" not in answer["taskDefinition"]
    assert "tags" not in await ecs("DescribeTaskDefinition", taskDefinition="web")
    assert (await ecs("DescribeTaskDefinition", taskDefinition="web", include=["TAGS"]))["tags"] == tags


async def test_every_registration_is_a_new_revision_and_a_refused_one_takes_no_number(ecs):
    assert [(await register(ecs))["revision"] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ClientError):
        await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[{"name": "web", "image": "web:1"}])
    assert (await register(ecs))["revision"] == 4
    assert (await register(ecs, "other"))["revision"] == 1


@pytest.mark.parametrize("count", [5, 40])
async def test_a_family_means_its_latest_active_revision(ecs, count):
    for _ in range(count):
        await register(ecs)
    await ecs("DeregisterTaskDefinition", taskDefinition=f"web:{count}")
    for reference in ("web", f"web:{count - 1}", ARN + f"task-definition/web:{count - 1}", ARN + "task-definition/web"):
        found = (await ecs("DescribeTaskDefinition", taskDefinition=reference))["taskDefinition"]
        assert found["revision"] == count - 1
    inactive = (await ecs("DescribeTaskDefinition", taskDefinition=f"web:{count}"))["taskDefinition"]
    assert inactive["status"] == "INACTIVE"


async def test_an_unknown_definition_is_refused_in_ecs_words(ecs):
    await register(ecs)
    for reference in ("nope", "nope:1", "web:2", ARN + "task-definition/web:7"):
        with pytest.raises(ClientError, match=r"^Unable to describe task definition\.$"):
            await ecs("DescribeTaskDefinition", taskDefinition=reference)
    for reference in ("web:latest", "web:0", "web:1:2", "", ":1", ARN + "cluster/web", "arn:aws:ecs:us-east-1:210987654321:task-definition/web:1"):
        with pytest.raises(InvalidParameterError):
            await ecs("DescribeTaskDefinition", taskDefinition=reference)


async def test_deregistering_needs_a_revision_and_can_be_repeated(ecs):
    await register(ecs)
    with pytest.raises(ClientError, match="revision"):
        await ecs("DeregisterTaskDefinition", taskDefinition="web")
    first = (await ecs("DeregisterTaskDefinition", taskDefinition="web:1"))["taskDefinition"]
    assert (first["status"], first["deregisteredAt"] > first["registeredAt"]) == ("INACTIVE", True)
    assert (await ecs("DeregisterTaskDefinition", taskDefinition="web:1"))["taskDefinition"] == first
    with pytest.raises(ClientError, match="does not exist"):
        await ecs("DeregisterTaskDefinition", taskDefinition="web:2")
    with pytest.raises(ClientError, match="Unable to describe"):
        await ecs("DescribeTaskDefinition", taskDefinition="web")


async def test_deleting_takes_inactive_revisions_only_and_frees_no_number(ecs):
    for _ in range(2):
        await register(ecs)
    await ecs("DeregisterTaskDefinition", taskDefinition="web:1")
    answer = await ecs("DeleteTaskDefinitions", taskDefinitions=["web:1", "web:2", ARN + "task-definition/none:1"])
    assert [(found["revision"], found["status"]) for found in answer["taskDefinitions"]] == [(1, "DELETE_IN_PROGRESS")]
    assert answer["taskDefinitions"][0]["deleteRequestedAt"]
    assert [(failure["arn"], failure["reason"][:40]) for failure in answer["failures"]] == [
        (ARN + "task-definition/web:2", "The specified task definition is still i"),
        (ARN + "task-definition/none:1", "The specified task definition does not e"),
    ]
    assert (await ecs("DescribeTaskDefinition", taskDefinition="web:1"))["taskDefinition"]["status"] == "DELETE_IN_PROGRESS"
    await ecs.context.store.update(lambda tx: tx.delete(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001"), cause="retention")
    await ecs.context.store.update(lambda tx: tx.delete(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000002"), cause="retention")
    assert (await register(ecs))["revision"] == 3
    for wrong in ([], ["web"], ["web:1"] * 11):
        with pytest.raises(InvalidParameterError):
            await ecs("DeleteTaskDefinitions", taskDefinitions=wrong)


async def all_pages(ecs, operation, member, **members):
    seen, token, pages = [], None, 0
    while True:
        page = await ecs(operation, **members, **({"nextToken": token} if token else {}))
        seen += page[member]
        pages += 1
        token = page.get("nextToken")
        if token is None:
            return seen, pages


@pytest.mark.parametrize("sort", [None, "ASC", "DESC"])
@pytest.mark.parametrize("page_size", [1, 3, 100])
async def test_revisions_are_listed_by_family_then_number(ecs, sort, page_size):
    # "-" sorts before ":" in a key, so a list by key alone would put a-b before a.
    for family in ("a", "a-b", "b", "a1", "_"):
        for _ in range(12 if family == "b" else 2):
            await register(ecs, family)
    await ecs("DeregisterTaskDefinition", taskDefinition="a:2")
    expected = [f"{family}:{revision}" for family in ("_", "a", "a-b", "a1", "b") for revision in range(1, 13 if family == "b" else 3)]
    expected.remove("a:2")
    if sort == "DESC":
        expected.reverse()
    members = {"maxResults": page_size, **({"sort": sort} if sort else {})}
    seen, _ = await all_pages(ecs, "ListTaskDefinitions", "taskDefinitionArns", **members)
    assert [arn.rsplit("/", 1)[1] for arn in seen] == expected


async def test_list_filters_by_whole_family_and_status(ecs):
    for family in ("a", "a-b"):
        for _ in range(3):
            await register(ecs, family)
    await ecs("DeregisterTaskDefinition", taskDefinition="a:1")
    assert (await ecs("ListTaskDefinitions", familyPrefix="a"))["taskDefinitionArns"] == [ARN + f"task-definition/a:{n}" for n in (2, 3)]
    assert (await ecs("ListTaskDefinitions", status="INACTIVE"))["taskDefinitionArns"] == [ARN + "task-definition/a:1"]
    assert (await ecs("ListTaskDefinitions", familyPrefix="none"))["taskDefinitionArns"] == []
    first = await ecs("ListTaskDefinitions", maxResults=1)
    for other in ({"status": "INACTIVE"}, {"sort": "DESC"}, {"familyPrefix": "a"}):
        with pytest.raises(InvalidParameterError):
            await ecs("ListTaskDefinitions", maxResults=1, nextToken=first["nextToken"], **other)


async def test_families_are_active_while_they_have_an_active_revision(ecs):
    for family in ("web", "web-api", "worker"):
        await register(ecs, family)
    await ecs("DeregisterTaskDefinition", taskDefinition="web-api:1")
    listed = {status: (await ecs("ListTaskDefinitionFamilies", status=status))["families"] for status in ("ACTIVE", "INACTIVE", "ALL")}
    assert listed == {"ACTIVE": ["web", "worker"], "INACTIVE": ["web-api"], "ALL": ["web", "web-api", "worker"]}
    assert (await ecs("ListTaskDefinitionFamilies", familyPrefix="web"))["families"] == ["web", "web-api"]
    seen, pages = await all_pages(ecs, "ListTaskDefinitionFamilies", "families", maxResults=1)
    assert (seen, pages) == (["web", "web-api", "worker"], 3)
    await ecs("DeleteTaskDefinitions", taskDefinitions=["web-api:1"])
    assert (await ecs("ListTaskDefinitionFamilies", status="INACTIVE"))["families"] == ["web-api"]
    await ecs.context.store.update(lambda tx: tx.delete(TASK_DEFINITIONS, f"{ACCOUNT}/web-api:0000001"), cause="retention")
    assert (await ecs("ListTaskDefinitionFamilies"))["families"] == ["web", "worker"]


async def test_a_definition_is_as_large_as_sixty_four_kib(ecs):
    def big(size):
        return [{**CONTAINER, "environment": [{"name": "X", "value": "v" * size}]}]

    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=big(65_000))
    with pytest.raises(ClientError, match="Max allowed length is '65536' bytes"):
        await ecs("RegisterTaskDefinition", family="web", containerDefinitions=big(65_536))
