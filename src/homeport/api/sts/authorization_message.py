"""DecodeAuthorizationMessage: why a call was refused, for who may know.

Owns: the operation. Where messages come from is `api/refusal.py`, how one is sealed `iam.authorization_message`.
"""

from __future__ import annotations

from typing import Any

from homeport.api.call import Call
from homeport.errors import InvalidAuthorizationMessageError
from homeport.iam.authorization_message import INVALID, key_id_of, opened
from homeport.store.tables import SESSION_KEYS
from homeport.vault.keyring import place_of


async def decode_authorization_message(call: Call, request: Any) -> dict[str, Any]:
    """DecodeAuthorizationMessage: a message that a refusal of a call of this account brought, within a day.

    Raises InvalidAuthorizationMessageError for any other text.
    """
    key_id = key_id_of(request.EncodedMessage)
    key = await call.view(lambda reader: reader.get(SESSION_KEYS, key_id))
    if key is None:
        raise InvalidAuthorizationMessageError(INVALID)
    secret = call.context.vault.open(key.secret, place_of(SESSION_KEYS.name, key.id))
    return {"DecodedMessage": opened(request.EncodedMessage, secret, account=call.account, now=call.context.clock.now())}
