"""From a stored task and its task definition to what an agent is told.

Owns: the translation of the ECS API's container fields into Docker's Config and HostConfig (agent-protocol.md section 7.2), with overrides
already applied: the upstream agent understands no override but `command`. Pure. Never decides whether or where a task runs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from homeport.acs.messages import (
    Association,
    ContainerPayload,
    Dependency,
    DockerConfig,
    DockerVolume,
    HostVolume,
    MountPoint,
    PortMapping,
    RestartPolicy,
    RoleCredentials,
    TaskPayload,
    VolumeFrom,
    VolumePayload,
)
from homeport.model import arn
from homeport.model.ecs.task import Container, Task
from homeport.model.ecs.task_definition import TaskDefinition

_MIB: Final = 1024 * 1024
_NANOSECONDS: Final = 1_000_000_000
_API_ATTRIBUTE: Final = "com.amazonaws.ecs.capability.docker-remote-api.1."
_API_FLOOR: Final = 18
_API_OF_MEMBER: Final = {"ShmSize": 22, "Tmpfs": 22, "Sysctls": 24, "Healthcheck": 24, "Init": 25}
"""Docker's Engine API version (1.N) that first knows a member: with an older one the daemon would drop it silently."""

_DEVICE_PERMISSIONS: Final = {"read": "r", "write": "w", "mknod": "m"}

Document = dict[str, Any]


@functools.lru_cache(maxsize=256)
def _decoded(document: bytes) -> Document:
    """`document` as a dict that nobody changes; one service's tasks share one decoding."""
    decoded: Document = msgspec.json.decode(document) if document else {}
    return decoded


def task_payload(
    task: Task, definition: TaskDefinition, *, region: str, role: RoleCredentials | None = None, execution_role: RoleCredentials | None = None
) -> TaskPayload:
    """Everything that an agent needs to run `task` (or to know it, when it is wanted STOPPED). `role`, `execution_role`: credentials of its roles."""
    document = _decoded(definition.document)
    overrides = _decoded(task.overrides)
    by_name = {override.get("name", ""): override for override in overrides.get("containerOverrides") or ()}
    containers = {container.name: container for container in task.containers}
    return TaskPayload(
        arn=arn.task_arn(region, task.account, task.cluster, task.id),
        desiredStatus=task.desired_status,
        family=definition.family,
        version=str(definition.revision),
        taskClusterArn=arn.cluster_arn(region, task.account, task.cluster),
        containers=[
            msgspec.structs.replace(
                made, containerArn=_container_arn(region, task, containers.get(made.name)), image=_image(made.image, containers.get(made.name))
            )
            for made in (_containers(definition, by_name) if by_name else _plain_containers(definition))
        ],
        volumes=[_volume(spec) for spec in document.get("volumes") or ()],
        networkMode=definition.network_mode,
        cpu=_amount(overrides.get("cpu") or document.get("cpu")) / 1024,
        memory=_amount(overrides.get("memory") or document.get("memory")),
        launchType=task.launch_type,
        serviceName=task.service,
        group=task.group,
        pidMode=document.get("pidMode") or "",
        ipcMode=document.get("ipcMode") or "",
        associations=[Association(name=gpu, type="gpu", containers=[item.name]) for item in task.containers for gpu in item.gpu_ids],
        roleCredentials=role,
        executionRoleCredentials=execution_role,
    )


def _containers(definition: TaskDefinition, overrides: Mapping[str, Document]) -> tuple[ContainerPayload, ...]:
    """The containers of a task of `definition`, but for their ARNs. `overrides`: by container name."""
    document = _decoded(definition.document)
    ipc_mode = document.get("ipcMode") or ""
    return tuple(
        _container(spec, overrides.get(spec["name"], {}), definition=definition, ipc_mode=ipc_mode)
        for spec in document.get("containerDefinitions") or ()
    )


@functools.lru_cache(maxsize=256)
def _plain_containers(definition: TaskDefinition) -> tuple[ContainerPayload, ...]:
    """Without overrides, as thousands of tasks of a service have them: made once, and never changed."""
    return _containers(definition, {})


def stop_payload(task: Task, *, region: str) -> TaskPayload:
    """The least that stops a task which the agent has: its ARN, and STOPPED."""
    return TaskPayload(
        arn=arn.task_arn(region, task.account, task.cluster, task.id),
        desiredStatus="STOPPED",
        taskClusterArn=arn.cluster_arn(region, task.account, task.cluster),
    )


def task_key(task_arn: str, account: str) -> str:
    """The store key of the task that `task_arn` names, or "" when it names none of `account`."""
    parsed = arn.parse_arn(task_arn)
    parts = parsed.resource.split("/") if parsed else []
    if parsed is None or parsed.account != account or len(parts) != 3 or parts[0] != "task":
        return ""
    return f"{parsed.account}/{parts[1]}/{parts[2]}"


def _container_arn(region: str, task: Task, container: Container | None) -> str:
    return arn.container_arn(region, task.account, task.cluster, task.id, container.id) if container else ""


def _image(image: str, container: Container | None) -> str:
    """`image`, by its digest where the container is held to one: REPOSITORY@sha256:…, without the tag, which may have moved on."""
    if container is None or not container.pinned_digest:
        return image
    repository = image.partition("@")[0]
    head, slash, last = repository.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}@{container.pinned_digest}"


def _amount(text: Any) -> int:
    """Task-level cpu (units) or memory (MiB) as stored; an override may carry "0.5 vCPU" or "1 GB", as the caller gave it."""
    number = str(text or 0).rstrip("vVcCpPuUgGbB ")
    return int(number) if number == str(text or 0) else int(float(number) * 1024)


def _container(spec: Document, override: Document, *, definition: TaskDefinition, ipc_mode: str) -> ContainerPayload:
    environment = {pair["name"]: pair.get("value") or "" for pair in spec.get("environment") or ()}
    environment |= {pair["name"]: pair.get("value") or "" for pair in override.get("environment") or ()}
    memory = _chosen(spec, override, "memory")
    config = _config(spec)
    host_config = _host_config(spec, memory=memory, reservation=_chosen(spec, override, "memoryReservation"))
    host_config["NetworkMode"] = "none" if spec.get("disableNetworking") else definition.network_mode
    for member, mode in (("PidMode", _decoded(definition.document).get("pidMode")), ("IpcMode", ipc_mode)):
        # "task" is no mode of Docker's: the agent joins the containers by itself.
        if mode in ("host", "none"):
            host_config[member] = mode
    return ContainerPayload(
        name=spec["name"],
        image=spec["image"],
        essential=spec.get("essential") is not False,
        cpu=_chosen(spec, override, "cpu"),
        memory=memory,
        command=list(override.get("command") or spec.get("command") or ()),
        entryPoint=list(spec.get("entryPoint") or ()),
        environment=environment,
        portMappings=[_port_mapping(mapping, definition.network_mode) for mapping in spec.get("portMappings") or ()],
        mountPoints=[
            MountPoint(sourceVolume=m.get("sourceVolume") or "", containerPath=m.get("containerPath") or "", readOnly=bool(m.get("readOnly")))
            for m in spec.get("mountPoints") or ()
        ],
        volumesFrom=[
            VolumeFrom(sourceContainer=v.get("sourceContainer") or "", readOnly=bool(v.get("readOnly"))) for v in spec.get("volumesFrom") or ()
        ],
        links=list(spec.get("links") or ()),
        dependsOn=[Dependency(containerName=d["containerName"], condition=d["condition"]) for d in spec.get("dependsOn") or ()],
        startTimeout=spec.get("startTimeout") or 0,
        stopTimeout=spec.get("stopTimeout") or 0,
        dockerConfig=DockerConfig(config=_json(config), hostConfig=_json(host_config), version=_api_version(definition, config, host_config)),
        healthCheckType="docker" if "Healthcheck" in config else "",
        restartPolicy=_restart_policy(spec.get("restartPolicy")),
    )


def _chosen(spec: Document, override: Document, member: str) -> int:
    value = override.get(member)
    return int(value if value is not None else spec.get(member) or 0)


def _json(value: Document) -> str:
    return msgspec.json.encode(value).decode()


def _config(spec: Document) -> Document:
    """Docker's Config, of what the payload has no member for."""
    config: Document = {}
    _copy(spec, config, {"user": "User", "workingDirectory": "WorkingDir", "hostname": "Hostname", "dockerLabels": "Labels"})
    _copy(spec, config, {"pseudoTerminal": "Tty", "interactive": "OpenStdin"})
    check = spec.get("healthCheck")
    if check:
        config["Healthcheck"] = {
            "Test": list(check.get("command") or ()),
            "Interval": (check.get("interval") or 30) * _NANOSECONDS,
            "Timeout": (check.get("timeout") or 5) * _NANOSECONDS,
            "Retries": check.get("retries") or 3,
            "StartPeriod": (check.get("startPeriod") or 0) * _NANOSECONDS,
        }
    return config


def _host_config(spec: Document, *, memory: int, reservation: int) -> Document:
    """Docker's HostConfig, of what the payload has no member for."""
    host: Document = {}
    _copy(spec, host, {"privileged": "Privileged", "readonlyRootFilesystem": "ReadonlyRootfs", "dnsServers": "Dns", "dnsSearchDomains": "DnsSearch"})
    _copy(spec, host, {"dockerSecurityOptions": "SecurityOpt"})
    if reservation:
        host["MemoryReservation"] = reservation * _MIB
    if spec.get("extraHosts"):
        host["ExtraHosts"] = [f"{entry['hostname']}:{entry['ipAddress']}" for entry in spec["extraHosts"]]
    if spec.get("ulimits"):
        host["Ulimits"] = [{"Name": limit["name"], "Soft": limit["softLimit"], "Hard": limit["hardLimit"]} for limit in spec["ulimits"]]
    if spec.get("systemControls"):
        host["Sysctls"] = {control["namespace"]: control["value"] for control in spec["systemControls"]}
    log = spec.get("logConfiguration")
    if log:
        host["LogConfig"] = {"Type": log["logDriver"], "Config": dict(log.get("options") or {})}
    host |= _linux_parameters(spec.get("linuxParameters") or {}, memory=memory)
    return host


def _linux_parameters(parameters: Document, *, memory: int) -> Document:
    host: Document = {}
    _copy(parameters, host, {"initProcessEnabled": "Init"})
    _copy(parameters.get("capabilities") or {}, host, {"add": "CapAdd", "drop": "CapDrop"})
    if parameters.get("sharedMemorySize"):
        host["ShmSize"] = parameters["sharedMemorySize"] * _MIB
    if parameters.get("tmpfs"):
        host["Tmpfs"] = {m["containerPath"]: ",".join([*(m.get("mountOptions") or ()), f"size={m['size']}m"]) for m in parameters["tmpfs"]}
    if parameters.get("devices"):
        host["Devices"] = [_device(device) for device in parameters["devices"]]
    max_swap = parameters.get("maxSwap")
    if max_swap is not None and memory:
        # Docker counts memory and swap together; ECS gives the swap alone, and swappiness only together with it.
        host["MemorySwap"] = (memory + max_swap) * _MIB
        if parameters.get("swappiness") is not None:
            host["MemorySwappiness"] = parameters["swappiness"]
    return host


def _device(device: Document) -> Document:
    permissions = "".join(_DEVICE_PERMISSIONS[permission] for permission in device.get("permissions") or _DEVICE_PERMISSIONS)
    return {"PathOnHost": device["hostPath"], "PathInContainer": device.get("containerPath") or device["hostPath"], "CgroupPermissions": permissions}


def _copy(source: Document, target: Document, names: dict[str, str]) -> None:
    """Each named member that is there and neither false nor empty, under Docker's name."""
    for name, docker_name in names.items():
        if source.get(name):
            target[docker_name] = source[name]


def _port_mapping(mapping: Document, network_mode: str) -> PortMapping:
    port = mapping.get("containerPort") or 0
    host_port = mapping.get("hostPort") or 0
    return PortMapping(
        containerPort=port,
        hostPort=host_port if network_mode == "bridge" else port,
        protocol=mapping.get("protocol") or "tcp",
        containerPortRange=mapping.get("containerPortRange") or "",
    )


def _restart_policy(policy: Document | None) -> RestartPolicy | None:
    if not policy:
        return None
    return RestartPolicy(
        enabled=bool(policy.get("enabled")),
        ignoredExitCodes=list(policy.get("ignoredExitCodes") or ()),
        restartAttemptPeriod=policy.get("restartAttemptPeriod") or 300,
    )


def _volume(spec: Document) -> VolumePayload:
    docker = spec.get("dockerVolumeConfiguration")
    if docker is None:
        return VolumePayload(name=spec["name"], type="host", host=HostVolume(sourcePath=(spec.get("host") or {}).get("sourcePath") or ""))
    return VolumePayload(
        name=spec["name"],
        type="docker",
        dockerVolumeConfiguration=DockerVolume(
            scope=docker.get("scope") or "task",
            autoprovision=bool(docker.get("autoprovision")),
            driver=docker.get("driver") or "local",
            driverOpts=dict(docker.get("driverOpts") or {}),
            labels=dict(docker.get("labels") or {}),
        ),
    )


def _api_version(definition: TaskDefinition, config: Document, host_config: Document) -> str:
    """The lowest Engine API version that carries everything asked for."""
    versions = [_API_FLOOR]
    versions += [int(name[len(_API_ATTRIBUTE) :]) for name in definition.requires_attributes if name.startswith(_API_ATTRIBUTE)]
    versions += [version for member, version in _API_OF_MEMBER.items() if member in config or member in host_config]
    return f"1.{max(versions)}"
