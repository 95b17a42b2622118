"""Who am I: the first question of every tool.

Owns: GetCallerIdentity. Never decides anything: every authenticated caller may ask.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.call import Call
from homeport.model import arn
from homeport.store.table import Reader
from homeport.store.tables import USERS

_MADE_UP: Final = ("assumed-role", "federated-user")


async def get_caller_identity(call: Call, request: Any) -> dict[str, Any]:
    """The caller's account, ARN and unique id: the account's number for its root, a user's id, or a role's id with the name of the session."""
    session = call.session
    if session is not None and session.kind in _MADE_UP:
        source = session.source_id if session.kind == "assumed-role" else session.account
        return {"UserId": f"{source}:{session.name}", "Account": call.account, "Arn": call.principal_arn}
    unique = await call.view(lambda reader: _unique_id(reader, call))
    return {"UserId": unique, "Account": call.account, "Arn": call.principal_arn}


def _unique_id(reader: Reader, call: Call) -> str:
    parsed = arn.parse_arn(call.principal_arn)
    kind, *path = parsed.resource.split("/") if parsed else [""]
    if kind == "user" and (user := reader.get(USERS, f"{call.account}/{path[-1].lower()}")) is not None:
        return str(user.id)
    return call.account
