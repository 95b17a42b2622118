"""Tasks on real containers, by boto3 and the aws CLI."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from acceptance.harness import IMAGE, Installation, docker, until


def register(ecs: Any, family: str, **container: Any) -> str:
    definition = {"name": "main", "image": IMAGE, "essential": True, "memory": 32, "stopTimeout": 2, **container}
    answer = ecs.register_task_definition(family=family, containerDefinitions=[definition])
    arn: str = answer["taskDefinition"]["taskDefinitionArn"]
    return arn


def run(ecs: Any, definition: str, **more: Any) -> str:
    answer = ecs.run_task(taskDefinition=definition, **more)
    assert answer["failures"] == []
    arn: str = answer["tasks"][0]["taskArn"]
    return arn


def describe(ecs: Any, task: str) -> dict[str, Any]:
    answer = ecs.describe_tasks(tasks=[task])
    assert answer["failures"] == []
    described: dict[str, Any] = answer["tasks"][0]
    return described


def test_cli_run_task_with_overrides_reports_the_exit_code(installation: Installation) -> None:
    register(installation.ecs, "exits", command=["sleep", "600"])
    overrides = {"containerOverrides": [{"name": "main", "command": ["sh", "-c", 'exit "$CODE"'], "environment": [{"name": "CODE", "value": "3"}]}]}
    started = installation.aws("ecs", "run-task", "--task-definition", "exits", "--overrides", json.dumps(overrides), "--started-by", "cli-test")
    arn = started["tasks"][0]["taskArn"]
    installation.aws("ecs", "wait", "tasks-stopped", "--tasks", arn)
    task = installation.aws("ecs", "describe-tasks", "--tasks", arn)["tasks"][0]
    assert task["lastStatus"] == task["desiredStatus"] == "STOPPED"
    assert task["containers"][0]["exitCode"] == 3
    assert task["containers"][0]["lastStatus"] == "STOPPED"
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["startedBy"] == "cli-test"
    assert task["overrides"]["containerOverrides"][0]["command"] == ["sh", "-c", 'exit "$CODE"']


def test_a_container_over_its_memory_limit_is_an_out_of_memory_error(installation: Installation) -> None:
    eats = "x=a; while true; do x=$x$x; done"
    arn = run(installation.ecs, register(installation.ecs, "eats", memory=16, command=["sh", "-c", eats]))
    installation.ecs.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    container = describe(installation.ecs, arn)["containers"][0]
    assert container["reason"].startswith("OutOfMemoryError"), container
    assert container["exitCode"] == 137


def test_stop_task_ends_the_container_and_says_who_asked(installation: Installation) -> None:
    arn = run(installation.ecs, register(installation.ecs, "sleeps", command=["sleep", "600"]))
    installation.ecs.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    running = describe(installation.ecs, arn)
    runtime_id = running["containers"][0]["runtimeId"]
    assert docker("inspect", "--format", "{{.State.Running}}", runtime_id) == "true"
    stopping = installation.ecs.stop_task(task=arn, reason="enough")["task"]
    assert stopping["desiredStatus"] == "STOPPED"
    installation.ecs.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    stopped = describe(installation.ecs, arn)
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")
    assert docker("inspect", "--format", "{{.State.Running}}", runtime_id) == "false"
    assert running["createdAt"] <= running["startedAt"] <= stopped["stoppingAt"] <= stopped["stoppedAt"]


def test_ports_lead_to_the_container(installation: Installation) -> None:
    serve = ["sh", "-c", "echo hello > /tmp/index.html && exec httpd -f -p 80 -h /tmp"]
    ports = [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]
    arn = run(installation.ecs, register(installation.ecs, "serves", command=serve, portMappings=ports))
    installation.ecs.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    binding = describe(installation.ecs, arn)["containers"][0]["networkBindings"][0]
    assert binding["containerPort"] == 80
    assert until(lambda: installation.get(binding["hostPort"]) == "hello\n")
    installation.stop(arn)


def test_a_fixed_port_is_given_once_and_the_refusal_has_its_reason(installation: Installation) -> None:
    port = installation.free_port()
    definition = register(installation.ecs, "fixed", command=["sleep", "600"], portMappings=[{"containerPort": 80, "hostPort": port}])
    answer = installation.ecs.run_task(taskDefinition=definition, count=2)
    assert len(answer["tasks"]) == 1
    assert [failure["reason"] for failure in answer["failures"]] == ["RESOURCE:PORTS"]
    installation.stop(answer["tasks"][0]["taskArn"])
    # The port is free again when the task is STOPPED.
    again = run(installation.ecs, definition)
    installation.stop(again)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"memory": 10_000_000}, "RESOURCE:MEMORY"),
        ({"cpu": 262_144}, "RESOURCE:CPU"),
    ],
)
def test_what_does_not_fit_is_in_failures(installation: Installation, members: dict[str, Any], reason: str) -> None:
    answer = installation.ecs.run_task(taskDefinition=register(installation.ecs, "too-much", command=["true"], **members))
    assert answer["tasks"] == []
    assert [failure["reason"] for failure in answer["failures"]] == [reason]


def test_an_image_that_is_not_there_fails_with_a_reason(installation: Installation) -> None:
    arn = run(installation.ecs, register(installation.ecs, "absent", image="127.0.0.1:1/absent:1"))
    installation.ecs.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 90})
    task = describe(installation.ecs, arn)
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError")


def test_a_program_that_is_not_there_fails_to_start(installation: Installation) -> None:
    arn = run(installation.ecs, register(installation.ecs, "nothing", command=["/bin/no-such-program"]))
    installation.ecs.get_waiter("tasks_stopped").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    task = describe(installation.ecs, arn)
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"] == task["containers"][0]["reason"]
    assert task["stoppedReason"].startswith("CannotStartContainerError: ")
    assert "startedAt" not in task


def test_a_side_car_that_takes_its_time_to_stop_holds_no_service_up(installation: Installation) -> None:
    """About 8 s: the essential container exits; its service replaces the task while the side car uses its stop timeout."""
    containers = [
        {
            "name": "main",
            "image": IMAGE,
            "memory": 16,
            "command": ["sh", "-c", "until test -e /tmp/end; do sleep 0.1; done; exit 5"],
            "stopTimeout": 1,
        },
        {"name": "slow", "image": IMAGE, "memory": 16, "essential": False, "command": ["sh", "-c", "trap '' TERM; sleep 600"], "stopTimeout": 5},
    ]
    installation.ecs.register_task_definition(family="sidecar", containerDefinitions=containers)
    installation.ecs.create_service(serviceName="sidecar", taskDefinition="sidecar", desiredCount=1)
    installation.ecs.get_waiter("services_stable").wait(services=["sidecar"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (arn,) = installation.ecs.list_tasks(serviceName="sidecar")["taskArns"]
    docker("exec", describe(installation.ecs, arn)["containers"][0]["runtimeId"], "touch", "/tmp/end")  # noqa: S108 - in the container
    assert until(lambda: describe(installation.ecs, arn)["desiredStatus"] == "STOPPED")
    assert until(lambda: arn not in (now := installation.ecs.list_tasks(serviceName="sidecar")["taskArns"]) and len(now) == 1)
    (other,) = installation.ecs.list_tasks(serviceName="sidecar")["taskArns"]
    assert until(lambda: describe(installation.ecs, other)["lastStatus"] == "RUNNING")
    assert until(lambda: describe(installation.ecs, arn)["lastStatus"] == "STOPPED")
    old, new = describe(installation.ecs, arn), describe(installation.ecs, other)
    assert (old["stopCode"], old["stoppedReason"]) == ("EssentialContainerExited", "Essential container in task exited")
    assert [container["exitCode"] for container in old["containers"]] == [5, 137]
    assert new["createdAt"] < old["stoppedAt"], "it was replaced before its side car had stopped"
    assert old["createdAt"] <= old["pullStartedAt"] <= old["pullStoppedAt"] <= old["startedAt"] <= old["executionStoppedAt"]
    assert old["executionStoppedAt"] <= old["stoppingAt"] <= old["stoppedAt"]
    installation.ecs.delete_service(service="sidecar", force=True)
    assert until(lambda: not installation.containers(running=True))


def test_a_client_token_has_one_effect(installation: Installation) -> None:
    definition = register(installation.ecs, "token", command=["sleep", "600"])
    first = installation.ecs.run_task(taskDefinition=definition, clientToken="once")["tasks"][0]["taskArn"]  # noqa: S106
    second = installation.ecs.run_task(taskDefinition=definition, clientToken="once")["tasks"][0]["taskArn"]  # noqa: S106
    assert first == second
    with pytest.raises(installation.ecs.exceptions.ConflictException) as conflict:
        installation.ecs.run_task(taskDefinition=definition, clientToken="once", startedBy="other")  # noqa: S106
    assert conflict.value.response["resourceIds"] == [first]
    installation.stop(first)


def test_container_health_reaches_describe_tasks(installation: Installation) -> None:
    check = {"command": ["CMD-SHELL", "test -f /tmp/well"], "interval": 5, "timeout": 2, "retries": 1}
    arn = run(installation.ecs, register(installation.ecs, "checked", command=["sh", "-c", "touch /tmp/well; sleep 600"], healthCheck=check))
    deadline = time.monotonic() + 40
    while describe(installation.ecs, arn)["healthStatus"] != "HEALTHY":
        assert time.monotonic() < deadline, describe(installation.ecs, arn)
        time.sleep(0.5)
    installation.stop(arn)


def test_containers_start_in_the_order_of_their_dependencies(installation: Installation) -> None:
    containers = [
        {"name": "first", "image": IMAGE, "essential": False, "memory": 16, "command": ["sh", "-c", "sleep 1; exit 0"]},
        {
            "name": "second",
            "image": IMAGE,
            "memory": 16,
            "command": ["sleep", "600"],
            "dependsOn": [{"containerName": "first", "condition": "SUCCESS"}],
        },
    ]
    definition = installation.ecs.register_task_definition(family="ordered", containerDefinitions=containers)["taskDefinition"]["taskDefinitionArn"]
    arn = run(installation.ecs, definition)
    installation.ecs.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 40})
    first, second = (
        docker("inspect", "--format", form, container["runtimeId"])
        for form, container in zip(("{{.State.FinishedAt}}", "{{.State.StartedAt}}"), describe(installation.ecs, arn)["containers"], strict=True)
    )
    assert first[:26] <= second[:26]
    installation.stop(arn)


def test_what_is_not_built_is_refused_by_name(installation: Installation) -> None:
    awsvpc = installation.ecs.register_task_definition(
        family="awsvpc", networkMode="awsvpc", containerDefinitions=[{"name": "main", "image": IMAGE, "memory": 16}]
    )["taskDefinition"]["taskDefinitionArn"]
    with pytest.raises(installation.ecs.exceptions.ClientError, match="networkMode.*is not built yet"):
        installation.ecs.run_task(taskDefinition=awsvpc)
    bridge = register(installation.ecs, "plain", command=["true"])
    with pytest.raises(installation.ecs.exceptions.ClientError, match="FARGATE is not built yet"):
        installation.ecs.run_task(taskDefinition=bridge, launchType="FARGATE")
