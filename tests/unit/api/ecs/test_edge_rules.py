"""The rules that all operations share, as tables: ceilings, pages, references, null beside absent, what is INACTIVE.

Source: ecs-reference 1, 1.1 and 2, and the documentation in the API's model.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, REGION, Ecs

from homeport.api.ecs.operations import OPERATIONS
from homeport.api.protocol import model
from homeport.errors import ApiError, ClusterNotFoundError, InvalidParameterError, LimitExceededError
from homeport.model.ecs.task_definition import TaskDefinitionFamily
from homeport.store.tables import CLUSTERS, SERVICES, TABLES, TASK_DEFINITION_FAMILIES, TASKS
from homeport.testing import records

ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
ID = "f" * 32
APP = {"name": "app", "image": "a", "memory": 8}
SERVICE = {"taskDefinition": "web", "desiredCount": 0}


@pytest.fixture
async def ecs(context):
    """Two clusters, an instance, two services with a task each, definitions, a capacity provider, a gateway, an express service."""
    ecs = Ecs(context)
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[APP], tags=[{"key": "a", "value": "b"}])
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[APP])
    for name in ("default", "other", "gone"):
        await ecs("CreateCluster", clusterName=name, tags=[{"key": "a", "value": "b"}])
    await ecs("DeleteCluster", cluster="gone")
    attributes = [{"name": "stack", "value": "blue"}]
    instance = await ecs.register_instance(tags=[{"key": "a", "value": "b"}], attributes=attributes)
    for cluster in ("default", "other"):
        for name in ("web", "api"):
            await ecs("CreateService", cluster=cluster, serviceName=name, tags=[{"key": "a", "value": "b"}], **SERVICE)
    await ecs("CreateCapacityProvider", name="pool", autoScalingGroupProvider={"autoScalingGroupArn": "g"}, tags=[{"key": "a", "value": "b"}])
    await ecs("CreateGateway", name="shop", infrastructureRoleArn=ROLE, configuration={"hostSharedAlb": {}}, deletionProtection=False)
    express = {"executionRoleArn": ROLE, "primaryContainer": {"image": "a"}}
    await ecs("CreateExpressGatewayService", serviceName="express", infrastructureRoleArn=ROLE, **express)
    task = records.task(1, container_instance_id=instance["containerInstanceArn"].rpartition("/")[2], tags=(("a", "b"), ("aws:x", "y")))
    await ecs.put((TASKS, task))
    ecs.known = {"INSTANCE": instance["containerInstanceArn"], "TASK": ARN + f"task/default/{task.id}"}
    deployments = (await ecs("ListServiceDeployments", service="web"))["serviceDeployments"]
    ecs.known |= {"DEPLOYMENT": deployments[0]["serviceDeploymentArn"], "REVISION": deployments[0]["targetServiceRevisionArn"]}
    return ecs


def filled(ecs, members: dict[str, Any]) -> dict[str, Any]:
    """`members` with the ARNs of this test's things in place of their words."""
    text = msgspec.json.encode(members).decode()
    for word, arn in ecs.known.items():
        text = text.replace(f'"{word}"', f'"{arn}"')
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


async def state(ecs) -> dict[str, list[Any]]:
    """Everything that is stored."""
    return await ecs.context.store.view(lambda reader: {table.name: list(reader.scan(table)) for table in TABLES})


# ------------------------------------------------------------------------------------------------------------- ceilings


CEILINGS = [
    ("DescribeClusters", "clusters", 100, "x{}"),
    ("DescribeContainerInstances", "containerInstances", 100, "{:032x}"),
    ("DescribeTasks", "tasks", 100, "{:032x}"),
    ("DescribeServices", "services", 10, "x{}"),
    ("DescribeCapacityProviders", "capacityProviders", 100, "x{}"),
    ("DescribeServiceDeployments", "serviceDeploymentArns", 20, ARN + "service-deployment/default/web/{}"),
    ("DescribeServiceRevisions", "serviceRevisionArns", 20, ARN + "service-revision/default/web/{}"),
    ("GetTaskProtection", "tasks", 100, "{:032x}"),
    ("UpdateTaskProtection", "tasks", 10, "{:032x}"),
    ("DeleteTaskDefinitions", "taskDefinitions", 10, "x:{}"),
    ("UpdateContainerInstancesState", "containerInstances", 10, "{:032x}"),
    ("StartTask", "containerInstances", 10, "{:032x}"),
    ("ListGateways", "names", 10, "x{}"),
]
FURTHER = {
    "GetTaskProtection": {"cluster": "default"},
    "UpdateTaskProtection": {"cluster": "default", "protectionEnabled": True},
    "UpdateContainerInstancesState": {"status": "ACTIVE"},
    "StartTask": {"taskDefinition": "web"},
}


@pytest.mark.parametrize(("operation", "member", "most", "pattern"), CEILINGS)
async def test_a_batch_has_a_ceiling_and_what_is_missing_is_a_failure(ecs, operation, member, most, pattern):
    names = [pattern.format(number) for number in range(1000, 1001 + most)]
    answer = await ecs(operation, **{member: names[:-1], **FURTHER.get(operation, {})})
    if "failures" in answer:
        shown = min(most, 10) if operation == "DescribeCapacityProviders" else most  # the one that is paged
        assert [failure["reason"] for failure in answer["failures"]] == [answer["failures"][0]["reason"]] * shown
        assert all(failure["arn"].startswith(ARN) for failure in answer["failures"])
    with pytest.raises(InvalidParameterError):
        await ecs(operation, **{member: names, **FURTHER.get(operation, {})})


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("DescribeContainerInstances", {"containerInstances": []}),
        ("DescribeTasks", {"tasks": []}),
        ("DescribeServices", {"services": []}),
        ("DescribeServiceDeployments", {"serviceDeploymentArns": []}),
        ("DescribeServiceRevisions", {"serviceRevisionArns": []}),
        ("UpdateTaskProtection", {"cluster": "default", "tasks": [], "protectionEnabled": True}),
        ("DeleteTaskDefinitions", {"taskDefinitions": []}),
        ("UpdateContainerInstancesState", {"containerInstances": [], "status": "ACTIVE"}),
        ("StartTask", {"containerInstances": [], "taskDefinition": "web"}),
        ("PutAttributes", {"attributes": []}),
        ("DeleteAttributes", {"attributes": []}),
        ("PutAttributes", {"attributes": [{"name": f"a{number}", "targetId": "INSTANCE"} for number in range(11)]}),
        ("DeleteAttributes", {"attributes": [{"name": f"a{number}", "targetId": "INSTANCE"} for number in range(11)]}),
    ],
)
async def test_a_batch_of_nothing_or_too_much_is_refused(ecs, operation, members):
    with pytest.raises(InvalidParameterError):
        await ecs(operation, **filled(ecs, members))


@pytest.mark.parametrize(
    ("operation", "member", "names", "shown"),
    [
        ("DescribeClusters", "clusters", ["other", "default", ARN + "cluster/other", "other"], ("clusters", "clusterName", ["other", "default"])),
        ("DescribeServices", "services", ["web", ARN + "service/default/api", "web"], ("services", "serviceName", ["web", "api"])),
        ("DescribeTasks", "tasks", ["TASK", f"{1:032x}"], ("tasks", "taskArn", ["TASK"])),
        (
            "DescribeCapacityProviders",
            "capacityProviders",
            ["pool", "FARGATE", ARN + "capacity-provider/pool"],
            ("capacityProviders", "name", ["pool", "FARGATE"]),
        ),
    ],
)
async def test_a_batch_is_answered_in_its_order_and_each_thing_once(ecs, operation, member, names, shown):
    answer = await ecs(operation, **filled(ecs, {member: names}))
    assert [item[shown[1]] for item in answer[shown[0]]] == filled(ecs, {"x": shown[2]})["x"]


# ---------------------------------------------------------------------------------------------------------------- pages


PAGES = [
    ("ListClusters", {}, 100),
    ("ListTasks", {}, 100),
    ("ListContainerInstances", {}, 100),
    ("ListTaskDefinitions", {}, 100),
    ("ListTaskDefinitionFamilies", {}, 100),
    ("ListAttributes", {"targetType": "container-instance"}, 100),
    ("ListServices", {}, 100),
    ("ListServiceDeployments", {"service": "web"}, 100),
    ("ListAccountSettings", {"effectiveSettings": True}, 10),
    ("DescribeCapacityProviders", {}, 10),
    ("ListGateways", {}, 100),
    ("ListGatewayClusterAssociations", {}, 100),
    ("ListGatewayRoutes", {}, 100),
    ("DescribeGatewayResources", {"gateway": "shop"}, 20),
]


@pytest.mark.parametrize(("operation", "members", "most"), PAGES)
async def test_a_page_has_a_least_and_a_greatest_size(ecs, operation, members, most):
    for size in (1, most, None):
        await ecs(operation, **members, maxResults=size)
    for size in (0, -1, most + 1):
        with pytest.raises(InvalidParameterError, match=f"maxResults must be between 1 and {most}"):
            await ecs(operation, **members, maxResults=size)
    for token in ("x", "AAAA", "é", "x" * 5000):
        with pytest.raises(InvalidParameterError, match="Invalid token"):
            await ecs(operation, **members, nextToken=token)
    assert await ecs(operation, **members, nextToken="") == await ecs(operation, **members)


WALKS = [
    ("ListClusters", {}, "clusterArns"),
    ("ListTaskDefinitions", {}, "taskDefinitionArns"),
    ("ListTaskDefinitions", {"sort": "DESC"}, "taskDefinitionArns"),
    ("ListAttributes", {"targetType": "container-instance"}, "attributes"),
    ("ListServices", {}, "serviceArns"),
    ("ListAccountSettings", {"effectiveSettings": True}, "settings"),
    ("DescribeCapacityProviders", {}, "capacityProviders"),
]


@pytest.mark.parametrize(("operation", "members", "shown"), WALKS)
async def test_pages_of_one_give_what_one_page_gives_and_a_token_belongs_to_its_list(ecs, operation, members, shown):
    whole = (await ecs(operation, **members))[shown]
    found, token, tokens = [], None, []
    while True:
        answer = await ecs(operation, **members, maxResults=1, nextToken=token)
        found += answer[shown]
        if (token := answer.get("nextToken")) is None:
            break
        tokens.append(token)
    assert len(whole) > 1 and found[: len(whole)] == whole
    for other, others, _ in WALKS:
        if other != operation:
            with pytest.raises(InvalidParameterError, match="Invalid token"):
                await ecs(other, **others, nextToken=tokens[0])


@pytest.mark.parametrize(("operation", "create", "shown", "default"), [("ListServices", "CreateService", "serviceArns", 10)])
async def test_the_default_page_of_services_is_smaller(ecs, operation, create, shown, default):
    for number in range(default):
        await ecs(create, serviceName=f"s{number}", **SERVICE)
    answer = await ecs(operation)
    assert len(answer[shown]) == default and "nextToken" in answer


# ----------------------------------------------------------------------------------------------------------- references


IN_CLUSTER = [
    ("DescribeTasks", "tasks", "task", {}),
    ("StopTask", "task", "task", {}),
    ("ExecuteCommand", "task", "task", {"command": "sh", "interactive": True}),
    ("GetTaskProtection", "tasks", "task", {}),
    ("UpdateTaskProtection", "tasks", "task", {"protectionEnabled": True}),
    ("DescribeContainerInstances", "containerInstances", "container-instance", {}),
    ("UpdateContainerInstancesState", "containerInstances", "container-instance", {"status": "DRAINING"}),
    ("DeregisterContainerInstance", "containerInstance", "container-instance", {"force": True}),
    ("UpdateContainerAgent", "containerInstance", "container-instance", {}),
    ("StartTask", "containerInstances", "container-instance", {"taskDefinition": "web"}),
    ("ListTasks", "containerInstance", "container-instance", {}),
    ("DescribeServices", "services", "service", {}),
    ("UpdateService", "service", "service", {"desiredCount": 1}),
    ("DeleteService", "service", "service", {"force": True}),
    ("ListServiceDeployments", "service", "service", {}),
]
FOREIGN = [
    f"arn:aws:ecs:{REGION}:210987654321:{{kind}}/default/{{name}}",
    f"arn:aws:ecs:eu-west-1:{ACCOUNT}:{{kind}}/default/{{name}}",
    f"arn:aws-cn:ecs:{REGION}:{ACCOUNT}:{{kind}}/default/{{name}}",
    f"arn:aws:ec2:{REGION}:{ACCOUNT}:{{kind}}/default/{{name}}",
    ARN + "{kind}/other/{name}",
    ARN + "{kind}s/default/{name}",
    ARN + "{kind}/default/{name}/more",
    ARN + "{kind}/default/",
    ARN + "{kind}",
    "default/{name}",
    "",
]


@pytest.mark.parametrize("reference", FOREIGN)
@pytest.mark.parametrize(("operation", "member", "kind", "further"), IN_CLUSTER)
async def test_a_reference_elsewhere_is_refused_and_changes_nothing(ecs, operation, member, kind, further, reference):
    if not reference and (operation, member) == ("ListTasks", "containerInstance"):
        return  # a blank filter filters nothing
    name = "web" if kind == "service" else ID
    text = reference.format(kind=kind, name=name)
    before = ecs.context.store.revision
    with pytest.raises(InvalidParameterError):
        await ecs(operation, **{"cluster": "default", member: [text] if member.endswith("s") else text, **further})
    assert ecs.context.store.revision == before


ELSEWHERE = [f"arn:aws-cn:ecs:{REGION}:{ACCOUNT}:", f"arn:aws:ecs:{REGION}:210987654321:", f"arn:aws:ecs:eu-west-1:{ACCOUNT}:"]
BY_ARN = [
    *(
        ("TagResource", "resourceArn", resource, {"tags": [{"key": "k", "value": "v"}]})
        for resource in (
            "cluster/default",
            "capacity-provider/pool",
            "gateway/shop",
            "service/default/web",
            "task-definition/web:1",
            "daemon/default/logs",
            "task-set/default/web/ecs-svc/1",
        )
    ),
    ("DescribeCapacityProviders", "capacityProviders", "capacity-provider/pool", {}),
    ("DeleteCapacityProvider", "capacityProvider", "capacity-provider/pool", {}),
    ("DescribeGatewayRoute", "gatewayRouteArn", "gateway-route/shop/r", {}),
    ("DescribeExpressGatewayService", "serviceArn", "service/default/express", {}),
    ("DescribeDaemon", "daemonArn", "daemon/default/logs", {}),
    ("DescribeDaemonDeployments", "daemonDeploymentArns", "daemon-deployment/default/logs/1", {}),
    ("DescribeServiceDeployments", "serviceDeploymentArns", "service-deployment/default/web/1", {}),
    ("StopServiceDeployment", "serviceDeploymentArn", "service-deployment/default/web/1", {}),
]


@pytest.mark.parametrize(("operation", "member", "resource", "further"), BY_ARN)
async def test_an_arn_of_elsewhere_names_nothing_here(ecs, operation, member, resource, further):
    """What policies say of ours would not be asked of it."""

    def named(prefix):
        return {member: [prefix + resource] if member.endswith("s") else prefix + resource, **further}

    before = ecs.context.store.revision
    for prefix in ELSEWHERE:
        with pytest.raises(InvalidParameterError):
            await ecs(operation, **named(prefix))
    assert ecs.context.store.revision == before
    try:
        await ecs(operation, **named(ARN))
    except ApiError as error:
        assert not isinstance(error, InvalidParameterError)


@pytest.mark.parametrize(("operation", "member", "kind", "further"), IN_CLUSTER)
async def test_a_cluster_that_is_not_there_or_inactive_is_not_found(ecs, operation, member, kind, further):
    name = "web" if kind == "service" else ID
    for cluster in ("none", "gone", "Default", ARN + "cluster/gone"):
        with pytest.raises(ClusterNotFoundError):
            await ecs(operation, **{"cluster": cluster, member: [name] if member.endswith("s") else name, **further})


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("CreateService", {"serviceName": "new", **SERVICE}),
        ("RunTask", {"taskDefinition": "web"}),
        ("ListTasks", {}),
        ("ListServices", {}),
        ("ListContainerInstances", {}),
        ("ListAttributes", {"targetType": "container-instance"}),
        ("PutAttributes", {"attributes": [{"name": "a", "targetId": ID, "targetType": "container-instance"}]}),
        ("DescribeCapacityProviders", {}),
        ("PutClusterCapacityProviders", {"capacityProviders": [], "defaultCapacityProviderStrategy": []}),
        ("UpdateCluster", {}),
        ("UpdateClusterSettings", {"settings": []}),
        ("CreateExpressGatewayService", {"infrastructureRoleArn": ROLE, "executionRoleArn": ROLE, "primaryContainer": {"image": "a"}}),
        ("AssociateGatewayWithCluster", {"gateway": "shop"}),
        ("SubmitTaskStateChange", {"task": ID, "status": "RUNNING"}),
    ],
)
async def test_the_cluster_of_a_call_is_a_name_or_an_arn_of_ours(ecs, operation, members):
    for cluster in ("none", "gone", ARN + "cluster/gone"):
        with pytest.raises(ClusterNotFoundError):
            await ecs(operation, cluster=cluster, **members)
    for cluster in (
        f"arn:aws:ecs:{REGION}:210987654321:cluster/default",
        f"arn:aws:ecs:eu-west-1:{ACCOUNT}:cluster/default",
        "a b",
        "a/b",
        "x" * 256,
    ):
        with pytest.raises(InvalidParameterError):
            await ecs(operation, cluster=cluster, **members)


async def test_names_keep_their_case(ecs):
    await ecs("CreateCluster", clusterName="Other")
    await ecs("CreateService", serviceName="Web", **SERVICE)
    await ecs("CreateGateway", name="Shop", infrastructureRoleArn=ROLE, configuration={"hostSharedAlb": {}})
    assert len((await ecs("ListClusters"))["clusterArns"]) == 3
    assert [arn.rpartition("/")[2] for arn in (await ecs("ListServices"))["serviceArns"]] == ["Web", "api", "web"]
    assert [item["name"] for item in (await ecs("ListGateways"))["gateways"]] == ["Shop", "shop"]
    with pytest.raises(ApiError, match="TaskDefinition not found"):
        await ecs("RunTask", taskDefinition="Web")


# ---------------------------------------------------------------------------------------------------- null and absent


UPDATES = [
    ("UpdateService", {"service": "web"}),
    ("UpdateCluster", {"cluster": "default"}),
    ("UpdateGateway", {"gateway": "shop"}),
    ("UpdateExpressGatewayService", {"serviceArn": ARN + "service/default/express"}),
    ("UpdateCapacityProvider", {"name": "pool", "autoScalingGroupProvider": {}}),
]
STAMPS = {"updated_at", "configured_at", "status", "update_status"}
"""What an update that says nothing may still write: that there was one."""


@pytest.mark.parametrize(("operation", "members"), UPDATES)
async def test_null_and_absent_keep_what_is(ecs, operation, members):
    before = await state(ecs)
    input_shape = model.load().operations[operation].input_shape
    optional = [name for name in model.load().shapes[input_shape].members if name not in members]
    await ecs(operation, **members)
    await ecs(operation, **members, **dict.fromkeys(optional))
    after = await state(ecs)
    for table, old in before.items():
        assert [_unstamped(record) for record in after[table]] == [_unstamped(record) for record in old], table


def _unstamped(record: Any) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(record).items() if name not in STAMPS}


async def test_an_empty_list_clears_what_null_keeps(ecs):
    constraints = [{"type": "distinctInstance"}]
    strategy = [{"type": "binpack", "field": "cpu"}]
    await ecs("UpdateService", service="web", placementConstraints=constraints, placementStrategy=strategy)
    kept = (await ecs("UpdateService", service="web", placementConstraints=None, placementStrategy=None))["service"]
    assert (kept["placementConstraints"], kept["placementStrategy"]) == (constraints, [{"type": "binpack", "field": "cpu"}])
    cleared = (await ecs("UpdateService", service="web", placementConstraints=[], placementStrategy=[]))["service"]
    assert (cleared["placementConstraints"], cleared["placementStrategy"]) == ([], [])
    await ecs("UpdateService", service="web", placementStrategy=strategy)
    assert (await ecs("UpdateService", service="web", placementStrategy=[{}]))["service"]["placementStrategy"] == []


async def test_settings_that_are_not_given_stay(ecs):
    await ecs("UpdateClusterSettings", cluster="default", settings=[{"name": "containerInsights", "value": "enhanced"}])
    for operation in ("UpdateCluster", "UpdateClusterSettings"):
        answer = await ecs(operation, cluster="default", settings=[])
        assert answer["cluster"]["settings"] == [{"name": "containerInsights", "value": "enhanced"}]


async def test_a_blank_task_definition_is_not_an_absent_one(ecs):
    for operation, members in (("UpdateService", {"service": "web"}), ("CreateService", {"serviceName": "new", "desiredCount": 0})):
        with pytest.raises(InvalidParameterError, match="TaskDefinition can not be blank"):
            await ecs(operation, taskDefinition="", **members)


# ------------------------------------------------------------------------------------------------------------- includes


@pytest.mark.parametrize(
    ("operation", "members", "place"),
    [
        ("DescribeClusters", {}, "clusters"),
        ("DescribeServices", {"services": ["web"]}, "services"),
        ("DescribeTasks", {"tasks": ["TASK"]}, "tasks"),
        ("DescribeContainerInstances", {"containerInstances": ["INSTANCE"]}, "containerInstances"),
        ("DescribeCapacityProviders", {"capacityProviders": ["pool"]}, "capacityProviders"),
        ("DescribeTaskDefinition", {"taskDefinition": "web:1"}, ""),
    ],
)
async def test_tags_are_shown_to_those_who_ask_for_them(ecs, operation, members, place):
    def tags(answer):
        return (answer[place][0] if place else answer).get("tags", [])

    asked = filled(ecs, members)
    assert tags(await ecs(operation, **asked)) == tags(await ecs(operation, **asked, include=[])) == []
    assert tags(await ecs(operation, **asked, include=["TAGS"]))[0] == {"key": "a", "value": "b"}
    with pytest.raises(InvalidParameterError):
        await ecs(operation, **asked, include=["NONE_OF_THEM"])


# ------------------------------------------------------------------------------------------------------- limits of words


@pytest.mark.parametrize(
    ("operation", "members", "sentence"),
    [
        ("StartTask", {"taskDefinition": "web", "containerInstances": ["INSTANCE"], "startedBy": "x" * 37}, "at most 36 characters"),
        ("RunTask", {"taskDefinition": "web", "startedBy": "x" * 129}, "at most 128 characters"),
        ("RunTask", {"taskDefinition": "web", "clientToken": "x" * 65}, "1 to 64 characters"),
        ("RunTask", {"taskDefinition": "web", "clientToken": "a b"}, "from 33 to 126"),
        ("CreateService", {"serviceName": "new", **SERVICE, "clientToken": "x" * 37}, "1 to 36 characters"),
        ("RunTask", {"taskDefinition": "web", "propagateTags": "SERVICE"}, "propagated from SERVICE"),
        ("RunTask", {"taskDefinition": "web", "group": "service:web"}, "reserved"),
        ("RunTask", {"taskDefinition": "web", "placementStrategy": [{"type": "random"}] * 6}, "not be more than 5"),
        ("RunTask", {"taskDefinition": "web", "placementConstraints": [{"type": "distinctInstance"}] * 11}, "not be more than 10"),
        ("UpdateService", {"service": "web", "placementConstraints": [{"type": "distinctInstance"}] * 11}, "not be more than 10"),
        ("ListTasks", {"startedBy": "me", "family": "web"}, "cannot be combined"),
        ("ListAttributes", {"targetType": "container-instance", "attributeValue": "x"}, "attributeName is required"),
        ("ListAccountSettings", {"value": "enabled"}, "must specify a setting name"),
        ("UpdateTaskProtection", {"cluster": "default", "tasks": ["TASK"], "protectionEnabled": True, "expiresInMinutes": 2881}, "1 and 2880"),
        ("UpdateContainerInstancesState", {"containerInstances": ["INSTANCE"], "status": "REGISTERING"}, "should be one of"),
        ("CreateCluster", {"clusterName": "n", "serviceConnectDefaults": {"namespace": "a/b"}}, "Invalid namespace"),
        ("CreateCluster", {"clusterName": "n", "serviceConnectDefaults": {"namespace": "x" * 1025}}, "Invalid namespace"),
        ("UpdateCluster", {"cluster": "default", "serviceConnectDefaults": {"namespace": "arn:aws:ecs:a:b:c"}}, "Invalid namespace"),
        (
            "UpdateCluster",
            {"cluster": "default", "configuration": {"executeCommandConfiguration": {"logging": "OVERRIDE"}}},
            "logConfiguration must be provided",
        ),
        ("TagResource", {"resourceArn": "TASK", "tags": [{"key": "AWS:x", "value": "y"}]}, "reserved"),
        ("TagResource", {"resourceArn": "TASK", "tags": [{"key": "x", "value": "aws:y"}]}, "reserved"),
        ("UntagResource", {"resourceArn": "TASK", "tagKeys": ["aws:x"]}, "cannot be removed"),
        ("TagResource", {"resourceArn": ARN + "service/web", "tags": [{"key": "x", "value": "y"}]}, "Long arn format must be used"),
    ],
)
async def test_what_is_over_a_limit_is_told_and_changes_nothing(ecs, operation, members, sentence):
    before = ecs.context.store.revision
    with pytest.raises(InvalidParameterError, match=sentence):
        await ecs(operation, **filled(ecs, members))
    assert ecs.context.store.revision == before


async def test_constraints_of_a_service_and_of_its_definition_count_together(ecs):
    expressions = [{"type": "memberOf", "expression": "attribute:a exists"}] * 6
    await ecs("RegisterTaskDefinition", family="choosy", containerDefinitions=[APP], placementConstraints=expressions)
    own = [{"type": "distinctInstance"}] * 5
    with pytest.raises(InvalidParameterError, match="those of the task definition included"):
        await ecs("CreateService", serviceName="new", taskDefinition="choosy", desiredCount=0, placementConstraints=own)
    await ecs("CreateService", serviceName="new", taskDefinition="choosy", desiredCount=0, placementConstraints=own[:4])
    for members in ({"service": "new", "placementConstraints": own}, {"service": "web", "taskDefinition": "choosy", "placementConstraints": own}):
        with pytest.raises(InvalidParameterError, match="those of the task definition included"):
            await ecs("UpdateService", **members)


async def test_awss_own_tags_do_not_count_and_stay(ecs):
    tags = [{"key": f"k{number}", "value": "v"} for number in range(49)]
    await ecs("TagResource", **filled(ecs, {"resourceArn": "TASK", "tags": tags}))
    with pytest.raises(LimitExceededError):
        await ecs("TagResource", **filled(ecs, {"resourceArn": "TASK", "tags": [{"key": "one more", "value": "v"}]}))
    await ecs("UntagResource", **filled(ecs, {"resourceArn": "TASK", "tagKeys": ["a", *(tag["key"] for tag in tags)]}))
    assert (await ecs("ListTagsForResource", **filled(ecs, {"resourceArn": "TASK"})))["tags"] == [{"key": "aws:x", "value": "y"}]


async def test_tags_of_a_task_and_of_its_definition_count_together(ecs):
    tags = [{"key": f"k{number}", "value": "v"} for number in range(50)]
    await ecs("RegisterTaskDefinition", family="tagged", containerDefinitions=[APP], tags=tags[:30])
    with pytest.raises(InvalidParameterError, match="those of the task definition included"):
        await ecs(
            "RunTask", taskDefinition="tagged", propagateTags="TASK_DEFINITION", tags=[{"key": f"o{number}", "value": "v"} for number in range(21)]
        )
    await ecs("RunTask", taskDefinition="tagged", propagateTags="TASK_DEFINITION", tags=tags, enableECSManagedTags=True)


# ----------------------------------------------------------------------------------------------------------- what is over


async def test_what_is_inactive_can_be_seen_and_not_used(ecs):
    await ecs("DeregisterTaskDefinition", taskDefinition="web:1")
    assert (await ecs("DescribeTaskDefinition", taskDefinition="web:1"))["taskDefinition"]["status"] == "INACTIVE"
    again = await ecs("DeregisterTaskDefinition", taskDefinition="web:1")
    assert again["taskDefinition"]["status"] == "INACTIVE"
    for operation, members in (
        ("RunTask", {}),
        ("CreateService", {"serviceName": "new", "desiredCount": 0}),
        ("UpdateService", {"service": "web"}),
        ("StartTask", filled(ecs, {"containerInstances": ["INSTANCE"]})),
    ):
        with pytest.raises(ApiError, match="TaskDefinition is inactive"):
            await ecs(operation, taskDefinition="web:1", **members)
    await ecs("DeregisterTaskDefinition", taskDefinition="web:2")
    with pytest.raises(ApiError, match="TaskDefinition not found"):
        await ecs("RunTask", taskDefinition="web")
    await ecs("UpdateService", service="web", desiredCount=3)  # goes on with what it has
    assert [item["status"] for item in (await ecs("DescribeClusters", clusters=["gone"]))["clusters"]] == ["INACTIVE"]


async def test_a_service_on_its_way_out_is_not_what_it_was(ecs):
    await ecs("DeleteService", service="api")
    assert (await ecs("DescribeServices", services=["api"]))["services"][0]["status"] == "DRAINING"
    assert (await ecs("ListServices"))["serviceArns"] == [ARN + "service/default/web"]
    assert (await ecs("DeleteService", service="api"))["service"]["status"] == "DRAINING"
    for operation, members, code in (
        ("UpdateService", {"service": "api", "desiredCount": 1}, "ServiceNotActiveException"),
        ("CreateService", {"serviceName": "api", **SERVICE}, "InvalidParameterException"),
    ):
        with pytest.raises(ApiError) as caught:
            await ecs(operation, **members)
        assert caught.value.code == code
    service = await ecs.get(SERVICES, f"{ACCOUNT}/default/api")
    await ecs.put((SERVICES, msgspec.structs.replace(service, status="INACTIVE")))
    assert (await ecs("DescribeServices", services=["api"]))["services"][0]["status"] == "INACTIVE"
    for operation, code in (("DeleteService", "ServiceNotFoundException"), ("UpdateService", "ServiceNotActiveException")):
        with pytest.raises(ApiError) as caught:
            await ecs(operation, service="api")
        assert caught.value.code == code
    await ecs("CreateService", serviceName="api", **SERVICE)


@pytest.mark.parametrize(
    ("operation", "members", "other", "code"),
    [
        ("RunTask", {"taskDefinition": "web"}, {"count": 2}, "ConflictException"),
        ("CreateService", {"serviceName": "new", **SERVICE}, {"desiredCount": 1}, "InvalidParameterException"),
        ("CreateGateway", {"name": "g", "infrastructureRoleArn": ROLE, "configuration": {"hostSharedAlb": {}}}, {"propagateTags": "NONE"}, None),
    ],
)
async def test_a_token_has_one_effect(ecs, operation, members, other, code):
    first = await ecs(operation, **members, clientToken="t")
    revision = ecs.context.store.revision
    assert await ecs(operation, **members, clientToken="t") == first
    if code is None:
        assert await ecs(operation, **{**members, **other}, clientToken="t") == first
    else:
        with pytest.raises(ApiError) as caught:
            await ecs(operation, **{**members, **other}, clientToken="t")
        assert caught.value.code == code
    assert ecs.context.store.revision == revision


async def test_revision_numbers_and_names_are_not_used_again(ecs):
    await ecs("DeregisterTaskDefinition", taskDefinition="web:2")
    await ecs("DeleteTaskDefinitions", taskDefinitions=["web:2"])
    assert (await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[APP]))["taskDefinition"]["revision"] == 3
    assert await ecs.get(TASK_DEFINITION_FAMILIES, f"{ACCOUNT}/web") == TaskDefinitionFamily(account=ACCOUNT, family="web", last_revision=3)
    gone = await ecs.get(CLUSTERS, f"{ACCOUNT}/gone")
    await ecs("CreateCluster", clusterName="gone")
    assert (await ecs.get(CLUSTERS, f"{ACCOUNT}/gone")).created_at > gone.created_at


def test_every_list_of_the_model_is_in_the_table_of_pages():
    paged = {name for name, operation in model.load().operations.items() if "maxResults" in model.load().shapes[operation.input_shape].members}
    elsewhere = {"ListServicesByNamespace"} | {name for name in paged if "Daemon" in name}
    assert paged & set(OPERATIONS) - elsewhere == {operation for operation, _, _ in PAGES}
