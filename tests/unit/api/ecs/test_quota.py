"""Each quota of docs/howto/quotas.md: what is allowed succeeds, one more is refused with ECS's error, and a raised setting lets it pass."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.api.accounts import Accounts
from homeport.config import Settings
from homeport.errors import AttributeLimitExceededError, ClientError, InvalidParameterError, LimitExceededError
from homeport.model.account import Account
from homeport.model.ecs.task_definition import REVISION_MAX, TaskDefinitionFamily
from homeport.store.tables import TASK_DEFINITION_FAMILIES

PAGE = Path(__file__).parents[4] / "docs/howto/quotas.md"
ROLE = "arn:aws:iam::123456789012:role/r"
APP = {"name": "app", "image": "a", "memory": 8}


@pytest.fixture(autouse=True, params=["the installation", "the account"])
def whose(request, monkeypatch):
    """Whose value of a quota it is that counts: every test is made with both."""
    monkeypatch.setattr(f"{__name__}.WHOSE", request.param)


WHOSE = ""


def quotas(context, **settings):
    """The API with other quotas on the same state: settings, or quotas of the account's own over settings that say something else."""
    if WHOSE == "the installation":
        return Ecs(dataclasses.replace(context, settings=msgspec.structs.replace(context.settings, **settings)))
    accounts = Accounts()
    accounts.change("accounts", None, Account(id=ACCOUNT, name="red", created_at=1.0, quotas=tuple(settings.items())))
    accounts.change("accounts", None, Account(id="210987654321", name="blue", created_at=1.0, quotas=tuple((name, 0) for name in settings)))
    return Ecs(dataclasses.replace(context, accounts=accounts))


async def ready(ecs):
    await ecs("CreateCluster")
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[APP])


def containers(count):
    return [{**APP, "name": f"c{number}"} for number in range(count)]


async def test_clusters_per_account(context):
    ecs = quotas(context, clusters_max=2)
    for name in ("a", "b", "a"):
        await ecs("CreateCluster", clusterName=name)
    for refused in (ecs("CreateCluster", clusterName="c"), ecs.register_instance()):
        with pytest.raises(ClientError, match="limit of 2 clusters per account. The setting clusters_max"):
            await refused
    await quotas(context, clusters_max=3)("CreateCluster", clusterName="c")
    await ecs("DeleteCluster", cluster="a")
    await ecs("DeleteCluster", cluster="b")
    await ecs.register_instance()


async def test_services_per_cluster(context):
    ecs = quotas(context, services_per_cluster_max=2)
    await ready(ecs)
    express = {"infrastructureRoleArn": ROLE, "executionRoleArn": ROLE, "primaryContainer": {"image": "a"}}
    await ecs("CreateService", serviceName="a", taskDefinition="web", desiredCount=0, clientToken="t")
    await ecs("CreateExpressGatewayService", serviceName="b", **express)
    again = await ecs("CreateService", serviceName="a", taskDefinition="web", desiredCount=0, clientToken="t")
    assert again["service"]["serviceName"] == "a"
    for refused in (
        ecs("CreateService", serviceName="c", taskDefinition="web", desiredCount=0),
        ecs("CreateExpressGatewayService", serviceName="c", **express),
    ):
        with pytest.raises(ClientError, match="limit of 2 services per cluster"):
            await refused
    assert (await ecs("DeleteService", service="a"))["service"]["status"] == "DRAINING"
    with pytest.raises(ClientError, match="limit of 2 services per cluster"):
        await ecs("CreateService", serviceName="c", taskDefinition="web", desiredCount=0)
    await ecs("CreateCluster", clusterName="other")
    await ecs("CreateService", cluster="other", serviceName="c", taskDefinition="web", desiredCount=0)
    await quotas(context, services_per_cluster_max=3)("CreateService", serviceName="c", taskDefinition="web", desiredCount=0)


async def test_tasks_per_service(context):
    ecs = Ecs(context)
    await ready(ecs)
    with pytest.raises(InvalidParameterError, match="desiredCount must be between 0 and 5000"):
        await ecs("CreateService", serviceName="a", taskDefinition="web", desiredCount=5001)
    await ecs("CreateService", serviceName="a", taskDefinition="web", desiredCount=5000)
    with pytest.raises(InvalidParameterError, match="between 0 and 5000"):
        await ecs("UpdateService", service="a", desiredCount=5001)
    raised = quotas(context, tasks_per_service_max=6000)
    assert (await raised("UpdateService", service="a", desiredCount=5001))["service"]["desiredCount"] == 5001
    await ecs("UpdateService", service="a", enableECSManagedTags=True)


async def test_container_instances_per_cluster(context):
    ecs = quotas(context, container_instances_per_cluster_max=1)
    first = await ecs.register_instance()
    for status in ("ACTIVE", "DRAINING"):
        await ecs("UpdateContainerInstancesState", containerInstances=[first["containerInstanceArn"]], status=status)
        with pytest.raises(ClientError, match="limit of 1 container instances per cluster"):
            await ecs.register_instance()
    await ecs.register_instance(containerInstanceArn=first["containerInstanceArn"])
    await ecs("CreateCluster", clusterName="other")
    await ecs.register_instance(cluster="other")
    await ecs("DeregisterContainerInstance", containerInstance=first["containerInstanceArn"])
    await ecs.register_instance()
    await quotas(context, container_instances_per_cluster_max=2).register_instance()


async def test_capacity_providers_per_cluster(context):
    ecs = quotas(context, capacity_providers_per_cluster_max=1)
    both = ["FARGATE", "FARGATE_SPOT"]
    await ecs("CreateCluster", capacityProviders=both[:1])
    associate = {"cluster": "default", "capacityProviders": both, "defaultCapacityProviderStrategy": []}
    for refused in (ecs("CreateCluster", clusterName="a", capacityProviders=both), ecs("PutClusterCapacityProviders", **associate)):
        with pytest.raises(ClientError, match="at most 1 capacity providers"):
            await refused
    await Ecs(context)("PutClusterCapacityProviders", **associate)


async def test_gateways_per_cluster(context):
    ecs = Ecs(context)
    await ecs("CreateCluster")
    for number in range(6):
        await ecs("CreateGateway", name=f"g{number}", infrastructureRoleArn=ROLE, configuration={"hostSharedAlb": {}})
    for number in range(5):
        await ecs("AssociateGatewayWithCluster", gateway=f"g{number}", cluster="default")
    with pytest.raises(ClientError, match="limit of 5 gateways per cluster"):
        await ecs("AssociateGatewayWithCluster", gateway="g5", cluster="default")
    assert (await ecs("AssociateGatewayWithCluster", gateway="g4", cluster="default"))["status"] == "ACTIVE"
    await quotas(context, gateways_per_cluster_max=6)("AssociateGatewayWithCluster", gateway="g5", cluster="default")


async def test_containers_per_task_definition(context):
    ecs = Ecs(context)
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=containers(10))
    with pytest.raises(ClientError, match="Too many containers"):
        await ecs("RegisterTaskDefinition", family="web", containerDefinitions=containers(11))
    await quotas(context, containers_per_task_definition_max=11)("RegisterTaskDefinition", family="web", containerDefinitions=containers(11))


async def test_bytes_of_a_task_definition(context):
    ecs = Ecs(context)
    large = [{**APP, "command": ["x" * 65_000]}]
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=large)
    large[0]["command"].append("x" * 600)
    with pytest.raises(ClientError, match="Max allowed length is '65536' bytes"):
        await ecs("RegisterTaskDefinition", family="web", containerDefinitions=large)
    await quotas(context, task_definition_bytes_max=70_000)("RegisterTaskDefinition", family="web", containerDefinitions=large)


async def test_revisions_of_a_family(context):
    ecs = Ecs(context)
    await ecs.put((TASK_DEFINITION_FAMILIES, TaskDefinitionFamily(account=ecs.account, family="web", last_revision=999_999)))
    assert (await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[APP]))["taskDefinition"]["revision"] == 1_000_000
    with pytest.raises(LimitExceededError, match="limit of 1000000 revisions"):
        await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[APP])
    raised = quotas(context, task_definition_revisions_max=10**9)
    await raised("RegisterTaskDefinition", family="web", containerDefinitions=[APP])
    await ecs.put((TASK_DEFINITION_FAMILIES, TaskDefinitionFamily(account=ecs.account, family="web", last_revision=REVISION_MAX)))
    with pytest.raises(LimitExceededError, match=f"limit of {REVISION_MAX} revisions"):
        await raised("RegisterTaskDefinition", family="web", containerDefinitions=[APP])


async def test_tasks_and_instances_of_one_call(context):
    ecs = Ecs(context)
    await ready(ecs)
    for wrong in (0, 11):
        with pytest.raises(InvalidParameterError, match="Count must be between 1 and 10"):
            await ecs("RunTask", taskDefinition="web", count=wrong)
        with pytest.raises(InvalidParameterError, match="Container instances must be between 1 and 10"):
            await ecs("StartTask", taskDefinition="web", containerInstances=["f" * 32] * wrong)
    raised = quotas(context, tasks_per_run_max=11, instances_per_start_max=11)
    for operation, members in (("RunTask", {"count": 11}), ("StartTask", {"containerInstances": ["f" * 32] * 11})):
        assert len((await raised(operation, taskDefinition="web", **members))["failures"]) == 11


async def test_tasks_that_wait_for_capacity(context):
    ecs = quotas(context, provisioning_tasks_max=1)
    await ready(ecs)
    group = {"autoScalingGroupArn": "group", "managedScaling": {"status": "ENABLED"}}
    await ecs("CreateCapacityProvider", name="pool", autoScalingGroupProvider=group)
    await ecs("PutClusterCapacityProviders", cluster="default", capacityProviders=["pool"], defaultCapacityProviderStrategy=[])
    run = {"taskDefinition": "web", "capacityProviderStrategy": [{"capacityProvider": "pool", "weight": 1}]}
    await ecs("RunTask", **run)
    with pytest.raises(ClientError, match="limit of 1 tasks in the PROVISIONING state"):
        await ecs("RunTask", **run)
    await quotas(context, provisioning_tasks_max=2)("RunTask", **run)


async def test_custom_attributes_of_an_instance(context):
    ecs = Ecs(context)
    arn = (await ecs.register_instance())["containerInstanceArn"]

    def attributes(start, stop):
        return [{"name": f"a{number}", "value": "v", "targetId": arn} for number in range(start, stop)]

    await ecs("PutAttributes", attributes=attributes(0, 10))
    with pytest.raises(AttributeLimitExceededError):
        await ecs("PutAttributes", attributes=attributes(10, 11))
    await quotas(context, custom_attributes_max=11)("PutAttributes", attributes=attributes(10, 11))


async def test_security_groups_and_subnets(context):
    ecs, raised = Ecs(context), quotas(context, security_groups_max=6, subnets_max=17)
    express = {"infrastructureRoleArn": ROLE, "executionRoleArn": ROLE, "primaryContainer": {"image": "a"}}
    for member, most in (("securityGroups", 5), ("subnets", 16)):
        network = {"networkConfiguration": {member: [str(number) for number in range(most + 1)]}}
        with pytest.raises(InvalidParameterError, match=f"{member} can have at most {most} items"):
            await ecs("CreateExpressGatewayService", **express, **network)
        await raised("CreateExpressGatewayService", **express, **network)
    gateway = {"name": "g", "infrastructureRoleArn": ROLE, "configuration": {"hostSharedAlb": network}}
    with pytest.raises(InvalidParameterError, match="subnets can have at most 16 items"):
        await ecs("CreateGateway", **gateway)
    await raised("CreateGateway", **gateway)


async def test_tags_of_a_resource(context):
    ecs = Ecs(context)

    def tags(start, stop):
        return [{"key": f"k{number}", "value": "v"} for number in range(start, stop)]

    await ecs("CreateCluster", tags=tags(0, 50))
    with pytest.raises(LimitExceededError):
        await ecs("TagResource", resourceArn=ARN + "cluster/default", tags=tags(50, 51))
    await quotas(context, tags_max=51)("TagResource", resourceArn=ARN + "cluster/default", tags=tags(50, 51))
    with pytest.raises(InvalidParameterError, match="limit of 49"):
        await quotas(context, tags_max=49)("CreateCluster", clusterName="b", tags=tags(0, 50))


def test_the_page_names_every_quota_with_its_default():
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE))
    assert told
    assert {name: str(getattr(Settings(), name)) for name in told} == told
    tested = Path(__file__).read_text() + Path(__file__).with_name("test_task_set.py").read_text()
    tested += Path(__file__).parents[1].joinpath("test_account.py").read_text()
    assert not [name for name in told if f"{name}=" not in tested]
    endings = {name for name, value in msgspec.structs.asdict(Settings()).items() if name.endswith("_max") and isinstance(value, int)}
    ours = {"body_bytes_max", "journal_bytes_max", "audit_bytes_max", "audit_segment_bytes_max", "audit_pending_bytes_max"}
    assert endings - told.keys() <= ours, "a quota of its own belongs on the page"
