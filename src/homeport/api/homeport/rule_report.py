"""TestRules: what of the present state violates rules, or would violate one that is not put yet.

Owns: which records are looked at, paging, and the form of a violation. Never changes anything and never judges by itself: the same object and the
same `judge` decide here as at admission, with the same bound of steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page, rule_object
from homeport.api.ecs.admission import STEPS_MAX
from homeport.api.ecs.rule_object import RuleObject
from homeport.api.homeport.rule import rule_of, stored_rule
from homeport.errors import InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import daemon as daemon_model
from homeport.model.ecs import daemon_task_definition as daemon_definition_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs import task_definition as definition_model
from homeport.model.ecs import task_set as task_set_model
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.service import Service
from homeport.model.homeport import rule as model
from homeport.model.homeport.rule import Rule
from homeport.rules.expression import Budget
from homeport.rules.judgement import Finding, judge
from homeport.store.table import Reader, Table
from homeport.store.tables import (
    DAEMON_REVISIONS,
    DAEMON_TASK_DEFINITIONS,
    DAEMONS,
    RULES,
    SERVICES,
    TASK_DEFINITIONS,
    TASK_SETS,
    TASKS,
)

OBJECTS_DEFAULT: Final = 200
OBJECTS_MAX: Final = 1_000
"""Looked at for one page."""
RECORDS_MAX: Final = 5_000
"""Read for one page, those that are over and done with among them."""
VIOLATIONS_MAX: Final = 1_000
PAGE_STEPS_MAX: Final = 1_000_000
"""A page ends with the object that reaches one of these two: some seconds at most, in a thread of its own."""


class _Source(NamedTuple):
    """Where the objects of a kind are kept."""

    table: Table[Any]
    in_cluster: bool
    counts: Callable[[Any], bool]
    """Whether a record is in force: may be run, or runs."""
    arn: Callable[[str, Any], str]


class _Seen(NamedTuple):
    """One object on its way through a page."""

    place: str
    """KIND:KEY, for the token of the next page."""
    arn: str
    document: RuleObject


_SOURCES: Final[dict[str, _Source]] = {
    model.TASK_DEFINITION: _Source(
        TASK_DEFINITIONS,
        False,
        lambda record: bool(record.status == definition_model.ACTIVE),
        lambda region, record: arn.task_definition_arn(region, record.account, record.family, record.revision),
    ),
    model.DAEMON_TASK_DEFINITION: _Source(
        DAEMON_TASK_DEFINITIONS,
        False,
        lambda record: bool(record.status == daemon_definition_model.ACTIVE),
        lambda region, record: arn.daemon_task_definition_arn(region, record.reference),
    ),
    model.SERVICE: _Source(
        SERVICES,
        True,
        lambda record: bool(record.status == service_model.ACTIVE),
        lambda region, record: arn.service_arn(region, record.account, record.cluster, record.name),
    ),
    model.TASK_SET: _Source(
        TASK_SETS,
        True,
        lambda record: bool(record.status != task_set_model.DRAINING),
        lambda region, record: arn.task_set_arn(region, record.account, record.cluster, record.service, record.id),
    ),
    model.DAEMON: _Source(
        DAEMONS, True, lambda record: bool(record.status == daemon_model.ACTIVE), lambda region, record: arn.daemon_arn(region, record.key)
    ),
    model.TASK: _Source(
        TASKS,
        True,
        lambda record: bool(record.desired_status == task_model.RUNNING and record.last_status != task_model.STOPPED),
        lambda region, record: arn.task_arn(region, record.account, record.cluster, record.id),
    ),
}


async def test_rules(call: Call, request: Any) -> dict[str, Any]:
    """What is violated, in the order of kinds and keys; a page tells how many objects it looked at and whether more follow.

    Raises ResourceNotFoundError for a rule that is not there, InvalidParameterError for one that is none, ClusterNotFoundError.
    """
    limit = page.limit_of(request.maxResults, limit_max=OBJECTS_MAX, default=OBJECTS_DEFAULT)
    if request.rule is not None and request.ruleNames:
        raise InvalidParameterError("Only one of rule and ruleNames can be specified.")
    given = rule_of(call, request.rule) if request.rule is not None else None
    kinds = [kind for kind in model.KINDS if kind in (request.resourceTypes or model.KINDS)]
    stopped = bool(request.includeStopped)
    filters = (request.cluster, kinds, stopped, sorted(request.ruleNames or ()), _sign(given))
    after = pagination.open_token(call, request.nextToken, filters)

    def look(reader: Reader) -> tuple[list[Rule], list[_Seen], str | None]:
        cluster = lookup.cluster_of(reader, call, request.cluster).name if request.cluster else ""
        rules = [given] if given else _rules(reader, call, request.ruleNames or ())
        walk = _walk(reader, call, kinds=kinds, cluster=cluster, after=after)
        seen, last = _page(reader, call, walk, limit=limit, stopped=stopped)
        return rules, seen, last

    rules, seen, last = await call.view(look)
    found, looked_at = await asyncio.to_thread(_judged, rules, seen)
    if looked_at < len(seen):
        last = seen[looked_at - 1].place
    return {"violations": found, "examined": looked_at, **page.next_page(call, last, filters)}


def _sign(rule: Rule | None) -> list[str]:
    return [] if rule is None else [rule.name, rule.require, rule.violations]


def _rules(reader: Reader, call: Call, names: Sequence[str]) -> list[Rule]:
    if names:
        return [stored_rule(reader, call, name) for name in dict.fromkeys(names)]
    return list(reader.scan(RULES, f"{call.account}/"))


def _walk(reader: Reader, call: Call, *, kinds: Sequence[str], cluster: str, after: str) -> Iterator[tuple[str, Any]]:
    """Kind and record of everything behind `after`, in force or not; of one cluster only what is in it."""
    last_kind, _, last_key = after.partition(":")
    for kind in kinds:
        source = _SOURCES[kind]
        if (cluster and not source.in_cluster) or (last_kind and model.KINDS.index(kind) < model.KINDS.index(last_kind)):
            continue
        prefix = f"{call.account}/{cluster}/" if cluster else f"{call.account}/"
        yield from ((kind, record) for record in reader.scan(source.table, prefix, last_key if kind == last_kind else ""))


def _page(reader: Reader, call: Call, walk: Iterator[tuple[str, Any]], *, limit: int, stopped: bool) -> tuple[list[_Seen], str | None]:
    """The next objects, with tasks that have `stopped` if so, and where they end if more may follow."""
    seen: list[_Seen] = []
    place = ""
    for number, (kind, record) in enumerate(walk):
        if len(seen) == limit or number == RECORDS_MAX:
            return seen, place
        place = f"{kind}:{record.key}"
        source = _SOURCES[kind]
        document = _document(reader, call.region, kind, record) if source.counts(record) or (stopped and kind == model.TASK) else None
        if document is not None:
            seen.append(_Seen(place, source.arn(call.region, record), document))
    return seen, None


def _document(reader: Reader, region: str, kind: str, record: Any) -> RuleObject | None:
    """What rules see of `record`; None for a service that runs nothing but what its task sets say."""
    if kind == model.TASK_DEFINITION:
        return rule_object.task_definition_object(region, record)
    if kind == model.DAEMON_TASK_DEFINITION:
        return rule_object.daemon_task_definition_object(region, record)
    if isinstance(record, Service):
        return rule_object.service_object(reader, region, record) if record.family else None
    if kind == model.TASK_SET:
        return rule_object.task_set_object(reader, region, record)
    if isinstance(record, Daemon):
        revision = reader.get(DAEMON_REVISIONS, f"{record.key}/{record.revision_id}")
        return rule_object.daemon_object(reader, region, record, revision) if revision is not None else None
    return rule_object.task_object(reader, region, record)


def _judged(rules: Sequence[Rule], seen: Sequence[_Seen]) -> tuple[list[dict[str, Any]], int]:
    """The violations of the first objects, and how many objects that were: all, or as many as the bounds of a page allow."""
    found: list[dict[str, Any]] = []
    steps = 0
    for number, item in enumerate(seen, 1):
        budget = Budget(STEPS_MAX)
        found += [_violation_json(item, finding) for rule in rules if (finding := judge(rule, item.document, budget)) is not None]
        steps += STEPS_MAX - budget.steps
        if steps >= PAGE_STEPS_MAX or len(found) >= VIOLATIONS_MAX:
            return found, number
    return found, len(seen)


def _violation_json(item: _Seen, finding: Finding) -> dict[str, Any]:
    optional = {
        "cluster": item.document["cluster"],
        "service": item.document["service"],
        "found": list(finding.found),
        "evaluationError": finding.error,
    }
    return {
        "ruleName": finding.rule.name,
        "mode": finding.rule.mode,
        "resourceType": item.document["resourceType"],
        "resourceArn": item.arn,
        "message": finding.sentence,
        **{name: value for name, value in optional.items() if value},
    }
