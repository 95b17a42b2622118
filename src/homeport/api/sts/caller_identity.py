"""Who am I: the first question of every tool.

Owns: GetCallerIdentity. Never decides anything: every authenticated caller may ask.
"""

from __future__ import annotations

from typing import Any

from homeport.api.call import Call
from homeport.model import arn


async def get_caller_identity(call: Call, request: Any) -> dict[str, Any]:
    """The caller's account, ARN and unique id; the account's number is the root's id."""
    if call.principal_arn != arn.root_arn(call.account):
        raise AssertionError("only the root has keys")
    return {"UserId": call.account, "Account": call.account, "Arn": call.principal_arn}
