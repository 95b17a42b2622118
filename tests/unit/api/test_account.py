"""Accounts: who may make, close and count them, what a new one has, and the quotas that one has of its own."""

from __future__ import annotations

import dataclasses
import json as plain_json
from typing import Any

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ROOT, Ecs

from homeport.api.accounts import Accounts
from homeport.api.call import Call
from homeport.api.homeport.operations import OPERATIONS
from homeport.api.iam.operations import OPERATIONS as IAM
from homeport.api.invocation import Invocation, invocation_of
from homeport.api.protocol import json, model
from homeport.api.signature import AccessKeys, Principal
from homeport.config import QUOTAS, Settings
from homeport.errors import (
    AccessDeniedError,
    AccountAlreadyClosedError,
    AccountNotFoundError,
    ClientError,
    ConstraintViolationError,
    DeleteConflictError,
    InvalidParameterError,
    SerializationError,
    UnrecognizedClientError,
)
from homeport.iam.session import Session, issue
from homeport.model.account import Account
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.session_key import SessionKey
from homeport.placement.index import PlacementIndex
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS, ROLES, TABLES
from homeport.testing.records import NOW

OTHER = "210987654321"


class House:
    """The operations of Homeport's own service, as any account calls them."""

    def __init__(self, context: Any) -> None:
        self.context = context

    async def __call__(self, operation: str, *, caller: str = ACCOUNT, invocation: Invocation | None = None, **members: Any) -> Any:
        request = json.decode(model.load("homeport").operations[operation], msgspec.json.encode(members))
        principal = f"arn:aws:iam::{caller}:root"
        call = Call(context=self.context, operation=operation, request_id="r", account=caller, principal_arn=principal, invocation=invocation)
        return msgspec.json.decode(json.encode(await OPERATIONS[operation](call, request)))

    async def made(self, name: str, **members: Any) -> str:
        return str((await self("CreateAccount", AccountName=name, **members))["CreateAccountStatus"]["AccountId"])

    async def get(self, table: Any, key: str) -> Any:
        return await self.context.store.view(lambda reader: reader.get(table, key))


@pytest.fixture
async def house(context):
    accounts = Accounts()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=context.clock, derived=(PlacementIndex(), accounts))
    await store.update(lambda tx: tx.put(ACCOUNTS, Account(id=ACCOUNT, name="management", created_at=NOW)), cause="test")
    yield House(dataclasses.replace(context, store=store, accounts=accounts))
    await store.close()


async def test_a_new_account_has_a_root_key_that_is_told_once_and_a_role_for_the_management_account(house):
    answer = await house("CreateAccount", AccountName="Team red", RoleName="Access")
    status, key = answer["CreateAccountStatus"], answer["AccessKey"]
    assert (status["State"], status["AccountName"], len(status["AccountId"])) == ("SUCCEEDED", "Team red", 12)
    stored = await house.get(ACCESS_KEYS, key["AccessKeyId"])
    assert (stored.account, stored.principal_arn) == (status["AccountId"], f"arn:aws:iam::{status['AccountId']}:root")
    assert stored.secret == key["SecretAccessKey"] and len(stored.secret) == 40
    role = await house.get(ROLES, f"{status['AccountId']}/access")
    assert role.attached == ("arn:aws:iam::aws:policy/AdministratorAccess",)
    assert plain_json.loads(role.trust)["Statement"][0]["Principal"] == {"AWS": ROOT}
    shown = (await house("DescribeAccount", AccountId=status["AccountId"]))["Account"]
    assert (shown["Name"], shown["Status"], shown["JoinedMethod"]) == ("Team red", "ACTIVE", "CREATED")
    assert shown["Arn"] == f"arn:aws:organizations::{ACCOUNT}:account/o-0123456789abcdef/{status['AccountId']}"
    assert key["SecretAccessKey"] not in plain_json.dumps([shown, await house("ListAccounts")])


async def test_names_and_ids_are_unique_and_well_formed(house):
    assert await house.made("red", AccountId=OTHER) == OTHER
    for members, error in (
        ({"AccountName": "RED"}, ClientError),
        ({"AccountName": "Management"}, ClientError),
        ({"AccountName": "blue", "AccountId": OTHER}, ClientError),
        ({"AccountName": "blue", "AccountId": ACCOUNT}, ClientError),
        ({"AccountName": "blue", "AccountId": "000000000000"}, InvalidParameterError),
        ({"AccountName": "blue", "AccountId": "12"}, ClientError),
        ({"AccountName": "blue", "RoleName": "no blanks"}, ClientError),
        ({"AccountName": "123456789013"}, InvalidParameterError),
        ({"AccountName": "a/b"}, InvalidParameterError),
        ({"AccountName": " red"}, InvalidParameterError),
        ({"AccountName": "x" * 51}, ClientError),
        ({}, ClientError),
        ({"AccountName": 1}, SerializationError),
    ):
        before = (await house("ListAccounts"))["Accounts"]
        with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is looked at
            await house("CreateAccount", **members)
        assert isinstance(raised.value, error) or raised.value.code == "InvalidParameterException", (members, raised.value)
        assert (await house("ListAccounts"))["Accounts"] == before


async def test_accounts_are_listed_by_page(house):
    ids = sorted([ACCOUNT, *[await house.made(f"team{number}") for number in range(4)]])
    found, token = [], {}
    while True:
        page = await house("ListAccounts", MaxResults=2, **token)
        found += [item["Id"] for item in page["Accounts"]]
        if "NextToken" not in page:
            break
        assert len(page["Accounts"]) == 2
        token = {"NextToken": page["NextToken"]}
    assert found == ids
    with pytest.raises(InvalidParameterError):
        await house("ListAccounts", NextToken="made up")


async def test_there_are_so_many_accounts_and_no_more(house):
    house.context = dataclasses.replace(house.context, settings=Settings(accounts_max=2))
    first = await house.made("first")
    await house("CloseAccount", AccountId=first)
    with pytest.raises(ConstraintViolationError, match="limit of 2 accounts. The setting accounts_max"):
        await house.made("second")


OPERATIONS_ON_OTHERS = {
    "CreateAccount": {"AccountName": "mine"},
    "DescribeAccount": {"AccountId": OTHER},
    "ListAccounts": {},
    "CloseAccount": {"AccountId": ACCOUNT},
    "ReopenAccount": {"AccountId": OTHER},
    "PutAccountQuota": {"AccountId": OTHER, "QuotaName": "clusters_max", "Value": 9},
    "DeleteAccountQuota": {"AccountId": OTHER, "QuotaName": "clusters_max"},
    "ListAccountQuotas": {"AccountId": ACCOUNT},
}


@pytest.mark.parametrize("operation", OPERATIONS_ON_OTHERS)
async def test_only_the_management_account_may(house, operation):
    await house.made("red", AccountId=OTHER)
    before = await house.context.store.view(lambda reader: list(reader.scan(ACCOUNTS)))
    with pytest.raises(AccessDeniedError):
        await house(operation, caller=OTHER, **OPERATIONS_ON_OTHERS[operation])
    assert await house.context.store.view(lambda reader: list(reader.scan(ACCOUNTS))) == before
    house.context = dataclasses.replace(house.context, management="")
    with pytest.raises(AccessDeniedError):
        await house(operation, **{**OPERATIONS_ON_OTHERS[operation], **({"AccountId": OTHER} if operation == "ListAccountQuotas" else {})})


def test_every_operation_on_accounts_is_in_that_list():
    assert set(OPERATIONS_ON_OTHERS) == {name for name in OPERATIONS if "Account" in name}


async def test_what_is_not_there_or_closed_or_the_management_account(house):
    other = await house.made("red")
    for operation in ("DescribeAccount", "CloseAccount", "ReopenAccount", "ListAccountQuotas"):
        with pytest.raises(AccountNotFoundError):
            await house(operation, AccountId="999999999999")
    with pytest.raises(ConstraintViolationError):
        await house("CloseAccount", AccountId=ACCOUNT)
    await house("CloseAccount", AccountId=other)
    shown = (await house("DescribeAccount", AccountId=other))["Account"]
    assert shown["Status"] == "SUSPENDED" and shown["ClosedTimestamp"] > 0
    with pytest.raises(AccountAlreadyClosedError):
        await house("CloseAccount", AccountId=other)
    for _ in range(2):
        await house("ReopenAccount", AccountId=other)
        shown = (await house("DescribeAccount", AccountId=other))["Account"]
        assert shown["Status"] == "ACTIVE" and "ClosedTimestamp" not in shown


async def test_the_same_call_sent_again_makes_one_account_and_tells_the_same_key(house):
    name = invocation_of("CreateAccount", Principal(ACCOUNT, ROOT, "AK"), {b"amz-sdk-invocation-id": b"one"}, b"{}")
    assert name
    answers = [await house("CreateAccount", AccountName="red", invocation=Invocation(name)) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len((await house("ListAccounts"))["Accounts"]) == 2
    for operation in ("CloseAccount", "ReopenAccount", "PutAccountQuota", "DeleteAccountQuota"):
        assert invocation_of(operation, Principal(ACCOUNT, ROOT, "AK"), {b"amz-sdk-invocation-id": b"one"}, b"{}")


# --- keys of a closed account ---


def test_neither_keys_nor_sessions_of_a_closed_account_are_known():
    keys = AccessKeys()
    active = Account(id=OTHER, name="red", created_at=NOW)
    closed = msgspec.structs.replace(active, status="SUSPENDED", closed_at=NOW)
    key = AccessKey(id="AK", secret="s", account=OTHER, principal_arn=f"arn:aws:iam::{OTHER}:root", created_at=1.0)
    session_key = SessionKey(id="abcd1234", secret="not-a-secret", created_at=NOW)
    session = Session(access_key_id="ASIA", account=OTHER, arn="a", source_arn="s", source_id="", issued_at=0, expires_at=9)
    token = issue(session, session_key.id, session_key.secret).token
    keys.change("access_keys", None, key)
    keys.change("session_keys", None, session_key)
    keys.change("accounts", None, active)
    assert keys.active("AK") is key and keys.session(token)[0].account == OTHER
    for before, after in ((active, closed), (None, closed)):
        keys.change("accounts", before, after)
        with pytest.raises(UnrecognizedClientError):
            keys.active("AK")
        with pytest.raises(UnrecognizedClientError):
            keys.session(token)
        keys.change("accounts", after, before or active)
        assert keys.active("AK") is key and keys.session(token)[0].account == OTHER


async def test_the_first_root_key_stays_in_the_management_account_only(house):
    operation, handler = model.load("iam").operations["DeleteAccessKey"], IAM["DeleteAccessKey"]
    answer = await house("CreateAccount", AccountName="red")
    other, key = answer["CreateAccountStatus"]["AccountId"], answer["AccessKey"]["AccessKeyId"]
    await house.context.store.update(
        lambda tx: tx.put(ACCESS_KEYS, AccessKey(id="AKFIRST0000000000000", secret="s", account=ACCOUNT, principal_arn=ROOT, created_at=1.0)),
        cause="test",
    )

    async def delete(account: str, key_id: str) -> None:
        call = Call(context=house.context, operation="DeleteAccessKey", request_id="r", account=account, principal_arn=f"arn:aws:iam::{account}:root")
        await handler(call, operation.decode(msgspec.json.encode({"AccessKeyId": key_id})))

    with pytest.raises(DeleteConflictError):
        await delete(ACCOUNT, "AKFIRST0000000000000")
    await delete(other, key)
    assert await house.get(ACCESS_KEYS, key) is None


# --- quotas of one account ---


async def test_an_account_s_own_quota_counts_for_it_alone_from_the_next_call_on(house):
    other = await house.made("red")
    answer = await house("PutAccountQuota", AccountId=other, QuotaName="clusters_max", Value=1)
    assert answer == {"Quota": {"QuotaName": "clusters_max", "Value": 1, "DefaultValue": 10_000}}
    mine, theirs = Ecs(house.context), Ecs(house.context, other, f"arn:aws:iam::{other}:root")
    await theirs("CreateCluster", clusterName="a")
    with pytest.raises(ClientError, match="limit of 1 clusters per account"):
        await theirs("CreateCluster", clusterName="b")
    for name in "abc":
        await mine("CreateCluster", clusterName=name)
    await house("PutAccountQuota", AccountId=other, QuotaName="clusters_max", Value=2)
    await theirs("CreateCluster", clusterName="b")
    await house("DeleteAccountQuota", AccountId=other, QuotaName="clusters_max")
    await theirs("CreateCluster", clusterName="c")
    assert (await house.get(ACCOUNTS, other)).quotas == ()


async def test_a_quota_may_be_above_the_installation_s_and_the_management_account_has_them_too(house):
    house.context = dataclasses.replace(house.context, settings=Settings(clusters_max=1))
    await house("PutAccountQuota", AccountId=ACCOUNT, QuotaName="clusters_max", Value=2)
    mine = Ecs(house.context)
    for name in "ab":
        await mine("CreateCluster", clusterName=name)
    with pytest.raises(ClientError, match="limit of 2"):
        await mine("CreateCluster", clusterName="c")


async def test_an_account_may_ask_for_its_own_quotas(house):
    other = await house.made("red")
    await house("PutAccountQuota", AccountId=other, QuotaName="tags_max", Value=7)
    for asked in ({"caller": other}, {"caller": other, "AccountId": other}, {"AccountId": other}):
        quotas = {item["QuotaName"]: item for item in (await house("ListAccountQuotas", **asked))["Quotas"]}
        assert list(quotas) == list(QUOTAS)
        assert quotas["tags_max"] == {"QuotaName": "tags_max", "Value": 7, "DefaultValue": 50}
        assert quotas["clusters_max"]["Value"] == quotas["clusters_max"]["DefaultValue"] == 10_000
    for name in ("accounts_max", "heartbeat_seconds", "nonsense"):
        for operation, more in (("PutAccountQuota", {"Value": 1}), ("DeleteAccountQuota", {})):
            with pytest.raises(InvalidParameterError, match="is no quota"):
                await house(operation, AccountId=other, QuotaName=name, **more)
    with pytest.raises(AccountNotFoundError):
        await house("PutAccountQuota", AccountId="999999999999", QuotaName="tags_max", Value=1)


def test_every_quota_is_a_setting_of_whole_numbers_and_every_such_setting_one():
    found = {name for name, value in msgspec.structs.asdict(Settings()).items() if name.endswith("_max") and isinstance(value, int)}
    ours = {"accounts_max", "body_bytes_max", "journal_bytes_max", "audit_bytes_max", "audit_segment_bytes_max", "audit_pending_bytes_max"}
    assert set(QUOTAS) == {*found, "task_definition_bytes_max"} - ours


def test_the_view_follows_in_both_directions_and_passes_over_what_is_no_quota():
    accounts, house = Accounts(), Settings()
    plain = Account(id=OTHER, name="red", created_at=NOW)
    own = msgspec.structs.replace(plain, quotas=(("clusters_max", 3), ("of_another_version_max", 4)))
    assert accounts.settings(OTHER, house) is house
    accounts.change("accounts", None, own)
    assert accounts.settings(OTHER, house).clusters_max == 3
    accounts.change("accounts", own, plain)
    assert accounts.settings(OTHER, house) is house
    accounts.change("accounts", plain, own)
    assert accounts.settings(OTHER, house).clusters_max == 3 and accounts.settings(ACCOUNT, house) is house
    accounts.change("accounts", own, None)
    assert accounts.settings(OTHER, house) is house
