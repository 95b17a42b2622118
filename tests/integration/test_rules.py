"""Rules from outside: the command line and boto3 against a server in a process of its own, which is started again in between."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs/howto/rules.json"
GOOD = {"name": "app", "image": "registry.example.com/app:1", "memory": 64, "readonlyRootFilesystem": True}


class Homeport:
    """The command line on one data directory, and clients of its server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, status: int = 0, **variables: str) -> str:
        command = [sys.executable, "-m", "homeport", *arguments, "--data-dir", str(self.directory)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout if status == 0 or done.stdout else done.stderr

    def client(self, service: str, key: str = "", secret: str = "") -> Any:
        known = json.loads((self.directory / "credentials.json").read_text())
        return boto3.client(
            service,
            endpoint_url=known["endpoint"],
            region_name=known["region"],
            aws_access_key_id=key or known["access_key_id"],
            aws_secret_access_key=secret or known["secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}),
        )


@pytest.fixture
def homeport(tmp_path: Path) -> Iterator[Homeport]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    found = Homeport(tmp_path / "data")
    found("server", "--detach", "--port", port)
    yield found
    found("down")


def refused(function: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as error:
        function(**members)
    response = error.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == ("AccessDeniedException", 400)
    return str(response["Error"]["Message"])


def test_from_a_dry_run_to_a_refusal_that_a_restart_keeps(homeport, tmp_path):
    ecs = homeport.client("ecs")
    ecs.create_cluster(clusterName="production")
    ecs.register_task_definition(family="bad", containerDefinitions=[{**GOOD, "privileged": True, "image": "busybox:latest"}])
    ecs.create_service(cluster="production", serviceName="web", taskDefinition="bad", desiredCount=0, tags=[{"key": "team", "value": "a"}])

    told = json.loads(homeport("rule", "test", "--rule", str(HOWTO), "--json", status=1))
    assert {item["ruleName"] for item in told["violations"]} == {"no-privileged", "our-registry", "no-latest"}
    assert told["examined"] == 2
    assert homeport("rule", "list") == "no rules\n"
    homeport("rule", "put", str(HOWTO))
    ecs.register_task_definition(family="bad", containerDefinitions=[{**GOOD, "image": "busybox:latest"}])
    homeport("rule", "put", str(HOWTO), "--mode", "ENFORCE")
    assert homeport("rule", "list").count("ENFORCE  2") == 10

    homeport("down")
    homeport("server", "--detach")
    ecs = homeport.client("ecs")
    message = refused(ecs.register_task_definition, family="bad", containerDefinitions=[{**GOOD, "image": "busybox:latest"}])
    assert "The rule no-latest forbids this task definition: Images have a tag that is not latest, or a digest. (found: busybox:latest)." in message
    assert "The rule our-registry" in message
    assert "no-privileged" in refused(ecs.run_task, cluster="production", taskDefinition="bad:1")
    assert "no-privileged" in refused(ecs.update_service, cluster="production", service="web", forceNewDeployment=True)
    assert len(ecs.list_task_definitions()["taskDefinitionArns"]) == 2
    ecs.register_task_definition(family="good", containerDefinitions=[GOOD])
    ecs.update_service(cluster="production", service="web", taskDefinition="good")

    refusals: list[dict[str, Any]] = []
    deadline = time.monotonic() + 20
    while len(refusals) < 3 and time.monotonic() < deadline:  # records are on the disk within a second
        recorded = [json.loads(line) for line in homeport("audit", "export").splitlines()]
        refusals = [item for item in recorded if item.get("errorCode") == "AccessDenied"]
    assert {item["eventName"] for item in refusals} == {"RegisterTaskDefinition", "RunTask", "UpdateService"}
    assert all("The rule no-" in item["errorMessage"] for item in refusals)

    screen = homeport("rule", "test", "no-privileged", status=0)
    assert screen == "0 violations in 4 objects\n"
    assert "bad:2" in homeport("rule", "test", "our-registry", status=1)
    history = homeport("history", "rule/no-latest", "--json")
    assert [entry["kind"] for entry in json.loads(history)["entries"]] == ["create", "update"]
    homeport("rule", "delete", *(item["name"] for item in json.loads(HOWTO.read_text())))
    assert homeport("rule", "test", status=0).startswith("0 violations")

    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"name": "x", "mode": "REPORT", "require": "a ||"}))
    assert "require is no JMESPath expression" in homeport("rule", "put", str(broken), status=1)


def test_rules_are_put_by_those_who_may_and_hold_for_everybody(homeport):
    iam = homeport.client("iam")
    iam.create_user(UserName="dev")
    may = {"Effect": "Allow", "Action": ["ecs:*", "homeport:ListRules"], "Resource": "*"}
    iam.put_user_policy(UserName="dev", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}))
    made = iam.create_access_key(UserName="dev")["AccessKey"]
    known = json.loads((homeport.directory / "credentials.json").read_text())
    dev = {"AWS_ENDPOINT_URL": known["endpoint"], "AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
    assert "is not authorized to perform: homeport:PutRule" in homeport("rule", "put", str(HOWTO), status=1, **dev)
    assert "is not authorized to perform: homeport:TestRules" in homeport("rule", "test", status=1, **dev)
    assert homeport("rule", "list", **dev) == "no rules\n"
    homeport("rule", "put", str(HOWTO), "--mode", "ENFORCE")
    wrong = {"family": "bad", "containerDefinitions": [{**GOOD, "image": "busybox"}]}
    developer = homeport.client("ecs", made["AccessKeyId"], made["SecretAccessKey"])
    assert "The rule no-latest" in refused(developer.register_task_definition, **wrong)
    assert "The rule no-latest" in refused(homeport.client("ecs").register_task_definition, **wrong)
