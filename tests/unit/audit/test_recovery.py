"""Changes whose record a crash took are told from the journal, each once, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.audit.record import RECOVERED, decode
from homeport.auditing import Place, open_audit
from homeport.config import Settings
from homeport.ids import Ids
from homeport.model.iam.access_key import AccessKey
from homeport.model.installation import Installation as Record
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, TABLES
from homeport.virtual_clock import VirtualClock

LIFE, NEXT = "01234567-89ab-4cde-8f01-", "11111111-89ab-4cde-8f01-"
ROOT = "arn:aws:iam::123456789012:root"


@pytest.fixture
async def installation(tmp_path):
    clock = VirtualClock()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)
    yield Installation(tmp_path, store, clock)
    await store.close()


class Minted(Ids):
    """Mints one life."""

    def __init__(self, life: str) -> None:
        super().__init__("audit")
        self._life = life

    def uuid(self) -> str:
        return f"{self._life}000000000000"


class Installation:
    def __init__(self, data_dir: Any, store: Store, clock: VirtualClock) -> None:
        self.data_dir, self.store, self.clock = data_dir, store, clock

    async def open(self, life: str) -> Any:
        made = Record(id="0123456789abcdef", account="123456789012", region="us-east-1", created_at=1.0)
        place = Place(self.data_dir, "server", made)
        return await open_audit(place, self.store.journal, clock=self.clock, settings=Settings(), ids=Minted(life))

    async def change(self, request_id: str, *keys: str, operation: str = "CreateAccessKey") -> None:
        def write(tx: Any) -> None:
            for key in keys:
                tx.put(ACCESS_KEYS, AccessKey(id=key, secret="secret", account="123456789012", principal_arn=ROOT, created_at=1.0))

        await self.store.update(write, cause=f"{operation} {request_id} {ROOT}")

    def records(self) -> list[Any]:
        return [decode(line) for path in sorted((self.data_dir / "audit").glob("0*.jsonl")) for line in path.read_bytes().splitlines()]

    def recovered(self) -> list[Any]:
        return [record for record in self.records() if record.kind == RECOVERED]


async def test_a_change_without_its_record_is_told_after_a_crash(installation):
    audit = await installation.open(LIFE)
    audit.log.append("call", request_id=f"{LIFE}000000000001", operation="CreateAccessKey")
    await installation.change(f"{LIFE}000000000001", "known")
    await installation.change(f"{LIFE}000000000002", "lost", "lost as well")
    await installation.change(f"{LIFE}000000000002", "of the same call")
    await installation.change("22222222-89ab-4cde-8f01-000000000001", "of another server")
    await installation.store.update(lambda tx: tx.delete(ACCESS_KEYS, "known"), cause="controller/retention default")
    await audit.log.durable()
    await crash(audit)
    again = await installation.open(NEXT)
    await again.close()
    (record,) = installation.recovered()
    assert (record.service, record.operation, record.account, record.principal) == ("iam", "CreateAccessKey", "123456789012", ROOT)
    assert record.request_id == f"{LIFE}000000000002"
    assert record.facts["records"] == [f"create access_keys {key}" for key in ("lost", "lost as well", "of the same call")]
    assert record.facts["instant"] < record.instant + 1
    third = await installation.open("33333333-89ab-4cde-8f01-")
    await third.close()
    assert len(installation.recovered()) == 1, "not again at the next start"


async def test_after_an_orderly_end_nothing_is_looked_for(installation):
    audit = await installation.open(LIFE)
    await installation.change(f"{LIFE}000000000001", "a")
    await audit.close()
    await (await installation.open(NEXT)).close()
    assert installation.recovered() == []
    assert [record.kind for record in installation.records()] == ["segment", "ended", "segment", "ended"]


async def crash(audit: Any) -> None:
    audit._keeping.cancel()
    await audit.log.close()
