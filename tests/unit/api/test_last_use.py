"""How often last uses are written, and of what; on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeport.api.last_use import LastUses, forget
from homeport.api.signature import Principal
from homeport.iam.session import Session
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.role import Role
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, LAST_USES, ROLES, TABLES
from homeport.virtual_clock import VirtualClock

ACCOUNT, SECONDS = "123456789012", 300.0
ANN = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AKIAANN")
SESSION = Session(
    access_key_id="ASIA",
    account=ACCOUNT,
    arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s",
    source_arn=f"arn:aws:iam::{ACCOUNT}:role/team/App",
    source_id="AROAAPP",
    issued_at=1,
    expires_at=2,
)


class Site:
    def __init__(self, store: Store, clock: VirtualClock) -> None:
        self.store, self.clock = store, clock
        self.uses = LastUses(store, clock, seconds=SECONDS, region="eu-central-1")

    async def put(self, *records: Any) -> None:
        await self.store.update(lambda tx: [tx.put(table, record) for table, record in records] and None, cause="test")

    async def stored(self, use_id: str) -> Any:
        return await self.store.view(lambda reader: reader.get(LAST_USES, use_id))


@pytest.fixture
async def site():
    clock = VirtualClock()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)
    made = Site(store, clock)
    role = Role(account=ACCOUNT, name="App", path="/team/", id="AROAAPP", created_at=1.0, trust="{}")
    await made.put((ACCESS_KEYS, AccessKey(id="AKIAANN", secret="s", account=ACCOUNT, principal_arn=ANN.arn, created_at=1.0)), (ROLES, role))
    running = asyncio.create_task(made.uses.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_a_key_in_constant_use_is_written_every_five_minutes(site):
    before = site.store.revision
    for _ in range(120):  # twenty minutes
        site.uses.note(ANN, "ecs", site.clock.now())
        await site.clock.advance(10)
    assert 4 <= site.store.revision - before <= 5
    assert site.clock.now() - (await site.stored("AKIAANN")).used_at <= SECONDS + 60


async def test_the_last_use_before_a_long_rest_is_written_too(site):
    site.uses.note(ANN, "ecs", site.clock.now())
    await site.clock.advance(70)
    site.uses.note(ANN, "iam", site.clock.now())
    last = site.clock.now()
    await site.clock.advance(SECONDS + 70)
    found = await site.stored("AKIAANN")
    assert (found.used_at, found.service) == (last, "iam")
    before = site.store.revision
    await site.clock.advance(3600)
    assert site.store.revision == before, "nobody called: nothing is written"


async def test_a_role_is_used_by_its_sessions_and_a_user_s_own_session_is_none(site):
    site.uses.note(Principal(ACCOUNT, SESSION.arn, "ASIA", SESSION), "ecs", site.clock.now())
    await site.clock.advance(70)
    assert (await site.stored("AROAAPP")).service == "ecs"
    assert await site.stored("ASIA") is None


async def test_nothing_is_written_of_what_is_gone(site):
    await site.store.update(lambda tx: tx.delete(ACCESS_KEYS, "AKIAANN"), cause="test")
    await site.store.update(lambda tx: tx.delete(ROLES, f"{ACCOUNT}/app"), cause="test")
    site.uses.note(ANN, "ecs", site.clock.now())
    site.uses.note(Principal(ACCOUNT, SESSION.arn, "ASIA", SESSION), "ecs", site.clock.now())
    before = site.store.revision
    await site.clock.advance(1000)
    assert site.store.revision == before


async def test_what_is_deleted_is_forgotten(site):
    site.uses.note(ANN, "ecs", site.clock.now())
    await site.clock.advance(70)
    await site.store.update(lambda tx: forget(tx, "AKIAANN"), cause="test")
    assert await site.stored("AKIAANN") is None


async def test_the_leader_writes_for_the_others(site):
    other = LastUses(site.store, site.clock, seconds=SECONDS, region="eu-central-1")
    sent: list[bytes] = []

    async def on_leader(attempt: Any, path: str, body: bytes, *, read: Any) -> Any:
        sent.append(body)
        return read(await site.uses.carry_out(body))

    other.through(on_leader)
    other.note(ANN, "sts", site.clock.now())
    await other.flush()
    assert len(sent) == 1
    assert (await site.stored("AKIAANN")).service == "sts"
    assert await site.store.view(lambda reader: site.uses.last(reader, "AKIAANN")) == (site.clock.now(), "sts", "eu-central-1")
