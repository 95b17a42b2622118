"""boto3's nine ECS waiters: each ends, with success or with the failure that is due."""

from __future__ import annotations

import pytest
from acceptance.harness import IMAGE, Installation
from botocore.exceptions import WaiterError

SOON = {"Delay": 1, "MaxAttempts": 45}


def register(installation: Installation, family: str, command: list[str]) -> None:
    container = {"name": "main", "image": IMAGE, "memory": 16, "command": command, "stopTimeout": 1}
    installation.ecs.register_task_definition(family=family, containerDefinitions=[container])


def test_the_model_has_nine(installation: Installation) -> None:
    assert len(installation.ecs.waiter_names) == 9


def test_tasks_running_and_tasks_stopped(installation: Installation) -> None:
    register(installation, "stays", ["sleep", "600"])
    register(installation, "ends", ["sh", "-c", "exit 1"])
    stays = installation.ecs.run_task(taskDefinition="stays")["tasks"][0]["taskArn"]
    ends = installation.ecs.run_task(taskDefinition="ends")["tasks"][0]["taskArn"]
    installation.ecs.get_waiter("tasks_running").wait(tasks=[stays], WaiterConfig=SOON)
    installation.ecs.get_waiter("tasks_stopped").wait(tasks=[ends], WaiterConfig=SOON)
    with pytest.raises(WaiterError, match="terminal failure"):
        installation.ecs.get_waiter("tasks_running").wait(tasks=[stays, ends], WaiterConfig=SOON)
    with pytest.raises(WaiterError, match="terminal failure"):
        installation.ecs.get_waiter("tasks_running").wait(tasks=["0" * 32], WaiterConfig=SOON)
    with pytest.raises(WaiterError, match="Max attempts"):
        installation.ecs.get_waiter("tasks_stopped").wait(tasks=[stays], WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    installation.stop(stays)
    installation.ecs.get_waiter("tasks_stopped").wait(tasks=[stays, ends], WaiterConfig=SOON)


def test_services_stable_and_services_inactive(installation: Installation) -> None:
    register(installation, "serves", ["sleep", "600"])
    installation.ecs.create_service(serviceName="serves", taskDefinition="serves", desiredCount=2)
    installation.ecs.get_waiter("services_stable").wait(services=["serves"], WaiterConfig=SOON)
    for name in ("services_stable", "services_inactive"):
        with pytest.raises(WaiterError, match="terminal failure"):
            installation.ecs.get_waiter(name).wait(services=["none"], WaiterConfig=SOON)
    installation.ecs.delete_service(service="serves", force=True)
    with pytest.raises(WaiterError, match="terminal failure"):
        installation.ecs.get_waiter("services_stable").wait(services=["serves"], WaiterConfig=SOON)
    installation.ecs.get_waiter("services_inactive").wait(services=["serves"], WaiterConfig=SOON)


@pytest.mark.parametrize(
    ("name", "kind", "member"),
    [
        ("daemon_active", "daemon/default/none", "daemonArn"),
        ("daemon_deployment_successful", "daemon-deployment/default/none/" + "0" * 32, "daemonDeploymentArns"),
        ("daemon_deployment_stopped", "daemon-deployment/default/none/" + "0" * 32, "daemonDeploymentArns"),
        ("daemon_task_definition_active", "daemon-task-definition/none:1", "daemonTaskDefinition"),
    ],
)
def test_the_waiters_of_daemons_end_at_once_when_there_is_none(installation: Installation, name: str, kind: str, member: str) -> None:
    """What they say of daemons that are there stands in test_managed_daemons.py."""
    account = installation.ecs.create_cluster()["cluster"]["clusterArn"].split(":")[4]
    arn = f"arn:aws:ecs:{installation.region}:{account}:{kind}"
    with pytest.raises(WaiterError, match="DaemonNotFoundException|MISSING|does not exist"):
        installation.ecs.get_waiter(name).wait(**{member: [arn] if member.endswith("s") else arn}, WaiterConfig=SOON)
