"""DescribeHistory and DescribeAt over a control plane in memory, through the front door where signatures matter."""

from __future__ import annotations

import msgspec
import pytest

from homeport.api.call import Call
from homeport.api.ecs.operations import OPERATIONS as ECS
from homeport.api.homeport.operations import OPERATIONS
from homeport.api.homeport.past import READS
from homeport.api.protocol import json, model
from homeport.errors import ApiError, ClientError, InvalidParameterError, ResourceNotFoundError
from homeport.model.arn import root_arn
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT, REGION, container_instance

WEB = {"family": "web", "containerDefinitions": [{"name": "app", "image": "busybox", "memory": 16, "cpu": 10}]}


@pytest.fixture
async def cell():
    made = await MemoryCell.open()
    yield made
    await made.close()


async def ecs(cell, operation, **request):
    return await cell.call(operation, ECS[operation], request)


async def own(cell, name, /, **request):

    decoded = json.decode(model.load("homeport").operations[name], msgspec.json.encode(request))
    call = Call(context=cell.context, operation=name, request_id=cell.context.ids.uuid(), account=ACCOUNT, principal_arn=root_arn(ACCOUNT))
    return msgspec.json.decode(json.encode(await OPERATIONS[name](call, decoded)))


async def at(cell, revision, operation, **request):
    return (await own(cell, "DescribeAt", operation=operation, request=request, revision=revision))["answer"]


async def test_a_service_s_story_names_who_when_and_what(cell):
    await ecs(cell, "CreateCluster")
    await ecs(cell, "RegisterTaskDefinition", **WEB)
    await ecs(cell, "CreateService", serviceName="web", taskDefinition="web", desiredCount=2)
    before = cell.clock.now()
    await ecs(cell, "UpdateService", service="web", desiredCount=5)
    told = await own(cell, "DescribeHistory", resource="web")
    assert told["resourceArn"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/default/web"
    mine = [entry for entry in told["entries"] if entry["resourceArn"] == told["resourceArn"]]
    assert [entry["kind"] for entry in mine] == ["create", "update"]
    (change,) = mine[1]["changes"]
    assert change == {"field": "desiredCount", "old": 2, "new": 5}
    assert mine[1]["cause"]["operation"] == "UpdateService"
    assert mine[1]["cause"]["principalArn"] == f"arn:aws:iam::{ACCOUNT}:root"
    assert len(mine[1]["cause"]["requestId"]) == 36
    assert before <= mine[1]["instant"] <= before + 1
    assert any("/ecs-svc/" in entry["resourceArn"] or ":service-deployment/" in entry["resourceArn"] for entry in told["entries"])


async def test_controllers_are_named_and_a_task_s_fields_are_told_from_old_to_new(cell):
    await ecs(cell, "CreateCluster")
    await cell.put(container_instance())
    await ecs(cell, "RegisterTaskDefinition", **WEB)
    cell.start()
    await ecs(cell, "CreateService", serviceName="web", taskDefinition="web", desiredCount=1)
    for _ in range(5):
        await cell.clock.advance(1.0)
    (arn,) = (await ecs(cell, "ListTasks"))["taskArns"]
    told = (await own(cell, "DescribeHistory", resource=arn))["entries"]
    assert told[0]["kind"] == "create"
    assert told[0]["cause"]["controller"] == "service"
    changed = {change["field"]: (change.get("old"), change.get("new")) for entry in told[1:] for change in entry["changes"]}
    assert changed["lastStatus"][1] == "RUNNING"
    assert changed["lastStatus"][0] in ("PROVISIONING", "PENDING", "ACTIVATING")
    assert (await own(cell, "DescribeHistory", resource=arn.rpartition("/")[2][:8]))["resourceArn"] == arn


async def test_pages_are_whole_and_what_was_deleted_has_a_story(cell):
    for number in range(7):
        await ecs(cell, "CreateCluster", clusterName="other")
        await ecs(
            cell, "UpdateClusterSettings", cluster="other", settings=[{"name": "containerInsights", "value": ("enabled", "disabled")[number % 2]}]
        )
    await ecs(cell, "DeleteCluster", cluster="other")
    whole = (await own(cell, "DescribeHistory", resource="cluster/other"))["entries"]
    assert len(whole) > 5
    paged, token = [], None
    while True:
        answer = await own(cell, "DescribeHistory", resource="cluster/other", maxResults=2, **({"nextToken": token} if token else {}))
        paged += answer["entries"]
        token = answer.get("nextToken")
        if token is None:
            break
    assert paged == whole
    assert whole[-1]["changes"][0] == {"field": "status", "old": "ACTIVE", "new": "INACTIVE"}


async def test_a_capacity_provider_has_a_story(cell):
    await ecs(cell, "CreateCapacityProvider", name="pool", autoScalingGroupProvider={"autoScalingGroupArn": "group"})
    await ecs(cell, "DeleteCapacityProvider", capacityProvider="pool")
    for name in ("pool", "capacity-provider/pool", f"arn:aws:ecs:{REGION}:{ACCOUNT}:capacity-provider/pool"):
        told = await own(cell, "DescribeHistory", resource=name)
        assert told["resourceArn"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:capacity-provider/pool"
        assert [entry["cause"]["operation"] for entry in told["entries"]] == ["CreateCapacityProvider", "DeleteCapacityProvider"]


async def test_a_gateway_has_a_story(cell):
    configuration = {"hostSharedAlb": {}}
    await ecs(cell, "CreateGateway", name="shop", infrastructureRoleArn=f"arn:aws:iam::{ACCOUNT}:role/r", configuration=configuration)
    await ecs(cell, "UpdateGateway", gateway="shop", deletionProtection=False)
    await ecs(cell, "DeleteGateway", gateway="shop")
    for name in ("shop", "gateway/shop", f"arn:aws:ecs:{REGION}:{ACCOUNT}:gateway/shop"):
        told = await own(cell, "DescribeHistory", resource=name)
        assert told["resourceArn"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:gateway/shop"
        assert [entry["cause"]["operation"] for entry in told["entries"]] == ["CreateGateway", "UpdateGateway", "DeleteGateway"]


async def test_an_express_service_has_a_story(cell):
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    container = {"image": "a", "environment": []}
    await ecs(cell, "CreateExpressGatewayService", serviceName="shop", infrastructureRoleArn=role, executionRoleArn=role, primaryContainer=container)
    arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/default/shop"
    await ecs(cell, "UpdateExpressGatewayService", serviceArn=arn, cpu="512", memory="1024")
    for name in ("shop", "service/shop", "service/default/shop", arn):
        told = await own(cell, "DescribeHistory", resource=name)
        assert told["resourceArn"] == arn
        assert [entry["cause"]["operation"] for entry in told["entries"]] == ["CreateExpressGatewayService", "UpdateExpressGatewayService"]
    changed = {item["field"]: (item["old"], item["new"]) for item in told["entries"][1]["changes"]}
    assert changed["configuration.cpu"] == ("256", "512")


async def test_what_is_not_known_or_not_ours_is_said(cell):
    with pytest.raises(ResourceNotFoundError, match="knows nothing of nobody"):
        await own(cell, "DescribeHistory", resource="nobody")
    with pytest.raises(InvalidParameterError):
        await own(cell, "DescribeHistory", resource=f"arn:aws:ecs:{REGION}:999999999999:cluster/default")
    with pytest.raises(InvalidParameterError):
        await own(cell, "DescribeHistory", resource="access-key/AKIA")


async def test_every_read_tells_the_past_as_it_was_answered_then(cell):
    """All of ECS's reads are asked after each revision, and again at the end about each."""
    cell.start()
    await ecs(cell, "CreateCluster")
    await cell.put(container_instance())
    await ecs(cell, "RegisterTaskDefinition", **WEB)
    answers = {}

    async def ask(revision=None):
        arns = sorted((await asked(revision, "ListTasks"))["taskArns"]) + sorted(
            (await asked(revision, "ListTasks", desiredStatus="STOPPED"))["taskArns"]
        )
        instances = (await asked(revision, "ListContainerInstances"))["containerInstanceArns"]
        found = [
            await asked(revision, "DescribeClusters", include=["STATISTICS", "TAGS"]),
            await asked(revision, "ListServices"),
            await asked(revision, "DescribeServices", services=["web"]),
            await asked(revision, "ListTaskDefinitions"),
            await asked(revision, "ListTaskDefinitionFamilies"),
            await asked(revision, "DescribeContainerInstances", containerInstances=instances),
        ]
        return [*found, arns, await asked(revision, "DescribeTasks", tasks=arns) if arns else None]

    async def asked(revision, operation, **request):
        return await (ecs(cell, operation, **request) if revision is None else at(cell, revision, operation, **request))

    async def note():
        await cell.clock.settle()
        revision = cell.store.revision
        found = await ask()
        if cell.store.revision == revision:
            answers[revision] = found

    await note()
    await ecs(cell, "CreateService", serviceName="web", taskDefinition="web", desiredCount=3)
    for step in range(8):
        await cell.clock.advance(1.0)
        await note()
        if step == 3:
            await ecs(cell, "UpdateService", service="web", desiredCount=1)
    await ecs(cell, "DeleteService", service="web", force=True)
    for _ in range(6):
        await cell.clock.advance(1.0)
        await note()
    assert len(answers) > 5
    await cell.clock.advance(100_000.0)  # retention takes the stopped tasks away
    for revision, then in answers.items():
        assert await ask(revision) == then, revision


async def test_an_instant_is_the_last_revision_up_to_it(cell):
    await ecs(cell, "CreateCluster", clusterName="one")
    await cell.clock.advance(10.0)
    between = cell.clock.now()
    await cell.clock.advance(10.0)
    await ecs(cell, "CreateCluster", clusterName="two")
    told = await own(cell, "DescribeAt", operation="ListClusters", instant=between)
    assert [arn.rpartition("/")[2] for arn in told["answer"]["clusterArns"]] == ["one"]
    assert told["revision"] == cell.store.revision - 1
    assert told["instant"] <= between
    now = await own(cell, "DescribeAt", operation="ListClusters", instant=cell.clock.now() + 1000)
    assert len(now["answer"]["clusterArns"]) == 2
    nothing = await own(cell, "DescribeAt", operation="ListClusters", instant=1.0)
    assert nothing["revision"] == 0 and nothing["answer"]["clusterArns"] == []


async def test_bad_questions_about_the_past_are_refused(cell):
    await ecs(cell, "CreateCluster")
    with pytest.raises(InvalidParameterError, match="cannot be asked about the past"):
        await own(cell, "DescribeAt", operation="CreateCluster", revision=1)
    with pytest.raises(InvalidParameterError, match="either a revision or an instant"):
        await own(cell, "DescribeAt", operation="ListClusters")
    with pytest.raises(InvalidParameterError, match="filter"):
        await own(cell, "DescribeAt", operation="ListContainerInstances", request={"filter": "agentConnected == true"}, revision=1)
    with pytest.raises(ClientError, match="has not been yet"):
        await own(cell, "DescribeAt", operation="ListClusters", revision=cell.store.revision + 1)
    with pytest.raises(ApiError):
        await own(cell, "DescribeAt", operation="DescribeTasks", request={"tasks": 3}, revision=1)
    assert "DescribeServices" in READS and not any(name.startswith(("Create", "Update", "Delete", "Run", "Submit")) for name in READS)


async def test_after_pruning_everything_kept_can_still_be_told(cell):
    await ecs(cell, "CreateCluster")
    await ecs(cell, "RegisterTaskDefinition", **WEB)
    await ecs(cell, "CreateService", serviceName="web", taskDefinition="web", desiredCount=0)
    for count in (1, 2, 3):
        await cell.clock.advance(10.0)
        await ecs(cell, "UpdateService", service="web", desiredCount=count)
    cut = cell.clock.now() + 1.0
    for count in (4, 5):
        await cell.clock.advance(10.0)
        await ecs(cell, "UpdateService", service="web", desiredCount=count)
    head = cell.store.revision
    assert await cell.store.prune_journal(before=cut)
    counts = []
    for revision in range(head - 2, head + 1):
        (service,) = (await at(cell, revision, "DescribeServices", services=["web"]))["services"]
        counts.append(service["desiredCount"])
    assert counts == [3, 4, 5]
    with pytest.raises(ClientError, match="does not reach back"):
        await at(cell, 2, "DescribeServices", services=["web"])
    with pytest.raises(ClientError, match="does not reach back"):
        await own(cell, "DescribeAt", operation="ListClusters", instant=cut - 60.0)
    told = (await own(cell, "DescribeHistory", resource="service/web"))["entries"]
    assert [entry["changes"] for entry in told if ":service/" in entry["resourceArn"]] == [
        [{"field": "desiredCount", "old": 3, "new": 4}],
        [{"field": "desiredCount", "old": 4, "new": 5}],
    ]


async def test_a_task_set_has_a_story_of_its_own_and_one_in_its_service_s(cell):
    await ecs(cell, "CreateCluster")
    await ecs(cell, "RegisterTaskDefinition", **WEB)
    await ecs(cell, "CreateService", serviceName="web", desiredCount=2, deploymentController={"type": "EXTERNAL"})
    made = (await ecs(cell, "CreateTaskSet", cluster="default", service="web", taskDefinition="web"))["taskSet"]
    revision = cell.store.revision
    await ecs(cell, "UpdateTaskSet", cluster="default", service="web", taskSet=made["id"], scale={"value": 50.0})
    for name in (made["taskSetArn"], f"task-set/web/{made['id']}", f"task-set/default/web/{made['id']}"):
        told = await own(cell, "DescribeHistory", resource=name)
        assert told["resourceArn"] == made["taskSetArn"]
        assert [entry["kind"] for entry in told["entries"]] == ["create", "update"]
        assert {"field": "scale", "new": 50.0} in told["entries"][1]["changes"]
    of_service = await own(cell, "DescribeHistory", resource="web")
    assert made["taskSetArn"] in [entry["resourceArn"] for entry in of_service["entries"]]
    answer = await at(cell, revision, "DescribeTaskSets", cluster="default", service="web")
    assert answer["taskSets"][0]["scale"]["value"] == 0.0
