"""The control plane's side of a conversation: what an agent is told, when a session ends, who may connect."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from unit.dispatcher.cell import INSTANCE_ARN, Cell, instance, pending

from homeport.acs.messages import (
    HeartbeatMessage,
    PayloadMessage,
    TaskIdentifier,
    TaskManifestMessage,
    TaskStopVerificationAck,
    TaskStopVerificationMessage,
    encode,
)
from homeport.dispatcher.command import EndSession, OpenSession, commit_to
from homeport.dispatcher.hub import RECONNECT_GRACE_SECONDS, Dispatcher
from homeport.errors import AccessDeniedError, NoQuorumError
from homeport.ids import Ids
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.store.tables import CONTAINER_INSTANCES, DAEMON_TASK_DEFINITIONS
from homeport.testing import records
from homeport.testing.agent import RefusedError, Socket


async def connected(cell: Cell, **options):
    """An agent that has connected, with everything said that is said at the start."""
    agent = cell.agent(**options)
    await agent.connect()
    await cell.clock.settle()
    return agent


def payload_tasks(agent):
    """(ARN's last digit, desired status) of everything in payloads, in order."""
    return [(int(task.arn[-4:], 16), task.desiredStatus) for message in agent.messages(PayloadMessage) for task in message.tasks]


async def test_connecting_makes_the_instance_connected_and_sends_a_manifest_before_anything_else(cell):
    await cell.put(pending(1), pending(2, desired_status="STOPPED"))
    agent = await connected(cell)
    stored = await cell.stored_instance()
    assert stored.agent_connected
    assert stored.session is not None
    assert stored.session.server == "server"
    assert stored.version == 2
    manifest = agent.received[0]
    assert isinstance(manifest, TaskManifestMessage)
    assert [(task.taskArn[-1], task.desiredStatus) for task in manifest.tasks] == [("1", "RUNNING"), ("2", "STOPPED")]
    assert manifest.containerInstanceArn == INSTANCE_ARN
    # Stops first: what they free is what the starts need.
    assert payload_tasks(agent) == [(2, "STOPPED"), (1, "RUNNING")]


async def test_an_agent_without_full_sync_gets_no_manifest(cell):
    await cell.change(instance(), attributes=())
    agent = await connected(cell)
    assert agent.messages(TaskManifestMessage) == []


async def test_a_new_task_goes_out_once(cell):
    agent = await connected(cell)
    await cell.put(pending(1))
    await cell.change(pending(1), last_status="RUNNING", observed_status="RUNNING")
    assert payload_tasks(agent) == [(1, "RUNNING")]
    task = agent.messages(PayloadMessage)[0].tasks[0]
    assert (task.family, task.version, [container.image for container in task.containers]) == ("web", "1", ["app:1"])


async def test_a_daemon_s_task_has_its_own_definition_not_the_one_of_the_same_family(cell):
    own = records.task_definition(document=b'{"family":"web","containerDefinitions":[{"name":"app","image":"daemon:1"}]}')
    made = DaemonTaskDefinition(
        account=own.account,
        family=own.family,
        revision=own.revision,
        status="ACTIVE",
        registered_at=own.registered_at,
        registered_by=own.registered_by,
        definition=own,
        shown=b"{}",
    )
    await cell.store.update(lambda tx: tx.put(DAEMON_TASK_DEFINITIONS, made), cause="test")
    await cell.put(pending(1), pending(2, daemon="logs"))
    agent = await connected(cell)
    assert [task.containers[0].image for task in agent.messages(PayloadMessage)[0].tasks] == ["app:1", "daemon:1"]


async def test_a_provisioning_task_waits(cell):
    agent = await connected(cell)
    await cell.put(pending(1, last_status="PROVISIONING"))
    assert payload_tasks(agent) == []
    await cell.change(pending(1), last_status="PENDING")
    assert payload_tasks(agent) == [(1, "RUNNING")]


async def test_a_stop_goes_out_once_and_with_the_arn_alone(cell):
    agent = await connected(cell)
    await cell.put(pending(1))
    await cell.change(pending(1), desired_status="STOPPED")
    await cell.change(pending(1), stopped_reason="because")
    assert payload_tasks(agent) == [(1, "RUNNING"), (1, "STOPPED")]
    assert agent.messages(PayloadMessage)[-1].tasks[0].containers == []


async def test_a_stop_of_a_task_that_this_session_never_sent_is_whole(cell):
    await cell.put(pending(1, desired_status="STOPPED"))
    agent = await connected(cell)
    assert [len(task.containers) for task in agent.messages(PayloadMessage)[0].tasks] == [1]


async def test_tasks_of_other_instances_are_nobody_elses_business(cell):
    agent = await connected(cell)
    await cell.put(pending(1, container_instance_id="2" * 32), pending(2, container_instance_id=""))
    assert payload_tasks(agent) == []


async def test_many_tasks_at_once_are_few_payloads(cell):
    agent = await connected(cell)
    await cell.put(*(pending(number) for number in range(1, 71)))
    assert [len(message.tasks) for message in agent.messages(PayloadMessage)] == [50, 20]


async def test_after_a_reconnect_everything_is_sent_again_with_a_later_timeline(cell):
    agent = await connected(cell)
    await cell.put(pending(1))
    await agent.disconnect()
    await agent.connect()
    await cell.clock.settle()
    first, second = agent.messages(TaskManifestMessage)
    numbers = [message.seqNum for message in agent.messages(PayloadMessage)]
    assert payload_tasks(agent) == [(1, "RUNNING"), (1, "RUNNING")]
    assert second.timeline > max(first.timeline, numbers[0])


async def test_strays_are_stopped_only_when_the_store_does_not_want_them_now(cell, task_arn):
    agent = cell.agent()
    await agent.connect()
    await cell.put(pending(1), pending(2), pending(3))
    await cell.clock.advance(1)
    await agent.disconnect()
    for number in (1, 2):
        await cell.change(pending(number), desired_status="STOPPED", last_status="STOPPED")
    await agent.connect()
    await cell.clock.advance(1)
    (verdict,) = agent.messages(TaskStopVerificationAck)
    assert sorted(task.taskArn for task in verdict.stopTasks) == [task_arn(1), task_arn(2)]
    assert {arn[-1]: task.status for arn, task in agent.tasks.items()} == {"1": "STOPPED", "2": "STOPPED", "3": "RUNNING"}


async def test_a_task_of_a_foreign_account_is_a_stray_too(cell):
    agent = await connected(cell)
    foreign = "arn:aws:ecs:us-east-1:999999999999:task/default/" + "a" * 32
    manifest = agent.messages(TaskManifestMessage)[0]
    message = TaskStopVerificationMessage(messageId=manifest.messageId, stopCandidates=[TaskIdentifier(taskArn=foreign)])
    question = encode(message).decode()
    agent.socket.send(question)
    agent.socket.send(question)  # the message id serves once
    await cell.clock.settle()
    assert [[task.taskArn for task in ack.stopTasks] for ack in agent.messages(TaskStopVerificationAck)] == [[foreign]]


async def test_the_newest_connection_wins(cell):
    older = await connected(cell)
    newer = await connected(cell)
    assert older.socket.close_code == 1000
    await older.socket.ended()
    await cell.put(pending(1))
    assert payload_tasks(newer) == [(1, "RUNNING")]
    assert payload_tasks(older) == []
    assert (await cell.stored_instance()).agent_connected
    assert (await cell.stored_instance()).version == 2


async def test_a_broken_connection_is_noticed_at_once(cell):
    agent = await connected(cell)
    await agent.disconnect(1006)
    await cell.clock.settle()
    stored = await cell.stored_instance()
    assert not stored.agent_connected
    assert stored.session is None
    assert stored.disconnected_at >= cell.clock.now() - 1
    assert stored.version == 3
    assert cell.dispatcher.connected == frozenset()


async def test_heartbeats_go_out_and_are_not_stored(cell):
    agent = await connected(cell)
    revision = cell.store.revision
    await cell.clock.advance(95)
    assert len(agent.messages(HeartbeatMessage)) == 3
    assert all(message.healthy for message in agent.messages(HeartbeatMessage))
    assert cell.store.revision == revision


async def test_the_first_heartbeats_of_agents_that_come_together_are_spread_over_the_interval(cell):
    firsts = []
    for _ in range(8):
        agent, began = await connected(cell), cell.clock.now()
        while not agent.messages(HeartbeatMessage):
            await cell.clock.advance(0.5)
        firsts.append(cell.clock.now() - began)
    assert max(firsts) <= cell.settings.heartbeat_seconds + 1.5
    assert max(firsts) - min(firsts) > cell.settings.heartbeat_seconds / 3


async def test_a_silent_agent_is_disconnected(cell):
    agent = await connected(cell)
    agent.silent = True
    await cell.clock.advance(74)
    assert (await cell.stored_instance()).agent_connected
    await cell.clock.advance(4)
    assert agent.socket.close_code == 1011
    assert not (await cell.stored_instance()).agent_connected


async def test_an_old_connection_ends_orderly_and_the_agent_counts_as_connected_while_it_comes_back(cell):
    agent = await connected(cell)
    began = cell.clock.now()
    while agent.socket.close_code is None:
        await cell.clock.advance(1)
    assert cell.settings.session_max_seconds * 0.9 <= cell.clock.now() - began <= cell.settings.session_max_seconds + 2
    assert agent.socket.close_code == 1000
    assert (await cell.stored_instance()).agent_connected
    await agent.connect()
    await cell.clock.advance(20)
    assert (await cell.stored_instance()).agent_connected
    assert (await cell.stored_instance()).version == 2


async def test_an_agent_that_does_not_come_back_is_disconnected_after_the_grace(cell):
    agent = await connected(cell)
    await agent.disconnect(1000)
    await cell.clock.advance(RECONNECT_GRACE_SECONDS - 1)
    assert (await cell.stored_instance()).agent_connected
    await cell.clock.advance(3)
    assert not (await cell.stored_instance()).agent_connected


async def test_a_restarted_server_gives_its_agents_time_to_come_back(cell):
    await connected(cell)
    await cell.dispatcher.close()
    assert (await cell.stored_instance()).agent_connected
    cell.dispatcher = cell.new_dispatcher()
    await cell.dispatcher.start()
    await cell.clock.advance(RECONNECT_GRACE_SECONDS - 1)
    assert (await cell.stored_instance()).agent_connected
    await cell.clock.advance(3)
    assert not (await cell.stored_instance()).agent_connected


async def test_an_agent_that_came_back_after_the_restart_stays(cell):
    agent = await connected(cell)
    await cell.dispatcher.close()
    cell.dispatcher = cell.new_dispatcher()
    await cell.dispatcher.start()
    await connected(cell)
    await cell.clock.advance(20)
    assert (await cell.stored_instance()).agent_connected
    assert agent.socket.close_code == 1001


async def test_deregistration_closes_the_connection(cell):
    agent = await connected(cell)
    await cell.change(instance(), status="INACTIVE")
    assert agent.socket.close_code == 1001
    with pytest.raises(RefusedError) as refusal:
        await agent.connect()
    assert refusal.value.name == "InactiveInstanceException"
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("cluster", "arn", "name"),
    [
        ("default", INSTANCE_ARN[:-1] + "2", "InvalidInstanceException"),
        ("other", INSTANCE_ARN, "InvalidClusterException"),
        ("default", "", "BadRequestException"),
        ("default", "1" * 32, "BadRequestException"),
        ("default", INSTANCE_ARN.replace(records.ACCOUNT, "999999999999"), "AccessDeniedException"),
    ],
)
async def test_who_may_not_connect(cell, cluster, arn, name):
    agent = cell.agent(arn, cluster=cluster)
    with pytest.raises(RefusedError) as refusal:
        await agent.connect()
    assert refusal.value.name == name
    assert not (await cell.stored_instance()).agent_connected


@pytest.mark.parametrize("cluster", ["default", "arn:aws:ecs:us-east-1:123456789012:cluster/default", ""])
async def test_the_cluster_is_a_name_or_an_arn(cell, cluster):
    await connected(cell, cluster=cluster)
    assert (await cell.stored_instance()).agent_connected


async def test_a_bad_signature_is_refused(cell):
    socket = Socket(cell.dispatcher.acs, "/acs/ws", f"containerInstanceArn={INSTANCE_ARN}", [(b"x-stranger", b"1")])
    with pytest.raises(RefusedError) as refusal:
        await socket.open()
    assert refusal.value.name == "AccessDeniedException"


@pytest.mark.parametrize(("scheme", "secure"), [("ws", False), ("wss", True)])
async def test_whoever_checks_a_handshake_is_told_where_it_came_from(cell, scheme, secure):
    asked = []

    def verify(method, path, query, headers, origin):
        asked.append(origin)
        raise AccessDeniedError("no")

    dispatcher = Dispatcher(store=cell.store, clock=cell.clock, ids=Ids(1), settings=cell.settings, region=records.REGION, verify=verify)
    scope = {"type": "websocket", "path": "/acs/ws", "query_string": b"", "headers": [], "scheme": scheme, "client": ("100.64.0.7", 1)}

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        pass

    await dispatcher.acs(scope, receive, send)
    assert asked == [("100.64.0.7", secure)]


async def test_frames_that_are_no_messages_are_passed_over(cell):
    agent = await connected(cell)
    for frame in ("", "{", "[]", '{"type":"AckRequest","message":{"messageId":5}}', '{"type":"Unheard","message":{}}'):
        agent.socket.send(frame)
    await cell.put(pending(1))
    assert payload_tasks(agent) == [(1, "RUNNING")]


async def test_an_agent_that_takes_nothing_more_is_given_up(cell):
    agent = await connected(cell)
    stuck = cell.clock.sleep(1e9)

    async def never(event):
        await stuck

    next(iter(cell.dispatcher._sessions.values()))._send = never  # as a server whose send buffer is full
    await cell.clock.advance(90)
    assert not (await cell.stored_instance()).agent_connected
    assert agent.socket is not None


async def test_a_session_that_another_server_ended_is_closed_so_that_its_agent_comes_again(cell):
    """As when this server was cut off from the others: they take its agents for gone, and the agents know nothing of it."""
    agent = await connected(cell)
    session = (await cell.stored_instance()).session
    await commit_to(cell.store)(EndSession(instance().key, session.id, "server is gone, and the agent did not come back"))
    await cell.clock.settle()
    assert agent.socket.close_code is not None
    assert cell.dispatcher.connected == frozenset()


async def test_a_session_that_ended_while_changes_were_lost_is_closed_too(cell):
    """A copy that was read anew tells of no change."""
    agent = await connected(cell)
    ended = msgspec.structs.replace(await cell.stored_instance(), session=None, agent_connected=False, disconnected_at=cell.clock.now() + 1.0)
    for watch in tuple(cell.store._watches):
        watch.offer = lambda commits: None
    await cell.put(ended)
    assert cell.dispatcher.connected
    for watch in tuple(cell.store._watches):
        del watch.offer
        watch.lose()
    await cell.clock.settle()
    assert agent.socket.close_code is not None
    assert cell.dispatcher.connected == frozenset()


async def test_a_session_that_ended_before_this_server_had_it_is_closed_at_once(cell):
    """The leader may end it between its beginning and the answer to a server that was cut off meanwhile."""
    carry_out = commit_to(cell.store)

    async def commit(command):
        opened = await carry_out(command)
        if isinstance(command, OpenSession):
            ended = msgspec.structs.replace(opened, session=None, agent_connected=False, disconnected_at=cell.clock.now() + 1.0)
            await cell.store.update(lambda tx: tx.put(CONTAINER_INSTANCES, ended), cause="test")
        return opened

    cell.dispatcher._house = dataclasses.replace(cell.dispatcher._house, commit=commit)
    agent = await connected(cell)
    assert agent.socket.close_code is not None
    assert cell.dispatcher.connected == frozenset()


async def test_a_conversation_that_ends_for_want_of_a_quorum_is_no_error_of_this_server(cell, caplog):
    async def view(function):
        raise NoQuorumError("etcd does not answer")

    agent = await connected(cell)
    cell.store.view = view
    await cell.put(pending(1))
    assert agent.socket.close_code is not None
    assert [record.levelname for record in caplog.records if "session" in record.getMessage()] == ["WARNING"]
    del cell.store.view
