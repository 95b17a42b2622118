"""An installation moves from SQLite to an etcd of three, is backed up and restored there: the same cluster, containers untouched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acceptance.harness import IMAGE, Installation, until

COMMAND = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]

pytestmark = pytest.mark.skipif(shutil.which("etcd") is None, reason="needs etcd (Debian's etcd-server)")


def told(installation: Installation, *arguments: str) -> Any:
    return json.loads(installation.homeport(*arguments, "--json").stdout)


def stable(installation: Installation, name: str) -> None:
    installation.ecs.get_waiter("services_stable").wait(services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def running(installation: Installation) -> set[str]:
    return {task["taskArn"] for task in told(installation, "list", "tasks") if task["lastStatus"] == "RUNNING"}


def test_from_one_server_to_three_and_back_to_a_backup(new_installation: Callable[[], Installation], tmp_path: Path) -> None:
    installation = new_installation()
    installation.up()
    container = {"name": "main", "image": IMAGE, "memory": 8, "command": COMMAND, "stopTimeout": 1}
    installation.ecs.register_task_definition(family="moved", containerDefinitions=[container])
    installation.ecs.create_service(serviceName="moved", taskDefinition="moved", desiredCount=2)
    stable(installation, "moved")
    containers, tasks = sorted(installation.containers(running=True)), running(installation)
    story = told(installation, "history", "service/moved")["entries"]
    installation.homeport("down")

    installation.up("--servers", "3")  # copies the state, as `homeport store copy` does
    stable(installation, "moved")
    assert sorted(installation.containers(running=True)) == containers
    assert running(installation) == tasks
    assert told(installation, "history", "service/moved")["entries"][: len(story)] == story, "the journal came along"
    installation.ecs.update_service(service="moved", desiredCount=3)
    stable(installation, "moved")
    containers, tasks = sorted(installation.containers(running=True)), running(installation)
    assert len(containers) == 3
    whole = installation.homeport("journal", "verify")
    assert "etcd://" in whole.stdout and "is whole" in whole.stdout
    file = tmp_path / "state.backup"
    installation.homeport("backup", str(file))
    refused = installation.homeport("restore", str(file), check=False)
    assert refused.returncode == 1 and "led by server-" in refused.stderr
    installation.ecs.create_cluster(clusterName="after-the-backup")
    past = told(installation, "describe", "service/moved", "--at", str(story[0]["revision"]))
    assert past["desiredCount"] == 2

    installation.homeport("down")
    assert "is whole" in installation.homeport("journal", "verify").stdout, "of a stopped installation"
    installation.homeport("restore", str(file))
    installation.up()
    stable(installation, "moved")
    assert sorted(installation.containers(running=True)) == containers
    assert running(installation) == tasks
    assert "after-the-backup" not in {cluster["clusterName"] for cluster in told(installation, "list", "clusters")}
    assert told(installation, "history", "service/moved")["entries"][: len(story)] == story
    installation.ecs.delete_service(service="moved", force=True)
    assert until(lambda: not installation.containers(running=True), seconds=60)
