"""Operations on groups and on who is in them.

Owns: create, get, update, delete, list; adding and removing users. Policies are `attachment.py`'s.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.entity import GROUP, USER
from homeport.api.iam.user import user_json
from homeport.errors import DeleteConflictError, IamLimitExceededError, InvalidInputError, NoSuchEntityError
from homeport.model.iam.group import Group
from homeport.store.table import Reader, Transaction
from homeport.store.tables import GROUPS, USERS

GROUPS_OF_A_USER_MAX: Final = 10
RENAMED_MEMBERS_MAX: Final = 90
"""Users that a group may have to be renamed in one transaction."""


async def create_group(call: Call, request: Any) -> dict[str, Any]:
    """CreateGroup."""
    unique = call.ids.iam_id(GROUP.prefix)

    def create(tx: Transaction) -> Group:
        GROUP.require_new(tx, call.account, request.GroupName)
        made = Group(account=call.account, name=request.GroupName, path=request.Path or "/", id=unique, created_at=tx.now)
        tx.put(GROUPS, made)
        return made

    return {"Group": group_json(await call.update(create))}


async def get_group(call: Call, request: Any) -> dict[str, Any]:
    """GetGroup: the group and its users."""

    def read(reader: Reader) -> dict[str, Any]:
        group = GROUP.find(reader, call.account, request.GroupName)
        members = sorted(reader.find(USERS, "group", group.key), key=lambda user: user.key)
        users, more = entity.page(call, request, members, key=lambda user: user.key, filters=(group.key,))
        return {"Group": group_json(group), "Users": [user_json(user, whole=False) for user in users], **more}

    return await call.view(read)


async def update_group(call: Call, request: Any) -> dict[str, Any]:
    """UpdateGroup: another name or path."""

    def update(tx: Transaction) -> None:
        before, after = GROUP.rename(tx, call.account, request)
        members = list(tx.find(USERS, "group", before.key)) if after.name != before.name else []
        if len(members) > RENAMED_MEMBERS_MAX:
            raise InvalidInputError(f"A group of more than {RENAMED_MEMBERS_MAX} users cannot be renamed.")
        for user in members:
            names = tuple(after.name if name.lower() == before.name.lower() else name for name in user.groups)
            tx.put(USERS, msgspec.structs.replace(user, groups=names))

    await call.update(update)
    return {}


async def delete_group(call: Call, request: Any) -> dict[str, Any]:
    """DeleteGroup: it must be empty and without policies."""

    def delete(tx: Transaction) -> None:
        group = GROUP.find(tx, call.account, request.GroupName)
        if tx.count(USERS, "group", group.key):
            raise DeleteConflictError("Cannot delete entity, must remove users from group first.")
        entity.require_no_policies(group)
        tx.delete(GROUPS, group.key)

    await call.update(delete)
    return {}


async def list_groups(call: Call, request: Any) -> dict[str, Any]:
    """ListGroups under a path, by name."""
    return await entity.listed(call, request, GROUP, "Groups", lambda _, group: group_json(group))


async def add_user_to_group(call: Call, request: Any) -> dict[str, Any]:
    """AddUserToGroup; being in it already is no error."""

    def add(tx: Transaction) -> None:
        group = GROUP.find(tx, call.account, request.GroupName)
        user = USER.find(tx, call.account, request.UserName)
        if group.name in user.groups:
            return
        if len(user.groups) >= GROUPS_OF_A_USER_MAX:
            raise IamLimitExceededError(f"Cannot exceed quota for GroupsPerUser: {GROUPS_OF_A_USER_MAX}")
        tx.put(USERS, msgspec.structs.replace(user, groups=(*user.groups, group.name)))

    await call.update(add)
    return {}


async def remove_user_from_group(call: Call, request: Any) -> dict[str, Any]:
    """RemoveUserFromGroup."""

    def remove(tx: Transaction) -> None:
        group = GROUP.find(tx, call.account, request.GroupName)
        user = USER.find(tx, call.account, request.UserName)
        if group.name not in user.groups:
            raise NoSuchEntityError(f"User {user.name} is not in the group {group.name}.")
        tx.put(USERS, msgspec.structs.replace(user, groups=tuple(name for name in user.groups if name != group.name)))

    await call.update(remove)
    return {}


async def list_groups_for_user(call: Call, request: Any) -> dict[str, Any]:
    """ListGroupsForUser, by name."""

    def read(reader: Reader) -> dict[str, Any]:
        user = USER.find(reader, call.account, request.UserName)
        found = sorted((GROUP.find(reader, call.account, name) for name in user.groups), key=lambda group: group.key)
        groups, more = entity.page(call, request, found, key=lambda group: group.key, filters=(user.key,))
        return {"Groups": [group_json(group) for group in groups], **more}

    return await call.view(read)


def group_json(group: Group) -> dict[str, Any]:
    """The API's form."""
    return {
        "Path": group.path,
        "GroupName": group.name,
        "GroupId": group.id,
        "Arn": entity.arn_of(GROUP, group),
        "CreateDate": int(group.created_at),
    }
