"""The agent's side of a conversation: what it does with each message, and when a session ends."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from unit.agent.conversation import FakeSocket, RememberingEngine

from homeport.acs.messages import (
    HeartbeatMessage,
    IAMRoleCredentialsMessage,
    PayloadMessage,
    RoleCredentials,
    TaskIdentifier,
    TaskManifestMessage,
    TaskPayload,
    TaskStopVerificationAck,
)
from homeport.agent.session import House, Session
from homeport.agent.state import State

CLUSTER = "arn:aws:ecs:us-east-1:123456789012:cluster/default"
INSTANCE = "arn:aws:ecs:us-east-1:123456789012:container-instance/default/" + "1" * 32


class Agent:
    """One agent's lasting parts; `hear` is one session."""

    def __init__(self, directory) -> None:
        self.engine = RememberingEngine()
        self.state = State.open(directory)
        self.reports: list = []
        self.heartbeats = 0
        self.credentials: list = []

    async def hear(self, *messages, code: int = 1000) -> FakeSocket:
        """Run a session that hears these messages and ends with `code`."""
        socket = FakeSocket()
        for message in messages:
            socket.hears(message)
        house = House(engine=self.engine, state=self.state, report=self.reports.append, heard_heartbeat=self._beat, take_credentials=self._keep)
        session = Session(house, socket, silence_seconds=60.0)
        running = asyncio.create_task(session.run())
        await socket.heard()
        await asyncio.gather(*session._acknowledgements)
        socket.ends(code)
        await running
        return socket

    def _keep(self, *given) -> None:
        self.credentials.append(given)

    def _beat(self) -> None:
        self.heartbeats += 1


@pytest.fixture
def agent(tmp_path):
    made = Agent(tmp_path)
    yield made
    made.state.close()


def payload(*tasks: tuple[str, str], number: int = 1, message_id: str = "m1", cluster: str = CLUSTER) -> PayloadMessage:
    return PayloadMessage(
        messageId=message_id,
        clusterArn=cluster,
        containerInstanceArn=INSTANCE,
        seqNum=number,
        tasks=[TaskPayload(arn=arn, desiredStatus=status) for arn, status in tasks],
    )


def manifest(timeline: int, *tasks: tuple[str, str]) -> TaskManifestMessage:
    return TaskManifestMessage(
        messageId=f"manifest-{timeline}",
        clusterArn=CLUSTER,
        containerInstanceArn=INSTANCE,
        timeline=timeline,
        tasks=[TaskIdentifier(taskArn=arn, desiredStatus=status) for arn, status in tasks],
    )


async def test_a_heartbeat_is_answered_with_its_id(agent):
    socket = await agent.hear(HeartbeatMessage(messageId="h1", healthy=True))
    assert socket.sent == [{"type": "HeartbeatAckRequest", "message": {"messageId": "h1"}}]
    assert agent.heartbeats == 1


async def test_a_payload_goes_to_the_engine_stops_first_and_is_acknowledged(agent):
    socket = await agent.hear(payload(("a", "RUNNING"), ("b", "STOPPED"), ("c", "RUNNING")))
    assert agent.engine.submitted == [("b", "STOPPED"), ("a", "RUNNING"), ("c", "RUNNING")]
    assert socket.sent == [{"type": "AckRequest", "message": {"cluster": CLUSTER, "containerInstance": INSTANCE, "messageId": "m1"}}]


async def test_a_task_that_cannot_be_read_is_reported_and_the_others_run(agent):
    socket = await agent.hear(payload(("bad1", "RUNNING"), ("a", "RUNNING")))
    assert agent.engine.submitted == [("a", "RUNNING")]
    assert [(report.arn, report.status) for report in agent.reports] == [("bad1", "STOPPED")]
    assert "no essential container" in agent.reports[0].reason
    assert len(socket.sent_of("AckRequest")) == 1


@pytest.mark.parametrize("broken", [{"message_id": ""}, {"cluster": ""}])
async def test_a_payload_without_its_envelope_is_dropped_without_an_answer(agent, broken):
    socket = await agent.hear(payload(("a", "RUNNING"), **broken))
    assert (agent.engine.submitted, socket.sent) == ([], [])


async def test_a_manifest_that_agrees_is_only_acknowledged(agent):
    agent.engine.held = {"a": "RUNNING", "stopped": "STOPPED"}
    socket = await agent.hear(manifest(5, ("a", "RUNNING"), ("unknown", "RUNNING")))
    assert [frame["type"] for frame in socket.sent] == ["AckRequest"]


async def test_strays_are_asked_about_and_stopped_only_when_told(agent):
    agent.engine.held = {"a": "RUNNING", "b": "RUNNING", "c": "RUNNING"}
    verdict = TaskStopVerificationAck(messageId="manifest-5", stopTasks=[TaskIdentifier(taskArn="b", desiredStatus="STOPPED")])
    foreign = TaskStopVerificationAck(messageId="another", stopTasks=[TaskIdentifier(taskArn="a", desiredStatus="STOPPED")])
    again = TaskStopVerificationAck(messageId="manifest-5", stopTasks=[TaskIdentifier(taskArn="c", desiredStatus="STOPPED")])
    socket = await agent.hear(manifest(5, ("a", "RUNNING"), ("b", "STOPPED")), foreign, verdict, again)
    (question,) = socket.sent_of("TaskStopVerificationMessage")
    assert question["messageId"] == "manifest-5"
    assert [candidate["taskArn"] for candidate in question["stopCandidates"]] == ["b", "c"]
    assert agent.engine.submitted == [("b", "STOPPED")]


async def test_an_older_manifest_is_passed_over_even_after_a_restart(agent):
    agent.engine.held = {"a": "RUNNING"}
    await agent.hear(payload(("a", "RUNNING"), number=7))
    socket = await agent.hear(manifest(7), manifest(3))
    assert socket.sent == []
    socket = await agent.hear(manifest(8))
    assert [frame["type"] for frame in socket.sent] == ["AckRequest", "TaskStopVerificationMessage"]


async def test_what_is_no_message_or_unknown_is_passed_over(agent):
    socket = await agent.hear("", "{", "[]", '{"type":"CloseMessage","message":{"message":"bye"}}', HeartbeatMessage(messageId="h", healthy=True))
    assert [frame["type"] for frame in socket.sent] == ["HeartbeatAckRequest"]


async def test_a_session_ends_with_the_code_of_the_close_frame(agent):
    socket = FakeSocket()
    socket.ends(1000)
    house = House(engine=agent.engine, state=agent.state, report=agent.reports.append, heard_heartbeat=lambda: None)
    assert await Session(house, socket, silence_seconds=60.0).run() == 1000


async def test_silence_ends_the_session(agent):
    socket = FakeSocket()
    socket.falls_silent()
    house = House(engine=agent.engine, state=agent.state, report=agent.reports.append, heard_heartbeat=lambda: None)
    assert await Session(house, socket, silence_seconds=60.0).run() == 1006
    assert socket.close_code == 1001


OWN = RoleCredentials(
    credentialsId="id-1", roleArn="r", accessKeyId="ASIA1", secretAccessKey="hush", sessionToken="token", expiration="2026-01-01T00:00:00Z"
)


async def test_credentials_in_a_payload_are_kept_acknowledged_and_never_handed_to_the_engine(agent):
    pull = msgspec.structs.replace(OWN, credentialsId="id-2")
    message = payload()
    message.tasks = [TaskPayload(arn="a", desiredStatus="RUNNING", roleCredentials=OWN, executionRoleCredentials=pull)]
    socket = await agent.hear(message)
    assert agent.credentials == [("a", "TaskApplication", OWN), ("a", "TaskExecution", pull)]
    (handed,) = agent.engine.payloads
    assert handed.roleCredentials == RoleCredentials(credentialsId="id-1", roleArn="r")
    assert handed.executionRoleCredentials is None
    told = [(answer["messageId"], answer["credentialsId"], answer["expiration"]) for answer in socket.sent_of("IAMRoleCredentialsAckRequest")]
    assert told == [("m1", "id-1", OWN.expiration), ("m1", "id-2", OWN.expiration)]
    assert [answer["messageId"] for answer in socket.sent_of("AckRequest")] == ["m1"]


@pytest.mark.parametrize(
    ("fields", "answered"),
    [({}, True), ({"roleType": "TaskExecution"}, True), ({"roleType": "Task"}, False), ({"taskArn": ""}, False), ({"messageId": ""}, False)],
)
async def test_new_credentials_are_kept_and_acknowledged_unless_they_name_no_task_or_type(agent, fields, answered):
    members = {"messageId": "m2", "taskArn": "a", "roleType": "TaskApplication", "roleCredentials": OWN, **fields}
    socket = await agent.hear(IAMRoleCredentialsMessage(**members))
    assert len(agent.credentials) == len(socket.sent_of("IAMRoleCredentialsAckRequest")) == int(answered)


async def test_credentials_without_an_id_are_passed_over(agent):
    for given in (None, RoleCredentials(accessKeyId="ASIA")):
        await agent.hear(IAMRoleCredentialsMessage(messageId="m", taskArn="a", roleType="TaskApplication", roleCredentials=given))
    assert agent.credentials == []
