"""Operations on daemon task definitions: register, describe, list, delete.

Owns: the `DaemonTaskDefinition` records up to DELETE_IN_PROGRESS. Never checks a document itself: what a
daemon task definition may say is a part of what a task definition may say, so it is read as one (`task_definition_rules.py`).
Source: the service model's documentation of the four operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page
from homeport.api.ecs.admission import admit_daemon_task_definition
from homeport.api.ecs.tag_rules import tags_of
from homeport.api.ecs.task_definition_registration import check_size, numbered, unnumbered
from homeport.api.ecs.task_definition_rules import Checked, checked
from homeport.api.protocol import model as protocol_model
from homeport.errors import ClientError, InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import daemon_task_definition as model
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.record import Tags
from homeport.store.table import Reader, Transaction
from homeport.store.tables import DAEMON_TASK_DEFINITION_FAMILIES, DAEMON_TASK_DEFINITIONS

MISSING: Final = "The specified daemon task definition does not exist."
NOT_ACTIVE: Final = "The specified daemon task definition is not in ACTIVE status."

_SHARED: Final = "shared"
_MODES: Final = ("pidMode", "ipcMode")
_ONLY_IN_TASK_DEFINITIONS: Final = ("portMappings", "volumesFrom")
"""What registration fills in of a container that no container of a daemon can have."""
_encode: Final = msgspec.json.Encoder().encode


async def register_daemon_task_definition(call: Call, request: Any) -> dict[str, Any]:
    """RegisterDaemonTaskDefinition: the next revision of the family, always a new one; the answer is its ARN alone.

    Raises ClientError (InvalidParameterError for tags) for the first thing that is wrong.
    """
    tags = tags_of(request.tags, tags_max=call.settings.tags_max)
    as_task_definition = _as_task_definition(request)
    good = checked(as_task_definition, containers_max=call.settings.containers_per_task_definition_max)
    blank = unnumbered(call, as_task_definition, good, compatibilities=["EC2"])
    blank = msgspec.structs.replace(blank, unsupported=(*blank.unsupported, *_unsupported_volumes(request)))
    shown = _encode(_shown(request, good))
    check_size(call, shown)

    def register(tx: Transaction) -> dict[str, Any]:
        made = _registered(numbered(tx, call, DAEMON_TASK_DEFINITION_FAMILIES, blank), shown, tags)
        admit_daemon_task_definition(tx, call, made)
        tx.put(DAEMON_TASK_DEFINITIONS, made)
        return {"daemonTaskDefinitionArn": definition_arn(call.region, made)}

    return await call.update(register)


def _registered(definition: TaskDefinition, shown: bytes, tags: Tags) -> DaemonTaskDefinition:
    return DaemonTaskDefinition(
        account=definition.account,
        family=definition.family,
        revision=definition.revision,
        status=model.ACTIVE,
        registered_at=definition.registered_at,
        registered_by=definition.registered_by,
        shown=shown,
        definition=definition,
        tags=tags,
    )


def _as_task_definition(request: Any) -> Any:
    """The request as RegisterTaskDefinition's: a `shared` namespace is the host's; `none` is what tasks have anyway."""
    for volume in request.volumes or ():
        log_driver = volume.logDriverVolumeConfiguration
        if log_driver is not None and volume.host is not None:
            raise ClientError(f"The volume '{volume.name}' may have only one of host and logDriverVolumeConfiguration.")
        if log_driver is not None and log_driver.driver != "json-file":
            raise ClientError(
                f"The driver {log_driver.driver} of the volume '{volume.name}' is not supported. The only supported value is json-file."
            )
    members = msgspec.to_builtins(request)
    members.pop("tags", None)
    for mode in _MODES:
        if members.pop(mode, None) == _SHARED:
            members[mode] = "host"
    for volume in members.get("volumes") or ():
        volume.pop("logDriverVolumeConfiguration", None)
    return msgspec.convert(members, protocol_model.load().operations["RegisterTaskDefinition"].input_type)


def _unsupported_volumes(request: Any) -> Iterator[str]:
    for number, volume in enumerate(request.volumes or ()):
        if volume.logDriverVolumeConfiguration is not None:
            yield f"volumes[{number}].logDriverVolumeConfiguration"


def _shown(request: Any, good: Checked) -> dict[str, Any]:
    containers = [
        {name: value for name, value in msgspec.to_builtins(container).items() if name not in _ONLY_IN_TASK_DEFINITIONS}
        for container in good.containers
    ]
    volumes = [
        volume if volume.host is not None or volume.logDriverVolumeConfiguration is not None else {"name": volume.name, "host": {}}
        for volume in request.volumes or ()
    ]
    shown = {"family": good.family, "containerDefinitions": containers, "volumes": volumes, "cpu": good.cpu_text, "memory": good.memory_text}
    shown |= {"taskRoleArn": request.taskRoleArn, "executionRoleArn": request.executionRoleArn}
    shown |= {mode: getattr(request, mode) or "none" for mode in _MODES}
    return {name: value for name, value in shown.items() if value is not None}


def definition_arn(region: str, definition: DaemonTaskDefinition) -> str:
    """The ARN of a revision."""
    return arn.daemon_task_definition_arn(region, definition.reference)


def _summary(definition: DaemonTaskDefinition) -> dict[str, Any]:
    """What the list and the description have in common, but for the ARN."""
    shown: dict[str, Any] = {
        "status": definition.status,
        "registeredAt": definition.registered_at,
        "registeredBy": definition.registered_by,
    }
    return {**shown, "deleteRequestedAt": definition.delete_requested_at} if definition.delete_requested_at else shown


async def describe_daemon_task_definition(call: Call, request: Any) -> dict[str, Any]:
    """DescribeDaemonTaskDefinition: a revision of any status, or a family's latest ACTIVE one."""
    definition = await call.view(lambda reader: daemon_task_definition_of(reader, call, request.daemonTaskDefinition))
    head = {
        "daemonTaskDefinitionArn": definition_arn(call.region, definition),
        "revision": definition.revision,
        **_summary(definition),
    }
    return {"daemonTaskDefinition": msgspec.Raw(_encode(head)[:-1] + b"," + definition.shown[1:])}


def daemon_task_definition_of(reader: Reader, call: Call, reference: str, *, missing: str = MISSING) -> DaemonTaskDefinition:
    """The revision that `reference` names: `family` (its latest ACTIVE revision), `family:revision` or an ARN; of any status.

    Raises ClientError with the words of `missing` when there is none, InvalidParameterError for a malformed reference.
    """
    family, revision = lookup.split_task_definition(call, reference, kind="daemon-task-definition")
    if revision is not None:
        found = reader.get(DAEMON_TASK_DEFINITIONS, task_definition_key(call.account, family, revision))
    else:
        found = max(
            reader.find(DAEMON_TASK_DEFINITIONS, "family_status", f"{call.account}/{family}/{model.ACTIVE}"),
            key=lambda definition: definition.revision,
            default=None,
        )
    if found is None:
        raise ClientError(missing)
    return found


async def delete_daemon_task_definition(call: Call, request: Any) -> dict[str, Any]:
    """DeleteDaemonTaskDefinition: ACTIVE → DELETE_IN_PROGRESS. Daemons that have it keep it; new ones cannot. The revision must be named."""
    if lookup.split_task_definition(call, request.daemonTaskDefinition, kind="daemon-task-definition")[1] is None:
        raise InvalidParameterError("The revision of the daemon task definition must be specified.")

    def delete(tx: Transaction) -> dict[str, Any]:
        definition = daemon_task_definition_of(tx, call, request.daemonTaskDefinition)
        if definition.status != model.ACTIVE:
            raise ClientError(NOT_ACTIVE)
        tx.put(DAEMON_TASK_DEFINITIONS, msgspec.structs.replace(definition, status=model.DELETE_IN_PROGRESS, delete_requested_at=tx.now))
        return {"daemonTaskDefinitionArn": definition_arn(call.region, definition)}

    return await call.update(delete)


async def list_daemon_task_definitions(call: Call, request: Any) -> dict[str, Any]:
    """ListDaemonTaskDefinitions: summaries by family, then revision (`sort` DESC turns that round); ACTIVE ones unless `status` says otherwise."""
    if request.family and request.familyPrefix:
        raise InvalidParameterError("Only one of family and familyPrefix can be specified.")
    limit = page.limit_of(request.maxResults)
    status = request.status or model.ACTIVE
    descending = request.sort == "DESC"
    filters = (request.family, request.familyPrefix, status, request.revision, descending)
    after = pagination.open_token(call, request.nextToken, filters)

    def list_page(reader: Reader) -> dict[str, Any]:
        following = (
            definition for definition in _revisions(reader, call, request, descending=descending, after=after) if status in ("ALL", definition.status)
        )
        found, last = pagination.paginate(following, limit=limit, key=_place)
        summaries = [{"arn": definition_arn(call.region, definition), **_summary(definition)} for definition in found]
        return {"daemonTaskDefinitions": summaries, **page.next_page(call, last, filters)}

    return await call.view(list_page)


def _place(definition: DaemonTaskDefinition) -> str:
    return f"{definition.family}:{definition.revision:07d}"


def _revisions(reader: Reader, call: Call, request: Any, *, descending: bool, after: str) -> Iterator[DaemonTaskDefinition]:
    """The revisions behind `after` ("" or FAMILY:NNNNNNN), family by family: the keys of revisions sort `a-b` before `a`."""
    last_family = after.partition(":")[0]
    families = [
        family
        for family in reader.scan(DAEMON_TASK_DEFINITION_FAMILIES, f"{call.account}/{request.family or request.familyPrefix or ''}")
        if not request.family or family.family == request.family
    ]
    for family in reversed(families) if descending else families:
        if after and (family.family > last_family if descending else family.family < last_family):
            continue
        if request.revision == "LAST_REGISTERED":
            newest = reader.get(DAEMON_TASK_DEFINITIONS, task_definition_key(call.account, family.family, family.last_revision))
            found = [] if newest is None else [newest]
        else:
            found = list(reader.scan(DAEMON_TASK_DEFINITIONS, f"{family.key}:"))
        for definition in reversed(found) if descending else found:
            if not after or (_place(definition) < after if descending else _place(definition) > after) or family.family != last_family:
                yield definition
