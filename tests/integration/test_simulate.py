"""`homeport simulate` against a server process: instances join, tasks run and stop, agents come back after the server was away."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.clock import SystemClock


def program(*arguments: str, output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-P", "-m", "homeport", *arguments], stdout=output, stderr=subprocess.STDOUT)


def until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.fixture
def server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> Api:
        running.append(program("server", "--data-dir", str(tmp_path), "--port", str(port)))
        directory = DataDirectory(tmp_path)
        until(lambda: directory.credentials() is not None and Api(directory.known_credentials(), SystemClock()).answers())
        return Api(directory.known_credentials(), SystemClock())

    def stop() -> None:
        process = running.pop()
        process.send_signal(signal.SIGTERM)
        process.wait(30)

    yield tmp_path, start, stop
    while running:
        stop()


def counts(api: Api) -> tuple[int, int]:
    cluster = api.call("DescribeClusters", clusters=["default"])["clusters"][0]
    return cluster["runningTasksCount"], cluster["pendingTasksCount"]


def connected(api: Api) -> int:
    if not api.listed("ListClusters", "clusterArns"):  # it comes with the first instance
        return 0
    arns = api.listed("ListContainerInstances", "containerInstanceArns", cluster="default")
    found = api.described("DescribeContainerInstances", "containerInstances", arns, cluster="default")
    return sum(instance["agentConnected"] for instance in found)


def test_instances_join_run_stop_and_come_back(server):
    directory, start, stop = server
    api = start()
    arguments = ("--data-dir", str(directory), "--instances", "30", "--processes", "2", "--start-delay", "0.1", "--connections", "4")
    agents = program("simulate", *arguments, output=subprocess.PIPE)
    try:
        until(lambda: connected(api) == 30)
        ports = [{"containerPort": 80}]
        container = {"name": "web", "image": "web:1", "memoryReservation": 8, "portMappings": ports}
        api.call("RegisterTaskDefinition", family="web", containerDefinitions=[container])
        api.call("CreateService", serviceName="web", taskDefinition="web", desiredCount=60)
        until(lambda: counts(api) == (60, 0))
        arns = api.listed("ListTasks", "taskArns", serviceName="web")
        tasks = api.described("DescribeTasks", "tasks", arns)
        assert len({task["containerInstanceArn"] for task in tasks}) == 30
        assert all(task["containers"][0]["networkBindings"][0]["hostPort"] > 32_768 for task in tasks)
        stop()
        api = start()
        until(lambda: connected(api) == 30)
        api.call("UpdateService", service="web", desiredCount=5)
        until(lambda: counts(api) == (5, 0))
        assert len(api.listed("ListTasks", "taskArns", desiredStatus="STOPPED")) == 55
    finally:
        agents.send_signal(signal.SIGTERM)
        said = agents.communicate(timeout=30)[0].decode()
    assert agents.returncode == 0
    assert said.count("15 instances are connected") == 2
    assert "Traceback" not in said


def test_without_a_server_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "homeport", "simulate", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("homeport simulate: ")
