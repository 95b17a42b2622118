"""Operations on task definitions: register, describe, list, deregister, delete.

Owns: the `TaskDefinition` records. Never checks a document itself (`task_definition_rules.py`), never numbers one
(`task_definition_registration.py`) and never removes a revision: the retention controller does, once nothing refers to it.
Source: ecs-reference 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page
from homeport.api.ecs.admission import admit_task_definition
from homeport.api.ecs.tag_rules import tags_json, tags_of
from homeport.api.ecs.task_definition_compatibility import compatibilities
from homeport.api.ecs.task_definition_json import task_definition_json
from homeport.api.ecs.task_definition_registration import check_size, numbered, unnumbered
from homeport.api.ecs.task_definition_rules import checked
from homeport.errors import ClientError, InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import task_definition as model
from homeport.model.ecs.task_definition import TaskDefinition, TaskDefinitionFamily, task_definition_key
from homeport.store.table import Reader, Transaction
from homeport.store.tables import TASK_DEFINITION_FAMILIES, TASK_DEFINITIONS

DELETE_MAX: Final = 10

NOT_THERE: Final = "The specified task definition does not exist."
STILL_ACTIVE: Final = "The specified task definition is still in ACTIVE status. Please deregister the target and try again."
NOT_THERE_TO_DELETE: Final = "The specified task definition does not exist. Specify a valid account, family, revision and try again."


async def register_task_definition(call: Call, request: Any) -> dict[str, Any]:
    """RegisterTaskDefinition: the next revision of the family, always a new one.

    Raises ClientError (InvalidParameterError for tags and placement expressions) for the first thing that is wrong.
    """
    tags = tags_of(request.tags, tags_max=call.settings.tags_max)
    good = checked(request, containers_max=call.settings.containers_per_task_definition_max)
    blank = msgspec.structs.replace(unnumbered(call, request, good, compatibilities=compatibilities(request, good)), tags=tags)
    check_size(call, blank.document)

    def register(tx: Transaction) -> TaskDefinition:
        definition = numbered(tx, call, TASK_DEFINITION_FAMILIES, blank)
        admit_task_definition(tx, call, definition)
        tx.put(TASK_DEFINITIONS, definition)
        return definition

    answer: dict[str, Any] = {"taskDefinition": task_definition_json(call.region, await call.update(register))}
    if tags:
        answer["tags"] = tags_json(tags)
    return answer


async def describe_task_definition(call: Call, request: Any) -> dict[str, Any]:
    """DescribeTaskDefinition: a revision of any status, or a family's latest ACTIVE one; tags beside it when `include` has TAGS."""
    definition = await call.view(lambda reader: lookup.task_definition_of(reader, call, request.taskDefinition))
    answer: dict[str, Any] = {"taskDefinition": task_definition_json(call.region, definition)}
    if "TAGS" in (request.include or ()):
        answer["tags"] = tags_json(definition.tags)
    return answer


async def deregister_task_definition(call: Call, request: Any) -> dict[str, Any]:
    """DeregisterTaskDefinition: ACTIVE → INACTIVE. The revision must be named; one that is INACTIVE already is returned as it is."""
    if lookup.split_task_definition(call, request.taskDefinition)[1] is None:
        raise ClientError("The revision of the task definition must be specified.")

    def deregister(tx: Transaction) -> TaskDefinition:
        definition = lookup.task_definition_of(tx, call, request.taskDefinition, missing=NOT_THERE)
        if definition.status == model.ACTIVE:
            definition = msgspec.structs.replace(definition, status=model.INACTIVE, deregistered_at=tx.now)
            tx.put(TASK_DEFINITIONS, definition)
        return definition

    return {"taskDefinition": task_definition_json(call.region, await call.update(deregister))}


async def delete_task_definitions(call: Call, request: Any) -> dict[str, Any]:
    """DeleteTaskDefinitions: INACTIVE → DELETE_IN_PROGRESS for up to 10 revisions; each other one is a failure of its own."""
    references = request.taskDefinitions
    if not references:
        raise InvalidParameterError("Task definitions can not be empty.")
    if len(references) > DELETE_MAX:
        raise InvalidParameterError(f"Task definitions cannot have more than {DELETE_MAX} elements.")
    wanted = dict.fromkeys(_revision(call, reference) for reference in references)

    def delete(tx: Transaction) -> dict[str, Any]:
        deleted, failures = [], []
        for family, revision in wanted:
            definition = tx.get(TASK_DEFINITIONS, task_definition_key(call.account, family, revision))
            if definition is None or definition.status == model.ACTIVE:
                reason = NOT_THERE_TO_DELETE if definition is None else STILL_ACTIVE
                failures.append({"arn": arn.task_definition_arn(call.region, call.account, family, revision), "reason": reason})
                continue
            if definition.status == model.INACTIVE:
                definition = msgspec.structs.replace(definition, status=model.DELETE_IN_PROGRESS, delete_requested_at=tx.now)
                tx.put(TASK_DEFINITIONS, definition)
            deleted.append(task_definition_json(call.region, definition))
        return {"taskDefinitions": deleted, "failures": failures}

    return await call.update(delete)


def _revision(call: Call, reference: str) -> tuple[str, int]:
    family, revision = lookup.split_task_definition(call, reference)
    if revision is None:
        raise InvalidParameterError(f"The revision of the task definition must be specified: {reference}")
    return family, revision


async def list_task_definitions(call: Call, request: Any) -> dict[str, Any]:
    """ListTaskDefinitions: ARNs by family, then revision (`sort` DESC turns that round), ACTIVE ones unless `status` says otherwise.

    `familyPrefix` is a whole family's name here, as in ECS.
    """
    limit = page.limit_of(request.maxResults)
    status = request.status or model.ACTIVE
    descending = request.sort == "DESC"
    filters = (request.familyPrefix, status, descending)
    after = pagination.open_token(call, request.nextToken, filters)

    def list_page(reader: Reader) -> dict[str, Any]:
        families = (
            [request.familyPrefix]
            if request.familyPrefix
            else [family.family for family in reader.scan(TASK_DEFINITION_FAMILIES, f"{call.account}/")]
        )
        found, last = pagination.paginate(_revisions(reader, call, families, (status, descending), after), limit=limit, key=_token_key)
        arns = [arn.task_definition_arn(call.region, call.account, definition.family, definition.revision) for definition in found]
        return {"taskDefinitionArns": arns, **page.next_page(call, last, filters)}

    return await call.view(list_page)


def _token_key(definition: TaskDefinition) -> str:
    return f"{definition.family}:{definition.revision:07d}"


def _revisions(reader: Reader, call: Call, families: list[str], order: tuple[str, bool], after: str) -> Iterator[TaskDefinition]:
    """Revisions behind `after` ("" or FAMILY:NNNNNNN). Families are walked one by one: the keys of revisions sort `a-b` before `a`."""
    status, descending = order
    last_family = after.partition(":")[0]
    for family in reversed(families) if descending else families:
        if after and (family > last_family if descending else family < last_family):
            continue
        value = f"{call.account}/{family}/{status}"
        if not reader.count(TASK_DEFINITIONS, "family_status", value):
            continue
        started = after if family == last_family else ""
        if descending:
            found = [
                definition for definition in reader.find(TASK_DEFINITIONS, "family_status", value) if not started or _token_key(definition) < started
            ]
            yield from reversed(found)
        else:
            yield from reader.find(TASK_DEFINITIONS, "family_status", value, f"{call.account}/{started}" if started else "")


async def list_task_definition_families(call: Call, request: Any) -> dict[str, Any]:
    """ListTaskDefinitionFamilies: names by prefix and status. A family is ACTIVE while it has an ACTIVE revision, else INACTIVE."""
    limit = page.limit_of(request.maxResults)
    filters = (request.familyPrefix, request.status)
    after = pagination.open_token(call, request.nextToken, filters)

    def list_page(reader: Reader) -> dict[str, Any]:
        prefix = f"{call.account}/{request.familyPrefix or ''}"
        families = reader.scan(TASK_DEFINITION_FAMILIES, prefix, f"{call.account}/{after}" if after else "")
        named = (family.family for family in families if _family_status(reader, family) in _wanted_statuses(request.status))
        found, last = pagination.paginate(named, limit=limit, key=str)
        return {"families": found, **page.next_page(call, last, filters)}

    return await call.view(list_page)


def _wanted_statuses(status: str | None) -> tuple[str, ...]:
    return (model.ACTIVE, model.INACTIVE) if status in (None, "ALL") else (status or "",)


def _family_status(reader: Reader, family: TaskDefinitionFamily) -> str:
    """ACTIVE, INACTIVE, or "" for a family whose revisions are all gone."""
    for status, shown in ((model.ACTIVE, model.ACTIVE), (model.INACTIVE, model.INACTIVE), (model.DELETE_IN_PROGRESS, model.INACTIVE)):
        if reader.count(TASK_DEFINITIONS, "family_status", f"{family.key}/{status}"):
            return shown
    return ""
