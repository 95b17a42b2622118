"""Two teams in one installation, each with an account, set up with the aws CLI and boto3 as they are; and a key that may deploy one service only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from acceptance.harness import IMAGE, Installation, until
from botocore.exceptions import ClientError

TRUST_TASKS = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)
DEVELOPER = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["ecs:*", "iam:PassRole"], "Resource": "*"}],
}
APP = [{"name": "app", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "stopTimeout": 2}]


@dataclasses.dataclass
class Key:
    """An access key of somebody, with the aws CLI and boto3 to use it."""

    installation: Installation
    id: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """What the aws CLI, the SDKs and `./homeport` read."""
        return {
            "AWS_ENDPOINT_URL": self.installation.endpoint,
            "AWS_ACCESS_KEY_ID": self.id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": self.installation.region,
            "AWS_PAGER": "",
        }

    def aws(self, *arguments: str) -> Any:
        """The aws CLI's answer."""
        command = [str(Path(sys.executable).parent / "aws"), *arguments, "--output", "json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env={**os.environ, **self.environment})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def client(self, service: str) -> Any:
        """A boto3 client."""
        return boto3.client(
            service,
            endpoint_url=self.installation.endpoint,
            region_name=self.installation.region,
            aws_access_key_id=self.id,
            aws_secret_access_key=self.secret,
        )


def root_of_new_account(installation: Installation, name: str) -> tuple[str, Key]:
    """(account id, its root's key) from `./homeport account create`."""
    made = json.loads(installation.homeport("account", "create", name, "--json").stdout)
    return made["AccountId"], Key(installation, made["AccessKeyId"], made["SecretAccessKey"])


def set_up_with_cli(root: Key, account: str) -> Key:
    """A team's users, groups, roles, policies and keys with the aws CLI; a developer's key."""
    root.aws("iam", "create-group", "--group-name", "developers")
    policy = root.aws("iam", "create-policy", "--policy-name", "develop", "--policy-document", json.dumps(DEVELOPER))["Policy"]["Arn"]
    assert policy == f"arn:aws:iam::{account}:policy/develop"
    root.aws("iam", "attach-group-policy", "--group-name", "developers", "--policy-arn", policy)
    root.aws("iam", "create-role", "--role-name", "app", "--assume-role-policy-document", TRUST_TASKS)
    root.aws("iam", "create-user", "--user-name", "ann", "--tags", "Key=team,Value=shop")
    root.aws("iam", "add-user-to-group", "--group-name", "developers", "--user-name", "ann")
    made = root.aws("iam", "create-access-key", "--user-name", "ann")["AccessKey"]
    developer = Key(root.installation, made["AccessKeyId"], made["SecretAccessKey"])
    assert developer.aws("sts", "get-caller-identity")["Arn"] == f"arn:aws:iam::{account}:user/ann"
    developer.aws("ecs", "create-cluster", "--cluster-name", "shop")
    developer.aws("ecs", "register-task-definition", "--family", "web", "--container-definitions", json.dumps(APP))
    for service in ("web", "pay"):
        given = ("--cluster", "shop", "--service-name", service, "--task-definition", "web", "--desired-count", "1")
        developer.aws("ecs", "create-service", *given)
    return developer


def set_up_with_boto3(root: Key, account: str) -> Key:
    """The same under the same names with boto3."""
    iam = root.client("iam")
    iam.create_group(GroupName="developers")
    policy = iam.create_policy(PolicyName="develop", PolicyDocument=json.dumps(DEVELOPER))["Policy"]["Arn"]
    assert policy == f"arn:aws:iam::{account}:policy/develop"
    iam.attach_group_policy(GroupName="developers", PolicyArn=policy)
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=TRUST_TASKS)
    iam.create_user(UserName="ann", Tags=[{"Key": "team", "Value": "shop"}])
    iam.add_user_to_group(GroupName="developers", UserName="ann")
    made = iam.create_access_key(UserName="ann")["AccessKey"]
    developer = Key(root.installation, made["AccessKeyId"], made["SecretAccessKey"])
    ecs = developer.client("ecs")
    ecs.create_cluster(clusterName="shop")
    ecs.register_task_definition(family="web", containerDefinitions=APP)
    for service in ("web", "pay"):
        ecs.create_service(cluster="shop", serviceName=service, taskDefinition="web", desiredCount=1)
    return developer


@dataclasses.dataclass
class Team:
    """An account that is set up."""

    account: str
    root: Key
    developer: Key


@pytest.fixture(scope="module")
def teams(installation) -> tuple[Team, Team]:
    """Two teams with everything under the same names."""
    red, red_root = root_of_new_account(installation, "red")
    blue, blue_root = root_of_new_account(installation, "blue")
    return Team(red, red_root, set_up_with_cli(red_root, red)), Team(blue, blue_root, set_up_with_boto3(blue_root, blue))


@contextlib.contextmanager
def agent_of(team: Team, data_dir: Path) -> Iterator[Installation]:
    """This machine as an instance of that team's account, beside the one that it is already."""
    installation = team.root.installation
    half = {"HOMEPORT_CPU": "512", "HOMEPORT_MEMORY": "256", "ECS_CLUSTER": "shop"}
    host = Installation(data_dir, installation.port, environment={**team.root.environment, **half})
    try:
        host.homeport("agent", "--detach", "--endpoint", installation.endpoint)
        yield host
    finally:
        host.homeport("down", "--tasks", check=False, timeout=60)


def refused(function: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as error:
        function(**members)
    return str(error.value.response["Error"]["Code"])


def test_neither_team_sees_or_touches_the_other_s(installation, teams):
    for own, other in (teams, teams[::-1]):
        listed = own.developer.aws("ecs", "list-services", "--cluster", "shop")["serviceArns"]
        assert sorted(arn.rpartition("/")[2] for arn in listed) == ["pay", "web"] and all(f":{own.account}:" in arn for arn in listed)
        ecs, iam = own.developer.client("ecs"), own.root.client("iam")
        theirs = f"arn:aws:ecs:{installation.region}:{other.account}:"
        assert refused(ecs.update_service, cluster="shop", service=f"{theirs}service/shop/web", desiredCount=0) == "AccessDeniedException"
        assert (
            refused(own.root.client("ecs").delete_service, cluster=f"{theirs}cluster/shop", service="web", force=True) == "InvalidParameterException"
        )
        assert refused(iam.delete_policy, PolicyArn=f"arn:aws:iam::{other.account}:policy/develop") == "NoSuchEntity"
        assert {user["Arn"] for user in iam.list_users()["Users"]} == {f"arn:aws:iam::{own.account}:user/ann"}
        shown = json.loads(_homeport_as(own.root, "list", "services", "--json").stdout)
        assert {service["clusterArn"].split(":")[4] for service in shown} == {own.account}
        assert f"account {own.account}" in _homeport_as(own.root, "status").stdout
    assert json.loads(installation.homeport("list", "services", "--json").stdout) == []


def _homeport_as(key: Key, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`./homeport` with that key in the environment."""
    return dataclasses.replace(key.installation, environment=key.environment).homeport(*arguments)


def test_a_deployer_s_key_may_update_one_service_only(installation, teams):
    team = teams[0]
    service = f"arn:aws:ecs:{installation.region}:{team.account}:service/shop/web"
    statement = {"Effect": "Allow", "Action": "ecs:UpdateService", "Resource": service}
    team.root.aws("iam", "create-user", "--user-name", "deployer")
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    team.root.aws("iam", "put-user-policy", "--user-name", "deployer", "--policy-name", "web-only", "--policy-document", document)
    made = team.root.aws("iam", "create-access-key", "--user-name", "deployer")["AccessKey"]
    deployer = Key(installation, made["AccessKeyId"], made["SecretAccessKey"])
    given = ("--cluster", "shop", "--service", "web", "--force-new-deployment")
    assert deployer.aws("ecs", "update-service", *given)["service"]["serviceArn"] == service
    ecs = deployer.client("ecs")
    before = team.developer.client("ecs").describe_services(cluster="shop", services=["pay"])["services"]
    for function, members in (
        (ecs.update_service, {"cluster": "shop", "service": "pay", "desiredCount": 0}),
        (ecs.delete_service, {"cluster": "shop", "service": "web", "force": True}),
        (ecs.create_service, {"cluster": "shop", "serviceName": "web2", "taskDefinition": "web", "desiredCount": 1}),
        (ecs.run_task, {"cluster": "shop", "taskDefinition": "web"}),
        (ecs.describe_services, {"cluster": "shop", "services": ["web"]}),
        (ecs.list_clusters, {}),
        (deployer.client("iam").create_access_key, {"UserName": "ann"}),
    ):
        assert refused(function, **members) in ("AccessDeniedException", "AccessDenied")
    assert team.developer.client("ecs").describe_services(cluster="shop", services=["pay"])["services"] == before
    other = Key(installation, deployer.id, teams[1].developer.secret)
    assert refused(other.client("ecs").update_service, cluster="shop", service="web") == "InvalidSignatureException"


def test_each_team_s_tasks_run_on_its_own_machine_only(installation, teams, tmp_path):
    """Both agents on one Docker; the first account's own agent runs there too, and nothing comes to it."""
    red, blue = teams
    with agent_of(red, tmp_path / "red"):
        ecs = red.developer.client("ecs")

        def running(team: Team) -> list[Any]:
            client = team.developer.client("ecs")
            arns = client.list_tasks(cluster="shop")["taskArns"]
            tasks = client.describe_tasks(cluster="shop", tasks=arns)["tasks"] if arns else []
            return [task for task in tasks if task["lastStatus"] == "RUNNING"]

        assert until(lambda: len(running(red)) == 2, seconds=20), [
            item["message"] for item in ecs.describe_services(cluster="shop", services=["web"])["services"][0]["events"]
        ]
        (mine,) = ecs.list_container_instances(cluster="shop")["containerInstanceArns"]
        assert f":{red.account}:" in mine and {task["containerInstanceArn"] for task in running(red)} == {mine}
        assert running(blue) == []
        events = blue.developer.client("ecs").describe_services(cluster="shop", services=["web"])["services"][0]["events"]
        assert any("unable to place a task" in event["message"] for event in events), [event["message"] for event in events]
        with agent_of(blue, tmp_path / "blue") as host:
            assert until(lambda: len(running(blue)) == 2, seconds=60)
            (theirs,) = blue.developer.client("ecs").list_container_instances(cluster="shop")["containerInstanceArns"]
            assert {task["containerInstanceArn"] for task in running(blue)} == {theirs} and f":{blue.account}:" in theirs
            assert refused(ecs.stop_task, cluster="shop", task=running(blue)[0]["taskArn"]) == "AccessDeniedException"
            assert len(installation.containers(running=True)) == 4
            assert "removed 2 containers" in host.homeport("down", "--tasks").stderr
        assert len(installation.containers(running=True)) == 2 == len(running(red))
    assert installation.ecs.list_tasks()["taskArns"] == []


def test_a_closed_team_s_keys_are_refused(installation):
    _, root = root_of_new_account(installation, "gone")
    root.aws("ecs", "create-cluster")
    installation.homeport("account", "close", "gone")
    assert refused(root.client("ecs").list_clusters) == "UnrecognizedClientException"
    assert "SUSPENDED" in installation.homeport("account", "list").stdout
    installation.homeport("account", "reopen", "gone")
    assert len(root.client("ecs").list_clusters()["clusterArns"]) == 1
