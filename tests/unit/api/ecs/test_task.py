from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.errors import ClientError, ClusterNotFoundError, ConflictError, InvalidParameterError, ServiceNotFoundError, UnsupportedFeatureError
from homeport.store.tables import CONTAINER_INSTANCES, TASKS

MAIN = {"name": "main", "image": "busybox", "memory": 100}


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def connected(ecs, **members):
    """An instance whose agent is connected; its ARN."""
    made = await ecs.register_instance(**members)
    arn = made["containerInstanceArn"]
    key = f"{ACCOUNT}/" + arn.split(":container-instance/")[1]
    record = await ecs.get(CONTAINER_INSTANCES, key)
    await ecs.put((CONTAINER_INSTANCES, msgspec.structs.replace(record, agent_connected=True)))
    return arn


async def define(ecs, family="web", **members):
    return (await ecs("RegisterTaskDefinition", family=family, containerDefinitions=[{**MAIN, **members}]))["taskDefinition"]["taskDefinitionArn"]


async def test_run_task_places_and_answers_as_aws_does(ecs):
    instance = await connected(ecs)
    definition = await define(ecs)
    answer = await ecs("RunTask", taskDefinition="web", count=2, startedBy="me")
    assert answer["failures"] == []
    assert len({task["taskArn"] for task in answer["tasks"]}) == 2
    task = answer["tasks"][0]
    assert task["taskArn"].startswith(ARN + "task/default/")
    assert (task["lastStatus"], task["desiredStatus"], task["launchType"]) == ("PENDING", "RUNNING", "EC2")
    assert (task["taskDefinitionArn"], task["containerInstanceArn"]) == (definition, instance)
    assert (task["group"], task["startedBy"], task["cpu"], task["memory"]) == ("family:web", "me", "0", "100")
    assert task["overrides"] == {"containerOverrides": [{"name": "main"}], "inferenceAcceleratorOverrides": []}
    assert task["availabilityZone"] == "us-east-1a"
    (container,) = task["containers"]
    assert container["containerArn"].startswith(ARN + "container/default/")
    assert (container["name"], container["image"], container["lastStatus"], container["healthStatus"]) == ("main", "busybox", "PENDING", "UNKNOWN")


async def test_copies_that_do_not_fit_are_failures_with_the_instances_reason(ecs):
    instance = await connected(ecs)
    await define(ecs, memory=1500)
    answer = await ecs("RunTask", taskDefinition="web", count=3)
    assert len(answer["tasks"]) == 2
    assert answer["failures"] == [{"arn": instance, "reason": "RESOURCE:MEMORY"}]


async def test_a_cluster_without_instances_says_so(ecs):
    await ecs("CreateCluster", clusterName="empty")
    await define(ecs)
    answer = await ecs("RunTask", taskDefinition="web", cluster="empty")
    assert answer == {"tasks": [], "failures": [{"arn": ARN + "cluster/empty", "reason": "NO ACTIVE INSTANCES"}]}


async def test_the_launch_types_keep_apart(ecs):
    ours = await connected(ecs)
    external = await connected(ecs, attributes=[{"name": "ecs.capability.external"}])
    await define(ecs)
    assert {t["containerInstanceArn"] for t in (await ecs("RunTask", taskDefinition="web", count=5))["tasks"]} == {ours}
    away = (await ecs("RunTask", taskDefinition="web", count=5, launchType="EXTERNAL"))["tasks"]
    assert {(t["containerInstanceArn"], t["launchType"]) for t in away} == {(external, "EXTERNAL")}


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({"taskDefinition": "none"}, ClientError, "TaskDefinition not found"),
        ({"cluster": "none"}, ClusterNotFoundError, "Cluster not found"),
        ({"count": 11}, InvalidParameterError, "between 1 and 10"),
        ({"count": 0}, InvalidParameterError, "between 1 and 10"),
        ({"launchType": "FARGATE"}, UnsupportedFeatureError, "launchType FARGATE is not built yet"),
        ({"capacityProviderStrategy": [{"capacityProvider": "x"}]}, InvalidParameterError, "not associated with the cluster"),
        ({"enableExecuteCommand": True}, UnsupportedFeatureError, "enableExecuteCommand is not built yet"),
        ({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}}, InvalidParameterError, "Network Configuration"),
        ({"startedBy": "not ok"}, InvalidParameterError, "startedBy"),
        ({"group": "service:web"}, InvalidParameterError, "reserved"),
        ({"clientToken": "not printable"}, InvalidParameterError, "clientToken"),
        ({"overrides": {"containerOverrides": [{"name": "other"}]}}, InvalidParameterError, "named other is not a container"),
        ({"overrides": {"containerOverrides": [{"command": ["x"]}]}}, InvalidParameterError, "must specify a container name"),
        ({"overrides": {"taskRoleArn": "arn:aws:iam::1:role/x"}}, ClientError, "Role is not valid"),
        ({"overrides": {"executionRoleArn": "arn:aws:iam::123456789012:user/x"}}, ClientError, "Role is not valid"),
        ({"overrides": {"cpu": "many"}}, InvalidParameterError, "overrides.cpu"),
        ({"placementConstraints": [{"type": "memberOf"}]}, InvalidParameterError, "expression must be specified"),
        ({"placementConstraints": [{"type": "memberOf", "expression": "=="}]}, InvalidParameterError, "Invalid placement constraint"),
        ({"placementStrategy": [{"type": "binpack", "field": "disk"}]}, InvalidParameterError, "not valid for a binpack"),
        ({"placementStrategy": [{"type": "spread", "field": "x"}]}, InvalidParameterError, "spread strategy"),
        ({"placementStrategy": [{"type": "spread", "field": "attribute:"}]}, InvalidParameterError, "spread strategy"),
        ({"tags": [{"key": "aws:x", "value": "y"}]}, InvalidParameterError, "reserved"),
    ],
)
async def test_a_bad_call_is_refused_and_makes_nothing(ecs, members, error, words):
    await connected(ecs)
    await define(ecs)
    with pytest.raises(error, match=words):
        await ecs("RunTask", **{"taskDefinition": "web", **members})
    assert (await ecs("ListTasks"))["taskArns"] == []


async def test_a_definition_that_cannot_act_is_refused_by_its_field(ecs):
    await connected(ecs)
    await ecs("RegisterTaskDefinition", family="vpc", networkMode="awsvpc", containerDefinitions=[MAIN])
    with pytest.raises(UnsupportedFeatureError, match="networkMode.*is not built yet"):
        await ecs("RunTask", taskDefinition="vpc")


async def test_an_inactive_revision_starts_nothing(ecs):
    await connected(ecs)
    await ecs("DeregisterTaskDefinition", taskDefinition=await define(ecs))
    with pytest.raises(ClientError, match="inactive"):
        await ecs("RunTask", taskDefinition="web:1")


async def test_a_token_has_one_effect_and_the_failures_of_its_first_answer(ecs):
    await connected(ecs)
    await define(ecs, memory=3000)
    first = await ecs("RunTask", taskDefinition="web", count=2, clientToken="t")  # noqa: S106
    assert (len(first["tasks"]), len(first["failures"])) == (1, 1)
    again = await ecs("RunTask", taskDefinition="web", count=2, clientToken="t")  # noqa: S106
    assert again == first
    with pytest.raises(ConflictError) as conflict:
        await ecs("RunTask", taskDefinition="web", count=1, clientToken="t")  # noqa: S106
    assert conflict.value.resource_ids == (first["tasks"][0]["taskArn"],)


async def test_tags_come_from_the_call_and_the_definition(ecs):
    await connected(ecs)
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[MAIN], tags=[{"key": "a", "value": "1"}, {"key": "b", "value": "1"}])
    task = (
        await ecs("RunTask", taskDefinition="web", tags=[{"key": "b", "value": "2"}], propagateTags="TASK_DEFINITION", enableECSManagedTags=True)
    )["tasks"][0]
    shown = {tag["key"]: tag["value"] for tag in task["tags"]}
    assert shown == {"a": "1", "b": "2", "aws:ecs:clusterName": "default"}
    assert (await ecs("DescribeTasks", tasks=[task["taskArn"]]))["tasks"][0]["tags"] == []
    assert (await ecs("DescribeTasks", tasks=[task["taskArn"]], include=["TAGS"]))["tasks"][0]["tags"] == task["tags"]


async def test_start_task_goes_where_it_is_told(ecs):
    first, second = await connected(ecs), await connected(ecs)
    await define(ecs)
    unknown = ARN + "container-instance/default/" + "0" * 32
    answer = await ecs("StartTask", taskDefinition="web", containerInstances=[second, unknown])
    assert [task["containerInstanceArn"] for task in answer["tasks"]] == [second]
    assert answer["failures"] == [{"arn": unknown, "reason": "MISSING"}]
    await ecs("UpdateContainerInstancesState", containerInstances=[first], status="DRAINING")
    assert [f["reason"] for f in (await ecs("StartTask", taskDefinition="web", containerInstances=[first]))["failures"]] == ["INACTIVE"]


async def test_stop_task_wants_it_stopped_and_keeps_the_first_reason(ecs):
    await connected(ecs)
    await define(ecs)
    arn = (await ecs("RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
    stopped = (await ecs("StopTask", task=arn))["task"]
    assert (stopped["desiredStatus"], stopped["lastStatus"]) == ("STOPPED", "STOPPING")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "Task stopped by user")
    assert (await ecs("StopTask", task=arn, reason="again"))["task"]["stoppedReason"] == "Task stopped by user"
    with pytest.raises(InvalidParameterError, match=r"The referenced task was not found\."):
        await ecs("StopTask", task="0" * 32)


async def test_a_report_is_shown_and_a_repeated_one_changes_nothing(ecs):
    await connected(ecs)
    await define(ecs)
    arn = (await ecs("RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
    binding = {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"}  # noqa: S104
    report = {
        "task": arn,
        "status": "RUNNING",
        "containers": [{"containerName": "main", "runtimeId": "abc", "status": "RUNNING", "networkBindings": [binding], "exitCode": 7}],
        "pullStartedAt": 5.0,
    }
    await ecs("SubmitTaskStateChange", **report)
    shown = (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]
    assert (shown["lastStatus"], shown["connectivity"], shown["pullStartedAt"]) == ("RUNNING", "CONNECTED", 5.0)
    assert shown["containers"][0]["networkBindings"] == [binding]
    assert "exitCode" not in shown["containers"][0]
    await ecs("SubmitTaskStateChange", **report)
    assert (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]["version"] == shown["version"]
    await ecs("SubmitContainerStateChange", task=arn, containerName="main", status="STOPPED", exitCode=7, reason="OutOfMemoryError: x")
    await ecs("SubmitTaskStateChange", task=arn, status="STOPPED")
    ended = (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]
    assert (ended["lastStatus"], ended["desiredStatus"], ended["stopCode"]) == ("STOPPED", "STOPPED", "EssentialContainerExited")
    assert (ended["containers"][0]["exitCode"], ended["containers"][0]["reason"]) == (7, "OutOfMemoryError: x")


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("SubmitTaskStateChange", {"task": "0" * 32, "status": "RUNNING"}),
        ("SubmitTaskStateChange", {"status": "RUNNING"}),
        ("SubmitContainerStateChange", {"task": "0" * 32, "containerName": "x"}),
        ("SubmitAttachmentStateChanges", {"attachments": [{"attachmentArn": "a", "status": "ATTACHED"}]}),
    ],
)
async def test_a_report_of_what_is_not_there_is_dropped_by_its_error(ecs, operation, members):
    await connected(ecs)
    with pytest.raises(InvalidParameterError):
        await ecs(operation, **members)


async def test_a_status_that_does_not_exist_is_refused(ecs):
    await connected(ecs)
    await define(ecs)
    arn = (await ecs("RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
    with pytest.raises(InvalidParameterError, match="not one of"):
        await ecs("SubmitTaskStateChange", task=arn, status="FLYING")
    for instant in (-1.0, 1e300):
        with pytest.raises(InvalidParameterError, match="out of range"):
            await ecs("SubmitTaskStateChange", task=arn, status="RUNNING", pullStartedAt=instant)


async def test_describe_gives_what_is_there_and_names_what_is_missing(ecs):
    await connected(ecs)
    await define(ecs)
    arn = (await ecs("RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
    answer = await ecs("DescribeTasks", tasks=[arn, "0" * 32, arn.rsplit("/", 1)[1]])
    assert [task["taskArn"] for task in answer["tasks"]] == [arn]
    assert answer["failures"] == [{"arn": ARN + "task/default/" + "0" * 32, "reason": "MISSING"}]
    with pytest.raises(InvalidParameterError):
        await ecs("DescribeTasks", tasks=[arn] * 101)
    with pytest.raises(InvalidParameterError):
        await ecs("DescribeTasks", tasks=[])


async def test_lists_filter_and_page(ecs):
    instance = await connected(ecs)
    await define(ecs)
    await define(ecs, "job")
    web = {t["taskArn"] for t in (await ecs("RunTask", taskDefinition="web", count=5, startedBy="x"))["tasks"]}
    job = {t["taskArn"] for t in (await ecs("RunTask", taskDefinition="job", count=2))["tasks"]}
    assert set((await ecs("ListTasks"))["taskArns"]) == web | job
    assert set((await ecs("ListTasks", family="job"))["taskArns"]) == job
    assert set((await ecs("ListTasks", startedBy="x"))["taskArns"]) == web
    assert set((await ecs("ListTasks", containerInstance=instance))["taskArns"]) == web | job
    assert (await ecs("ListTasks", launchType="EXTERNAL"))["taskArns"] == []
    assert (await ecs("ListTasks", desiredStatus="PENDING"))["taskArns"] == []
    stopped = next(iter(web))
    await ecs("StopTask", task=stopped)
    assert (await ecs("ListTasks", desiredStatus="STOPPED"))["taskArns"] == [stopped]
    seen, token, pages = [], None, 0
    while True:
        page = await ecs("ListTasks", maxResults=4, **({"nextToken": token} if token else {}))
        seen += page["taskArns"]
        pages += 1
        token = page.get("nextToken")
        if token is None:
            break
    assert (set(seen), len(seen), pages) == ((web | job) - {stopped}, 6, 2)
    first = await ecs("ListTasks", maxResults=4)
    for spoilt in ({"nextToken": first["nextToken"], "family": "web"}, {"nextToken": first["nextToken"][:-2] + "AA"}, {"nextToken": "x"}):
        with pytest.raises(InvalidParameterError):
            await ecs("ListTasks", maxResults=4, **spoilt)
    with pytest.raises(InvalidParameterError, match="startedBy"):
        await ecs("ListTasks", startedBy="x", family="web")
    with pytest.raises(ServiceNotFoundError):
        await ecs("ListTasks", serviceName="none")
    with pytest.raises(InvalidParameterError):
        await ecs("ListTasks", maxResults=101)


async def test_a_rendered_task_follows_its_record(ecs):
    await connected(ecs)
    await define(ecs)
    arn = (await ecs("RunTask", taskDefinition="web"))["tasks"][0]["taskArn"]
    before = (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]
    record = await ecs.get(TASKS, f"{ACCOUNT}/default/" + arn.rsplit("/", 1)[1])
    await ecs.put((TASKS, msgspec.structs.replace(record, health_status="HEALTHY", version=record.version + 1)))
    after = (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]
    assert (before["healthStatus"], after["healthStatus"], after["version"]) == ("UNKNOWN", "HEALTHY", before["version"] + 1)
