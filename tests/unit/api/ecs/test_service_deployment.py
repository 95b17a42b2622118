"""Service deployments and revisions on a cell in memory."""

from __future__ import annotations

import pytest

from homeport.api.ecs import service, service_deployment
from homeport.errors import InvalidParameterError, ServiceNotFoundError
from homeport.planner.deployment_start import SUPERSEDED
from homeport.testing import records
from homeport.testing.cell import MemoryCell

HANDLERS = {
    "CreateService": service.create_service,
    "UpdateService": service.update_service,
    "DescribeServices": service.describe_services,
    "ListServiceDeployments": service_deployment.list_service_deployments,
    "DescribeServiceDeployments": service_deployment.describe_service_deployments,
    "DescribeServiceRevisions": service_deployment.describe_service_revisions,
}


@pytest.fixture
async def aws():
    cell = await MemoryCell.open()
    await cell.put(records.cluster(), records.container_instance(), records.task_definition(), records.task_definition(revision=2))

    async def call(operation, **request):
        return await cell.call(operation, HANDLERS[operation], request)

    call.cell = cell
    await call("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=2)
    yield call
    await cell.close()


async def listed(aws, **request):
    return (await aws("ListServiceDeployments", service="web", **request))["serviceDeployments"]


async def test_the_path_that_terraform_waits_on(aws):
    aws.cell.start()
    called_at = aws.cell.clock.now()
    await aws.cell.clock.advance(1)
    service = (await aws("UpdateService", service="web", taskDefinition="web:2"))["service"]
    primary = next(item for item in service["deployments"] if item["status"] == "PRIMARY")
    assert primary["createdAt"] > called_at
    (brief,) = [b for b in await listed(aws, createdAt={"after": called_at}) if primary["id"].split("/")[1] in b["targetServiceRevisionArn"]]
    assert brief["status"] == "IN_PROGRESS"
    arns = [brief["serviceDeploymentArn"]]
    (described,) = (await aws("DescribeServiceDeployments", serviceDeploymentArns=arns))["serviceDeployments"]
    assert described["targetServiceRevision"]["requestedTaskCount"] == 2
    assert described["sourceServiceRevisions"][0]["arn"] in [b["targetServiceRevisionArn"] for b in await listed(aws)]
    await aws.cell.clock.advance(100)
    (described,) = (await aws("DescribeServiceDeployments", serviceDeploymentArns=arns))["serviceDeployments"]
    assert (described["status"], described["targetServiceRevision"]["runningTaskCount"]) == ("SUCCESSFUL", 2)
    assert described["finishedAt"] > described["createdAt"]


async def test_a_superseded_deployment_is_stopped(aws):
    await aws("UpdateService", service="web", forceNewDeployment=True)
    newest, oldest = await listed(aws)
    assert (newest["status"], oldest["status"], oldest["statusReason"]) == ("PENDING", "STOPPED", SUPERSEDED)
    assert [item["status"] for item in await listed(aws, status=["STOPPED"])] == ["STOPPED"]


async def test_pages_go_from_new_to_old(aws):
    for _ in range(4):
        await aws("UpdateService", service="web", forceNewDeployment=True)
    everything = [item["createdAt"] for item in await listed(aws)]
    assert everything == sorted(everything, reverse=True)
    paged, token = [], None
    while True:
        answer = await aws("ListServiceDeployments", service="web", maxResults=2, nextToken=token)
        paged += [item["createdAt"] for item in answer["serviceDeployments"]]
        if (token := answer.get("nextToken")) is None:
            break
    assert paged == everything


async def test_revisions(aws):
    (brief,) = await listed(aws)
    arn = brief["targetServiceRevisionArn"]
    missing = arn[:-1] + ("1" if arn[-1] != "1" else "2")
    answer = await aws("DescribeServiceRevisions", serviceRevisionArns=[arn, missing])
    assert answer["failures"] == [{"arn": missing, "reason": "MISSING"}]
    (revision,) = answer["serviceRevisions"]
    assert revision["containerImages"] == [{"containerName": "app", "image": "app:1"}]
    assert revision["taskDefinition"].endswith("task-definition/web:1")


async def test_wrong_references(aws):
    with pytest.raises(ServiceNotFoundError):
        await aws("ListServiceDeployments", service="other")
    for arns in ([], ["web"], ["arn:aws:ecs:us-east-1:123456789012:service-revision/default/web/1"], ["arn:aws:ecs:eu-west-1:123456789012:x/a/b/c"]):
        with pytest.raises(InvalidParameterError):
            await aws("DescribeServiceDeployments", serviceDeploymentArns=arns)
