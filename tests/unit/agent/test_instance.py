"""What this host says of itself, and how a registration goes on until it succeeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from homeport.agent import instance
from homeport.agent.backoff import Backoff
from homeport.agent.client import CallFailedError, UnreachableError
from homeport.agent.instance import Registration, RegistrationRefusedError, attributes, registration, saved_arn
from homeport.agent.runtime.contract import RuntimeDescription
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.ids import Ids
from homeport.virtual_clock import VirtualClock

SETTINGS = AgentSettings(endpoint="http://127.0.0.1:1", region="us-east-1", access_key_id="a", secret_access_key="s")
RUNTIME = RuntimeDescription(version="24.0", api_version="1.41", cgroup_driver="cgroupfs", cgroup_version=1, cpus=2, memory_mib=4096)


def with_settings(**fields: Any) -> AgentSettings:
    return msgspec.structs.replace(SETTINGS, **fields)


def request(settings: AgentSettings = SETTINGS, arn: str = "") -> dict[str, Any]:
    return registration(settings, RUNTIME, arn=arn, token="t", machine="x86_64")


def test_the_host_is_described():
    described = attributes(SETTINGS, RUNTIME, machine="x86_64")
    assert described["ecs.availability-zone"] == "us-east-1a"
    assert described["ecs.cpu-architecture"] == "x86_64"
    assert described["ecs.os-type"] == "linux"
    assert described["ecs.os-family"] == "LINUX"
    assert described["ecs.instance-type"] == "host.2x4096"
    assert attributes(SETTINGS, RUNTIME, machine="aarch64")["ecs.cpu-architecture"] == "arm64"
    assert attributes(with_settings(zone="us-east-1c"), RUNTIME, machine="x86_64")["ecs.availability-zone"] == "us-east-1c"


def test_gpus_are_registered_as_devices():
    assert "platformDevices" not in request()
    assert request(with_settings(gpu_ids=("GPU-a", "GPU-b")))["platformDevices"] == [{"id": "GPU-a", "type": "GPU"}, {"id": "GPU-b", "type": "GPU"}]


def test_capabilities_follow_the_runtime_and_the_settings():
    described = attributes(SETTINGS, RUNTIME, machine="x86_64")
    prefix = "com.amazonaws.ecs.capability."
    assert {f"{prefix}docker-remote-api.1.{minor}" for minor in range(17, 42)} <= set(described)
    assert f"{prefix}docker-remote-api.1.42" not in described
    assert {f"{prefix}logging-driver.json-file", f"{prefix}logging-driver.none", f"{prefix}privileged-container"} <= set(described)
    assert {"ecs.capability.full-sync", "ecs.capability.container-health-check", "ecs.capability.container-ordering"} <= set(described)
    assert "ecs.capability.external" not in described
    other = attributes(with_settings(external=True, disable_privileged=True, available_logging_drivers=("none",)), RUNTIME, machine="x86_64")
    assert "ecs.capability.external" in other
    assert f"{prefix}privileged-container" not in other
    assert f"{prefix}logging-driver.json-file" not in other


def test_a_task_that_needs_what_is_not_built_is_never_placed_here():
    described = attributes(SETTINGS, RUNTIME, machine="x86_64")
    for missing in ("task-eni", "efs", "env-files.s3", "secrets.ssm.environment-variables", "execute-command"):
        assert f"ecs.capability.{missing}" not in described
    assert "com.amazonaws.ecs.capability.task-iam-role" not in described
    assert "com.amazonaws.ecs.capability.logging-driver.awslogs" not in described


def test_resources_are_what_the_host_has_less_what_is_reserved():
    settings = with_settings(reserved_memory_mib=96, reserved_ports=(22, 8470), reserved_ports_udp=(53,))
    assert request(settings)["totalResources"] == [
        {"name": "CPU", "type": "INTEGER", "integerValue": 2048},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": 4000},
        {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "8470"]},
        {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": ["53"]},
    ]
    assert request(with_settings(cpu=512, memory_mib=100))["totalResources"][:2] == [
        {"name": "CPU", "type": "INTEGER", "integerValue": 512},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": 100},
    ]


def test_the_users_attributes_and_tags_go_along_only_the_first_time():
    settings = with_settings(instance_attributes=(("rack", "7"),), instance_tags=(("team", "a"),), instance_id="i-1")
    first, again = request(settings), request(settings, arn="arn:x")
    assert {"name": "rack", "value": "7"} in first["attributes"]
    assert first["tags"] == [{"key": "team", "value": "a"}]
    assert msgspec.json.decode(first["instanceIdentityDocument"]) == {"instanceId": "i-1"}
    assert "containerInstanceArn" not in first
    assert again["containerInstanceArn"] == "arn:x"
    assert not any(attribute["name"] == "rack" for attribute in again["attributes"])
    assert not {"tags", "instanceIdentityDocument"} & set(again)


class ControlPlane:
    """Answers registrations with what a test lays down; then with an ARN."""

    def __init__(self) -> None:
        self.answers: list[Exception] = []
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append((operation, request))
        if operation == "RegisterContainerInstance":
            if self.answers:
                raise self.answers.pop(0)
            return {"containerInstance": {"containerInstanceArn": "arn:new"}}
        return {}


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


@pytest.fixture
def state(tmp_path):
    opened = State.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def register(plane, state):
    """A function that registers on a virtual clock and returns the ARN."""

    async def run(settings: AgentSettings = SETTINGS) -> str:
        backoff = Backoff(settings, clock=_RunningClock(), ids=Ids(1))
        return await Registration(client=plane, state=state, settings=settings, backoff=backoff, ids=Ids(1)).register(RUNTIME)

    return run


class _RunningClock(VirtualClock):
    """Every sleep is over at once."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(0)


async def test_the_arn_is_kept(register, state):
    assert await register() == "arn:new"
    assert saved_arn(state) == "arn:new"


async def test_a_host_registers_again_under_its_old_name(register, state, plane):
    state.put(instance.INSTANCE_KIND, instance.ARN_KEY, b"arn:old")
    assert await register() == "arn:old"
    assert plane.calls[0][1]["containerInstanceArn"] == "arn:old"
    assert saved_arn(state) == "arn:old"


@pytest.mark.parametrize(
    "error", [UnreachableError("nobody there"), CallFailedError("ServerException", "later"), CallFailedError("ThrottlingException", "slower")]
)
async def test_what_may_pass_is_tried_again(register, plane, error):
    plane.answers = [error] * 5
    assert await register() == "arn:new"
    assert len(plane.calls) == 6


async def test_an_attempt_without_an_answer_repeats_its_token(register, plane):
    plane.answers = [UnreachableError("lost")] * 2
    await register()
    assert len({request["clientToken"] for _, request in plane.calls}) == 1


async def test_a_name_that_is_not_known_any_more_is_given_up(register, plane, state):
    state.put(instance.INSTANCE_KIND, instance.ARN_KEY, b"arn:old")
    plane.answers = [CallFailedError("ClientException", "The container instance is not registered any more.")]
    assert await register() == "arn:new"
    assert "containerInstanceArn" not in plane.calls[1][1]
    assert plane.calls[0][1]["clientToken"] != plane.calls[1][1]["clientToken"]


async def test_the_cluster_default_is_made(register, plane):
    plane.answers = [CallFailedError("ClusterNotFoundException", "Cluster not found.")]
    await register()
    assert [operation for operation, _ in plane.calls] == ["RegisterContainerInstance", "CreateCluster", "RegisterContainerInstance"]


async def test_another_cluster_is_waited_for(register, plane):
    plane.answers = [CallFailedError("ClusterNotFoundException", "Cluster not found.")] * 3
    await register(with_settings(cluster="blue"))
    assert {operation for operation, _ in plane.calls} == {"RegisterContainerInstance"}


@pytest.mark.parametrize("code", ["InvalidParameterException", "ClientException"])
async def test_what_will_never_be_taken_ends_the_agent(register, plane, code):
    plane.answers = [CallFailedError(code, "no")]
    with pytest.raises(RegistrationRefusedError, match="no"):
        await register()


async def test_a_changed_type_keeps_the_name_and_ends_the_agent(register, plane, state):
    state.put(instance.INSTANCE_KIND, instance.ARN_KEY, b"arn:old")
    plane.answers = [CallFailedError("ClientException", "Container instance type changes are not supported.")]
    with pytest.raises(RegistrationRefusedError):
        await register()
    assert saved_arn(state) == "arn:old"
