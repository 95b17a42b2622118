"""Sessions as boto3 uses them, on a real server: who gets one, and what it may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.test_iam import ADMINISTRATOR, Server, allowing, refused, server, trusting

__all__ = ["server"]


class Team:
    """A user, a role and clusters, with names of one test's own."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.iam, self.name = server, server.client("iam"), name
        self.user = self.iam.create_user(UserName=name)["User"]["Arn"]
        self.sts = server.as_user("sts", name)

    def role(self, name: str, trust: str, policy: str, **more: Any) -> str:
        made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **more)["Role"]["Arn"]
        self.iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
        return str(made)

    def client(self, service: str, credentials: dict[str, Any]) -> Any:
        return self.server.client(service, credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


@pytest.fixture
def team(server, request) -> Iterator[Team]:
    yield Team(server, request.node.name.replace("_", "-")[:40])


def test_a_user_assumes_a_role_and_has_what_role_and_session_policy_both_allow(team):
    role = team.role("deploy", trusting({"AWS": team.user}), allowing(["ecs:CreateCluster", "ecs:DescribeClusters"]), Path="/team/")
    answer = team.sts.assume_role(RoleArn=role, RoleSessionName="ci", Policy=allowing(["ecs:DescribeClusters", "ecs:DeleteCluster"]))
    assert answer["AssumedRoleUser"]["Arn"].endswith(":assumed-role/deploy/ci")
    assert answer["AssumedRoleUser"]["AssumedRoleId"].startswith("AROA")
    assert answer["Credentials"]["AccessKeyId"].startswith("ASIA")
    ecs = team.client("ecs", answer["Credentials"])
    assert ecs.describe_clusters(clusters=["x"])["clusters"] == []
    assert "session policy" in refused("AccessDeniedException", 400, ecs.create_cluster, clusterName="x")
    assert "identity-based" in refused("AccessDeniedException", 400, ecs.delete_cluster, cluster="x")
    who = team.client("sts", answer["Credentials"]).get_caller_identity()
    assert (who["UserId"], who["Arn"]) == (answer["AssumedRoleUser"]["AssumedRoleId"], answer["AssumedRoleUser"]["Arn"])
    assert team.sts.get_caller_identity()["Arn"] == team.user
    assert team.server.client("sts").get_access_key_info(AccessKeyId=answer["Credentials"]["AccessKeyId"])["Account"] == team.server.account
    refused("AccessDenied", 403, team.client("sts", answer["Credentials"]).get_session_token)
    whole = team.sts.assume_role(RoleArn=role, RoleSessionName="ci")
    team.client("ecs", whole["Credentials"]).create_cluster(clusterName="of-the-session")


def test_only_whom_the_role_trusts(team):
    role = team.role("vault", trusting({"AWS": team.user}, Condition={"StringEquals": {"sts:ExternalId": "42"}}), allowing("ecs:*"))
    strange = team.role("strange", trusting({"Service": "ecs-tasks.amazonaws.com"}), allowing("ecs:*"))
    team.iam.put_user_policy(UserName=team.name, PolicyName="all", PolicyDocument=allowing("sts:*"))
    for more in ({}, {"ExternalId": "43"}):
        assert "sts:AssumeRole" in refused("AccessDenied", 403, team.sts.assume_role, RoleArn=role, RoleSessionName="session", **more)
    assert team.sts.assume_role(RoleArn=role, RoleSessionName="session", ExternalId="42")["Credentials"]
    refused("AccessDenied", 403, team.sts.assume_role, RoleArn=strange, RoleSessionName="session")
    refused("AccessDenied", 403, team.sts.assume_role, RoleArn=role.replace("vault", "nobody"), RoleSessionName="session", ExternalId="42")
    refused("AccessDenied", 403, team.server.client("sts").assume_role, RoleArn=role, RoleSessionName="session", ExternalId="42")
    account = team.role("account", trusting({"AWS": team.server.account}), allowing("ecs:*"))
    assert team.sts.assume_role(RoleArn=account, RoleSessionName="session")["Credentials"]
    team.iam.delete_user_policy(UserName=team.name, PolicyName="all")
    refused("AccessDenied", 403, team.sts.assume_role, RoleArn=account, RoleSessionName="session")


def test_chains_tags_and_durations(team):
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    both = json.loads(trusting({"AWS": team.user}))
    both["Statement"][0]["Action"] = actions
    first = team.role("first", json.dumps(both), allowing(actions), MaxSessionDuration=7200)
    both["Statement"][0]["Principal"] = {"AWS": first}
    red = {"StringEquals": {"aws:PrincipalTag/team": "red"}}
    second = team.role("second", json.dumps(both), allowing("ecs:ListClusters", Condition=red), MaxSessionDuration=7200)
    request = {"RoleArn": first, "RoleSessionName": "session", "SourceIdentity": "ann"}
    tagged = {"Tags": [{"Key": "Team", "Value": "red"}, {"Key": "Stage", "Value": "live"}], "TransitiveTagKeys": ["team"]}
    refused("ValidationError", 400, team.sts.assume_role, **request, DurationSeconds=7201)
    refused("ValidationError", 400, team.sts.assume_role, **request, TransitiveTagKeys=["no"])
    refused("MalformedPolicyDocument", 400, team.sts.assume_role, **request, Policy="{}")
    plain = team.client("sts", team.sts.assume_role(**request, DurationSeconds=7200)["Credentials"])
    bare = plain.assume_role(RoleArn=second, RoleSessionName="s2")
    assert bare["SourceIdentity"] == "ann"
    refused("AccessDeniedException", 400, team.client("ecs", bare["Credentials"]).list_clusters)
    refused("AccessDenied", 403, plain.assume_role, RoleArn=second, RoleSessionName="s2", SourceIdentity="eve")
    refused("ValidationError", 400, plain.assume_role, RoleArn=second, RoleSessionName="s2", DurationSeconds=3601)
    chained = team.client("sts", team.sts.assume_role(**request, **tagged)["Credentials"])
    made = chained.assume_role(RoleArn=second, RoleSessionName="s3")
    team.client("ecs", made["Credentials"]).list_clusters()
    again = {"RoleSessionName": "s4", "Tags": [{"Key": "TEAM", "Value": "blue"}]}
    assert "conflicts with a transitive tag" in refused("ValidationError", 400, chained.assume_role, RoleArn=second, **again)
    both["Statement"][0]["Action"] = ["sts:AssumeRole", "sts:SetSourceIdentity"]
    untagged = team.role("untagged", json.dumps(both), allowing(actions))
    plain.assume_role(RoleArn=untagged, RoleSessionName="s5")
    assert "sts:TagSession" in refused("AccessDenied", 403, chained.assume_role, RoleArn=untagged, RoleSessionName="s5")


def test_sessions_of_a_role_that_was_made_anew_may_nothing(team):
    role = team.role("brief", trusting({"AWS": team.user}), allowing("ecs:*"))
    ecs = team.client("ecs", team.sts.assume_role(RoleArn=role, RoleSessionName="session")["Credentials"])
    ecs.list_clusters()
    team.iam.delete_role_policy(RoleName="brief", PolicyName="p")
    refused("AccessDeniedException", 400, ecs.list_clusters)
    team.iam.delete_role(RoleName="brief")
    refused("AccessDeniedException", 400, ecs.list_clusters)
    team.role("brief", trusting({"AWS": team.user}), allowing("ecs:*"))
    refused("AccessDeniedException", 400, ecs.list_clusters)


def test_sessions_of_users(team):
    team.iam.attach_user_policy(UserName=team.name, PolicyArn=ADMINISTRATOR)
    own = team.sts.get_session_token()["Credentials"]
    assert team.client("sts", own).get_caller_identity()["Arn"] == team.user
    team.client("ecs", own).list_clusters()
    refused("InvalidClientTokenId", 403, team.client("iam", own).list_users)
    refused("AccessDenied", 403, team.client("sts", own).get_federation_token, Name="visitor")
    made = team.sts.get_federation_token(Name="visitor", Policy=allowing("ecs:ListClusters"))
    visitor = team.client("ecs", made["Credentials"])
    visitor.list_clusters()
    refused("AccessDeniedException", 400, visitor.create_cluster, clusterName="x")
    who = team.client("sts", made["Credentials"]).get_caller_identity()
    assert (who["UserId"], who["Arn"]) == (made["FederatedUser"]["FederatedUserId"], made["FederatedUser"]["Arn"])
    nothing = team.sts.get_federation_token(Name="visitor")["Credentials"]
    refused("AccessDeniedException", 400, team.client("ecs", nothing).list_clusters)


def test_a_session_stays_within_the_boundary_of_its_role(team):
    limit = team.iam.create_policy(PolicyName="limit-of-sessions", PolicyDocument=allowing("ecs:ListClusters"))["Policy"]["Arn"]
    role = team.role("bounded", trusting({"AWS": team.user}), allowing("ecs:*"), PermissionsBoundary=limit)
    for more in ({}, {"Policy": allowing("ecs:*")}):
        ecs = team.client("ecs", team.sts.assume_role(RoleArn=role, RoleSessionName="session", **more)["Credentials"])
        ecs.list_clusters()
        assert "permissions boundary" in refused("AccessDeniedException", 400, ecs.create_cluster, clusterName="x")


def test_a_changed_trust_counts_at_once_and_the_session_of_a_deleted_user_is_trusted_no_more(team):
    role = team.role("fickle", trusting({"AWS": team.user}), allowing("ecs:*"))
    own = team.client("sts", team.sts.get_session_token()["Credentials"])
    for sts in (team.sts, own):
        sts.assume_role(RoleArn=role, RoleSessionName="session")
    team.iam.update_assume_role_policy(RoleName="fickle", PolicyDocument=trusting({"Service": "ecs-tasks.amazonaws.com"}))
    refused("AccessDenied", 403, team.sts.assume_role, RoleArn=role, RoleSessionName="session")
    team.iam.update_assume_role_policy(RoleName="fickle", PolicyDocument=trusting({"AWS": team.user}))
    own.assume_role(RoleArn=role, RoleSessionName="session")
    for key in team.iam.list_access_keys(UserName=team.name)["AccessKeyMetadata"]:
        team.iam.delete_access_key(UserName=team.name, AccessKeyId=key["AccessKeyId"])
    team.iam.delete_user(UserName=team.name)
    refused("AccessDenied", 403, own.assume_role, RoleArn=role, RoleSessionName="session")


def test_whom_the_root_federates_may_what_the_session_says(team):
    made = team.server.client("sts").get_federation_token(Name="guest", Policy=allowing("ecs:ListClusters"))["Credentials"]
    ecs = team.client("ecs", made)
    ecs.list_clusters()
    refused("AccessDeniedException", 400, ecs.create_cluster, clusterName="x")


def test_keys_and_tokens_of_two_sessions_do_not_mix(team):
    role = team.role("mixed", trusting({"AWS": team.user}), allowing("ecs:*"))
    one, two = (team.sts.assume_role(RoleArn=role, RoleSessionName=name)["Credentials"] for name in ("one", "two"))
    refused("UnrecognizedClientException", 400, team.client("ecs", {**one, "SessionToken": two["SessionToken"]}).list_clusters)
    refused("UnrecognizedClientException", 400, team.client("ecs", {**one, "SessionToken": None}).list_clusters)
    refused("InvalidClientTokenId", 403, team.client("sts", {**one, "SessionToken": "A" * 100}).get_caller_identity)
    refused("InvalidSignatureException", 400, team.client("ecs", {**one, "SecretAccessKey": two["SecretAccessKey"]}).list_clusters)
    team.client("ecs", one).list_clusters()
