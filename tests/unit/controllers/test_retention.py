from __future__ import annotations

import pytest

from homeport.config import Settings
from homeport.controllers.retention import RetentionController
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.service import ServiceEvent
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.model.iam.join_token import JoinToken
from homeport.model.installation import Effect, IdempotencyToken
from homeport.planner.retention import is_over
from homeport.store.table import Transaction
from homeport.store.tables import (
    CONTAINER_INSTANCES,
    DAEMON_REVISIONS,
    DEPLOYMENTS,
    EFFECTS,
    IDEMPOTENCY_TOKENS,
    INSTANCE_IDENTITIES,
    JOIN_TOKENS,
    SERVICE_EVENTS,
    SERVICES,
    TASK_DEFINITIONS,
    TASKS,
)
from homeport.testing import records

T0 = records.NOW
DAY = 86_400.0
STOPPED = {"last_status": "STOPPED", "desired_status": "STOPPED", "observed_status": "STOPPED", "stopped_at": T0}


def event(number: int) -> ServiceEvent:
    return ServiceEvent(account=records.ACCOUNT, cluster="default", service="web", number=number, id="e", created_at=T0, message="m")


def token(expires_at: float) -> IdempotencyToken:
    return IdempotencyToken(
        account=records.ACCOUNT, operation="RunTask", token="t", scope="", fingerprint="", resources=(), created_at=T0, expires_at=expires_at
    )


def join_token(expires_at: float) -> JoinToken:
    return JoinToken(
        id="abcdefghij12",
        account=records.ACCOUNT,
        secret_sha256="",
        cluster="default",
        role_arn="",
        role_id="",
        created_at=T0,
        created_by="",
        expires_at=expires_at,
    )


def host(identity: str, instance: str = "") -> InstanceIdentity:
    return InstanceIdentity(
        id=identity,
        account=records.ACCOUNT,
        cluster="default",
        role_arn="",
        role_id="",
        public_key=b"",
        token_id="",
        joined_at=T0,
        proved_at=T0,
        instance=instance,
    )


@pytest.mark.parametrize(
    ("record", "over_at"),
    [
        (records.task(**STOPPED), T0 + DAY),
        (records.task(), None),
        (records.service(status="INACTIVE", drained_at=T0), T0 + DAY),
        (records.service(status="DRAINING"), None),
        (records.container_instance(status="INACTIVE", left_at=T0), T0 + 3600),
        (records.container_instance(status="INACTIVE"), None),
        (records.container_instance(), None),
        (token(T0 + 5), T0 + 5),
        (join_token(T0 + 5), T0 + 5 + DAY),
        (host("hi-1"), T0 + 30 * DAY),
        (Effect(key="k", answer=b"{}", made_at=T0), T0 + 300),
        (records.deployment(status="INACTIVE"), T0 + 90 * DAY),
        (records.deployment(status="ACTIVE"), None),
        (records.task_definition(status="DELETE_IN_PROGRESS", delete_requested_at=T0), T0),
        (records.task_definition(status="INACTIVE"), None),
    ],
)
def test_when_a_record_may_be_forgotten(record, over_at):
    if over_at is None:
        assert not is_over(record, Settings(), T0 + 1e9)
    else:
        assert not is_over(record, Settings(), over_at - 1)
        assert is_over(record, Settings(), over_at)


def test_other_records_are_never_forgotten():
    with pytest.raises(TypeError, match="Cluster"):
        is_over(Cluster(account="a", name="n", status="ACTIVE", created_at=T0), Settings(), T0)


async def test_stopped_tasks_go_after_their_time_and_not_before(make_cell):
    cell = await make_cell(records.task(1, service="", **STOPPED))
    await cell.clock.advance(DAY - 30)
    assert len(await cell.all(TASKS)) == 1
    await cell.clock.advance(100)
    assert await cell.all(TASKS) == []


async def test_a_host_is_forgotten_when_it_is_silent_and_no_instance_any_more(make_cell):
    gone = records.container_instance(id="2" * 32, status="INACTIVE")
    there = records.container_instance()
    quick = Settings(instance_identity_retention_seconds=100.0, join_token_retention_seconds=100.0)
    cell = await make_cell(gone, settings=quick)

    def write(tx: Transaction) -> None:
        for each in (host("hi-1", there.key), host("hi-2", gone.key), host("hi-3")):
            tx.put(INSTANCE_IDENTITIES, each)
        tx.put(JOIN_TOKENS, join_token(T0))

    await cell.store.update(write, cause="test")
    await cell.clock.advance(90)
    assert len(await cell.all(INSTANCE_IDENTITIES)) == 3
    await cell.clock.advance(100)
    assert [each.id for each in await cell.all(INSTANCE_IDENTITIES)] == ["hi-1"]
    assert await cell.all(JOIN_TOKENS) == []


async def test_more_than_one_transaction_holds(make_cell):
    cell = await make_cell()
    for start in range(0, 300, 50):
        await cell.put(*(records.task(n, service="", **STOPPED) for n in range(start, start + 50)))
    await cell.clock.advance(DAY + 100)
    assert await cell.all(TASKS) == []


async def test_a_service_goes_with_its_events_and_deployments(make_cell):
    service = records.service(status="INACTIVE", drained_at=T0, events_written=95)
    cell = await make_cell(service)
    await cell.put(*(event(number) for number in range(1, 96)))
    await cell.put(*(records.deployment(id=f"{n:019d}", status="INACTIVE") for n in range(50)))
    await cell.clock.advance(DAY + 100)
    for table in (SERVICES, SERVICE_EVENTS, DEPLOYMENTS):
        assert await cell.all(table) == []


async def test_instances_and_tokens(make_cell):
    cell = await make_cell(records.container_instance(status="INACTIVE"), token(T0 + 500))
    await cell.clock.advance(700)
    assert await cell.all(IDEMPOTENCY_TOKENS) == []
    assert len(await cell.all(CONTAINER_INSTANCES)) == 1
    await cell.clock.advance(3600)
    assert await cell.all(CONTAINER_INSTANCES) == []


async def test_a_task_definition_stays_while_something_refers_to_it(make_cell):
    deleted = {"status": "DELETE_IN_PROGRESS", "delete_requested_at": T0}
    cell = await make_cell(
        records.task_definition(**deleted),
        records.task_definition(revision=2, **deleted),
        records.task_definition(revision=3, **deleted),
        records.service(desired_count=0, revision=2),
        records.deployment(revision=2),
        records.task(1, service="", revision=3),
        agents=False,
    )
    await cell.clock.advance(200)
    assert [definition.revision for definition in await cell.all(TASK_DEFINITIONS)] == [2, 3]
    await cell.put(records.task(1, service="", revision=3, **STOPPED))
    await cell.clock.advance(200)
    assert [definition.revision for definition in await cell.all(TASK_DEFINITIONS)] == [2]


async def test_daemon_revisions_stay_while_their_daemon_may_need_them(make_cell):
    """What a daemon has, and what it would go back to, stay without any deployment of them; also when names begin alike."""
    cell = await make_cell()
    where = {"account": records.ACCOUNT, "cluster": "default"}
    daemon = Daemon(
        **where,
        name="logs",
        status="ACTIVE",
        created_at=T0,
        updated_at=T0,
        created_by="me",
        revision_id="3",
        completed_revision_id="1",
        deployment_id="9",
        capacity_providers=("pool",),
    )
    kept = {"created_at": T0, "family": "logs", "revision": 1, "capacity_providers": ("pool",)}
    revisions = [DaemonRevision(**where, **kept, daemon=name, id=number) for name in ("logs", "logs-2") for number in ("1", "2", "3")]
    await cell.put(daemon, *revisions)
    await cell.clock.advance(200)
    assert [item.key for item in await cell.all(DAEMON_REVISIONS)] == [f"{daemon.key}/1", f"{daemon.key}/3"]


def test_it_looks_often_enough_for_short_retentions():
    assert RetentionController(settings=Settings()).period_seconds == 60.0
    assert RetentionController(settings=Settings(stopped_task_retention_seconds=5.0)).period_seconds == 0.5


@pytest.mark.parametrize("second", range(0, 14_400, 613))
async def test_kept_answers_go_after_five_minutes_wherever_in_the_hour_they_were_made(make_cell, second):
    cell = await make_cell()
    await cell.clock.advance(second)
    made_at = cell.clock.now()
    await cell.put(*(Effect(key=f"k{number}", answer=b"{}", made_at=made_at) for number in range(95)))
    await cell.clock.advance(299)
    assert len(await cell.all(EFFECTS)) == 95
    await cell.clock.advance(100)
    assert await cell.all(EFFECTS) == []
