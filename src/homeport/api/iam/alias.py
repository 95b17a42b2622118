"""Operations on the account's alias: a second name, of which an account has at most one.

Owns: create, delete, list. Who may make accounts, and their names, is `api/homeport/account.py`'s.
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.api.call import Call
from homeport.errors import EntityAlreadyExistsError, InvalidParameterError, NoSuchEntityError
from homeport.model.account import Account
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCOUNTS


async def create_account_alias(call: Call, request: Any) -> dict[str, Any]:
    """CreateAccountAlias: takes the place of the one before. Raises EntityAlreadyExistsError for one that any account has."""
    alias = request.AccountAlias
    if len(alias) == 12 and alias.isdigit():
        raise InvalidParameterError("An account alias cannot be 12 digits: it could be taken for an account's id.")

    def create(tx: Transaction) -> None:
        if tx.count(ACCOUNTS, "alias", alias):
            raise EntityAlreadyExistsError(f"The account alias {alias} already exists.")
        tx.put(ACCOUNTS, msgspec.structs.replace(_account(tx, call), alias=alias))

    await call.update(create)
    return {}


async def delete_account_alias(call: Call, request: Any) -> dict[str, Any]:
    """DeleteAccountAlias. Raises NoSuchEntityError for one that is not the account's."""

    def delete(tx: Transaction) -> None:
        account = _account(tx, call)
        if account.alias != request.AccountAlias:
            raise NoSuchEntityError(f"The account alias {request.AccountAlias} cannot be found.")
        tx.put(ACCOUNTS, msgspec.structs.replace(account, alias=""))

    await call.update(delete)
    return {}


async def list_account_aliases(call: Call, request: Any) -> dict[str, Any]:
    """ListAccountAliases: one or none."""
    account = await call.view(lambda reader: _account(reader, call))
    return {"AccountAliases": [account.alias] if account.alias else [], "IsTruncated": False}


def _account(reader: Reader, call: Call) -> Account:
    account = reader.get(ACCOUNTS, call.account)
    if account is None:  # the one of a server that was made before there were several, and has not started anew
        raise NoSuchEntityError(f"The account {call.account} cannot be found.")
    return account
