"""Operations on users.

Owns: create, get, update, delete, list, tags. Membership in groups is `group.py`'s, keys are `access_key.py`'s, policies `attachment.py`'s.
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.entity import USER
from homeport.api.iam.managed_policy import require_attachable
from homeport.errors import DeleteConflictError, NoSuchEntityError
from homeport.model import arn
from homeport.model.iam.user import User
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS, USERS


async def create_user(call: Call, request: Any) -> dict[str, Any]:
    """CreateUser."""
    unique, tags = call.ids.iam_id(USER.prefix), entity.tags_of(request.Tags)

    def create(tx: Transaction) -> User:
        USER.require_new(tx, call.account, request.UserName)
        if request.PermissionsBoundary:
            require_attachable(tx, call.account, request.PermissionsBoundary)
        made = User(
            account=call.account,
            name=request.UserName,
            path=request.Path or "/",
            id=unique,
            created_at=tx.now,
            tags=tags,
            boundary=request.PermissionsBoundary or "",
        )
        tx.put(USERS, made)
        return made

    return {"User": user_json(await call.update(create))}


async def get_user(call: Call, request: Any) -> dict[str, Any]:
    """GetUser: one by name, else the caller."""
    return {"User": await call.view(lambda reader: _described(reader, call, request.UserName))}


def _described(reader: Reader, call: Call, name: str | None) -> dict[str, Any]:
    if name is None and call.principal_arn == arn.root_arn(call.account):
        account = reader.get(ACCOUNTS, call.account)
        created = account.created_at if account else 0.0
        return {"Path": "/", "UserName": call.account, "UserId": call.account, "Arn": call.principal_arn, "CreateDate": created}
    return user_json(USER.find(reader, call.account, name or own_name(call)))


def own_name(call: Call) -> str:
    """The name of the user who calls. Raises NoSuchEntityError for a caller that is no user."""
    parsed = arn.parse_arn(call.principal_arn)
    if parsed is None or not parsed.resource.startswith("user/"):
        raise NoSuchEntityError("Must specify userName when calling with non-User credentials")
    return parsed.resource.rpartition("/")[2]


async def update_user(call: Call, request: Any) -> dict[str, Any]:
    """UpdateUser: another name or path. Its access keys go with it; its ARN changes."""

    def update(tx: Transaction) -> None:
        before, after = USER.rename(tx, call.account, request)
        renamed = entity.arn_of(USER, after)
        for key in list(tx.find(ACCESS_KEYS, "principal", entity.arn_of(USER, before))):
            tx.put(ACCESS_KEYS, msgspec.structs.replace(key, principal_arn=renamed))

    await call.update(update)
    return {}


async def delete_user(call: Call, request: Any) -> dict[str, Any]:
    """DeleteUser: what belongs to it must be gone."""

    def delete(tx: Transaction) -> None:
        user = USER.find(tx, call.account, request.UserName)
        entity.require_no_policies(user)
        if tx.count(ACCESS_KEYS, "principal", entity.arn_of(USER, user)):
            raise DeleteConflictError("Cannot delete entity, must delete access keys first.")
        if user.groups:
            raise DeleteConflictError("Cannot delete entity, must remove users from group first.")
        tx.delete(USERS, user.key)

    await call.update(delete)
    return {}


async def list_users(call: Call, request: Any) -> dict[str, Any]:
    """ListUsers under a path, by name."""
    return await entity.listed(call, request, USER, "Users", lambda _, user: user_json(user, whole=False))


def user_json(user: User, *, whole: bool = True) -> dict[str, Any]:
    """The API's form; lists leave tags and boundary out."""
    more = {"Tags": entity.tags_json(user.tags), "PermissionsBoundary": entity.boundary_json(user.boundary)} if whole else {}
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": entity.arn_of(USER, user),
        "CreateDate": int(user.created_at),
        **more,
    }
