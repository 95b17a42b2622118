"""IAM and STS as boto3 uses them, on a real server: a team's set-up, every operation once, and that what is set up is enforced at once."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError

from homeport.api.server import SERVER_OPTIONS
from homeport.server import ServerOptions, build

REGION = "eu-central-1"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"


def allowing(action: Any, resource: Any = "*", **more: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **more}]})


def trusting(principal: dict[str, Any], **more: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}]})


class Server:
    """A server in a thread of its own."""

    def __init__(self, url: str, key: str, secret: str, account: str) -> None:
        self.url, self.key, self.secret, self.account = url, key, secret, account

    def client(self, service: str, key: str = "", secret: str = "", token: str | None = None) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key or self.key,
            aws_secret_access_key=secret or self.secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def as_user(self, service: str, name: str) -> Any:
        """A client with a new key of that user's."""
        made = self.client("iam").create_access_key(UserName=name)["AccessKey"]
        return self.client(service, made["AccessKeyId"], made["SecretAccessKey"])


async def _serve(options: ServerOptions, listener: socket.socket, ready: threading.Event, found: list[Any]) -> None:
    async with build(options) as plane:
        server = uvicorn.Server(uvicorn.Config(plane.application, **{**SERVER_OPTIONS, "loop": "none"}))
        server.install_signal_handlers = lambda: None  # type: ignore[method-assign]  # not the main thread
        found += [server, plane.context]
        ready.set()
        await server._serve([listener])


@contextmanager
def serving(data_dir: Path, *, store: str = "memory", settings: tuple[str, ...] = ("last_use_seconds=0",)) -> Iterator[Server]:
    """A server that answers; it writes of its own accord only what `settings` make it write."""
    root = {"root_access_key_id": "AKIAROOTROOTROOTROOT", "root_secret_access_key": "s" * 40}
    options = ServerOptions(data_dir=data_dir, region=REGION, store=store, settings=settings, **root)
    ready, found = threading.Event(), []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=lambda: asyncio.run(_serve(options, listener, ready, found)))
        thread.start()
        assert ready.wait(20)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        made = Server(url, "AKIAROOTROOTROOTROOT", "s" * 40, "")
        made.account = made.client("sts").get_caller_identity()["Account"]
        try:
            yield made
        finally:
            found[0].should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("iam")) as made:
        yield made


@pytest.fixture
def iam(server: Server) -> Any:
    return server.client("iam")


def refused(code: str, status: int, function: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as error:
        function(**members)
    response = error.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), response["Error"]
    return str(response["Error"]["Message"])


def test_users(iam, server):
    made = iam.create_user(UserName="Alice", Path="/team/", Tags=[{"Key": "Team", "Value": "red"}])["User"]
    assert made["Arn"] == f"arn:aws:iam::{server.account}:user/team/Alice"
    assert made["UserId"].startswith("AIDA")
    assert iam.get_user(UserName="alice")["User"]["Tags"] == [{"Key": "Team", "Value": "red"}]
    assert "already exists" in refused("EntityAlreadyExists", 409, iam.create_user, UserName="ALICE")
    assert "cannot be found" in refused("NoSuchEntity", 404, iam.get_user, UserName="nobody")
    refused("ValidationError", 400, iam.create_user, UserName="no spaces please")
    iam.update_user(UserName="Alice", NewUserName="Alicia", NewPath="/")
    assert iam.get_user(UserName="Alicia")["User"]["UserId"] == made["UserId"]
    iam.tag_user(UserName="Alicia", Tags=[{"Key": "team", "Value": "blue"}, {"Key": "stage", "Value": "live"}])
    assert {each["Key"]: each["Value"] for each in iam.list_user_tags(UserName="Alicia")["Tags"]} == {"team": "blue", "stage": "live"}
    iam.untag_user(UserName="Alicia", TagKeys=["STAGE"])
    assert len(iam.list_user_tags(UserName="Alicia")["Tags"]) == 1
    names = [f"page{number}" for number in range(5)]
    for name in names:
        iam.create_user(UserName=name, Path="/pages/")
    pages = list(iam.get_paginator("list_users").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 2}))
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    assert len(pages) == 3
    for name in (*names, "Alicia"):
        iam.delete_user(UserName=name)
    refused("NoSuchEntity", 404, iam.delete_user, UserName="Alicia")


def test_what_belongs_to_a_user_goes_first(iam):
    iam.create_user(UserName="carol")
    iam.create_group(GroupName="crew")
    iam.add_user_to_group(GroupName="crew", UserName="carol")
    iam.attach_user_policy(UserName="carol", PolicyArn=ADMINISTRATOR)
    iam.put_user_policy(UserName="carol", PolicyName="own", PolicyDocument=allowing("ecs:*"))
    key = iam.create_access_key(UserName="carol")["AccessKey"]["AccessKeyId"]
    undo = [
        lambda: iam.detach_user_policy(UserName="carol", PolicyArn=ADMINISTRATOR),
        lambda: iam.delete_user_policy(UserName="carol", PolicyName="own"),
        lambda: iam.delete_access_key(UserName="carol", AccessKeyId=key),
        lambda: iam.remove_user_from_group(GroupName="crew", UserName="carol"),
    ]
    for step in undo:
        refused("DeleteConflict", 409, iam.delete_user, UserName="carol")
        refused("DeleteConflict", 409, iam.delete_group, GroupName="crew") if step is not undo[-1] else None
        step()
    iam.delete_user(UserName="carol")
    iam.delete_group(GroupName="crew")


def test_access_keys(iam, server):
    iam.create_user(UserName="dave")
    first = iam.create_access_key(UserName="dave")["AccessKey"]
    assert len(first["SecretAccessKey"]) == 40
    sts = server.client("sts", first["AccessKeyId"], first["SecretAccessKey"])
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{server.account}:user/dave"
    iam.create_access_key(UserName="dave")
    assert refused("LimitExceeded", 409, iam.create_access_key, UserName="dave") == "Cannot exceed quota for AccessKeysPerUser: 2"
    assert "SecretAccessKey" not in iam.list_access_keys(UserName="dave")["AccessKeyMetadata"][0]
    iam.update_access_key(UserName="dave", AccessKeyId=first["AccessKeyId"], Status="Inactive")
    refused("InvalidClientTokenId", 403, sts.get_caller_identity)
    iam.update_access_key(UserName="dave", AccessKeyId=first["AccessKeyId"], Status="Active")
    assert sts.get_caller_identity()["UserId"].startswith("AIDA")
    iam.update_user(UserName="dave", NewUserName="david")
    assert sts.get_caller_identity()["Arn"].endswith(":user/david")
    for key in iam.list_access_keys(UserName="david")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="david", AccessKeyId=key["AccessKeyId"])
    refused("InvalidClientTokenId", 403, sts.get_caller_identity)
    refused("NoSuchEntity", 404, iam.delete_access_key, UserName="david", AccessKeyId="AKIA0000000000000000")
    iam.delete_user(UserName="david")


def test_the_installations_own_key_stays(iam, server):
    refused("DeleteConflict", 409, iam.delete_access_key, AccessKeyId=server.key)
    refused("DeleteConflict", 409, iam.update_access_key, AccessKeyId=server.key, Status="Inactive")
    second = iam.create_access_key()["AccessKey"]
    assert server.client("sts", second["AccessKeyId"], second["SecretAccessKey"]).get_caller_identity()["Arn"].endswith(":root")
    iam.delete_access_key(AccessKeyId=second["AccessKeyId"])


def test_groups(iam):
    iam.create_group(GroupName="ops", Path="/x/")
    for name in ("u1", "u2"):
        iam.create_user(UserName=name)
        iam.add_user_to_group(GroupName="ops", UserName=name)
    assert [user["UserName"] for user in iam.get_group(GroupName="OPS")["Users"]] == ["u1", "u2"]
    iam.update_group(GroupName="ops", NewGroupName="operations")
    assert [group["GroupName"] for group in iam.list_groups_for_user(UserName="u1")["Groups"]] == ["operations"]
    assert [group["GroupName"] for group in iam.list_groups(PathPrefix="/x/")["Groups"]] == ["operations"]
    refused("NoSuchEntity", 404, iam.add_user_to_group, GroupName="operations", UserName="nobody")
    for name in ("u1", "u2"):
        iam.remove_user_from_group(GroupName="operations", UserName=name)
        refused("NoSuchEntity", 404, iam.remove_user_from_group, GroupName="operations", UserName=name)
        iam.delete_user(UserName=name)
    iam.delete_group(GroupName="operations")


def test_roles(iam, server):
    trust = trusting({"Service": "ecs-tasks.amazonaws.com"})
    made = iam.create_role(
        RoleName="app", AssumeRolePolicyDocument=trust, Description="d", MaxSessionDuration=7200, Tags=[{"Key": "a", "Value": "b"}]
    )["Role"]
    assert (made["RoleId"][:4], made["MaxSessionDuration"]) == ("AROA", 7200)
    assert iam.get_role(RoleName="app")["Role"]["AssumeRolePolicyDocument"] == json.loads(trust)
    refused("MalformedPolicyDocument", 400, iam.create_role, RoleName="bad", AssumeRolePolicyDocument=allowing("sts:AssumeRole"))
    iam.update_role(RoleName="app", MaxSessionDuration=3600)
    assert iam.get_role(RoleName="app")["Role"]["Description"] == "d"
    assert iam.update_role_description(RoleName="app", Description="e")["Role"]["Description"] == "e"
    iam.update_assume_role_policy(RoleName="app", PolicyDocument=trusting({"AWS": server.account}))
    assert iam.get_role(RoleName="app")["Role"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"AWS": server.account}
    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == ["app"]
    iam.create_instance_profile(InstanceProfileName="app")
    iam.add_role_to_instance_profile(InstanceProfileName="app", RoleName="app")
    refused("LimitExceeded", 409, iam.add_role_to_instance_profile, InstanceProfileName="app", RoleName="app")
    assert iam.get_instance_profile(InstanceProfileName="app")["InstanceProfile"]["Roles"][0]["RoleName"] == "app"
    assert len(iam.list_instance_profiles_for_role(RoleName="app")["InstanceProfiles"]) == 1
    refused("DeleteConflict", 409, iam.delete_role, RoleName="app")
    refused("DeleteConflict", 409, iam.delete_instance_profile, InstanceProfileName="app")
    iam.remove_role_from_instance_profile(InstanceProfileName="app", RoleName="app")
    iam.delete_instance_profile(InstanceProfileName="app")
    iam.delete_role(RoleName="app")


def test_service_linked_roles(iam, server):
    made = iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")["Role"]
    assert made["Arn"].endswith("role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS")
    refused("UnmodifiableEntity", 400, iam.attach_role_policy, RoleName="AWSServiceRoleForECS", PolicyArn=ADMINISTRATOR)
    refused("UnmodifiableEntity", 400, iam.delete_role, RoleName="AWSServiceRoleForECS")
    refused("InvalidInput", 400, iam.create_service_linked_role, AWSServiceName="coffee.amazonaws.com")
    iam.create_user(UserName="linker")
    named = "arn:aws:iam::*:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS_a*"
    iam.put_user_policy(UserName="linker", PolicyName="p", PolicyDocument=allowing("iam:CreateServiceLinkedRole", named))
    linker = server.as_user("iam", "linker")
    refused("AccessDenied", 403, linker.create_service_linked_role, AWSServiceName="ecs.amazonaws.com", CustomSuffix="b")
    linker.create_service_linked_role(AWSServiceName="ecs.amazonaws.com", CustomSuffix="a1")
    iam.delete_service_linked_role(RoleName="AWSServiceRoleForECS_a1")
    task = iam.delete_service_linked_role(RoleName="AWSServiceRoleForECS")["DeletionTaskId"]
    assert iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"] == "SUCCEEDED"


def test_managed_policies(iam, server):
    arn = iam.create_policy(PolicyName="deploy", PolicyDocument=allowing("ecs:UpdateService"), Description="d")["Policy"]["Arn"]
    assert arn == f"arn:aws:iam::{server.account}:policy/deploy"
    refused("EntityAlreadyExists", 409, iam.create_policy, PolicyName="Deploy", PolicyDocument=allowing("*"))
    refused("MalformedPolicyDocument", 400, iam.create_policy, PolicyName="bad", PolicyDocument="{}")
    refused("LimitExceeded", 409, iam.create_policy, PolicyName="big", PolicyDocument=allowing(["ecs:" + "a" * 50] * 130))
    for number in range(2, 6):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=allowing(f"ecs:V{number}"), SetAsDefault=number == 3)
    assert "up to 5 versions" in refused("LimitExceeded", 409, iam.create_policy_version, PolicyArn=arn, PolicyDocument=allowing("*"))
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v3"
    assert iam.get_policy_version(PolicyArn=arn, VersionId="v5")["PolicyVersion"]["Document"]["Statement"][0]["Action"] == "ecs:V5"
    assert [version["VersionId"] for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v5", "v4", "v3", "v2", "v1"]
    refused("DeleteConflict", 409, iam.delete_policy_version, PolicyArn=arn, VersionId="v3")
    refused("NoSuchEntity", 404, iam.delete_policy_version, PolicyArn=arn, VersionId="v9")
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    for number in range(2, 6):
        iam.delete_policy_version(PolicyArn=arn, VersionId=f"v{number}")
    assert iam.create_policy_version(PolicyArn=arn, PolicyDocument=allowing("*"))["PolicyVersion"]["VersionId"] == "v6"
    iam.delete_policy_version(PolicyArn=arn, VersionId="v6")
    iam.create_user(UserName="erin", PermissionsBoundary=arn)
    iam.attach_user_policy(UserName="erin", PolicyArn=arn)
    iam.attach_user_policy(UserName="erin", PolicyArn=arn)
    entities = iam.list_entities_for_policy(PolicyArn=arn)
    assert ([user["UserName"] for user in entities["PolicyUsers"]], entities["PolicyRoles"]) == (["erin"], [])
    policy = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (policy["AttachmentCount"], policy["PermissionsBoundaryUsageCount"]) == (1, 1)
    assert [each["Arn"] for each in iam.list_policies(Scope="Local", OnlyAttached=True)["Policies"]] == [arn]
    assert ADMINISTRATOR in [each["Arn"] for each in iam.list_policies(Scope="AWS")["Policies"]]
    assert iam.get_policy(PolicyArn=ADMINISTRATOR)["Policy"]["PolicyName"] == "AdministratorAccess"
    refused("DeleteConflict", 409, iam.delete_policy, PolicyArn=arn)
    refused("NoSuchEntity", 404, iam.attach_user_policy, UserName="erin", PolicyArn=arn + "x")
    iam.detach_user_policy(UserName="erin", PolicyArn=arn)
    refused("NoSuchEntity", 404, iam.detach_user_policy, UserName="erin", PolicyArn=arn)
    iam.delete_user_permissions_boundary(UserName="erin")
    iam.delete_policy(PolicyArn=arn)
    iam.delete_user(UserName="erin")


def test_inline_policies_have_a_size(iam):
    iam.create_group(GroupName="inline")
    document = allowing("ecs:*")
    iam.put_group_policy(GroupName="inline", PolicyName="b", PolicyDocument=document)
    iam.put_group_policy(GroupName="inline", PolicyName="a", PolicyDocument=document)
    assert iam.list_group_policies(GroupName="inline")["PolicyNames"] == ["a", "b"]
    assert iam.get_group_policy(GroupName="inline", PolicyName="a")["PolicyDocument"] == json.loads(document)
    refused("LimitExceeded", 409, iam.put_group_policy, GroupName="inline", PolicyName="c", PolicyDocument=allowing(["ecs:" + "a" * 60] * 90))
    refused("MalformedPolicyDocument", 400, iam.put_group_policy, GroupName="inline", PolicyName="c", PolicyDocument="[]")
    for name in ("a", "b"):
        iam.delete_group_policy(GroupName="inline", PolicyName=name)
    refused("NoSuchEntity", 404, iam.get_group_policy, GroupName="inline", PolicyName="a")
    iam.delete_group(GroupName="inline")


def test_policies_count_from_the_next_call_on(iam, server):
    iam.create_user(UserName="frank")
    ecs = server.as_user("ecs", "frank")
    message = refused("AccessDeniedException", 400, ecs.list_clusters)
    assert message.endswith("on resource: * because no identity-based policy allows the ecs:ListClusters action")
    iam.put_user_policy(UserName="frank", PolicyName="p", PolicyDocument=allowing("ecs:ListClusters"))
    ecs.list_clusters()
    iam.create_group(GroupName="makers")
    iam.attach_group_policy(GroupName="makers", PolicyArn=ADMINISTRATOR)
    iam.add_user_to_group(GroupName="makers", UserName="frank")
    ecs.create_cluster(clusterName="made")
    boundary = iam.create_policy(PolicyName="limit", PolicyDocument=allowing("ecs:List*"))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="frank", PermissionsBoundary=boundary)
    assert "no permissions boundary allows" in refused("AccessDeniedException", 400, ecs.delete_cluster, cluster="made")
    ecs.list_clusters()


def test_two_teams_and_a_deployer_for_one_service(iam, server):
    """Neither team sees or touches the other's; a key that may update one service only."""
    root = server.client("ecs")
    for team in ("red", "blue"):
        cluster = root.create_cluster(clusterName=f"team-{team}", tags=[{"key": "team", "value": team}])["cluster"]["clusterArn"]
        iam.create_user(UserName=f"{team}-lead", Tags=[{"Key": "team", "Value": team}])
        statements = [
            {"Effect": "Allow", "Action": "ecs:*", "Resource": [cluster, f"arn:aws:ecs:*:*:*/team-{team}/*"]},
            {"Effect": "Allow", "Action": "ecs:*", "Resource": "*", "Condition": {"ArnEquals": {"ecs:cluster": cluster}}},
            {"Effect": "Allow", "Action": ["ecs:RegisterTaskDefinition", "ecs:RunTask"], "Resource": f"arn:aws:ecs:*:*:task-definition/{team}-*"},
        ]
        iam.put_user_policy(UserName=f"{team}-lead", PolicyName="team", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    red, blue = server.as_user("ecs", "red-lead"), server.as_user("ecs", "blue-lead")
    container = {"name": "app", "image": "busybox", "memory": 16}
    for team, ecs in (("red", red), ("blue", blue)):
        ecs.register_task_definition(family=f"{team}-web", containerDefinitions=[container])
        ecs.create_service(cluster=f"team-{team}", serviceName="web", taskDefinition=f"{team}-web", desiredCount=0)
        assert len(ecs.list_services(cluster=f"team-{team}")["serviceArns"]) == 1
        assert ecs.describe_clusters(clusters=[f"team-{team}"])["clusters"]
    refused("AccessDeniedException", 400, red.describe_clusters, clusters=["team-blue"])
    refused("AccessDeniedException", 400, red.list_services, cluster="team-blue")
    refused("AccessDeniedException", 400, red.list_tasks, cluster="team-blue")
    refused("AccessDeniedException", 400, red.describe_services, cluster="team-blue", services=["web"])
    refused("AccessDeniedException", 400, blue.update_service, cluster="team-red", service="web", desiredCount=5)
    refused("AccessDeniedException", 400, blue.delete_cluster, cluster="team-red")
    refused("AccessDeniedException", 400, blue.register_task_definition, family="red-web", containerDefinitions=[container])
    refused("AccessDeniedException", 400, blue.list_clusters)
    refused("AccessDenied", 403, server.as_user("iam", "red-lead").list_users)

    service = "arn:aws:ecs:*:*:service/team-red/web"
    iam.create_user(UserName="ci")
    iam.put_user_policy(UserName="ci", PolicyName="deploy", PolicyDocument=allowing(["ecs:UpdateService", "ecs:DescribeServices"], service))
    ci = server.as_user("ecs", "ci")
    ci.update_service(cluster="team-red", service="web", desiredCount=0)
    assert ci.describe_services(cluster="team-red", services=["web"])["services"][0]["serviceName"] == "web"
    refused("AccessDeniedException", 400, ci.update_service, cluster="team-blue", service="web", desiredCount=0)
    refused("AccessDeniedException", 400, ci.delete_service, cluster="team-red", service="web")
    refused("AccessDeniedException", 400, ci.list_services, cluster="team-red")


def test_nobody_hands_on_a_role_without_pass_role(iam, server):
    """The confused deputy: who may register and run, but not pass the administrator's role to a task."""
    iam.create_role(RoleName="admin", AssumeRolePolicyDocument=trusting({"Service": "ecs-tasks.amazonaws.com"}))
    iam.create_user(UserName="mallory")
    iam.put_user_policy(UserName="mallory", PolicyName="p", PolicyDocument=allowing("ecs:*"))
    ecs = server.as_user("ecs", "mallory")
    admin = f"arn:aws:iam::{server.account}:role/admin"
    definition = {"family": "deputy", "containerDefinitions": [{"name": "app", "image": "busybox", "memory": 16}], "taskRoleArn": admin}
    assert f"iam:PassRole on resource: {admin}" in refused("AccessDeniedException", 400, ecs.register_task_definition, **definition)
    server.client("ecs").register_task_definition(**definition)
    assert "iam:PassRole" in refused("AccessDeniedException", 400, ecs.run_task, taskDefinition="deputy")
    assert "iam:PassRole" in refused("AccessDeniedException", 400, ecs.create_service, serviceName="s", taskDefinition="deputy", desiredCount=0)


def test_iam_is_guarded_itself(iam, server):
    iam.create_user(UserName="grace", Path="/team/")
    iam.put_user_policy(
        UserName="grace",
        PolicyName="own-keys",
        PolicyDocument=allowing(["iam:CreateAccessKey", "iam:ListAccessKeys", "iam:GetUser"], "arn:aws:iam::*:user/team/${aws:username}"),
    )
    grace = server.as_user("iam", "grace")
    assert grace.get_user()["User"]["UserName"] == "grace"
    assert len(grace.list_access_keys()["AccessKeyMetadata"]) == 1
    refused("AccessDenied", 403, grace.create_access_key, UserName="frank")
    refused("AccessDenied", 403, grace.put_user_policy, UserName="grace", PolicyName="more", PolicyDocument=allowing("*"))
    refused("AccessDenied", 403, grace.attach_user_policy, UserName="grace", PolicyArn=ADMINISTRATOR)
    refused("AccessDenied", 403, grace.create_user, UserName="heidi")


def test_whom_an_administrator_of_a_part_can_make(iam, server):
    """Who may make users of one path, with one boundary, gets none out of either, and no tags or roles onto anything."""
    limit = iam.create_policy(PolicyName="of-parts", PolicyDocument=allowing("ecs:*"))["Policy"]["Arn"]
    iam.create_user(UserName="judy")
    users, bounded = "arn:aws:iam::*:user/part/*", {"StringEquals": {"iam:PermissionsBoundary": limit}}
    statements = [
        {"Effect": "Allow", "Action": ["iam:CreateUser", "iam:AttachUserPolicy"], "Resource": users, "Condition": bounded},
        {"Effect": "Allow", "Action": "iam:UpdateUser", "Resource": users},
        {"Effect": "Allow", "Action": "iam:AddRoleToInstanceProfile", "Resource": "*"},
    ]
    iam.put_user_policy(UserName="judy", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    judy = server.as_user("iam", "judy")
    good = {"UserName": "kid", "Path": "/part/", "PermissionsBoundary": limit}
    refused("AccessDenied", 403, judy.create_user, **{**good, "PermissionsBoundary": ADMINISTRATOR})
    refused("AccessDenied", 403, judy.create_user, UserName="kid", Path="/part/")
    refused("AccessDenied", 403, judy.create_user, **{**good, "Path": "/"})
    assert "iam:TagUser" in refused("AccessDenied", 403, judy.create_user, **good, Tags=[{"Key": "a", "Value": "b"}])
    judy.create_user(**good)
    judy.attach_user_policy(UserName="kid", PolicyArn=ADMINISTRATOR)
    refused("AccessDenied", 403, judy.update_user, UserName="kid", NewPath="/board/")
    judy.update_user(UserName="kid", NewUserName="grown")
    iam.delete_user_permissions_boundary(UserName="grown")
    refused("AccessDenied", 403, judy.attach_user_policy, UserName="grown", PolicyArn=limit)
    iam.create_role(RoleName="strong", AssumeRolePolicyDocument=trusting({"Service": "ec2.amazonaws.com"}))
    iam.create_instance_profile(InstanceProfileName="weak")
    added = {"InstanceProfileName": "weak", "RoleName": "strong"}
    assert "iam:PassRole" in refused("AccessDenied", 403, judy.add_role_to_instance_profile, **added)
    iam.create_access_key(UserName="grown")
    other = iam.list_access_keys(UserName="grown")["AccessKeyMetadata"][0]["AccessKeyId"]
    refused("NoSuchEntity", 404, iam.delete_access_key, UserName="judy", AccessKeyId=other)


def test_services_without_regions_are_signed_for_in_us_east_1_too(server):
    def client(service: str) -> Any:
        keys = {"aws_access_key_id": server.key, "aws_secret_access_key": server.secret}
        return boto3.client(service, endpoint_url=server.url, region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}), **keys)

    client("iam").list_users()
    refused("InvalidSignatureException", 400, client("ecs").list_clusters)


def test_simulation_says_what_would_be_decided(iam):
    given = {"PolicyInputList": [allowing("ecs:Describe*")], "ActionNames": ["ecs:DescribeTasks", "ecs:StopTask"]}
    results = iam.simulate_custom_policy(**given)["EvaluationResults"]
    assert [result["EvalDecision"] for result in results] == ["allowed", "implicitDeny"]
    deny = json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"test:x": "y"}}}}
    )
    entries = [{"ContextKeyName": "test:X", "ContextKeyType": "string", "ContextKeyValues": ["y"]}]
    result = iam.simulate_custom_policy(**{**given, "PolicyInputList": [allowing("*"), deny]}, ContextEntries=entries)["EvaluationResults"][0]
    assert (result["EvalDecision"], result["MatchedStatements"][0]["SourcePolicyId"]) == ("explicitDeny", "PolicyInputList.2")
    iam.create_user(UserName="ivan")
    iam.put_user_policy(UserName="ivan", PolicyName="p", PolicyDocument=allowing("ecs:*"))
    source = iam.get_user(UserName="ivan")["User"]["Arn"]
    result = iam.simulate_principal_policy(
        PolicySourceArn=source, ActionNames=["ecs:StopTask"], PermissionsBoundaryPolicyInputList=[allowing("iam:*")]
    )["EvaluationResults"][0]
    assert result["EvalDecision"] == "implicitDeny"
    assert result["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}
    refused("NoSuchEntity", 404, iam.simulate_principal_policy, PolicySourceArn=source + "x", ActionNames=["ecs:StopTask"])


def test_the_whole_account(iam):
    summary = iam.get_account_summary()["SummaryMap"]
    users = sum(
        len(page["UserDetailList"]) for page in iam.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 3})
    )
    assert summary["Users"] == users > 3
    assert summary["AccessKeysPerUserQuota"] == 2
    only = iam.get_account_authorization_details(Filter=["Role"])
    assert (only["UserDetailList"], bool(only["RoleDetailList"])) == ([], True)


def test_the_aws_cli(server):
    def aws(*arguments: str) -> Any:
        environment = {
            "AWS_ACCESS_KEY_ID": server.key,
            "AWS_SECRET_ACCESS_KEY": server.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_CONFIG_FILE": "/nonexistent",
        }
        done = subprocess.run([str(Path(sys.executable).parent / "aws"), *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    assert aws("sts", "get-caller-identity")["Account"] == server.account
    assert aws("iam", "create-user", "--user-name", "cli")["User"]["UserName"] == "cli"
    aws("iam", "put-user-policy", "--user-name", "cli", "--policy-name", "p", "--policy-document", allowing("ecs:*"))
    assert aws("iam", "get-user-policy", "--user-name", "cli", "--policy-name", "p")["PolicyDocument"] == json.loads(allowing("ecs:*"))
