"""The accounts of the installation: making, listing, closing and reopening them, and their quotas.

Owns: CreateAccount, DescribeAccount, ListAccounts, CloseAccount, ReopenAccount, PutAccountQuota, DeleteAccountQuota, ListAccountQuotas. Names,
members and statuses are those of AWS Organizations where it has them; there an account is made in the background, here at once. Only principals
of the account that the installation was made with may call them, whatever policies others have; everybody may ask for their own account's quotas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.config import QUOTAS
from homeport.errors import (
    AccessDeniedError,
    AccountAlreadyClosedError,
    AccountNotFoundError,
    ClientError,
    ConstraintViolationError,
    InvalidParameterError,
)
from homeport.model import account as model
from homeport.model import arn
from homeport.model.account import Account
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.role import Role
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS, ROLES
from homeport.vault.keyring import place_of

PAGE_MAX: Final = 100
"""Largest and default page."""
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,48}[A-Za-z0-9])?")
_ID: Final = re.compile(r"[0-9]{12}")
_IDS_TRIED: Final = 8
"""Drawn for one account: that all of so many are taken does not happen."""
_ADMINISTRATOR: Final = "arn:aws:iam::aws:policy/AdministratorAccess"


def require_management(call: Call) -> None:
    """Raises AccessDeniedError for callers of any account but the one that manages the installation."""
    if call.account != call.context.management:
        raise AccessDeniedError("You don't have permissions to access this resource: only the installation's management account has.")


async def create_account(call: Call, request: Any) -> dict[str, Any]:
    """CreateAccount: the account, its root's access key, told this once, and a role in it that administrators of the management account may assume.

    Raises AccessDeniedError, InvalidParameterError, ClientError for a name or id that is taken, ConstraintViolationError above accounts_max.
    """
    require_management(call)
    name = _name_of(request.AccountName)
    wanted = _id_of(request.AccountId) if request.AccountId else ""
    ids = (wanted,) if wanted else tuple(call.ids.digits(12) for _ in range(_IDS_TRIED))
    key_id, role_id, vault = call.ids.access_key_id(), call.ids.iam_id("AROA"), call.context.vault
    sealed = vault.seal(call.ids.secret(), place_of(ACCESS_KEYS.name, key_id))

    def create(tx: Transaction) -> dict[str, Any]:
        _require_room(tx, call, name)
        account_id = next((each for each in ids if tx.get(ACCOUNTS, each) is None), None)
        if account_id is None:
            raise ClientError(f"There is an account {ids[0]} already.")
        tx.put(ACCOUNTS, Account(id=account_id, name=name, created_at=tx.now))
        root = arn.root_arn(account_id)
        tx.put(ACCESS_KEYS, AccessKey(id=key_id, secret=sealed, account=account_id, principal_arn=root, created_at=tx.now))
        tx.put(ROLES, _access_role(call, account_id, request.RoleName or model.ACCESS_ROLE, role_id, tx.now))
        return {"AccountId": account_id, "AccessKeyId": key_id, "at": tx.now}

    made = await call.update(create)
    status = {
        "Id": f"car-{made['AccountId']}",
        "AccountName": name,
        "State": "SUCCEEDED",
        "RequestedTimestamp": made["at"],
        "CompletedTimestamp": made["at"],
        "AccountId": made["AccountId"],
    }
    # The same call sent again tells the key that was made the first time.
    key = await call.view(lambda reader: reader.get(ACCESS_KEYS, made["AccessKeyId"]))
    told = vault.open(key.secret, place_of(ACCESS_KEYS.name, key.id)).reveal() if key is not None else ""
    return {"CreateAccountStatus": status, "AccessKey": {"AccessKeyId": made["AccessKeyId"], "SecretAccessKey": told}}


def _require_room(reader: Reader, call: Call, name: str) -> None:
    if next(reader.find(ACCOUNTS, "name", name.lower()), None) is not None:
        raise ClientError(f"There is an account named {name} already.")
    most = call.context.settings.accounts_max
    if reader.count(ACCOUNTS, "all", "") >= most:
        raise ConstraintViolationError(f"You've reached the limit of {most} accounts. The setting accounts_max changes it.")


def _access_role(call: Call, account_id: str, name: str, unique: str, now: float) -> Role:
    principal = {"AWS": arn.root_arn(call.context.management)}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return Role(account=account_id, name=name, id=unique, created_at=now, trust=trust, attached=(_ADMINISTRATOR,))


def _name_of(text: str) -> str:
    if not _NAME.fullmatch(text) or _ID.fullmatch(text):
        raise InvalidParameterError("AccountName must have 1 to 50 letters, digits, spaces, dots, hyphens and underscores, and be no account id.")
    return text


def _id_of(text: str) -> str:
    if not _ID.fullmatch(text) or text == "0" * 12:
        raise InvalidParameterError("AccountId must have 12 digits.")
    return text


async def describe_account(call: Call, request: Any) -> dict[str, Any]:
    """DescribeAccount. Raises AccessDeniedError, AccountNotFoundError."""
    require_management(call)
    return {"Account": await call.view(lambda reader: _account_json(call, _found(reader, request.AccountId)))}


async def list_accounts(call: Call, request: Any) -> dict[str, Any]:
    """ListAccounts, by id; closed ones too. Raises AccessDeniedError."""
    require_management(call)
    after = pagination.open_token(call, request.NextToken)

    def read(reader: Reader) -> dict[str, Any]:
        found, last = pagination.paginate(reader.scan(ACCOUNTS, after=after), limit=request.MaxResults or PAGE_MAX, key=lambda each: each.id)
        answer: dict[str, Any] = {"Accounts": [_account_json(call, account) for account in found]}
        return answer if last is None else {**answer, "NextToken": pagination.page_token(call, last)}

    return await call.view(read)


async def close_account(call: Call, request: Any) -> dict[str, Any]:
    """CloseAccount: SUSPENDED from now on; no key and no session of it is taken any more. What it has stays, and what runs there runs on.

    Raises AccessDeniedError, AccountNotFoundError, AccountAlreadyClosedError, ConstraintViolationError for the management account.
    """
    require_management(call)

    def close(tx: Transaction) -> None:
        account = _found(tx, request.AccountId)
        if account.id == call.context.management:
            raise ConstraintViolationError("The management account cannot be closed.")
        if account.status != model.ACTIVE:
            raise AccountAlreadyClosedError(f"The account {account.id} is closed already.")
        tx.put(ACCOUNTS, msgspec.structs.replace(account, status=model.SUSPENDED, closed_at=tx.now))

    await call.update(close)
    return {}


async def reopen_account(call: Call, request: Any) -> dict[str, Any]:
    """ReopenAccount: ACTIVE again, with the keys that it had; of one that is ACTIVE it stays so. AWS's support does this, an operation does not.

    Raises AccessDeniedError, AccountNotFoundError.
    """
    require_management(call)

    def reopen(tx: Transaction) -> None:
        tx.put(ACCOUNTS, msgspec.structs.replace(_found(tx, request.AccountId), status=model.ACTIVE, closed_at=0.0))

    await call.update(reopen)
    return {}


def _found(reader: Reader, account_id: str) -> Account:
    account = reader.get(ACCOUNTS, account_id)
    if account is None:
        raise AccountNotFoundError(f"There is no account {account_id}.")
    return account


def _account_json(call: Call, account: Account) -> dict[str, Any]:
    organization = model.organization_id(call.context.installation_id)
    return {
        "Id": account.id,
        "Arn": f"arn:aws:organizations::{call.context.management}:account/{organization}/{account.id}",
        "Name": account.name,
        "Status": account.status,
        "JoinedMethod": "INVITED" if account.id == call.context.management else "CREATED",
        "JoinedTimestamp": account.created_at,
        **({"ClosedTimestamp": account.closed_at} if account.closed_at else {}),
    }


# ---------------------------------------------------------------------------------------------------------------- quotas


async def put_account_quota(call: Call, request: Any) -> dict[str, Any]:
    """PutAccountQuota: another value than the installation's for one account. What is there already stays.

    Raises AccessDeniedError, AccountNotFoundError, InvalidParameterError for what is no quota.
    """
    value = request.Value
    await _change(call, request, lambda quotas: {**quotas, request.QuotaName: value})
    return {"Quota": _quota_json(call, request.QuotaName, value)}


async def delete_account_quota(call: Call, request: Any) -> dict[str, Any]:
    """DeleteAccountQuota: the installation's value counts again. Raises as PutAccountQuota."""
    await _change(call, request, lambda quotas: {name: value for name, value in quotas.items() if name != request.QuotaName})
    return {}


async def _change(call: Call, request: Any, change: Callable[[dict[str, int]], dict[str, int]]) -> None:
    require_management(call)
    if request.QuotaName not in QUOTAS:
        raise InvalidParameterError(f"{request.QuotaName} is no quota; these are: {', '.join(QUOTAS)}")

    def update(tx: Transaction) -> None:
        account = _found(tx, request.AccountId)
        tx.put(ACCOUNTS, msgspec.structs.replace(account, quotas=tuple(sorted(change(dict(account.quotas)).items()))))

    await call.update(update)


async def list_account_quotas(call: Call, request: Any) -> dict[str, Any]:
    """ListAccountQuotas: every quota of an account, by default the caller's. Raises AccessDeniedError for another's, AccountNotFoundError."""
    account_id = request.AccountId or call.account
    if account_id != call.account:
        require_management(call)

    def read(reader: Reader) -> dict[str, Any]:
        own = dict(_found(reader, account_id).quotas)
        defaults = msgspec.structs.asdict(call.context.settings)
        return {"Quotas": [_quota_json(call, name, own.get(name, defaults[name])) for name in QUOTAS]}

    return await call.view(read)


def _quota_json(call: Call, name: str, value: int) -> dict[str, Any]:
    return {"QuotaName": name, "Value": value, "DefaultValue": getattr(call.context.settings, name)}
