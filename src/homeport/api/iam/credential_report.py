"""The credential report: every user and its credentials, as a table.

Owns: GenerateCredentialReport, GetCredentialReport. Nothing is kept: the report is made when it is fetched, and so is always there and never old.
Source: IAM user guide, "Generate credential reports for your AWS account" (its columns).
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any, Final

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.access_key import KEYS_MAX
from homeport.api.iam.entity import USER
from homeport.model import arn
from homeport.store.table import Reader
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS

_KEY_COLUMNS: Final = ("active", "last_rotated", "last_used_date", "last_used_region", "last_used_service")
COLUMNS: Final = (
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    "password_last_used",
    "password_last_changed",
    "password_next_rotation",
    "mfa_active",
    *(f"access_key_{number}_{column}" for number in range(1, KEYS_MAX + 1) for column in _KEY_COLUMNS),
    *(f"cert_{number}_{column}" for number in range(1, 3) for column in ("active", "last_rotated")),
)
_NONE: Final = "N/A"


async def generate_credential_report(call: Call, request: Any) -> dict[str, Any]:
    """GenerateCredentialReport: COMPLETE at once."""
    return {"State": "COMPLETE", "Description": "The report is made when it is fetched."}


async def get_credential_report(call: Call, request: Any) -> dict[str, Any]:
    """GetCredentialReport: the root first, then the users by name."""
    now = call.context.clock.now()
    content = await call.view(lambda reader: _report(reader, call))
    return {"Content": content, "ReportFormat": "text/csv", "GeneratedTime": int(now)}


def _report(reader: Reader, call: Call) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval=_NONE, lineterminator="\n")
    table.writeheader()
    account = reader.get(ACCOUNTS, call.account)
    root = arn.root_arn(call.account)
    owners = [("<root_account>", root, account.created_at if account is not None else 0.0)]
    owners += [(user.name, entity.arn_of(USER, user), user.created_at) for user in USER.of_account(reader, call.account, None)]
    for name, owner, created in owners:
        table.writerow({"user": name, "arn": owner, "user_creation_time": _date(created), **_NO_OTHERS, **_keys(reader, call, owner)})
    return text.getvalue().encode()


_NO_OTHERS: Final = {"password_enabled": "false", "mfa_active": "false", "cert_1_active": "false", "cert_2_active": "false"}


def _keys(reader: Reader, call: Call, owner: str) -> dict[str, str]:
    found: dict[str, str] = {f"access_key_{number}_active": "false" for number in range(1, KEYS_MAX + 1)}
    keys = sorted(reader.find(ACCESS_KEYS, "principal", owner), key=lambda key: (key.created_at, key.id))
    for number, key in enumerate(keys[:KEYS_MAX], 1):
        used = call.context.last_uses.last(reader, key.id) if call.context.last_uses is not None else None
        shown = ("true" if key.status == "Active" else "false", _date(key.created_at), _NONE, _NONE, _NONE)
        if used is not None:
            shown = (*shown[:2], _date(used.at), used.region, used.service)
        found |= {f"access_key_{number}_{column}": value for column, value in zip(_KEY_COLUMNS, shown, strict=True)}
    return found


def _date(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).isoformat()
