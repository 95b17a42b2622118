"""What is derived at registration: capabilities, launch types, and what is not built; and that every member of the model comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, Ecs

from homeport.api.ecs.task_definition_support import missing
from homeport.api.protocol import model
from homeport.errors import ClientError
from homeport.store.tables import TASK_DEFINITIONS

ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
DOCKER, AGENT = "com.amazonaws.ecs.capability.", "ecs.capability."
AWSLOGS = {"logDriver": "awslogs", "options": {"awslogs-region": "us-east-1", "awslogs-group": "g"}}


@pytest.fixture
def ecs(context):
    return Ecs(context)


def container(name: str = "web", **members: Any) -> dict[str, Any]:
    return {"name": name, "image": "web:1", "memory": 16, **members}


async def register(ecs, *containers, **members):
    request = {"family": "web", "containerDefinitions": list(containers) or [container()], **members}
    made = (await ecs("RegisterTaskDefinition", **request))["taskDefinition"]
    return made, await ecs.get(TASK_DEFINITIONS, f"{ACCOUNT}/web:{made['revision']:07d}")


CAPABILITIES: list[tuple[set[str], dict[str, Any], dict[str, Any]]] = [
    (set(), {}, {}),
    ({AGENT + "task-eni"}, {}, {"networkMode": "awsvpc"}),
    ({DOCKER + "task-iam-role", DOCKER + "docker-remote-api.1.17"}, {}, {"taskRoleArn": ROLE}),
    ({DOCKER + "task-iam-role-network-host", DOCKER + "docker-remote-api.1.17"}, {}, {"taskRoleArn": "app", "networkMode": "host"}),
    ({AGENT + "task-cpu-mem-limit"}, {}, {"cpu": "256"}),
    ({AGENT + "pid-ipc-namespace-sharing"}, {}, {"pidMode": "host"}),
    ({AGENT + "fault-injection"}, {}, {"enableFaultInjection": True}),
    ({DOCKER + "privileged-container"}, {"privileged": True}, {}),
    ({DOCKER + "ecr-auth", DOCKER + "docker-remote-api.1.19"}, {"image": "1.dkr.ecr.us-east-1.amazonaws.com/a"}, {}),
    (
        {DOCKER + "ecr-auth", DOCKER + "docker-remote-api.1.19", AGENT + "execution-role-ecr-pull"},
        {"image": "1.dkr.ecr.us-east-1.amazonaws.com/a"},
        {"executionRoleArn": ROLE},
    ),
    ({DOCKER + "logging-driver.json-file", DOCKER + "docker-remote-api.1.18"}, {"logConfiguration": {"logDriver": "json-file"}}, {}),
    (
        {DOCKER + "logging-driver.awslogs", DOCKER + "docker-remote-api.1.18", DOCKER + "docker-remote-api.1.19", AGENT + "execution-role-awslogs"},
        {"logConfiguration": AWSLOGS},
        {"executionRoleArn": ROLE},
    ),
    ({AGENT + "container-health-check", DOCKER + "docker-remote-api.1.24"}, {"healthCheck": {"command": ["CMD", "true"]}}, {}),
    ({AGENT + "container-restart-policy"}, {"restartPolicy": {"enabled": True}}, {}),
    (set(), {"restartPolicy": {"enabled": False}}, {}),
    ({AGENT + "env-files.s3"}, {"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/x.env"}]}, {}),
    ({AGENT + "secrets.ssm.environment-variables"}, {"secrets": [{"name": "A", "valueFrom": "parameter"}]}, {}),
    (
        {AGENT + "secrets.asm.environment-variables"},
        {"secrets": [{"name": "A", "valueFrom": "arn:aws:secretsmanager:us-east-1:1:secret:a"}]},
        {},
    ),
    ({AGENT + "network.container-port-range"}, {"portMappings": [{"containerPortRange": "80-90"}]}, {}),
    ({DOCKER + "docker-remote-api.1.25"}, {"linuxParameters": {"initProcessEnabled": True}}, {}),
    ({DOCKER + "docker-remote-api.1.22"}, {"linuxParameters": {"sharedMemorySize": 64}}, {}),
    ({DOCKER + "docker-remote-api.1.21"}, {"memoryReservation": 8}, {}),
    ({AGENT + "efs"}, {}, {"volumes": [{"name": "a", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]}),
    ({AGENT + "storage.ebs-task-volume-attach"}, {}, {"volumes": [{"name": "a", "configuredAtLaunch": True}]}),
    (
        {AGENT + "docker-plugin.rexray", DOCKER + "docker-remote-api.1.25"},
        {},
        {"volumes": [{"name": "a", "dockerVolumeConfiguration": {"driver": "rexray", "scope": "shared"}}]},
    ),
    ({"ecs.cpu-architecture=arm64", "ecs.os-type=linux"}, {}, {"runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}}),
]


@pytest.mark.parametrize(("expected", "container_members", "task_members"), CAPABILITIES)
async def test_capabilities_are_derived(ecs, expected, container_members, task_members):
    made, record = await register(ecs, container(**container_members), **task_members)
    assert set(record.requires_attributes) == expected
    assert list(record.requires_attributes) == sorted(record.requires_attributes)
    shown = {item["name"] + ("=" + item["value"] if "value" in item else "") for item in made["requiresAttributes"]}
    assert shown == expected


async def test_dependencies_need_ordering(ecs):
    side = container("side", essential=False)
    _, record = await register(ecs, container(dependsOn=[{"containerName": "side", "condition": "START"}]), side)
    assert record.requires_attributes == (AGENT + "container-ordering",)


FARGATE = {"networkMode": "awsvpc", "cpu": "256", "memory": "512"}


async def test_launch_types_that_fit_are_named(ecs):
    assert (await register(ecs))[0]["compatibilities"] == ["EXTERNAL", "EC2"]
    assert (await register(ecs, networkMode="awsvpc"))[0]["compatibilities"] == ["EC2"]
    assert (await register(ecs, **FARGATE))[0]["compatibilities"] == ["EC2", "FARGATE", "MANAGED_INSTANCES"]
    made, _ = await register(ecs, requiresCompatibilities=["EC2"])
    assert made["requiresCompatibilities"] == ["EC2"]
    without_memory = {"name": "web", "image": "web"}
    made, record = await register(ecs, without_memory, **FARGATE, requiresCompatibilities=["FARGATE"])
    assert (made["cpu"], made["memory"], record.cpu, record.memory_mib) == ("256", "512", 256, 512)


@pytest.mark.parametrize(
    ("words", "container_members", "task_members"),
    [
        ("Fargate only supports network mode", {}, {"networkMode": "bridge"}),
        ("Fargate requires that 'cpu' be defined at the task level.", {}, {"cpu": None}),
        ("Fargate requires that 'memory' be defined at the task level.", {}, {"memory": None}),
        ("No Fargate configuration exists for given values: 256 CPU, 4096 memory.", {}, {"memory": "4096"}),
        ("No Fargate configuration exists for given values: 300 CPU, 512 memory.", {}, {"cpu": "300"}),
        ("do not support ipcMode", {}, {"ipcMode": "task"}),
        ("do not support pidMode 'host'", {}, {"pidMode": "host"}),
        ("do not support placementConstraints", {}, {"placementConstraints": [{"type": "memberOf", "expression": "attribute:a exists"}]}),
        ("host.sourcePath is not supported", {}, {"volumes": [{"name": "a", "host": {"sourcePath": "/a"}}]}),
        ("dockerVolumeConfiguration is not supported", {}, {"volumes": [{"name": "a", "dockerVolumeConfiguration": {}}]}),
        ("privileged", {"privileged": True}, {}),
        ("stopTimeout between 2 and 120", {"stopTimeout": 121}, {}),
        ("log drivers awslogs", {"logConfiguration": {"logDriver": "json-file"}}, {}),
        ("to support log driver awslogs", {"logConfiguration": AWSLOGS}, {}),
        ("to support ECR images", {"image": "1.dkr.ecr.us-east-1.amazonaws.com/a"}, {}),
        ("devices", {"linuxParameters": {"devices": [{"hostPath": "/dev/fuse"}]}}, {}),
    ],
)
async def test_what_fargate_cannot_run_is_refused_when_fargate_is_required(ecs, words, container_members, task_members):
    members = {name: value for name, value in {**FARGATE, **task_members}.items() if value is not None}
    with pytest.raises(ClientError) as refusal:
        await register(ecs, container(**container_members), **members, requiresCompatibilities=["FARGATE"])
    assert words in refusal.value.message
    made, _ = await register(ecs, container(**container_members), **members)
    assert "FARGATE" not in made["compatibilities"]


async def test_external_instances_have_no_awsvpc(ecs):
    with pytest.raises(ClientError, match="External instances do not support network mode 'awsvpc'"):
        await register(ecs, networkMode="awsvpc", requiresCompatibilities=["EXTERNAL"])


NOT_BUILT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("networkMode=awsvpc", {}, {"networkMode": "awsvpc"}),
    ("inferenceAccelerators", {}, {"inferenceAccelerators": [{"deviceName": "a", "deviceType": "b"}]}),
    ("ephemeralStorage", {}, {"ephemeralStorage": {"sizeInGiB": 21}}),
    ("enableFaultInjection", {}, {"enableFaultInjection": True}),
    ("pidMode=task", {}, {"pidMode": "task"}),
    ("ipcMode=task", {}, {"ipcMode": "task"}),
    (
        "runtimePlatform.operatingSystemFamily=WINDOWS_SERVER_2022_CORE",
        {},
        {"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}},
    ),
    ("trustedExecutionConfiguration.isolationMode=ISOLATED_SANDBOX", {}, {"trustedExecutionConfiguration": {"isolationMode": "ISOLATED_SANDBOX"}}),
    ("volumes[0].efsVolumeConfiguration", {}, {"volumes": [{"name": "a", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]}),
    ("volumes[0].configuredAtLaunch", {}, {"volumes": [{"name": "a", "configuredAtLaunch": True}]}),
    ("containerDefinitions[0].repositoryCredentials", {"repositoryCredentials": {"credentialsParameter": "a"}}, {}),
    ("containerDefinitions[0].environmentFiles", {"environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/x.env"}]}, {}),
    ("containerDefinitions[0].secrets", {"secrets": [{"name": "A", "valueFrom": "b"}]}, {}),
    ("containerDefinitions[0].firelensConfiguration", {"firelensConfiguration": {"type": "fluentbit"}}, {}),
    ("containerDefinitions[0].credentialSpecs", {"credentialSpecs": ["credentialspec:a"]}, {}),
    ("containerDefinitions[0].logConfiguration.logDriver=awslogs", {"logConfiguration": AWSLOGS}, {}),
    (
        "containerDefinitions[0].logConfiguration.secretOptions",
        {"logConfiguration": {"logDriver": "gelf", "secretOptions": [{"name": "a", "valueFrom": "b"}]}},
        {},
    ),
    ("containerDefinitions[0].resourceRequirements.value=ALL", {"resourceRequirements": [{"type": "GPU", "value": "ALL"}]}, {}),
    (
        "containerDefinitions[0].resourceRequirements.sharingStrategy",
        {"resourceRequirements": [{"type": "GPU", "sharingStrategy": {"nvidiaMps": {"memory": 1}}}]},
        {},
    ),
    ("containerDefinitions[0].resourceRequirements.type=NeuronDevice", {"resourceRequirements": [{"type": "NeuronDevice", "value": "ALL"}]}, {}),
]


@pytest.mark.parametrize(("name", "container_members", "task_members"), NOT_BUILT)
async def test_what_is_not_built_is_named_and_still_registered(ecs, name, container_members, task_members):
    _, record = await register(ecs, container(**container_members), **task_members)
    assert record.unsupported == (name,)


def test_the_design_page_tells_what_is_not_built():
    page = (Path(__file__).parents[4] / "docs" / "design" / "task-definitions.md").read_text()
    table = page.partition("## Accepted, given back, not built")[2].partition("\n## ")[0]
    for name, _, _ in NOT_BUILT:
        place, _, value = name.partition("=")
        assert f"`{place.rsplit('.', 1)[-1]}`" in table or place.replace("[0]", "[]") in table, name
        assert not value.startswith("aws") or f"`{value}`" in table, name


async def test_what_docker_takes_as_it_is_is_not_on_the_list(ecs):
    _, record = await register(
        ecs,
        container(
            logConfiguration={"logDriver": "syslog"},
            portMappings=[{"containerPort": 80}, {"containerPortRange": "90-99"}],
            privileged=True,
            user="1:1",
            hostname="h",
            interactive=True,
            pseudoTerminal=True,
            disableNetworking=True,
            dnsServers=["1.1.1.1"],
            dockerSecurityOptions=["no-new-privileges"],
            restartPolicy={"enabled": True},
            linuxParameters={"maxSwap": 1, "devices": [{"hostPath": "/dev/null"}]},
            healthCheck={"command": ["CMD", "true"]},
        ),
        pidMode="host",
        ipcMode="none",
        volumes=[{"name": "a", "dockerVolumeConfiguration": {"scope": "shared", "autoprovision": True}}, {"name": "b"}],
        runtimePlatform={"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        trustedExecutionConfiguration={"isolationMode": "SHARED"},
        enableFaultInjection=False,
    )
    assert record.unsupported == ()


EVERYTHING: dict[str, Any] = {
    "family": "everything",
    "taskRoleArn": ROLE,
    "executionRoleArn": ROLE,
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["EC2"],
    "cpu": "1024",
    "memory": "2048",
    "pidMode": "task",
    "ipcMode": "task",
    "tags": [{"key": "a", "value": "b"}],
    "placementConstraints": [{"type": "memberOf", "expression": "attribute:a exists"}],
    "proxyConfiguration": {"type": "APPMESH", "containerName": "all", "properties": [{"name": "a", "value": "b"}]},
    "inferenceAccelerators": [{"deviceName": "a", "deviceType": "b"}],
    "ephemeralStorage": {"sizeInGiB": 30},
    "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
    "enableFaultInjection": True,
    "trustedExecutionConfiguration": {"isolationMode": "CONFIDENTIAL_SANDBOX", "attestationPolicy": "eA=="},
    "volumes": [
        {"name": "host", "host": {"sourcePath": "/h"}},
        {
            "name": "docker",
            "dockerVolumeConfiguration": {"scope": "shared", "autoprovision": True, "driver": "d", "driverOpts": {"a": "b"}, "labels": {"a": "b"}},
        },
        {
            "name": "efs",
            "efsVolumeConfiguration": {
                "fileSystemId": "fs-1",
                "rootDirectory": "/r",
                "transitEncryption": "ENABLED",
                "transitEncryptionPort": 2049,
                "authorizationConfig": {"accessPointId": "a", "iam": "ENABLED"},
            },
        },
        {
            "name": "s3",
            "s3filesVolumeConfiguration": {"fileSystemArn": "arn", "rootDirectory": "/", "transitEncryptionPort": 1, "accessPointArn": "arn"},
        },
        {
            "name": "fsx",
            "fsxWindowsFileServerVolumeConfiguration": {
                "fileSystemId": "fs-1",
                "rootDirectory": "/",
                "authorizationConfig": {"credentialsParameter": "a", "domain": "b"},
            },
        },
        {"name": "ebs", "configuredAtLaunch": True},
    ],
    "containerDefinitions": [
        {
            "name": "all",
            "image": "1.dkr.ecr.us-east-1.amazonaws.com/a:b",
            "repositoryCredentials": {"credentialsParameter": "a"},
            "cpu": 1,
            "memory": 64,
            "memoryReservation": 32,
            "portMappings": [
                {"containerPort": 80, "hostPort": 80, "protocol": "tcp", "name": "http", "appProtocol": "http"},
                {"containerPortRange": "90-99", "protocol": "udp"},
            ],
            "essential": True,
            "restartPolicy": {"enabled": True, "ignoredExitCodes": [0], "restartAttemptPeriod": 60},
            "entryPoint": ["a"],
            "command": ["b"],
            "environment": [{"name": "A", "value": "b"}],
            "environmentFiles": [{"value": "arn:aws:s3:::b/x.env", "type": "s3"}],
            "mountPoints": [{"sourceVolume": "host", "containerPath": "/h", "readOnly": True}],
            "volumesFrom": [{"sourceContainer": "other", "readOnly": True}],
            "linuxParameters": {
                "capabilities": {"add": ["ALL"], "drop": ["MKNOD"]},
                "devices": [{"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["read"]}],
                "initProcessEnabled": True,
                "sharedMemorySize": 64,
                "tmpfs": [{"containerPath": "/t", "size": 1, "mountOptions": ["rw"]}],
                "maxSwap": 0,
                "swappiness": 1,
            },
            "secrets": [{"name": "S", "valueFrom": "p"}],
            "dependsOn": [{"containerName": "other", "condition": "HEALTHY"}],
            "startTimeout": 10,
            "stopTimeout": 20,
            "versionConsistency": "disabled",
            "user": "u",
            "workingDirectory": "/w",
            "disableNetworking": False,
            "privileged": True,
            "readonlyRootFilesystem": True,
            "dnsServers": ["1.1.1.1"],
            "dnsSearchDomains": ["x"],
            "dockerSecurityOptions": ["no-new-privileges"],
            "interactive": True,
            "pseudoTerminal": True,
            "dockerLabels": {"a": "b"},
            "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
            "logConfiguration": {"logDriver": "awslogs", "options": AWSLOGS["options"], "secretOptions": [{"name": "a", "valueFrom": "b"}]},
            "healthCheck": {"command": ["CMD", "true"], "interval": 10, "timeout": 6, "retries": 4, "startPeriod": 1},
            "systemControls": [{"namespace": "net.core.somaxconn", "value": "1"}],
            "resourceRequirements": [{"type": "GPU", "value": "1", "sharingStrategy": {"nvidiaMps": {"memory": 1, "maxComputePercent": 50}}}],
            "firelensConfiguration": {"type": "fluentd", "options": {"a": "b"}},
            "credentialSpecs": ["credentialspec:a"],
        },
        {"name": "other", "image": "x", "healthCheck": {"command": ["CMD", "true"]}},
    ],
}
BRIDGE_ONLY = {"hostname": "h", "links": ["other"], "extraHosts": [{"hostname": "a", "ipAddress": "1.1.1.1"}]}


def paths(shape_name: str, value: Any, prefix: str = "") -> set[str]:
    """Every member that `value` has of the shape, as dotted paths without list positions."""
    shape = model.load().shapes[shape_name]
    if shape.type == "structure":
        return {
            path
            for member, reference in shape.members.items()
            if member in value
            for path in ({prefix + member} | paths(reference.shape, value[member], f"{prefix}{member}."))
        }
    if shape.type == "list" and shape.member:
        return {path for item in value for path in paths(shape.member.shape, item, prefix)}
    return set()


def modelled(shape_name: str, prefix: str = "") -> set[str]:
    """Every member of the shape, as such paths."""
    shape = model.load().shapes[shape_name]
    if shape.type == "structure":
        return {path for member, reference in shape.members.items() for path in ({prefix + member} | modelled(reference.shape, f"{prefix}{member}."))}
    return modelled(shape.member.shape, prefix) if shape.type == "list" and shape.member else set()


def holds(given: Any, found: Any) -> bool:
    """Whether everything of `given` is in `found`."""
    if isinstance(given, dict):
        return isinstance(found, dict) and all(name in found and holds(value, found[name]) for name, value in given.items())
    if isinstance(given, list):
        return isinstance(found, list) and len(given) == len(found) and all(holds(*pair) for pair in zip(given, found, strict=True))
    return bool(given == found)


async def test_every_member_of_the_model_is_accepted_and_comes_back(ecs):
    bridge = {
        "family": "bridge",
        "containerDefinitions": [{**BRIDGE_ONLY, "name": "web", "image": "x", "memory": 8}, {"name": "other", "image": "x", "memory": 8}],
    }
    given = paths("RegisterTaskDefinitionRequest", EVERYTHING) | paths("RegisterTaskDefinitionRequest", bridge)
    assert modelled("RegisterTaskDefinitionRequest") - given == set()
    for request in (EVERYTHING, bridge):
        answer = await ecs("RegisterTaskDefinition", **request)
        found = {**answer["taskDefinition"], "tags": answer.get("tags")}
        for member, value in request.items():
            assert holds(value, found[member]), member
        again = await ecs("DescribeTaskDefinition", taskDefinition=request["family"])
        assert again["taskDefinition"] == answer["taskDefinition"]
        assert set(answer["taskDefinition"]) <= set(model.load().shapes["TaskDefinition"].members)


async def test_what_comes_back_can_be_registered_again_unchanged(ecs):
    first = (await ecs("RegisterTaskDefinition", **EVERYTHING))["taskDefinition"]
    again = (await ecs("RegisterTaskDefinition", **first))["taskDefinition"]
    own = ("taskDefinitionArn", "revision", "registeredAt")
    assert {name: value for name, value in again.items() if name not in own} == {name: value for name, value in first.items() if name not in own}


async def test_a_stored_definition_that_lists_what_is_built_by_now_can_be_run(ecs):
    _, record = await register(ecs, taskRoleArn=ROLE)
    assert missing(msgspec.structs.replace(record, unsupported=("taskRoleArn", "executionRoleArn"))) == ""
    assert missing(msgspec.structs.replace(record, unsupported=("taskRoleArn", "ephemeralStorage"))) == "ephemeralStorage"
