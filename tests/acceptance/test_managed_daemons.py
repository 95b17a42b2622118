"""A daemon of a capacity provider on real containers: it rolls, rolls back, takes nothing else along and is gone when deleted. About 25 s."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from acceptance.harness import IMAGE, Installation, docker, until


def register(installation: Installation, command: list[str]) -> str:
    """The next revision of the family `logs`."""
    container = {"name": "agent", "image": IMAGE, "memory": 16, "stopTimeout": 1, "command": command}
    made: str = installation.ecs.register_daemon_task_definition(family="logs", containerDefinitions=[container])["daemonTaskDefinitionArn"]
    return made


def prepare(installation: Installation) -> str:
    """This machine as the only one of the capacity provider `edge`; the provider's ARN."""
    installation.environment["HOMEPORT_CAPACITY_PROVIDER"] = "edge"
    installation.up()
    ecs = installation.ecs
    made = ecs.create_capacity_provider(name="edge", autoScalingGroupProvider={"autoScalingGroupArn": "group"})
    ecs.put_cluster_capacity_providers(cluster="default", capacityProviders=["edge"], defaultCapacityProviderStrategy=[])
    container = {"name": "app", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "stopTimeout": 1}
    ecs.register_task_definition(family="app", containerDefinitions=[container])
    arn: str = made["capacityProvider"]["capacityProviderArn"]
    return arn


def test_a_daemon_rolls_rolls_back_and_goes_while_other_tasks_stay(new_installation: Callable[[], Installation]) -> None:
    installation = new_installation()
    provider = prepare(installation)
    ecs = installation.ecs
    first, second, bad = (register(installation, command) for command in (["sleep", "1000"], ["sleep", "2000"], ["/no/such/program"]))

    def commands() -> list[str]:
        """What the running containers run: the daemon sleeps 1000 or 2000, the task 600."""
        found = [docker("inspect", "--format", "{{.Config.Cmd}}", container) for container in installation.containers(running=True)]
        return sorted(word.strip("[]").split()[-1] for word in found)

    def status(deployment: str) -> str:
        shown: str = ecs.describe_daemon_deployments(daemonDeploymentArns=[deployment])["daemonDeployments"][0]["status"]
        return shown

    def wait_for(waiter: str, **what: Any) -> None:
        """By one of boto3's own waiters."""
        ecs.get_waiter(waiter).wait(**what, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    wait_for("daemon_task_definition_active", daemonTaskDefinition=first)
    made = ecs.create_daemon(daemonName="logs", daemonTaskDefinitionArn=first, capacityProviderArns=[provider])
    wait_for("daemon_active", daemonArn=made["daemonArn"])
    assert until(lambda: commands() == ["1000"])
    wait_for("daemon_deployment_successful", daemonDeploymentArns=[made["deploymentArn"]])
    (task,) = ecs.list_tasks(daemonName="logs")["taskArns"]
    shown = ecs.describe_tasks(tasks=[task])["tasks"][0]
    assert (shown["group"], shown["taskDefinitionArn"], shown["capacityProviderName"]) == ("daemon:logs", first, "edge")
    assert ecs.run_task(taskDefinition="app")["failures"] == []
    assert until(lambda: commands() == ["1000", "600"])

    def update(definition: str) -> str:
        answer: Any = ecs.update_daemon(daemonArn=made["daemonArn"], daemonTaskDefinitionArn=definition, capacityProviderArns=[provider])
        return str(answer["deploymentArn"])

    deployment = update(second)
    wait_for("daemon_deployment_successful", daemonDeploymentArns=[deployment])
    assert commands() == ["2000", "600"]
    deployment = update(bad)
    assert until(lambda: status(deployment) == "ROLLBACK_SUCCESSFUL", seconds=60)
    assert commands() == ["2000", "600"], "the last revision that worked is back, and the task never went"
    found = ecs.describe_daemon(daemonArn=made["daemonArn"])["daemon"]
    assert [revision["totalRunningCount"] for revision in found["currentRevisions"]] == [1]

    listed = json.loads(installation.homeport("list", "daemons", "--json").stdout)
    assert [item["daemonArn"] for item in listed] == [made["daemonArn"]]
    assert json.loads(installation.homeport("describe", "daemon/logs", "--json").stdout)["deploymentArn"] == deployment
    assert json.loads(installation.homeport("describe", deployment, "--json").stdout)["status"] == "ROLLBACK_SUCCESSFUL"
    assert "UpdateDaemon" in installation.homeport("history", "daemon/logs").stdout

    ecs.delete_daemon(daemonArn=made["daemonArn"])
    assert until(lambda: commands() == ["600"])
    with pytest.raises(ecs.exceptions.DaemonNotFoundException):
        ecs.describe_daemon(daemonArn=made["daemonArn"])
    ecs.delete_daemon_task_definition(daemonTaskDefinition=first)
    wait_for("daemon_task_definition_deleted", daemonTaskDefinition=first)
