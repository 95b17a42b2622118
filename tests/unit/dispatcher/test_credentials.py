"""Credentials of tasks' roles: whose they are, who gets none, and that they come anew in time."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest
from unit.dispatcher.cell import Cell, pending

from homeport.acs.messages import IAMRoleCredentialsMessage, PayloadMessage, RoleCredentials
from homeport.config import Settings
from homeport.controllers.data_key import renew
from homeport.dispatcher.command import RefuseRole
from homeport.dispatcher.credentials import Schedule, credentials_id, vault_of
from homeport.iam import session
from homeport.ids import Ids
from homeport.model.iam.role import Role
from homeport.model.iam.session_key import SessionKey
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import DATA_KEYS, ROLES, SESSION_KEYS, TABLES, TASK_DEFINITIONS
from homeport.testing import records
from homeport.testing.agent import SimulatedAgent
from homeport.vault.keyring import Vault, place_of
from homeport.vault.root_key import KeyFile, RootKeys
from homeport.virtual_clock import VirtualClock

KEY = SessionKey(id="KEYKEYKE", secret="s" * 40, created_at=1.0)
APP = f"arn:aws:iam::{records.ACCOUNT}:role/team/app"
UNABLE = "ECS was unable to assume the role '{}' that was provided for this task."


def trusting(service: str = "ecs-tasks.amazonaws.com", **condition: Any) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"} | ({"Condition": condition} if condition else {})
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def role(name: str = "app", **fields: Any) -> Role:
    return Role(**{"account": records.ACCOUNT, "name": name, "path": "/team/", "id": f"AROA{name}", "created_at": 1.0, "trust": trusting()} | fields)


@pytest.fixture
def settings() -> Settings:
    return Settings(task_credentials_seconds=60.0)


async def set_up(cell: Cell, *roles: Role, **document: Any) -> None:
    members = {"containerDefinitions": [{"name": "app", "image": "app:1"}], **document}

    def write(tx: Any) -> None:
        tx.put(SESSION_KEYS, KEY)
        tx.put(SESSION_KEYS, msgspec.structs.replace(KEY, id="NEWERKEY", secret="n" * 40, created_at=2.0))
        for each in roles:
            tx.put(ROLES, each)
        tx.put(TASK_DEFINITIONS, records.task_definition(document=msgspec.json.encode(members)))

    await cell.store.update(write, cause="test")


async def connected(cell: Cell) -> SimulatedAgent:
    agent = cell.agent()
    agent.start_seconds = 10_000.0
    await agent.connect()
    await cell.clock.settle()
    return agent


def only(agent: SimulatedAgent) -> Any:
    (payload,) = [task for message in agent.messages(PayloadMessage) for task in message.tasks]
    return payload


async def test_a_task_s_payload_carries_a_session_of_its_role_that_is_named_after_it_and_bound_to_it(cell):
    await set_up(cell, role(), role("pull"), taskRoleArn=APP, executionRoleArn=APP.replace("app", "pull"))
    await cell.put(pending(1))
    sent = only(await connected(cell))
    own, pull = sent.roleCredentials, sent.executionRoleCredentials
    assert (own.roleArn, pull.roleArn) == (APP, APP.replace("app", "pull"))
    found, secret = session.opened(own.sessionToken, "n" * 40)  # the newest key seals
    assert (found.arn, found.source_id) == (f"arn:aws:sts::{records.ACCOUNT}:assumed-role/app/{pending(1).id}", "AROAapp")
    assert (found.task, found.access_key_id, secret) == (pending(1).key, own.accessKeyId, own.secretAccessKey)
    assert found.expires_at - found.issued_at == 60
    assert datetime.fromisoformat(own.expiration).timestamp() == found.expires_at
    assert own.credentialsId != pull.credentialsId
    assert own.credentialsId == credentials_id(pending(1), "TaskApplication", KEY)  # the oldest key: a newer one changes no container's address
    assert credentials_id(pending(2), "TaskApplication", KEY) != own.credentialsId
    assert own.secretAccessKey not in repr(sent) and own.sessionToken not in repr(sent)


async def test_a_task_without_a_role_is_told_none_and_nothing_is_written_for_it(cell):
    await set_up(cell, role())
    await cell.put(pending(1))
    before = cell.store.revision
    sent = only(await connected(cell))
    assert (sent.roleCredentials, sent.executionRoleCredentials) == (None, None)
    assert cell.store.revision == before + 1  # the session's own


async def test_a_role_may_be_named_without_its_arn_and_an_override_goes_before_the_definition(cell):
    await set_up(cell, role("app", path="/"), role("other", path="/"), taskRoleArn="app")
    await cell.put(pending(1), pending(2, overrides=b'{"taskRoleArn":"other"}'))
    agent = await connected(cell)
    sent = {task.arn[-1]: task.roleCredentials.roleArn.rpartition("/")[2] for m in agent.messages(PayloadMessage) for task in m.tasks}
    assert sent == {"1": "app", "2": "other"}


@pytest.mark.parametrize(
    "roles",
    [
        (),
        (role(trust=trusting("ec2.amazonaws.com")),),
        (role(path="/other/"),),
        (role(trust=trusting(StringEquals={"aws:SourceAccount": "999999999999"})),),
        (role(trust=trusting(ArnLike={"aws:SourceArn": "arn:aws:ecs:mars-1:*:*"})),),
        (role(trust="{}"),),
    ],
)
async def test_a_task_whose_role_cannot_be_assumed_stops_before_it_runs_with_ecs_s_reason(cell, roles):
    await set_up(cell, *roles, taskRoleArn=APP)
    await cell.put(pending(1))
    sent = only(await connected(cell))
    assert (sent.desiredStatus, sent.roleCredentials) == ("STOPPED", None)
    assert sent.containers  # in full: the agent, which does not know it, reports it STOPPED by their names
    task = await cell.stored_task()
    assert (task.desired_status, task.stop_code) == ("STOPPED", "TaskFailedToStart")
    assert task.stopped_reason.startswith(UNABLE.format(APP))
    assert task.credentials_until == 0.0


async def test_a_role_of_another_account_is_none(cell):
    other = "arn:aws:iam::999999999999:role/team/app"
    await set_up(cell, role(account="999999999999"), taskRoleArn=other)
    await cell.put(pending(1))
    assert only(await connected(cell)).desiredStatus == "STOPPED"


async def test_ecs_s_conditions_are_met_by_the_installation_s_own_account_and_region(cell):
    trust = trusting(
        StringEquals={"aws:SourceAccount": records.ACCOUNT}, ArnLike={"aws:SourceArn": f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:*"}
    )
    await set_up(cell, role(trust=trust), taskRoleArn=APP)
    await cell.put(pending(1))
    assert only(await connected(cell)).roleCredentials is not None


async def test_a_task_that_runs_goes_on_when_its_role_is_gone_and_gets_no_more_credentials(cell):
    await set_up(cell, role(), taskRoleArn=APP)
    await cell.put(pending(1, last_status="RUNNING", observed_status="RUNNING", started_at=5.0))
    agent = await connected(cell)
    assert only(agent).roleCredentials is not None
    await cell.store.update(lambda tx: tx.delete(ROLES, role().key), cause="test")
    await cell.clock.advance(65)
    assert agent.messages(IAMRoleCredentialsMessage) == []
    assert (await cell.stored_task()).desired_status == "RUNNING"
    await agent.disconnect()
    agent = await connected(cell)
    assert (only(agent).desiredStatus, only(agent).roleCredentials) == ("RUNNING", None)
    await cell.store.update(lambda tx: tx.put(ROLES, role()), cause="test")
    await cell.clock.advance(21)
    assert len(agent.messages(IAMRoleCredentialsMessage)) == 1  # and again once it may


async def test_new_credentials_come_before_the_old_ones_expire_under_the_same_id(cell):
    await set_up(cell, role(), taskRoleArn=APP)
    await cell.put(pending(1))
    agent = await connected(cell)
    newest: RoleCredentials = only(agent).roleCredentials
    seen = 0
    for _ in range(200):
        await cell.clock.advance(1)
        later = agent.messages(IAMRoleCredentialsMessage)
        if len(later) > seen:
            seen = len(later)
            told = later[-1]
            assert (told.roleType, told.taskArn, told.roleCredentials.credentialsId) == ("TaskApplication", only(agent).arn, newest.credentialsId)
            assert told.roleCredentials.accessKeyId != newest.accessKeyId
            newest = told.roleCredentials
        assert datetime.fromisoformat(newest.expiration).timestamp() - cell.clock.now() > 30
    assert 9 <= seen <= 13
    assert (await cell.stored_task()).credentials_until == pytest.approx(datetime.fromisoformat(newest.expiration).timestamp(), abs=1)


async def test_a_stopped_task_gets_none_any_more(cell):
    await set_up(cell, role(), taskRoleArn=APP)
    await cell.put(pending(1), pending(2))
    agent = await connected(cell)
    await cell.change(pending(1), desired_status="STOPPED", last_status="STOPPED", observed_status="STOPPED")
    await cell.clock.advance(25)
    assert {message.taskArn[-1] for message in agent.messages(IAMRoleCredentialsMessage)} == {"2"}
    await agent.disconnect()
    await cell.clock.advance(120)
    assert (await cell.stored_task(2)).credentials_until < cell.clock.now()  # nobody is there to be given any


async def test_a_new_connection_gets_new_ones_with_the_whole_manifest(cell):
    await set_up(cell, role(), taskRoleArn=APP)
    await cell.put(pending(1))
    first = only(agent := await connected(cell)).roleCredentials
    await agent.disconnect()
    await cell.clock.advance(5)
    second = only(await connected(cell)).roleCredentials
    assert first.credentialsId == second.credentialsId
    assert first.accessKeyId != second.accessKeyId


async def test_the_journal_has_each_issue_and_nothing_secret_of_it(cell):
    await set_up(cell, role(), taskRoleArn=APP)
    await cell.put(pending(1))
    causes: list[str] = []
    watch = cell.store.watch()

    async def follow() -> None:
        async for commit in watch:
            causes.append(commit.cause)

    import asyncio

    following = asyncio.get_running_loop().create_task(follow())
    given = only(await connected(cell)).roleCredentials
    await cell.clock.settle()
    following.cancel()
    (told,) = [cause for cause in causes if "credentials" in cause]
    assert told == f"dispatcher: credentials to instance {'1' * 32}: TaskApplication {APP} for task {pending(1).id}, key {given.accessKeyId}"
    assert given.secretAccessKey not in told and given.sessionToken not in told


def test_a_schedule_tells_each_task_once_in_order_and_forgets_those_that_are_dropped():
    schedule = Schedule(20.0)
    schedule.given("a", 0.0)
    schedule.given("b", 1.0)
    schedule.given("c", 9.0)
    schedule.drop("b")
    assert schedule.next == 20.0
    assert list(schedule.take(17.0)) == []
    assert list(schedule.take(20.0)) == ["a"]
    assert schedule.next == 29.0
    schedule.given("c", 15.0)
    assert (schedule.next, list(schedule.take(32.0)), list(schedule.take(33.0)), schedule.next) == (35.0, [], ["c"], None)


async def test_session_keys_are_opened_and_a_new_seal_changes_no_credentials_id(tmp_path):
    """What a task's containers ask for must stay the same when the session key is sealed anew."""
    roots = RootKeys(KeyFile(tmp_path / "root.key"), Ids().bytes)
    roots.create()
    vault = Vault(roots, Ids())
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=VirtualClock(), derived=(vault,))
    await store.update(lambda tx: tx.put(DATA_KEYS, vault.new_data_key(tx.now)), cause="test")
    sealed = vault.seal("k" * 64, place_of("session_keys", "KEYKEYKE"))
    await store.update(lambda tx: tx.put(SESSION_KEYS, SessionKey(id="KEYKEYKE", secret=sealed, created_at=1.0)), cause="test")
    task = records.task()
    (before,) = (await store.view(lambda reader: vault_of(reader, (), vault))).keys
    assert before.secret.reveal() == "k" * 64
    await renew(store, vault, before=store._clock.now() + 1)
    assert await store.view(lambda reader: reader.get(SESSION_KEYS, "KEYKEYKE").secret) != sealed
    (after,) = (await store.view(lambda reader: vault_of(reader, (), vault))).keys
    assert credentials_id(task, "TaskApplication", after) == credentials_id(task, "TaskApplication", before)
    await store.close()


async def test_a_task_that_began_to_run_meanwhile_is_not_stopped_for_its_role_nor_one_that_is_over_given_any(cell, caplog):
    await set_up(cell, role(), taskRoleArn=APP)
    await cell.put(pending(1, started_at=5.0), pending(2, desired_status="STOPPED", last_status="STOPPED", observed_status="STOPPED"))
    await cell.store.update(RefuseRole(pending(1).key, "no").apply, cause="test")
    assert (await cell.stored_task()).desired_status == "RUNNING"
    await connected(cell)
    issuer = cell.dispatcher._sessions[pending(1).instance_key]._issuer
    issuer._waiting = [pending(2).key, "gone"]
    assert await issuer.refreshed() == []


@pytest.mark.parametrize("silent", [False, True])
async def test_what_an_agent_did_not_acknowledge_is_told_in_the_log_when_it_comes_anew(cell, caplog, silent):
    await set_up(cell, role(), taskRoleArn=APP)
    await cell.put(pending(1))
    agent = cell.agent()
    agent.start_seconds, agent.silent = 10_000.0, silent
    await agent.connect()
    await cell.clock.advance(25)
    assert len(agent.messages(IAMRoleCredentialsMessage)) == 1
    assert ("did not acknowledge" in caplog.text) is silent
