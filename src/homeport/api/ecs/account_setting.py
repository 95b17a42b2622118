"""Operations on account settings: put, put the default, delete, list.

Owns: whose setting counts (the principal's own, then the account's default, which is the root user's, then ECS's), and `effective`.
Never acts on a setting: whoever it concerns asks `effective`.
Source: ecs-reference 3.20 and the operations' documentation.
"""

from __future__ import annotations

import re
from typing import Any, Final

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import page
from homeport.errors import InvalidParameterError
from homeport.model.arn import root_arn
from homeport.model.ecs import account_setting as model
from homeport.model.ecs.account_setting import AccountSetting
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCOUNT_SETTINGS

LIST_MAX: Final = 10
"""Largest and default page of ListAccountSettings (ecs-reference 1.1)."""
_PRINCIPAL = re.compile(r"arn:aws:iam::(\d{12}):(root|(?:user|role)/\S{1,512})", re.ASCII)


def effective(reader: Reader, name: str, *, account: str, principal_arn: str) -> str:
    """The value that counts for the principal."""
    for whose in (principal_arn, root_arn(account)):
        setting = reader.get(ACCOUNT_SETTINGS, f"{account}/{name}/{whose}")
        if setting is not None:
            return setting.value
    return model.VALUES[name][0]


async def put_account_setting(call: Call, request: Any) -> dict[str, Any]:
    """PutAccountSetting: for the caller, or for the principal that the root user names."""
    return await _put(call, request.name, request.value, _principal(call, request.principalArn))


async def put_account_setting_default(call: Call, request: Any) -> dict[str, Any]:
    """PutAccountSettingDefault: for every principal of the account that has none of its own."""
    return await _put(call, request.name, request.value, root_arn(call.account))


async def _put(call: Call, name: str, value: str, principal_arn: str) -> dict[str, Any]:
    _require_changeable(call, name)
    if value not in model.VALUES[name]:
        raise InvalidParameterError(f"Invalid value for {name}. Valid values are {', '.join(sorted(model.VALUES[name]))}.")

    def put(tx: Transaction) -> dict[str, Any]:
        before = tx.get(ACCOUNT_SETTINGS, f"{call.account}/{name}/{principal_arn}")
        if before is None or before.value != value:
            tx.put(ACCOUNT_SETTINGS, AccountSetting(account=call.account, name=name, principal_arn=principal_arn, value=value, set_at=tx.now))
        return {"setting": _json(name, value, principal_arn)}

    return await call.update(put)


async def delete_account_setting(call: Call, request: Any) -> dict[str, Any]:
    """DeleteAccountSetting: from now on the account's default counts for the principal; the answer has the value that counts then."""
    _require_changeable(call, request.name)
    principal_arn = _principal(call, request.principalArn)

    def delete(tx: Transaction) -> dict[str, Any]:
        tx.delete(ACCOUNT_SETTINGS, f"{call.account}/{request.name}/{principal_arn}")
        return {"setting": _json(request.name, effective(tx, request.name, account=call.account, principal_arn=principal_arn), principal_arn)}

    return await call.update(delete)


async def list_account_settings(call: Call, request: Any) -> dict[str, Any]:
    """ListAccountSettings: those that the principal has of its own or, with effectiveSettings, the value of each that counts for it."""
    if request.value and not request.name:
        raise InvalidParameterError("You must specify a setting name to filter by value.")
    limit = page.limit_of(request.maxResults, limit_max=LIST_MAX, default=LIST_MAX)
    principal_arn = _principal(call, request.principalArn)
    filters = (request.name, request.value, principal_arn, bool(request.effectiveSettings))

    def look(reader: Reader) -> dict[str, Any]:
        after = pagination.open_token(call, request.nextToken, filters)
        shown = (
            item for item in _values(reader, call, principal_arn, own=not request.effectiveSettings) if _listed(item, request) and item[0] > after
        )
        found, last = pagination.paginate(shown, limit=limit, key=lambda item: item[0])
        return {"settings": [_json(name, value, principal_arn) for name, value in found], **page.next_page(call, last, filters)}

    return await call.view(look)


def _values(reader: Reader, call: Call, principal_arn: str, *, own: bool) -> list[tuple[str, str]]:
    """(name, value), by name."""
    found = []
    for name in sorted(model.VALUES):
        mine = reader.get(ACCOUNT_SETTINGS, f"{call.account}/{name}/{principal_arn}")
        if not own:
            found.append((name, effective(reader, name, account=call.account, principal_arn=principal_arn)))
        elif mine is not None:
            found.append((name, mine.value))
    return found


def _listed(item: tuple[str, str], request: Any) -> bool:
    name, value = item
    return request.name in (None, name) and (not request.value or request.value == value)


def _require_changeable(call: Call, name: str) -> None:
    if name in model.ROOT_ONLY and call.principal_arn != root_arn(call.account):
        raise InvalidParameterError(f"Only the root user can change {name}.")
    if name in model.AWS_MANAGED:
        raise InvalidParameterError(f"The setting {name} is managed by AWS and cannot be changed.")


def _principal(call: Call, given: str | None) -> str:
    """The principal whose setting it is about. Raises InvalidParameterError for one of another account, or of somebody else than the caller."""
    if not given or given == call.principal_arn:
        return call.principal_arn
    found = _PRINCIPAL.fullmatch(given)
    if found is None or found[1] != call.account:
        raise InvalidParameterError(f"Invalid principal: {given} is no user or role of this account.")
    if call.principal_arn != root_arn(call.account):
        raise InvalidParameterError("Only the root user can name another principal.")
    return given


def _json(name: str, value: str, principal_arn: str) -> dict[str, Any]:
    return {"name": name, "value": value, "principalArn": principal_arn, "type": "aws_managed" if name in model.AWS_MANAGED else "user"}
