"""A record as AWS CloudTrail writes one.

Owns: `event_of` (CloudTrail's record format), `event_id`, `user_name`, `resources_of`. Pure: never reads a log.
Source: CloudTrail user guide, "CloudTrail record contents" and "CloudTrail userIdentity element", event version 1.11.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from homeport.audit.record import CONNECTION, RECOVERED, Record
from homeport.model import arn

EVENT_VERSION: Final = "1.11"
UNKNOWN_OPERATION: Final = "UnknownOperation"
"""The event name of a request that named no operation."""
OURS: Final = "homeport"
"""Event source of operations that AWS does not have."""
_ERROR_CODES: Final = {"AccessDeniedException": "AccessDenied"}
_DEPTH_MAX: Final = 8
_RESOURCES_MAX: Final = 50

_OF_MEMBER: Final = {
    "cluster": "AWS::ECS::Cluster",
    "clusterName": "AWS::ECS::Cluster",
    "service": "AWS::ECS::Service",
    "serviceName": "AWS::ECS::Service",
    "taskDefinition": "AWS::ECS::TaskDefinition",
    "family": "AWS::ECS::TaskDefinition",
    "task": "AWS::ECS::Task",
    "containerInstance": "AWS::ECS::ContainerInstance",
    "capacityProvider": "AWS::ECS::CapacityProvider",
    "userName": "AWS::IAM::User",
    "groupName": "AWS::IAM::Group",
    "roleName": "AWS::IAM::Role",
    "policyName": "AWS::IAM::Policy",
    "accessKeyId": "AWS::IAM::AccessKey",
    "instanceProfileName": "AWS::IAM::InstanceProfile",
}
"""Member of a request → type of the resource that it names."""
_OF_ARN: Final = {
    ("ecs", "cluster"): "AWS::ECS::Cluster",
    ("ecs", "service"): "AWS::ECS::Service",
    ("ecs", "task-definition"): "AWS::ECS::TaskDefinition",
    ("ecs", "task"): "AWS::ECS::Task",
    ("ecs", "container-instance"): "AWS::ECS::ContainerInstance",
    ("ecs", "capacity-provider"): "AWS::ECS::CapacityProvider",
    ("ecs", "task-set"): "AWS::ECS::TaskSet",
    ("iam", "user"): "AWS::IAM::User",
    ("iam", "group"): "AWS::IAM::Group",
    ("iam", "role"): "AWS::IAM::Role",
    ("iam", "policy"): "AWS::IAM::ManagedPolicy",
    ("iam", "instance-profile"): "AWS::IAM::InstanceProfile",
}


class Resource(NamedTuple):
    """Something that an event is about."""

    type: str
    """CloudFormation's name of the type; "" when it is not known."""
    name: str


def event_id(record: Record) -> str:
    """The event's id: a UUID that the request's id decides, so that every source of the same event tells the same."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"event {record.request_id or record.number}".encode()).digest()[:16], version=4))


def event_source(record: Record) -> str:
    """Which service was asked."""
    return f"{record.service}.amazonaws.com" if record.service and record.service != OURS else OURS


def event_name(record: Record) -> str:
    """The operation."""
    return record.operation or UNKNOWN_OPERATION


def event_time(record: Record) -> float:
    """When the call ended; of a change that is told from the journal, when it was made."""
    return float((record.facts or {}).get("instant", record.instant)) if record.kind == RECOVERED else record.instant


def user_name(record: Record) -> str:
    """The user's name, the session's, or root; "" when nobody was found to have signed."""
    kind, _, rest = record.principal.split(":", 5)[5].partition("/") if record.principal.count(":") >= 5 else ("", "", "")
    return "root" if kind == "root" else rest.rpartition("/")[2]


def event_of(record: Record, region: str) -> dict[str, Any]:
    """The record in CloudTrail's form."""
    event: dict[str, Any] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": _identity(record),
        "eventTime": _time(event_time(record)),
        "eventSource": event_source(record),
        "eventName": event_name(record),
        "awsRegion": region,
        "sourceIPAddress": record.address or "homeport",
        "userAgent": record.agent,
        "requestParameters": _lowered(record.parameters),
        "responseElements": _lowered(record.response),
        "requestID": record.request_id,
        "eventID": event_id(record),
        "readOnly": record.read_only,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": record.account,
        "eventCategory": "Management",
    }
    if record.error:
        event["errorCode"] = _ERROR_CODES.get(record.error, record.error)
        event |= {"errorMessage": record.message} if record.message else {}
    if record.secure:
        event["tlsDetails"] = {"tlsVersion": "TLSv1.2 or newer"}
    if record.resources:
        event["resources"] = [{"ARN": name, "accountId": _account_of(name)} for name in record.resources]
    more = _additional(record)
    if more:
        event["additionalEventData"] = more
    return event


def _additional(record: Record) -> dict[str, Any]:
    """What CloudTrail has no member for."""
    more: dict[str, Any] = {"decision": msgspec.to_builtins(record.decision)} if record.decision is not None else {}
    if record.kind == CONNECTION:
        more["connection"] = "refused" if record.error else "opened"
    if record.kind == RECOVERED:
        more["toldFromJournal"] = {name: value for name, value in (record.facts or {}).items() if name != "instant"}
    return more


_ISSUER: Final = "oidc-provider"
_TYPES: Final = {
    "root": "Root",
    "user": "IAMUser",
    "assumed-role": "AssumedRole",
    "federated-user": "FederatedUser",
    _ISSUER: "WebIdentityUser",
}


def _identity(record: Record) -> dict[str, Any]:
    identity: dict[str, Any] = {"type": "Unknown"}
    if record.principal:
        kind = record.principal.split(":", 5)[-1].partition("/")[0]
        identity = {
            "type": _TYPES.get(kind, "Unknown"),
            "principalId": _principal_id(record, kind),
            "arn": record.principal,
            "accountId": record.account,
        }
        if kind == "user":
            identity["userName"] = user_name(record)
        if kind == _ISSUER:
            identity["identityProvider"] = record.principal
    elif record.account:
        identity["accountId"] = record.account
    if record.access_key_id:
        identity["accessKeyId"] = record.access_key_id
    if record.session is not None:
        identity["sessionContext"] = _session(record)
    return identity


def _principal_id(record: Record, kind: str) -> str:
    if record.session is not None and kind in ("assumed-role", "federated-user"):
        return f"{record.session.source_id or record.account}:{user_name(record)}"
    return record.account if kind == "root" else record.principal_id


def _session(record: Record) -> dict[str, Any]:
    session = record.session
    if session is None:
        return {}
    kind, _, rest = session.source.split(":", 5)[-1].partition("/")
    issuer = {
        "type": {"role": "Role", "user": "IAMUser", "root": "Root"}.get(kind, kind),
        "principalId": session.source_id,
        "arn": session.source,
        "accountId": _account_of(session.source),
        "userName": rest.rpartition("/")[2],
    }
    told: dict[str, Any] = {"sessionIssuer": issuer, "attributes": {"creationDate": _time(session.issued_at), "mfaAuthenticated": "false"}}
    if session.source_identity:
        told["sourceIdentity"] = session.source_identity
    return told


def resources_of(record: Record) -> list[Resource]:
    """Everything that the event names: ARNs, and the members of the request whose meaning is known."""
    found: dict[Resource, None] = {}
    for name in record.resources:
        found[_of_arn(name)] = None
    for value in (record.parameters, record.response):
        for resource in _named(value, 0):
            found[resource] = None
    for told in (record.facts or {}).get("records", ()) if record.kind == RECOVERED else ():
        found[Resource("", str(told).rpartition("/")[2])] = None
    return list(found)[:_RESOURCES_MAX]


def _named(value: Any, depth: int) -> Iterator[Resource]:
    if depth > _DEPTH_MAX:
        return
    if isinstance(value, dict):
        for member, inner in value.items():
            kind = _OF_MEMBER.get(_lower(member))
            if isinstance(inner, str) and kind and not inner.startswith("arn:"):
                yield Resource(kind, inner)
            yield from _named(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, depth + 1)
    elif isinstance(value, str) and value.startswith("arn:"):
        yield _of_arn(value)


def _of_arn(name: str) -> Resource:
    parsed = arn.parse_arn(name)
    kind = name.split(":", 5)[-1].partition("/")[0] if parsed is not None else ""
    return Resource(_OF_ARN.get((name.split(":")[2], kind), "") if parsed is not None else "", name)


def _account_of(name: str) -> str:
    parsed = arn.parse_arn(name)
    return parsed.account if parsed is not None else ""


def _lower(member: str) -> str:
    return member[:1].lower() + member[1:]


def _lowered(value: Any) -> Any:
    """Members as CloudTrail spells them, also those of services whose members begin with a capital."""
    if isinstance(value, dict):
        return {_lower(member): _lowered(inner) for member, inner in value.items()}
    if isinstance(value, list):
        return [_lowered(inner) for inner in value]
    return value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
