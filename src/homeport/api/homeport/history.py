"""DescribeHistory: who changed a resource, when, which fields from what to what, and by which request or controller.

Owns: the handler and the form of its entries. Never writes; the journal is the only source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.homeport.record_json import FieldDifference, camel, differences, json_value, record_json
from homeport.api.homeport.resource import Place, arn_of, meant
from homeport.errors import InvalidParameterError, ResourceNotFoundError
from homeport.model.cause import parse_cause
from homeport.store.journal import RecordChange
from homeport.store.tables import DEPLOYMENTS, SERVICES, TASK_SETS

ENTRIES_MAX: Final = 1_000
"""Largest and default page."""


async def describe_history(call: Call, request: Any) -> dict[str, Any]:
    """Every change of one resource, oldest first, as far as the journal reaches; a service's deployments are part of its story.

    Raises ResourceNotFoundError when the journal knows nothing of it.
    """
    limit = request.maxResults or ENTRIES_MAX
    filters = (request.resource, request.cluster)
    after = _revision(pagination.open_token(call, request.nextToken, filters))
    candidates = await call.view(lambda reader: meant(reader, call, request.resource, request.cluster))
    for place in candidates:
        told = await _told(call, place)
        if told:
            break
    else:
        raise ResourceNotFoundError(f"The journal knows nothing of {request.resource}.")
    later = ((where, change) for where, change in told if change.revision > after)
    page, last = pagination.paginate(later, limit=limit, key=lambda step: str(step[1].revision))
    if last is not None:  # a revision is never torn apart: its other changes come with it
        page += [step for step in told if step[1].revision == int(last) and step not in page]
    answer: dict[str, Any] = {"resourceArn": arn_of(call, place), "entries": [_entry(call, where, change) for where, change in page]}
    if last is not None and told[-1][1].revision > int(last):
        answer["nextToken"] = pagination.page_token(call, last, filters)
    return answer


def _revision(token: str) -> int:
    if token and not token.isdigit():
        raise InvalidParameterError("Invalid token: nextToken is malformed.")
    return int(token or 0)


async def _told(call: Call, place: Place) -> list[tuple[Place, RecordChange]]:
    """The story of the resource at `place`, with those of its parts."""
    journal = call.context.store.journal
    told = [(place, change) for change in await journal.story(place.table, place.key)]
    if place.table is SERVICES:
        deployments = await call.view(lambda reader: [item.key for item in reader.find(DEPLOYMENTS, "service", place.key)])
        for key in deployments:
            told += [(Place(DEPLOYMENTS, key), change) for change in await journal.story(DEPLOYMENTS, key)]
        for key in await call.view(lambda reader: [item.key for item in reader.find(TASK_SETS, "service", place.key)]):
            told += [(Place(TASK_SETS, key), change) for change in await journal.story(TASK_SETS, key)]
    return sorted(told, key=lambda step: step[1].revision)


def _entry(call: Call, place: Place, change: RecordChange) -> dict[str, Any]:
    cause = parse_cause(change.cause)
    members = {
        "kind": cause.kind,
        "who": cause.who,
        "why": cause.why,
        "operation": cause.operation,
        "requestId": cause.request_id,
        "principalArn": cause.principal_arn,
        "controller": cause.controller,
    }
    return {
        "revision": change.revision,
        "instant": change.instant,
        "kind": change.kind,
        "resourceArn": arn_of(call, place),
        "cause": {name: value for name, value in members.items() if value},
        "changes": [_difference_json(difference) for difference in _differences(change)],
    }


def _differences(change: RecordChange) -> Iterator[FieldDifference]:
    if change.kind == "update" and (change.before is None or change.record is None):  # the journal has the new values alone
        return iter([FieldDifference(camel(name), None, json_value(value)) for name, value in change.fields])
    return differences(record_json(change.before), record_json(change.record))


def _difference_json(difference: FieldDifference) -> dict[str, Any]:
    shown = {"field": difference.field, "old": difference.old, "new": difference.new}
    return {name: value for name, value in shown.items() if value is not None}
