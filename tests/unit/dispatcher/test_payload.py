"""From the API's container fields to what an agent, ours or the upstream one, is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from homeport.acs.messages import encode
from homeport.dispatcher.payload import stop_payload, task_key, task_payload
from homeport.testing import records

MIB = 1024 * 1024
SECOND = 1_000_000_000


def payload(overrides: dict[str, Any] | None = None, *, network_mode: str = "bridge", document: dict[str, Any] | None = None, **container: Any):
    """The payload of a task of one container with the given fields."""
    spec = {"name": "app", "image": "app:1", **container}
    body = records.document(containerDefinitions=[spec], networkMode=network_mode, **(document or {}))
    definition = records.task_definition(document=body, network_mode=network_mode)
    task = records.task(overrides=msgspec.json.encode(overrides) if overrides else b"")
    return task_payload(task, definition, region=records.REGION)


def docker(**container: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Config, HostConfig) of a container."""
    made = payload(**container).containers[0].dockerConfig
    return json.loads(made.config), json.loads(made.hostConfig)


CONFIG = [
    ({"user": "1000:1000"}, {"User": "1000:1000"}),
    ({"workingDirectory": "/srv"}, {"WorkingDir": "/srv"}),
    ({"hostname": "web"}, {"Hostname": "web"}),
    ({"dockerLabels": {"a": "b"}}, {"Labels": {"a": "b"}}),
    ({"pseudoTerminal": True}, {"Tty": True}),
    ({"interactive": True}, {"OpenStdin": True}),
    ({"interactive": False, "pseudoTerminal": False, "dockerLabels": {}}, {}),
    (
        {"healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 7, "timeout": 3, "retries": 2, "startPeriod": 11}},
        {"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 7 * SECOND, "Timeout": 3 * SECOND, "Retries": 2, "StartPeriod": 11 * SECOND}},
    ),
    (
        {"healthCheck": {"command": ["CMD", "x"]}},
        {"Healthcheck": {"Test": ["CMD", "x"], "Interval": 30 * SECOND, "Timeout": 5 * SECOND, "Retries": 3, "StartPeriod": 0}},
    ),
]


@pytest.mark.parametrize(("container", "config"), CONFIG, ids=lambda value: ",".join(value))
def test_what_goes_into_dockers_config(container, config):
    assert docker(**container)[0] == config


HOST_CONFIG = [
    ({}, {}),
    ({"privileged": True}, {"Privileged": True}),
    ({"readonlyRootFilesystem": True}, {"ReadonlyRootfs": True}),
    ({"dnsServers": ["1.1.1.1"], "dnsSearchDomains": ["x"]}, {"Dns": ["1.1.1.1"], "DnsSearch": ["x"]}),
    ({"extraHosts": [{"hostname": "db", "ipAddress": "10.0.0.1"}]}, {"ExtraHosts": ["db:10.0.0.1"]}),
    ({"dockerSecurityOptions": ["no-new-privileges"]}, {"SecurityOpt": ["no-new-privileges"]}),
    ({"ulimits": [{"name": "nofile", "softLimit": 10, "hardLimit": 20}]}, {"Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}]}),
    ({"systemControls": [{"namespace": "net.core.somaxconn", "value": "9"}]}, {"Sysctls": {"net.core.somaxconn": "9"}}),
    ({"memoryReservation": 64}, {"MemoryReservation": 64 * MIB}),
    (
        {"logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}}},
        {"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}},
    ),
    ({"linuxParameters": {"initProcessEnabled": True}}, {"Init": True}),
    ({"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}, {"CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"]}),
    ({"linuxParameters": {"sharedMemorySize": 5}}, {"ShmSize": 5 * MIB}),
    ({"linuxParameters": {"tmpfs": [{"containerPath": "/t", "size": 3, "mountOptions": ["noexec"]}]}}, {"Tmpfs": {"/t": "noexec,size=3m"}}),
    (
        {"linuxParameters": {"devices": [{"hostPath": "/dev/a"}, {"hostPath": "/dev/b", "containerPath": "/dev/c", "permissions": ["read"]}]}},
        {
            "Devices": [
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
                {"PathOnHost": "/dev/b", "PathInContainer": "/dev/c", "CgroupPermissions": "r"},
            ]
        },
    ),
    ({"memory": 100, "linuxParameters": {"maxSwap": 50, "swappiness": 10}}, {"MemorySwap": 150 * MIB, "MemorySwappiness": 10}),
    ({"memory": 100, "linuxParameters": {"maxSwap": 0}}, {"MemorySwap": 100 * MIB}),
    ({"memory": 100, "linuxParameters": {"swappiness": 10}}, {}),
]


@pytest.mark.parametrize(("container", "host_config"), HOST_CONFIG, ids=lambda value: ",".join(value))
def test_what_goes_into_dockers_host_config(container, host_config):
    assert docker(**container)[1] == {"NetworkMode": "bridge", **host_config}


@pytest.mark.parametrize(("mode", "disabled", "expected"), [("host", None, "host"), ("none", None, "none"), ("bridge", True, "none")])
def test_the_network_mode_is_dockers(mode, disabled, expected):
    container = payload(network_mode=mode, disableNetworking=disabled).containers[0]
    assert json.loads(container.dockerConfig.hostConfig)["NetworkMode"] == expected


def test_namespaces_of_the_host_are_dockers_and_shared_ones_the_agents():
    task = payload(document={"pidMode": "host", "ipcMode": "task"})
    host_config = json.loads(task.containers[0].dockerConfig.hostConfig)
    assert (task.pidMode, task.ipcMode) == ("host", "task")
    assert host_config["PidMode"] == "host"
    assert "IpcMode" not in host_config


@pytest.mark.parametrize(
    ("container", "version"),
    [
        ({}, "1.18"),
        ({"linuxParameters": {"sharedMemorySize": 5}}, "1.22"),
        ({"healthCheck": {"command": ["CMD", "x"]}}, "1.24"),
        ({"linuxParameters": {"initProcessEnabled": True}}, "1.25"),
    ],
)
def test_the_api_version_is_the_lowest_that_knows_every_member(container, version):
    assert payload(**container).containers[0].dockerConfig.version == version


def test_the_health_check_type_is_lower_case_as_the_upstream_agent_needs_it():
    assert payload(healthCheck={"command": ["CMD", "x"]}).containers[0].healthCheckType == "docker"
    assert payload().containers[0].healthCheckType == ""


def test_members_of_a_container():
    container = payload(
        cpu=256,
        memory=128,
        essential=False,
        command=["a"],
        entryPoint=["b"],
        environment=[{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
        portMappings=[{"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "udp"}, {"containerPortRange": "100-110"}],
        mountPoints=[{"sourceVolume": "v", "containerPath": "/v", "readOnly": True}],
        volumesFrom=[{"sourceContainer": "other"}],
        links=["other:o"],
        dependsOn=[{"containerName": "other", "condition": "START"}],
        startTimeout=3,
        stopTimeout=4,
        restartPolicy={"enabled": True, "ignoredExitCodes": [0]},
    ).containers[0]
    wire = json.loads(encode(container))["message"]
    wire.pop("dockerConfig")
    assert wire == {
        "name": "app",
        "image": "app:1",
        "essential": False,
        "cpu": 256,
        "memory": 128,
        "command": ["a"],
        "entryPoint": ["b"],
        "environment": {"A": "1", "B": ""},
        "portMappings": [
            {"containerPort": 80, "protocol": "tcp"},
            {"containerPort": 53, "hostPort": 5353, "protocol": "udp"},
            {"protocol": "tcp", "containerPortRange": "100-110"},
        ],
        "mountPoints": [{"sourceVolume": "v", "containerPath": "/v", "readOnly": True}],
        "volumesFrom": [{"sourceContainer": "other"}],
        "links": ["other:o"],
        "dependsOn": [{"containerName": "other", "condition": "START"}],
        "startTimeout": 3,
        "stopTimeout": 4,
        "restartPolicy": {"enabled": True, "ignoredExitCodes": [0], "restartAttemptPeriod": 300},
        "containerArn": f"arn:aws:ecs:us-east-1:123456789012:container/default/{1:032x}/00000001-0000-4000-8000-000000000000",
    }


def test_ports_of_the_host_network_are_the_containers():
    assert [port.hostPort for port in payload(network_mode="host", portMappings=[{"containerPort": 80}]).containers[0].portMappings] == [80]


def test_overrides_are_applied_here_and_none_is_sent():
    override = {
        "name": "app",
        "command": ["over"],
        "environment": [{"name": "A", "value": "2"}, {"name": "C", "value": "3"}],
        "cpu": 0,
        "memory": 300,
        "memoryReservation": 200,
    }
    task = payload(
        {"containerOverrides": [override], "cpu": "512", "memory": "1024"},
        cpu=256,
        memory=128,
        command=["a"],
        environment=[{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
    )
    container = task.containers[0]
    assert (container.command, container.environment, container.cpu, container.memory) == (["over"], {"A": "2", "B": "1", "C": "3"}, 0, 300)
    assert json.loads(container.dockerConfig.hostConfig)["MemoryReservation"] == 200 * MIB
    assert (task.cpu, task.memory) == (0.5, 1024)
    assert (task.overrides, container.overrides) == ("", "")


@pytest.mark.parametrize(
    ("cpu", "memory", "vcpu", "mib"), [(None, None, 0.0, 0), ("256", "512", 0.25, 512), (".5 vCPU", "1 GB", 0.5, 1024), ("2 vCPU", "2GB", 2.0, 2048)]
)
def test_task_level_limits_are_vcpu_and_mib(cpu, memory, vcpu, mib):
    task = payload({"cpu": cpu, "memory": memory} if cpu else None)
    assert (task.cpu, task.memory) == (vcpu, mib)


def test_volumes():
    volumes = [
        {"name": "temporary", "host": {}},
        {"name": "bind", "host": {"sourcePath": "/srv"}},
        {"name": "docker", "dockerVolumeConfiguration": {"scope": "shared", "autoprovision": True, "driverOpts": {"a": "b"}, "labels": {"c": "d"}}},
    ]
    wire = [json.loads(encode(volume))["message"] for volume in payload(document={"volumes": volumes}).volumes]
    assert wire == [
        {"name": "temporary", "type": "host", "host": {}},
        {"name": "bind", "type": "host", "host": {"sourcePath": "/srv"}},
        {
            "name": "docker",
            "type": "docker",
            "dockerVolumeConfiguration": {
                "scope": "shared",
                "autoprovision": True,
                "driver": "local",
                "driverOpts": {"a": "b"},
                "labels": {"c": "d"},
            },
        },
    ]


@pytest.mark.parametrize("image", ["app", "registry:5000/team/app:1", "registry:5000/team/app", f"app@sha256:{'0' * 64}"])
def test_a_container_that_is_held_to_an_image_gets_its_digest(image):
    digest = "sha256:" + "a" * 64
    definition = records.task_definition(document=records.document(containerDefinitions=[{"name": "app", "image": image}]))
    task = records.task()
    pinned = msgspec.structs.replace(task, containers=(msgspec.structs.replace(task.containers[0], pinned_digest=digest),))
    repository = {"app": "app", f"app@sha256:{'0' * 64}": "app"}.get(image, "registry:5000/team/app")
    assert task_payload(pinned, definition, region=records.REGION).containers[0].image == f"{repository}@{digest}"
    assert task_payload(task, definition, region=records.REGION).containers[0].image == image


def test_the_task_itself():
    task = payload(document={"cpu": "1024", "memory": "2048"})
    wire = json.loads(encode(task))["message"]
    wire.pop("containers")
    assert wire == {
        "arn": f"arn:aws:ecs:us-east-1:123456789012:task/default/{1:032x}",
        "desiredStatus": "RUNNING",
        "family": "web",
        "version": "1",
        "taskClusterArn": "arn:aws:ecs:us-east-1:123456789012:cluster/default",
        "networkMode": "bridge",
        "cpu": 1.0,
        "memory": 2048,
        "launchType": "EC2",
        "serviceName": "web",
        "group": "service:web",
    }


def test_a_stop_is_an_arn_and_a_status():
    stop = stop_payload(records.task(7), region=records.REGION)
    assert (stop.arn[-1], stop.desiredStatus, stop.containers) == ("7", "STOPPED", [])


def test_the_key_of_a_task_arn():
    assert task_key(f"arn:aws:ecs:us-east-1:{records.ACCOUNT}:task/default/abc", records.ACCOUNT) == f"{records.ACCOUNT}/default/abc"
    for foreign in ("abc", "arn:aws:ecs:us-east-1:9:task/default/abc", f"arn:aws:ecs:us-east-1:{records.ACCOUNT}:service/default/abc"):
        assert task_key(foreign, records.ACCOUNT) == ""
