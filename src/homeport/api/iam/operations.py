"""IAM's operations, in one list.

Owns: `OPERATIONS` (name → handler). Never holds logic. What is not here answers InvalidAction with "is not built yet".
"""

from __future__ import annotations

from typing import Final

from homeport.api.call import Handler
from homeport.api.iam import (
    absent,
    access_key,
    account,
    alias,
    attachment,
    context_keys,
    credential_report,
    group,
    instance_profile,
    managed_policy,
    oidc_provider,
    role,
    simulation,
    user,
)
from homeport.api.iam.entity import GROUP, PROFILE, ROLE, USER

OPERATIONS: Final[dict[str, Handler]] = {
    # users
    "CreateUser": user.create_user,
    "GetUser": user.get_user,
    "UpdateUser": user.update_user,
    "DeleteUser": user.delete_user,
    "ListUsers": user.list_users,
    "TagUser": attachment.tag(USER),
    "UntagUser": attachment.untag(USER),
    "ListUserTags": attachment.list_tags(USER),
    # access keys
    "CreateAccessKey": access_key.create_access_key,
    "UpdateAccessKey": access_key.update_access_key,
    "DeleteAccessKey": access_key.delete_access_key,
    "ListAccessKeys": access_key.list_access_keys,
    "GetAccessKeyLastUsed": access_key.get_access_key_last_used,
    # groups
    "CreateGroup": group.create_group,
    "GetGroup": group.get_group,
    "UpdateGroup": group.update_group,
    "DeleteGroup": group.delete_group,
    "ListGroups": group.list_groups,
    "AddUserToGroup": group.add_user_to_group,
    "RemoveUserFromGroup": group.remove_user_from_group,
    "ListGroupsForUser": group.list_groups_for_user,
    # roles
    "CreateRole": role.create_role,
    "GetRole": role.get_role,
    "UpdateRole": role.update_role,
    "UpdateRoleDescription": role.update_role_description,
    "UpdateAssumeRolePolicy": role.update_assume_role_policy,
    "DeleteRole": role.delete_role,
    "ListRoles": role.list_roles,
    "TagRole": attachment.tag(ROLE),
    "UntagRole": attachment.untag(ROLE),
    "ListRoleTags": attachment.list_tags(ROLE),
    "CreateServiceLinkedRole": role.create_service_linked_role,
    "DeleteServiceLinkedRole": role.delete_service_linked_role,
    "GetServiceLinkedRoleDeletionStatus": role.get_service_linked_role_deletion_status,
    # instance profiles
    "CreateInstanceProfile": instance_profile.create_instance_profile,
    "GetInstanceProfile": instance_profile.get_instance_profile,
    "DeleteInstanceProfile": instance_profile.delete_instance_profile,
    "AddRoleToInstanceProfile": instance_profile.add_role_to_instance_profile,
    "RemoveRoleFromInstanceProfile": instance_profile.remove_role_from_instance_profile,
    "ListInstanceProfiles": instance_profile.list_instance_profiles,
    "ListInstanceProfilesForRole": instance_profile.list_instance_profiles_for_role,
    "TagInstanceProfile": attachment.tag(PROFILE),
    "UntagInstanceProfile": attachment.untag(PROFILE),
    "ListInstanceProfileTags": attachment.list_tags(PROFILE),
    # managed policies
    "CreatePolicy": managed_policy.create_policy,
    "GetPolicy": managed_policy.get_policy,
    "DeletePolicy": managed_policy.delete_policy,
    "ListPolicies": managed_policy.list_policies,
    "CreatePolicyVersion": managed_policy.create_policy_version,
    "GetPolicyVersion": managed_policy.get_policy_version,
    "ListPolicyVersions": managed_policy.list_policy_versions,
    "SetDefaultPolicyVersion": managed_policy.set_default_policy_version,
    "DeletePolicyVersion": managed_policy.delete_policy_version,
    "ListEntitiesForPolicy": managed_policy.list_entities_for_policy,
    "TagPolicy": managed_policy.tag_policy,
    "UntagPolicy": managed_policy.untag_policy,
    "ListPolicyTags": managed_policy.list_policy_tags,
    # policies of users, groups and roles
    "AttachUserPolicy": attachment.attach(USER),
    "AttachGroupPolicy": attachment.attach(GROUP),
    "AttachRolePolicy": attachment.attach(ROLE),
    "DetachUserPolicy": attachment.detach(USER),
    "DetachGroupPolicy": attachment.detach(GROUP),
    "DetachRolePolicy": attachment.detach(ROLE),
    "ListAttachedUserPolicies": attachment.list_attached(USER),
    "ListAttachedGroupPolicies": attachment.list_attached(GROUP),
    "ListAttachedRolePolicies": attachment.list_attached(ROLE),
    "PutUserPolicy": attachment.put_inline(USER),
    "PutGroupPolicy": attachment.put_inline(GROUP),
    "PutRolePolicy": attachment.put_inline(ROLE),
    "GetUserPolicy": attachment.get_inline(USER),
    "GetGroupPolicy": attachment.get_inline(GROUP),
    "GetRolePolicy": attachment.get_inline(ROLE),
    "DeleteUserPolicy": attachment.delete_inline(USER),
    "DeleteGroupPolicy": attachment.delete_inline(GROUP),
    "DeleteRolePolicy": attachment.delete_inline(ROLE),
    "ListUserPolicies": attachment.list_inline(USER),
    "ListGroupPolicies": attachment.list_inline(GROUP),
    "ListRolePolicies": attachment.list_inline(ROLE),
    "PutUserPermissionsBoundary": attachment.put_boundary(USER),
    "PutRolePermissionsBoundary": attachment.put_boundary(ROLE),
    "DeleteUserPermissionsBoundary": attachment.delete_boundary(USER),
    "DeleteRolePermissionsBoundary": attachment.delete_boundary(ROLE),
    # the account
    "GenerateCredentialReport": credential_report.generate_credential_report,
    "GetCredentialReport": credential_report.get_credential_report,
    "GetAccountSummary": account.get_account_summary,
    "GetAccountAuthorizationDetails": account.get_account_authorization_details,
    "CreateAccountAlias": alias.create_account_alias,
    "DeleteAccountAlias": alias.delete_account_alias,
    "ListAccountAliases": alias.list_account_aliases,
    # issuers of web identities
    **oidc_provider.OPERATIONS,
    # what there is none of
    **absent.OPERATIONS,
    # what would be decided
    "GetContextKeysForCustomPolicy": context_keys.get_context_keys_for_custom_policy,
    "GetContextKeysForPrincipalPolicy": context_keys.get_context_keys_for_principal_policy,
    "SimulateCustomPolicy": simulation.simulate_custom_policy,
    "SimulatePrincipalPolicy": simulation.simulate_principal_policy,
}
_NONE: Final = "there are none here: lists are empty, one that is named is NoSuchEntity"
NOTES: Final[dict[str, str]] = {
    "CreateOpenIDConnectProvider": "thumbprints are kept and told, not used: certificates are checked against the trusted authorities",
    "UpdateOpenIDConnectProviderThumbprint": "as CreateOpenIDConnectProvider",
    "GenerateCredentialReport": "always COMPLETE: the report is made when it is fetched",
    "GetAccessKeyLastUsed": "at most six minutes late where another server was called; a crash loses at most five",
    **dict.fromkeys(absent.OPERATIONS, _NONE),
}
"""What is partial, or other than somebody may expect."""
