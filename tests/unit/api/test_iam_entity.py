"""What users, groups, roles and instance profiles have in common."""

from __future__ import annotations

import types

import pytest

from homeport.api.iam.entity import GROUP
from homeport.clock import SystemClock
from homeport.errors import EntityAlreadyExistsError, IamLimitExceededError
from homeport.model.iam.group import Group
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import GROUPS, TABLES

ACCOUNT = "111122223333"


async def test_a_full_account_may_rename_but_make_no_more():
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=SystemClock())
    full = GROUP._replace(quota=2)

    def change(tx):
        for name in ("ops", "dev"):
            tx.put(GROUPS, Group(account=ACCOUNT, name=name, id=f"AGPA{name}", created_at=1.0))
        with pytest.raises(IamLimitExceededError):
            full.require_new(tx, ACCOUNT, "more")
        before, after = full.rename(tx, ACCOUNT, types.SimpleNamespace(GroupName="OPS", NewGroupName="Operations", NewPath=None))
        assert (before.name, after.name, after.path, after.id) == ("ops", "Operations", "/", "AGPAops")
        return [group.name for group in tx.scan(GROUPS, f"{ACCOUNT}/")]

    assert await store.update(change, cause="test") == ["dev", "Operations"]

    def clash(tx):
        full.rename(tx, ACCOUNT, types.SimpleNamespace(GroupName="dev", NewGroupName="operations", NewPath="/x/"))

    with pytest.raises(EntityAlreadyExistsError):
        await store.update(clash, cause="test")
    assert await store.view(lambda reader: reader.get(GROUPS, f"{ACCOUNT}/dev").path) == "/"
    await store.close()
