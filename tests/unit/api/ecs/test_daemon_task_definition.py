"""Daemon task definitions: register, describe, list, delete, and what is refused."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, ROOT, Ecs

from homeport.controllers.daemon_task_definition import DaemonTaskDefinitionController
from homeport.errors import ClientError, InvalidParameterError, ResourceNotFoundError
from homeport.model.ecs.task import Task
from homeport.store.tables import DAEMON_TASK_DEFINITIONS, TASKS

CONTAINER = {"name": "agent", "image": "agent:1", "memory": 16}
PREFIX = ARN + "daemon-task-definition/"


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def register(ecs, family="logs", **members):
    members = {"containerDefinitions": [CONTAINER], **members}
    return (await ecs("RegisterDaemonTaskDefinition", family=family, **members))["daemonTaskDefinitionArn"]


async def described(ecs, reference):
    return (await ecs("DescribeDaemonTaskDefinition", daemonTaskDefinition=reference))["daemonTaskDefinition"]


async def listed(ecs, **members):
    answer = await ecs("ListDaemonTaskDefinitions", **members)
    return [item["arn"].removeprefix(PREFIX) for item in answer["daemonTaskDefinitions"]], answer.get("nextToken")


async def test_a_minimal_one_comes_back_normalised(ecs):
    assert await register(ecs) == PREFIX + "logs:1"
    found = await described(ecs, "logs")
    assert found == {
        "daemonTaskDefinitionArn": PREFIX + "logs:1",
        "family": "logs",
        "revision": 1,
        "status": "ACTIVE",
        "registeredAt": found["registeredAt"],
        "registeredBy": ROOT,
        "containerDefinitions": [
            {
                "name": "agent",
                "image": "agent:1",
                "cpu": 0,
                "memory": 16,
                "essential": True,
                "environment": [],
                "mountPoints": [],
                "systemControls": [],
            }
        ],
        "volumes": [],
        "pidMode": "none",
        "ipcMode": "none",
    }


async def test_a_full_one_comes_back_as_given(ecs):
    volumes = [
        {"name": "root", "host": {"sourcePath": "/"}},
        {"name": "own"},
        {"name": "log", "logDriverVolumeConfiguration": {"driver": "json-file"}},
    ]
    container = {
        **CONTAINER,
        "privileged": True,
        "mountPoints": [{"sourceVolume": "root", "containerPath": "/host", "readOnly": True}],
        "linuxParameters": {"capabilities": {"add": ["SYS_PTRACE"]}, "initProcessEnabled": True},
    }
    await register(
        ecs, containerDefinitions=[container], volumes=volumes, cpu="256", memory="0.5 GB", pidMode="shared", ipcMode="shared", taskRoleArn="role"
    )
    found = await described(ecs, "logs:1")
    assert (found["cpu"], found["memory"], found["pidMode"], found["ipcMode"], found["taskRoleArn"]) == ("256", "512", "shared", "shared", "role")
    assert found["volumes"] == [volumes[0], {"name": "own", "host": {}}, volumes[2]]
    assert found["containerDefinitions"][0]["linuxParameters"] == container["linuxParameters"]
    stored = await ecs.get(DAEMON_TASK_DEFINITIONS, f"{ACCOUNT}/logs:0000001")
    document = msgspec.json.decode(stored.definition.document)
    assert (document["pidMode"], document["ipcMode"]) == ("host", "host"), "agents are told the words of a task definition"
    assert stored.definition.unsupported == ("volumes[2].logDriverVolumeConfiguration",)
    assert (stored.definition.cpu, stored.definition.memory_mib) == (256, 512)


async def test_families_are_no_task_definitions(ecs):
    await register(ecs)
    await ecs("RegisterTaskDefinition", family="logs", containerDefinitions=[CONTAINER])
    assert (await ecs("DescribeTaskDefinition", taskDefinition="logs"))["taskDefinition"]["taskDefinitionArn"] == ARN + "task-definition/logs:1"
    assert await register(ecs) == PREFIX + "logs:2"
    with pytest.raises(ClientError):
        await ecs("DescribeTaskDefinition", taskDefinition="logs:2")
    with pytest.raises(InvalidParameterError, match="Unsupported resource type"):
        await described(ecs, ARN + "task-definition/logs:1")


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({"family": ""}, ClientError, "Family should not be null or empty"),
        ({"family": "a b"}, ClientError, "Family contains invalid characters"),
        ({"family": "f" * 256}, ClientError, "Family is too long"),
        ({"containerDefinitions": []}, ClientError, "Container definitions should not be null or empty"),
        ({"containerDefinitions": [{"name": "a", "image": "i"}]}, ClientError, "At least one of 'memory' or 'memoryReservation'"),
        ({"containerDefinitions": [CONTAINER, CONTAINER]}, ClientError, "must be unique"),
        ({"containerDefinitions": [{**CONTAINER, "essential": False}]}, ClientError, "At least one container"),
        ({"cpu": "1"}, ClientError, "Invalid 'cpu' setting"),
        ({"volumes": [{"name": "v", "logDriverVolumeConfiguration": {"driver": "syslog"}}]}, ClientError, "only supported value is json-file"),
        ({"volumes": [{"name": "v", "host": {}, "logDriverVolumeConfiguration": {"driver": "json-file"}}]}, ClientError, "only one of host and"),
        ({"tags": [{"key": "aws:x", "value": "y"}]}, InvalidParameterError, "reserved"),
    ],
)
async def test_what_is_wrong_is_refused(ecs, members, error, words):
    with pytest.raises(error, match=words):
        await register(ecs, **members)
    assert await listed(ecs) == ([], None)


async def test_lists_by_family_prefix_status_and_last_revision(ecs):
    for family in ("a", "a-b", "b", "a"):
        await register(ecs, family)
    assert (await listed(ecs))[0] == ["a:1", "a:2", "a-b:1", "b:1"]
    assert (await listed(ecs, sort="DESC"))[0] == ["b:1", "a-b:1", "a:2", "a:1"]
    assert (await listed(ecs, family="a"))[0] == ["a:1", "a:2"]
    assert (await listed(ecs, familyPrefix="a"))[0] == ["a:1", "a:2", "a-b:1"]
    assert (await listed(ecs, revision="LAST_REGISTERED"))[0] == ["a:2", "a-b:1", "b:1"]
    await ecs("DeleteDaemonTaskDefinition", daemonTaskDefinition="a:2")
    assert (await listed(ecs))[0] == ["a:1", "a-b:1", "b:1"]
    assert (await listed(ecs, status="DELETE_IN_PROGRESS"))[0] == ["a:2"]
    assert (await listed(ecs, status="ALL"))[0] == ["a:1", "a:2", "a-b:1", "b:1"]
    assert (await described(ecs, "a"))["revision"] == 1
    with pytest.raises(InvalidParameterError):
        await listed(ecs, family="a", familyPrefix="a")


@pytest.mark.parametrize("sort", ["ASC", "DESC"])
async def test_pages_give_each_one_once(ecs, sort):
    for family in ("a", "a-b", "b", "a", "c", "a"):
        await register(ecs, family)
    whole, token = (await listed(ecs, sort=sort))[0], None
    found = []
    for _ in range(4):
        page, token = await listed(ecs, sort=sort, maxResults=2, **({"nextToken": token} if token else {}))
        found += page
        if token is None:
            break
    assert found == whole
    for wrong in (0, 101):
        with pytest.raises(InvalidParameterError, match="maxResults"):
            await listed(ecs, maxResults=wrong)


async def test_a_deleted_one_goes_when_nothing_has_it(ecs):
    await register(ecs)
    task = Task(
        account=ACCOUNT, cluster="default", id="0" * 32, family="logs", revision=1, desired_status="RUNNING", last_status="PENDING",
        created_at=1.0, group="daemon:logs", launch_type="EC2", container_instance_id="1" * 32, daemon="logs",
    )  # fmt: skip
    await ecs.put((TASKS, task))
    assert await ecs("DeleteDaemonTaskDefinition", daemonTaskDefinition="logs:1") == {"daemonTaskDefinitionArn": PREFIX + "logs:1"}
    controller, key = DaemonTaskDefinitionController(), f"{ACCOUNT}/logs:0000001"

    async def activate():
        await ecs.context.store.update(lambda tx: controller.activate(tx, key), cause="controller/daemon_task_definition")
        return await described(ecs, "logs:1")

    found = await activate()
    assert (found["status"], found["deleteRequestedAt"] > 0) == ("DELETE_IN_PROGRESS", True)
    assert await ecs.context.store.view(lambda reader: list(controller.keys(reader))) == [key]
    with pytest.raises(ClientError, match="not in ACTIVE status"):
        await ecs("DeleteDaemonTaskDefinition", daemonTaskDefinition="logs:1")
    await ecs.put((TASKS, msgspec.structs.replace(task, desired_status="STOPPED", last_status="STOPPED")))
    assert (await activate())["status"] == "DELETED"
    assert await ecs.context.store.view(lambda reader: list(controller.keys(reader))) == []
    with pytest.raises(ClientError, match="does not exist"):
        await described(ecs, "logs")
    assert (await listed(ecs, status="ALL"))[0] == ["logs:1"]


@pytest.mark.parametrize("reference", ["none", "none:1", PREFIX + "none:1"])
async def test_one_that_is_not_there(ecs, reference):
    with pytest.raises(ClientError, match="does not exist"):
        await described(ecs, reference)


async def test_deleting_needs_a_revision(ecs):
    await register(ecs)
    for reference, error in (("logs", InvalidParameterError), ("logs:x", InvalidParameterError), ("logs:7", ClientError)):
        with pytest.raises(error):
            await ecs("DeleteDaemonTaskDefinition", daemonTaskDefinition=reference)


async def test_tags(ecs):
    made = await register(ecs, tags=[{"key": "team", "value": "a"}])
    await ecs("TagResource", resourceArn=made, tags=[{"key": "env", "value": "x"}])
    await ecs("UntagResource", resourceArn=made, tagKeys=["team"])
    assert await ecs("ListTagsForResource", resourceArn=made) == {"tags": [{"key": "env", "value": "x"}]}
    with pytest.raises(ResourceNotFoundError):
        await ecs("TagResource", resourceArn=PREFIX + "none:1", tags=[{"key": "env", "value": "x"}])
