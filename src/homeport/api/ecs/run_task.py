"""RunTask and StartTask: new tasks in one transaction, each on an instance or in `failures`.

Owns: the two handlers. Never starts a container: the dispatcher streams what this wrote.
Source: ecs-reference 3.5 and 3.7. Placement is asked inside the transaction, since the answer needs its refusals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from homeport.api import idempotency
from homeport.api.call import Call
from homeport.api.ecs import lookup, tag_rules, task_input
from homeport.api.ecs.admission import admit_tasks
from homeport.api.ecs.cluster_capacity import acting_strategy, waits_for
from homeport.api.ecs.task_json import RENDERER
from homeport.errors import ClientError, InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.service import PlacementConstraint
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.record import Tags
from homeport.placement.capacity import next_provider
from homeport.placement.request import Placement, PlacementRequest
from homeport.planner.gpus import with_gpus
from homeport.planner.task import Placed, definition_document, gpus_of, new_task, resources
from homeport.store.table import Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, TASKS

FAILURES_MAX: Final = 100
STARTED_BY_CHARACTERS_MAX: Final = {"RunTask": 128, "StartTask": 36}
GROUP_CHARACTERS_MAX: Final = 300
"""More than `family:` with the longest name of a family."""

_NOT_BUILT = ("volumeConfigurations",)


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """A checked call: everything the transaction needs besides the instance."""

    cluster: Cluster
    definition: TaskDefinition
    overrides: dict[str, Any]
    launch_type: str
    group: str
    started_by: str
    tags: Tags


def _refuse(request: Any) -> None:
    """Members that would need parts which do not exist yet, or do not go with the launch types that exist."""
    for member in _NOT_BUILT:
        if getattr(request, member, None):
            raise task_input.not_built(member)
    if request.enableExecuteCommand:
        raise task_input.not_built("enableExecuteCommand")
    if getattr(request, "platformVersion", None):
        raise InvalidParameterError("The platform version must be null when specifying an EC2 launch type.")
    if request.networkConfiguration is not None:
        raise InvalidParameterError("Network Configuration is not valid for the given networkMode of this task definition.")


def _order(reader: Reader, call: Call, request: Any, launch_type: str) -> _Order:
    cluster = lookup.cluster_of(reader, call, request.cluster)
    definition = lookup.task_definition_of(reader, call, request.taskDefinition, missing=lookup.TASK_DEFINITION_NOT_FOUND)
    task_input.check_runnable(definition)
    _refuse(request)
    group = request.group or f"family:{definition.family}"
    if len(group) > GROUP_CHARACTERS_MAX:
        raise InvalidParameterError(f"Invalid group: it may have at most {GROUP_CHARACTERS_MAX} characters.")
    if group.startswith(("service:", "daemon:")):
        prefix = group.partition(":")[0]
        raise InvalidParameterError(f"Invalid group: the prefix {prefix}: is reserved for the tasks of {prefix}s.")
    return _Order(
        cluster=cluster,
        definition=definition,
        overrides=task_input.overrides_of(request.overrides, definition),
        launch_type=launch_type,
        group=group,
        started_by=task_input.started_by_of(request.startedBy, most=STARTED_BY_CHARACTERS_MAX[call.operation]),
        tags=_tags(call, request, cluster, definition),
    )


def _tags(call: Call, request: Any, cluster: Cluster, definition: TaskDefinition) -> Tags:
    tags = dict(definition.tags if request.propagateTags == "TASK_DEFINITION" else ())
    if request.propagateTags == "SERVICE":
        raise InvalidParameterError("Tags cannot be propagated from SERVICE for a task that is not part of a service.")
    tags.update(tag_rules.tags_of(request.tags, tags_max=call.settings.tags_max))
    if len(tags) > call.settings.tags_max:
        raise InvalidParameterError(f"The number of tags, those of the task definition included, exceeds the limit of {call.settings.tags_max}.")
    if request.enableECSManagedTags:
        tags["aws:ecs:clusterName"] = cluster.name
    return tuple(tags.items())


def _admit(reader: Reader, call: Call, order: _Order, providers: Sequence[str] = ("",)) -> None:
    """Raise RuleViolatedError when an enforced rule forbids a task of `order` by one of the capacity `providers`."""
    overrides = msgspec.json.encode(order.overrides) if order.overrides else b""
    admit_tasks(
        reader,
        call,
        order.definition,
        providers=providers,
        cluster=order.cluster.name,
        group=order.group,
        launch_type=order.launch_type,
        overrides=overrides,
        tags=order.tags,
        created_by=call.principal_arn,
    )


def _placement_request(
    order: _Order, constraints: tuple[PlacementConstraint, ...], *, strategies: Any = None, provider: str = ""
) -> PlacementRequest:
    definition = order.definition
    cpu, memory_mib = resources(definition_document(definition), order.overrides) if order.overrides else (definition.cpu, definition.memory_mib)
    return PlacementRequest(
        cluster_key=order.cluster.key,
        launch_type=order.launch_type,
        cpu=cpu,
        memory_mib=memory_mib,
        host_ports=tuple((use.port, use.protocol) for use in definition.host_ports),
        required_attributes=definition.requires_attributes,
        constraints=constraints,
        strategies=task_input.strategies_of(strategies),
        group=order.group,
        service_key="",
        gpus=gpus_of(definition_document(definition), order.overrides) if order.overrides else definition.gpus,
        capacity_provider=provider,
    )


def _create(tx: Transaction, call: Call, order: _Order, *, instance_id: str, wanted: PlacementRequest | None = None) -> Task:
    """A task of `order`; without an instance it keeps what it `wanted` of one."""
    kept = wanted if wanted and not instance_id else None
    placed = Placed(
        cluster=order.cluster.name,
        instance_id=instance_id,
        launch_type=order.launch_type,
        group=order.group,
        started_by=order.started_by,
        tags=order.tags,
        created_by=call.principal_arn,
        capacity_provider=wanted.capacity_provider if wanted else "",
        placement_constraints=kept.constraints if kept else (),
        placement_strategy=kept.strategies if kept else (),
    )
    task = new_task(order.definition, placed, task_id=call.ids.hex(32), mint=call.ids.uuid, now=tx.now, overrides=order.overrides)
    if task.gpus and task.container_instance_id:
        task = with_gpus(task, tx.get(CONTAINER_INSTANCES, task.instance_key), tx.find(TASKS, "instance_live", task.instance_key))
    tx.put(TASKS, task)
    return task


def _answer(tx: Transaction, call: Call, tasks: list[Task], failures: list[dict[str, str]]) -> dict[str, Any]:
    return {"tasks": [RENDERER.render(tx, call.region, task) for task in tasks], "failures": failures}


def _again(tx: Transaction, call: Call, once: idempotency.Once) -> dict[str, Any] | None:
    """The first answer of a repeated call, from the tasks as they are now."""
    remembered = once.recall(tx)
    if remembered is None:
        return None
    keys = [f"{once.scope}/{resource.rsplit('/', 1)[1]}" for resource in remembered.resources]
    tasks = [task for key in keys if (task := tx.get(TASKS, key)) is not None]
    return _answer(tx, call, tasks, msgspec.json.decode(remembered.failures or b"[]"))


async def run_task(call: Call, request: Any) -> dict[str, Any]:
    """RunTask: place and create 1 to 10 copies; what cannot be placed is in `failures`, with a reason per instance."""
    count = 1 if request.count is None else request.count
    if not 1 <= count <= call.settings.tasks_per_run_max:
        raise InvalidParameterError(f"Count must be between 1 and {call.settings.tasks_per_run_max}.")
    idempotency.check_token(request.clientToken, length_max=64)
    launch_type = task_input.launch_type(request.launchType)

    def transact(tx: Transaction) -> dict[str, Any]:
        cluster_key = lookup.cluster_of(tx, call, request.cluster).key
        once = idempotency.Once(call=call, scope=cluster_key, token=request.clientToken, request=request)
        if (again := _again(tx, call, once)) is not None:
            return again
        order = _order(tx, call, request, launch_type)
        strategy = acting_strategy(tx, call, cluster=order.cluster, request=request)
        _admit(tx, call, order, [item.capacity_provider for item in strategy] or [""])
        constraints = task_input.constraints_of(request.placementConstraints, order.definition)
        counts: Counter[str] = Counter()
        tasks: list[Task] = []
        failures: list[dict[str, str]] = []
        for _ in range(count):
            provider = next_provider(strategy, counts) if strategy else ""
            counts[provider] += 1
            wanted = _placement_request(order, constraints, strategies=request.placementStrategy, provider=provider)
            found = call.context.placement.place(wanted)
            if isinstance(found, Placement):
                tasks.append(_create(tx, call, order, instance_id=found.instance_id, wanted=wanted))
            elif provider and waits_for(tx, order.cluster.account, provider):
                _refuse_more_waiting(tx, call, order.cluster)
                tasks.append(_create(tx, call, order, instance_id="", wanted=wanted))
            else:
                failures.extend(_failures(call, order.cluster, found.reasons, provider=provider))
        arns = tuple(arn.task_arn(call.region, task.account, task.cluster, task.id) for task in tasks)
        del failures[FAILURES_MAX:]
        once.remember(tx, arns, failures=msgspec.json.encode(failures))
        return _answer(tx, call, tasks, failures)

    return await call.update(transact)


def _refuse_more_waiting(tx: Transaction, call: Call, cluster: Cluster) -> None:
    """Raise ClientError when as many tasks wait for capacity as may."""
    waiting_max = call.settings.provisioning_tasks_max
    if tx.count(TASKS, "cluster_last", f"{cluster.key}/{task_model.PROVISIONING}") >= waiting_max:
        raise ClientError(f"You've reached the limit of {waiting_max} tasks in the PROVISIONING state of this cluster. Try again later.")


def _failures(call: Call, cluster: Cluster, reasons: tuple[tuple[str, str], ...], *, provider: str) -> list[dict[str, str]]:
    """One failure per instance that refused; one for the cluster when it has no instance to ask."""
    if not reasons:
        if provider:
            return [{"arn": arn.capacity_provider_arn(call.region, cluster.account, provider), "reason": "EMPTY CAPACITY PROVIDER"}]
        return [{"arn": arn.cluster_arn(call.region, cluster.account, cluster.name), "reason": "NO ACTIVE INSTANCES"}]
    return [
        {"arn": arn.container_instance_arn(call.region, cluster.account, cluster.name, key.rsplit("/", 1)[1]), "reason": reason}
        for key, reason in reasons[:FAILURES_MAX]
    ]


async def start_task(call: Call, request: Any) -> dict[str, Any]:
    """StartTask: one task on each instance that the caller names (at most 10), if it fits there."""
    if not 1 <= len(request.containerInstances) <= call.settings.instances_per_start_max:
        raise InvalidParameterError(f"Container instances must be between 1 and {call.settings.instances_per_start_max}.")

    def transact(tx: Transaction) -> dict[str, Any]:
        tasks: list[Task] = []
        failures: list[dict[str, str]] = []
        order = _order(tx, call, request, "EC2")
        keys = [lookup.container_instance_key(call, order.cluster, reference) for reference in request.containerInstances]
        for launch_type in sorted({instance.launch_type for key in keys if (instance := tx.get(CONTAINER_INSTANCES, key))}):
            _admit(tx, call, msgspec.structs.replace(order, launch_type=launch_type))
        for key in keys:
            instance = tx.get(CONTAINER_INSTANCES, key)
            shown = arn.container_instance_arn(call.region, order.cluster.account, order.cluster.name, key.rsplit("/", 1)[1])
            reason = _start_refusal(call, order, instance)
            if reason or instance is None:
                failures.append({"arn": shown, "reason": reason or "MISSING"})
            else:
                on_instance = msgspec.structs.replace(order, launch_type=instance.launch_type)
                tasks.append(_create(tx, call, on_instance, instance_id=instance.id))
        return _answer(tx, call, tasks, failures)

    return await call.update(transact)


def _start_refusal(call: Call, order: _Order, instance: ContainerInstance | None) -> str:
    if instance is None:
        return "MISSING"
    if instance.status != instance_model.ACTIVE:
        return "INACTIVE"
    constraints = task_input.constraints_of(None, order.definition)
    wanted = _placement_request(msgspec.structs.replace(order, launch_type=instance.launch_type), constraints)
    return call.context.placement.explain(wanted, instance.key) or ""
