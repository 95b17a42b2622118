"""The operations on daemons, their deployments and revisions, without controllers: what is made, refused, found, listed and tagged."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.errors import (
    ClientError,
    ClusterNotFoundError,
    DaemonNotActiveError,
    DaemonNotFoundError,
    InvalidParameterError,
    ResourceInUseError,
    UnsupportedFeatureError,
)
from homeport.store.tables import DAEMON_DEPLOYMENTS, DAEMONS

CONTAINER = {"name": "agent", "image": "agent:1", "memory": 16}
GOOD = {"daemonName": "logs", "daemonTaskDefinitionArn": "logs:1", "capacityProviderArns": [ARN + "capacity-provider/edge"]}
DAEMON = ARN + "daemon/default/logs"


@pytest.fixture
async def ecs(context):
    """The cluster `default` with the capacity providers `edge` and `core`; `other` is of no cluster; logs:1 and logs:2."""
    made = Ecs(context)
    await made("CreateCluster")
    for name in ("edge", "core", "other"):
        await made("CreateCapacityProvider", name=name, autoScalingGroupProvider={"autoScalingGroupArn": f"group-{name}"})
    await made("PutClusterCapacityProviders", cluster="default", capacityProviders=["edge", "core", "FARGATE"], defaultCapacityProviderStrategy=[])
    for _ in range(2):
        await made("RegisterDaemonTaskDefinition", family="logs", containerDefinitions=[CONTAINER])
    return made


async def create(ecs, **members):
    return await ecs("CreateDaemon", **{**GOOD, **members})


async def update(ecs, **members):
    return await ecs("UpdateDaemon", daemonArn=DAEMON, **{**{k: v for k, v in GOOD.items() if k != "daemonName"}, **members})


async def deployed(ecs, answer):
    return (await ecs("DescribeDaemonDeployments", daemonDeploymentArns=[answer["deploymentArn"]]))["daemonDeployments"][0]


async def revision(ecs, answer):
    arn = (await deployed(ecs, answer))["targetDaemonRevision"]["arn"]
    return (await ecs("DescribeDaemonRevisions", daemonRevisionArns=[arn]))["daemonRevisions"][0]


async def test_a_minimal_daemon(ecs):
    made = await create(ecs)
    assert made == {"daemonArn": DAEMON, "status": "ACTIVE", "createdAt": made["createdAt"], "deploymentArn": made["deploymentArn"]}
    assert made["deploymentArn"].startswith(ARN + "daemon-deployment/default/logs/")
    found = (await ecs("DescribeDaemon", daemonArn=DAEMON))["daemon"]
    counted = {"arn": ARN + "capacity-provider/edge", "runningCount": 0, "withoutDaemonCount": 0}
    assert found == {
        "daemonArn": DAEMON,
        "clusterArn": ARN + "cluster/default",
        "status": "ACTIVE",
        "currentRevisions": [
            {
                "arn": found["currentRevisions"][0]["arn"],
                "capacityProviders": [counted],
                "totalRunningCount": 0,
                "totalWithoutDaemonCount": 0,
            }
        ],
        "deploymentArn": made["deploymentArn"],
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    shown = await deployed(ecs, made)
    assert (shown["status"], shown["deploymentConfiguration"]) == ("PENDING", {"drainPercent": 25.0, "bakeTimeInMinutes": 0})
    assert "startedAt" not in shown and "rollback" not in shown and "alarms" not in shown
    assert await revision(ecs, made) == {
        "daemonRevisionArn": found["currentRevisions"][0]["arn"],
        "clusterArn": ARN + "cluster/default",
        "daemonArn": DAEMON,
        "daemonTaskDefinitionArn": ARN + "daemon-task-definition/logs:1",
        "createdAt": made["createdAt"],
        "containerImages": [{"containerName": "agent", "image": "agent:1"}],
        "propagateTags": "NONE",
        "enableECSManagedTags": False,
        "enableExecuteCommand": False,
        "critical": True,
    }


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({"daemonName": ""}, InvalidParameterError, "up to 255 letters"),
        ({"daemonName": "a b"}, InvalidParameterError, "up to 255 letters"),
        ({"daemonName": "n" * 256}, InvalidParameterError, "up to 255 letters"),
        ({"clusterArn": "none"}, ClusterNotFoundError, "Cluster not found"),
        ({"clientToken": "t" * 37}, InvalidParameterError, "clientToken"),
        ({"capacityProviderArns": []}, InvalidParameterError, "at least one capacity provider"),
        ({"capacityProviderArns": ["none"]}, InvalidParameterError, "does not exist"),
        ({"capacityProviderArns": ["other"]}, InvalidParameterError, "not associated with the cluster"),
        ({"capacityProviderArns": ["FARGATE"]}, UnsupportedFeatureError, "FARGATE"),
        ({"capacityProviderArns": [ARN + "cluster/default"]}, InvalidParameterError, "no ARN of a capacity provider"),
        ({"daemonTaskDefinitionArn": "none:1"}, ClientError, "DaemonTaskDefinition not found"),
        ({"daemonTaskDefinitionArn": ARN + "task-definition/logs:1"}, InvalidParameterError, "Unsupported resource type"),
        ({"enableExecuteCommand": True}, UnsupportedFeatureError, "enableExecuteCommand is not built yet"),
        ({"deploymentConfiguration": {"bakeTimeInMinutes": -1}}, InvalidParameterError, "bakeTimeInMinutes"),
        ({"deploymentConfiguration": {"bakeTimeInMinutes": 1441}}, InvalidParameterError, "bakeTimeInMinutes"),
        ({"deploymentConfiguration": {"alarms": {"enable": True}}}, InvalidParameterError, "at least one alarm"),
        ({"deploymentConfiguration": {"alarms": {"enable": True, "alarmNames": ["a"]}}}, UnsupportedFeatureError, "alarm_source"),
        ({"tags": [{"key": "aws:x", "value": "y"}]}, InvalidParameterError, "reserved"),
    ],
)
async def test_what_is_wrong_is_refused_and_nothing_is_made(ecs, members, error, words):
    before = ecs.context.store.revision
    with pytest.raises(error, match=words):
        await create(ecs, **members)
    assert ecs.context.store.revision == before


async def test_a_definition_with_what_is_not_built_is_refused_by_name(ecs):
    secret = {"secrets": [{"name": "A", "valueFrom": "b"}]}
    await ecs("RegisterDaemonTaskDefinition", family="role", containerDefinitions=[{**CONTAINER, **secret}], taskRoleArn="role")
    with pytest.raises(UnsupportedFeatureError, match=r"secrets is not built yet"):
        await create(ecs, daemonTaskDefinitionArn="role")


async def test_no_daemon_is_made_of_a_deleted_definition_and_one_that_has_it_keeps_it(ecs):
    await create(ecs)
    await ecs("DeleteDaemonTaskDefinition", daemonTaskDefinition="logs:1")
    with pytest.raises(ClientError, match="inactive"):
        await create(ecs, daemonName="second")
    await update(ecs)
    await update(ecs, daemonTaskDefinitionArn="logs:2")
    with pytest.raises(ClientError, match="inactive"):
        await update(ecs)


async def test_a_client_token_has_one_effect(ecs):
    made = await create(ecs, clientToken="t")
    assert await create(ecs, clientToken="t") == made
    for members in ({"clientToken": "t", "critical": False}, {}, {"clientToken": "u"}):
        with pytest.raises(InvalidParameterError, match="not idempotent"):
            await create(ecs, **members)


async def test_an_update_makes_a_revision_and_takes_the_place_of_what_is_under_way(ecs):
    first = await create(ecs, critical=False, propagateTags="DAEMON", deploymentConfiguration={"drainPercent": 50.0})
    second = await update(ecs, daemonTaskDefinitionArn="logs:2", capacityProviderArns=["core", "edge"])
    assert (second["status"], second["createdAt"]) == ("ACTIVE", first["createdAt"])
    assert (await deployed(ecs, first))["status"] == "STOPPED"
    assert (await deployed(ecs, first))["statusReason"] == "A newer deployment of the daemon took its place."
    shown, made = await deployed(ecs, second), await revision(ecs, second)
    assert (shown["status"], shown["deploymentConfiguration"]["drainPercent"]) == ("PENDING", 50.0), "the configuration stays"
    assert (made["critical"], made["propagateTags"]) == (True, "NONE"), "everything else takes its default"
    assert [item["arn"].rpartition("/")[2] for item in shown["targetDaemonRevision"]["capacityProviders"]] == ["core", "edge"]
    assert (await revision(ecs, first))["critical"] is False


async def test_what_is_not_there(ecs):
    await create(ecs)
    for operation, members in (("DescribeDaemon", {}), ("DeleteDaemon", {}), ("UpdateDaemon", {k: v for k, v in GOOD.items() if k != "daemonName"})):
        with pytest.raises(DaemonNotFoundError):
            await ecs(operation, daemonArn=ARN + "daemon/default/none", **members)
        with pytest.raises(ClusterNotFoundError):
            await ecs(operation, daemonArn=ARN + "daemon/none/logs", **members)
        for wrong in ("logs", ARN + "service/default/logs", ARN + "daemon/logs", DAEMON.replace(ACCOUNT, "210987654321")):
            with pytest.raises(InvalidParameterError, match="no ARN of a daemon"):
                await ecs(operation, daemonArn=wrong, **members)
    with pytest.raises(ClientError, match="Daemon not found"):
        await ecs("ListDaemonDeployments", daemonArn=ARN + "daemon/default/none")
    for operation, member, kind in (
        ("DescribeDaemonDeployments", "daemonDeploymentArns", "daemon-deployment"),
        ("DescribeDaemonRevisions", "daemonRevisionArns", "daemon-revision"),
    ):
        missing = f"{ARN}{kind}/default/logs/1"
        assert (await ecs(operation, **{member: [missing]}))["failures"] == [{"arn": missing, "reason": "MISSING"}]
        for wrong in ([], [missing] * 21, ["x"], [DAEMON]):
            with pytest.raises(InvalidParameterError):
                await ecs(operation, **{member: wrong})


async def test_a_deleted_daemon_is_not_active_any_more(ecs):
    await create(ecs)
    answer = await ecs("DeleteDaemon", daemonArn=DAEMON)
    assert (answer["daemonArn"], answer["status"]) == (DAEMON, "DELETE_IN_PROGRESS")
    for call in (update(ecs), ecs("DeleteDaemon", daemonArn=DAEMON)):
        with pytest.raises(DaemonNotActiveError):
            await call
    with pytest.raises(InvalidParameterError, match="being deleted"):
        await create(ecs)
    assert (await ecs("ListDaemons"))["daemonSummariesList"][0]["status"] == "DELETE_IN_PROGRESS"
    assert "targetDaemonRevision" not in await deployed(ecs, answer)


async def listed(ecs, **members):
    answer = await ecs("ListDaemons", **members)
    return [item["daemonArn"].rpartition("/")[2] for item in answer["daemonSummariesList"]], answer.get("nextToken")


async def test_daemons_are_listed_by_cluster_and_capacity_provider_in_pages(ecs):
    await ecs("CreateCluster", clusterName="second")
    for name, providers in (("a", ["edge"]), ("b", ["core"]), ("c", ["edge", "core"])):
        await create(ecs, daemonName=name, capacityProviderArns=providers)
    assert (await listed(ecs))[0] == ["a", "b", "c"]
    assert (await listed(ecs, clusterArn=ARN + "cluster/second"))[0] == []
    assert (await listed(ecs, capacityProviderArns=[ARN + "capacity-provider/core"]))[0] == ["b", "c"]
    page, token = await listed(ecs, maxResults=2)
    assert (page, (await listed(ecs, maxResults=2, nextToken=token))[0]) == (["a", "b"], ["c"])
    with pytest.raises(InvalidParameterError):
        await listed(ecs, nextToken=token, capacityProviderArns=["core"])
    with pytest.raises(ClusterNotFoundError):
        await listed(ecs, clusterArn="none")


async def test_deployments_are_listed_newest_first_by_status_and_time(ecs):
    made = [await create(ecs)]
    for _ in range(3):
        made.append(await update(ecs))
    arns = [answer["deploymentArn"] for answer in reversed(made)]
    answer = await ecs("ListDaemonDeployments", daemonArn=DAEMON)
    found = [item["daemonDeploymentArn"] for item in answer["daemonDeployments"]]
    assert sorted(found) == sorted(arns)
    first = answer["daemonDeployments"][0]
    assert (first["daemonArn"], first["clusterArn"]) == (DAEMON, ARN + "cluster/default")
    assert first["targetDaemonRevisionArn"].startswith(ARN + "daemon-revision/default/logs/")
    pending = await ecs("ListDaemonDeployments", daemonArn=DAEMON, status=["PENDING"])
    assert [item["daemonDeploymentArn"] for item in pending["daemonDeployments"]] == [arns[0]]
    assert (await ecs("ListDaemonDeployments", daemonArn=DAEMON, createdAt={"after": 4e9}))["daemonDeployments"] == []
    seen, token = [], None
    while True:
        page = await ecs("ListDaemonDeployments", daemonArn=DAEMON, maxResults=3, **({"nextToken": token} if token else {}))
        seen += [item["daemonDeploymentArn"] for item in page["daemonDeployments"]]
        token = page.get("nextToken")
        if not token:
            break
    assert seen == found


async def test_a_capacity_provider_with_a_daemon_stays(ecs):
    await create(ecs)
    with pytest.raises(ResourceInUseError):
        await ecs("PutClusterCapacityProviders", cluster="default", capacityProviders=["core"], defaultCapacityProviderStrategy=[])
    with pytest.raises(ClientError, match="in use"):
        await ecs("DeleteCapacityProvider", capacityProvider="edge")


async def test_a_cluster_with_a_daemon_stays(ecs):
    await create(ecs)
    with pytest.raises(ClientError, match="Daemons are active"):
        await ecs("DeleteCluster", cluster="default")


async def test_tags(ecs):
    await create(ecs, tags=[{"key": "team", "value": "a"}])
    await ecs("TagResource", resourceArn=DAEMON, tags=[{"key": "env", "value": "x"}])
    await ecs("UntagResource", resourceArn=DAEMON, tagKeys=["team"])
    assert await ecs("ListTagsForResource", resourceArn=DAEMON) == {"tags": [{"key": "env", "value": "x"}]}


async def test_alarms_are_shown_when_they_are_configured(ecs):
    settings = msgspec.structs.replace(ecs.context.settings, alarm_source="/nowhere")
    ecs.context = dataclasses.replace(ecs.context, settings=settings)
    made = await create(ecs, deploymentConfiguration={"alarms": {"enable": True, "alarmNames": ["cpu"]}, "bakeTimeInMinutes": 5})
    shown = await deployed(ecs, made)
    assert shown["alarms"] == {"status": "DISABLED", "alarmNames": ["cpu"]}
    assert shown["deploymentConfiguration"]["alarms"] == {"alarmNames": ["cpu"], "enable": True}


async def test_the_group_of_daemons_is_theirs(ecs):
    await ecs("RegisterTaskDefinition", family="web", containerDefinitions=[CONTAINER])
    with pytest.raises(InvalidParameterError, match="reserved for the tasks of daemons"):
        await ecs("RunTask", taskDefinition="web", group="daemon:logs")


async def test_tasks_of_a_daemon_that_is_not_there_are_not_listed(ecs):
    with pytest.raises(InvalidParameterError, match="daemon was not found"):
        await ecs("ListTasks", daemonName="none")


async def test_records_say_what_was_asked(ecs):
    made = await create(ecs)
    daemon = await ecs.get(DAEMONS, f"{ACCOUNT}/default/logs")
    assert (daemon.capacity_providers, daemon.definitions, daemon.critical) == (("edge",), (f"{ACCOUNT}/logs:1",), True)
    assert (await ecs.get(DAEMON_DEPLOYMENTS, f"{daemon.key}/{daemon.deployment_id}")).target_id == daemon.revision_id
    assert made["deploymentArn"].endswith(daemon.deployment_id)
