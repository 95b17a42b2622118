"""Operations on the whole account.

Owns: GetAccountSummary, GetAccountAuthorizationDetails.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.access_key import KEYS_MAX
from homeport.api.iam.attachment import ATTACHED_MAX, attached_json
from homeport.api.iam.entity import GROUP, PROFILE, ROLE, USER, Kind
from homeport.api.iam.group import GROUPS_OF_A_USER_MAX, group_json
from homeport.api.iam.instance_profile import profile_json
from homeport.api.iam.managed_policy import DOCUMENT_CHARACTERS_MAX, POLICIES_MAX, policy_json, version_json
from homeport.api.iam.role import TRUST_CHARACTERS_MAX, role_json
from homeport.api.iam.user import user_json
from homeport.model import arn
from homeport.model.iam.policy import VERSIONS_MAX
from homeport.store.table import Reader
from homeport.store.tables import ACCESS_KEYS, INSTANCE_PROFILES, MANAGED_POLICIES, OIDC_PROVIDERS

_QUOTAS: Final = {
    "UsersQuota": USER.quota,
    "GroupsQuota": GROUP.quota,
    "RolesQuota": ROLE.quota,
    "InstanceProfilesQuota": PROFILE.quota,
    "PoliciesQuota": POLICIES_MAX,
    "GroupsPerUserQuota": GROUPS_OF_A_USER_MAX,
    "AccessKeysPerUserQuota": KEYS_MAX,
    "AttachedPoliciesPerUserQuota": ATTACHED_MAX,
    "AttachedPoliciesPerGroupQuota": ATTACHED_MAX,
    "AttachedPoliciesPerRoleQuota": ATTACHED_MAX,
    "UserPolicySizeQuota": USER.inline_characters_max,
    "GroupPolicySizeQuota": GROUP.inline_characters_max,
    "RolePolicySizeQuota": ROLE.inline_characters_max,
    "AssumeRolePolicySizeQuota": TRUST_CHARACTERS_MAX,
    "PolicySizeQuota": DOCUMENT_CHARACTERS_MAX,
    "VersionsPerPolicyQuota": VERSIONS_MAX,
    "AccountMFAEnabled": 0,
    "MFADevices": 0,
    "MFADevicesInUse": 0,
    "ServerCertificates": 0,
    "AccountSigningCertificatesPresent": 0,
}


async def get_account_summary(call: Call, request: Any) -> dict[str, Any]:
    """GetAccountSummary: what there is, and the quotas."""

    def read(reader: Reader) -> dict[str, int]:
        counts = {name: reader.count(kind.table, "account", call.account) for name, kind in _COUNTED.items()}
        counts["Policies"] = reader.count(MANAGED_POLICIES, "account", call.account)
        counts["PolicyVersionsInUse"] = sum(len(policy.versions) for policy in reader.find(MANAGED_POLICIES, "account", call.account))
        counts["Providers"] = reader.count(OIDC_PROVIDERS, "account", call.account)
        return {**counts, **_QUOTAS, "AccountAccessKeysPresent": int(reader.count(ACCESS_KEYS, "principal", arn.root_arn(call.account)) > 0)}

    return {"SummaryMap": await call.view(read)}


_COUNTED: Final[dict[str, Kind]] = {"Users": USER, "Groups": GROUP, "Roles": ROLE, "InstanceProfiles": PROFILE}
_LISTS: Final = {"User": "UserDetailList", "Group": "GroupDetailList", "Role": "RoleDetailList", "LocalManagedPolicy": "Policies"}


async def get_account_authorization_details(call: Call, request: Any) -> dict[str, Any]:
    """GetAccountAuthorizationDetails: every user, group, role and policy of the account with all its policies."""
    wanted = set(request.Filter or _LISTS)

    def read(reader: Reader) -> dict[str, Any]:
        found = [
            (f"{noun}/{record.key}", noun, record)
            for noun, table in (("User", USER.table), ("Group", GROUP.table), ("Role", ROLE.table), ("LocalManagedPolicy", MANAGED_POLICIES))
            if noun in wanted
            for record in reader.find(table, "account", call.account)
        ]
        filters = tuple(sorted(wanted))
        items, more = entity.page(call, request, sorted(found, key=lambda each: each[0]), key=lambda each: each[0], filters=filters)
        lists: dict[str, list[Any]] = {name: [] for name in _LISTS.values()}
        for _, noun, record in items:
            lists[_LISTS[noun]].append(_DETAILS[noun](reader, record))
        return {**lists, **more}

    return await call.view(read)


def _policies(record: Any) -> list[dict[str, str]]:
    return [{"PolicyName": policy.name, "PolicyDocument": entity.document_json(policy.document)} for policy in record.inline]


def _user(reader: Reader, user: Any) -> dict[str, Any]:
    return {
        **user_json(user),
        "UserPolicyList": _policies(user),
        "GroupList": list(user.groups),
        "AttachedManagedPolicies": attached_json(user.attached),
    }


def _group(reader: Reader, group: Any) -> dict[str, Any]:
    return {**group_json(group), "GroupPolicyList": _policies(group), "AttachedManagedPolicies": attached_json(group.attached)}


def _role(reader: Reader, role: Any) -> dict[str, Any]:
    profiles = sorted(reader.find(INSTANCE_PROFILES, "role", role.key), key=lambda profile: profile.key)
    return {
        **role_json(role),
        "InstanceProfileList": [profile_json(reader, profile) for profile in profiles],
        "RolePolicyList": _policies(role),
        "AttachedManagedPolicies": attached_json(role.attached),
    }


def _policy(reader: Reader, policy: Any) -> dict[str, Any]:
    versions = [version_json(policy, version) for version in reversed(policy.versions)]
    return {**policy_json(reader, policy), "PolicyVersionList": versions}


_DETAILS: Final = {"User": _user, "Group": _group, "Role": _role, "LocalManagedPolicy": _policy}
