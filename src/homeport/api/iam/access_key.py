"""Operations on access keys.

Owns: create, update, delete, list. A secret is told once, at creation: it is stored sealed, and no kept answer has it. Verifying signatures is
`api/signature.py`'s.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.entity import USER
from homeport.api.iam.user import own_name
from homeport.api.last_use import forget, owner_of, when
from homeport.errors import DeleteConflictError, IamLimitExceededError, NoSuchEntityError
from homeport.model import arn
from homeport.model.iam.access_key import AccessKey
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCESS_KEYS
from homeport.vault.keyring import place_of

KEYS_MAX: Final = 2


def _owner(reader: Reader, call: Call, name: str | None) -> tuple[str, str]:
    """(ARN, name) of whose keys are meant: a named user, else the caller."""
    root = arn.root_arn(call.account)
    if name is None and call.principal_arn == root:
        return root, call.account
    user = USER.find(reader, call.account, name or own_name(call))
    return entity.arn_of(USER, user), user.name


async def create_access_key(call: Call, request: Any) -> dict[str, Any]:
    """CreateAccessKey: Active, with a secret that is never told again, but to the same call sent again: that gets the secret of the key it made."""
    key_id, vault = call.ids.access_key_id(), call.context.vault
    sealed = vault.seal(call.ids.secret(), place_of(ACCESS_KEYS.name, key_id))

    def create(tx: Transaction) -> dict[str, Any]:
        owner, name = _owner(tx, call, request.UserName)
        if tx.count(ACCESS_KEYS, "principal", owner) >= KEYS_MAX:
            raise IamLimitExceededError(f"Cannot exceed quota for AccessKeysPerUser: {KEYS_MAX}")
        made = AccessKey(id=key_id, secret=sealed, account=call.account, principal_arn=owner, created_at=tx.now)
        tx.put(ACCESS_KEYS, made)
        return {"UserName": name, "AccessKeyId": made.id, "Status": made.status, "CreateDate": int(made.created_at)}

    made = await call.update(create)
    key = await call.view(lambda reader: reader.get(ACCESS_KEYS, made["AccessKeyId"]))
    if key is None:
        raise NoSuchEntityError(f"The Access Key with id {made['AccessKeyId']} cannot be found.")
    return {"AccessKey": made | {"SecretAccessKey": vault.open(key.secret, place_of(ACCESS_KEYS.name, key.id)).reveal()}}


async def update_access_key(call: Call, request: Any) -> dict[str, Any]:
    """UpdateAccessKey: Active or Inactive."""

    def update(tx: Transaction) -> None:
        key = _key(tx, call, request)
        if request.Status != "Active":
            _require_another(tx, call, key)
        tx.put(ACCESS_KEYS, msgspec.structs.replace(key, status=request.Status))

    await call.update(update)
    return {}


async def delete_access_key(call: Call, request: Any) -> dict[str, Any]:
    """DeleteAccessKey: requests signed with it are refused from then on."""

    def delete(tx: Transaction) -> None:
        key = _key(tx, call, request)
        _require_another(tx, call, key)
        tx.delete(ACCESS_KEYS, key.id)
        forget(tx, key.id)

    await call.update(delete)
    return {}


def _require_another(tx: Transaction, call: Call, key: AccessKey) -> None:
    """The oldest root key of the account that the installation was made with stays. Other accounts need none: see the role made with them."""
    if call.account != call.context.management:
        return
    root_keys = tx.find(ACCESS_KEYS, "principal", arn.root_arn(call.account))
    if key.id == min(root_keys, key=lambda each: (each.created_at, each.id), default=key).id and key.principal_arn == arn.root_arn(call.account):
        raise DeleteConflictError("The root user's first access key cannot be taken away: the installation's own programs sign with it.")


async def list_access_keys(call: Call, request: Any) -> dict[str, Any]:
    """ListAccessKeys, by id; no secrets."""

    def read(reader: Reader) -> dict[str, Any]:
        owner, name = _owner(reader, call, request.UserName)
        found = sorted(reader.find(ACCESS_KEYS, "principal", owner), key=lambda key: key.id)
        keys, more = entity.page(call, request, found, key=lambda key: key.id, filters=(owner,))
        shown = [{"UserName": name, "AccessKeyId": key.id, "Status": key.status, "CreateDate": int(key.created_at)} for key in keys]
        return {"AccessKeyMetadata": shown, **more}

    return await call.view(read)


async def get_access_key_last_used(call: Call, request: Any) -> dict[str, Any]:
    """GetAccessKeyLastUsed: of a key of the account. Raises NoSuchEntityError for any other."""

    def read(reader: Reader) -> dict[str, Any]:
        key = reader.get(ACCESS_KEYS, request.AccessKeyId)
        if key is None or key.account != call.account:
            raise NoSuchEntityError(f"The Access Key with id {request.AccessKeyId} cannot be found.")
        uses = call.context.last_uses
        return {"UserName": owner_of(key.principal_arn, call.account), "AccessKeyLastUsed": when(uses.last(reader, key.id) if uses else None)}

    return await call.view(read)


def _key(tx: Transaction, call: Call, request: Any) -> AccessKey:
    owner, _ = _owner(tx, call, request.UserName)
    key = tx.get(ACCESS_KEYS, request.AccessKeyId)
    if key is None or key.principal_arn != owner:
        raise NoSuchEntityError(f"The Access Key with id {request.AccessKeyId} cannot be found.")
    return key
