"""Operations on instance profiles.

Owns: create, get, delete, list; the one role of a profile.
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.entity import PROFILE, ROLE
from homeport.api.iam.role import role_json
from homeport.errors import DeleteConflictError, IamLimitExceededError, NoSuchEntityError
from homeport.model.iam.role import InstanceProfile
from homeport.store.table import Reader, Transaction
from homeport.store.tables import INSTANCE_PROFILES, ROLES


async def create_instance_profile(call: Call, request: Any) -> dict[str, Any]:
    """CreateInstanceProfile."""
    unique, tags = call.ids.iam_id(PROFILE.prefix), entity.tags_of(request.Tags)

    def create(tx: Transaction) -> dict[str, Any]:
        PROFILE.require_new(tx, call.account, request.InstanceProfileName)
        made = InstanceProfile(
            account=call.account, name=request.InstanceProfileName, path=request.Path or "/", id=unique, created_at=tx.now, tags=tags
        )
        tx.put(INSTANCE_PROFILES, made)
        return profile_json(tx, made)

    return {"InstanceProfile": await call.update(create)}


async def get_instance_profile(call: Call, request: Any) -> dict[str, Any]:
    """GetInstanceProfile."""
    found = await call.view(lambda reader: profile_json(reader, PROFILE.find(reader, call.account, request.InstanceProfileName)))
    return {"InstanceProfile": found}


async def delete_instance_profile(call: Call, request: Any) -> dict[str, Any]:
    """DeleteInstanceProfile: without a role."""

    def delete(tx: Transaction) -> None:
        profile = PROFILE.find(tx, call.account, request.InstanceProfileName)
        if profile.role:
            raise DeleteConflictError("Cannot delete entity, must remove roles from instance profile first.")
        tx.delete(INSTANCE_PROFILES, profile.key)

    await call.update(delete)
    return {}


async def add_role_to_instance_profile(call: Call, request: Any) -> dict[str, Any]:
    """AddRoleToInstanceProfile: one role at most."""

    def add(tx: Transaction) -> None:
        profile = PROFILE.find(tx, call.account, request.InstanceProfileName)
        role = ROLE.find(tx, call.account, request.RoleName)
        if profile.role:
            raise IamLimitExceededError("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
        tx.put(INSTANCE_PROFILES, msgspec.structs.replace(profile, role=role.name))

    await call.update(add)
    return {}


async def remove_role_from_instance_profile(call: Call, request: Any) -> dict[str, Any]:
    """RemoveRoleFromInstanceProfile."""

    def remove(tx: Transaction) -> None:
        profile = PROFILE.find(tx, call.account, request.InstanceProfileName)
        if profile.role.lower() != request.RoleName.lower():
            raise NoSuchEntityError(f"The role with name {request.RoleName} cannot be found.")
        tx.put(INSTANCE_PROFILES, msgspec.structs.replace(profile, role=""))

    await call.update(remove)
    return {}


async def list_instance_profiles(call: Call, request: Any) -> dict[str, Any]:
    """ListInstanceProfiles under a path, by name."""
    return await entity.listed(call, request, PROFILE, "InstanceProfiles", profile_json)


async def list_instance_profiles_for_role(call: Call, request: Any) -> dict[str, Any]:
    """ListInstanceProfilesForRole, by name."""

    def read(reader: Reader) -> dict[str, Any]:
        role = ROLE.find(reader, call.account, request.RoleName)
        found = sorted(reader.find(INSTANCE_PROFILES, "role", role.key), key=lambda profile: profile.key)
        profiles, more = entity.page(call, request, found, key=lambda profile: profile.key, filters=(role.key,))
        return {"InstanceProfiles": [profile_json(reader, profile) for profile in profiles], **more}

    return await call.view(read)


def profile_json(reader: Reader, profile: InstanceProfile) -> dict[str, Any]:
    """The API's form."""
    role = reader.get(ROLES, f"{profile.account}/{profile.role.lower()}") if profile.role else None
    return {
        "Path": profile.path,
        "InstanceProfileName": profile.name,
        "InstanceProfileId": profile.id,
        "Arn": entity.arn_of(PROFILE, profile),
        "CreateDate": int(profile.created_at),
        "Roles": [role_json(role, whole=False)] if role is not None else [],
        "Tags": entity.tags_json(profile.tags) or [],
    }
