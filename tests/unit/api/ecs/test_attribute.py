from __future__ import annotations

import pytest
from tests.unit.api.ecs.caller import ARN, Ecs

from homeport.errors import AttributeLimitExceededError, ClusterNotFoundError, InvalidParameterError, TargetNotFoundError


@pytest.fixture
def ecs(context):
    return Ecs(context)


@pytest.fixture
async def arns(ecs):
    made = [(await ecs.register_instance(attributes=[{"name": "ecs.os-type", "value": "linux"}]))["containerInstanceArn"] for _ in range(3)]
    return sorted(made)


def custom(number, target, value="v"):
    return {"name": f"custom{number}", "value": value, "targetId": target}


async def test_attributes_are_put_over_and_deleted(ecs, arns):
    first = await ecs("PutAttributes", attributes=[custom(1, arns[0]), custom(1, arns[1], "w")])
    assert first["attributes"][0] == {"name": "custom1", "value": "v", "targetType": "container-instance", "targetId": arns[0]}
    await ecs("PutAttributes", attributes=[custom(1, arns[0], "new")])
    listed = await ecs("ListAttributes", targetType="container-instance", attributeName="custom1")
    assert [(item["targetId"], item["value"]) for item in listed["attributes"]] == [(arns[0], "new"), (arns[1], "w")]
    only = await ecs("ListAttributes", targetType="container-instance", attributeName="custom1", attributeValue="w")
    assert [item["targetId"] for item in only["attributes"]] == [arns[1]]
    gone = await ecs("DeleteAttributes", attributes=[custom(1, arns[0]), custom(2, arns[1])])
    assert [item["name"] for item in gone["attributes"]] == ["custom1", "custom2"]
    listed = await ecs("ListAttributes", targetType="container-instance", attributeName="custom1")
    assert [item["targetId"] for item in listed["attributes"]] == [arns[1]]


async def test_a_short_target_needs_its_type(ecs, arns):
    short = arns[0].rsplit("/", 1)[1]
    with pytest.raises(InvalidParameterError, match="targetType"):
        await ecs("PutAttributes", attributes=[custom(1, short)])
    answer = await ecs("PutAttributes", attributes=[{**custom(1, short), "targetType": "container-instance"}])
    assert answer["attributes"][0]["targetId"] == arns[0]
    with pytest.raises(InvalidParameterError, match="targetId"):
        await ecs("PutAttributes", attributes=[{"name": "x"}])


async def test_at_most_ten_custom_attributes_and_ten_in_a_call(ecs, arns):
    await ecs("PutAttributes", attributes=[custom(number, arns[0]) for number in range(10)])
    await ecs("PutAttributes", attributes=[custom(3, arns[0], "again")])
    with pytest.raises(AttributeLimitExceededError):
        await ecs("PutAttributes", attributes=[custom(10, arns[0])])
    with pytest.raises(InvalidParameterError):
        await ecs("PutAttributes", attributes=[custom(number, arns[1]) for number in range(11)])


async def test_all_or_none_are_put(ecs, arns):
    with pytest.raises(TargetNotFoundError):
        await ecs("PutAttributes", attributes=[custom(1, arns[0]), custom(1, ARN + "container-instance/default/" + "0" * 32)])
    assert (await ecs("ListAttributes", targetType="container-instance", attributeName="custom1"))["attributes"] == []
    with pytest.raises(ClusterNotFoundError):
        await ecs("PutAttributes", cluster="nope", attributes=[custom(1, arns[0])])


@pytest.mark.parametrize(
    "item", [{"name": "a b"}, {"name": ""}, {"name": "n" * 129}, {"name": "a", "value": " v"}, {"name": "a", "value": "v" * 129}]
)
async def test_wrong_names_and_values_are_refused(ecs, arns, item):
    with pytest.raises(InvalidParameterError):
        await ecs("PutAttributes", attributes=[{**item, "targetId": arns[0]}])


async def test_what_the_agent_registered_is_the_agents(ecs, arns):
    for operation in ("PutAttributes", "DeleteAttributes"):
        with pytest.raises(InvalidParameterError, match="registered by the instance's agent"):
            await ecs(operation, attributes=[{"name": "ecs.os-type", "value": "plan9", "targetId": arns[0]}])


async def test_list_pages_over_instances_and_names(ecs, arns):
    await ecs("PutAttributes", attributes=[custom(number, arn) for arn in arns for number in range(3)])
    everything = (await ecs("ListAttributes", targetType="container-instance"))["attributes"]
    assert len(everything) == 3 * (2 + 3)
    seen, token = [], None
    while True:
        page = await ecs("ListAttributes", targetType="container-instance", maxResults=4, **({"nextToken": token} if token else {}))
        assert len(page["attributes"]) <= 4
        seen += page["attributes"]
        token = page.get("nextToken")
        if token is None:
            break
    assert seen == everything
    with pytest.raises(InvalidParameterError):
        await ecs("ListAttributes", targetType="container-instance", attributeValue="x")
