"""What a refusal tells beyond its sentence, where the installation wants it: an encoded message with the decision and all that it looked at.

Owns: `with_message`. How one is sealed is `iam.authorization_message`'s, reading one back is STS's.
"""

from __future__ import annotations

from homeport.api.call import Call
from homeport.errors import AccessDeniedError
from homeport.iam.authorization_message import message, sealed
from homeport.store.tables import SESSION_KEYS
from homeport.vault.keyring import place_of


async def with_message(call: Call, error: AccessDeniedError) -> AccessDeniedError:
    """`error` with an encoded message behind its words, if policies refused the call; in the words that EC2 has for it."""
    if error.refused is None:
        return error
    request, decision = error.refused
    key = await call.view(lambda reader: max(reader.scan(SESSION_KEYS), key=lambda each: each.created_at))
    principal_id = str(request.context.get("aws:userid", call.account))
    told = message(request, decision, principal_id=principal_id)
    text = sealed(
        told,
        account=call.account,
        now=call.context.clock.now(),
        key_id=key.id,
        key=call.context.vault.open(key.secret, place_of(SESSION_KEYS.name, key.id)),
    )
    return AccessDeniedError(f"{error.message}. Encoded authorization failure message: {text}", ruling=error.ruling)
