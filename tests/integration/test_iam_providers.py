"""OpenID Connect providers, the account's alias, and what no user has, as boto3 and Terraform's aws provider ask for them."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config
from tests.integration.test_iam import Server, allowing, refused, server

from homeport.api.iam.operations import OPERATIONS as IAM
from homeport.api.protocol import model
from homeport.api.sts.operations import OPERATIONS as STS

__all__ = ["server"]


@pytest.fixture
def iam(server: Server) -> Any:
    return server.client("iam")


def test_openid_connect_providers(iam, server):
    made = iam.create_open_id_connect_provider(
        Url="https://token.actions.example.com/org", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["A" * 40], Tags=[{"Key": "a", "Value": "b"}]
    )
    arn = made["OpenIDConnectProviderArn"]
    assert arn == f"arn:aws:iam::{server.account}:oidc-provider/token.actions.example.com/org"
    found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert (found["Url"], found["ClientIDList"], found["ThumbprintList"]) == ("token.actions.example.com/org", ["sts.amazonaws.com"], ["a" * 40])
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]
    refused("EntityAlreadyExists", 409, iam.create_open_id_connect_provider, Url="https://token.actions.example.com/org")
    for url in (
        "http://plain.example.com",
        "ftp://x.example.com",
        "https://x.example.com?a=b",
        "https://nodot",
        "https://user@x.example.com",
        "x",
        "https://a b.c",
    ):
        refused("InvalidInput", 400, iam.create_open_id_connect_provider, Url=url)
    assert [each["Arn"] for each in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]] == [arn]
    for client in ("other", "other"):
        iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=client)
    assert iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"] == ["sts.amazonaws.com", "other"]
    for client in ("other", "never-there"):
        iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=client)
    for number in range(99):
        iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID=f"c{number}")
    refused("LimitExceeded", 409, iam.add_client_id_to_open_id_connect_provider, OpenIDConnectProviderArn=arn, ClientID="one-more")
    refused("InvalidInput", 400, iam.update_open_id_connect_provider_thumbprint, OpenIDConnectProviderArn=arn, ThumbprintList=["x" * 40])
    refused("InvalidInput", 400, iam.update_open_id_connect_provider_thumbprint, OpenIDConnectProviderArn=arn, ThumbprintList=["0" * 40] * 6)
    iam.update_open_id_connect_provider_thumbprint(OpenIDConnectProviderArn=arn, ThumbprintList=["0" * 40])
    iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=[{"Key": "team", "Value": "red"}])
    iam.untag_open_id_connect_provider(OpenIDConnectProviderArn=arn, TagKeys=["A"])
    assert iam.list_open_id_connect_provider_tags(OpenIDConnectProviderArn=arn)["Tags"] == [{"Key": "team", "Value": "red"}]
    for wrong, code, status in (
        ("x" * 20, "InvalidInput", 400),
        (arn + "/no", "NoSuchEntity", 404),
        (arn.replace(server.account, "9" * 12), "NoSuchEntity", 404),
    ):
        refused(code, status, iam.get_open_id_connect_provider, OpenIDConnectProviderArn=wrong)
    assert iam.get_account_summary()["SummaryMap"]["Providers"] == 1
    iam.create_user(UserName="of-red")
    team = {"StringEquals": {"aws:ResourceTag/team": "red"}}
    iam.put_user_policy(
        UserName="of-red", PolicyName="p", PolicyDocument=allowing("iam:*OpenIDConnectProvider", "arn:aws:iam::*:oidc-provider/*", Condition=team)
    )
    red = server.as_user("iam", "of-red")
    red.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    refused("AccessDenied", 403, red.create_open_id_connect_provider, Url="https://of-red.example.com")
    refused("AccessDenied", 403, red.list_open_id_connect_providers)
    for _ in range(2):
        iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
    for number in range(100):
        iam.create_open_id_connect_provider(Url=f"https://n{number}.example.com")
    refused("LimitExceeded", 409, iam.create_open_id_connect_provider, Url="https://one-more.example.com")


def test_the_alias_of_an_account(iam, server):
    assert iam.list_account_aliases()["AccountAliases"] == []
    refused("NoSuchEntity", 404, iam.delete_account_alias, AccountAlias="acme")
    iam.create_account_alias(AccountAlias="acme")
    iam.create_account_alias(AccountAlias="acme-works")
    assert iam.list_account_aliases()["AccountAliases"] == ["acme-works"]
    refused("EntityAlreadyExists", 409, iam.create_account_alias, AccountAlias="acme-works")
    for wrong in ("Acme", "-acme", "ac--me", "123456789012"):
        refused("ValidationError", 400, iam.create_account_alias, AccountAlias=wrong)
    iam.delete_account_alias(AccountAlias="acme-works")
    assert iam.list_account_aliases()["AccountAliases"] == []


def test_terraform_deletes_a_user_by_force(iam):
    """The calls of `aws_iam_user` with `force_destroy`, in its order."""
    iam.create_user(UserName="terraformed")
    iam.create_access_key(UserName="terraformed")
    for group in iam.list_groups_for_user(UserName="terraformed")["Groups"]:
        iam.remove_user_from_group(GroupName=group["GroupName"], UserName="terraformed")
    for key in iam.list_access_keys(UserName="terraformed")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="terraformed", AccessKeyId=key["AccessKeyId"])
    assert iam.list_ssh_public_keys(UserName="terraformed")["SSHPublicKeys"] == []
    assert iam.list_virtual_mfa_devices(AssignmentStatus="Assigned")["VirtualMFADevices"] == []
    assert iam.list_mfa_devices(UserName="terraformed")["MFADevices"] == []
    refused("NoSuchEntity", 404, iam.get_login_profile, UserName="terraformed")
    refused("NoSuchEntity", 404, iam.delete_login_profile, UserName="terraformed")
    assert iam.list_signing_certificates(UserName="terraformed")["Certificates"] == []
    assert iam.list_service_specific_credentials(UserName="terraformed")["ServiceSpecificCredentials"] == []
    iam.delete_user(UserName="terraformed")
    for operation in (iam.list_ssh_public_keys, iam.list_mfa_devices, iam.get_login_profile, iam.list_signing_certificates):
        assert "user with name" in refused("NoSuchEntity", 404, operation, UserName="terraformed")
    refused("NoSuchEntity", 404, iam.get_account_password_policy)
    assert iam.list_saml_providers()["SAMLProviderList"] == []


def test_which_condition_keys_policies_look_at(iam, server):
    conditions = {"StringEquals": {"aws:PrincipalTag/team": "red", "AWS:SourceIp": "1"}, "Bool": {"aws:SecureTransport": "true"}}
    document = allowing("ecs:*", "arn:aws:ecs:*:*:service/${aws:username}/${*}${ecs:cluster, 'none'}", Condition=conditions)
    wanted = ["aws:PrincipalTag/team", "aws:SecureTransport", "AWS:SourceIp", "aws:username", "ecs:cluster"]
    assert iam.get_context_keys_for_custom_policy(PolicyInputList=[document, allowing("*")])["ContextKeyNames"] == wanted
    refused("InvalidInput", 400, iam.get_context_keys_for_custom_policy, PolicyInputList=["{}"])
    iam.create_user(UserName="looked-at")
    iam.create_group(GroupName="looked-at")
    iam.add_user_to_group(GroupName="looked-at", UserName="looked-at")
    iam.put_group_policy(GroupName="looked-at", PolicyName="p", PolicyDocument=document)
    policy = iam.create_policy(PolicyName="looks", PolicyDocument=allowing("*", Condition={"Null": {"aws:TagKeys": "false"}}))["Policy"]["Arn"]
    iam.attach_user_policy(UserName="looked-at", PolicyArn=policy)
    source = f"arn:aws:iam::{server.account}:user/looked-at"
    found = iam.get_context_keys_for_principal_policy(PolicySourceArn=source)["ContextKeyNames"]
    assert sorted(found, key=str.lower) == sorted([*wanted, "aws:TagKeys"], key=str.lower)
    refused("NoSuchEntity", 404, iam.get_context_keys_for_principal_policy, PolicySourceArn=source + "x")


@pytest.mark.parametrize(("service", "built"), [("iam", IAM), ("sts", STS)])
def test_what_is_not_built_says_so(service, built, server):
    missing = sorted(model.load(service).operations.keys() - built.keys())
    assert missing
    client = server.client(service)
    plain = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    client = boto3.client(
        service, endpoint_url=server.url, region_name="us-east-1", aws_access_key_id=server.key, aws_secret_access_key=server.secret, config=plain
    )
    names = {operation: method for method, operation in client.meta.method_to_api_mapping.items()}
    for operation in missing:
        assert refused("InvalidAction", 400, getattr(client, names[operation])) == f"{operation} is not built yet."
