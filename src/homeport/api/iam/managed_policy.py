"""Operations on managed policies and their versions.

Owns: create, get, delete, list; versions; which policies may be attached; tags of policies. Attaching is `attachment.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.errors import (
    DeleteConflictError,
    EntityAlreadyExistsError,
    IamLimitExceededError,
    InvalidInputError,
    NoSuchEntityError,
    UnmodifiableEntityError,
)
from homeport.iam.amazon_policies import AMAZON_POLICIES
from homeport.iam.document import parse
from homeport.model import arn
from homeport.model.iam.policy import VERSIONS_MAX, ManagedPolicy, PolicyVersion
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import GROUPS, MANAGED_POLICIES, ROLES, USERS

POLICIES_MAX: Final = 1500
DOCUMENT_CHARACTERS_MAX: Final = 6144
"""White space not counted (IAM's quota)."""
_AMAZONS: Final = "arn:aws:iam::aws:policy/"
_AMAZON_CREATED: Final = 1_423_000_000.0


def characters(document: str) -> int:
    """The size of a policy as IAM counts it: without white space."""
    return sum(not character.isspace() for character in document)


def require_document(document: str) -> None:
    """Raises MalformedPolicyDocumentError, or IamLimitExceededError for one that is too large for a managed policy."""
    if characters(document) > DOCUMENT_CHARACTERS_MAX:
        raise IamLimitExceededError(f"Cannot exceed quota for PolicySize: {DOCUMENT_CHARACTERS_MAX}")
    parse(document)


def arn_of(policy: ManagedPolicy) -> str:
    """The policy's ARN."""
    return arn.policy_arn(policy.account, policy.path, policy.name)


def find(reader: Reader, call: Call, policy_arn: str) -> ManagedPolicy:
    """The account's own policy of that ARN. Raises NoSuchEntityError, UnmodifiableEntityError for one of Amazon's."""
    if policy_arn in AMAZON_POLICIES:
        raise UnmodifiableEntityError("Policies of AWS cannot be changed.")
    found = _found(reader, call.account, policy_arn)
    if found is None:
        raise NoSuchEntityError(f"Policy {policy_arn} was not found.")
    return found


def _found(reader: Reader, account: str, policy_arn: str) -> ManagedPolicy | None:
    parsed = arn.parse_arn(policy_arn)
    if parsed is None or (parsed.service, parsed.region) != ("iam", "") or not parsed.resource.startswith("policy/"):
        raise InvalidInputError(f"ARN {policy_arn} is not valid.")
    record = reader.get(MANAGED_POLICIES, f"{account}/{parsed.resource.rpartition('/')[2].lower()}")
    return record if record is not None and arn_of(record) == policy_arn else None


def require_attachable(reader: Reader, account: str, policy_arn: str) -> None:
    """Raises NoSuchEntityError when nothing of that ARN can be attached in this account."""
    if policy_arn not in AMAZON_POLICIES and _found(reader, account, policy_arn) is None:
        raise NoSuchEntityError(f"Policy {policy_arn} does not exist or is not attachable.")


async def create_policy(call: Call, request: Any) -> dict[str, Any]:
    """CreatePolicy: its document is version v1."""
    require_document(request.PolicyDocument)
    unique, tags = call.ids.iam_id("ANPA"), entity.tags_of(request.Tags)

    def create(tx: Transaction) -> ManagedPolicy:
        key = f"{call.account}/{request.PolicyName.lower()}"
        if tx.get(MANAGED_POLICIES, key) is not None:
            raise EntityAlreadyExistsError(f"A policy called {request.PolicyName} already exists. Duplicate names are not allowed.")
        if tx.count(MANAGED_POLICIES, "account", call.account) >= POLICIES_MAX:
            raise IamLimitExceededError(f"Cannot exceed quota for PoliciesPerAccount: {POLICIES_MAX}")
        made = ManagedPolicy(
            account=call.account,
            name=request.PolicyName,
            path=request.Path or "/",
            id=unique,
            created_at=tx.now,
            updated_at=tx.now,
            description=request.Description or "",
            tags=tags,
            versions=(PolicyVersion(number=1, document=request.PolicyDocument, created_at=tx.now),),
        )
        tx.put(MANAGED_POLICIES, made)
        return made

    made = await call.update(create)
    return {"Policy": await call.view(lambda reader: policy_json(reader, made))}


async def get_policy(call: Call, request: Any) -> dict[str, Any]:
    """GetPolicy."""

    def read(reader: Reader) -> dict[str, Any]:
        if request.PolicyArn in AMAZON_POLICIES:
            return policy_json(reader, _amazons(request.PolicyArn))
        return policy_json(reader, find(reader, call, request.PolicyArn))

    return {"Policy": await call.view(read)}


async def delete_policy(call: Call, request: Any) -> dict[str, Any]:
    """DeletePolicy: attached nowhere, and with no version but the default one."""

    def delete(tx: Transaction) -> None:
        policy = find(tx, call, request.PolicyArn)
        if sum(_uses(tx, request.PolicyArn)):
            raise DeleteConflictError("Cannot delete a policy attached to entities.")
        if len(policy.versions) > 1:
            raise DeleteConflictError(
                "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. "
                "The default version is deleted with the policy."
            )
        tx.delete(MANAGED_POLICIES, policy.key)

    await call.update(delete)
    return {}


async def list_policies(call: Call, request: Any) -> dict[str, Any]:
    """ListPolicies: Amazon's, the account's own, or both, by ARN."""

    def read(reader: Reader) -> dict[str, Any]:
        found = [policy for policy in _scope(reader, call, request.Scope or "All") if policy.path.startswith(request.PathPrefix or "/")]
        if request.OnlyAttached:
            found = [policy for policy in found if _uses(reader, arn_of(policy))[0]]
        if request.PolicyUsageFilter:
            place = ("PermissionsPolicy", "PermissionsBoundary").index(request.PolicyUsageFilter)
            found = [policy for policy in found if _uses(reader, arn_of(policy))[place]]
        filters = (request.Scope, request.PathPrefix, bool(request.OnlyAttached), request.PolicyUsageFilter)
        policies, more = entity.page(call, request, sorted(found, key=arn_of), key=arn_of, filters=filters)
        return {"Policies": [policy_json(reader, policy, whole=False) for policy in policies], **more}

    return await call.view(read)


def _scope(reader: Reader, call: Call, scope: str) -> Iterator[ManagedPolicy]:
    if scope in ("All", "AWS"):
        yield from map(_amazons, AMAZON_POLICIES)
    if scope in ("All", "Local"):
        yield from reader.find(MANAGED_POLICIES, "account", call.account)


def _amazons(policy_arn: str) -> ManagedPolicy:
    """One of Amazon's policies as a record."""
    path, _, name = policy_arn.removeprefix(_AMAZONS[:-1]).rpartition("/")
    version = PolicyVersion(number=1, document=AMAZON_POLICIES[policy_arn], created_at=_AMAZON_CREATED)
    return ManagedPolicy(
        account="aws",
        name=name,
        path=f"{path}/",
        id=f"ANPA{name.upper()[:17]}",
        created_at=_AMAZON_CREATED,
        updated_at=_AMAZON_CREATED,
        versions=(version,),
    )


async def create_policy_version(call: Call, request: Any) -> dict[str, Any]:
    """CreatePolicyVersion: at most five are kept; with SetAsDefault it counts at once."""
    require_document(request.PolicyDocument)

    def create(tx: Transaction) -> dict[str, Any]:
        policy = find(tx, call, request.PolicyArn)
        if len(policy.versions) >= VERSIONS_MAX:
            raise IamLimitExceededError(
                f"A managed policy can have up to {VERSIONS_MAX} versions. Before you create a new version, you must delete an existing version."
            )
        made = PolicyVersion(number=policy.next_version, document=request.PolicyDocument, created_at=tx.now)
        after = msgspec.structs.replace(
            policy,
            versions=(*policy.versions, made),
            next_version=made.number + 1,
            default_version=made.number if request.SetAsDefault else policy.default_version,
            updated_at=tx.now,
        )
        tx.put(MANAGED_POLICIES, after)
        return version_json(after, made, whole=False)

    return {"PolicyVersion": await call.update(create)}


async def get_policy_version(call: Call, request: Any) -> dict[str, Any]:
    """GetPolicyVersion, with its document."""

    def read(reader: Reader) -> dict[str, Any]:
        policy = _amazons(request.PolicyArn) if request.PolicyArn in AMAZON_POLICIES else find(reader, call, request.PolicyArn)
        return version_json(policy, _version(policy, request.VersionId))

    return {"PolicyVersion": await call.view(read)}


async def list_policy_versions(call: Call, request: Any) -> dict[str, Any]:
    """ListPolicyVersions, newest first."""

    def read(reader: Reader) -> dict[str, Any]:
        policy = _amazons(request.PolicyArn) if request.PolicyArn in AMAZON_POLICIES else find(reader, call, request.PolicyArn)
        versions, more = entity.page(
            call, request, reversed(policy.versions), key=lambda version: f"{10**9 - version.number:010d}", filters=(request.PolicyArn,)
        )
        return {"Versions": [version_json(policy, version, whole=False) for version in versions], **more}

    return await call.view(read)


async def set_default_policy_version(call: Call, request: Any) -> dict[str, Any]:
    """SetDefaultPolicyVersion."""

    def change(tx: Transaction) -> None:
        policy = find(tx, call, request.PolicyArn)
        version = _version(policy, request.VersionId)
        tx.put(MANAGED_POLICIES, msgspec.structs.replace(policy, default_version=version.number, updated_at=tx.now))

    await call.update(change)
    return {}


async def delete_policy_version(call: Call, request: Any) -> dict[str, Any]:
    """DeletePolicyVersion: not the default one."""

    def delete(tx: Transaction) -> None:
        policy = find(tx, call, request.PolicyArn)
        version = _version(policy, request.VersionId)
        if version.number == policy.default_version:
            raise DeleteConflictError("Cannot delete the default version of a policy.")
        tx.put(MANAGED_POLICIES, msgspec.structs.replace(policy, versions=tuple(each for each in policy.versions if each is not version)))

    await call.update(delete)
    return {}


async def list_entities_for_policy(call: Call, request: Any) -> dict[str, Any]:
    """ListEntitiesForPolicy: users, groups and roles that have it, as policy or as boundary."""

    def read(reader: Reader) -> dict[str, Any]:
        if request.PolicyArn not in AMAZON_POLICIES:
            find(reader, call, request.PolicyArn)
        filters = (request.PolicyArn, request.EntityFilter, request.PathPrefix, request.PolicyUsageFilter)
        holders, more = entity.page(call, request, _holders(reader, call, request), key=lambda holder: holder[0], filters=filters)
        lists: dict[str, list[dict[str, str]]] = {"PolicyGroups": [], "PolicyUsers": [], "PolicyRoles": []}
        for _, noun, record in holders:
            lists[f"Policy{noun}s"].append({f"{noun}Name": record.name, f"{noun}Id": record.id})
        return {**lists, **more}

    return await call.view(read)


def _holders(reader: Reader, call: Call, request: Any) -> list[tuple[str, str, Any]]:
    found = []
    indexes = {None: ("policy", "boundary"), "PermissionsPolicy": ("policy",), "PermissionsBoundary": ("boundary",)}[request.PolicyUsageFilter]
    tables: tuple[tuple[str, Table[Any]], ...] = (("Group", GROUPS), ("User", USERS), ("Role", ROLES))
    for noun, table in tables:
        if request.EntityFilter not in (None, noun):
            continue
        for index in indexes if table is not GROUPS else [name for name in indexes if name == "policy"]:
            for record in reader.find(table, index, request.PolicyArn):
                if record.account == call.account and record.path.startswith(request.PathPrefix or "/"):
                    found.append((f"{noun}/{record.key}", noun, record))
    return sorted({holder[0]: holder for holder in found}.values(), key=lambda holder: holder[0])


async def tag_policy(call: Call, request: Any) -> dict[str, Any]:
    """TagPolicy."""

    def tag(tx: Transaction) -> None:
        policy = find(tx, call, request.PolicyArn)
        tx.put(MANAGED_POLICIES, msgspec.structs.replace(policy, tags=entity.tags_of(request.Tags, policy.tags)))

    await call.update(tag)
    return {}


async def untag_policy(call: Call, request: Any) -> dict[str, Any]:
    """UntagPolicy."""
    keys = {key.lower() for key in request.TagKeys}

    def untag(tx: Transaction) -> None:
        policy = find(tx, call, request.PolicyArn)
        tx.put(MANAGED_POLICIES, msgspec.structs.replace(policy, tags=tuple(tag for tag in policy.tags if tag[0].lower() not in keys)))

    await call.update(untag)
    return {}


async def list_policy_tags(call: Call, request: Any) -> dict[str, Any]:
    """ListPolicyTags."""

    def read(reader: Reader) -> dict[str, Any]:
        tags, more = entity.page(
            call, request, sorted(find(reader, call, request.PolicyArn).tags), key=lambda tag: tag[0], filters=(request.PolicyArn,)
        )
        return {"Tags": entity.tags_json(tuple(tags)) or [], **more}

    return await call.view(read)


def _version(policy: ManagedPolicy, version_id: str) -> PolicyVersion:
    for version in policy.versions:
        if f"v{version.number}" == version_id:
            return version
    raise NoSuchEntityError(f"Policy {arn_of(policy)} version {version_id} does not exist or is not attachable.")


def _uses(reader: Reader, policy_arn: str) -> tuple[int, int]:
    """(attachments, uses as a boundary)."""
    holders: tuple[Table[Any], ...] = (USERS, ROLES)
    attached = sum(reader.count(table, "policy", policy_arn) for table in (*holders, GROUPS))
    return attached, sum(reader.count(table, "boundary", policy_arn) for table in holders)


def policy_json(reader: Reader, policy: ManagedPolicy, *, whole: bool = True) -> dict[str, Any]:
    """The API's form; lists leave description and tags out."""
    attached, boundaries = _uses(reader, arn_of(policy))
    more = {"Description": policy.description or None, "Tags": entity.tags_json(policy.tags) or []} if whole else {}
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": arn_of(policy),
        "Path": policy.path,
        "DefaultVersionId": f"v{policy.default_version}",
        "AttachmentCount": attached,
        "PermissionsBoundaryUsageCount": boundaries,
        "IsAttachable": True,
        "CreateDate": int(policy.created_at),
        "UpdateDate": int(policy.updated_at),
        **more,
    }


def version_json(policy: ManagedPolicy, version: PolicyVersion, *, whole: bool = True) -> dict[str, Any]:
    """The API's form; lists leave the document out."""
    return {
        "Document": entity.document_json(version.document) if whole else None,
        "VersionId": f"v{version.number}",
        "IsDefaultVersion": version.number == policy.default_version,
        "CreateDate": int(version.created_at),
    }
