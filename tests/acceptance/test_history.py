"""The journal as a user sees it: history, the past, verification of the chain, backup and restore."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from acceptance.harness import IMAGE, ROOT, Installation, until
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

COMMAND = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]


def register(installation: Installation, family: str) -> str:
    container = {"name": "main", "image": IMAGE, "memory": 8, "command": COMMAND, "stopTimeout": 1}
    answer = installation.ecs.register_task_definition(family=family, containerDefinitions=[container])
    arn: str = answer["taskDefinition"]["taskDefinitionArn"]
    return arn


def stable(installation: Installation, name: str) -> None:
    installation.ecs.get_waiter("services_stable").wait(services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def revision(installation: Installation) -> int:
    with urllib.request.urlopen(f"{installation.endpoint}/health", timeout=10) as answer:
        found: int = json.load(answer)["revision"]
        return found


def told(installation: Installation, *arguments: str) -> Any:
    return json.loads(installation.homeport(*arguments, "--json").stdout)


def remove(installation: Installation, name: str) -> None:
    installation.ecs.delete_service(service=name, force=True)
    assert until(lambda: not installation.containers(running=True), seconds=60)


def test_explain_what_if_and_plan_answer_and_change_nothing(installation: Installation) -> None:
    register(installation, "foreseen")
    installation.ecs.create_service(serviceName="foreseen", taskDefinition="foreseen", desiredCount=1)
    stable(installation, "foreseen")
    before = revision(installation)
    explained = told(installation, "explain", "service/foreseen")
    assert explained["containerInstanceCount"] == 1
    assert explained["wouldRunOn"] == explained["containerInstances"][0]["containerInstanceArn"]
    lost = told(installation, "what-if", "--lose", explained["wouldRunOn"])
    (mine,) = [item for item in lost["services"] if item["serviceArn"].endswith("/foreseen")]
    assert (mine["runningBefore"], mine["runningAfter"]) == (1, 0)
    planned = told(installation, "plan", "update-service", "--service", "foreseen", "--desired-count", "2")
    assert planned["outcome"] == "COMPLETED"
    assert [step["kind"] for step in planned["steps"] if step["kind"] != "EVENT"] == ["START", "RUNNING"]
    assert revision(installation) == before
    installation.ecs.update_service(service="foreseen", desiredCount=2)
    stable(installation, "foreseen")
    remove(installation, "foreseen")


def test_history_says_who_when_what_and_why(installation: Installation) -> None:
    definition = register(installation, "told")
    created = installation.ecs.create_service(serviceName="told", taskDefinition=definition, desiredCount=1)
    stable(installation, "told")
    updated = installation.ecs.update_service(service="told", desiredCount=2)
    stable(installation, "told")
    requests = [answer["ResponseMetadata"]["RequestId"] for answer in (created, updated)]
    story = told(installation, "history", "service/told")
    mine = [entry for entry in story["entries"] if entry["resourceArn"] == story["resourceArn"]]
    by_request = {entry["cause"].get("requestId"): entry for entry in mine}
    assert by_request[requests[0]]["kind"] == "create"
    assert (
        by_request[requests[1]]["changes"] == [{"field": "desiredCount", "old": 1, "new": 2}]
        or {
            "field": "desiredCount",
            "old": 1,
            "new": 2,
        }
        in by_request[requests[1]]["changes"]
    )
    assert by_request[requests[1]]["cause"]["principalArn"].endswith(":root")
    assert any(entry["cause"].get("controller") == "service" for entry in mine), "steady state is the controller's doing"
    task = installation.ecs.list_tasks(serviceName="told")["taskArns"][0]
    steps = told(installation, "history", task)["entries"]
    assert steps[0]["kind"] == "create" and steps[0]["cause"]["controller"] == "service"
    moves = [(change.get("old"), change["new"]) for entry in steps for change in entry["changes"] if change["field"] == "lastStatus"]
    assert moves[-1] == ("PENDING", "RUNNING")
    assert steps[-1]["cause"].get("operation") or steps[-1]["cause"].get("controller")
    shown = installation.homeport("history", task.rpartition("/")[2][:12]).stdout
    assert "lastStatus: PENDING → RUNNING" in shown and "SubmitTaskStateChange" in shown
    assert [entry["revision"] for entry in steps] == sorted(entry["revision"] for entry in steps)
    missing = installation.homeport("history", "service/never", check=False)
    assert missing.returncode == 1 and "knows nothing of service/never" in missing.stderr
    remove(installation, "told")
    after = told(installation, "history", task)["entries"]
    assert after[: len(steps)] == steps and after[-1]["changes"], "the story goes on, and what was told stays"


def test_the_past_is_shown_as_it_was(installation: Installation) -> None:
    definition = register(installation, "past")
    moments: dict[int, tuple[Any, ...]] = {}

    def look(*at: str) -> tuple[Any, ...]:
        return (
            told(installation, "list", "clusters", *at),
            told(installation, "list", "services", *at),
            sorted(told(installation, "list", "tasks", "--all", *at), key=lambda task: task["taskArn"]),
            told(installation, "list", "instances", *at),
            told(installation, "list", "task-definitions", *at),
        )

    def note(*described: str) -> Any:
        for _ in range(20):  # until nothing happened while it was looked at
            before = revision(installation)
            found, shown = look(), [told(installation, "describe", reference) for reference in described]
            if revision(installation) == before:
                moments[before] = found
                return shown
        raise AssertionError("the installation never stood still")

    note()
    installation.ecs.create_service(serviceName="past", taskDefinition=definition, desiredCount=2)
    stable(installation, "past")
    (service,) = note("service/past")
    installation.ecs.update_service(service="past", desiredCount=1)
    stable(installation, "past")
    assert until(lambda: len(installation.containers(running=True)) == 1, seconds=30)
    note()
    remove(installation, "past")
    assert len(moments) == 3
    for number, then in moments.items():
        assert look("--at", str(number)) == then
    second = sorted(moments)[1]
    assert told(installation, "describe", "past", "--at", str(second)) == service
    assert told(installation, "describe", service["taskDefinition"], "--at", str(second))["family"] == "past"
    (entry,) = [entry for entry in told(installation, "history", "service/past")["entries"] if entry["revision"] == service_revision(installation)]
    instant = installation.homeport("list", "services", "--at", str(entry["revision"])).stderr.split("made ")[1].strip()
    assert told(installation, "list", "services", "--at", instant) == told(installation, "list", "services", "--at", str(entry["revision"]))
    nothing = installation.homeport("describe", "service/past", "--at", "1", check=False)
    assert nothing.returncode == 1
    future = installation.homeport("list", "services", "--at", "99999999", check=False)
    assert future.returncode == 1 and "has not been yet" in future.stderr


def service_revision(installation: Installation) -> int:
    """Revision of the change of desiredCount from 2 to 1."""
    for entry in told(installation, "history", "service/past")["entries"]:
        if {"field": "desiredCount", "old": 2, "new": 1} in entry["changes"]:
            found: int = entry["revision"]
            return found
    raise AssertionError("the change is not in the history")


def test_boto3_calls_our_operations_with_our_model_and_signatures_do_not_cross(installation: Installation, tmp_path: Path) -> None:
    models = tmp_path / "models" / "homeport" / "2026-11-01"
    models.mkdir(parents=True)
    shutil.copy(ROOT / "src/homeport/api/homeport/service-2.json", models)
    session = boto3.Session(installation.access_key_id, installation.secret_access_key, region_name=installation.region)
    session._loader.search_paths.append(str(models.parents[1]))
    client = session.client("homeport", endpoint_url=installation.endpoint)
    installation.ecs.create_cluster(clusterName="by-boto3")
    answer = client.describe_history(resource="cluster/by-boto3")
    assert answer["entries"][0]["cause"]["operation"] == "CreateCluster"
    assert client.describe_at(operation="ListClusters", revision=1, request={})["answer"] == {"clusterArns": []}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_history(resource="cluster/never")
    for service, target in (("ecs", "HomeportV20261101.DescribeAt"), ("homeport", "AmazonEC2ContainerServiceV20141113.ListClusters")):
        request = AWSRequest("POST", f"{installation.endpoint}/", {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}, b"{}")
        SigV4Auth(session.get_credentials(), service, installation.region).add_auth(request)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(request.url, b"{}", dict(request.headers)), timeout=10)
        assert b"Credential should be scoped to correct service" in refused.value.read()


def tamper(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        for statement in statements:
            file.execute(statement)


EDIT = "UPDATE journal SET payload = replace(CAST(payload AS TEXT), 'a', 'b') WHERE revision = 5"
SWAP = (
    "UPDATE journal SET revision = -1 WHERE revision = 6",
    "UPDATE journal SET revision = 6 WHERE revision = 7",
    "UPDATE journal SET revision = 7 WHERE revision = -1",
)
LAST = "DELETE FROM journal WHERE revision = (SELECT max(revision) FROM journal)"


@pytest.mark.parametrize(
    ("statements", "position", "words"),
    [
        ((EDIT,), "5", "edited"),
        (("DELETE FROM journal WHERE revision = 4",), "4", "missing"),
        (("DELETE FROM journal WHERE revision <= 3",), "1", "missing"),
        ((LAST,), None, "missing"),
        (SWAP, "6", "out of order"),
    ],
    ids=["edit", "loss", "loss-of-the-first", "loss-of-the-last", "reorder"],
)
def test_verification_names_the_position_of_every_tampering(
    installation: Installation, tmp_path: Path, statements: tuple[str, ...], position: str | None, words: str
) -> None:
    for name in ("one", "two", "three", "four", "five", "six", "seven"):
        installation.ecs.create_cluster(clusterName=name)
    whole = installation.homeport("journal", "verify")
    assert whole.returncode == 0 and "is whole" in whole.stdout, "while the server runs"
    file = tmp_path / "copy.sqlite"
    assert installation.homeport("backup", str(file)).returncode == 0
    last = told(installation, "journal", "verify", "--store", f"sqlite:{file}")["headRevision"]
    assert last > 7
    tamper(file, *statements)
    broken = installation.homeport("journal", "verify", "--store", f"sqlite:{file}", check=False)
    assert broken.returncode == 1
    assert f"broken at revision {position or last}:" in broken.stdout and words in broken.stdout
    refused = installation.homeport("restore", str(file), "--store", f"sqlite:{tmp_path / 'other.sqlite'}", check=False)
    assert refused.returncode == 1, "a server holds the directory; and nothing broken is restored"


def test_verification_holds_beside_a_server_that_writes(installation: Installation) -> None:
    done = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        client = installation.client()
        number = 0
        while not done.is_set():
            try:
                client.create_cluster(clusterName=f"w{number}")
            except Exception as error:
                failures.append(error)
                return
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            assert installation.homeport("journal", "verify").returncode == 0
    finally:
        done.set()
        writer.join()
    assert not failures


def test_a_backup_made_under_load_is_restored_and_containers_stay(new_installation: Callable[[], Installation], tmp_path: Path) -> None:
    """up, tasks, backup while calls come in, more calls, down, restore, up: the state of the backup, the same containers, a whole chain."""
    installation = new_installation()
    installation.up()
    installation.ecs.create_service(serviceName="kept", taskDefinition=register(installation, "kept"), desiredCount=2)
    stable(installation, "kept")
    containers = sorted(installation.containers(running=True))
    acknowledged: list[str] = []
    done = threading.Event()

    def write() -> None:
        client = installation.client()
        while not done.is_set():
            client.create_cluster(clusterName=f"load{len(acknowledged)}")
            acknowledged.append(f"load{len(acknowledged)}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert until(lambda: len(acknowledged) > 20)
        before = len(acknowledged)
        file = tmp_path / "state.backup"
        installation.homeport("backup", str(file))
        after = len(acknowledged)
    finally:
        done.set()
        writer.join()
    refused = installation.homeport("restore", str(file), check=False)
    assert refused.returncode == 1 and "is held by process" in refused.stderr
    installation.ecs.create_cluster(clusterName="after-the-backup")
    installation.homeport("down")
    assert sorted(installation.containers(running=True)) == containers
    installation.homeport("restore", str(file))
    assert "is whole" in installation.homeport("journal", "verify").stdout
    installation.up()
    stable(installation, "kept")
    assert sorted(installation.containers(running=True)) == containers
    clusters = {item["clusterName"] for item in told(installation, "list", "clusters")}
    assert "after-the-backup" not in clusters
    kept = {name for name in clusters if name.startswith("load")}
    assert kept == {f"load{number}" for number in range(len(kept))} and before <= len(kept) <= after + 1
    assert told(installation, "history", "service/kept")["entries"][0]["kind"] == "create"
    remove(installation, "kept")
