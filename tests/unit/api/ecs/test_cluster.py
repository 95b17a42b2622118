from __future__ import annotations

import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.errors import (
    ClusterContainsContainerInstancesError,
    ClusterContainsServicesError,
    ClusterContainsTasksError,
    ClusterNotFoundError,
    InvalidParameterError,
)
from homeport.store.tables import SERVICES, TASKS
from homeport.testing import records


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def test_a_cluster_is_made_with_ecs_defaults(ecs):
    made = (await ecs("CreateCluster"))["cluster"]
    assert made == {
        "clusterArn": ARN + "cluster/default",
        "clusterName": "default",
        "status": "ACTIVE",
        "registeredContainerInstancesCount": 0,
        "runningTasksCount": 0,
        "pendingTasksCount": 0,
        "activeServicesCount": 0,
        "statistics": [],
        "tags": [],
        "settings": [{"name": "containerInsights", "value": "disabled"}],
        "capacityProviders": [],
        "defaultCapacityProviderStrategy": [],
    }


async def test_making_a_cluster_again_returns_it_as_it_is(ecs):
    await ecs("CreateCluster", clusterName="web", tags=[{"key": "team", "value": "a"}])
    revision = ecs.context.store.revision
    again = (await ecs("CreateCluster", clusterName="web"))["cluster"]
    assert again["tags"] == [{"key": "team", "value": "a"}]
    assert ecs.context.store.revision == revision


async def test_configuration_and_strategy_come_back_as_given(ecs):
    configuration = {"executeCommandConfiguration": {"logging": "NONE"}}
    await ecs(
        "CreateCluster",
        clusterName="web",
        configuration=configuration,
        serviceConnectDefaults={"namespace": "internal"},
        capacityProviders=["FARGATE"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}],
    )
    plain = (await ecs("DescribeClusters", clusters=["web"]))["clusters"][0]
    assert "configuration" not in plain
    assert plain["serviceConnectDefaults"] == {"namespace": "internal"}
    assert plain["defaultCapacityProviderStrategy"] == [{"capacityProvider": "FARGATE", "weight": 1, "base": 0}]
    full = (await ecs("DescribeClusters", clusters=["web"], include=["CONFIGURATIONS"]))["clusters"][0]
    assert full["configuration"] == configuration


@pytest.mark.parametrize("name", ["", "a b", "ü", "a" * 256, "arn:x"])
async def test_wrong_names_are_refused(ecs, name):
    if not name:
        assert (await ecs("CreateCluster", clusterName=name))["cluster"]["clusterName"] == "default"
        return
    with pytest.raises(InvalidParameterError):
        await ecs("CreateCluster", clusterName=name)


async def test_describe_names_what_is_missing(ecs):
    await ecs("CreateCluster", clusterName="web")
    answer = await ecs("DescribeClusters", clusters=["web", "nope", ARN + "cluster/web"])
    assert [cluster["clusterName"] for cluster in answer["clusters"]] == ["web"]
    assert answer["failures"] == [{"arn": ARN + "cluster/nope", "reason": "MISSING"}]
    assert (await ecs("DescribeClusters"))["failures"] == [{"arn": ARN + "cluster/default", "reason": "MISSING"}]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("arn:aws:ecs:eu-west-1:123456789012:cluster/web", "Your region is us-east-1"),
        ("arn:aws:ecs:us-east-1:210987654321:cluster/web", "Your accountId is 123456789012"),
        (ARN + "service/web/web", "Unsupported resource type: service"),
        (ARN + "cluster/a/b", "separators"),
        ("a b", "Cluster must match"),
    ],
)
async def test_foreign_and_malformed_references_are_refused(ecs, reference, words):
    with pytest.raises(InvalidParameterError, match=words):
        await ecs("DescribeClusters", clusters=[reference])


async def test_list_pages_through_active_clusters(ecs):
    for number in range(5):
        await ecs("CreateCluster", clusterName=f"c{number}")
    await ecs("DeleteCluster", cluster="c1")
    first = await ecs("ListClusters", maxResults=3)
    assert first["clusterArns"] == [ARN + f"cluster/c{number}" for number in (0, 2, 3)]
    last = await ecs("ListClusters", maxResults=3, nextToken=first["nextToken"])
    assert last == {"clusterArns": [ARN + "cluster/c4"]}
    with pytest.raises(InvalidParameterError):
        await ecs("ListClusters", nextToken=first["nextToken"][:-2] + "AA")
    for bad in (0, 101):
        with pytest.raises(InvalidParameterError):
            await ecs("ListClusters", maxResults=bad)


async def test_clusters_of_another_account_are_not_seen(ecs, context):
    await Ecs(context, "210987654321")("CreateCluster", clusterName="theirs")
    assert (await ecs("ListClusters"))["clusterArns"] == []
    assert (await ecs("DescribeClusters", clusters=["theirs"]))["clusters"] == []


async def test_update_changes_what_is_given_and_an_empty_namespace_clears(ecs):
    await ecs("CreateCluster", clusterName="web", serviceConnectDefaults={"namespace": "internal"})
    answer = (await ecs("UpdateCluster", cluster="web", settings=[{"name": "containerInsights", "value": "enhanced"}]))["cluster"]
    assert (answer["settings"][0]["value"], answer["serviceConnectDefaults"]) == ("enhanced", {"namespace": "internal"})
    assert "serviceConnectDefaults" not in (await ecs("UpdateCluster", cluster="web", serviceConnectDefaults={"namespace": ""}))["cluster"]
    answer = await ecs("UpdateClusterSettings", cluster="web", settings=[{"name": "containerInsights", "value": "enabled"}])
    assert answer["cluster"]["settings"] == [{"name": "containerInsights", "value": "enabled"}]
    with pytest.raises(InvalidParameterError):
        await ecs("UpdateClusterSettings", cluster="web", settings=[{"name": "containerInsights", "value": "loud"}])
    with pytest.raises(ClusterNotFoundError):
        await ecs("UpdateCluster", cluster="nope")


async def test_delete_is_soft_repeatable_and_frees_the_name(ecs):
    await ecs("CreateCluster", clusterName="web", tags=[{"key": "a", "value": "b"}])
    for _ in range(2):
        assert (await ecs("DeleteCluster", cluster="web"))["cluster"]["status"] == "INACTIVE"
    assert (await ecs("DescribeClusters", clusters=["web"]))["clusters"][0]["status"] == "INACTIVE"
    with pytest.raises(ClusterNotFoundError, match=r"^Cluster not found\.$"):
        await ecs("UpdateCluster", cluster="web")
    fresh = (await ecs("CreateCluster", clusterName="web"))["cluster"]
    assert (fresh["status"], fresh["tags"]) == ("ACTIVE", [])
    with pytest.raises(ClusterNotFoundError):
        await ecs("DeleteCluster", cluster="nope")


async def test_a_cluster_in_use_is_kept_and_the_reason_named(ecs):
    instance = await ecs.register_instance()
    service = records.service(account=ACCOUNT, cluster="default", status="DRAINING")
    task = records.task(account=ACCOUNT, cluster="default")
    await ecs.put((SERVICES, service), (TASKS, task))
    with pytest.raises(ClusterContainsContainerInstancesError, match="Container Instances are active or draining") as refusal:
        await ecs("DeleteCluster", cluster="default")
    assert instance["containerInstanceArn"] in refusal.value.message
    await ecs("DeregisterContainerInstance", containerInstance=instance["containerInstanceArn"], force=True)
    with pytest.raises(ClusterContainsServicesError, match=service.name):
        await ecs("DeleteCluster", cluster="default")
    await ecs.put((SERVICES, records.service(account=ACCOUNT, cluster="default", status="INACTIVE")))
    with pytest.raises(ClusterContainsTasksError, match=task.id):
        await ecs("DeleteCluster", cluster="default")


async def test_counts_and_statistics_come_from_what_is_there(ecs):
    await ecs.register_instance()
    running = records.task(1, account=ACCOUNT, cluster="default", last_status="RUNNING")
    pending = records.task(2, account=ACCOUNT, cluster="default", last_status="PENDING", launch_type="EXTERNAL")
    await ecs.put((TASKS, running), (TASKS, pending), (SERVICES, records.service(account=ACCOUNT, cluster="default")))
    found = (await ecs("DescribeClusters", include=["STATISTICS"]))["clusters"][0]
    counts = (found["registeredContainerInstancesCount"], found["runningTasksCount"], found["pendingTasksCount"], found["activeServicesCount"])
    assert counts == (1, 1, 1, 1)
    statistics = {entry["name"]: entry["value"] for entry in found["statistics"]}
    assert statistics["runningEC2TasksCount"] == statistics["pendingExternalTasksCount"] == statistics["activeEC2ServiceCount"] == "1"
    assert statistics["runningFargateTasksCount"] == "0"
