"""What is refused at registration, in which words; and what is filled in."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.ecs.caller import ACCOUNT, Ecs

from homeport.errors import ClientError, InvalidParameterError
from homeport.model.ecs.task_definition import HostPort
from homeport.store.tables import TASK_DEFINITIONS


@pytest.fixture
def ecs(context):
    return Ecs(context)


def container(name: str = "web", **members: Any) -> dict[str, Any]:
    return {"name": name, "image": "web:1", "memory": 16, **members}


async def register(ecs, *containers, **members):
    request = {"family": "web", "containerDefinitions": list(containers) or [container()], **members}
    return (await ecs("RegisterTaskDefinition", **request))["taskDefinition"]


SIDE = {"name": "side", "image": "side", "memory": 16, "essential": False}
HEALTH = {"command": ["CMD-SHELL", "true"]}

REFUSED_CONTAINERS: list[tuple[str, list[dict[str, Any]]]] = [
    ("Container.name should not be null or empty.", [{"image": "x", "memory": 16}]),
    ("Container.name should not be null or empty.", [container("")]),
    ("Container.name contains invalid characters.", [container("a b")]),
    ("Container.name is too long.", [container("a" * 256)]),
    ("Container.image should not be null or empty.", [{"name": "web", "memory": 16}]),
    ("Container.image contains invalid characters.", [container(image="a b")]),
    ("Container.image contains invalid characters.", [container(image="web@sha256:1234")]),
    ("Container.image should not have more than 255", [container(image="a" * 256)]),
    ("Too many containers.", [container(f"c{number}") for number in range(11)]),
    ("Container names must be unique", [container(), container()]),
    ("At least one container of a task definition must be essential.", [container(essential=False)]),
    ("Invalid setting for container 'web'. At least one of 'memory' or 'memoryReservation' must be specified.", [{"name": "web", "image": "x"}]),
    ("Invalid 'memory' setting for container 'web'.", [container(memory=5)]),
    ("Invalid 'memoryReservation' setting for container 'web'.", [container(memoryReservation=0)]),
    ("'memory' must be greater than 'memoryReservation'", [container(memory=16, memoryReservation=16)]),
    ("Invalid 'cpu' setting for container 'web'.", [container(cpu=-1)]),
    ("Invalid 'containerPort' setting for container 'web'.", [container(portMappings=[{"hostPort": 80}])]),
    ("Invalid 'containerPort' setting for container 'web'.", [container(portMappings=[{"containerPort": 65536}])]),
    ("Invalid 'hostPort' setting for container 'web'.", [container(portMappings=[{"containerPort": 80, "hostPort": 65536}])]),
    ("The host port 80/tcp is mapped more than once", [container(portMappings=[{"containerPort": port, "hostPort": 80} for port in (1, 2)])]),
    ("may have at most 100 port mappings", [container(portMappings=[{"containerPort": 1}] * 101)]),
    ("port mapping name x must be unique", [container(portMappings=[{"containerPort": 1, "name": "x"}, {"containerPort": 2, "name": "x"}])]),
    ("portMappings.name", [container(portMappings=[{"containerPort": 1, "name": "X"}])]),
    ("portMappings.appProtocol", [container(portMappings=[{"containerPort": 1, "protocol": "udp", "appProtocol": "http"}])]),
    ("portMappings.containerPortRange", [container(portMappings=[{"containerPortRange": "90-80"}])]),
    ("portMappings.containerPortRange", [container(portMappings=[{"containerPortRange": "80-90", "hostPort": 1}])]),
    ("ranges of a task definition must not overlap", [container(portMappings=[{"containerPortRange": "80-90"}, {"containerPortRange": "90-99"}])]),
    ("links to the unknown container 'db'", [container(links=["db"])]),
    ("Container links should not have a cycle", [container(links=["side"]), {**SIDE, "links": ["web:w"]}]),
    ("Unknown container 'db' in volumesFrom", [container(volumesFrom=[{"sourceContainer": "db"}])]),
    ("volumesFrom should not have a cycle", [container(volumesFrom=[{"sourceContainer": "web"}])]),
    ("Cannot depend on container + 'db' because it does not exist", [container(dependsOn=[{"containerName": "db", "condition": "START"}])]),
    ("Container dependencies should not have a cycle", [container(dependsOn=[{"containerName": "web", "condition": "START"}])]),
    (
        "Container dependencies should not have a cycle",
        [
            container("a", dependsOn=[{"containerName": "b", "condition": "START"}]),
            container("b", dependsOn=[{"containerName": "c", "condition": "START"}]),
            container("c", dependsOn=[{"containerName": "a", "condition": "START"}]),
        ],
    ),
    (
        "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container",
        [container(dependsOn=[{"containerName": "db", "condition": "SUCCESS"}]), container("db")],
    ),
    (
        "A dependency container with HEALTHY condition must have a health check",
        [container(dependsOn=[{"containerName": "side", "condition": "HEALTHY"}]), SIDE],
    ),
    ("Unknown volume 'data'.", [container(mountPoints=[{"sourceVolume": "data", "containerPath": "/data"}])]),
    ("environment", [container(environment=[{"value": "x"}])]),
    ("such as 'A'", [container(environment=[{"name": "A"}], secrets=[{"name": "A", "valueFrom": "b"}])]),
    ("environmentFiles", [container(environmentFiles=[{"type": "s3", "value": "arn:aws:s3:::bucket/file.txt"}])]),
    ("credentialSpecs", [container(credentialSpecs=["credentialspec:a", "credentialspec:b"])]),
    ("Invalid 'restartPolicy.restartAttemptPeriod'", [container(restartPolicy={"enabled": True, "restartAttemptPeriod": 59})]),
    ("Invalid 'restartPolicy.ignoredExitCodes'", [container(restartPolicy={"enabled": True, "ignoredExitCodes": [1] * 51})]),
    ("Invalid 'healthCheck.command'", [container(healthCheck={"command": []})]),
    ("Invalid 'healthCheck.command'", [container(healthCheck={"command": ["true"]})]),
    ("healthCheck.interval' setting for container 'web'. It must be between 5 and 300.", [container(healthCheck={**HEALTH, "interval": 4})]),
    ("Invalid 'healthCheck.timeout'", [container(healthCheck={**HEALTH, "timeout": 61})]),
    ("Invalid 'healthCheck.retries'", [container(healthCheck={**HEALTH, "retries": 11})]),
    ("Invalid 'healthCheck.startPeriod'", [container(healthCheck={**HEALTH, "startPeriod": -1})]),
    ("Invalid 'stopTimeout'", [container(stopTimeout=-1)]),
    ("FLY is no capability", [container(linuxParameters={"capabilities": {"add": ["FLY"]}})]),
    ("Invalid 'linuxParameters.devices'", [container(linuxParameters={"devices": [{"hostPath": "dev"}]})]),
    ("Invalid 'linuxParameters.tmpfs'", [container(linuxParameters={"tmpfs": [{"containerPath": "/tmp", "size": 0}]})]),
    ("Invalid 'linuxParameters.swappiness'", [container(linuxParameters={"swappiness": 101})]),
    ("Invalid 'linuxParameters.sharedMemorySize'", [container(linuxParameters={"sharedMemorySize": 0})]),
    ("softLimit of nofile", [container(ulimits=[{"name": "nofile", "softLimit": 2, "hardLimit": 1}])]),
    ("nofile is given twice", [container(ulimits=[{"name": "nofile", "softLimit": 1, "hardLimit": 1}] * 2)]),
    ("Log driver awslogs requires options: awslogs-region, awslogs-group", [container(logConfiguration={"logDriver": "awslogs"})]),
    ("Log driver splunk requires options", [container(logConfiguration={"logDriver": "splunk", "options": {"splunk-url": "x"}})]),
    ("another one must have firelensConfiguration", [container(logConfiguration={"logDriver": "awsfirelens"})]),
    ("at most one container with firelensConfiguration", [container(n, firelensConfiguration={"type": "fluentd"}) for n in "ab"]),
    ("Invalid 'systemControls'", [container(systemControls=[{"namespace": "net.ipv4.tcp_x"}])]),
    ("Invalid 'resourceRequirements'", [container(resourceRequirements=[{"type": "GPU", "value": "some"}])]),
    ("Invalid 'resourceRequirements'", [container(resourceRequirements=[{"type": "GPU", "value": "9" * 30}])]),
    ("Invalid 'resourceRequirements'", [container(resourceRequirements=[{"type": "GPU", "value": "9" * 5000}])]),
]


@pytest.mark.parametrize(("words", "containers"), REFUSED_CONTAINERS, ids=lambda value: value[:40] if isinstance(value, str) else "")
async def test_wrong_containers_are_refused(ecs, words, containers):
    with pytest.raises(ClientError) as refusal:
        await register(ecs, *containers)
    assert words in refusal.value.message
    assert (await ecs("ListTaskDefinitionFamilies"))["families"] == []


MOUNT = {"sourceVolume": "data", "containerPath": "/data"}

REFUSED_TASKS: list[tuple[str, dict[str, Any]]] = [
    ("Family should not be null or empty.", {"family": ""}),
    ("Family contains invalid characters.", {"family": "a:b"}),
    ("Family is too long.", {"family": "a" * 256}),
    ("Container definitions should not be null or empty.", {"containerDefinitions": []}),
    ("Invalid 'cpu' setting for task.", {"cpu": "127"}),
    ("Invalid 'cpu' setting for task.", {"cpu": "200 vCPU"}),
    ("Invalid 'cpu' setting for task.", {"cpu": "lots"}),
    ("Invalid 'cpu' setting for task.", {"cpu": "vCPU"}),
    ("Invalid 'cpu' setting for task.", {"cpu": "-1"}),
    ("Invalid 'memory' setting for task.", {"memory": "1.5"}),
    ("Invalid 'memory' setting for task.", {"memory": "GB"}),
    ("The sum of all container 'cpu' values cannot be greater", {"cpu": "128", "containerDefinitions": [container(cpu=129)]}),
    ("'memory' cannot be greater than the value of the task", {"memory": "10", "containerDefinitions": [container(memory=11)]}),
    (
        "The memory reserved for all containers cannot be greater",
        {"memory": "20", "containerDefinitions": [container(memoryReservation=11), container("b", memoryReservation=11)]},
    ),
    (
        "Port mappings are not supported when networkMode=none",
        {"networkMode": "none", "containerDefinitions": [container(portMappings=[{"containerPort": 1}])]},
    ),
    ("When networkMode=none, links", {"networkMode": "none", "containerDefinitions": [container(links=["web"])]}),
    ("When networkMode=awsvpc, hostname", {"networkMode": "awsvpc", "containerDefinitions": [container(hostname="x")]}),
    (
        "When networkMode=awsvpc, extraHosts",
        {"networkMode": "awsvpc", "containerDefinitions": [container(extraHosts=[{"hostname": "a", "ipAddress": "1.2.3.4"}])]},
    ),
    (
        "Network system controls cannot be set when networkMode=host",
        {"networkMode": "host", "containerDefinitions": [container(systemControls=[{"namespace": "net.core.somaxconn", "value": "1"}])]},
    ),
    (
        "cannot be set when ipcMode=host",
        {"ipcMode": "host", "containerDefinitions": [container(systemControls=[{"namespace": "kernel.msgmax", "value": "1"}])]},
    ),
    ("Role is not valid", {"taskRoleArn": "arn:aws:iam::123456789012:user/me"}),
    ("Role is not valid", {"executionRoleArn": "arn:aws:iam::1:role/me"}),
    ("ephemeralStorage.sizeInGiB must be between 21 and 200", {"ephemeralStorage": {"sizeInGiB": 20}}),
    ("Unknown container 'envoy' in proxyConfiguration", {"networkMode": "awsvpc", "proxyConfiguration": {"containerName": "envoy"}}),
    ("proxyConfiguration requires networkMode=awsvpc", {"proxyConfiguration": {"containerName": "web"}}),
    ("requires an attestationPolicy", {"trustedExecutionConfiguration": {"isolationMode": "CONFIDENTIAL_SANDBOX"}}),
    ("at most 10 placement constraints", {"placementConstraints": [{"type": "memberOf", "expression": "attribute:a exists"}] * 11}),
    ("must have the type memberOf and an expression", {"placementConstraints": [{"type": "memberOf"}]}),
    ("Volume.name should not be null or empty.", {"volumes": [{}]}),
    ("Volume.name contains invalid characters.", {"volumes": [{"name": "a/b"}]}),
    ("Volume names must be unique", {"volumes": [{"name": "a"}, {"name": "a"}]}),
    ("host.sourcePath should not be blank.", {"volumes": [{"name": "a", "host": {"sourcePath": ""}}]}),
    ("may have only one of host and dockerVolume", {"volumes": [{"name": "a", "host": {}, "dockerVolumeConfiguration": {}}]}),
    ("only when its scope is shared", {"volumes": [{"name": "a", "dockerVolumeConfiguration": {"autoprovision": True}}]}),
    (
        "transitEncryption",
        {"volumes": [{"name": "a", "efsVolumeConfiguration": {"fileSystemId": "fs-1", "authorizationConfig": {"iam": "ENABLED"}}}]},
    ),
    ("configured at launch", {"volumes": [{"name": "a", "configuredAtLaunch": True, "host": {}}]}),
    (
        "containerPath should not be null or empty",
        {"volumes": [{"name": "data"}], "containerDefinitions": [container(mountPoints=[{"sourceVolume": "data"}])]},
    ),
    ("more than one mount point at /data", {"volumes": [{"name": "data"}], "containerDefinitions": [container(mountPoints=[MOUNT, MOUNT])]}),
]


@pytest.mark.parametrize(("words", "members"), REFUSED_TASKS, ids=lambda value: value[:40] if isinstance(value, str) else "")
async def test_wrong_task_members_are_refused(ecs, words, members):
    with pytest.raises(ClientError) as refusal:
        await register(ecs, **members)
    assert words in refusal.value.message


async def test_a_wrong_placement_expression_is_refused(ecs):
    with pytest.raises(InvalidParameterError, match="Invalid placement constraint expression"):
        await register(ecs, placementConstraints=[{"type": "memberOf", "expression": "attribute:a =="}])


@pytest.mark.parametrize("mode", ["awsvpc", "host"])
async def test_ports_are_the_same_where_the_network_is_shared(ecs, mode):
    with pytest.raises(ClientError, match=f"^When networkMode={mode}, the host ports and container ports in port mappings must match.$"):
        await register(ecs, container(portMappings=[{"containerPort": 80, "hostPort": 81}]), networkMode=mode)
    made = await register(
        ecs, container(portMappings=[{"containerPort": 80}, {"containerPort": 53, "hostPort": 0, "protocol": "udp"}]), networkMode=mode
    )
    assert made["containerDefinitions"][0]["portMappings"] == [
        {"containerPort": 80, "hostPort": 80, "protocol": "tcp"},
        {"containerPort": 53, "hostPort": 53, "protocol": "udp"},
    ]
    record = await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001")
    taken = (HostPort(port=80, protocol="tcp"), HostPort(port=53, protocol="udp"))
    assert record.host_ports == (taken if mode == "host" else ())


async def test_defaults_are_filled_in_and_nothing_else(ecs):
    made = await register(
        ecs,
        container(
            essential=None,
            portMappings=[{"containerPort": 80}, {"containerPort": 81, "hostPort": 8081, "protocol": "udp"}, {"containerPortRange": "90-99"}],
            healthCheck={"command": ["CMD", "true"], "startPeriod": 0},
            environment=[{"name": "A", "value": ""}],
            mountPoints=[MOUNT],
        ),
        volumes=[{"name": "data"}, {"name": "d", "dockerVolumeConfiguration": {"driver": "local"}}, {"name": "h", "host": {"sourcePath": "/h"}}],
    )
    found = made["containerDefinitions"][0]
    assert found["portMappings"] == [
        {"containerPort": 80, "hostPort": 0, "protocol": "tcp"},
        {"containerPort": 81, "hostPort": 8081, "protocol": "udp"},
        {"protocol": "tcp", "containerPortRange": "90-99"},
    ]
    assert found["healthCheck"] == {"command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3, "startPeriod": 0}
    assert found["environment"] == [{"name": "A", "value": ""}]
    assert (found["essential"], found["mountPoints"]) == (True, [MOUNT])
    assert made["volumes"] == [
        {"name": "data", "host": {}},
        {"name": "d", "dockerVolumeConfiguration": {"driver": "local", "scope": "task"}},
        {"name": "h", "host": {"sourcePath": "/h"}},
    ]
    record = await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001")
    assert record.host_ports == (HostPort(port=8081, protocol="udp"),)


@pytest.mark.parametrize(
    ("given", "stored"),
    [("256", "256"), ("1 vCPU", "1024"), (".5 vcpu", "512"), ("0.25vCPU", "256"), ("192 vCPU", "196608"), ("2 vCPUs", "2048")],
)
async def test_cpu_is_stored_as_units(ecs, given, stored):
    made = await register(ecs, cpu=given)
    assert made["cpu"] == stored
    assert (await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001")).cpu == int(stored)


@pytest.mark.parametrize(("given", "stored"), [("512", "512"), ("1 GB", "1024"), ("0.5GB", "512"), ("30 gb", "30720")])
async def test_memory_is_stored_as_mib(ecs, given, stored):
    made = await register(ecs, memory=given)
    assert made["memory"] == stored
    assert (await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001")).memory_mib == int(stored)


async def test_without_task_figures_the_containers_are_added_up(ecs):
    await register(ecs, container(cpu=10, memory=100, memoryReservation=50), container("b", cpu=5, memory=30))
    record = await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001")
    assert (record.cpu, record.memory_mib) == (15, 80)


async def test_network_mode_is_bridge_in_force_but_not_invented(ecs):
    made = await register(ecs)
    assert "networkMode" not in made
    assert (await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001")).network_mode == "bridge"


async def test_what_is_right_at_the_edge_is_accepted(ecs):
    made = await register(
        ecs,
        container(
            image="registry.example:5000/a/b@sha256:" + "a" * 64,
            ulimits=[{"name": "nofile", "softLimit": 1024, "hardLimit": 1024}, {"name": "core", "softLimit": -1, "hardLimit": -1}],
            linuxParameters={"capabilities": {"add": ["SYS_PTRACE"], "drop": ["ALL"]}, "swappiness": 0, "maxSwap": 0},
            links=["side:s"],
            volumesFrom=[{"sourceContainer": "side", "readOnly": True}],
            dependsOn=[{"containerName": "side", "condition": "HEALTHY"}, {"containerName": "init", "condition": "SUCCESS"}],
            healthCheck={"command": ["CMD-SHELL", "x"], "interval": 300, "timeout": 60, "retries": 10, "startPeriod": 300},
        ),
        {**SIDE, "healthCheck": HEALTH},
        {**SIDE, "name": "init"},
        placementConstraints=[{"type": "memberOf", "expression": "attribute:stack == prod"}],
    )
    assert made["placementConstraints"] == [{"type": "memberOf", "expression": "attribute:stack == prod"}]
    assert (await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:0000001")).placement_constraints == ("attribute:stack == prod",)
