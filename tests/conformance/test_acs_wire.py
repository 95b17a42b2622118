"""The agent protocol on the wire, as the upstream agent speaks it: handshake, envelopes, close codes, signed telemetry frames.

A raw websocket client plays that agent with what is known of it (docs/design/agent-protocol.md); the server is the shipped one, on a real port.
"""

from __future__ import annotations

import contextlib
import json
from urllib.parse import urlencode

import aiohttp
import pytest
from integration.installation import ACCOUNT, Installation
from yarl import URL

from homeport.iam import sigv4
from homeport.ids import Ids
from homeport.model.iam.role import Role
from homeport.store.tables import ROLES

SETTINGS = ("heartbeat_seconds=0.4", "agent_silence_seconds=1.2", "session_max_seconds=60", "task_credentials_seconds=3")
ATTRIBUTES = [
    {"name": "ecs.capability.external"},
    {"name": "ecs.capability.full-sync"},
    *({"name": f"com.amazonaws.ecs.capability.docker-remote-api.1.{minor}"} for minor in range(17, 33) if minor not in (26, 27, 31)),
    {"name": "ecs.capability.container-health-check"},
    {"name": "ecs.os-type", "value": "linux"},
    {"name": "ecs.cpu-architecture", "value": "x86_64"},
]


class UpstreamAgent:
    """The upstream agent's way of calling and connecting."""

    def __init__(self, installation: Installation, http: aiohttp.ClientSession) -> None:
        self.installation = installation
        self.http = http
        self.arn = ""
        self.attributes = ATTRIBUTES

    async def register(self, **fields) -> dict:
        """RegisterContainerInstance as external mode sends it: empty identity, attributes that must come back with their values."""
        answer = await self.installation.call(
            "RegisterContainerInstance",
            cluster="default",
            clientToken=Ids().uuid(),
            instanceIdentityDocument="",
            instanceIdentityDocumentSignature="",
            attributes=self.attributes,
            totalResources=[
                {"name": "CPU", "type": "INTEGER", "doubleValue": 0, "longValue": 0, "integerValue": 2048},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": 4096},
                {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375", "2376", "51678", "51679"]},
                {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
            ],
            **fields,
        )
        self.arn = answer["containerInstance"]["containerInstanceArn"]
        return answer["containerInstance"]

    async def connect(self, *, arn: str = "", secret: str = "secret", telemetry: bool = False) -> aiohttp.ClientWebSocketResponse:
        """The signed handshake: only host and date are signed, protocol 2, the cluster by its bare name."""
        endpoints = await self.installation.call("DiscoverPollEndpoint", containerInstance=arn or self.arn, cluster="default", zoneId="")
        address = {"agentHash": "8dfceca6", "agentVersion": "1.105.1", "dockerVersion": "DockerVersion: 20.10.24+dfsg1"}
        if telemetry:
            query = {**address, "cluster": "default", "containerInstance": arn or self.arn}
        else:
            more = {"protocolVersion": "2", "sendCredentials": "true", "seqNum": "1"}
            query = {**address, "clusterArn": "default", "containerInstanceArn": arn or self.arn, **more}
        url = URL(f"{endpoints['telemetryEndpoint' if telemetry else 'endpoint']}ws?{urlencode(query)}", encoded=True)
        request = sigv4.Request(
            "GET", url.raw_path.encode(), url.raw_query_string.encode(), {b"host": url.authority.encode()}, sigv4.EMPTY_BODY_SHA256
        )
        signed = sigv4.sign(request, sigv4.Credentials("AKIDEXAMPLE", secret, "us-east-1"), self.installation.clock.now())
        return await self.http.ws_connect(url, headers={**signed, "User-Agent": "Go-http-client/1.1"}, autoclose=False)


@pytest.fixture
async def upstream(tmp_path):
    async with Installation(tmp_path, settings=SETTINGS) as installation, aiohttp.ClientSession() as http:
        agent = UpstreamAgent(installation, http)
        await agent.register()
        yield agent


async def hear(socket, *kinds: str) -> list[dict]:
    """Messages of the given types in order; heartbeats in between are answered and passed over."""
    found = []
    for kind in kinds:
        while True:
            frame = await socket.receive(timeout=10)
            assert frame.type is aiohttp.WSMsgType.TEXT, frame
            envelope = json.loads(frame.data)
            assert list(envelope) == ["type", "message"]
            if envelope["type"] == "HeartbeatMessage" and kind != "HeartbeatMessage":
                await say(socket, "HeartbeatAckRequest", messageId=envelope["message"]["messageId"])
                continue
            assert envelope["type"] == kind
            found.append(envelope["message"])
            break
    return found


async def say(socket, kind: str, **message) -> None:
    await socket.send_str(json.dumps({"type": kind, "message": message}))


async def test_every_attribute_comes_back_with_its_value_or_the_agent_ends_itself(upstream):
    for fields in ({}, {"containerInstanceArn": upstream.arn}):
        returned = {attribute["name"]: attribute.get("value", "") for attribute in (await upstream.register(**fields))["attributes"]}
        assert all(returned[attribute["name"]] == attribute.get("value", "") for attribute in ATTRIBUTES)


async def test_the_handshake_negotiates_nothing_and_the_manifest_comes_first(upstream):
    socket = await upstream.connect()
    assert socket.protocol is None
    assert socket.compress == 0
    (manifest,) = await hear(socket, "TaskManifestMessage")
    assert manifest["containerInstanceArn"] == upstream.arn
    assert manifest["clusterArn"] == f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/default"
    assert manifest["messageId"]
    assert manifest["timeline"] > 0
    await socket.close()


async def test_a_task_of_launch_type_external_arrives_whole(upstream):
    socket = await upstream.connect()
    await hear(socket, "TaskManifestMessage")
    definition = {
        "name": "app",
        "image": "homeport-test:latest",
        "memory": 64,
        "command": ["sleep", "1"],
        "user": "1000",
        "portMappings": [{"containerPort": 80}],
        "healthCheck": {"command": ["CMD-SHELL", "true"]},
    }
    await upstream.installation.call("RegisterTaskDefinition", family="app", containerDefinitions=[definition])
    override = {"name": "app", "environment": [{"name": "A", "value": "1"}]}
    ran = await upstream.installation.call("RunTask", taskDefinition="app", launchType="EXTERNAL", overrides={"containerOverrides": [override]})
    assert ran["failures"] == []
    (payload,) = await hear(socket, "PayloadMessage")
    assert {"messageId", "clusterArn", "containerInstanceArn", "seqNum", "generatedAt", "tasks"} <= set(payload)
    (task,) = payload["tasks"]
    (container,) = task["containers"]
    assert (task["arn"], task["desiredStatus"], task["version"]) == (ran["tasks"][0]["taskArn"], "RUNNING", "1")
    # What is absent is zero to the agent, so what is not zero must be there.
    assert container["essential"] is True
    assert container["portMappings"] == [{"containerPort": 80, "protocol": "tcp"}]
    assert container["environment"] == {"A": "1"}
    assert container["healthCheckType"] == "docker"
    assert "overrides" not in container
    assert json.loads(container["dockerConfig"]["config"])["User"] == "1000"
    assert json.loads(container["dockerConfig"]["hostConfig"])["NetworkMode"] == "bridge"
    await say(socket, "AckRequest", cluster="default", containerInstance=upstream.arn, messageId=payload["messageId"])
    await upstream.installation.call("StopTask", task=task["arn"])
    (stop,) = await hear(socket, "PayloadMessage")
    assert [(item["arn"], item["desiredStatus"]) for item in stop["tasks"]] == [(task["arn"], "STOPPED")]
    assert stop["seqNum"] > payload["seqNum"]
    await socket.close()


async def test_credentials_of_both_roles_come_with_the_task_and_then_by_themselves(upstream):
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})

    def roles(tx) -> None:
        for name in ("app", "pull"):
            tx.put(ROLES, Role(account=ACCOUNT, name=name, id=f"AROA{name}", created_at=1.0, trust=document))

    await upstream.installation.plane.store.update(roles, cause="test")
    upstream.attributes = [*ATTRIBUTES, {"name": "com.amazonaws.ecs.capability.task-iam-role"}]
    await upstream.register(containerInstanceArn=upstream.arn)
    socket = await upstream.connect()
    await hear(socket, "TaskManifestMessage")
    container = {"name": "app", "image": "homeport-test:latest", "memory": 64}
    await upstream.installation.call(
        "RegisterTaskDefinition", family="role", containerDefinitions=[container], taskRoleArn="app", executionRoleArn="pull"
    )
    await upstream.installation.call("RunTask", taskDefinition="role", launchType="EXTERNAL")
    (payload,) = await hear(socket, "PayloadMessage")
    (task,) = payload["tasks"]
    given = {"TaskApplication": task["roleCredentials"], "TaskExecution": task["executionRoleCredentials"]}
    for name, one in zip(("app", "pull"), given.values(), strict=True):
        assert set(one) == {"credentialsId", "roleArn", "accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
        assert one["roleArn"] == f"arn:aws:iam::{ACCOUNT}:role/{name}"
        acknowledgement = {"messageId": payload["messageId"], "credentialsId": one["credentialsId"], "expiration": one["expiration"]}
        await say(socket, "IAMRoleCredentialsAckRequest", **acknowledgement)
    await say(socket, "AckRequest", cluster="default", containerInstance=upstream.arn, messageId=payload["messageId"])
    for message in await hear(socket, "IAMRoleCredentialsMessage", "IAMRoleCredentialsMessage"):
        assert message["messageId"]
        assert message["taskArn"] == task["arn"]
        assert message["roleCredentials"]["credentialsId"] == given[message["roleType"]]["credentialsId"]
        assert message["roleCredentials"]["accessKeyId"] != given.pop(message["roleType"])["accessKeyId"]
    assert given == {}
    await socket.close()


async def test_heartbeats_come_in_time_and_one_who_answers_stays(upstream):
    socket = await upstream.connect()
    await hear(socket, "TaskManifestMessage")
    for _ in range(5):
        (beat,) = await hear(socket, "HeartbeatMessage")
        assert beat["healthy"] is True
        await say(socket, "HeartbeatAckRequest", messageId=beat["messageId"])
    assert not socket.closed
    await socket.close()


async def test_one_who_does_not_answer_is_closed_with_a_code_after_which_the_agent_comes_back_at_once(upstream):
    socket = await upstream.connect()
    frame = await socket.receive(timeout=10)
    while frame.type is aiohttp.WSMsgType.TEXT:
        frame = await socket.receive(timeout=10)
    assert frame.type is aiohttp.WSMsgType.CLOSE
    assert frame.data == 1011


async def test_the_agents_own_close_frame_is_completed(upstream):
    socket = await upstream.connect()
    await hear(socket, "TaskManifestMessage")
    assert await socket.close(code=1000, message=b"ConnectionExpired: Reconnect to continue")
    again = await upstream.connect()
    await hear(again, "TaskManifestMessage")
    await again.close()


async def test_a_fragmented_frame_is_one_message(upstream):
    socket = await upstream.connect()
    (manifest,) = await hear(socket, "TaskManifestMessage")
    stray = f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/default/{'a' * 32}"
    candidates = [{"taskArn": stray, "desiredStatus": "STOPPED", "taskClusterArn": "default"}]
    text = json.dumps({"type": "TaskStopVerificationMessage", "message": {"messageId": manifest["messageId"], "stopCandidates": candidates}})
    half = len(text) // 2
    # aiohttp sends whole messages only: a first fragment is a text frame without the final bit, the second a continuation with it.
    transport = socket._writer.transport
    transport.write(_masked(text[:half].encode(), opcode=1, final=False) + _masked(text[half:].encode(), opcode=0, final=True))
    (verdict,) = await hear(socket, "TaskStopVerificationAck")
    assert verdict["messageId"] == manifest["messageId"]
    assert [task["taskArn"] for task in verdict["stopTasks"]] == [stray]
    await socket.close()


def _masked(data: bytes, *, opcode: int, final: bool) -> bytes:
    """A client's frame with the mask 0, under which the data stands as it is."""
    assert len(data) < 65_536
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
    return bytes([opcode | (0x80 if final else 0)]) + length + bytes(4) + data


@pytest.mark.parametrize("telemetry", [False, True])
async def test_refusals_are_answers_whose_body_names_the_exception(upstream, telemetry):
    unknown = upstream.arn[:-4] + "0000"
    for options, name in (({"arn": unknown}, "InvalidInstanceException"), ({"secret": "wrong"}, "AccessDeniedException")):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await upstream.connect(telemetry=telemetry, **options)
        assert refused.value.status == 400
        assert refused.value.headers["x-amzn-errortype"] == name
    await upstream.installation.call("DeregisterContainerInstance", containerInstance=upstream.arn, force=True)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await upstream.connect(telemetry=telemetry)
    assert refused.value.headers["x-amzn-errortype"] == "InactiveInstanceException"


async def test_the_body_of_a_refusal(upstream):
    url = f"http://127.0.0.1:{upstream.installation.port}/acs/ws?clusterArn=default"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    async with upstream.http.get(url, headers=upgrade) as answer:
        body = json.loads(await answer.read())
    assert answer.status == 400
    assert list(body) == ["AccessDeniedException"]


@pytest.mark.parametrize("binary", [False, True])
async def test_telemetry_frames_carry_signed_headers_before_the_json(upstream, binary):
    socket = await upstream.connect(telemetry=True)
    metadata = {"cluster": "default", "containerInstance": upstream.arn, "idle": True, "fin": True, "messageId": "m"}
    status = {"type": "ContainerRuntime", "status": "OK", "lastUpdated": 1.7e9, "lastStatusChange": 1.7e9}
    for kind, message, answer in (
        ("PublishMetricsRequest", {"metadata": metadata, "taskMetrics": [], "timestamp": 1.7e9}, "AckPublishMetric"),
        ("PublishHealthRequest", {"metadata": metadata, "tasks": [], "timestamp": 1.7e9}, "AckPublishHealth"),
        ("PublishInstanceStatusRequest", {"metadata": metadata, "statuses": [status], "timestamp": 1.7e9}, "AckPublishInstanceStatus"),
    ):
        text = "Authorization: AWS4-HMAC-SHA256 …\r\nHost: h\r\nX-Amz-Date: d\r\n\r\n" + json.dumps({"type": kind, "message": message})
        await (socket.send_bytes(text.encode()) if binary else socket.send_str(text))
        await hear(socket, answer)
    await socket.close()


async def test_a_reconnect_needs_no_registration_and_wins_over_the_old_connection(upstream):
    older = await upstream.connect()
    await hear(older, "TaskManifestMessage")
    newer = await upstream.connect()
    await hear(newer, "TaskManifestMessage")
    with contextlib.suppress(AssertionError):
        while True:
            await hear(older, "HeartbeatMessage")
    assert older.close_code in (1000, None)
    (instance,) = await upstream.installation.instances()
    assert instance["agentConnected"]
    await newer.close()
    await older.close()
