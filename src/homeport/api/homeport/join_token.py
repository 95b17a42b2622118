"""Join tokens: an operator makes one, a new host uses it up.

Owns: CreateJoinToken, ListJoinTokens, DeleteJoinToken, and the role that hosts get unless another is named. Never lets a host in
(`instance_identity.py` does). A token's secret is told once and stored nowhere; a call that is sent again makes another token.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from homeport.api import trusted
from homeport.api.call import Call
from homeport.api.ecs import lookup, page
from homeport.api.iam.entity import ROLE
from homeport.api.pagination import open_token, paginate
from homeport.errors import InvalidParameterError, LimitExceededError, ResourceNotFoundError
from homeport.iam import join_token as form
from homeport.iam.document import Kind, parse
from homeport.iam.evaluate import Policies, Request, evaluate
from homeport.iam.principal import Principal, PrincipalKind
from homeport.model import arn
from homeport.model.ecs import container_instance as instance_model
from homeport.model.iam.join_token import JoinToken
from homeport.model.iam.policy import InlinePolicy
from homeport.model.iam.role import Role
from homeport.model.record import Instant
from homeport.store.table import Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, JOIN_TOKENS, ROLES

DEFAULT_ROLE: Final = "ecsInstanceRole"
"""As Amazon's console names it."""
SECONDS_DEFAULT: Final = 3600
TOKENS_MAX: Final = 500
"""Tokens of one account; an expired one counts for a day (`join_token_retention_seconds`)."""
HOST_PRINCIPAL: Final = "ec2.amazonaws.com"
"""Whom a role must trust so that hosts may have it, as instance profiles demand it."""
TRUST: Final = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": HOST_PRINCIPAL}, "Action": "sts:AssumeRole"}]}
)
AGENT_POLICY: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "ecs:DiscoverPollEndpoint",
                    "ecs:Poll",
                    "ecs:RegisterContainerInstance",
                    "ecs:StartTelemetrySession",
                    "ecs:SubmitAttachmentStateChanges",
                    "ecs:SubmitContainerStateChange",
                    "ecs:SubmitTaskStateChange",
                ],
                "Resource": "*",
            },
            {
                "Effect": "Allow",
                "Action": "ecs:TagResource",
                "Resource": "*",
                "Condition": {"StringEquals": {"ecs:CreateAction": "RegisterContainerInstance"}},
            },
        ],
    }
)
"""All that our agent calls, and nothing else of AmazonEC2ContainerServiceforEC2Role. Of instances and tasks each host's credentials reach its own
only, whatever their policies say: `api/own_instance.py`."""
_ROLE_NAME: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)


async def create_join_token(call: Call, request: Any) -> dict[str, Any]:
    """CreateJoinToken: the token's text, told now and never again.

    Makes the role `ecsInstanceRole` when it is meant and missing. Raises ClusterNotFoundError, InvalidParameterError for a role that hosts cannot
    have, for a container instance that is none, and for several uses of a token for one instance; LimitExceededError.
    """
    parts = form.Parts(call.ids.name(12), call.ids.hex(form.SECRET_DIGITS), trusted.fingerprint(call.context.trusted))
    uses, seconds = request.uses or 1, request.expiresInSeconds or SECONDS_DEFAULT
    if request.containerInstance and uses != 1:
        raise InvalidParameterError("A token for one container instance has one use.")
    fresh = call.ids.iam_id(ROLE.prefix)

    def create(tx: Transaction) -> dict[str, Any]:
        if tx.count(JOIN_TOKENS, "account", call.account) >= TOKENS_MAX:
            raise LimitExceededError(f"The account has {TOKENS_MAX} join tokens; delete some.")
        cluster = lookup.cluster_name(call, request.cluster)
        if cluster != lookup.DEFAULT_CLUSTER:
            lookup.cluster_of(tx, call, cluster)
        role = _role(tx, call, request.role, fresh)
        token = JoinToken(
            id=parts.id,
            account=call.account,
            secret_sha256=form.hashed(parts.secret),
            cluster=cluster,
            role_arn=arn.role_arn(role.account, role.path, role.name),
            role_id=role.id,
            instance=_instance(tx, call, cluster, request.containerInstance),
            uses=uses,
            uses_left=uses,
            created_at=tx.now,
            created_by=call.principal_arn,
            expires_at=tx.now + seconds,
        )
        tx.put(JOIN_TOKENS, token)
        return _json(token, tx.now)

    return {"token": form.written(parts), "joinToken": await call.update(create)}


async def list_join_tokens(call: Call, request: Any) -> dict[str, Any]:
    """ListJoinTokens: every token of the account that was not deleted, by id, in pages; never their text."""
    limit = page.limit_of(request.maxResults)
    now = call.context.clock.now()

    def read(reader: Reader) -> dict[str, Any]:
        after = open_token(call, request.nextToken)
        found = sorted((token for token in reader.find(JOIN_TOKENS, "account", call.account) if token.id > after), key=lambda token: token.id)
        tokens, last = paginate(found, limit=limit, key=lambda token: token.id)
        return {"joinTokens": [_json(token, now) for token in tokens], **page.next_page(call, last)}

    return await call.view(read)


async def delete_join_token(call: Call, request: Any) -> dict[str, Any]:
    """DeleteJoinToken: nobody joins with it any more; who did, stays. Raises ResourceNotFoundError."""

    def delete(tx: Transaction) -> None:
        token = tx.get(JOIN_TOKENS, request.joinTokenId)
        if token is None or token.account != call.account:
            raise ResourceNotFoundError(f"There is no join token {request.joinTokenId}.")
        tx.delete(JOIN_TOKENS, token.id)

    await call.update(delete)
    return {}


def role_arn_of(account: str, reference: str | None) -> str:
    """The ARN of a role by name or ARN; None means the default one. Raises InvalidParameterError for a text that can be neither."""
    if not reference:
        return arn.role_arn(account, "/", DEFAULT_ROLE)
    if reference.startswith("arn:"):
        return lookup.role_arn("role", reference)
    if not _ROLE_NAME.fullmatch(reference):
        raise InvalidParameterError(f"role must be the name or ARN of an IAM role, but was {reference}")
    return arn.role_arn(account, "/", reference)


def _role(tx: Transaction, call: Call, reference: str | None, fresh: str) -> Role:
    """The role that is meant. `fresh`: the unique id of the default one, should it be made now."""
    wanted = role_arn_of(call.account, reference)
    role = tx.get(ROLES, f"{call.account}/{wanted.rpartition('/')[2].lower()}")
    if role is None and not reference:
        ROLE.require_new(tx, call.account, DEFAULT_ROLE)
        role = Role(
            account=call.account,
            name=DEFAULT_ROLE,
            id=fresh,
            created_at=tx.now,
            trust=TRUST,
            description="Hosts that run Homeport's agent.",
            inline=(InlinePolicy(name="agent", document=AGENT_POLICY),),
        )
        tx.put(ROLES, role)
    if role is None or arn.role_arn(role.account, role.path, role.name) != wanted:
        raise InvalidParameterError(f"There is no role {wanted} in this account.")
    trust = parse(role.trust, kind=Kind.TRUST, name=role.name)
    host = Request(Principal(PrincipalKind.SERVICE, HOST_PRINCIPAL, call.account), "sts:AssumeRole", wanted, call.account, {}, trusts=True)
    if not evaluate(host, Policies(), trust).allowed:
        raise InvalidParameterError(f"The role {wanted} does not trust {HOST_PRINCIPAL}, so no host may have it.")
    return role


def _instance(tx: Transaction, call: Call, cluster: str, reference: str | None) -> str:
    """Key of the container instance that the host goes on as, or ""."""
    if not reference:
        return ""
    instance = tx.get(CONTAINER_INSTANCES, lookup.container_instance_key(call, lookup.cluster_of(tx, call, cluster), reference))
    if instance is None or instance.status == instance_model.INACTIVE:
        raise InvalidParameterError(f"There is no container instance {reference} in cluster {cluster}.")
    return instance.key


def _json(token: JoinToken, now: Instant) -> dict[str, Any]:
    shown = {
        "joinTokenId": token.id,
        "status": "EXPIRED" if token.expires_at <= now else "ACTIVE" if token.uses_left else "USED",
        "cluster": token.cluster,
        "roleArn": token.role_arn,
        "uses": token.uses,
        "usesLeft": token.uses_left,
        "createdAt": token.created_at,
        "createdBy": token.created_by,
        "expiresAt": token.expires_at,
    }
    return {**shown, "containerInstance": token.instance.rpartition("/")[2]} if token.instance else shown
