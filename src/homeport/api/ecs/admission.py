"""Rules where something is made: what an enforced rule forbids is refused, and nothing of the call is done.

Owns: the functions that handlers call inside their transaction, and the words of the refusal. Never evaluates (`homeport.rules`) and never builds an
object by itself (`rule_object.py`): the report does the same two things. Without a rule of the account nothing is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import rule_object
from homeport.api.ecs.rule_object import RuleObject
from homeport.errors import RuleViolatedError
from homeport.model.ecs import task as task_model
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.ecs.task_set import TaskSet
from homeport.model.homeport.rule import ENFORCE, Rule
from homeport.rules.expression import Budget
from homeport.rules.judgement import Finding, judge
from homeport.store.table import Reader
from homeport.store.tables import RULES, TASK_DEFINITIONS

STEPS_MAX: Final = 200_000
"""Of all rules' evaluations on one object: a tenth of a second or two, for which other calls wait. What is not evaluated then counts as violated."""
TOLD_MAX: Final = 5
"""Rules that one refusal tells of."""


def admit_task_definition(reader: Reader, call: Call, definition: TaskDefinition) -> None:
    """Raise RuleViolatedError when an enforced rule forbids a revision."""
    if rules := _enforced(reader, call):
        _refuse(_findings(rules, [rule_object.task_definition_object(call.region, definition)]))


def admit_daemon_task_definition(reader: Reader, call: Call, definition: DaemonTaskDefinition) -> None:
    """Raise RuleViolatedError when an enforced rule forbids a revision."""
    if rules := _enforced(reader, call):
        _refuse(_findings(rules, [rule_object.daemon_task_definition_object(call.region, definition)]))


def admit_tasks(reader: Reader, call: Call, definition: TaskDefinition, *, providers: Sequence[str], **fields: Any) -> None:
    """Raise RuleViolatedError when an enforced rule forbids a task of `definition` by one of the capacity `providers` ("": by none), with these
    `fields` of its record."""
    if rules := _enforced(reader, call):
        tasks = (_prospect(definition, capacity_provider=provider, **fields) for provider in providers)
        _refuse(_findings(rules, (rule_object.task_object(reader, call.region, task) for task in tasks)))


def admit_task_set(reader: Reader, call: Call, task_set: TaskSet) -> None:
    """Raise RuleViolatedError when an enforced rule forbids a task set."""
    if rules := _enforced(reader, call):
        _refuse(_findings(rules, [rule_object.task_set_object(reader, call.region, task_set)]))


def admit_daemon(reader: Reader, call: Call, daemon: Daemon, revision: DaemonRevision) -> None:
    """Raise RuleViolatedError when an enforced rule forbids a daemon that is as `revision`."""
    if rules := _enforced(reader, call):
        _refuse(_findings(rules, [rule_object.daemon_object(reader, call.region, daemon, revision)]))


def admit_service(reader: Reader, call: Call, service: Service, *, before: Service | None = None, deploys: bool = True) -> None:
    """Raise RuleViolatedError when an enforced rule forbids a service as it is to be, or a task that its lifecycle hooks run.

    An update that `deploys` nothing new is not refused for what the service did already `before`: whoever scales it down must be able to.
    """
    if not (rules := _enforced(reader, call)):
        return
    findings = _findings(rules, _of_service(reader, call, service))
    if before is not None and not deploys:
        known = {_sign(seen, finding) for seen, finding in _findings(rules, _of_service(reader, call, before))}
        findings = [(seen, finding) for seen, finding in findings if _sign(seen, finding) not in known]
    _refuse(findings)


def _sign(seen: RuleObject, finding: Finding) -> tuple[str, str, str]:
    """By what a violation is known again: which rule, and what runs."""
    definition = seen["taskDefinition"] or {}
    return finding.rule.name, seen["resourceType"], definition.get("taskDefinitionArn", "")


def _of_service(reader: Reader, call: Call, service: Service) -> Iterator[RuleObject]:
    """The service, unless it has no task definition (its task sets are looked at when they are made), and the tasks of its hooks."""
    if service.family:
        yield rule_object.service_object(reader, call.region, service)
    configuration = msgspec.json.decode(service.deployment_configuration or b"{}")
    for hook in configuration.get("lifecycleHooks") or ():
        family, _, revision = (hook.get("hookTargetArn") or "").rpartition("/")[2].partition(":")
        if ":task-definition/" not in (hook.get("hookTargetArn") or ""):
            continue
        definition = reader.get(TASK_DEFINITIONS, task_definition_key(service.account, family, int(revision or 0)))
        if definition is not None:
            launch_type = service.launch_type or "EC2"
            task = _prospect(definition, cluster=service.cluster, group=f"family:{family}", launch_type=launch_type)
            yield rule_object.task_object(reader, call.region, task)


def _prospect(definition: TaskDefinition, **fields: Any) -> Task:
    """The record of a task that is not made yet, in what a rule sees of it."""
    return Task(
        account=definition.account,
        id="",
        family=definition.family,
        revision=definition.revision,
        desired_status=task_model.RUNNING,
        last_status=task_model.PROVISIONING,
        created_at=0.0,
        **fields,
    )


def _enforced(reader: Reader, call: Call) -> list[Rule]:
    return [rule for rule in reader.scan(RULES, f"{call.account}/") if rule.mode == ENFORCE]


def _findings(rules: list[Rule], objects: Iterable[RuleObject]) -> list[tuple[RuleObject, Finding]]:
    """Each object with what it violates."""
    found = []
    for seen in objects:
        budget = Budget(STEPS_MAX)
        found += [(seen, finding) for rule in rules if (finding := judge(rule, seen, budget)) is not None]
    return found


def _refuse(findings: list[tuple[RuleObject, Finding]]) -> None:
    if not findings:
        return
    raise RuleViolatedError(_told(findings, lambda finding: finding.sentence), recorded=_told(findings, lambda finding: finding.demand))


def _told(findings: list[tuple[RuleObject, Finding]], words: Callable[[Finding], str]) -> str:
    """A sentence for each of the first findings, in these `words` of it."""
    told = [
        f"The rule {finding.rule.name} forbids this {seen['resourceType'].replace('-', ' ')}: {words(finding)}"
        for seen, finding in findings[:TOLD_MAX]
    ]
    more = f" {len(findings) - TOLD_MAX} more rules are violated." if len(findings) > TOLD_MAX else ""
    return " ".join(text if text.endswith(".") else f"{text}." for text in told) + more
