"""kill -9 of the server and of the agent, and dockerd out of reach: nothing acknowledged is lost, nothing is half there, no container is touched."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from acceptance.harness import IMAGE, Installation, docker, until
from botocore.exceptions import BotoCoreError, ClientError

ROUNDS = 20
CALLS = 500
THREADS = 24


@dataclasses.dataclass
class Acknowledged:
    """Effects that the server said were done, and those that it was asked for without an answer."""

    clusters: set[str] = dataclasses.field(default_factory=set)
    definitions: set[str] = dataclasses.field(default_factory=set)
    services: set[str] = dataclasses.field(default_factory=set)
    pairs: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    asked_pairs: set[str] = dataclasses.field(default_factory=set)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


def _container(command: str) -> dict[str, Any]:
    return {"name": "main", "image": IMAGE, "memory": 8, "command": ["sh", "-c", command], "stopTimeout": 1}


class Caller:
    """Mixed calls, each recorded as acknowledged only when its answer has come."""

    def __init__(self, installation: Installation, seen: Acknowledged, round_number: int) -> None:
        self.seen, self.round = seen, round_number
        self.local = threading.local()
        self.installation = installation
        self.answered = 0

    @property
    def ecs(self) -> Any:
        if not hasattr(self.local, "ecs"):
            self.local.ecs = self.installation.client(attempts=1)
        return self.local.ecs

    def call(self, number: int) -> None:
        name = f"r{self.round}-{number}"
        kinds: tuple[Callable[[str], None], ...] = (self.cluster, self.definition, self.service, self.tag, self.read)
        kind = self.pair if number % 100 == 50 else kinds[number % len(kinds)]
        try:
            kind(name)
            self.answered += 1
        except (BotoCoreError, ClientError):
            pass  # no answer, so nothing is claimed of this call

    def cluster(self, name: str) -> None:
        self.ecs.create_cluster(clusterName=name)
        with self.seen.lock:
            self.seen.clusters.add(name)

    def definition(self, name: str) -> None:
        answer = self.ecs.register_task_definition(family=name, containerDefinitions=[_container("true")])
        with self.seen.lock:
            self.seen.definitions.add(answer["taskDefinition"]["taskDefinitionArn"])

    def service(self, name: str) -> None:
        self.ecs.create_service(serviceName=name, taskDefinition="kept", desiredCount=0)
        with self.seen.lock:
            self.seen.services.add(name)

    def tag(self, name: str) -> None:
        arn = self.ecs.describe_clusters()["clusters"][0]["clusterArn"]
        with self.seen.lock:
            key = f"k{len(self.seen.tags) % 40}"
            self.ecs.tag_resource(resourceArn=arn, tags=[{"key": key, "value": name}])
            self.seen.tags[key] = name

    def read(self, name: str) -> None:
        answer = self.ecs.list_clusters()
        assert answer.get("clusterArns"), answer

    def pair(self, name: str) -> None:
        with self.seen.lock:
            self.seen.asked_pairs.add(name)
        answer = self.ecs.run_task(taskDefinition="ends", count=2, startedBy=name)
        with self.seen.lock:
            self.seen.pairs[name] = [task["taskArn"] for task in answer["tasks"]]


def _check(installation: Installation, seen: Acknowledged) -> None:
    ecs = installation.ecs
    clusters = {arn.rsplit("/", 1)[1] for page in ecs.get_paginator("list_clusters").paginate() for arn in page["clusterArns"]}
    assert seen.clusters <= clusters
    definitions = {arn for page in ecs.get_paginator("list_task_definitions").paginate() for arn in page["taskDefinitionArns"]}
    assert seen.definitions <= definitions
    services = {arn.rsplit("/", 1)[1] for page in ecs.get_paginator("list_services").paginate(maxResults=100) for arn in page["serviceArns"]}
    assert seen.services <= services
    tags = {tag["key"]: tag["value"] for tag in ecs.describe_clusters(include=["TAGS"])["clusters"][0]["tags"]}
    assert all(key in tags for key in seen.tags)
    for name in seen.asked_pairs:
        arns = _listed(ecs, name)
        assert len(arns) in (0, 2), (name, arns)
        if name in seen.pairs:
            assert set(arns) == set(seen.pairs[name])


def _listed(ecs: Any, started_by: str) -> list[str]:
    """Every task of `started_by`, running or stopped (ListTasks takes startedBy alone, so the stopped ones come by family)."""
    running = ecs.list_tasks(startedBy=started_by)["taskArns"]
    stopped = [arn for page in ecs.get_paginator("list_tasks").paginate(family="ends", desiredStatus="STOPPED") for arn in page["taskArns"]]
    found = list(running)
    for start in range(0, len(stopped), 100):
        tasks = ecs.describe_tasks(tasks=stopped[start : start + 100])["tasks"]
        found.extend(task["taskArn"] for task in tasks if task.get("startedBy") == started_by and task["taskArn"] not in running)
    return found


def test_kill_9_of_the_server_loses_nothing(installation: Installation) -> None:
    ecs = installation.ecs
    ecs.register_task_definition(family="kept", containerDefinitions=[_container("sleep 3600")])
    ecs.register_task_definition(family="ends", containerDefinitions=[_container("true")])
    ecs.create_service(serviceName="kept", taskDefinition="kept", desiredCount=2)
    ecs.get_waiter("services_stable").wait(services=["kept"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    kept = set(ecs.list_tasks(serviceName="kept")["taskArns"])
    containers = {c["runtimeId"] for task in ecs.describe_tasks(tasks=list(kept))["tasks"] for c in task["containers"]}
    seen = Acknowledged()
    chance = random.Random(20)
    for round_number in range(ROUNDS):
        caller = Caller(installation, seen, round_number)
        server = installation.pid("server")
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            calls = [pool.submit(caller.call, number) for number in range(CALLS)]
            deadline, wanted = time.monotonic() + 30, chance.randrange(50, 400)
            while caller.answered < wanted and time.monotonic() < deadline:
                time.sleep(0.005)
            os.kill(server, signal.SIGKILL)
            for call in calls:
                call.result()
        assert 0 < caller.answered < CALLS, "the kill must fall in the midst of the calls"
        installation.up()
        now = set(ecs.list_tasks(serviceName="kept")["taskArns"])
        assert now == kept, ecs.describe_tasks(tasks=sorted(now ^ kept))
        if round_number % 5 == 4:
            _check(installation, seen)
    still = {c["runtimeId"] for task in ecs.describe_tasks(tasks=list(kept))["tasks"] for c in task["containers"]}
    assert still == containers
    assert containers <= set(installation.containers(running=True))
    _check(installation, seen)
    installation.verify_journal()


def test_kill_9_of_the_agent_adopts_containers_and_reports_what_ended_meanwhile(installation: Installation) -> None:
    ecs = installation.ecs
    ecs.register_task_definition(family="lives", containerDefinitions=[_container("sleep 3600")])
    ecs.register_task_definition(family="dies", containerDefinitions=[_container("trap 'exit 7' TERM; while true; do sleep 0.1; done")])
    lives = ecs.run_task(taskDefinition="lives")["tasks"][0]["taskArn"]
    dies = ecs.run_task(taskDefinition="dies")["tasks"][0]["taskArn"]
    ecs.get_waiter("tasks_running").wait(tasks=[lives, dies], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    ids = {t["taskArn"]: t["containers"][0]["runtimeId"] for t in ecs.describe_tasks(tasks=[lives, dies])["tasks"]}
    os.kill(installation.pid("agent"), signal.SIGKILL)
    docker("kill", "--signal", "TERM", ids[dies])
    assert until(lambda: docker("inspect", "--format", "{{.State.Running}}", ids[dies]) == "false")
    installation.up()
    ecs.get_waiter("tasks_stopped").wait(tasks=[dies], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    described = {t["taskArn"]: t for t in ecs.describe_tasks(tasks=[lives, dies])["tasks"]}
    assert described[dies]["containers"][0]["exitCode"] == 7
    assert described[lives]["lastStatus"] == "RUNNING"
    assert described[lives]["containers"][0]["runtimeId"] == ids[lives]
    assert len(ecs.list_container_instances()["containerInstanceArns"]) == 1
    installation.stop(lives)


def test_kill_9_of_the_agent_in_the_midst_of_starts_makes_no_container_twice(installation: Installation) -> None:
    ecs = installation.ecs
    ecs.register_task_definition(family="many", containerDefinitions=[_container("sleep 3600")])
    chance = random.Random(5)
    before = set(installation.containers(running=True))
    for _ in range(4):
        arns = [t["taskArn"] for t in ecs.run_task(taskDefinition="many", count=5)["tasks"]]
        time.sleep(chance.uniform(0.0, 0.8))
        os.kill(installation.pid("agent"), signal.SIGKILL)
        installation.up()
        ecs.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        assert len(set(installation.containers(running=True)) - before) == len(arns)
        for arn in arns:
            ecs.stop_task(task=arn)
        ecs.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        assert until(lambda: set(installation.containers(running=True)) <= before)
