"""Operations on roles.

Owns: create, get, update, delete, list, trust policies, service-linked roles. Policies are `attachment.py`'s, assuming a role is STS's.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.entity import ROLE
from homeport.api.iam.managed_policy import characters, require_attachable
from homeport.api.last_use import forget
from homeport.errors import (
    DeleteConflictError,
    EntityAlreadyExistsError,
    IamLimitExceededError,
    InvalidInputError,
    NoSuchEntityError,
    UnmodifiableEntityError,
)
from homeport.iam.document import Kind, parse
from homeport.model.iam.role import Role
from homeport.store.table import Reader, Transaction
from homeport.store.tables import INSTANCE_PROFILES, ROLES

TRUST_CHARACTERS_MAX: Final = 2048
SERVICE_ROLES: Final[dict[str, str]] = {
    "ecs.amazonaws.com": "AWSServiceRoleForECS",
    "ecs.application-autoscaling.amazonaws.com": "AWSServiceRoleForApplicationAutoScaling_ECSService",
    "elasticloadbalancing.amazonaws.com": "AWSServiceRoleForElasticLoadBalancing",
    "autoscaling.amazonaws.com": "AWSServiceRoleForAutoScaling",
}
"""Service → name of its role (user guide, "AWS services that work with IAM")."""


def linked_name(service: str, suffix: str | None) -> str:
    """The name of a service's role; "" for a service that there is not."""
    name = SERVICE_ROLES.get(service, "")
    return f"{name}_{suffix}" if name and suffix else name


def require_trust(document: str) -> None:
    """Raises MalformedPolicyDocumentError, or IamLimitExceededError for one that is too large."""
    if characters(document) > TRUST_CHARACTERS_MAX:
        raise IamLimitExceededError(f"Cannot exceed quota for ACLSizePerRole: {TRUST_CHARACTERS_MAX}")
    parse(document, kind=Kind.TRUST)


def find_own(tx: Reader, call: Call, name: str) -> Any:
    """The role of that name, if the account may change it. Raises NoSuchEntityError, UnmodifiableEntityError for a service-linked one."""
    role = ROLE.find(tx, call.account, name)
    if role.service:
        raise UnmodifiableEntityError(f"Cannot perform the operation on the protected role '{role.name}' - this role is only modifiable by AWS")
    return role


async def create_role(call: Call, request: Any) -> dict[str, Any]:
    """CreateRole."""
    require_trust(request.AssumeRolePolicyDocument)
    if (request.Path or "/").startswith("/aws-service-role/"):
        raise InvalidInputError("Roles under the path /aws-service-role/ are made by CreateServiceLinkedRole.")
    unique, tags = call.ids.iam_id(ROLE.prefix), entity.tags_of(request.Tags)

    def create(tx: Transaction) -> Role:
        ROLE.require_new(tx, call.account, request.RoleName)
        if request.PermissionsBoundary:
            require_attachable(tx, call.account, request.PermissionsBoundary)
        made = Role(
            account=call.account,
            name=request.RoleName,
            path=request.Path or "/",
            id=unique,
            created_at=tx.now,
            trust=request.AssumeRolePolicyDocument,
            description=request.Description or "",
            session_seconds_max=request.MaxSessionDuration or 3600,
            tags=tags,
            boundary=request.PermissionsBoundary or "",
        )
        tx.put(ROLES, made)
        return made

    return {"Role": role_json(await call.update(create))}


async def get_role(call: Call, request: Any) -> dict[str, Any]:
    """GetRole, and when any of its sessions was used last."""

    def read(reader: Reader) -> dict[str, Any]:
        role = ROLE.find(reader, call.account, request.RoleName)
        used = call.context.last_uses.last(reader, role.id) if call.context.last_uses is not None else None
        return {**role_json(role), "RoleLastUsed": {"LastUsedDate": int(used.at), "Region": used.region} if used is not None else {}}

    return {"Role": await call.view(read)}


async def update_role(call: Call, request: Any) -> dict[str, Any]:
    """UpdateRole: description and longest session; an absent description keeps what is."""

    def update(tx: Transaction) -> None:
        role = find_own(tx, call, request.RoleName)
        changed = msgspec.structs.replace(
            role,
            description=role.description if request.Description is None else request.Description,
            session_seconds_max=request.MaxSessionDuration or role.session_seconds_max,
        )
        tx.put(ROLES, changed)

    await call.update(update)
    return {}


async def update_role_description(call: Call, request: Any) -> dict[str, Any]:
    """UpdateRoleDescription."""

    def update(tx: Transaction) -> Role:
        changed: Role = msgspec.structs.replace(find_own(tx, call, request.RoleName), description=request.Description)
        tx.put(ROLES, changed)
        return changed

    return {"Role": role_json(await call.update(update))}


async def update_assume_role_policy(call: Call, request: Any) -> dict[str, Any]:
    """UpdateAssumeRolePolicy: who may assume it from now on."""
    require_trust(request.PolicyDocument)

    def update(tx: Transaction) -> None:
        tx.put(ROLES, msgspec.structs.replace(find_own(tx, call, request.RoleName), trust=request.PolicyDocument))

    await call.update(update)
    return {}


async def delete_role(call: Call, request: Any) -> dict[str, Any]:
    """DeleteRole: without policies and in no instance profile. Its sessions have no permissions from then on."""

    def delete(tx: Transaction) -> None:
        role = find_own(tx, call, request.RoleName)
        entity.require_no_policies(role)
        if tx.count(INSTANCE_PROFILES, "role", role.key):
            raise DeleteConflictError("Cannot delete entity, must remove roles from instance profile first.")
        tx.delete(ROLES, role.key)
        forget(tx, role.id)

    await call.update(delete)
    return {}


async def list_roles(call: Call, request: Any) -> dict[str, Any]:
    """ListRoles under a path, by name."""
    return await entity.listed(call, request, ROLE, "Roles", lambda _, role: role_json(role, whole=False))


async def create_service_linked_role(call: Call, request: Any) -> dict[str, Any]:
    """CreateServiceLinkedRole, for the services that exist here."""
    service = request.AWSServiceName
    name = linked_name(service, request.CustomSuffix)
    if not name:
        raise InvalidInputError(f"Service role name for {service} is not known. The services are: {', '.join(sorted(SERVICE_ROLES))}.")
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    unique, trust = call.ids.iam_id(ROLE.prefix), msgspec.json.encode({"Version": "2012-10-17", "Statement": [statement]}).decode()

    def create(tx: Transaction) -> Role:
        if tx.get(ROLES, f"{call.account}/{name.lower()}") is not None:
            raise EntityAlreadyExistsError(f"Service role name {name} has been taken in this account, please try a different suffix.")
        made = Role(
            account=call.account,
            name=name,
            path=f"/aws-service-role/{service}/",
            id=unique,
            created_at=tx.now,
            trust=trust,
            description=request.Description or "",
            service=service,
        )
        tx.put(ROLES, made)
        return made

    return {"Role": role_json(await call.update(create))}


async def delete_service_linked_role(call: Call, request: Any) -> dict[str, Any]:
    """DeleteServiceLinkedRole: done at once; the task's id is its proof."""

    def delete(tx: Transaction) -> str:
        role = ROLE.find(tx, call.account, request.RoleName)
        if not role.service:
            raise InvalidInputError(f"The role {role.name} is not linked to a service.")
        tx.delete(ROLES, role.key)
        forget(tx, role.id)
        return f"task/aws-service-role/{role.service}/{role.name}/{role.id}"

    return {"DeletionTaskId": await call.update(delete)}


async def get_service_linked_role_deletion_status(call: Call, request: Any) -> dict[str, Any]:
    """GetServiceLinkedRoleDeletionStatus: SUCCEEDED for every deletion, since none waits."""
    parts = request.DeletionTaskId.split("/")
    if len(parts) != 5 or parts[:2] != ["task", "aws-service-role"]:
        raise NoSuchEntityError(f"The deletion task {request.DeletionTaskId} cannot be found.")

    def read(reader: Reader) -> str:
        role = reader.get(ROLES, f"{call.account}/{parts[3].lower()}")
        if role is not None and role.id == parts[4]:
            raise NoSuchEntityError(f"The deletion task {request.DeletionTaskId} cannot be found.")
        return "SUCCEEDED"

    return {"Status": await call.view(read)}


def role_json(role: Role, *, whole: bool = True) -> dict[str, Any]:
    """The API's form; lists leave tags and boundary out."""
    more = {"Tags": entity.tags_json(role.tags), "PermissionsBoundary": entity.boundary_json(role.boundary), "RoleLastUsed": {}} if whole else {}
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": entity.arn_of(ROLE, role),
        "CreateDate": int(role.created_at),
        "AssumeRolePolicyDocument": entity.document_json(role.trust),
        "Description": role.description or None,
        "MaxSessionDuration": role.session_seconds_max,
        **more,
    }
