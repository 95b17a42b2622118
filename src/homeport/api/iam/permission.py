"""What a caller of IAM must be allowed to do, for each operation.

Owns: `asks`. Never decides. Which types of resources an action has comes from `iam.actions`; here stands where a request names them.
Source: the service authorization reference of AWS IAM.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from homeport.api.call import Call
from homeport.api.iam.entity import GROUP, PROFILE, ROLE, USER, Kind
from homeport.api.iam.role import linked_name
from homeport.api.permission import Ask
from homeport.iam.actions import resource_types
from homeport.model import arn
from homeport.model.record import Tags
from homeport.store.table import Reader
from homeport.store.tables import ACCESS_KEYS, MANAGED_POLICIES, OIDC_PROVIDERS

_KINDS: Final[dict[str, Kind]] = {"user": USER, "group": GROUP, "role": ROLE, "instance-profile": PROFILE}


def asks(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Everything that the caller of `request` must be allowed, each of it."""
    types = [each.name for each in resource_types("iam", call.operation)]
    resources = list(dict.fromkeys(text for each in types for text in _named(call, request, reader, each))) or ["*"]
    context = _context(request)
    found = [Ask(f"iam:{call.operation}", resource, {**_tags(reader, resource), **context}) for resource in resources]
    if call.operation == "AddRoleToInstanceProfile":
        found += [Ask("iam:PassRole", text, {"iam:passedtoservice": "ec2.amazonaws.com"}) for text in _named(call, request, reader, "role")]
    if getattr(request, "Tags", None) and call.operation in _TAGGING:
        found += [Ask(_TAGGING[call.operation], resource, context) for resource in resources]
    return found


_TAGGING: Final = {
    "CreateUser": "iam:TagUser",
    "CreateRole": "iam:TagRole",
    "CreatePolicy": "iam:TagPolicy",
    "CreateInstanceProfile": "iam:TagInstanceProfile",
    "CreateOpenIDConnectProvider": "iam:TagOpenIDConnectProvider",
}


def _named(call: Call, request: Any, reader: Reader, kind: str) -> Iterator[str]:
    """The ARNs of one type that a request names."""
    source = getattr(request, "PolicySourceArn", None)
    if source is not None and f":{kind}/" in source:
        yield source
    elif kind == "policy" and (policy_arn := getattr(request, "PolicyArn", None)):
        yield policy_arn
    elif kind == "policy" and (name := getattr(request, "PolicyName", None)):
        yield arn.policy_arn(call.account, getattr(request, "Path", None) or "/", name)
    elif kind == "oidc-provider":
        if provider_arn := getattr(request, "OpenIDConnectProviderArn", None):
            yield provider_arn
        elif url := getattr(request, "Url", None):
            yield arn.oidc_provider_arn(call.account, url.partition("://")[2])
    elif kind in _KINDS and source is None:
        yield from _entity(call, request, reader, _KINDS[kind])


def _entity(call: Call, request: Any, reader: Reader, kind: Kind) -> Iterator[str]:
    name = getattr(request, kind.member, None)
    if kind is USER and call.operation == "GetAccessKeyLastUsed":  # the user whose key it is
        key = reader.get(ACCESS_KEYS, request.AccessKeyId)
        if key is not None and key.account == call.account:
            yield key.principal_arn
        return
    if not name and kind is USER:  # without a name the caller itself is meant
        if call.principal_arn.startswith(f"arn:aws:iam::{call.account}:user/"):
            yield call.principal_arn
        return
    if not name and kind is ROLE and (service := getattr(request, "AWSServiceName", None)):
        yield arn.role_arn(call.account, f"/aws-service-role/{service}/", linked_name(service, request.CustomSuffix) or "*")
    if not name:
        return
    record = reader.get(kind.table, f"{call.account}/{name.lower()}")
    path, spelled = (record.path, record.name) if record is not None else (getattr(request, "Path", None) or "/", name)
    yield kind.arn(call.account, path, spelled)
    new_name, new_path = getattr(request, f"New{kind.member}", None), getattr(request, "NewPath", None)
    if new_name or new_path:
        yield kind.arn(call.account, new_path or path, new_name or spelled)


def _context(request: Any) -> dict[str, str | tuple[str, ...]]:
    found: dict[str, str | tuple[str, ...]] = {}
    for key, member in (("iam:policyarn", "PolicyArn"), ("iam:permissionsboundary", "PermissionsBoundary"), ("iam:awsservicename", "AWSServiceName")):
        if value := getattr(request, member, None):
            found[key] = value
    tags = getattr(request, "Tags", None) or ()
    if keys := tuple(each.Key for each in tags) or tuple(getattr(request, "TagKeys", None) or ()):
        found["aws:tagkeys"] = keys
    for each in tags:
        found[f"aws:requesttag/{each.Key.lower()}"] = each.Value
    return found


def _tags(reader: Reader, resource: str) -> dict[str, str]:
    """The tags, and the boundary, of what is there already."""
    parsed = arn.parse_arn(resource)
    if parsed is None:
        return {}
    noun, _, rest = parsed.resource.partition("/")
    if noun == "oidc-provider":
        provider = reader.get(OIDC_PROVIDERS, f"{parsed.account}/{rest}")
        return _as_keys(provider.tags if provider is not None else ())
    table = MANAGED_POLICIES if noun == "policy" else _KINDS[noun].table if noun in _KINDS else None
    record = reader.get(table, f"{parsed.account}/{rest.rpartition('/')[2].lower()}") if table is not None else None
    found = _as_keys(getattr(record, "tags", ()))
    if boundary := getattr(record, "boundary", ""):
        found["iam:permissionsboundary"] = boundary
    return found


def _as_keys(tags: Tags) -> dict[str, str]:
    return {f"{prefix}:resourcetag/{key.lower()}": value for key, value in tags for prefix in ("aws", "iam")}
