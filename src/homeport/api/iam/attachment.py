"""Policies of users, groups and roles: managed ones attached, inline ones written, and boundaries; and the tags of entities.

Owns: one maker per kind of operation, since users, groups and roles differ in their names only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from homeport.api.call import Call, Handler
from homeport.api.iam import entity
from homeport.api.iam.entity import ROLE, Kind
from homeport.api.iam.managed_policy import characters, require_attachable
from homeport.api.iam.role import find_own
from homeport.errors import IamLimitExceededError, NoSuchEntityError
from homeport.iam.document import parse
from homeport.model.iam.policy import InlinePolicy
from homeport.store.table import Reader, Transaction

ATTACHED_MAX: Final = 10
"""Managed policies that one user, group or role may have (IAM's default quota)."""


def _find(reader: Reader, call: Call, kind: Kind, request: Any) -> Any:
    return kind.find(reader, call.account, getattr(request, kind.member))


def _changing(kind: Kind, change: Callable[[Transaction, Any, Any], Any]) -> Handler:
    """A handler that puts what `change` makes of a record; `change(tx, request, record)`."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        def update(tx: Transaction) -> None:
            record = find_own(tx, call, request.RoleName) if kind is ROLE else _find(tx, call, kind, request)
            tx.put(kind.table, change(tx, request, record))

        await call.update(update)
        return {}

    return handle


def attach(kind: Kind) -> Handler:
    """Attach…Policy: attached already is no error."""

    def change(tx: Transaction, request: Any, record: Any) -> Any:
        require_attachable(tx, record.account, request.PolicyArn)
        if request.PolicyArn in record.attached:
            return record
        if len(record.attached) >= ATTACHED_MAX:
            raise IamLimitExceededError(f"Cannot exceed quota for PoliciesPer{kind.noun.capitalize()}: {ATTACHED_MAX}")
        return msgspec.structs.replace(record, attached=(*record.attached, request.PolicyArn))

    return _changing(kind, change)


def detach(kind: Kind) -> Handler:
    """Detach…Policy."""

    def change(tx: Transaction, request: Any, record: Any) -> Any:
        if request.PolicyArn not in record.attached:
            raise NoSuchEntityError(f"Policy {request.PolicyArn} was not found.")
        return msgspec.structs.replace(record, attached=tuple(each for each in record.attached if each != request.PolicyArn))

    return _changing(kind, change)


def list_attached(kind: Kind) -> Handler:
    """ListAttached…Policies under a path, by ARN."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        def read(reader: Reader) -> dict[str, Any]:
            record = _find(reader, call, kind, request)
            found = sorted(each for each in record.attached if _path(each).startswith(request.PathPrefix or "/"))
            arns, more = entity.page(call, request, found, key=lambda each: each, filters=(record.key, request.PathPrefix))
            return {"AttachedPolicies": attached_json(tuple(arns)), **more}

        return await call.view(read)

    return handle


def attached_json(arns: tuple[str, ...]) -> list[dict[str, str]]:
    """The API's form of attached policies."""
    return [{"PolicyName": each.rpartition("/")[2], "PolicyArn": each} for each in arns]


def _path(policy_arn: str) -> str:
    return policy_arn.partition(":policy")[2].rpartition("/")[0] + "/"


def put_inline(kind: Kind) -> Handler:
    """Put…Policy: writes an inline policy, or writes it anew."""

    def change(tx: Transaction, request: Any, record: Any) -> Any:
        others = tuple(policy for policy in record.inline if policy.name != request.PolicyName)
        policies = (*others, InlinePolicy(name=request.PolicyName, document=request.PolicyDocument))
        if sum(characters(policy.document) for policy in policies) > kind.inline_characters_max:
            raise IamLimitExceededError(f"Maximum policy size of {kind.inline_characters_max} bytes exceeded for {kind.noun} {record.name}")
        return msgspec.structs.replace(record, inline=policies)

    store = _changing(kind, change)

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        parse(request.PolicyDocument)
        return await store(call, request)

    return handle


def get_inline(kind: Kind) -> Handler:
    """Get…Policy: an inline policy with its document."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        record = await call.view(lambda reader: _find(reader, call, kind, request))
        policy = _inline(kind, record, request.PolicyName)
        return {kind.member: record.name, "PolicyName": policy.name, "PolicyDocument": entity.document_json(policy.document)}

    return handle


def delete_inline(kind: Kind) -> Handler:
    """Delete…Policy: an inline policy."""

    def change(tx: Transaction, request: Any, record: Any) -> Any:
        policy = _inline(kind, record, request.PolicyName)
        return msgspec.structs.replace(record, inline=tuple(each for each in record.inline if each is not policy))

    return _changing(kind, change)


def list_inline(kind: Kind) -> Handler:
    """List…Policies: names of inline policies."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        def read(reader: Reader) -> dict[str, Any]:
            record = _find(reader, call, kind, request)
            names, more = entity.page(call, request, sorted(policy.name for policy in record.inline), key=lambda name: name, filters=(record.key,))
            return {"PolicyNames": names, **more}

        return await call.view(read)

    return handle


def _inline(kind: Kind, record: Any, name: str) -> InlinePolicy:
    inline: tuple[InlinePolicy, ...] = record.inline
    for policy in inline:
        if policy.name == name:
            return policy
    raise NoSuchEntityError(f"The {kind.noun} policy with name {name} cannot be found.")


def put_boundary(kind: Kind) -> Handler:
    """Put…PermissionsBoundary."""

    def change(tx: Transaction, request: Any, record: Any) -> Any:
        require_attachable(tx, record.account, request.PermissionsBoundary)
        return msgspec.structs.replace(record, boundary=request.PermissionsBoundary)

    return _changing(kind, change)


def delete_boundary(kind: Kind) -> Handler:
    """Delete…PermissionsBoundary."""

    def change(tx: Transaction, request: Any, record: Any) -> Any:
        if not record.boundary:
            raise NoSuchEntityError(f"{kind.noun.capitalize()} {record.name} does not have a permissions boundary.")
        return msgspec.structs.replace(record, boundary="")

    return _changing(kind, change)


def tag(kind: Kind) -> Handler:
    """Tag…"""
    return _changing(kind, lambda tx, request, record: msgspec.structs.replace(record, tags=entity.tags_of(request.Tags, record.tags)))


def untag(kind: Kind) -> Handler:
    """Untag…: a key that is not there is no error."""

    def change(tx: Transaction, request: Any, record: Any) -> Any:
        keys = {key.lower() for key in request.TagKeys}
        return msgspec.structs.replace(record, tags=tuple(each for each in record.tags if each[0].lower() not in keys))

    return _changing(kind, change)


def list_tags(kind: Kind) -> Handler:
    """List…Tags, by key."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        def read(reader: Reader) -> dict[str, Any]:
            record = _find(reader, call, kind, request)
            tags, more = entity.page(call, request, sorted(record.tags), key=lambda each: each[0], filters=(record.key,))
            return {"Tags": entity.tags_json(tuple(tags)) or [], **more}

        return await call.view(read)

    return handle
