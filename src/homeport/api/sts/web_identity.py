"""Credentials for whoever shows a token of an issuer that an account trusts, such as a CI system's: no key of ours, no secret.

Owns: `WebIdentities` (whose token it is), AssumeRoleWithWebIdentity. The front door asks the role's trust policy between the two
(`api/sts/permission.py`). Reading tokens is `iam.web_identity`'s, asking issuers `issuer.py`'s: it happens outside of every transaction.
"""

from __future__ import annotations

from typing import Any

from homeport.api.call import Call, Context
from homeport.api.signature import Principal
from homeport.api.sts.input import duration, policies, session_tags, transitive
from homeport.api.sts.issuer import IssuerKeys
from homeport.api.sts.session import credentials_json, issued_for, key_id_of, role_of
from homeport.errors import AccessDeniedError, InvalidIdentityTokenError, InvalidParameterError
from homeport.iam.session import Session
from homeport.iam.web_identity import proven, read
from homeport.model import arn
from homeport.store.tables import OIDC_PROVIDERS


class WebIdentities:
    """Finds out who shows a token. One per server."""

    def __init__(self, context: Context, keys: IssuerKeys) -> None:
        self._context = context
        self._keys = keys

    async def __call__(self, request: Any) -> Principal:
        """The provider's principal in the role's account, with what the token says.

        Raises InvalidParameterError for what is no role, InvalidIdentityTokenError, WebIdentityExpiredError, IdpCommunicationError,
        IdpRejectedClaimError. Nobody is asked about a token whose issuer the account does not know.
        """
        role = arn.parse_arn(request.RoleArn)
        if role is None or role.service != "iam" or not role.resource.startswith("role/"):
            raise InvalidParameterError(f"{request.RoleArn} is invalid")
        token = read(request.WebIdentityToken)
        key = f"{role.account}/{token.issuer.partition('://')[2]}"
        provider = await self._context.store.view(lambda reader: reader.get(OIDC_PROVIDERS, key))
        if provider is None or provider.issuer != token.issuer:
            raise InvalidIdentityTokenError(f"No OpenIDConnect provider found in your account for {token.issuer[:255]}")
        signing_key = await self._keys.key_of(token)
        claims = proven(token, signing_key, client_ids=provider.client_ids, now=self._context.clock.now())
        return Principal(role.account, arn.oidc_provider_arn(role.account, provider.name), identity=claims)


async def assume_role_with_web_identity(call: Call, request: Any) -> dict[str, Any]:
    """AssumeRoleWithWebIdentity: a session of the role, for at most as long as the role says.

    Session tags and the source identity are those of the token. Raises InvalidParameterError, MalformedPolicyDocumentError,
    PackedPolicyTooLargeError.
    """
    claims = call.identity
    if claims is None:
        raise AccessDeniedError("Not authorized to perform sts:AssumeRoleWithWebIdentity")
    _require_built(request)
    own = policies(request, call.account)
    given = session_tags(claims.tags)
    keys = transitive(claims.transitive, given)
    role, now = await call.view(lambda reader: (role_of(reader, request.RoleArn), call.context.clock.now()))
    seconds = duration(request.DurationSeconds, role.session_seconds_max, default=3600)
    host = claims.issuer.partition("://")[2].lower()
    session = Session(
        access_key_id=key_id_of(call, role.account),
        account=role.account,
        arn=arn.session_arn(role.account, role.name, request.RoleSessionName),
        source_arn=request.RoleArn,
        source_id=role.id,
        issued_at=int(now),
        expires_at=int(now) + seconds,
        policies=own or None,
        tags=given,
        transitive=keys,
        source_identity=claims.source_identity,
        claims=((f"{host}:sub", claims.subject), (f"{host}:aud", claims.audience), ("aws:federatedprovider", call.principal_arn)),
    )
    issued = await issued_for(call, session)
    answer: dict[str, Any] = {
        "Credentials": credentials_json(session, issued),
        "SubjectFromWebIdentityToken": claims.subject,
        "AssumedRoleUser": {"AssumedRoleId": f"{role.id}:{session.name}", "Arn": session.arn},
        "Provider": claims.issuer,
        "Audience": claims.audience,
    }
    if own or given:
        answer["PackedPolicySize"] = issued.packed_percent
    if claims.source_identity:
        answer["SourceIdentity"] = claims.source_identity
    return answer


def _require_built(request: Any) -> None:
    if request.ProviderId:
        raise InvalidParameterError("ProviderId is for OAuth 2.0 access tokens, which are not taken here; OpenID Connect ID tokens go without it.")
    if request.MinimumSessionTokenSize:
        raise InvalidParameterError("MinimumSessionTokenSize is not built yet.")
