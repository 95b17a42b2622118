"""From a container's payload to Docker's create document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeport.acs.messages import (
    Association,
    ContainerPayload,
    Dependency,
    DockerConfig,
    DockerVolume,
    HostVolume,
    MountPoint,
    PortMapping,
    RoleCredentials,
    TaskPayload,
    VolumeFrom,
    VolumePayload,
)
from homeport.agent.attachments.volumes import VolumePlan, plan
from homeport.agent.engine.config import CreatePlan, Identity, InvalidTaskError, check_task, container_name, create_plan
from homeport.agent.runtime.contract import ResourceLimits, VolumeDocument

ARN = "arn:aws:ecs:us-east-1:123456789012:task/default/0123456789abcdef0123456789abcdef"
IDENTITY = Identity(installation="inst", agent="agent-1", cluster="default")


def task(*containers: ContainerPayload, **members: Any) -> TaskPayload:
    return TaskPayload(**{"arn": ARN, "desiredStatus": "RUNNING", "family": "web", "version": "3", "containers": list(containers)} | members)


def container(**members: Any) -> ContainerPayload:
    return ContainerPayload(**{"name": "c", "image": "i:1", "essential": True} | members)


def made(payload: TaskPayload, *, limits: ResourceLimits | None = None, region: str = "", **more: Any) -> CreatePlan:
    identity = Identity(installation="inst", agent="agent-1", cluster="default", region=region)
    return create_plan(payload, payload.containers[0].name, identity=identity, volumes=plan(payload, {}), limits=limits or ResourceLimits(), **more)


def docker(config: dict[str, Any] | None = None, host: dict[str, Any] | None = None) -> DockerConfig:
    return DockerConfig(config=json.dumps(config or {}), hostConfig=json.dumps(host or {}))


def test_the_smallest_container() -> None:
    plan = made(task(container()))
    assert plan.notes == ()
    assert plan.document == {
        "Image": "i:1",
        "Env": [],
        "Labels": {
            "com.amazonaws.ecs.cluster": "default",
            "com.amazonaws.ecs.container-name": "c",
            "com.amazonaws.ecs.task-arn": ARN,
            "com.amazonaws.ecs.task-definition-family": "web",
            "com.amazonaws.ecs.task-definition-version": "3",
            "homeport.installation": "inst",
            "homeport.agent": "agent-1",
        },
        "HostConfig": {"NetworkMode": "bridge", "CpuShares": 2},
    }


def test_the_name_is_the_same_each_time_and_differs_between_tasks_and_containers() -> None:
    name = container_name(task(), "c")
    assert name == container_name(task(), "c")
    head, _, digest = name.rpartition("-")
    assert head == "ecs-web-3-c"
    assert len(digest) == 20 and int(digest, 16) >= 0
    assert name != container_name(task(), "d")
    assert name != container_name(task(arn=ARN + "0"), "c")


def test_what_the_payload_has_members_for() -> None:
    document = made(
        task(container(command=["a", "b"], entryPoint=["e"], environment={"K": "v", "AWS_REGION": "mine"}, cpu=512, memory=64)), region="r-1"
    ).document
    assert document["Cmd"] == ["a", "b"]
    assert document["Entrypoint"] == ["e"]
    assert sorted(document["Env"]) == ["AWS_DEFAULT_REGION=r-1", "AWS_REGION=mine", "K=v"]
    assert document["HostConfig"] == {"NetworkMode": "bridge", "CpuShares": 512, "Memory": 64 * 1024 * 1024}


def test_cpu_and_memory_keep_to_dockers_bounds() -> None:
    host = made(task(container(cpu=1_000_000, memory=1))).document["HostConfig"]
    assert host["CpuShares"] == 262_144
    assert host["Memory"] == 6 * 1024 * 1024


def test_dockers_own_forms_are_merged_over_ours_and_unknown_members_pass() -> None:
    config = {"User": "u", "Labels": {"mine": "1", "homeport.installation": "forged"}, "New": {"x": 1}, "Env": ["E=1"], "Hostname": None}
    host = {"NetworkMode": "none", "Memory": 7, "Binds": ["/x:/x"], "Fancy": True}
    payload = task(
        container(
            environment={"K": "v"}, mountPoints=[MountPoint(sourceVolume="v", containerPath="/v", readOnly=True)], dockerConfig=docker(config, host)
        ),
        volumes=[VolumePayload(name="v", type="host", host=HostVolume(sourcePath="/src"))],
    )
    document = made(payload).document
    assert (document["User"], document["New"], document["Env"]) == ("u", {"x": 1}, ["K=v", "E=1"])
    assert "Hostname" not in document
    assert document["Labels"]["mine"] == "1"
    assert document["Labels"]["homeport.installation"] == "inst"
    assert document["HostConfig"] == {"NetworkMode": "none", "CpuShares": 2, "Memory": 7, "Binds": ["/src:/v:ro", "/x:/x"], "Fancy": True}


def test_ports() -> None:
    mappings = [
        PortMapping(containerPort=80, protocol="tcp"),
        PortMapping(containerPort=53, hostPort=5353, protocol="udp"),
        PortMapping(containerPortRange="90-91", protocol="tcp"),
    ]
    document = made(task(container(portMappings=mappings))).document
    assert document["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}
    assert document["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": ""}],
        "53/udp": [{"HostIp": "", "HostPort": "5353"}],
        "90/tcp": [{"HostIp": "", "HostPort": ""}],
        "91/tcp": [{"HostIp": "", "HostPort": ""}],
    }
    ranged = made(task(container(portMappings=mappings[:1])), dynamic_ports=(40000, 40010)).document
    assert ranged["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "40000-40010"}]}
    assert "ExposedPorts" not in made(task(container(portMappings=mappings), networkMode="host")).document


def test_links_and_volumes_from_name_the_containers_of_this_task() -> None:
    payload = task(
        container(links=["db", "cache:c2"], volumesFrom=[VolumeFrom(sourceContainer="db", readOnly=True)]),
        container(name="db"),
        container(name="cache"),
    )
    check_task(payload)
    host = made(payload).document["HostConfig"]
    assert host["Links"] == [f"{container_name(payload, 'db')}:db", f"{container_name(payload, 'cache')}:c2"]
    assert host["VolumesFrom"] == [f"{container_name(payload, 'db')}:ro"]


def test_task_members() -> None:
    host = made(task(container(), pidMode="host", ipcMode="none", networkMode="host"), cgroup_parent="/ecs/x").document["HostConfig"]
    assert host == {"NetworkMode": "host", "CpuShares": 2, "CgroupParent": "/ecs/x", "PidMode": "host", "IpcMode": "none"}


def test_ulimits_above_the_hosts_hard_limit_are_lowered_and_said() -> None:
    ulimits = [{"Name": "nofile", "Soft": 65536, "Hard": 65536}, {"Name": "core", "Soft": -1, "Hard": -1}, {"Name": "nproc", "Soft": 5, "Hard": 9}]
    plan = made(task(container(dockerConfig=docker(host={"Ulimits": ulimits}))), limits=ResourceLimits({"nofile": 20000, "nproc": 100, "core": 7}))
    assert plan.document["HostConfig"]["Ulimits"] == [
        {"Name": "nofile", "Hard": 20000, "Soft": 20000},
        {"Name": "core", "Hard": 7, "Soft": 7},
        {"Name": "nproc", "Hard": 9, "Soft": 5},
    ]
    assert plan.notes == (
        "ulimit nofile lowered from 65536:65536 to this host's hard limit 20000",
        "ulimit core lowered from -1:-1 to this host's hard limit 7",
    )
    assert plan.document["Labels"]["homeport.notes"] == "; ".join(plan.notes)


def test_an_override_may_replace_the_command_and_nothing_else() -> None:
    assert made(task(container(command=["a"], overrides='{"command":["x","y"]}'))).document["Cmd"] == ["x", "y"]
    assert made(task(container(command=["a"], overrides="{}"))).document["Cmd"] == ["a"]
    with pytest.raises(InvalidTaskError, match="Unrecognized key 'environment'"):
        check_task(task(container(overrides='{"environment":[]}')))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (task(container(), arn=""), "no arn"),
        (task(container(), desiredStatus="GONE"), "'GONE' is neither RUNNING nor STOPPED"),
        (task(), "no containers"),
        (task(container(), container()), "two containers have the same name"),
        (task(container(essential=False)), "no container is essential"),
        (task(container(), networkMode="awsvpc"), "networkMode awsvpc is not built yet"),
        (task(container(), ipcMode="task"), "ipcMode task is not built yet"),
        (task(container(dependsOn=[Dependency(containerName="x", condition="START")])), "depends on container x"),
        (task(container(mountPoints=[MountPoint(sourceVolume="v", containerPath="/v")])), "mounts volume 'v', which the task does not have"),
        (task(container(), volumes=[VolumePayload(name="v", type="efs")]), "volume v: type efs is not built yet"),
        (task(container(portMappings=[PortMapping(containerPort=1, protocol="sctp")])), "'sctp' is neither tcp nor udp"),
        (task(container(dockerConfig=DockerConfig(config="{"))), "dockerConfig.config is not JSON"),
        (task(container(dockerConfig=DockerConfig(hostConfig="[]"))), "dockerConfig.hostConfig is not a JSON object"),
    ],
)
def test_payloads_that_cannot_be_run_are_refused_by_name(payload: TaskPayload, message: str) -> None:
    with pytest.raises(InvalidTaskError, match=message):
        check_task(payload)


def test_a_stop_needs_only_the_arn() -> None:
    check_task(TaskPayload(arn=ARN, desiredStatus="STOPPED"))


class TestVolumes:
    """Which Docker volumes a task needs."""

    def plan(self, *volumes: VolumePayload) -> VolumePlan:
        return plan(task(volumes=list(volumes)), {"ours": "1"})

    def test_a_host_path_needs_none(self) -> None:
        assert self.plan(VolumePayload(name="v", type="host", host=HostVolume(sourcePath="/p"))) == VolumePlan(sources={"v": "/p"})

    def test_an_empty_source_is_a_volume_of_the_tasks_life(self) -> None:
        for volume in (VolumePayload(name="v", type="host", host=HostVolume()), VolumePayload(name="v", type="")):
            made = self.plan(volume)
            [document] = made.create
            assert document.name.startswith("ecs-web-3-v-")
            assert document.labels == {"ours": "1"}
            assert made.remove == (document.name,)
            assert made.sources == {"v": document.name}

    def docker(self, **members: Any) -> VolumePayload:
        given = DockerVolume(**{"scope": "task", "driver": "local", "driverOpts": {"o": "1"}, "labels": {"l": "2"}} | members)
        return VolumePayload(name="v", type="docker", dockerVolumeConfiguration=given)

    def test_docker_volumes_of_task_scope(self) -> None:
        made = self.plan(self.docker())
        [document] = made.create
        assert document == VolumeDocument(name=document.name, driver="local", driver_opts={"o": "1"}, labels={"l": "2", "ours": "1"})
        assert made.remove == (document.name,)

    def test_shared_volumes_outlive_the_task(self) -> None:
        made = self.plan(self.docker(scope="shared", autoprovision=True))
        assert made.create == (VolumeDocument(name="v", driver_opts={"o": "1"}, labels={"l": "2"}),)
        assert (made.remove, made.expect) == ((), ())
        made = self.plan(self.docker(scope="shared"))
        assert (made.create, made.remove, made.expect, made.sources) == ((), (), ("v",), {"v": "v"})


def test_a_container_gets_its_own_gpus_and_says_so() -> None:
    associations = [Association(name=gpu, type="gpu", containers=[name]) for gpu, name in (("GPU-a", "c"), ("GPU-b", "c"), ("GPU-c", "other"))]
    mine = container(environment={"NVIDIA_VISIBLE_DEVICES": "all"})
    plan = made(task(mine, container(name="other"), associations=associations))
    assert plan.document["HostConfig"]["DeviceRequests"] == [{"DeviceIDs": ["GPU-a", "GPU-b"], "Capabilities": [["gpu"]]}]
    assert plan.document["Env"] == ["NVIDIA_VISIBLE_DEVICES=GPU-a,GPU-b"]


ROLE = RoleCredentials(credentialsId="0123", roleArn="r")
OWN_SERVICES = [f"AWS_ENDPOINT_URL_{service}=http://169.254.170.2:8470" for service in ("ECS", "IAM", "STS")]


def environment(api_port: int = 8470, **members: Any) -> list[str]:
    given = members.pop("environment", {})
    payload = task(container(environment=given), **{"roleCredentials": ROLE, "networkMode": "bridge"} | members)
    identity = Identity(installation="inst", agent="agent-1", cluster="default", api_port=api_port)
    return create_plan(payload, "c", identity=identity, volumes=plan(payload, {}), limits=ResourceLimits()).document["Env"]


@pytest.mark.parametrize("network", ["", "bridge", "host"])
def test_a_container_of_a_task_with_a_role_is_told_where_its_credentials_and_the_api_are(network: str) -> None:
    found = environment(networkMode=network, environment={"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/mine"})
    assert found == ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/0123", *OWN_SERVICES]


def test_a_container_without_a_role_or_a_network_is_told_nothing_and_one_that_says_where_the_api_is_keeps_that() -> None:
    assert environment(roleCredentials=None) == []
    assert environment(networkMode="none") == []
    assert environment(api_port=0) == ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/0123"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        assert environment(environment={name: "x"}) == [f"{name}=x", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/0123"]
