"""What a task definition as a whole must look like, and its form as ECS gives it back.

Owns: the checks of task-level members and of what containers say of each other, and `Checked`, the result. Never reads the store.
The members of one container are checked in `container_definition_rules.py`, volumes in `volume_rules.py`, launch types in
`task_definition_compatibility.py`. Source: ecs-reference 3.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from homeport.api.ecs import container_definition_rules, volume_rules
from homeport.errors import ClientError, InvalidParameterError
from homeport.model.ecs.task_definition import HostPort
from homeport.placement.query import QueryError, parse

FAMILY_LENGTH_MAX: Final = 255
CONSTRAINTS_MAX: Final = 10
CPU_MIN_UNITS: Final = 128
CPU_MAX_UNITS: Final = 196_608
EPHEMERAL_STORAGE_GIB: Final = (21, 200)

_FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_IPC_CONTROLS: Final = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")

_WHOLE = re.compile(r"\d{1,9}")
_VCPU = re.compile(r"(\d{0,6}\.?\d{0,6})\s*vcpus?", re.IGNORECASE)
_GB = re.compile(r"(\d{0,6}\.?\d{0,6})\s*gb", re.IGNORECASE)


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A task definition that passed, with every default filled in."""

    family: str
    network_mode: str
    """The one in force: bridge when none was given."""
    containers: list[Any]
    """Container definitions as ECS gives them back."""
    volumes: list[Any]
    cpu_text: str | None
    """Task-level CPU units, or None."""
    memory_text: str | None
    """Task-level MiB, or None."""
    constraints: tuple[str, ...]
    """memberOf expressions."""

    @property
    def cpu(self) -> int:
        """CPU units that a task takes: the task-level figure, else the sum over the containers."""
        return int(self.cpu_text) if self.cpu_text else sum(container.cpu for container in self.containers)

    @property
    def memory_mib(self) -> int:
        """MiB that a task takes: the task-level figure, else the sum of memoryReservation where given, else of memory."""
        if self.memory_text:
            return int(self.memory_text)
        return sum(container.memoryReservation or container.memory or 0 for container in self.containers)

    @property
    def host_ports(self) -> tuple[HostPort, ...]:
        """Ports of the host that a task takes for itself: the fixed ones; in host mode every port of a container."""
        if self.network_mode not in ("bridge", "host"):
            return ()
        mappings = (mapping for container in self.containers for mapping in container.portMappings)
        return tuple(HostPort(port=mapping.hostPort, protocol=mapping.protocol) for mapping in mappings if mapping.hostPort)


def checked(request: Any, *, containers_max: int) -> Checked:
    """RegisterTaskDefinition's request, checked. Raises ClientError, or InvalidParameterError for a placement constraint."""
    family = request.family
    if not family:
        raise ClientError("Family should not be null or empty.")
    if not _FAMILY.fullmatch(family):
        raise ClientError("Family contains invalid characters." if len(family) <= FAMILY_LENGTH_MAX else "Family is too long.")
    given = request.containerDefinitions
    if not given:
        raise ClientError("Container definitions should not be null or empty.")
    if len(given) > containers_max:
        raise ClientError("Too many containers.")
    network_mode = request.networkMode or "bridge"
    cpu_text, memory_text = _cpu(request.cpu), _memory(request.memory)
    containers = [container_definition_rules.normalised(container, network_mode) for container in given]
    by_name = {container.name: container for container in containers}
    if len(by_name) != len(containers):
        raise ClientError("Container names must be unique within a task definition.")
    volumes = volume_rules.normalised(request.volumes)
    _check_totals(containers, cpu_text, memory_text)
    _check_ports(containers, network_mode)
    volume_rules.check_mounts(containers, volumes)
    _check_references(containers, by_name)
    _check_log_router(containers)
    _check_task_members(request, by_name, network_mode)
    return Checked(
        family=family,
        network_mode=network_mode,
        containers=containers,
        volumes=volumes,
        cpu_text=cpu_text,
        memory_text=memory_text,
        constraints=_constraints(request.placementConstraints),
    )


def _cpu(text: str | None) -> str | None:
    if text is None:
        return None
    units = cpu_units(text)
    if units is None or not CPU_MIN_UNITS <= units <= CPU_MAX_UNITS:
        raise ClientError(f"Invalid 'cpu' setting for task. It must be from {CPU_MIN_UNITS} to {CPU_MAX_UNITS} CPU units, or a number of vCPU.")
    return str(units)


def _memory(text: str | None) -> str | None:
    if text is None:
        return None
    mib = memory_mib(text)
    if mib is None or mib < container_definition_rules.MEMORY_MIN_MIB:
        raise ClientError("Invalid 'memory' setting for task. It must be a number of MiB, or a number of GB.")
    return str(mib)


def cpu_units(text: str) -> int | None:
    """CPU units in a task's `cpu` ("256", ".25 vCPU"), or None when it cannot be read. Of any size: the bounds are the caller's."""
    return _quantity(text, _VCPU)


def memory_mib(text: str) -> int | None:
    """MiB in a task's `memory` ("512", "0.5 GB"), or None when it cannot be read."""
    return _quantity(text, _GB)


def _quantity(text: str, unit: re.Pattern[str]) -> int | None:
    """A whole number as it is, or 1,024 for each unit ("0.5 vCPU", "1GB"); None when `text` is neither."""
    bare = text.strip()
    if _WHOLE.fullmatch(bare):
        return int(bare)
    found = unit.fullmatch(bare)
    if found is None or not any(character.isdigit() for character in found[1]):
        return None
    return int(float(found[1]) * 1024)


def _check_totals(containers: Sequence[Any], cpu_text: str | None, memory_text: str | None) -> None:
    if not any(container.essential for container in containers):
        raise ClientError("At least one container of a task definition must be essential.")
    if cpu_text and sum(container.cpu for container in containers) > int(cpu_text):
        raise ClientError("The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.")
    if not memory_text:
        for container in containers:
            if container.memory is None and container.memoryReservation is None:
                raise ClientError(
                    f"Invalid setting for container '{container.name}'. At least one of 'memory' or 'memoryReservation' must be specified."
                )
        return
    task_memory = int(memory_text)
    for container in containers:
        if container.memory is not None and container.memory > task_memory:
            raise ClientError(f"Invalid setting for container '{container.name}'. 'memory' cannot be greater than the value of the task 'memory'.")
    if sum(container.memoryReservation or container.memory or 0 for container in containers) > task_memory:
        raise ClientError("The memory reserved for all containers cannot be greater than the value of the task 'memory'.")


def _check_ports(containers: Sequence[Any], network_mode: str) -> None:
    taken: set[tuple[int, str]] = set()
    names: set[str] = set()
    ranges: list[tuple[int, int, str]] = []
    for container in containers:
        mappings = container.portMappings
        if mappings and network_mode == "none":
            raise ClientError("Port mappings are not supported when networkMode=none.")
        if len(mappings) > container_definition_rules.PORT_MAPPINGS_MAX:
            raise ClientError(f"Container '{container.name}' may have at most {container_definition_rules.PORT_MAPPINGS_MAX} port mappings.")
        for mapping in mappings:
            if mapping.name is not None and mapping.name in names:
                raise ClientError(f"The port mapping name {mapping.name} must be unique within the task definition.")
            names.add(mapping.name)
            if mapping.containerPortRange is not None:
                low, _, high = mapping.containerPortRange.partition("-")
                ranges.append((int(low), int(high), mapping.protocol))
                continue
            use = (mapping.hostPort, mapping.protocol)
            if mapping.hostPort and use in taken:
                raise ClientError(f"The host port {mapping.hostPort}/{mapping.protocol} is mapped more than once in the task definition.")
            taken.add(use)
    ranges.sort(key=lambda item: (item[2], item[0]))
    for first, second in zip(ranges, ranges[1:], strict=False):
        if first[2] == second[2] and second[0] <= first[1]:
            raise ClientError("The container port ranges of a task definition must not overlap.")


def _check_references(containers: Sequence[Any], by_name: Mapping[str, Any]) -> None:
    """What containers say of each other: links, volumesFrom, dependsOn; and that none of it goes round in a circle."""
    links: dict[str, list[str]] = {}
    waits: dict[str, list[str]] = {}
    volumes: dict[str, list[str]] = {}
    for container in containers:
        name = container.name
        if container.links:
            links[name] = [link.partition(":")[0] for link in container.links]
            for other in links[name]:
                if other not in by_name:
                    raise ClientError(f"Container '{name}' links to the unknown container '{other}'.")
        if container.volumesFrom:
            volumes[name] = [source.sourceContainer for source in container.volumesFrom]
            for other in volumes[name]:
                if other not in by_name:
                    raise ClientError(f"Unknown container '{other}' in volumesFrom of container '{name}'.")
        if container.dependsOn:
            waits[name] = [dependency.containerName for dependency in container.dependsOn]
            for dependency in container.dependsOn:
                _check_dependency(dependency, by_name)
    _check_circle(links, "Container links should not have a cycle")
    _check_circle(volumes, "Container volumesFrom should not have a cycle")
    _check_circle(waits, "Container dependencies should not have a cycle")


def _check_dependency(dependency: Any, by_name: Mapping[str, Any]) -> None:
    other = by_name.get(dependency.containerName)
    if other is None:
        # ECS's own words, stray plus sign included: tools look for them.
        raise ClientError(f"Cannot depend on container + '{dependency.containerName}' because it does not exist")
    if dependency.condition in ("COMPLETE", "SUCCESS") and other.essential:
        raise ClientError("A dependency container with SUCCESS or COMPLETE condition cannot be an essential container")
    if dependency.condition == "HEALTHY" and other.healthCheck is None:
        raise ClientError("A dependency container with HEALTHY condition must have a health check")


def _check_circle(edges: Mapping[str, Sequence[str]], message: str) -> None:
    """Take away what waits for nothing, again and again; if something stays, it goes in a circle."""
    waiting = {name: set(others) for name, others in edges.items()}
    while waiting:
        free = [name for name, others in waiting.items() if not any(other in waiting for other in others)]
        if not free:
            raise ClientError(message)
        for name in free:
            del waiting[name]


def _check_log_router(containers: Iterable[Any]) -> None:
    routers = sum(container.firelensConfiguration is not None for container in containers)
    if routers > 1:
        raise ClientError("A task definition may have at most one container with firelensConfiguration.")
    if not routers and any(c.logConfiguration is not None and c.logConfiguration.logDriver == "awsfirelens" for c in containers):
        raise ClientError("When a container uses the log driver awsfirelens, another one must have firelensConfiguration.")


def check_role(role: str | None) -> None:
    """Raise ClientError unless `role` may name a role: by its ARN, or by its name alone."""
    if role is not None and role.startswith("arn:") and not _ROLE.fullmatch(role):
        raise ClientError("Role is not valid")


def _check_task_members(request: Any, by_name: Mapping[str, Any], network_mode: str) -> None:
    for role in (request.taskRoleArn, request.executionRoleArn):
        check_role(role)
    storage = request.ephemeralStorage
    if storage is not None and not EPHEMERAL_STORAGE_GIB[0] <= storage.sizeInGiB <= EPHEMERAL_STORAGE_GIB[1]:
        raise ClientError(f"ephemeralStorage.sizeInGiB must be between {EPHEMERAL_STORAGE_GIB[0]} and {EPHEMERAL_STORAGE_GIB[1]}.")
    proxy = request.proxyConfiguration
    if proxy is not None:
        if proxy.containerName not in by_name:
            raise ClientError(f"Unknown container '{proxy.containerName}' in proxyConfiguration.")
        if network_mode != "awsvpc":
            raise ClientError("proxyConfiguration requires networkMode=awsvpc.")
    trusted = request.trustedExecutionConfiguration
    if trusted is not None and trusted.isolationMode == "CONFIDENTIAL_SANDBOX" and not trusted.attestationPolicy:
        raise ClientError("The isolation mode CONFIDENTIAL_SANDBOX requires an attestationPolicy.")
    if request.ipcMode == "host":
        for container in by_name.values():
            if any(control.namespace.startswith(_IPC_CONTROLS) for control in container.systemControls):
                raise ClientError(f"IPC namespace system controls of container '{container.name}' cannot be set when ipcMode=host.")


def _constraints(given: Sequence[Any] | None) -> tuple[str, ...]:
    if not given:
        return ()
    if len(given) > CONSTRAINTS_MAX:
        raise ClientError(f"A task definition may have at most {CONSTRAINTS_MAX} placement constraints.")
    for constraint in given:
        if constraint.type != "memberOf" or not constraint.expression:
            raise ClientError("A placement constraint of a task definition must have the type memberOf and an expression.")
        try:
            parse(constraint.expression)
        except QueryError as error:
            raise InvalidParameterError(f"Invalid placement constraint expression: {error}") from None
    return tuple(constraint.expression for constraint in given)
