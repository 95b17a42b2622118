"""Identities of hosts: a host joins with a token, renews its credentials by a proof, is looked at and revoked.

Owns: Join, RenewInstanceCredentials (both without a signature: a token or a proof says who asks), DescribeInstanceIdentity, ListInstanceIdentities,
RevokeInstanceIdentity. Credentials are a session of the host's role, bound to its identity; nothing is stored of them.

A proof names an instant and must be newer than the last one that was taken: what was overheard cannot be used again. Joining again with the same key
is the same attempt, whose answer may have been lost: it uses up nothing and makes nothing new.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
from typing import Any, Final

import msgspec

from homeport import log
from homeport.api import trusted
from homeport.api.call import Call
from homeport.api.ecs import page
from homeport.api.own_instance import REVOKED
from homeport.api.pagination import open_token, paginate
from homeport.api.sts.session import issued_for, key_id_of
from homeport.errors import AccessDeniedError, InvalidParameterError, ResourceNotFoundError
from homeport.iam import join_token as form
from homeport.iam import proof
from homeport.iam.session import Session
from homeport.model import arn
from homeport.model.account import ACTIVE
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.model.iam.join_token import JoinToken
from homeport.model.record import Instant
from homeport.store.table import Reader, Transaction
from homeport.store.tables import ACCOUNTS, CONTAINER_INSTANCES, INSTANCE_IDENTITIES, JOIN_TOKENS, ROLES

_NO_TOKEN: Final = "The join token is not valid."
_NO_PROOF: Final = "The proof is not one of this host's key over this request."

_log = log.logger("api")


async def join(call: Call, request: Any) -> dict[str, Any]:
    """Join: an identity, its first credentials, and what an agent needs to know, for a token and a key.

    Raises AccessDeniedError for a token that is unknown, used up or expired, and for a proof that does not hold; InvalidParameterError.
    """
    public, signed = _decoded("publicKey", request.publicKey, proof.KEY_BYTES), _decoded("proof", request.proof, proof.SIGNATURE_BYTES)
    parts = form.read(request.token)
    try:
        if parts is None:
            raise AccessDeniedError(_NO_TOKEN)
        _require_recent(call, request.instantMs)
        text = proof.text(proof.JOIN, installation=call.context.installation_id, subject=parts.id, instant_ms=request.instantMs)
        if not proof.holds(public, text, signed):
            raise AccessDeniedError(_NO_PROOF)
        fresh, instant = f"hi-{call.ids.hex(17)}", request.instantMs / 1000
        token = await call.view(lambda reader: _good_token(reader, parts, call.context.clock.now()))
        named = _as_session(call, token.account, token.role_arn, fresh)
        identity = await named.update(lambda tx: _joined(tx, parts, (fresh, public), instant))
    except AccessDeniedError as error:
        _refused(call, f"token {parts.id if parts else 'of another form'}", error)
        raise
    return await _credentials(call, identity)


async def renew_instance_credentials(call: Call, request: Any) -> dict[str, Any]:
    """RenewInstanceCredentials: new credentials for an identity, for a proof that is newer than the last one.

    Raises AccessDeniedError when the identity was revoked, its role is gone, or the proof does not hold or came before; InvalidParameterError.
    """
    signed = _decoded("proof", request.proof, proof.SIGNATURE_BYTES)
    instant = request.instantMs / 1000
    text = proof.text(proof.RENEW, installation=call.context.installation_id, subject=request.identityId, instant_ms=request.instantMs)

    def renew(tx: Transaction) -> InstanceIdentity:
        identity = tx.get(INSTANCE_IDENTITIES, request.identityId)
        if identity is None:
            raise AccessDeniedError(REVOKED)
        return _proved(tx, identity, instant)

    try:
        _require_recent(call, request.instantMs)
        known = await call.view(lambda reader: reader.get(INSTANCE_IDENTITIES, request.identityId))
        if known is None:
            raise AccessDeniedError(REVOKED)
        if not proof.holds(known.public_key, text, signed):
            raise AccessDeniedError(_NO_PROOF)
        identity = await _as_session(call, known.account, known.role_arn, known.id).update(renew)
    except AccessDeniedError as error:
        _refused(call, f"identity {request.identityId}", error)
        raise
    return await _credentials(call, identity)


async def describe_instance_identity(call: Call, request: Any) -> dict[str, Any]:
    """DescribeInstanceIdentity: by id, or the caller's own. Raises ResourceNotFoundError, also for one of another account."""
    wanted = request.identityId or (call.session.instance if call.session is not None else "")

    def read(reader: Reader) -> dict[str, Any]:
        identity = reader.get(INSTANCE_IDENTITIES, wanted)
        if identity is None or identity.account != call.account:
            raise ResourceNotFoundError(f"There is no instance identity {wanted}." if wanted else "The caller has no instance identity.")
        return {"instanceIdentity": _json(reader, call, identity)}

    return await call.view(read)


async def list_instance_identities(call: Call, request: Any) -> dict[str, Any]:
    """ListInstanceIdentities: every one of the account, by id, in pages."""
    limit = page.limit_of(request.maxResults)

    def read(reader: Reader) -> dict[str, Any]:
        after = open_token(call, request.nextToken)
        found = sorted((each for each in reader.find(INSTANCE_IDENTITIES, "account", call.account) if each.id > after), key=lambda each: each.id)
        identities, last = paginate(found, limit=limit, key=lambda each: each.id)
        return {"instanceIdentities": [_json(reader, call, each) for each in identities], **page.next_page(call, last)}

    return await call.view(read)


async def revoke_instance_identity(call: Call, request: Any) -> dict[str, Any]:
    """RevokeInstanceIdentity: it is gone; its credentials may nothing and its connections end at once. Raises ResourceNotFoundError."""

    def revoke(tx: Transaction) -> None:
        identity = tx.get(INSTANCE_IDENTITIES, request.identityId)
        if identity is None or identity.account != call.account:
            raise ResourceNotFoundError(f"There is no instance identity {request.identityId}.")
        tx.delete(INSTANCE_IDENTITIES, identity.id)

    await call.update(revoke)
    return {}


def _good_token(reader: Reader, parts: form.Parts, now: Instant) -> JoinToken:
    """The token that `parts` is the text of, before its expiry. Only who knows its secret is told more than that it is not valid."""
    token = reader.get(JOIN_TOKENS, parts.id)
    known = token.secret_sha256 if token is not None else form.hashed("")
    if not hmac.compare_digest(known, form.hashed(parts.secret)) or token is None:
        raise AccessDeniedError(_NO_TOKEN)
    if token.expires_at <= now:
        raise AccessDeniedError(f"The join token {token.id} has expired.")
    return token


def _joined(tx: Transaction, parts: form.Parts, newcomer: tuple[str, bytes], instant: Instant) -> InstanceIdentity:
    """The identity of `newcomer` (id to be, public key): of the attempt before, or made now, which uses up the token."""
    fresh, public = newcomer
    token = _good_token(tx, parts, tx.now)
    known = next((each for each in tx.find(INSTANCE_IDENTITIES, "token", token.id) if each.public_key == public), None)
    if known is not None:
        return _proved(tx, known, instant)
    if token.uses_left < 1:
        raise AccessDeniedError(f"The join token {token.id} is used up.")
    _require_role(tx, token)
    for before in list(tx.find(INSTANCE_IDENTITIES, "instance", token.instance)) if token.instance else ():
        tx.delete(INSTANCE_IDENTITIES, before.id)  # the new one takes its place
    tx.put(JOIN_TOKENS, msgspec.structs.replace(token, uses_left=token.uses_left - 1))
    identity = InstanceIdentity(
        id=fresh,
        account=token.account,
        cluster=token.cluster,
        role_arn=token.role_arn,
        role_id=token.role_id,
        public_key=public,
        token_id=token.id,
        joined_at=tx.now,
        proved_at=instant,
        instance=token.instance,
    )
    tx.put(INSTANCE_IDENTITIES, identity)
    return identity


def _proved(tx: Transaction, identity: InstanceIdentity, instant: Instant) -> InstanceIdentity:
    """`identity` with its newest proof, written. Raises AccessDeniedError for one that is not newer than the last."""
    if instant <= identity.proved_at:
        raise AccessDeniedError("The proof is not newer than the last one of this host: it was used before, or the host's clock went back.")
    _require_role(tx, identity)
    proved = msgspec.structs.replace(identity, proved_at=instant)
    tx.put(INSTANCE_IDENTITIES, proved)
    return proved


def _role_is_there(reader: Reader, owner: JoinToken | InstanceIdentity) -> bool:
    role = reader.get(ROLES, f"{owner.account}/{owner.role_arn.rpartition('/')[2].lower()}")
    return role is not None and role.id == owner.role_id


def _require_role(reader: Reader, owner: JoinToken | InstanceIdentity) -> None:
    account = reader.get(ACCOUNTS, owner.account)
    if account is not None and account.status != ACTIVE:
        raise AccessDeniedError(f"The account {owner.account} is closed.")
    if not _role_is_there(reader, owner):
        raise AccessDeniedError(f"The role {owner.role_arn} was deleted. Join this host anew with a new token.")


def _require_recent(call: Call, instant_ms: int) -> None:
    skew = call.settings.clock_skew_seconds
    if abs(instant_ms / 1000 - call.context.clock.now()) > skew:
        raise AccessDeniedError(f"The host's clock differs from the server's by more than {skew:g} s.")


def _decoded(member: str, text: str, size: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size:
        raise InvalidParameterError(f"{member} must be {size} bytes in base64.")
    return raw


def _as_session(call: Call, account: str, role_arn: str, identity_id: str) -> Call:
    """`call` with the host as its principal, for the journal."""
    return dataclasses.replace(call, account=account, principal_arn=arn.session_arn(account, role_arn.rpartition("/")[2], identity_id))


def _refused(call: Call, who: str, error: AccessDeniedError) -> None:
    _log.warning("%s refused: %s: %s", call.operation, who, error.message, extra={"fields": {"requestId": call.request_id}})


async def _credentials(call: Call, identity: InstanceIdentity) -> dict[str, Any]:
    now = int(call.context.clock.now())
    session = Session(
        access_key_id=key_id_of(call, identity.account),
        account=identity.account,
        arn=arn.session_arn(identity.account, identity.role_arn.rpartition("/")[2], identity.id),
        source_arn=identity.role_arn,
        source_id=identity.role_id,
        issued_at=now,
        expires_at=now + int(call.settings.instance_session_seconds),
        source_identity=identity.id,
        instance=identity.id,
    )
    issued = await issued_for(call, session)
    return {
        "identityId": identity.id,
        "accountId": identity.account,
        "region": call.region,
        "installationId": call.context.installation_id,
        "cluster": identity.cluster,
        "roleArn": identity.role_arn,
        "trustedCertificates": trusted.pem(call.context.trusted),
        **({"containerInstanceArn": container_instance_arn(call, identity)} if identity.instance else {}),
        "credentials": {
            "accessKeyId": session.access_key_id,
            "secretAccessKey": issued.secret,
            "sessionToken": issued.token,
            "issuedAt": session.issued_at,
            "expiresAt": session.expires_at,
        },
    }


def container_instance_arn(call: Call, identity: InstanceIdentity) -> str:
    """The ARN of a host's container instance."""
    return arn.container_instance_arn(call.region, *identity.instance.split("/"))


def _json(reader: Reader, call: Call, identity: InstanceIdentity) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "identityId": identity.id,
        "cluster": identity.cluster,
        "roleArn": identity.role_arn,
        "joinTokenId": identity.token_id,
        "joinedAt": identity.joined_at,
        "provedAt": identity.proved_at,
        "roleExists": _role_is_there(reader, identity),
    }
    instance = reader.get(CONTAINER_INSTANCES, identity.instance) if identity.instance else None
    if instance is not None:
        shown |= {
            "containerInstanceArn": container_instance_arn(call, identity),
            "status": instance.status,
            "agentConnected": instance.agent_connected,
            "connectedAt": instance.connected_at,
        }
    return shown
