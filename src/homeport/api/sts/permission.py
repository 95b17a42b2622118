"""What a caller of STS must be allowed to do.

Owns: `asks`. Never decides.
Source: the service authorization reference of AWS STS; STS's API reference, which says what needs no permission.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.call import Call
from homeport.api.permission import Ask
from homeport.model import arn
from homeport.store.table import Reader
from homeport.store.tables import ROLES

_FREE: Final = ("GetCallerIdentity", "GetSessionToken")


def asks(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Who one is, everybody may ask, and every user may have a session of its own; no policy can forbid either."""
    if call.operation in _FREE:
        return []
    if call.operation == "AssumeRole":
        return _assume(call, request, reader)
    if call.operation == "AssumeRoleWithWebIdentity":
        return _assume_with_token(call, request, reader)
    if call.operation == "GetFederationToken":
        name, context = f"arn:aws:sts::{call.account}:federated-user/{request.Name}", _tags(request.Tags)
        return [Ask(f"sts:{action}", name, context) for action in ("GetFederationToken", *(("TagSession",) if request.Tags else ()))]
    return [Ask(f"sts:{call.operation}", "*", {})]


def _assume(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """The role must trust the caller with each: the session, its tags and its source identity, inherited ones too."""
    context = {**_tags(request.Tags), **_role_tags(reader, request.RoleArn), "sts:rolesessionname": request.RoleSessionName}
    context["sts:durationseconds"] = str(request.DurationSeconds or 3600)
    inherited = call.session.source_identity if call.session is not None else ""
    for key, value in (("sts:externalid", request.ExternalId), ("sts:sourceidentity", request.SourceIdentity or inherited)):
        if value:
            context[key] = value
    keys = tuple(request.TransitiveTagKeys or ()) + (call.session.transitive if call.session is not None else ())
    if keys:
        context["sts:transitivetagkeys"] = keys
    actions = ["sts:AssumeRole"]
    if request.Tags or keys:
        actions.append("sts:TagSession")
    if "sts:sourceidentity" in context:
        actions.append("sts:SetSourceIdentity")
    return [Ask(action, request.RoleArn, context, trusts=True) for action in actions]


def _assume_with_token(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """The role must trust the provider with each: the session, and the tags and the source identity that the token brings."""
    claims = call.identity
    if claims is None:
        return [Ask("sts:AssumeRoleWithWebIdentity", request.RoleArn, {}, trusts=True)]
    context: dict[str, str | tuple[str, ...]] = {
        **claims.keys,
        **{f"aws:requesttag/{key.lower()}": value for key, value in claims.tags},
        **_role_tags(reader, request.RoleArn),
        "aws:federatedprovider": call.principal_arn,
        "sts:rolesessionname": request.RoleSessionName,
        "sts:durationseconds": str(request.DurationSeconds or 3600),
    }
    actions = ["sts:AssumeRoleWithWebIdentity"]
    if claims.tags:
        context["aws:tagkeys"] = tuple(key for key, _ in claims.tags)
        actions.append("sts:TagSession")
    if claims.transitive:
        context["sts:transitivetagkeys"] = claims.transitive
    if claims.source_identity:
        context["sts:sourceidentity"] = claims.source_identity
        actions.append("sts:SetSourceIdentity")
    return [Ask(action, request.RoleArn, context, trusts=True) for action in actions]


def _tags(given: Any) -> dict[str, str | tuple[str, ...]]:
    found: dict[str, str | tuple[str, ...]] = {f"aws:requesttag/{each.Key.lower()}": each.Value for each in given or ()}
    if given:
        found["aws:tagkeys"] = tuple(each.Key for each in given)
    return found


def _role_tags(reader: Reader, role_arn: str) -> dict[str, str]:
    parsed = arn.parse_arn(role_arn)
    role = reader.get(ROLES, f"{parsed.account}/{parsed.resource.rpartition('/')[2].lower()}") if parsed else None
    return {f"{prefix}:resourcetag/{key.lower()}": value for key, value in (role.tags if role else ()) for prefix in ("aws", "iam")}
