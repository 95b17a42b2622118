"""A task's making and its way through the states: pure functions from records to records.

Owns: `new_task`, `stop`, `lost`, `observed`, `with_status` (the only writer of `last_status`), `resources`. Never chooses an instance.
Sources: ecs-reference 3.4 (what a task takes), 3.5 (overrides), 3.6 (states, stop codes, canonical reasons).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from homeport.model.ecs import task as model
from homeport.model.ecs.service import PlacementConstraint, PlacementStrategy
from homeport.model.ecs.task import Container, HostPortUse, Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.record import Instant, Tags
from homeport.model.sharing import share
from homeport.planner import gpus

_START_ERRORS = ("Cannot", "ResourceInitializationError", "DockerTimeoutError", "HostConfigError", "ContainerNetworkingError", "DockerStateError")


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where and why a task is made: everything about it that its definition does not say."""

    cluster: str
    """Name."""
    instance_id: str
    launch_type: str
    group: str
    started_by: str = ""
    service: str = ""
    deployment_id: str = ""
    tags: Tags = ()
    enable_execute_command: bool = False
    capacity_provider: str = ""
    placement_constraints: tuple[PlacementConstraint, ...] = ()
    """With `placement_strategy`: of a task without a service that may have to wait for an instance."""
    placement_strategy: tuple[PlacementStrategy, ...] = ()
    digests: Mapping[str, str] = {}
    """Container name → the digest of the image that it must run."""
    daemon: str = ""
    """Name of the daemon that it is made for; the definition is then one of a daemon."""
    created_by: str = ""
    """ARN of the principal that asked for it by itself, or ""."""


@functools.lru_cache(maxsize=1024)
def _document(document: bytes) -> Mapping[str, Any]:
    # Service tasks of one revision are made by the thousand; decoding once is what keeps that cheap.
    decoded: dict[str, Any] = msgspec.json.decode(document)
    return decoded


def definition_document(definition: TaskDefinition) -> Mapping[str, Any]:
    """The decoded document of `definition`; shared, so never to be changed."""
    return _document(definition.document)


def _merged(container: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **container,
        **{name: override[name] for name in ("cpu", "memory", "memoryReservation", "resourceRequirements") if override.get(name) is not None},
    }


def resources(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[int, int]:
    """(CPU units, MiB) that a task takes from its instance, after overrides.

    The task-level figure where there is one; else the sum over the containers, of memoryReservation where it is given, else of memory
    (ecs-reference 3.4).
    """
    by_name = {item.get("name"): item for item in overrides.get("containerOverrides") or ()}
    containers = [_merged(container, by_name.get(container["name"], {})) for container in document["containerDefinitions"]]
    cpu_text, memory_text = overrides.get("cpu") or document.get("cpu"), overrides.get("memory") or document.get("memory")
    cpu = int(cpu_text) if cpu_text else sum(container.get("cpu") or 0 for container in containers)
    if memory_text:
        return cpu, int(memory_text)
    return cpu, sum(container.get("memoryReservation") or container.get("memory") or 0 for container in containers)


def gpus_of(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> int:
    """GPUs that a task takes from its instance, after overrides."""
    by_name = {item.get("name"): item for item in overrides.get("containerOverrides") or ()}
    return sum(gpus.wanted(_merged(container, by_name.get(container["name"], {}))) for container in document["containerDefinitions"])


def _container(definition: Mapping[str, Any], override: Mapping[str, Any], *, container_id: str, digest: str) -> Container:
    merged = _merged(definition, override)
    return Container(
        name=definition["name"],
        id=container_id,
        image=definition["image"],
        essential=definition.get("essential", True),
        has_health_check="healthCheck" in definition,
        cpu=str(merged.get("cpu") or 0),
        memory=str(merged["memory"]) if merged.get("memory") else "",
        memory_reservation=str(merged["memoryReservation"]) if merged.get("memoryReservation") else "",
        pinned_digest=digest,
        gpus=gpus.wanted(merged),
    )


def new_task(
    definition: TaskDefinition, placed: Placed, *, task_id: str, mint: Callable[[], str], now: Instant, overrides: Mapping[str, Any] | None = None
) -> Task:
    """A task of `definition` on the instance of `placed`, wanted RUNNING and PENDING until its agent speaks.

    `task_id`: 32 hexadecimal digits. `mint` gives one UUID per container. `overrides`: the API's TaskOverride as a dict.
    """
    document = definition_document(definition)
    given: Mapping[str, Any] = overrides or {}
    by_name = {item.get("name"): item for item in given.get("containerOverrides") or ()}
    cpu, memory_mib = resources(document, given) if given else (definition.cpu, definition.memory_mib)
    made = Task(
        account=definition.account,
        cluster=placed.cluster,
        id=task_id,
        family=definition.family,
        revision=definition.revision,
        desired_status=model.RUNNING,
        last_status=model.PENDING if placed.instance_id else model.PROVISIONING,
        created_at=now,
        group=placed.group,
        launch_type=placed.launch_type,
        container_instance_id=placed.instance_id,
        cpu=cpu,
        memory_mib=memory_mib,
        host_ports=tuple(HostPortUse(port=use.port, protocol=use.protocol) for use in definition.host_ports),
        containers=tuple(
            _container(item, by_name.get(item["name"], {}), container_id=mint(), digest=placed.digests.get(item["name"], ""))
            for item in document["containerDefinitions"]
        ),
        started_by=placed.started_by,
        service=placed.service,
        deployment_id=placed.deployment_id,
        overrides=msgspec.json.encode(given) if given else b"",
        tags=placed.tags,
        enable_execute_command=placed.enable_execute_command,
        cpu_shown=str(cpu),
        memory_shown=str(memory_mib),
        gpus=gpus_of(document, given) if given else definition.gpus,
        capacity_provider=placed.capacity_provider,
        placement_constraints=placed.placement_constraints,
        placement_strategy=placed.placement_strategy,
        daemon=placed.daemon,
        created_by=placed.created_by,
    )
    return share(made)


def stop(task: Task, *, stop_code: str, reason: str, now: Instant) -> Task:
    """`task` wanted STOPPED. The first stop's code and reason stay: a task that is on its way down is returned as it is."""
    if task.desired_status == model.STOPPED:
        return task
    changed = msgspec.structs.replace(
        task, desired_status=model.STOPPED, stop_code=stop_code, stopped_reason=reason, stopping_at=task.stopping_at or now, version=task.version + 1
    )
    return with_status(changed, now)


def assigned(task: Task, instance_id: str, now: Instant) -> Task:
    """A task that waited for an instance, on one; what was kept for its placement is not needed any more."""
    changed = msgspec.structs.replace(
        task, container_instance_id=instance_id, placement_constraints=(), placement_strategy=(), version=task.version + 1
    )
    return with_status(changed, now)


def _wanted_rank(task: Task) -> str:
    """The state that wanted and seen add up to. States with nothing to do in them here are passed over: ACTIVATING, DEACTIVATING and
    DEPROVISIONING wait for load balancers, service discovery and network interfaces."""
    if task.observed_status == model.STOPPED:
        return model.STOPPED
    if task.desired_status == model.STOPPED:
        return model.STOPPING if task.container_instance_id else model.STOPPED
    if not task.container_instance_id:
        return model.PROVISIONING
    return model.RUNNING if task.observed_status == model.RUNNING else model.PENDING


def with_status(task: Task, now: Instant) -> Task:
    """`task` with the `last_status` that its wanted and seen states add up to, and the instants, code and reason that come with the move."""
    status = _wanted_rank(task)
    if model.RANK[status] <= model.RANK[task.last_status]:
        return task
    fields: dict[str, Any] = {"last_status": status}
    if status == model.RUNNING:
        fields["started_at"] = now
    if status == model.STOPPED:
        fields.update(_stopped_fields(task, now))
    return msgspec.structs.replace(task, **fields)


def _ended(container: Container) -> Container:
    return container if container.status == model.STOPPED else msgspec.structs.replace(container, status=model.STOPPED)


def _stopped_fields(task: Task, now: Instant) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "desired_status": model.STOPPED,
        "stopped_at": now,
        "stopping_at": task.stopping_at or now,
        "execution_stopped_at": task.execution_stopped_at or (now if task.container_instance_id else 0.0),
        "containers": tuple(_ended(container) for container in task.containers),
    }
    if not task.stop_code:
        fields["stop_code"], fields["stopped_reason"] = _why_stopped(task)
    return fields


def _why_stopped(task: Task) -> tuple[str, str]:
    """Stop code and reason of a task that nobody asked to stop."""
    failure = next((c.reason for c in task.containers if c.reason.startswith(_START_ERRORS)), "")
    started = bool(task.started_at) or any(container.essential and container.exit_code is not None for container in task.containers)
    if failure and not task.started_at:
        return model.TASK_FAILED_TO_START, failure
    if not started:
        return model.TASK_FAILED_TO_START, task.observed_reason or "Task failed to start"
    return model.ESSENTIAL_CONTAINER_EXITED, task.observed_reason or "Essential container in task exited"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent said of a task in one report. 0.0 and "" mean that it said nothing of that."""

    status: str = ""
    reason: str = ""
    containers: Mapping[str, Mapping[str, Any]] = {}
    """By container name: the fields of `Container` that the report sets."""
    pull_started_at: Instant = 0.0
    pull_stopped_at: Instant = 0.0
    execution_stopped_at: Instant = 0.0


_OBSERVED_RANK = {"": 0, model.PENDING: 1, model.RUNNING: 2, model.STOPPED: 3}


def observed(task: Task, seen: Seen, now: Instant) -> Task:
    """`task` after a report. Reports come at least once and may come late: one that says nothing new returns `task` itself.

    A task that is STOPPED is closed: later reports change nothing.
    """
    if task.last_status == model.STOPPED:
        return task
    status = seen.status if _OBSERVED_RANK.get(seen.status, 0) > _OBSERVED_RANK[task.observed_status] else task.observed_status
    containers = tuple(_seen_container(container, seen.containers.get(container.name)) for container in task.containers)
    reported = msgspec.structs.replace(
        task,
        observed_status=status,
        observed_reason=seen.reason or task.observed_reason,
        containers=containers,
        pull_started_at=task.pull_started_at or seen.pull_started_at,
        pull_stopped_at=task.pull_stopped_at or seen.pull_stopped_at,
        execution_stopped_at=task.execution_stopped_at or seen.execution_stopped_at,
        connectivity=task.connectivity or "CONNECTED",
        connectivity_at=task.connectivity_at or now,
    )
    if reported == task:
        return task
    return with_status(share(_over(msgspec.structs.replace(reported, version=task.version + 1), now)), now)


def lost(task: Task, *, stop_code: str, reason: str, now: Instant) -> Task:
    """`task` as the books show it once nobody is left who could report of it: STOPPED. What its containers do from now on is not known here."""
    wanted = stop(task, stop_code=stop_code, reason=reason, now=now)
    return with_status(msgspec.structs.replace(wanted, observed_status=model.STOPPED, version=task.version + 1), now)


def _over(task: Task, now: Instant) -> Task:
    """`task` wanted STOPPED if an essential container of it ended while others still run: they are being stopped, and it serves no more."""
    if model.STOPPED in (task.desired_status, task.observed_status):
        return task
    if not any(container.essential and container.status == model.STOPPED for container in task.containers):
        return task
    code, reason = _why_stopped(task)
    return msgspec.structs.replace(task, desired_status=model.STOPPED, stop_code=code, stopped_reason=reason, stopping_at=now)


_CONTAINER_RANK = {model.PENDING: 0, model.RUNNING: 1, model.STOPPED: 2}


def _seen_container(container: Container, fields: Mapping[str, Any] | None) -> Container:
    if not fields:
        return container
    accepted = {name: value for name, value in fields.items() if value not in ("", None, ())}
    status = accepted.get("status", container.status)
    if _CONTAINER_RANK.get(status, -1) < _CONTAINER_RANK[container.status]:
        accepted.pop("status", None)
    return msgspec.structs.replace(container, **accepted)


def health_of(containers: Sequence[Container]) -> str:
    """The worst health among essential containers with a check; UNKNOWN when none has one (ecs-reference 3.6)."""
    checked = [container.health_status for container in containers if container.essential and container.has_health_check]
    if not checked:
        return model.UNKNOWN
    if model.UNHEALTHY in checked:
        return model.UNHEALTHY
    return model.HEALTHY if all(status == model.HEALTHY for status in checked) else model.UNKNOWN
