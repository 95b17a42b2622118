"""From a container's payload to Docker's create document.

Owns: every rule of how a field of the task definition becomes a member of Docker's Config and HostConfig, the container's name
and labels, and which payloads cannot be read. Pure. Never asks Docker. Sources: agent-protocol.md 7.1 and 7.2, ecs-reference.md 3.4.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from homeport.acs.messages import ContainerPayload, PortMapping, TaskPayload
from homeport.agent.attachments.volumes import VolumeError, VolumePlan, binds, plan
from homeport.agent.engine import ordering
from homeport.agent.engine.task import LABEL_NOTES
from homeport.agent.metadata.credentials import ADDRESS, PATH
from homeport.agent.runtime.contract import ResourceLimits
from homeport.errors import HomeportError

MEBIBYTE = 1024 * 1024
CPU_SHARES_MIN = 2
CPU_SHARES_MAX = 262_144
MEMORY_MIB_MIN = 6
"""Docker's own minimum."""
NETWORK_MODES = ("", "bridge", "host", "none")

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"
SERVICES = ("ECS", "IAM", "STS")
"""Whose endpoints a container with a role is told: for these Homeport answers, and all others stay where they were."""

LABEL_INSTALLATION = "homeport.installation"
LABEL_AGENT = "homeport.agent"
LABEL_CLUSTER = "com.amazonaws.ecs.cluster"
LABEL_CONTAINER = "com.amazonaws.ecs.container-name"
LABEL_TASK = "com.amazonaws.ecs.task-arn"
LABEL_FAMILY = "com.amazonaws.ecs.task-definition-family"
LABEL_VERSION = "com.amazonaws.ecs.task-definition-version"


class InvalidTaskError(HomeportError):
    """The payload cannot be read or asks for something that this agent does not do. The message names the member."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose containers these are. `agent` is the id of this agent's own state: two agents of one installation may share a Docker."""

    installation: str
    agent: str
    cluster: str
    region: str = ""
    api_port: int = 0
    """Where containers with a role find the API, at 169.254.170.2; 0: nowhere."""


class CreatePlan(msgspec.Struct, frozen=True):
    """A container's name and create document, and what was changed of the user's wishes (one sentence each)."""

    name: str
    document: dict[str, Any]
    notes: tuple[str, ...] = ()


def check_task(task: TaskPayload) -> None:
    """Raise InvalidTaskError unless the engine can run the task (or, for STOPPED, name it)."""
    if not task.arn:
        raise InvalidTaskError("the task has no arn")
    if task.desiredStatus not in ("RUNNING", "STOPPED"):
        raise InvalidTaskError(f"desiredStatus {task.desiredStatus!r} is neither RUNNING nor STOPPED")
    if task.desiredStatus == "STOPPED":
        return
    if not task.containers:
        raise InvalidTaskError("the task has no containers")
    names = [container.name for container in task.containers]
    if len(set(names)) != len(names):
        raise InvalidTaskError("two containers have the same name")
    if not any(container.essential for container in task.containers):
        raise InvalidTaskError("no container is essential")
    if task.networkMode not in NETWORK_MODES:
        raise InvalidTaskError(f"networkMode {task.networkMode} is not built yet")
    for member, mode in (("pidMode", task.pidMode), ("ipcMode", task.ipcMode)):
        if mode == "task":
            raise InvalidTaskError(f"{member} task is not built yet")
    try:
        ordering.check(task.containers)
        volumes = plan(task, {})
        for container in task.containers:
            binds(container, volumes)
            _command(container)
            _merged(container)
            _ports(container)
    except (ordering.OrderingError, VolumeError) as error:
        raise InvalidTaskError(str(error)) from error


def container_name(task: TaskPayload, name: str) -> str:
    """Docker name of a container: the same each time, so that a creation repeated after a crash conflicts instead of making a second."""
    digest = hashlib.sha256(f"{task.arn}/container/{name}".encode()).hexdigest()[:20]
    return f"ecs-{task.family}-{task.version}-{name}-{digest}"


def labels(task: TaskPayload, container: str, identity: Identity) -> dict[str, str]:
    """Labels of a container: the upstream agent's five, and ours."""
    found = {
        LABEL_CLUSTER: task.taskClusterArn or identity.cluster,
        LABEL_TASK: task.arn,
        LABEL_FAMILY: task.family,
        LABEL_VERSION: task.version,
        LABEL_INSTALLATION: identity.installation,
        LABEL_AGENT: identity.agent,
    }
    if container:
        found[LABEL_CONTAINER] = container
    return found


def create_plan(
    task: TaskPayload,
    name: str,
    *,
    identity: Identity,
    volumes: VolumePlan,
    limits: ResourceLimits,
    cgroup_parent: str = "",
    dynamic_ports: tuple[int, int] | None = None,
) -> CreatePlan:
    """The create document of the task's container `name`. `dynamic_ports`: first and last host port to choose from (None: Docker's own)."""
    container = next(item for item in task.containers if item.name == name)
    config, host_config = _merged(container)
    document: dict[str, Any] = {
        "Image": container.image,
        "Env": _environment(container, identity, {**_devices(task, container), **_role(task, container, identity)}),
        "Labels": labels(task, name, identity),
        "HostConfig": _host_config(task, container, volumes, cgroup_parent),
    }
    command = _command(container)
    if command:
        document["Cmd"] = command
    if container.entryPoint:
        document["Entrypoint"] = container.entryPoint
    if task.networkMode in ("", "bridge"):
        exposed, published = _port_members(container, dynamic_ports)
        if exposed:
            document["ExposedPorts"] = exposed
            document["HostConfig"]["PortBindings"] = published
    host = _merge(document["HostConfig"], host_config)
    notes = _clamp_ulimits(host, limits)
    document = _merge(document, {key: value for key, value in config.items() if key != "Env"})
    document["Env"] += [entry for entry in config.get("Env") or () if isinstance(entry, str)]
    document["HostConfig"] = host
    document["Labels"] |= labels(task, name, identity)  # a dockerLabel cannot make a container another task's
    if notes:
        document["Labels"][LABEL_NOTES] = "; ".join(notes)
    return CreatePlan(container_name(task, name), document, notes)


def _host_config(task: TaskPayload, container: ContainerPayload, volumes: VolumePlan, cgroup_parent: str) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": task.networkMode or "bridge",
        "CpuShares": min(CPU_SHARES_MAX, max(CPU_SHARES_MIN, container.cpu)),
    }
    if container.memory:
        host["Memory"] = max(MEMORY_MIB_MIN, container.memory) * MEBIBYTE
    mounts = binds(container, volumes)
    if mounts:
        host["Binds"] = mounts
    if container.links:
        host["Links"] = [_link(task, link) for link in container.links]
    if container.volumesFrom:
        host["VolumesFrom"] = [f"{container_name(task, item.sourceContainer)}:{'ro' if item.readOnly else 'rw'}" for item in container.volumesFrom]
    if cgroup_parent:
        host["CgroupParent"] = cgroup_parent
    if task.pidMode == "host":
        host["PidMode"] = "host"
    if task.ipcMode in ("host", "none"):
        host["IpcMode"] = task.ipcMode
    if gpus := _gpus(task, container):
        host["DeviceRequests"] = [{"DeviceIDs": gpus, "Capabilities": [["gpu"]]}]
    return host


def _gpus(task: TaskPayload, container: ContainerPayload) -> list[str]:
    """Ids of the GPUs that the container has for itself."""
    return [item.name for item in task.associations if item.type == "gpu" and container.name in item.containers]


def _link(task: TaskPayload, link: str) -> str:
    target, _, alias = link.partition(":")
    return f"{container_name(task, target)}:{alias or target}"


def _environment(container: ContainerPayload, identity: Identity, fixed: Mapping[str, str]) -> list[str]:
    """`fixed`: what the container cannot say otherwise."""
    values = {"AWS_REGION": identity.region, "AWS_DEFAULT_REGION": identity.region} if identity.region else {}
    return [f"{key}={value}" for key, value in {**values, **container.environment, **fixed}.items()]


def _devices(task: TaskPayload, container: ContainerPayload) -> dict[str, str]:
    gpus = _gpus(task, container)
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


def _role(task: TaskPayload, container: ContainerPayload, identity: Identity) -> dict[str, str]:
    """Where a task with a role asks for its credentials, and for the services that are here, unless it says itself where it wants to go."""
    if task.roleCredentials is None or task.networkMode == "none":
        return {}
    found = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": PATH + task.roleCredentials.credentialsId}
    if identity.api_port and not any(name.startswith(ENDPOINT_VARIABLE) for name in container.environment):
        found |= {f"{ENDPOINT_VARIABLE}_{service}": f"http://{ADDRESS}:{identity.api_port}" for service in SERVICES}
    return found


def _command(container: ContainerPayload) -> list[str]:
    """The command, the override's if there is one; any other override makes the task invalid, as upstream."""
    overrides = _json_object(container.overrides, f"container {container.name}: overrides")
    for key in overrides:
        if key != "command":
            raise InvalidTaskError(f"container {container.name}: overrides: Unrecognized key {key!r}")
    command = overrides.get("command")
    return [str(word) for word in command] if isinstance(command, list) else container.command


def _ports(container: ContainerPayload) -> list[PortMapping]:
    """The container's ports one by one: a containerPortRange is taken apart."""
    found: list[PortMapping] = []
    for mapping in container.portMappings:
        if mapping.protocol not in ("", "tcp", "udp"):
            raise InvalidTaskError(f"container {container.name}: port protocol {mapping.protocol!r} is neither tcp nor udp")
        if not mapping.containerPortRange:
            found.append(mapping)
            continue
        first, _, last = mapping.containerPortRange.partition("-")
        if not (first.isdigit() and last.isdigit()):
            raise InvalidTaskError(f"container {container.name}: containerPortRange {mapping.containerPortRange!r} is not FIRST-LAST")
        found += [PortMapping(containerPort=port, protocol=mapping.protocol or "tcp") for port in range(int(first), int(last) + 1)]
    return found


def _port_members(container: ContainerPayload, dynamic: tuple[int, int] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    exposed: dict[str, Any] = {}
    published: dict[str, Any] = {}
    for mapping in _ports(container):
        key = f"{mapping.containerPort}/{mapping.protocol or 'tcp'}"
        free = f"{dynamic[0]}-{dynamic[1]}" if dynamic else ""
        exposed[key] = {}
        published.setdefault(key, []).append({"HostIp": mapping.bindIP, "HostPort": str(mapping.hostPort) if mapping.hostPort else free})
    return exposed, published


def has_dynamic_ports_only(container: ContainerPayload) -> bool:
    """Whether every host port of the container is free to choose, so that a start with another port may succeed."""
    return all(not mapping.hostPort for mapping in container.portMappings)


def _merged(container: ContainerPayload) -> tuple[dict[str, Any], dict[str, Any]]:
    """dockerConfig's two JSON strings, read."""
    given = container.dockerConfig
    if given is None:
        return {}, {}
    where = f"container {container.name}: dockerConfig"
    return _json_object(given.config, f"{where}.config"), _json_object(given.hostConfig, f"{where}.hostConfig")


def _json_object(text: str, where: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidTaskError(f"{where} is not JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidTaskError(f"{where} is not a JSON object")
    return value


def _merge(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """`theirs` over `ours`: maps are joined, Binds, Links and VolumesFrom are added up, the rest is replaced; null changes nothing."""
    result = dict(ours)
    for key, value in theirs.items():
        before = result.get(key)
        if value is None:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = {**before, **value}
        elif key in ("Binds", "Links", "VolumesFrom") and isinstance(before, list) and isinstance(value, list):
            result[key] = [*before, *value]
        else:
            result[key] = value
    return result


def _clamp_ulimits(host: dict[str, Any], limits: ResourceLimits) -> tuple[str, ...]:
    """Lower the ulimits that the runtime could not set, so that the container starts; say which."""
    notes = []
    lowered = []
    for ulimit in host.get("Ulimits") or ():
        name, hard, soft = str(ulimit.get("Name", "")), int(ulimit.get("Hard", 0)), int(ulimit.get("Soft", 0))
        most = limits.hard.get(name)
        if most is not None and (hard > most or hard < 0 or soft > most or soft < 0):
            notes.append(f"ulimit {name} lowered from {soft}:{hard} to this host's hard limit {most}")
            hard = most if hard < 0 else min(hard, most)
            soft = most if soft < 0 else min(soft, most)
        lowered.append({"Name": name, "Hard": hard, "Soft": soft})
    if lowered:
        host["Ulimits"] = lowered
    return tuple(notes)
