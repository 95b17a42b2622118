"""Several accounts on a real server, as boto3 uses it: the same names side by side, and roles that are assumed from one to the other."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest
from tests.integration.test_iam import Server, allowing, refused, server, trusting
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from homeport.cli.client import Api, ApiCallError
from homeport.cli.installation import LocalCredentials
from homeport.clock import SystemClock
from homeport.iam import sigv4
from homeport.server import ServerOptions, build
from homeport.store.tables import ACCOUNTS

__all__ = ["server"]

APP = {"name": "app", "image": "busybox", "memory": 16}


def own(server: Server, key: str = "", secret: str = "", token: str = "") -> Api:
    """A client of Homeport's own operations, which boto3 does not know."""
    credentials = LocalCredentials(server.url, key or server.key, secret or server.secret, "eu-central-1", "", "", session_token=token)
    return Api(credentials, SystemClock())


class Account:
    """A new account, and clients with its root's key."""

    def __init__(self, server: Server, name: str) -> None:
        made = own(server).call("CreateAccount", AccountName=name)
        self.id = made["CreateAccountStatus"]["AccountId"]
        self.key, self.secret = made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"]
        self.server = server
        self.own = own(server, self.key, self.secret)

    def client(self, service: str) -> Any:
        return self.server.client(service, self.key, self.secret)

    def user(self, name: str, policy: str = "") -> dict[str, str]:
        """A new user's (ARN, key id, secret)."""
        iam = self.client("iam")
        arn = iam.create_user(UserName=name)["User"]["Arn"]
        if policy:
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"arn": arn, "key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}

    def role(self, name: str, trust: str, policy: str = "") -> str:
        iam = self.client("iam")
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy or allowing("ecs:*"))
        return str(made)


@pytest.fixture(scope="module")
def red(server):
    return Account(server, "red")


@pytest.fixture(scope="module")
def blue(server):
    return Account(server, "blue")


# --- the same names side by side ---


def furnish(account: Account, tag: str) -> dict[str, Any]:
    """The same names in every account; `tag` tells what is whose."""
    ecs, iam = account.client("ecs"), account.client("iam")
    tags = [{"key": "of", "value": tag}]
    made: dict[str, Any] = {"cluster": ecs.create_cluster(clusterName="shop", tags=tags)["cluster"]["clusterArn"]}
    definition = ecs.register_task_definition(family="web", containerDefinitions=[{**APP, "command": [tag]}])["taskDefinition"]
    made["definition"] = definition["taskDefinitionArn"]
    made["service"] = ecs.create_service(cluster="shop", serviceName="web", taskDefinition="web", desiredCount=1, tags=tags)["service"]["serviceArn"]
    made["user"] = iam.create_user(UserName="ann", Tags=[{"Key": "of", "Value": tag}])["User"]["Arn"]
    made["policy"] = iam.create_policy(PolicyName="limit", PolicyDocument=allowing("ecs:*"))["Policy"]["Arn"]
    made["role"] = account.role("deployer", trusting({"AWS": account.id}))
    return made


def seen(account: Account) -> str:
    """All that an account is told of itself, as text."""
    ecs, iam = account.client("ecs"), account.client("iam")
    told: list[Any] = [ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"], include=["TAGS"])]
    told.append(ecs.describe_services(cluster="shop", services=ecs.list_services(cluster="shop")["serviceArns"], include=["TAGS"])["services"])
    told += [ecs.describe_task_definition(taskDefinition=arn) for arn in ecs.list_task_definitions()["taskDefinitionArns"]]
    told += [ecs.list_account_settings(effectiveSettings=True), iam.get_account_authorization_details(), iam.get_account_summary()]
    told.append(account.own.call("DescribeHistory", resource="service/shop/web"))
    told.append(
        account.own.call("DescribeAt", operation="DescribeClusters", request={"clusters": ["shop"], "include": ["TAGS"]}, instant=4e9)["answer"]
    )
    return json.dumps(
        [{name: value for name, value in part.items() if name != "ResponseMetadata"} if isinstance(part, dict) else part for part in told],
        default=str,
    )


def test_two_accounts_do_the_same_under_the_same_names_and_see_their_own_only(server, red, blue):
    things = {account.id: furnish(account, tag) for account, tag in ((red, "of-red"), (blue, "of-blue"))}
    assert all(red.id in arn for arn in things[red.id].values()) and all(blue.id in arn for arn in things[blue.id].values())
    told, other = seen(red), seen(blue)
    assert "of-red" in told and "of-blue" not in told and blue.id not in told
    assert "of-blue" in other and "of-red" not in other and red.id not in other
    assert server.client("ecs").list_clusters()["clusterArns"] == []
    assert server.client("iam").list_users()["Users"] == []
    red.client("ecs").update_service(cluster="shop", service="web", desiredCount=0)
    red.client("ecs").put_account_setting_default(name="containerInsights", value="enabled")
    red.client("ecs").delete_service(cluster="shop", service="web", force=True)
    red.client("iam").delete_user(UserName="ann")
    assert seen(blue) == other
    assert blue.client("iam").get_user(UserName="ann")["User"]["Arn"] == things[blue.id]["user"]


def test_each_account_s_trail_tells_of_its_own_calls_only(server, red, blue):
    name = "told-in-the-trail"
    for account in (red, blue):
        account.client("ecs").create_cluster(clusterName=f"{name}-{account.id}")
    wanted = [{"AttributeKey": "EventName", "AttributeValue": "CreateCluster"}]

    def trail(account: Account) -> str:
        pages = account.client("cloudtrail").get_paginator("lookup_events").paginate(LookupAttributes=wanted)
        return json.dumps([page["Events"] for page in pages], default=str)

    deadline = time.monotonic() + 10
    for own, other in ((red, blue), (blue, red)):
        while f"{name}-{own.id}" not in trail(own) and time.monotonic() < deadline:
            time.sleep(0.1)
        told = trail(own)
        assert f"{name}-{own.id}" in told and other.id not in told and server.account not in told
    assert name not in json.dumps(server.client("cloudtrail").lookup_events(LookupAttributes=wanted)["Events"], default=str)


def test_an_account_s_summary_counts_its_own(red, blue):
    for account, users in ((red, 0), (blue, 1)):
        summary = account.client("iam").get_account_summary()["SummaryMap"]
        assert (summary["Users"], summary["Policies"], summary["AccountAccessKeysPresent"]) == (users, 1, 1)


# --- one account from another ---


def assume(server: Server, who: dict[str, str], role: str, **more: Any) -> Any:
    return server.client("sts", who["key"], who["secret"]).assume_role(RoleArn=role, RoleSessionName="visit", **more)


MAY_ASSUME = allowing("sts:AssumeRole")
DENIED = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}, {"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*"}],
    }
)
TRUSTED: dict[str, tuple[Any, str, dict[str, Any], bool]] = {
    # name: (principal of the trust policy, the caller's own policy, members of the request, whether it may)
    "the account, and the caller may": ("account", MAY_ASSUME, {}, True),
    "the account's root, and the caller may": ("root", MAY_ASSUME, {}, True),
    "the user, and the caller may": ("user", MAY_ASSUME, {}, True),
    "everybody, and the caller may": ("*", MAY_ASSUME, {}, True),
    "the account, but the caller may not": ("account", "", {}, False),
    "the user, but the caller may not": ("user", "", {}, False),
    "everybody, but the caller may not": ("*", "", {}, False),
    "the caller may assume another role only": ("account", allowing("sts:AssumeRole", "arn:aws:iam::*:role/another"), {}, False),
    "the caller's policy denies it": ("account", DENIED, {}, False),
    "another account": ("elsewhere", MAY_ASSUME, {}, False),
    "its own account": ("own", MAY_ASSUME, {}, False),
    "a user of the same name in its own account": ("namesake", MAY_ASSUME, {}, False),
}


@pytest.mark.parametrize("case", TRUSTED)
def test_a_role_is_assumed_from_another_account_when_both_sides_allow_it(server, red, blue, case):
    principal, policy, members, may = TRUSTED[case]
    name = f"u{list(TRUSTED).index(case)}"
    who = red.user(name, policy)
    blue.user(name)
    named = {
        "account": red.id,
        "root": f"arn:aws:iam::{red.id}:root",
        "user": who["arn"],
        "*": "*",
        "elsewhere": server.account,
        "own": blue.id,
        "namesake": who["arn"].replace(red.id, blue.id),
    }[principal]
    role = blue.role(name, trusting({"AWS": named}))
    if not may:
        refused("AccessDenied", 403, assume, server=server, who=who, role=role, **members)
        return
    answer = assume(server, who, role, **members)
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{blue.id}:assumed-role/{name}/visit"
    keys = answer["Credentials"]
    visit = server.client("ecs", keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    assert f":{blue.id}:" in visit.create_cluster(clusterName=f"by-{name}")["cluster"]["clusterArn"]
    assert server.client("sts", keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]).get_caller_identity()["Account"] == blue.id
    refused("AccessDeniedException", 400, server.client("ecs", who["key"], who["secret"]).list_clusters)


def test_the_confused_deputy_has_no_external_id_of_somebody_else(server, red, blue):
    """The vendor `red` works for `blue`: whoever makes it work must know the id that blue agreed with it."""
    vendor = red.user("vendor", MAY_ASSUME)
    role = blue.role("for-vendor", trusting({"AWS": red.id}, Condition={"StringEquals": {"sts:ExternalId": "blue-42"}}))
    for more in ({}, {"ExternalId": "blue-43"}, {"ExternalId": "BLUE-42"}):
        refused("AccessDenied", 403, assume, server=server, who=vendor, role=role, **more)
    assert assume(server, vendor, role, ExternalId="blue-42")["Credentials"]


def test_policies_know_the_installation_s_accounts_as_an_organization(server, red, blue):
    who = red.user("colleague", MAY_ASSUME)
    organization = own(server).call("DescribeAccount", AccountId=red.id)["Account"]["Arn"].split("/")[1]
    for name, wanted, may in (("in-it", organization, True), ("not-in-it", "o-0000000000", False)):
        role = blue.role(name, trusting({"AWS": "*"}, Condition={"StringEquals": {"aws:PrincipalOrgID": wanted}}))
        if may:
            assert assume(server, who, role)["Credentials"]
        else:
            refused("AccessDenied", 403, assume, server=server, who=who, role=role)
    only_own = json.loads(MAY_ASSUME)
    only_own["Statement"][0]["Condition"] = {"StringEquals": {"aws:ResourceAccount": red.id}}
    kept_in = red.user("kept-in", json.dumps(only_own))
    outside, inside = blue.role("outside", trusting({"AWS": red.id})), red.role("inside", trusting({"AWS": red.id}))
    refused("AccessDenied", 403, assume, server=server, who=kept_in, role=outside)
    assert assume(server, kept_in, inside)["Credentials"]


def test_administrators_of_the_management_account_get_into_every_account_and_others_into_none(server, red, blue):
    iam = server.client("iam")
    iam.create_user(UserName="chief")
    iam.put_user_policy(UserName="chief", PolicyName="p", PolicyDocument=MAY_ASSUME)
    made = iam.create_access_key(UserName="chief")["AccessKey"]
    chief = {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"]}
    role = f"arn:aws:iam::{blue.id}:role/OrganizationAccountAccessRole"
    keys = assume(server, chief, role)["Credentials"]
    assert server.client("iam", keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]).list_users()["Users"]
    refused("AccessDenied", 403, assume, server=server, who=red.user("stranger", MAY_ASSUME), role=role)
    refused("AccessDenied", 403, server.client("sts").assume_role, RoleArn=role, RoleSessionName="root")
    with pytest.raises(ApiCallError, match="AccessDenied"):
        own(server, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]).call("ListAccounts")
    with pytest.raises(ApiCallError, match=r"AccessDenied.*homeport:CreateAccount"):
        own(server, chief["key"], chief["secret"]).call("CreateAccount", AccountName="of-chief")
    iam.put_user_policy(UserName="chief", PolicyName="p", PolicyDocument=allowing("homeport:CreateAccount"))
    assert own(server, chief["key"], chief["secret"]).call("CreateAccount", AccountName="of-chief")["AccessKey"]["AccessKeyId"]


# --- a closed account ---


def test_keys_and_sessions_of_a_closed_account_are_refused_at_once_and_good_again_when_it_is_reopened(server, red):
    green = Account(server, "green")
    visitor = red.user("visitor-of-green", MAY_ASSUME)
    ann, role = green.user("ann", allowing("ecs:*")), green.role("open", trusting({"AWS": red.id}))
    keys = assume(server, visitor, role)["Credentials"]
    clients = [
        green.client("ecs"),
        server.client("ecs", ann["key"], ann["secret"]),
        server.client("ecs", keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]),
    ]
    clients[0].create_cluster(clusterName="kept")
    own(server).call("CloseAccount", AccountId=green.id)
    for client in clients:
        refused("UnrecognizedClientException", 400, client.list_clusters)
    refused("AccessDenied", 403, assume, server=server, who=visitor, role=role)
    own(server).call("ReopenAccount", AccountId=green.id)
    for client in clients:
        assert len(client.list_clusters()["clusterArns"]) == 1
    assert assume(server, visitor, role)["Credentials"]


def test_quotas_of_an_account_over_the_api(server):
    small = Account(server, "small")
    own(server).call("PutAccountQuota", AccountId=small.id, QuotaName="services_per_cluster_max", Value=1)
    ecs = small.client("ecs")
    ecs.create_cluster(clusterName="shop")
    ecs.register_task_definition(family="web", containerDefinitions=[APP])
    ecs.create_service(cluster="shop", serviceName="a", taskDefinition="web", desiredCount=0)
    assert "limit of 1 services" in refused(
        "ClientException", 400, ecs.create_service, cluster="shop", serviceName="b", taskDefinition="web", desiredCount=0
    )
    with pytest.raises(ApiCallError, match="AccessDenied"):
        small.own.call("PutAccountQuota", AccountId=small.id, QuotaName="services_per_cluster_max", Value=9)
    told = {item["QuotaName"]: item["Value"] for item in small.own.call("ListAccountQuotas")["Quotas"]}
    assert (told["services_per_cluster_max"], told["clusters_max"]) == (1, 10_000)
    assert msgspec.json.encode(told)


def test_a_role_of_another_account_cannot_be_passed_to_a_task(server, red, blue):
    """Even where the caller may pass every role, and the role trusts everybody."""
    who = red.user("deputy", allowing(["ecs:*", "iam:PassRole"]))
    role = blue.role("of-a-task", trusting({"AWS": "*", "Service": "ecs-tasks.amazonaws.com"}))
    ecs = server.client("ecs", who["key"], who["secret"])
    ecs.register_task_definition(family="own", containerDefinitions=[APP], taskRoleArn=role.replace(blue.id, red.id))
    message = refused("AccessDeniedException", 400, ecs.register_task_definition, family="f", containerDefinitions=[APP], taskRoleArn=role)
    assert "iam:PassRole" in message


@pytest.mark.parametrize("path", ["/acs/ws", "/tcs/ws"])
def test_no_key_of_another_account_opens_an_instance_s_connection(server, red, blue, path):
    ecs = blue.client("ecs")
    ecs.create_cluster(clusterName="hosts")
    resources = [{"name": name, "type": "INTEGER", "integerValue": 2048} for name in ("CPU", "MEMORY")]
    registered = ecs.register_container_instance(cluster="hosts", totalResources=resources)["containerInstance"]["containerInstanceArn"]
    member = "containerInstanceArn" if path == "/acs/ws" else "containerInstance"
    named = {"clusterArn" if path == "/acs/ws" else "cluster": "hosts", member: registered, "seqNum": "1", "agentVersion": "1.0.0"}

    def closed(account: Account) -> bool:
        """Whether the server ends the connection by itself, or never takes it."""
        query = urlencode(named).encode()
        place = urlsplit(server.url)
        request = sigv4.Request("GET", path.encode(), query, {b"host": place.netloc.encode()}, sigv4.EMPTY_BODY_SHA256)
        signed = sigv4.sign(request, sigv4.Credentials(account.key, account.secret, "eu-central-1"), SystemClock().now())
        try:
            with connect(f"ws://{place.netloc}{path}?{query.decode()}", additional_headers=signed, proxy=None) as line:
                while True:
                    line.recv(timeout=1)
        except (ConnectionClosed, InvalidStatus):
            return True
        except TimeoutError:
            return False

    assert closed(red)
    (shown,) = ecs.describe_container_instances(cluster="hosts", containerInstances=[registered])["containerInstances"]
    assert shown["agentConnected"] is False
    assert not closed(blue)


async def test_an_installation_that_had_one_account_has_it_on_record_with_its_next_start(tmp_path):
    options = ServerOptions(data_dir=tmp_path, account_id="123456789012")
    for _ in range(2):
        async with build(options) as plane:
            (account,) = await plane.store.view(lambda reader: list(reader.scan(ACCOUNTS)))
            assert (account.id, account.name, account.status) == ("123456789012", "management", "ACTIVE")
            assert plane.context.management == account.id
            await plane.store.update(lambda tx: tx.delete(ACCOUNTS, "123456789012"), cause="as an earlier version left it")
