"""Somebody else controls a service's deployments: two task sets on real containers, driven with boto3. About 15 s."""

from __future__ import annotations

import json
from typing import Any

import pytest
from acceptance.harness import IMAGE, Installation, docker, until
from botocore.exceptions import ClientError

WHERE = {"cluster": "default", "service": "shop"}


def _register(installation: Installation, seconds: str) -> str:
    container = {"name": "app", "image": IMAGE, "memory": 16, "stopTimeout": 2, "command": ["sleep", seconds]}
    registered = installation.ecs.register_task_definition(family="shop", containerDefinitions=[container])
    arn: str = registered["taskDefinition"]["taskDefinitionArn"]
    return arn


def _running(installation: Installation) -> list[str]:
    """The command's argument of every running container, sorted: which version it is of."""
    found = installation.containers(running=True)
    shown = docker("inspect", "--format", "{{json .Config.Entrypoint}} {{json .Config.Cmd}}", *found).splitlines() if found else []
    return sorted("blue" if "1000" in line else "green" for line in shown)


def test_blue_becomes_green_by_task_sets(installation: Installation) -> None:
    ecs = installation.ecs
    blue_definition, green_definition = _register(installation, "1000"), _register(installation, "2000")
    made = ecs.create_service(serviceName="shop", desiredCount=2, deploymentController={"type": "EXTERNAL"})["service"]
    assert (made["deployments"], made["taskSets"]) == ([], [])

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = ecs.describe_services(services=["shop"])["services"][0]
        return found

    def steady(task_set: dict[str, Any], count: int) -> bool:
        found = ecs.describe_task_sets(**WHERE, taskSets=[task_set["id"]])["taskSets"][0]
        counts = (found["computedDesiredCount"], found["runningCount"], found["pendingCount"])
        return counts == (count, count, 0) and found["stabilityStatus"] == "STEADY_STATE"

    def scale(task_set: dict[str, Any], percent: float) -> None:
        ecs.update_task_set(**WHERE, taskSet=task_set["id"], scale={"value": percent, "unit": "PERCENT"})

    blue = ecs.create_task_set(**WHERE, taskDefinition=blue_definition, scale={"value": 100.0, "unit": "PERCENT"})["taskSet"]
    ecs.update_service_primary_task_set(**WHERE, primaryTaskSet=blue["taskSetArn"])
    assert until(lambda: steady(blue, 2)), shown()
    assert _running(installation) == ["blue", "blue"]
    assert shown()["taskDefinition"] == blue_definition

    green = ecs.create_task_set(**WHERE, taskDefinition=green_definition, externalId="release 2", clientToken="release-2")["taskSet"]
    assert (
        ecs.create_task_set(**WHERE, taskDefinition=green_definition, externalId="release 2", clientToken="release-2")["taskSet"]["id"] == green["id"]
    )
    assert steady(green, 0)
    scale(green, 50.0)
    assert until(lambda: steady(green, 1)), shown()
    assert _running(installation) == ["blue", "blue", "green"]
    scale(green, 100.0)
    assert until(lambda: steady(green, 2)), shown()
    assert _running(installation) == ["blue", "blue", "green", "green"]
    listed = json.loads(installation.homeport("list", "task-sets", "--json").stdout)
    assert [(item["status"], item["runningCount"]) for item in listed] == [("PRIMARY", 2), ("ACTIVE", 2)]
    assert "externalId: release 2" in installation.homeport("describe", f"task-set/shop/{green['id']}").stdout

    ecs.update_service_primary_task_set(**WHERE, primaryTaskSet=green["id"])
    assert [(item["id"], item["status"]) for item in shown()["taskSets"]] == [(green["id"], "PRIMARY"), (blue["id"], "ACTIVE")]
    assert shown()["taskDefinition"] == green_definition
    with pytest.raises(ClientError, match="Primary TaskSet cannot be deleted"):
        ecs.delete_task_set(**WHERE, taskSet=green["id"])
    assert ecs.delete_task_set(**WHERE, taskSet=blue["id"], force=True)["taskSet"]["status"] == "DRAINING"
    assert until(lambda: _running(installation) == ["green", "green"], seconds=30)
    assert until(lambda: [item["id"] for item in shown()["taskSets"]] == [green["id"]])
    with pytest.raises(ecs.exceptions.TaskSetNotFoundException):
        scale(blue, 1.0)

    # One that dies comes back in its own set.
    (killed, _) = installation.containers(running=True)
    docker("kill", killed)
    assert until(lambda: killed not in installation.containers(running=True) and _running(installation) == ["green", "green"], seconds=30)
    tasks = ecs.describe_tasks(tasks=ecs.list_tasks(serviceName="shop")["taskArns"])["tasks"]
    assert {(task["startedBy"], task["group"]) for task in tasks} == {(green["id"], "service:shop")}

    with pytest.raises(ClientError, match="Unable to update task definition on services with an EXTERNAL deployment controller"):
        ecs.update_service(service="shop", taskDefinition=blue_definition)
    ecs.delete_service(service="shop", force=True)
    assert until(lambda: shown()["status"] == "INACTIVE" and not installation.containers(running=True), seconds=30)
