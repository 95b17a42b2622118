"""Four machines with an agent and a dockerd each, in two availability zones: where tasks run, as `docker ps` on every machine shows, while machines
drain, are lost and come back, and while a bad image is rolled back under a client's eyes.

The machines are network namespaces (`engines.py`), shared by the tests of this module. About 45 s, 30 of them CPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from acceptance.engines import Engine, Engines, engines
from acceptance.harness import IMAGE, until

ZONES = ("us-east-1a", "us-east-1a", "us-east-1b", "us-east-1b")
SPREAD = [{"type": "spread", "field": "attribute:ecs.availability-zone"}, {"type": "spread", "field": "instanceId"}]
SLEEP = ["sh", "-c", "trap exit TERM; sleep 3600 & wait"]
SERVE = ["sh", "-c", "mkdir -p /tmp/w && echo $VERSION > /tmp/w/index.html; trap exit TERM; httpd -f -p 80 -h /tmp/w & wait"]
PER_MACHINE = 5
"""Tasks of `register` that fit on one machine."""


@pytest.fixture(scope="module")
def running(docker_engine: object) -> Iterator[Engines]:  # noqa: ARG001 - the image comes from there
    with engines(ZONES, settings=("healthy_after_seconds=1",)) as made:
        yield made


@pytest.fixture
def four(running: Engines) -> Iterator[Engines]:
    yield running
    running.settle()


def register(four: Engines, family: str, **members: Any) -> str:
    """A task definition that takes a fifth of a machine's memory."""
    container = {"name": "c", "image": IMAGE, "memory": 100, "command": SLEEP, "stopTimeout": 2, **members}
    answer = four.ecs.register_task_definition(family=family, containerDefinitions=[container])
    arn: str = answer["taskDefinition"]["taskDefinitionArn"]
    return arn


def web(four: Engines, version: str, **members: Any) -> str:
    environment = [{"name": "VERSION", "value": version}]
    return register(four, "web", **{"command": SERVE, "environment": environment, "portMappings": [{"containerPort": 80}], **members})


def serve(four: Engines, name: str, count: int, definition: str, **configuration: Any) -> None:
    """A service spread over zones and machines; steady when this returns."""
    four.ecs.create_service(
        serviceName=name, taskDefinition=definition, desiredCount=count, placementStrategy=SPREAD, deploymentConfiguration=configuration
    )
    assert until(lambda: service(four, name)["deployments"][0]["rolloutState"] == "COMPLETED", seconds=60), service(four, name)["events"]


def service(four: Engines, name: str) -> dict[str, Any]:
    found: dict[str, Any] = four.ecs.describe_services(services=[name])["services"][0]
    return found


def tasks_of(four: Engines, name: str, **filters: str) -> list[dict[str, Any]]:
    arns = four.ecs.list_tasks(serviceName=name, **filters)["taskArns"]
    return list(four.ecs.describe_tasks(tasks=arns)["tasks"]) if arns else []


def is_told(four: Engines) -> bool:
    """Whether every machine's `docker ps` shows the very containers of the tasks that the API shows RUNNING there."""
    arns = four.ecs.list_tasks()["taskArns"]
    tasks = four.ecs.describe_tasks(tasks=arns)["tasks"] if arns else []
    for machine in four.machines:
        there = {t["containers"][0].get("runtimeId") for t in tasks if t["containerInstanceArn"] == machine.arn and t["lastStatus"] == "RUNNING"}
        if there != machine.containers():
            return False
    return True


def run(four: Engines, family: str, count: int, **placement: Any) -> dict[str, Any]:
    """RunTask; every container that it promised is in some `docker ps` when this returns."""
    before = sum(four.counts())
    answer: dict[str, Any] = four.ecs.run_task(taskDefinition=family, count=count, **placement)
    assert until(lambda: sum(four.counts()) == before + len(answer["tasks"])), (answer, four.running())
    assert until(lambda: is_told(four))
    return answer


class Client(threading.Thread):
    """Asks the tasks of a service in turn, at the ports that their machines publish; reads anew where they are twice a second and after a refusal.

    `refusals` has every answer that did not come, with whom it was asked of; `unanswered` those times when no other task answered either.
    """

    def __init__(self, four: Engines, name: str) -> None:
        super().__init__(daemon=True)
        self._four, self._service = four, name
        self._ended = threading.Event()
        self.answers: list[str] = []
        self.refusals: list[str] = []
        self.unanswered = 0

    def places(self) -> list[tuple[str, int, str]]:
        return [
            (self._four.address_of(task["containerInstanceArn"]), binding["hostPort"], task["taskArn"])
            for task in tasks_of(self._four, self._service)
            if task["lastStatus"] == "RUNNING"
            for binding in task["containers"][0]["networkBindings"]
        ]

    def run(self) -> None:
        places, read_at, turn = self.places(), time.monotonic(), 0
        while not self._ended.is_set():
            if time.monotonic() - read_at > 0.5:
                places, read_at = self.places(), time.monotonic()
            turn += 1
            if not places or not self._ask(places, turn):
                places, read_at = self.places(), time.monotonic()
                self.unanswered += not any(self._ask(places, turn + other) for other in range(len(places)))
            time.sleep(0.02)

    def _ask(self, places: list[tuple[str, int, str]], turn: int) -> bool:
        address, port, task = places[turn % len(places)]
        answer = self._four.server.get(port, address)
        if answer is None:
            self.refusals.append(task)
        else:
            self.answers.append(answer.strip())
        return answer is not None

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(10)
        assert not self.is_alive()


def test_spread_and_binpack_as_docker_ps_shows(four: Engines) -> None:
    register(four, "spread")
    run(four, "spread", 2, placementStrategy=SPREAD[:1])
    assert four.by_zone() == {"us-east-1a": 1, "us-east-1b": 1}
    run(four, "spread", 6, placementStrategy=SPREAD)
    assert four.counts() == [2, 2, 2, 2]
    four.settle()
    run(four, "spread", 3, placementStrategy=[{"type": "binpack", "field": "memory"}])
    assert sorted(four.counts()) == [0, 0, 0, 3]
    run(four, "spread", 4, placementStrategy=[{"type": "binpack", "field": "memory"}])
    assert sorted(four.counts()) == [0, 0, 2, PER_MACHINE]
    four.settle()
    run(four, "spread", 4, placementStrategy=[SPREAD[0], {"type": "binpack", "field": "memory"}])
    assert (four.by_zone(), sorted(four.counts())) == ({"us-east-1a": 2, "us-east-1b": 2}, [0, 0, 2, 2])


def test_constraints_as_docker_ps_shows(four: Engines) -> None:
    register(four, "constrained")
    answer = run(four, "constrained", 5, placementConstraints=[{"type": "distinctInstance"}])
    assert four.counts() == [1, 1, 1, 1]
    assert {failure["arn"] for failure in answer["failures"]} == {machine.arn for machine in four.machines}
    assert {failure["reason"] for failure in answer["failures"]} == {"DistinctInstance placement constraint unsatisfied."}
    four.settle()
    run(four, "constrained", 4, placementConstraints=[{"type": "memberOf", "expression": "attribute:rack in [r1, r4]"}], placementStrategy=SPREAD)
    assert four.counts() == [2, 0, 0, 2]
    zone = [{"type": "memberOf", "expression": "attribute:ecs.availability-zone == us-east-1b and attribute:rack != r4"}]
    run(four, "constrained", 3, placementConstraints=zone)
    assert four.counts() == [2, 0, 3, 2]
    nowhere = run(four, "constrained", 1, placementConstraints=[{"type": "memberOf", "expression": "attribute:rack == r9"}])
    assert nowhere["tasks"] == []
    assert {failure["reason"] for failure in nowhere["failures"]} == {"MemberOf placement constraint unsatisfied."}


def test_a_drained_machine_is_empty_and_clients_never_notice(four: Engines) -> None:
    serve(four, "drained", 4, web(four, "1"), minimumHealthyPercent=75, maximumPercent=150)
    assert four.counts() == [1, 1, 1, 1]
    alone = register(four, "alone")
    gone, *others = four.machines
    four.ecs.start_task(taskDefinition=alone, containerInstances=[gone.arn])
    assert until(lambda: four.counts() == [2, 1, 1, 1])
    with Client(four, "drained") as client:
        four.ecs.update_container_instances_state(containerInstances=[gone.arn], status="DRAINING")
        assert until(lambda: len(gone.tasks()) == 1 and sum(len(machine.tasks()) for machine in others) == 4, seconds=60), four.running()
        assert until(lambda: service(four, "drained")["runningCount"] == 4 and is_told(four))
        time.sleep(1)
    assert client.unanswered == 0
    left = four.ecs.describe_tasks(tasks=gone.tasks())["tasks"]
    assert [(task["group"], task["lastStatus"]) for task in left] == [("family:alone", "RUNNING")], "a standalone task is not for draining to stop"
    assert four.instance(gone)["status"] == "DRAINING"
    moved = tasks_of(four, "drained", desiredStatus="STOPPED")
    assert {task["stopCode"] for task in moved} == {"ServiceSchedulerInitiated"}
    four.ecs.update_container_instances_state(containerInstances=[gone.arn], status="ACTIVE")
    four.ecs.update_service(service="drained", desiredCount=5)
    assert until(lambda: len(gone.tasks()) == 2), "it takes tasks again"


def lost(four: Engines, machine: Engine) -> None:
    """Lose a machine, and see that the server says so."""
    machine.lose()
    assert until(lambda: not four.instance(machine)["agentConnected"])
    health = four.instance(machine)["healthStatus"]
    assert health["overallStatus"] == "IMPAIRED"
    assert {detail["status"] for detail in health["details"] if detail["type"] == "AGENT_CONNECTIVITY"} == {"IMPAIRED"}


def test_a_lost_machine_comes_back_and_what_is_told_is_what_is(four: Engines) -> None:
    serve(four, "lost", 4, web(four, "1"))
    gone, *others = four.machines
    (before,), kept = gone.tasks(), {task for machine in others for task in machine.tasks()}
    with Client(four, "lost") as client:
        lost(four, gone)
        (task,) = four.ecs.describe_tasks(tasks=[before])["tasks"]
        assert (task["lastStatus"], task["connectivity"]) == ("RUNNING", "DISCONNECTED"), "nobody can know that it ended"
        register(four, "spare")
        started = four.ecs.run_task(taskDefinition="spare", count=4, placementStrategy=SPREAD)
        assert {item["containerInstanceArn"] for item in started["tasks"]} == {machine.arn for machine in others}
        gone.start_docker()
        gone.join()
        assert until(lambda: service(four, "lost")["runningCount"] == 4 and len(tasks_of(four, "lost")) == 4 and is_told(four), seconds=60), (
            four.running()
        )
        (task,) = four.ecs.describe_tasks(tasks=[before])["tasks"]
        assert (task["lastStatus"], task["stopCode"], task["connectivity"]) == ("STOPPED", "EssentialContainerExited", "CONNECTED")
        assert task["containers"][0]["exitCode"] != 0
        assert len(four.ecs.list_container_instances()["containerInstanceArns"]) == len(four.machines), "it is the instance that it was"
        assert four.instance(gone)["healthStatus"]["overallStatus"] == "OK"
        time.sleep(0.5)
    assert client.unanswered == 0
    assert not kept & set(client.refusals), "only the lost task, and its replacement before it listened, refused a call"


def test_the_tasks_of_a_machine_given_up_run_elsewhere_and_it_comes_back_as_another(four: Engines) -> None:
    serve(four, "moved", 4, web(four, "1"))
    gone, *others = four.machines[::-1]
    (before,), kept = gone.tasks(), {task for machine in others for task in machine.tasks()}
    with Client(four, "moved") as client:
        lost(four, gone)
        four.ecs.deregister_container_instance(containerInstance=gone.arn, force=True)
        assert until(lambda: sum(len(machine.tasks()) for machine in others) == 4 and service(four, "moved")["runningCount"] == 4), four.running()
        (task,) = four.ecs.describe_tasks(tasks=[before])["tasks"]
        assert task["lastStatus"] == "STOPPED"
        assert not any(task["containerInstanceArn"] == gone.arn for task in tasks_of(four, "moved"))
        was = gone.arn
        gone.start_docker()
        gone.join()
        four.find_instances()
        assert gone.arn != was
        four.ecs.update_service(service="moved", desiredCount=5)
        assert until(lambda: len(gone.tasks()) == 1 and is_told(four)), four.running()
        time.sleep(0.5)
    assert client.unanswered == 0
    assert not kept & set(client.refusals), "only the lost task, and its replacement before it listened, refused a call"


def test_a_bad_image_is_rolled_back_while_the_old_tasks_answer_every_call(four: Engines) -> None:
    good, bad = web(four, "1"), web(four, "2", image="registry.invalid/nothing:1")
    breaker = {"enable": True, "rollback": True}
    serve(four, "rolled", 4, good, deploymentCircuitBreaker=breaker)
    before = four.running()
    with Client(four, "rolled") as client:
        four.ecs.update_service(service="rolled", taskDefinition=bad)
        deployment = max(four.ecs.list_service_deployments(service="rolled")["serviceDeployments"], key=lambda item: item["createdAt"])

        def told() -> dict[str, Any]:
            arns = [deployment["serviceDeploymentArn"]]
            found: dict[str, Any] = four.ecs.describe_service_deployments(serviceDeploymentArns=arns)["serviceDeployments"][0]
            return found

        assert until(lambda: told()["status"] == "ROLLBACK_SUCCESSFUL", seconds=60), told()
        time.sleep(0.5)
    assert (client.refusals, client.unanswered, set(client.answers)) == ([], 0, {"1"})
    assert four.running() == before, "the very tasks of before"
    assert told()["deploymentCircuitBreaker"]["status"] == "TRIGGERED"
    tried = [task for task in tasks_of(four, "rolled", desiredStatus="STOPPED") if task["taskDefinitionArn"] == bad]
    failed = [task for task in tried if task["stopCode"] == "TaskFailedToStart"]
    assert len(failed) >= 3
    assert all(task["stoppedReason"].startswith("CannotPullContainerError: ") for task in failed), failed
    assert {task["stopCode"] for task in tried} <= {"TaskFailedToStart", "ServiceSchedulerInitiated"}, "the rollback stops those on their way"
    assert service(four, "rolled")["taskDefinition"] == good
