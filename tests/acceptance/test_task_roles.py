"""Roles of tasks, from inside real containers: each has its own and no other, for as long as its task lives. About two minutes, one of it waiting."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from acceptance.harness import IMAGE, Installation, docker, until

SECONDS = 60
URI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
CALL = """
import boto3, json, sys
from botocore.config import Config
service, operation, members = sys.argv[1:4]
client = boto3.client(service, config=Config(retries={"total_max_attempts": 1}, read_timeout=10))
try:
    answer = getattr(client, operation)(**json.loads(members))
    answer.pop("ResponseMetadata")
    print(json.dumps(answer, default=str))
except client.exceptions.ClientError as error:
    print(json.dumps({"refused": error.response["Error"]["Code"], "why": error.response["Error"]["Message"]}))
"""
"""What an application does: boto3 with nothing but what its environment says."""


def allowing(*actions: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]})


def trusting(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Guest:
    """A task with a role and its one container."""

    def __init__(self, installation: Installation, arn: str) -> None:
        self.arn = arn
        self.id = docker("ps", "--quiet", "--filter", f"label=com.amazonaws.ecs.task-arn={arn}")
        inspected = json.loads(docker("inspect", self.id))[0]
        self.environment = dict(entry.split("=", 1) for entry in inspected["Config"]["Env"])
        self.pid = str(inspected["State"]["Pid"])
        self.path = self.environment.get(URI, "")
        self.address = inspected["NetworkSettings"]["Networks"].get("bridge", {}).get("IPAddress", "")
        self.installation = installation

    def get(self, path: str = "", *, host: str = "169.254.170.2", request: str = "") -> tuple[int, str]:
        """(status, body) of a GET from inside the container; `request`: other bytes than that."""
        sent = request or f"GET {path or self.path} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n"
        answer = docker(
            "exec", self.id, "/bin/sh", "-c", f"printf '{sent}' | timeout 5 nc {host.replace(':', ' ') if ':' in host else host + ' 80'} || true"
        )
        head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
        return int(head.split(" ")[1]) if head else 0, body

    def credentials(self) -> dict[str, str]:
        """What an SDK is given."""
        status, body = self.get()
        assert status == 200, body
        found: dict[str, str] = json.loads(body)
        return found

    def call(self, service: str, operation: str, environment: dict[str, str] | None = None, **members: Any) -> dict[str, Any]:
        """boto3 in the container's network, with the container's environment and no more."""
        given = {**(environment if environment is not None else self.environment), "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}
        command = ["nsenter", "-t", self.pid, "-n", sys.executable, "-c", CALL, service, operation, json.dumps(members)]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture(scope="module")
def home(installation: Installation) -> Iterator[Installation]:
    installation.homeport("down")
    installation.up("--set", f"task_credentials_seconds={SECONDS}")
    iam = client(installation, "iam")
    for name, actions, service in (
        ("lister", ["ecs:ListTasks"], "ecs-tasks.amazonaws.com"),
        ("reader", ["ecs:DescribeClusters"], "ecs-tasks.amazonaws.com"),
        ("stranger", ["*"], "ec2.amazonaws.com"),
    ):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusting(service))
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=allowing(*actions))
    yield installation


def client(installation: Installation, service: str) -> Any:
    keys = {"aws_access_key_id": installation.access_key_id, "aws_secret_access_key": installation.secret_access_key}
    return boto3.client(service, endpoint_url=installation.endpoint, region_name=installation.region, **keys)


@pytest.fixture(scope="module")
def run(home: Installation) -> Callable[..., Guest]:
    def start(role: str, network: str = "bridge", **container: Any) -> Guest:
        members = {"name": "app", "image": IMAGE, "memory": 16, "stopTimeout": 2, "command": ["/bin/sleep", "3600"], **container}
        home.ecs.register_task_definition(family=f"{role}-{network}", networkMode=network, taskRoleArn=role, containerDefinitions=[members])
        arn = home.ecs.run_task(taskDefinition=f"{role}-{network}")["tasks"][0]["taskArn"]
        assert until(lambda: home.ecs.describe_tasks(tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")
        return Guest(home, arn)

    return start


@pytest.fixture(scope="module")
def lister(run) -> Guest:
    return run("lister")


@pytest.fixture(scope="module")
def reader(run) -> Guest:
    return run("reader")


def test_boto3_in_a_container_needs_no_configuration_and_each_may_do_what_its_role_allows(home, lister, reader):
    assert lister.call("ecs", "list_tasks")["taskArns"]
    assert reader.call("ecs", "describe_clusters", clusters=["default"])["clusters"][0]["status"] == "ACTIVE"
    for guest, operation in ((reader, "list_tasks"), (lister, "list_clusters")):
        answer = guest.call("ecs", operation)
        assert answer["refused"] == "AccessDeniedException", answer
        assert guest.arn.rpartition("/")[2] in answer["why"]
    who = reader.call("sts", "get_caller_identity")
    assert who["Arn"] == f"arn:aws:sts::{home.credentials['account_id']}:assumed-role/reader/{reader.arn.rpartition('/')[2]}"


def test_sdks_read_exactly_these_members(lister):
    given = lister.credentials()
    assert list(given) == ["RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"]
    assert given["RoleArn"].endswith(":role/lister")
    left = datetime.datetime.fromisoformat(given["Expiration"]).timestamp() - time.time()
    assert 0 < left <= SECONDS


def test_no_container_has_another_s_credentials_by_any_address_or_trick(lister, reader):
    door = next(lead for lead in leads(lister.installation) if lead[0] == lister.address and lead[1] == 80)
    for host in ("169.254.170.2", f"{door[2]}:{door[3]}"):
        status, body = reader.get(lister.path, host=host)
        assert (status, json.loads(body)) == (
            400,
            {"code": "InvalidIdInRequest", "message": "CredentialsV2Request: Credentials not found", "HTTPErrorCode": 400},
        )
        assert reader.get(host=host)[0] == 200  # the same door gives it its own
    outside = subprocess.run(["curl", "-s", "-m", "5", f"http://{door[2]}:{door[3]}{lister.path}"], capture_output=True, text=True, check=False)
    assert "InvalidIdInRequest" in outside.stdout  # nor has a program of the host


def test_a_path_is_taken_letter_by_letter(lister):
    own = lister.path
    asked = [
        own.upper(),
        own + "/",
        own + "?x=1",
        own.replace("/v2/", "//v2/"),
        own.replace("/v2/credentials/", "/v2/credentials//"),
        own.replace("/v2/", "/v2/./"),
        own.replace("/v2/", "/v2/../v2/"),
        own.replace("/v2/", "/v2/%%2e%%2e/v2/"),
        own.replace("v2", "%%76%%32"),
        own + "%%00",
        own + "a" * 900,
        own + "a" * 8000,
        "/v2/credentials/",
        "/v2/credentials",
        "/",
        "http://169.254.170.2" + own,
    ]
    for path in asked:
        status, body = lister.get(path)
        assert status in (400, 404, 0), (path, status)
        assert "SecretAccessKey" not in body, path
    for method in ("HEAD", "POST", "PUT", "get", "OPTIONS"):
        status, body = lister.get(request=f"{method} {own} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        assert (status in (400, 405), "SecretAccessKey" in body) == (True, False), method
    assert lister.get(request=f"GET {own}\\r\\n\\r\\n")[0] == 400
    assert lister.get()[0] == 200


def test_a_task_whose_role_does_not_trust_ecs_s_tasks_stops_with_the_reason(home):
    container = {"name": "app", "image": IMAGE, "memory": 16, "stopTimeout": 2, "command": ["/bin/sleep", "3600"]}
    home.ecs.register_task_definition(family="stranger", taskRoleArn="stranger", containerDefinitions=[container])
    arn = home.ecs.run_task(taskDefinition="stranger")["tasks"][0]["taskArn"]
    assert until(lambda: home.ecs.describe_tasks(tasks=[arn])["tasks"][0]["lastStatus"] == "STOPPED")
    task = home.ecs.describe_tasks(tasks=[arn])["tasks"][0]
    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("ECS was unable to assume the role 'arn:aws:iam::")
    assert not docker("ps", "--all", "--quiet", "--filter", f"label=com.amazonaws.ecs.task-arn={arn}")


def test_in_the_host_s_network_the_id_is_the_guard(home, run, lister):
    guest = run("reader", "host")
    assert guest.call("ecs", "describe_clusters", clusters=["default"])["clusters"]
    assert lister.get(guest.path)[0] == 400  # a container with a network of its own has no access by that id
    assert guest.get(lister.path)[0] == 400
    home.stop(guest.arn)
    assert until(lambda: not any(source == "" for source, *_ in leads(home)), seconds=5)


def test_credentials_work_after_two_rotations_and_over_a_restart_of_the_agent_and_never_stand_on_the_disk(home, lister):
    seen = [lister.credentials()]
    old = environment_of(lister, seen[0])
    assert lister.call("ecs", "list_tasks", old)["taskArns"]

    def changed() -> bool:
        given = lister.credentials()
        if given["AccessKeyId"] != seen[-1]["AccessKeyId"]:
            seen.append(given)
        return len(seen) > 2

    assert until(changed, seconds=2 * SECONDS, every=1.0), "no two rotations"
    assert lister.call("ecs", "list_tasks")["taskArns"]
    # The first set ends by itself.
    time.sleep(max(0.0, datetime.datetime.fromisoformat(seen[0]["Expiration"]).timestamp() - time.time() + 1.0))
    assert lister.call("ecs", "list_tasks", old)["refused"] == "ExpiredTokenException"
    subprocess.run(["kill", "-9", str(home.pid("agent"))], check=True)
    home.up("--set", f"task_credentials_seconds={SECONDS}")
    assert until(lambda: lister.get()[0] == 200, seconds=20)
    assert lister.call("ecs", "list_tasks")["taskArns"]
    secrets = {given["SecretAccessKey"] for given in seen} | {given["Token"] for given in seen} | {lister.credentials()["SecretAccessKey"]}
    files = [path for path in home.data_dir.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in secrets), path


def environment_of(guest: Guest, given: dict[str, str]) -> dict[str, str]:
    """The container's environment, with these credentials instead of those that it would ask for."""
    keys = {"AWS_ACCESS_KEY_ID": given["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"], "AWS_SESSION_TOKEN": given["Token"]}
    return {name: value for name, value in guest.environment.items() if name != URI} | keys


def test_nothing_works_any_more_one_second_after_the_task_stopped(home, run, reader):
    guest = run("lister")
    given, address = environment_of(guest, guest.credentials()), guest.address
    assert reader.call("ecs", "list_tasks", given)["taskArns"]  # a stolen set works from elsewhere for as long as its task lives
    home.ecs.stop_task(task=guest.arn)
    assert until(lambda: home.ecs.describe_tasks(tasks=[guest.arn])["tasks"][0]["lastStatus"] == "STOPPED", every=0.05)
    time.sleep(1.0)
    assert reader.call("ecs", "list_tasks", given)["refused"] == "ExpiredTokenException"
    assert reader.call("sts", "get_caller_identity", given)["refused"] == "ExpiredToken"
    assert address not in {source for source, *_ in leads(home)}
    assert reader.get(guest.path)[0] == 400


def leads(installation: Installation) -> list[tuple[str, int, str, int]]:
    """(source, port, to address, to port) of this installation's packet rules; source "" for the host's own network."""
    found = []
    for table in tables():
        for line in subprocess.run(["nft", "list", "table", "ip", table], capture_output=True, text=True, check=True).stdout.splitlines():
            words = line.split()
            if "dnat" in words and f"{installation.port}" in listed_ports(table):
                to, _, port = words[-1].partition(":")
                found.append((words[words.index("saddr") + 1] if "saddr" in words else "", int(words[words.index("dport") + 1]), to, int(port)))
    return found


def listed_ports(table: str) -> set[str]:
    """The ports that a table leads away from; one of them is its installation's own."""
    text = subprocess.run(["nft", "list", "table", "ip", table], capture_output=True, text=True, check=True).stdout.split()
    return {text[place + 1] for place, word in enumerate(text) if word == "dport"}


def tables() -> list[str]:
    """Names of the tables of all agents on this host."""
    listed = subprocess.run(["nft", "list", "tables", "ip"], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in listed if name.startswith("homeport_")]


def test_two_installations_on_one_host_have_rules_of_their_own_and_down_takes_them_away(home, lister, new_installation):
    other = new_installation()
    other.up()
    iam = client(other, "iam")
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=trusting("ecs-tasks.amazonaws.com"))
    iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=allowing("ecs:ListClusters"))
    container = {"name": "app", "image": IMAGE, "memory": 16, "stopTimeout": 2, "command": ["/bin/sleep", "3600"]}
    other.ecs.register_task_definition(family="app", taskRoleArn="app", containerDefinitions=[container])
    arn = other.ecs.run_task(taskDefinition="app")["tasks"][0]["taskArn"]
    assert until(lambda: other.ecs.describe_tasks(tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")
    guest = Guest(other, arn)
    assert until(lambda: guest.get()[0] == 200, seconds=5)
    assert guest.call("ecs", "list_clusters")["clusterArns"]
    assert guest.call("sts", "get_caller_identity")["Account"] == other.credentials["account_id"] != home.credentials["account_id"]
    assert lister.call("ecs", "list_tasks")["taskArns"]
    assert guest.get(lister.path)[0] == 400
    before = set(tables())
    other.homeport("down")
    (gone,) = before - set(tables())
    assert lister.call("ecs", "list_tasks")["taskArns"]
    other.up()
    assert until(lambda: guest.get()[0] == 200, seconds=20)  # the task ran on, and is led again
    subprocess.run(["kill", "-9", str(other.pid("agent"))], check=True)
    assert gone in tables()
    other.homeport("down", "--tasks")
    assert gone not in tables()
