"""Which instance an agent's connection is for, and how it ends with its account."""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec
import pytest
from unit.dispatcher.cell import INSTANCE_ARN, instance

from homeport.dispatcher import liveness
from homeport.dispatcher.hub import instance_key
from homeport.model.account import Account
from homeport.store.tables import ACCOUNTS
from homeport.testing.records import ACCOUNT, NOW

INSTANCE = f"arn:aws:ecs:us-east-1:{ACCOUNT}:container-instance/prod/0123"
OTHERS = INSTANCE.replace(ACCOUNT, "210987654321")


@pytest.mark.parametrize("cluster", ["", "prod", f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/prod"])
def test_an_instance_of_the_caller_s_account_is_found_by_its_arn(cluster):
    assert instance_key(cluster, INSTANCE, ACCOUNT) == f"{ACCOUNT}/prod/0123"


@pytest.mark.parametrize(
    ("cluster", "instance", "kind"),
    [
        ("prod", OTHERS, liveness.ACCESS_DENIED),
        ("", OTHERS, liveness.ACCESS_DENIED),
        ("test", INSTANCE, liveness.INVALID_CLUSTER),
        ("prod", "", liveness.BAD_REQUEST),
        ("prod", f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/prod/0123", liveness.BAD_REQUEST),
        ("prod", f"arn:aws:ecs:us-east-1:{ACCOUNT}:container-instance/0123", liveness.BAD_REQUEST),
    ],
)
def test_what_is_another_account_s_or_does_not_fit_is_refused(cluster, instance, kind):
    with pytest.raises(liveness.SessionRefusedError) as raised:
        instance_key(cluster, instance, ACCOUNT)
    assert raised.value.exception == kind


@pytest.mark.parametrize("seen", ["when it is closed", "at the next connection"])
async def test_no_agent_of_a_closed_account_stays_connected(cell, seen):
    async def account(number: str, status: str) -> None:
        await cell.store.update(lambda tx: tx.put(ACCOUNTS, Account(id=number, name=number, created_at=NOW, status=status)), cause="test")
        await cell.clock.settle()

    agent = cell.agent()
    if seen == "when it is closed":
        await agent.connect()
        await account("210987654321", "SUSPENDED")
        await account(ACCOUNT, "ACTIVE")
        assert cell.dispatcher.connected, "another account's end is none of its"
        await account(ACCOUNT, "SUSPENDED")
    else:  # its handshake was good before the account was closed
        await account(ACCOUNT, "SUSPENDED")
        await agent.connect()
        await cell.clock.settle()
    assert cell.dispatcher.connected == frozenset()
    await account(ACCOUNT, "ACTIVE")
    again = cell.agent()
    await again.connect()
    await cell.clock.settle()
    assert cell.dispatcher.connected


async def test_agents_of_other_accounts_stay_connected(cell):
    def verify(method, path, query, headers, origin):
        account = parse_qs(query.decode())["containerInstanceArn"][0].split(":")[4]
        return account, f"arn:aws:iam::{account}:root"

    cell.dispatcher._verify = verify
    theirs = msgspec.structs.replace(instance(), account="210987654321")
    await cell.put(theirs)
    for each in (INSTANCE_ARN, INSTANCE_ARN.replace(ACCOUNT, "210987654321")):
        await cell.agent(each).connect()
        await cell.clock.settle()
    assert cell.dispatcher.connected == {instance().key, theirs.key}
    gone = Account(id=ACCOUNT, name="red", created_at=NOW, status="SUSPENDED")
    await cell.store.update(lambda tx: tx.put(ACCOUNTS, gone), cause="test")
    await cell.clock.settle()
    assert cell.dispatcher.connected == {theirs.key}
