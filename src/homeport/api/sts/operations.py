"""STS's operations, in one list.

Owns: `OPERATIONS` (name → handler). Never holds logic.
"""

from __future__ import annotations

from typing import Final

from homeport.api.call import Handler
from homeport.api.sts import authorization_message, caller_identity, session, web_identity

OPERATIONS: Final[dict[str, Handler]] = {
    "AssumeRole": session.assume_role,
    "AssumeRoleWithWebIdentity": web_identity.assume_role_with_web_identity,
    "DecodeAuthorizationMessage": authorization_message.decode_authorization_message,
    "GetAccessKeyInfo": session.get_access_key_info,
    "GetCallerIdentity": caller_identity.get_caller_identity,
    "GetFederationToken": session.get_federation_token,
    "GetSessionToken": session.get_session_token,
}
NOTES: Final[dict[str, str]] = {
    "AssumeRole": "ProvidedContexts and MinimumSessionTokenSize are refused; there are no second factors",
    "AssumeRoleWithWebIdentity": "tokens of OpenID Connect issuers; OAuth 2.0 access tokens (ProviderId) and MinimumSessionTokenSize are refused",
    "DecodeAuthorizationMessage": "refusals bring messages with encoded_authorization_messages=true; matched statements are named, not quoted",
}
"""What is partial, or other than somebody may expect."""
