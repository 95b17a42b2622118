from __future__ import annotations

from collections import Counter

import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.errors import (
    ClientError,
    ClusterContainsCapacityProviderError,
    InvalidParameterError,
    ResourceInUseError,
    UnsupportedFeatureError,
)
from homeport.model.ecs.container_instance import Attribute
from homeport.model.ecs.task_definition import TaskDefinitionFamily
from homeport.store.tables import CONTAINER_INSTANCES, SERVICES, TASK_DEFINITION_FAMILIES, TASK_DEFINITIONS, TASKS
from homeport.testing import records

GROUP = {"autoScalingGroupArn": "group-a"}
MANAGED = {
    "infrastructureRoleArn": "arn:aws:iam::123456789012:role/infra",
    "instanceLaunchTemplate": {"ec2InstanceProfileArn": "arn:aws:iam::123456789012:instance-profile/x", "networkConfiguration": {"subnets": ["s-1"]}},
}


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def made(ecs, name="a", group="group-a", **members):
    answer = await ecs("CreateCapacityProvider", name=name, autoScalingGroupProvider={"autoScalingGroupArn": group, **members})
    return answer["capacityProvider"]


async def associate(ecs, *names, strategy=(), cluster="default"):
    await ecs("CreateCluster", clusterName=cluster)
    call = ecs("PutClusterCapacityProviders", cluster=cluster, capacityProviders=list(names), defaultCapacityProviderStrategy=list(strategy))
    return (await call)["cluster"]


async def test_a_provider_is_made_with_ecs_defaults(ecs):
    assert await made(ecs) == {
        "capacityProviderArn": ARN + "capacity-provider/a",
        "name": "a",
        "status": "ACTIVE",
        "type": "EC2_AUTOSCALING",
        "updateStatus": "CREATE_COMPLETE",
        "tags": [],
        "autoScalingGroupProvider": {
            "autoScalingGroupArn": "group-a",
            "managedScaling": {
                "status": "DISABLED",
                "targetCapacity": 100,
                "minimumScalingStepSize": 1,
                "maximumScalingStepSize": 10000,
                "instanceWarmupPeriod": 300,
            },
            "managedTerminationProtection": "DISABLED",
            "managedDraining": "ENABLED",
        },
    }


async def test_the_same_again_gives_it_as_it_is_and_another_form_is_refused(ecs):
    first = await made(ecs)
    revision = ecs.context.store.revision
    assert await made(ecs) == first
    assert ecs.context.store.revision == revision
    with pytest.raises(ClientError, match="already exists"):
        await made(ecs, managedDraining="DISABLED")


async def test_a_group_serves_one_provider(ecs):
    await made(ecs)
    with pytest.raises(ClientError, match="already being used"):
        await made(ecs, name="b")


@pytest.mark.parametrize("name", ["", "aws-x", "ECSx", "fargate", "a b", "x" * 256])
async def test_wrong_names_are_refused(ecs, name):
    with pytest.raises(InvalidParameterError, match="name is invalid"):
        await made(ecs, name=name)


@pytest.mark.parametrize(
    "members",
    [
        {"managedScaling": {"minimumScalingStepSize": 5, "maximumScalingStepSize": 4}},
        {"managedTerminationProtection": "ENABLED"},
        {"group": "arn:aws:sqs:us-east-1:1:x"},
    ],
)
async def test_wrong_settings_are_refused(ecs, members):
    with pytest.raises(InvalidParameterError):
        await made(ecs, **members)


async def test_an_update_keeps_what_it_does_not_name(ecs):
    await made(ecs, managedScaling={"targetCapacity": 80})
    answer = await ecs("UpdateCapacityProvider", name="a", autoScalingGroupProvider={"managedScaling": {"maximumScalingStepSize": 3}})
    assert answer["capacityProvider"]["updateStatus"] == "UPDATE_COMPLETE"
    scaling = answer["capacityProvider"]["autoScalingGroupProvider"]["managedScaling"]
    assert (scaling["status"], scaling["targetCapacity"], scaling["maximumScalingStepSize"]) == ("ENABLED", 80, 3)


async def test_update_and_delete_of_an_unknown_one_say_that_it_does_not_exist(ecs):
    with pytest.raises(ClientError, match="capacity provider does not exist"):
        await ecs("DeleteCapacityProvider", capacityProvider="a")
    with pytest.raises(ClientError, match="capacity provider does not exist"):
        await ecs("UpdateCapacityProvider", name="a", autoScalingGroupProvider={})


async def test_the_built_in_ones_cannot_be_deleted(ecs):
    with pytest.raises(ClientError, match="reserved"):
        await ecs("DeleteCapacityProvider", capacityProvider="FARGATE")


async def test_a_deleted_one_is_inactive_and_its_name_is_free(ecs):
    await made(ecs)
    gone = (await ecs("DeleteCapacityProvider", capacityProvider=ARN + "capacity-provider/a"))["capacityProvider"]
    assert (gone["status"], gone["updateStatus"]) == ("INACTIVE", "DELETE_COMPLETE")
    listed = await ecs("DescribeCapacityProviders")
    assert [item["name"] for item in listed["capacityProviders"]] == ["FARGATE", "FARGATE_SPOT"]
    named = await ecs("DescribeCapacityProviders", capacityProviders=["a"])
    assert named["capacityProviders"][0]["status"] == "INACTIVE"
    await ecs.context.clock.advance(1)
    assert (await made(ecs, group="group-b"))["status"] == "ACTIVE"


async def test_describing_pages_and_names_what_is_missing(ecs):
    for number in range(12):
        await made(ecs, name=f"p{number:02}", group=f"g{number}")
    first = await ecs("DescribeCapacityProviders")
    second = await ecs("DescribeCapacityProviders", nextToken=first["nextToken"])
    names = [item["name"] for page in (first, second) for item in page["capacityProviders"]]
    assert names == ["FARGATE", "FARGATE_SPOT", *(f"p{number:02}" for number in range(12))]
    assert "nextToken" not in second
    missing = await ecs("DescribeCapacityProviders", capacityProviders=["p01", "nope"], maxResults=10)
    assert missing["failures"] == [{"arn": ARN + "capacity-provider/nope", "reason": "MISSING"}]


async def test_tags_are_shown_on_demand(ecs):
    await made(ecs)
    arn = ARN + "capacity-provider/a"
    await ecs("TagResource", resourceArn=arn, tags=[{"key": "team", "value": "x"}])
    plain = await ecs("DescribeCapacityProviders", capacityProviders=["a"])
    tagged = await ecs("DescribeCapacityProviders", capacityProviders=["a"], include=["TAGS"])
    assert plain["capacityProviders"][0]["tags"] == []
    assert tagged["capacityProviders"][0]["tags"] == [{"key": "team", "value": "x"}]


async def test_managed_instances_belong_to_their_cluster(ecs):
    await ecs("CreateCluster", clusterName="web")
    answer = await ecs("CreateCapacityProvider", name="mi", cluster="web", managedInstancesProvider=MANAGED)
    shown = answer["capacityProvider"]
    assert (shown["type"], shown["cluster"]) == ("MANAGED_INSTANCES", "web")
    assert shown["managedInstancesProvider"]["instanceLaunchTemplate"]["monitoring"] == "BASIC"
    here = await ecs("DescribeCapacityProviders", cluster="web")
    assert [item["name"] for item in here["capacityProviders"]] == ["mi"]
    with pytest.raises(ClusterContainsCapacityProviderError):
        await ecs("DeleteCluster", cluster="web")
    await ecs("DeleteCapacityProvider", capacityProvider="mi", cluster="web")
    await ecs("DeleteCluster", cluster="web")


async def test_putting_replaces_all_and_shows_attachments(ecs):
    await made(ecs, managedScaling={"status": "ENABLED"})
    await made(ecs, name="b", group="group-b")
    cluster = await associate(ecs, "a", "b", strategy=[{"capacityProvider": "a", "weight": 1}])
    assert cluster["capacityProviders"] == ["a", "b"]
    assert cluster["attachmentsStatus"] == "UPDATE_COMPLETE"
    assert [item["details"][0]["value"] for item in cluster["attachments"]] == ["a"]
    cluster = await associate(ecs, "b")
    assert (cluster["capacityProviders"], cluster["defaultCapacityProviderStrategy"]) == (["b"], [])
    with pytest.raises(InvalidParameterError, match="capacity provider does not exist"):
        await associate(ecs, "nope")


async def test_a_provider_in_use_stays_associated(ecs):
    await made(ecs)
    await associate(ecs, "a")
    await ecs.put((TASKS, records.task(capacity_provider="a")))
    with pytest.raises(ResourceInUseError):
        await associate(ecs)
    with pytest.raises(ClientError, match="in use"):
        await ecs("DeleteCapacityProvider", capacityProvider="a")
    await ecs.put((TASKS, records.task(capacity_provider="a", last_status="STOPPED", desired_status="STOPPED")))
    await ecs.put((SERVICES, records.service(document=b'{"capacityProviderStrategy":[{"capacityProvider":"a","weight":1}]}')))
    with pytest.raises(ResourceInUseError):
        await associate(ecs)
    await ecs.put((SERVICES, records.service(status="INACTIVE")))
    with pytest.raises(ClientError, match="associated with cluster: default"):
        await ecs("DeleteCapacityProvider", capacityProvider="a")
    await associate(ecs)
    await ecs("DeleteCapacityProvider", capacityProvider="a")


async def test_managed_scaling_is_for_one_cluster(ecs):
    await made(ecs, managedScaling={"status": "ENABLED"})
    await associate(ecs, "a")
    with pytest.raises(InvalidParameterError, match="one cluster only"):
        await associate(ecs, "a", cluster="other")


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ([{"capacityProvider": "z", "weight": 1}], "not associated"),
        ([{"capacityProvider": "a", "base": 1}, {"capacityProvider": "b", "base": 1, "weight": 1}], "Only one"),
        ([{"capacityProvider": "a"}, {"capacityProvider": "b"}], "weight greater than 0"),
        ([{"capacityProvider": "a", "weight": 1}, {"capacityProvider": "FARGATE", "weight": 1}], "mix"),
        ([{"capacityProvider": "a", "weight": 1}, {"capacityProvider": "a", "weight": 1}], "more than once"),
        ([{"capacityProvider": f"p{number}", "weight": 1} for number in range(21)], "maximum of 20"),
    ],
)
async def test_wrong_strategies_are_refused(ecs, strategy, words):
    await made(ecs)
    await made(ecs, name="b", group="group-b")
    with pytest.raises(InvalidParameterError, match=words):
        await associate(ecs, "a", "b", "FARGATE", strategy=strategy)


async def test_an_instance_shows_the_provider_that_its_attribute_names(ecs):
    await ecs("CreateCluster")
    shown = await ecs.register_instance(attributes=[{"name": "homeport.capacity-provider", "value": "a"}])
    assert shown["capacityProviderName"] == "a"
    assert ACCOUNT in shown["containerInstanceArn"]


async def cluster_with_two(ecs):
    """Providers a and b, an instance of each, and a task definition."""
    await made(ecs)
    await made(ecs, name="b", group="group-b")
    await associate(ecs, "a", "b", "FARGATE")
    for number, name in enumerate("ab"):
        attribute = Attribute(name="homeport.capacity-provider", value=name)
        await ecs.put((CONTAINER_INSTANCES, records.container_instance(id=f"{number:032x}", attributes=(attribute,))))
    await ecs.put(
        (TASK_DEFINITIONS, records.task_definition()),
        (TASK_DEFINITION_FAMILIES, TaskDefinitionFamily(account=ACCOUNT, family="web", last_revision=1)),
    )


ONE_TO_THREE = [{"capacityProvider": "a", "weight": 1}, {"capacityProvider": "b", "weight": 3}]


async def test_run_task_shares_out_by_weight_and_onto_the_providers_own_instances(ecs):
    await cluster_with_two(ecs)
    answer = await ecs("RunTask", taskDefinition="web:1", count=8, capacityProviderStrategy=ONE_TO_THREE)
    assert Counter(task["capacityProviderName"] for task in answer["tasks"]) == {"a": 2, "b": 6}
    where = {(task["capacityProviderName"], task["containerInstanceArn"][-1]) for task in answer["tasks"]}
    assert where == {("a", "0"), ("b", "1")}


async def test_the_default_strategy_is_for_calls_without_a_launch_type(ecs):
    await cluster_with_two(ecs)
    await associate(ecs, "a", "b", strategy=[{"capacityProvider": "b", "weight": 1}])
    by_default = await ecs("RunTask", taskDefinition="web:1")
    by_launch_type = await ecs("RunTask", taskDefinition="web:1", launchType="EC2")
    assert by_default["tasks"][0]["capacityProviderName"] == "b"
    assert "capacityProviderName" not in by_launch_type["tasks"][0]


async def test_a_provider_without_instances_is_a_failure(ecs):
    await cluster_with_two(ecs)
    await made(ecs, name="empty", group="group-c")
    await associate(ecs, "a", "b", "empty")
    answer = await ecs("RunTask", taskDefinition="web:1", capacityProviderStrategy=[{"capacityProvider": "empty"}])
    assert answer == {"tasks": [], "failures": [{"arn": ARN + "capacity-provider/empty", "reason": "EMPTY CAPACITY PROVIDER"}]}


async def test_what_cannot_act_is_refused_by_name(ecs):
    await cluster_with_two(ecs)
    with pytest.raises(UnsupportedFeatureError, match="FARGATE"):
        await ecs("RunTask", taskDefinition="web:1", capacityProviderStrategy=[{"capacityProvider": "FARGATE"}])
    with pytest.raises(InvalidParameterError, match="both a launch type and capacity provider strategy"):
        await ecs("RunTask", taskDefinition="web:1", launchType="EC2", capacityProviderStrategy=ONE_TO_THREE)
    with pytest.raises(InvalidParameterError, match="not associated"):
        await ecs("CreateService", serviceName="s", taskDefinition="web:1", desiredCount=1, capacityProviderStrategy=[{"capacityProvider": "z"}])


async def test_a_service_shows_its_strategy_or_its_launch_type(ecs):
    await cluster_with_two(ecs)
    call = ecs("CreateService", serviceName="s", taskDefinition="web:1", desiredCount=0, capacityProviderStrategy=ONE_TO_THREE)
    service = (await call)["service"]
    wanted = [{**item, "base": 0} for item in ONE_TO_THREE]
    assert service["capacityProviderStrategy"] == service["deployments"][0]["capacityProviderStrategy"] == wanted
    assert "launchType" not in service
    cleared = (await ecs("UpdateService", service="s", capacityProviderStrategy=[]))["service"]
    assert cleared["launchType"] == "EC2"
    assert "capacityProviderStrategy" not in cleared
