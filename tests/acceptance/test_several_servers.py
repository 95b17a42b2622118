"""Several servers on etcd: what a client sees while they are killed, paused and restarted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from acceptance.harness import IMAGE, Installation, until
from acceptance.soak import Plan, Step, check, soak
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

MINUTE = 60.0
SERVERS = ("server-1", "server-2", "server-3")


def three_ports() -> int:
    """The first of three TCP ports in a row that nobody listens on."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            for number in (1, 2):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            return port


@pytest.fixture
def three(new_installation) -> Iterator[Installation]:
    """A running installation of three servers."""
    made = new_installation()
    made.port = three_ports()
    made.up("--servers", "3")
    yield made


def servers(installation: Installation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(installation.homeport("server", "status", "--json", check=False).stdout)
    return found


def leader(installation: Installation) -> str:
    """The name of the leader, once there is one that answers."""
    assert until(lambda: any(member["leader"] and member["answers"] for member in servers(installation)["members"]), seconds=10)
    return str(servers(installation)["leader"])


def client_of(installation: Installation, number: int, **retries: Any) -> Any:
    return boto3.client(
        "ecs",
        endpoint_url=f"http://127.0.0.1:{installation.port + number}",
        aws_access_key_id=installation.access_key_id,
        aws_secret_access_key=installation.secret_access_key,
        region_name=installation.region,
        config=Config(retries=retries or {"mode": "standard"}, read_timeout=30),
    )


def test_up_with_three_servers_and_again_after_some_died(three, unique):
    names = {process["name"] for process in json.loads(three.homeport("status", "--json").stdout)["processes"]}
    assert names == {*SERVERS, "etcd-1", "etcd-2", "etcd-3", "agent"}
    facts = servers(three)
    assert [member["name"] for member in facts["members"]] == list(SERVERS)
    assert all(member["answers"] and member["pid"] == three.pid(member["name"]) for member in facts["members"])
    assert [member["name"] for member in facts["members"] if member["leader"]] == [facts["leader"]]
    assert until(lambda: all(member["journal"] for member in servers(three)["members"]))
    shown = three.homeport("server", "status").stdout
    for member in facts["members"]:  # each keeps the journal from its beginning on
        assert re.search(rf"^{member['name']} .* 1-\d+$", shown, re.MULTILINE), shown
    client_of(three, 1).create_cluster(clusterName=unique)
    assert any(arn.endswith(unique) for arn in client_of(three, 2).list_clusters()["clusterArns"])

    dead = [leader(three), "etcd-2"]
    for name in dead:
        os.kill(three.pid(name), signal.SIGKILL)
    other = next(number for number, name in enumerate(SERVERS) if name not in dead)
    began = time.monotonic()
    client_of(three, other, mode="standard", total_max_attempts=10).create_cluster(clusterName=f"{unique}-after")
    assert time.monotonic() - began <= 8.0
    assert "started etcd-2" in three.up("--servers", "3").stderr
    facts = servers(three)
    assert all(member["answers"] and member["lag"] == 0 for member in facts["members"]), facts
    for number in range(3):
        assert {arn.rpartition("/")[2] for arn in client_of(three, number).list_clusters()["clusterArns"]} >= {unique, f"{unique}-after"}


def test_tasks_run_on_and_services_refill_while_the_leader_dies(three, unique):
    three.ecs.register_task_definition(
        family=unique, containerDefinitions=[{"name": "c", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "essential": True}]
    )
    three.ecs.create_service(serviceName=unique, taskDefinition=unique, desiredCount=2)
    assert until(lambda: len(three.containers(running=True)) == 2)
    before = set(three.containers(running=True))
    dead = leader(three)
    os.kill(three.pid(dead), signal.SIGKILL)
    other = next(number for number, name in enumerate(SERVERS) if name != dead)
    ecs = client_of(three, other, mode="standard", total_max_attempts=10)
    began = time.monotonic()
    ecs.update_service(service=unique, desiredCount=3)
    assert time.monotonic() - began <= 5.0
    assert until(lambda: len(three.containers(running=True)) == 3, seconds=20)
    assert before <= set(three.containers(running=True)), "a container of before was touched"
    assert until(lambda: ecs.describe_services(services=[unique])["services"][0]["runningCount"] == 3)
    arns = ecs.list_container_instances()["containerInstanceArns"]
    assert ecs.describe_container_instances(containerInstances=arns)["containerInstances"][0]["agentConnected"]
    ecs.delete_service(service=unique, force=True)


def test_a_rolling_restart_fails_no_call_of_an_sdk(three, unique):
    failures: list[str] = []
    done = [0, 0, 0]
    stopping = threading.Event()

    def work(number: int) -> None:
        ecs = client_of(three, number)  # three attempts in all, as SDKs have it
        count = 0
        while not stopping.is_set():
            count += 1
            try:
                ecs.create_cluster(clusterName=f"{unique}-{number}-{count}")
                found = ecs.describe_clusters(clusters=[f"{unique}-{number}-{count}"])
                assert not found["failures"], found
            except (BotoCoreError, ClientError, AssertionError) as error:
                failures.append(f"server {number + 1}, call {count}: {error}")
            done[number] += 1
            time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    pids = [member["pid"] for member in servers(three)["members"]]
    told = three.homeport("server", "restart").stderr
    time.sleep(0.5)
    stopping.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), f"a call hangs {done} {failures}"
    assert [line.partition(":")[0] for line in told.splitlines()] == list(SERVERS)
    assert failures == []
    assert min(done) > 10
    assert [member["pid"] for member in servers(three)["members"]] == pids, "each server keeps its process, and with it the port"


def test_a_minute_of_kills_and_pauses_breaks_no_promise(tmp_path: Path):
    report = soak(tmp_path, Plan(seconds=MINUTE, seed=3))
    assert report["problems"] == []
    assert report["writes"] > 1_000
    assert report["reads"] > 1_000
    leader_losses = [item["write_gap_seconds"] for item in report["rounds"] if item["fault"] == "kill -9 of the leader"]
    assert leader_losses
    assert max(leader_losses) <= 5.0, report["rounds"]


def step(number: int, began: float, ended: float, *, write: bool = False) -> Step:
    return Step("key", number, began, ended, 0, write)


def test_the_checker_sees_a_stale_read():
    assert check([step(1, 0, 1, write=True), step(2, 2, 3, write=True), step(1, 4, 5)], {})


def test_the_checker_sees_reads_that_go_back():
    assert check([step(1, 0, 1, write=True), step(2, 2, 9, write=True), step(2, 3, 4), step(1, 5, 6)], {})


def test_the_checker_sees_a_value_that_nobody_wrote():
    assert check([step(1, 0, 1, write=True), step(5, 2, 3)], {})


def test_the_checker_sees_an_effect_too_many():
    assert check([], {"family": [1, 3]})


def test_the_checker_allows_either_value_while_a_write_is_under_way():
    assert not check([step(1, 0, 1, write=True), step(2, 2, 9, write=True), step(1, 3, 4), step(2, 3, 6), step(2, 10, 11)], {"family": [1, 2]})


def test_an_installation_on_sqlite_becomes_one_of_three_servers(new_installation, unique):
    installation = new_installation()
    installation.port = three_ports()
    installation.up()
    installation.ecs.register_task_definition(
        family=unique, containerDefinitions=[{"name": "c", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "essential": True}]
    )
    installation.ecs.create_service(serviceName=unique, taskDefinition=unique, desiredCount=2)
    assert until(lambda: len(installation.containers(running=True)) == 2)
    before = set(installation.containers(running=True))
    keys = installation.access_key_id
    installation.homeport("down")
    assert "copying the state" in installation.up("--servers", "3").stderr
    assert installation.access_key_id == keys
    for number in range(3):
        service = client_of(installation, number).describe_services(services=[unique])["services"][0]
        assert service["desiredCount"] == 2
    assert until(lambda: client_of(installation, 2).describe_services(services=[unique])["services"][0]["runningCount"] == 2)
    assert set(installation.containers(running=True)) == before
    assert "copying" not in installation.up().stderr
