"""Gateways, express services, exec and a quota from outside: boto3 and `homeport` (10 s)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from acceptance.harness import IMAGE, Installation, until
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/infrastructure"


@pytest.fixture
def installation(new_installation: Callable[[], Installation]) -> Installation:
    """One that may have two services in a cluster."""
    made = new_installation()
    made.up("--set", "services_per_cluster_max=2")
    return made


def test_what_cannot_act_yet_is_kept_and_says_so(installation: Installation) -> None:
    gateways(installation)
    express(installation)
    exec_and_quota(installation)


def gateways(installation: Installation) -> None:
    """One that is associated, listed by pages, and told by the command line."""
    ecs = installation.ecs
    for name in ("shop", "api"):
        ecs.create_gateway(name=name, infrastructureRoleArn=ROLE, configuration={"hostSharedAlb": {}}, deletionProtection=name == "shop")
    ecs.associate_gateway_with_cluster(gateway="shop", cluster="default")
    pages = ecs.get_paginator("list_gateways").paginate(PaginationConfig={"PageSize": 1})
    assert [item["name"] for page in pages for item in page["gateways"]] == ["api", "shop"]
    listed = json.loads(installation.homeport("list", "gateways", "--json").stdout)
    assert [(item["name"], len(item["clusterArns"])) for item in listed] == [("api", 0), ("shop", 1)]
    told = json.loads(installation.homeport("describe", "gateway/shop", "--json").stdout)
    assert told["status"] == "ACTIVE" and "no load balancer" in told["statusReason"]
    assert "CreateGateway" in installation.homeport("history", "gateway/shop").stdout
    for name, code in (("shop", "ClientException"), ("none", "GatewayNotFoundException")):
        with pytest.raises(ClientError) as caught:
            ecs.delete_gateway(gateway=name)
        assert caught.value.response["Error"]["Code"] == code
    assert ecs.delete_gateway(gateway="api")["status"] == "DELETED"


def express(installation: Installation) -> None:
    """One that is stored, told as INACTIVE by every way there is, and deleted."""
    ecs = installation.ecs
    container = {"image": IMAGE, "environment": [{"name": "A", "value": "1"}]}
    made = ecs.create_express_gateway_service(serviceName="web", infrastructureRoleArn=ROLE, executionRoleArn=ROLE, primaryContainer=container)[
        "service"
    ]
    assert made["status"]["statusCode"] == "INACTIVE"
    ecs.update_express_gateway_service(serviceArn=made["serviceArn"], cpu="512", memory="1024")
    assert ecs.list_services(resourceManagementType="ECS")["serviceArns"] == [made["serviceArn"]]
    listed = json.loads(installation.homeport("list", "express-gateway-services", "--json").stdout)
    assert [item["serviceName"] for item in listed] == ["web"]
    for resource in ("web", "service/web", made["serviceArn"]):
        told = json.loads(installation.homeport("describe", resource, "--json").stdout)
        assert told["activeConfigurations"][0]["cpu"] == "512"
    ecs.delete_express_gateway_service(serviceArn=made["serviceArn"])
    assert "there is no" in installation.homeport("describe", "service/web", check=False).stderr


def exec_and_quota(installation: Installation) -> None:
    """A running task that has no exec, and a third service that is one too many."""
    ecs = installation.ecs
    container = {"name": "app", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "stopTimeout": 1}
    ecs.register_task_definition(family="kept", containerDefinitions=[container])
    task = ecs.run_task(taskDefinition="kept")["tasks"][0]["taskArn"]
    assert until(lambda: ecs.describe_tasks(tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING")
    with pytest.raises(ClientError, match="was not enabled when the task was run"):
        ecs.execute_command(task=task, command="sh", interactive=True)
    for name in ("one", "two"):
        ecs.create_service(serviceName=name, taskDefinition="kept", desiredCount=0)
    with pytest.raises(ClientError, match="limit of 2 services per cluster. The setting services_per_cluster_max"):
        ecs.create_service(serviceName="three", taskDefinition="kept", desiredCount=0)
    ecs.stop_task(task=task)
