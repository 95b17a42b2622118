"""What a rule sees: one JSON object for each task definition, service, task set, daemon and task, made from the stored record.

Owns: the form of these objects. Never evaluates a rule. Admission and report build them here from the same records, so that both see the same.
Every object has every member of `_ABSENT`; what does not apply is null, and lists are empty, so that an expression needs no case for it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.ecs.tag_rules import tags_json
from homeport.api.ecs.task_definition_json import task_definition_json
from homeport.model import arn
from homeport.model.ecs.capacity_provider import Strategy
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.ecs.task_set import TaskSet
from homeport.model.homeport import rule as model
from homeport.store.table import Reader
from homeport.store.tables import DAEMON_TASK_DEFINITIONS, TASK_DEFINITIONS

RuleObject = dict[str, Any]

_ABSENT: Final[RuleObject] = {
    "cluster": None,
    "service": None,
    "daemon": None,
    "group": None,
    "launchType": None,
    "desiredCount": None,
    "schedulingStrategy": None,
    "enableExecuteCommand": False,
    "createdBy": None,
    "networkConfiguration": None,
}


def task_definition_object(region: str, definition: TaskDefinition) -> RuleObject:
    """A revision of a task definition."""
    return _revision(model.TASK_DEFINITION, region, definition)


def daemon_task_definition_object(region: str, definition: DaemonTaskDefinition) -> RuleObject:
    """A revision of a daemon task definition."""
    return _revision(model.DAEMON_TASK_DEFINITION, region, definition)


def _revision(kind: str, region: str, definition: TaskDefinition | DaemonTaskDefinition) -> RuleObject:
    members = {"account": definition.account, "family": definition.family, "tags": tags_json(definition.tags), "createdBy": definition.registered_by}
    return _object(kind, region, _of(definition, region), **members)


def service_object(reader: Reader, region: str, service: Service) -> RuleObject:
    """A service with the task definition that it runs; one whose task sets have definitions of their own may have none."""
    document = msgspec.json.decode(service.document) if service.document else {}
    return _object(
        model.SERVICE,
        region,
        _definition(reader, region, service),
        account=service.account,
        family=service.family or None,
        cluster=service.cluster,
        service=service.name,
        group=f"service:{service.name}",
        launchType=service.launch_type or None,
        capacityProviders=_names(service.capacity_provider_strategy),
        desiredCount=service.desired_count,
        schedulingStrategy=service.scheduling_strategy,
        enableExecuteCommand=service.enable_execute_command,
        deploymentConfiguration=msgspec.json.decode(service.deployment_configuration or b"{}"),
        networkConfiguration=document.get("networkConfiguration"),
        tags=tags_json(service.tags),
        createdBy=service.created_by,
    )


def task_set_object(reader: Reader, region: str, task_set: TaskSet) -> RuleObject:
    """A task set of a service whose deployments something else controls."""
    document = msgspec.json.decode(task_set.document) if task_set.document else {}
    return _object(
        model.TASK_SET,
        region,
        _definition(reader, region, task_set),
        account=task_set.account,
        family=task_set.family or None,
        cluster=task_set.cluster,
        service=task_set.service,
        group=f"service:{task_set.service}",
        launchType=task_set.launch_type or None,
        capacityProviders=_names(task_set.capacity_provider_strategy),
        networkConfiguration=document.get("networkConfiguration"),
        tags=tags_json(task_set.tags),
        createdBy=task_set.created_by or None,
    )


def daemon_object(reader: Reader, region: str, daemon: Daemon, revision: DaemonRevision) -> RuleObject:
    """A daemon as one revision of it is."""
    found = reader.get(DAEMON_TASK_DEFINITIONS, task_definition_key(revision.account, revision.family, revision.revision))
    return _object(
        model.DAEMON,
        region,
        _of(found, region) if found is not None else None,
        account=daemon.account,
        cluster=daemon.cluster,
        daemon=daemon.name,
        group=daemon.group,
        family=revision.family,
        capacityProviders=list(revision.capacity_providers),
        enableExecuteCommand=revision.enable_execute_command,
        tags=tags_json(daemon.tags),
        createdBy=daemon.created_by,
    )


def task_object(reader: Reader, region: str, task: Task) -> RuleObject:
    """A task with its overrides: one that runs, or one that is about to be made."""
    return _object(
        model.TASK,
        region,
        _definition(reader, region, task, daemon=bool(task.daemon)),
        account=task.account,
        family=task.family or None,
        cluster=task.cluster,
        service=task.service or None,
        daemon=task.daemon or None,
        group=task.group,
        launchType=task.launch_type or None,
        capacityProviders=[task.capacity_provider] if task.capacity_provider else [],
        enableExecuteCommand=task.enable_execute_command,
        overrides=msgspec.json.decode(task.overrides) if task.overrides else {},
        tags=tags_json(task.tags),
        createdBy=task.created_by or None,
    )


def _names(strategy: Strategy) -> list[str]:
    return [item.capacity_provider for item in strategy]


def _of(definition: TaskDefinition | DaemonTaskDefinition, region: str) -> RuleObject:
    """As DescribeTaskDefinition shows it. A daemon's is one too: it is kept in that form, with what its own form leaves out."""
    kept = definition.definition if isinstance(definition, DaemonTaskDefinition) else definition
    found: RuleObject = msgspec.json.decode(task_definition_json(region, kept))
    return found


def _definition(reader: Reader, region: str, of: Service | TaskSet | Task, *, daemon: bool = False) -> RuleObject | None:
    key = task_definition_key(of.account, of.family, of.revision)
    found = reader.get(DAEMON_TASK_DEFINITIONS, key) if daemon else reader.get(TASK_DEFINITIONS, key)
    return _of(found, region) if found is not None else None


def _role(account: str, named: str | None) -> str | None:
    return named if not named or named.startswith("arn:") else arn.role_arn(account, "/", named)


def _object(kind: str, region: str, definition: RuleObject | None, **members: Any) -> RuleObject:
    """The object with everything that it must have. Roles are those in effect: an override goes before the task definition, and a name alone
    means a role of the account, so that no other spelling gets past a rule."""
    shown = definition or {}
    overrides = {"containerOverrides": [], **members.pop("overrides", {})}
    roles = {role: _role(members["account"], overrides.get(role) or shown.get(role)) for role in ("taskRoleArn", "executionRoleArn")}
    start = {"resourceType": kind, "region": region, "capacityProviders": [], "deploymentConfiguration": {}}
    return {**_ABSENT, **start, **members, **roles, "overrides": overrides, "taskDefinition": definition}
