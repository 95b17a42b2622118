"""Docker restarted, and the whole host lost: what is told is what is, and services refill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance.conftest import clear
from acceptance.harness import IMAGE, Installation, free_port, until
from integration.own_docker import OwnDocker


@pytest.fixture
def own_docker(docker_engine: object) -> Iterator[OwnDocker]:  # noqa: ARG001 - the image comes from there
    docker = OwnDocker(Path(tempfile.mkdtemp(prefix="homeport-acceptance-docker-")))
    docker.start()
    try:
        docker.load()
        yield docker
    finally:
        docker.stop()
        docker.remove()


@pytest.fixture
def on_own_docker(own_docker: OwnDocker, tmp_path: Path) -> Iterator[Installation]:
    """An installation whose agent has a Docker that the test may end."""
    made = Installation(tmp_path / "data", free_port(), environment={"DOCKER_HOST": own_docker.host})
    made.up()
    yield made
    clear(made)
    shutil.rmtree(made.data_dir, ignore_errors=True)


def running(installation: Installation, service: str) -> list[dict[str, Any]]:
    arns = installation.ecs.list_tasks(serviceName=service)["taskArns"]
    tasks = installation.ecs.describe_tasks(tasks=arns)["tasks"] if arns else []
    return [task for task in tasks if task["lastStatus"] == "RUNNING"]


def alive(docker: OwnDocker) -> set[str]:
    """Ids of the containers that run."""
    done = subprocess.run(["docker", "-H", docker.host, "ps", "-q", "--no-trunc"], capture_output=True, text=True, check=False, timeout=30)
    return set(done.stdout.split())


def start_service(installation: Installation) -> list[dict[str, Any]]:
    container = {"name": "main", "image": IMAGE, "memory": 16, "command": ["sleep", "3600"], "stopTimeout": 1}
    installation.ecs.register_task_definition(family="kept", networkMode="none", containerDefinitions=[container])
    installation.ecs.create_service(serviceName="kept", taskDefinition="kept", desiredCount=3)
    installation.ecs.get_waiter("services_stable").wait(services=["kept"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return running(installation, "kept")


def runtime_ids(tasks: list[dict[str, Any]]) -> set[str]:
    return {task["containers"][0]["runtimeId"] for task in tasks}


def test_a_restart_of_docker_is_told_and_the_service_refills(on_own_docker: Installation, own_docker: OwnDocker) -> None:
    before = start_service(on_own_docker)
    own_docker.stop()
    own_docker.start()
    assert until(lambda: len(running(on_own_docker, "kept")) == 3 and runtime_ids(running(on_own_docker, "kept")) == alive(own_docker), seconds=60)
    after = running(on_own_docker, "kept")
    assert not runtime_ids(after) & runtime_ids(before)
    ended = on_own_docker.ecs.describe_tasks(tasks=[task["taskArn"] for task in before])["tasks"]
    assert {(task["lastStatus"], task["containers"][0]["exitCode"]) for task in ended} == {("STOPPED", 137)}
    assert {task["stopCode"] for task in ended} == {"EssentialContainerExited"}


def test_the_loss_of_the_host_is_told_and_the_service_refills(on_own_docker: Installation, own_docker: OwnDocker) -> None:
    before = start_service(on_own_docker)
    for name in ("agent", "server"):
        os.kill(on_own_docker.pid(name), signal.SIGKILL)
    # A host that goes down takes the daemon and every container with it.
    for task in before:
        state = subprocess.run(
            ["docker", "-H", own_docker.host, "inspect", "--format", "{{.State.Pid}}", task["containers"][0]["runtimeId"]],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        os.kill(int(state.stdout), signal.SIGKILL)
    own_docker.stop(signal.SIGKILL)
    own_docker.start()
    on_own_docker.up()
    assert until(lambda: len(running(on_own_docker, "kept")) == 3 and runtime_ids(running(on_own_docker, "kept")) == alive(own_docker), seconds=90)
    ended = on_own_docker.ecs.describe_tasks(tasks=[task["taskArn"] for task in before])["tasks"]
    assert {task["lastStatus"] for task in ended} == {"STOPPED"}
    assert len(on_own_docker.ecs.list_container_instances()["containerInstanceArns"]) == 1
