"""What each operation that lists tells a caller whose policy allows a part: all of what it asks for, or nothing.

AWS's lists are not filtered by policies: a call is allowed or refused as a whole. Which part it is for is its resource (a user, a service) or a
condition key (`ecs:cluster`); where the service authorization reference has neither, only `*` allows it. The tables have every List operation that is
built; the handlers are the real ones, behind the real front door.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from tests.conformance.test_accounts_apart import STRANGER, House, _house

from homeport.model.iam.policy import InlinePolicy
from homeport.server import OPERATIONS as BUILT
from homeport.store.tables import USERS
from homeport.testing.records import REGION

ECS: Final = f"arn:aws:ecs:{REGION}:{STRANGER}:"
IAM: Final = f"arn:aws:iam::{STRANGER}:"
OWN_CLUSTER: Final = {"ArnEquals": {"ecs:cluster": f"{ECS}cluster/own"}}
ISSUER: Final = f"{IAM}oidc-provider/own.example.com"


class Row(NamedTuple):
    """A list of one's own part, the same of another's, and what of a policy takes in the one and not the other."""

    own: dict[str, Any]
    other: dict[str, Any]
    resource: str
    condition: dict[str, Any] = {}


def by(member: str, kind: str) -> Row:
    """Of something that a member names."""
    return Row({member: "own"}, {member: "other"}, f"{IAM}{kind}/own")


def of_policy() -> Row:
    return Row({"PolicyArn": f"{IAM}policy/own"}, {"PolicyArn": f"{IAM}policy/other"}, f"{IAM}policy/own")


def in_cluster(resource: str, **more: Any) -> Row:
    return Row({"cluster": "own", **more}, {"cluster": "other", **more}, resource)


PARTS: Final[dict[str, Row]] = {
    "ecs:ListAttributes": in_cluster(f"{ECS}cluster/own", targetType="container-instance"),
    "ecs:ListContainerInstances": in_cluster(f"{ECS}cluster/own"),
    "ecs:ListServices": Row({"cluster": "own"}, {"cluster": "other"}, "*", OWN_CLUSTER),
    "ecs:ListTasks": in_cluster(f"{ECS}container-instance/own/*"),
    "ecs:ListDaemons": Row({"clusterArn": "own"}, {"clusterArn": "other"}, "*", OWN_CLUSTER),
    "ecs:ListDaemonDeployments": Row({"daemonArn": f"{ECS}daemon/own/d"}, {"daemonArn": f"{ECS}daemon/other/d"}, f"{ECS}daemon/own/*"),
    "ecs:ListServiceDeployments": in_cluster(f"{ECS}service/own/*", service="web"),
    "ecs:ListTagsForResource": Row({"resourceArn": f"{ECS}cluster/own"}, {"resourceArn": f"{ECS}cluster/other"}, f"{ECS}cluster/own"),
    "ecs:ListGateways": Row({"names": ["own"]}, {"names": ["other"]}, f"{ECS}gateway/own"),
    "ecs:ListGatewayClusterAssociations": Row({"gateway": "own"}, {"gateway": "other"}, f"{ECS}gateway/own"),
    "ecs:ListGatewayRoutes": Row({"gateway": "own"}, {"gateway": "other"}, f"{ECS}gateway/own"),
    **{
        f"iam:{name}": by("UserName", "user")
        for name in (
            "ListAccessKeys",
            "ListAttachedUserPolicies",
            "ListGroupsForUser",
            "ListMFADevices",
            "ListSSHPublicKeys",
            "ListServiceSpecificCredentials",
            "ListSigningCertificates",
            "ListUserPolicies",
            "ListUserTags",
        )
    },
    **{f"iam:{name}": by("GroupName", "group") for name in ("ListAttachedGroupPolicies", "ListGroupPolicies")},
    **{
        f"iam:{name}": by("RoleName", "role")
        for name in ("ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListRolePolicies", "ListRoleTags")
    },
    **{f"iam:{name}": of_policy() for name in ("ListEntitiesForPolicy", "ListPolicyTags", "ListPolicyVersions")},
    "iam:ListInstanceProfileTags": by("InstanceProfileName", "instance-profile"),
    "iam:ListOpenIDConnectProviderTags": Row({"OpenIDConnectProviderArn": ISSUER}, {"OpenIDConnectProviderArn": f"{ISSUER}/other"}, ISSUER),
}
WHOLE: Final[dict[str, dict[str, Any]]] = {
    "ecs:ListAccountSettings": {},
    "ecs:ListClusters": {},
    "ecs:ListDaemonTaskDefinitions": {},
    "ecs:ListServicesByNamespace": {"namespace": "own"},
    "ecs:ListTaskDefinitionFamilies": {},
    "ecs:ListTaskDefinitions": {},
    "iam:ListAccountAliases": {},
    "iam:ListGroups": {},
    "iam:ListInstanceProfiles": {},
    "iam:ListMFADeviceTags": {"SerialNumber": "123456789"},
    "iam:ListOpenIDConnectProviders": {},
    "iam:ListPolicies": {},
    "iam:ListRoles": {},
    "iam:ListSAMLProviders": {},
    "iam:ListServerCertificates": {},
    "iam:ListUsers": {},
    "iam:ListVirtualMFADevices": {},
}
"""Lists of all that an account has: with what they must be told."""


@pytest.fixture
async def house():
    made, _ = await _house()
    yield made
    await made.context.store.close()


async def answer(house: House, name: str, members: dict[str, Any], statement: dict[str, Any]) -> str:
    """What a user with this one statement is answered: "allowed" (whatever came of it) or "refused"."""
    document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})

    def write(tx: Any) -> None:
        user = tx.get(USERS, f"{STRANGER}/boss")
        tx.put(USERS, msgspec.structs.replace(user, inline=(InlinePolicy(name="all", document=document),)))

    await house.context.store.update(write, cause="test")
    service, _, operation = name.partition(":")
    text = await house.call(service, operation, members, "BADMIN")
    assert not re.search(r"^5|Validation|Serialization|MalformedInput|not built", text), text  # nothing that is found out before policies are asked
    return "refused" if "AccessDenied" in text else "allowed"


def test_the_tables_have_every_list_that_is_built():
    built = {f"{service}:{name}" for service in ("ecs", "iam", "sts") for name in BUILT[service] if name.startswith("List")}
    assert PARTS.keys() | WHOLE.keys() == built
    assert not PARTS.keys() & WHOLE.keys()


@pytest.mark.parametrize("name", sorted(PARTS))
async def test_who_may_list_a_part_lists_that_part_and_nothing_else(name, house):
    row = PARTS[name]
    part = {"Action": name, "Resource": row.resource, **({"Condition": row.condition} if row.condition else {})}
    assert await answer(house, name, row.own, part) == "allowed"
    assert await answer(house, name, row.other, part) == "refused"
    assert await answer(house, name, row.own, {"NotAction": name, "Resource": "*"}) == "refused"
    assert await answer(house, name, row.other, {"Action": name, "Resource": "*"}) == "allowed"


@pytest.mark.parametrize("name", sorted(WHOLE))
async def test_a_list_of_everything_is_for_who_may_list_everything(name, house):
    service = name.partition(":")[0]
    for part in (f"arn:aws:{service}:*:*:cluster/*", f"arn:aws:{service}:*:*:*/*", f"arn:aws:{service}:*:{STRANGER}:*"):
        assert await answer(house, name, WHOLE[name], {"Action": name, "Resource": part}) == "refused", part
    assert await answer(house, name, WHOLE[name], {"Action": name, "Resource": "*"}) == "allowed"


UNNAMED: Final = {"ecs:ListGateways": {}, "ecs:ListGatewayClusterAssociations": {"cluster": "own"}, "ecs:ListGatewayRoutes": {"cluster": "own"}}


@pytest.mark.parametrize("name", sorted(UNNAMED))
async def test_who_may_list_of_one_does_not_list_all_by_naming_none(name, house):
    assert await answer(house, name, UNNAMED[name], {"Action": name, "Resource": PARTS[name].resource}) == "refused"


@pytest.mark.parametrize("name", ["iam:ListAccessKeys", "iam:ListMFADevices", "iam:ListSSHPublicKeys"])
async def test_who_names_nobody_means_themselves(name, house):
    assert await answer(house, name, {}, {"Action": name, "Resource": f"{IAM}user/boss"}) == "allowed"
    assert await answer(house, name, {}, {"Action": name, "Resource": f"{IAM}user/own"}) == "refused"
