"""Temporary credentials.

Owns: AssumeRole, GetSessionToken, GetFederationToken, GetAccessKeyInfo. Nothing is stored: a session is in its token (`iam.session`).
Who may assume a role the front door has asked before (`api/sts/permission.py`); what else an operation demands stands here.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from homeport.api.call import Call
from homeport.api.sts.input import duration, policies, tags, transitive
from homeport.errors import AccessDeniedError, InvalidParameterError, PackedPolicyTooLargeError, UnrecognizedClientError
from homeport.iam.session import Issued, Session, access_key_id, issue
from homeport.model import account as account_model
from homeport.model import arn
from homeport.model.iam.role import Role
from homeport.store.table import Reader
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS, ROLES, SESSION_KEYS, USERS
from homeport.vault.keyring import place_of

CHAINED_SECONDS_MAX: Final = 3600
_TOKEN_SECONDS: Final = 43_200
_TOKEN_SECONDS_MAX: Final = 129_600
_ROOT_SECONDS_MAX: Final = 3600


async def assume_role(call: Call, request: Any) -> dict[str, Any]:
    """AssumeRole: a session of the role, for at most as long as the role says, and an hour for one role from another's session.

    Raises InvalidParameterError, MalformedPolicyDocumentError, PackedPolicyTooLargeError; AccessDeniedError for an account's root.
    """
    if call.principal_arn == arn.root_arn(call.account):
        raise AccessDeniedError("Roles may not be assumed by root accounts.")
    _require_no_mfa(request)
    for member in ("MinimumSessionTokenSize", "ProvidedContexts"):
        if getattr(request, member):
            raise InvalidParameterError(f"{member} is not built yet.")
    own = policies(request, call.account)
    given = tags(request.Tags)
    keys = transitive(request.TransitiveTagKeys, given)
    inherited = tuple(pair for pair in call.session.tags if pair[0].lower() in call.session.transitive) if call.session is not None else ()
    if {key.lower() for key, _ in given} & {key.lower() for key, _ in inherited}:
        raise InvalidParameterError(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session."
        )
    identity = _source_identity(call, request)
    role, now = await call.view(lambda reader: (role_of(reader, request.RoleArn), call.context.clock.now()))
    seconds = duration(request.DurationSeconds, role.session_seconds_max, default=3600)
    if call.session is not None and call.session.kind == "assumed-role" and seconds > CHAINED_SECONDS_MAX:
        raise InvalidParameterError("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
    session = Session(
        access_key_id=key_id_of(call, role.account),
        account=role.account,
        arn=arn.session_arn(role.account, role.name, request.RoleSessionName),
        source_arn=request.RoleArn,
        source_id=role.id,
        issued_at=int(now),
        expires_at=int(now) + seconds,
        policies=own or None,
        tags=inherited + given,
        transitive=tuple(key.lower() for key, _ in inherited) + keys,
        source_identity=identity,
        task=call.session.task if call.session is not None else "",
    )
    issued = await issued_for(call, session)
    answer: dict[str, Any] = {
        "Credentials": credentials_json(session, issued),
        "AssumedRoleUser": {"AssumedRoleId": f"{role.id}:{session.name}", "Arn": session.arn},
    }
    if own or session.tags:
        answer["PackedPolicySize"] = issued.packed_percent
    if identity:
        answer["SourceIdentity"] = identity
    return answer


async def get_session_token(call: Call, request: Any) -> dict[str, Any]:
    """GetSessionToken: the caller's own identity for a time. Raises AccessDeniedError for a caller who has a session already."""
    _require_no_mfa(request)
    session = await _of_user(call, request, call.principal_arn, None)
    return {"Credentials": credentials_json(session, await issued_for(call, session))}


async def get_federation_token(call: Call, request: Any) -> dict[str, Any]:
    """GetFederationToken: a session of a name of the caller's choosing, with what both the caller and the session's policies allow."""
    name = f"arn:aws:sts::{call.account}:federated-user/{request.Name}"
    session = await _of_user(call, request, name, policies(request, call.account), tags(request.Tags))
    issued = await issued_for(call, session)
    return {
        "Credentials": credentials_json(session, issued),
        "FederatedUser": {"FederatedUserId": f"{call.account}:{request.Name}", "Arn": name},
        "PackedPolicySize": issued.packed_percent,
    }


async def get_access_key_info(call: Call, request: Any) -> dict[str, Any]:
    """GetAccessKeyInfo: the account of a key; a session's key has it in its id. Raises InvalidParameterError for a key that is none of ours."""
    key = await call.view(lambda reader: reader.get(ACCESS_KEYS, request.AccessKeyId))
    account = key.account if key is not None else _account_in(request.AccessKeyId)
    if not account:
        raise InvalidParameterError("The access key ID is not one of this installation's.")
    return {"Account": account}


async def _of_user(call: Call, request: Any, name: str, own: tuple[str, ...] | None, given: tuple[tuple[str, str], ...] = ()) -> Session:
    if call.session is not None:
        raise AccessDeniedError(f"Cannot call {call.operation} with session credentials")
    is_root = call.principal_arn == arn.root_arn(call.account)
    longest = _ROOT_SECONDS_MAX if is_root else _TOKEN_SECONDS_MAX
    seconds = min(request.DurationSeconds or _TOKEN_SECONDS, longest)
    unique = "" if is_root else await call.view(lambda reader: _user_id(reader, call))
    now = int(call.context.clock.now())
    return Session(
        access_key_id=key_id_of(call, call.account),
        account=call.account,
        arn=name,
        source_arn=call.principal_arn,
        source_id=unique,
        issued_at=now,
        expires_at=now + seconds,
        policies=own,
        tags=given,
    )


def _user_id(reader: Reader, call: Call) -> str:
    user = reader.get(USERS, f"{call.account}/{call.principal_arn.rpartition('/')[2].lower()}")
    if user is None:
        raise UnrecognizedClientError
    return str(user.id)


def role_of(reader: Reader, role_arn: str) -> Role:
    """The role of that ARN. Raises InvalidParameterError, AccessDeniedError where its account is closed."""
    parsed = arn.parse_arn(role_arn)
    role = reader.get(ROLES, f"{parsed.account}/{parsed.resource.rpartition('/')[2].lower()}") if parsed else None
    if role is None or arn.role_arn(role.account, role.path, role.name) != role_arn:
        raise InvalidParameterError(f"{role_arn} is invalid")
    account = reader.get(ACCOUNTS, role.account)
    if account is not None and account.status != account_model.ACTIVE:
        raise AccessDeniedError(f"The account {role.account} is closed.")
    return role


def _source_identity(call: Call, request: Any) -> str:
    inherited = call.session.source_identity if call.session is not None else ""
    if inherited and request.SourceIdentity and request.SourceIdentity != inherited:
        raise AccessDeniedError("The source identity of a session cannot be changed.")
    return inherited or request.SourceIdentity or ""


def _require_no_mfa(request: Any) -> None:
    if request.SerialNumber or request.TokenCode:
        raise AccessDeniedError("MultiFactorAuthentication failed with invalid MFA one time pass code. There are no MFA devices here.")


async def issued_for(call: Call, session: Session) -> Issued:
    """The credentials of `session`, from the installation's newest key. Raises PackedPolicyTooLargeError."""
    key = await call.view(lambda reader: max(reader.scan(SESSION_KEYS), key=lambda each: each.created_at))
    issued = issue(session, key.id, call.context.vault.open(key.secret, place_of(SESSION_KEYS.name, key.id)))
    if issued.packed_percent > 100:
        raise PackedPolicyTooLargeError(f"Packed size of session policies and tags consumes {issued.packed_percent}% of the allotted space.")
    return issued


def credentials_json(session: Session, issued: Issued) -> dict[str, Any]:
    """STS's form of them."""
    return {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": issued.secret,
        "SessionToken": issued.token,
        "Expiration": session.expires_at,
    }


def key_id_of(call: Call, account: str) -> str:
    """Key id of a session of `account`."""
    return access_key_id(account, call.ids.iam_id(""))


def _account_in(key_id: str) -> str:
    if not key_id.startswith("ASIA") or len(key_id) != 20:
        return ""
    try:
        account = int.from_bytes(base64.b32decode(key_id[4:12]), "big")
    except ValueError:
        return ""
    return f"{account:012d}" if account < 10**12 else ""
