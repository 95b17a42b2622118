"""Hosts that join: one use of a token, credentials of their own, for their own instance, until they are revoked. By the front door as it is built."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, REGION, ROOT, Ecs
from tests.unit.api.ecs.test_task import define

from homeport.api.authority import Authority
from homeport.api.call import Context
from homeport.api.ecs import permission
from homeport.api.ecs.operations import OPERATIONS
from homeport.api.ecs.reports import StateReports
from homeport.api.homeport import permission as homeport_permission
from homeport.api.homeport.operations import OPERATIONS as OWN
from homeport.api.iam import permission as iam_permission
from homeport.api.iam.operations import OPERATIONS as IAM
from homeport.api.permission import Guard, SessionVerifier
from homeport.api.protocol import model
from homeport.api.server import Application
from homeport.api.signature import AccessKeys, Verifier
from homeport.config import Settings
from homeport.dispatcher.hub import Dispatcher
from homeport.iam import join_token, proof, sigv4
from homeport.ids import Ids
from homeport.model.account import Account
from homeport.model.cause import parse_cause
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.policy import InlinePolicy
from homeport.model.iam.role import Role
from homeport.model.iam.session_key import SessionKey
from homeport.model.iam.user import User
from homeport.placement.index import PlacementIndex
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS, INSTANCE_IDENTITIES, JOIN_TOKENS, ROLES, SESSION_KEYS, TABLES, TASKS, USERS
from homeport.testing.agent import RefusedError, Socket
from homeport.virtual_clock import VirtualClock

RESOURCES = [{"name": "CPU", "integerValue": 2048}, {"name": "MEMORY", "integerValue": 4000}]
INSTALLATION = "0123456789abcdef"
BOB = f"arn:aws:iam::{ACCOUNT}:user/bob"


class CallError(Exception):
    """An error of the API."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Site:
    """A control plane in this process: front door, policies, dispatcher."""

    def __init__(self, store: Store, keys: AccessKeys, authority: Authority, placement: PlacementIndex, clock: VirtualClock) -> None:
        self.clock, self.settings = clock, Settings(instance_session_seconds=60.0)
        self.context = Context(
            store=store,
            placement=placement,
            clock=clock,
            ids=Ids("join"),
            settings=self.settings,
            region=REGION,
            installation_id=INSTALLATION,
            endpoint="http://127.0.0.1:8470/",
        )
        guard = Guard(authority, {"ecs": permission.asks, "homeport": homeport_permission.asks, "iam": iam_permission.asks})
        verifier = Verifier(keys, clock=clock, settings=self.settings, region=REGION)
        sessions = SessionVerifier(verifier, guard, region=REGION)
        self.dispatcher = Dispatcher(store=store, clock=clock, ids=Ids(1), settings=self.settings, region=REGION, verify=sessions.verify)
        self.dispatcher.offer_reports(StateReports(self.context).take)
        self.application = Application(
            self.context,
            {"ecs": OPERATIONS, "homeport": OWN, "iam": IAM},
            verifier=verifier,
            guard=guard,
            websockets={"/acs/ws": self.dispatcher.acs},
        )
        self.ecs = Ecs(self.context)

    async def call(self, operation: str, *, credentials: dict[str, str] | None = None, **members: Any) -> dict[str, Any]:
        """The answer of an operation of ours or of ECS. Without credentials the call is not signed. Raises CallError."""
        service = "homeport" if operation in OWN else "ecs"
        body = msgspec.json.encode(members)
        target = f"{model.load(service).target_prefix}.{operation}".encode()
        headers = {b"host": b"h", b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": target}
        if credentials is not None:
            headers |= self._token(credentials)
            request = sigv4.Request("POST", b"/", b"", headers, hashlib.sha256(body).hexdigest())
            headers |= self._signed(request, credentials, service)
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": list(headers.items())}
        await self.application({**scope, "client": ("100.64.0.7", 4000), "scheme": "http"}, receive, send)
        answer: dict[str, Any] = msgspec.json.decode(sent[1]["body"])
        if sent[0]["status"] != 200:
            raise CallError(answer["__type"], answer["message"])
        return answer

    async def root(self, operation: str, **members: Any) -> dict[str, Any]:
        return await self.call(operation, credentials={"accessKeyId": "AKROOT", "secretAccessKey": "secret"}, **members)

    async def token(self, **members: Any) -> str:
        return str((await self.root("CreateJoinToken", **members))["token"])

    async def socket(self, credentials: dict[str, str], path: str, query: dict[str, str]) -> Socket:
        """An open websocket. Raises RefusedError."""
        text = urlencode(query)
        headers = {b"host": b"h", **self._token(credentials)}
        headers |= self._signed(sigv4.Request("GET", path.encode(), text.encode(), headers, sigv4.EMPTY_BODY_SHA256), credentials, "ecs")
        made = Socket(self.dispatcher.acs if path == "/acs/ws" else self.dispatcher.tcs, path, text, list(headers.items()))
        await made.open()
        return made

    @staticmethod
    def _token(credentials: dict[str, str]) -> dict[bytes, bytes]:
        token = credentials.get("sessionToken")
        return {b"x-amz-security-token": token.encode()} if token else {}

    def _signed(self, request: sigv4.Request, credentials: dict[str, str], service: str) -> dict[bytes, bytes]:
        keys = sigv4.Credentials(credentials["accessKeyId"], credentials["secretAccessKey"], REGION, service)
        return {name.lower().encode(): value.encode() for name, value in sigv4.sign(request, keys, self.clock.now()).items()}


class Host:
    """A machine with a key of its own."""

    def __init__(self, site: Site) -> None:
        self.site, self.key = site, proof.new_key()
        self.credentials: dict[str, str] = {}
        self.id = self.arn = ""

    async def join(self, token: str, **changes: Any) -> dict[str, Any]:
        parts = join_token.read(token)
        request = self.proof(proof.JOIN, parts.id if parts else "none", changes.pop("instant", None))
        public = base64.b64encode(proof.public_of(self.key)).decode()
        return self.keep(await self.site.call("Join", **{"token": token, "publicKey": public, **request, **changes}))

    async def renew(self, **changes: Any) -> dict[str, Any]:
        request = self.proof(proof.RENEW, self.id, changes.pop("instant", None))
        return self.keep(await self.site.call("RenewInstanceCredentials", **{"identityId": self.id, **request, **changes}))

    def proof(self, purpose: str, subject: str, instant: float | None) -> dict[str, Any]:
        instant_ms = int((self.site.clock.now() if instant is None else instant) * 1000)
        text = proof.text(purpose, installation=INSTALLATION, subject=subject, instant_ms=instant_ms)
        return {"instantMs": instant_ms, "proof": base64.b64encode(proof.made(self.key, text)).decode()}

    def keep(self, answer: dict[str, Any]) -> dict[str, Any]:
        self.id, self.credentials = answer["identityId"], answer["credentials"]
        return answer

    async def call(self, operation: str, **members: Any) -> dict[str, Any]:
        return await self.site.call(operation, credentials=self.credentials, **members)

    async def register(self, **members: Any) -> str:
        answer = await self.call("RegisterContainerInstance", totalResources=RESOURCES, **members)
        self.arn = answer["containerInstance"]["containerInstanceArn"]
        return self.arn

    async def control(self, arn: str = "", **more: str) -> Socket:
        return await self.site.socket(self.credentials, "/acs/ws", {"clusterArn": "default", "containerInstanceArn": arn or self.arn, **more})

    async def telemetry(self, arn: str = "") -> Socket:
        return await self.site.socket(self.credentials, "/tcs/ws", {"cluster": "default", "containerInstance": arn or self.arn})


@pytest.fixture
async def site():
    clock, keys, authority, placement = VirtualClock(), AccessKeys(), Authority(), PlacementIndex()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(keys, authority, placement))
    made = Site(store, keys, authority, placement, clock)
    await made.ecs.put(
        (ACCESS_KEYS, AccessKey(id="AKROOT", secret="secret", account=ACCOUNT, principal_arn=ROOT, created_at=1.0)),
        (SESSION_KEYS, SessionKey(id="abcdefgh", secret="s", created_at=1.0)),
    )
    await made.dispatcher.start()
    await clock.settle()
    yield made
    await made.dispatcher.close()
    await store.close()


@pytest.fixture
async def host(site):
    made = Host(site)
    await made.join(await site.token())
    await made.register()
    return made


def key_of(arn: str) -> str:
    return f"{ACCOUNT}/default/{arn[-32:]}"


async def refused(code: str, call: Any) -> str:
    with pytest.raises(CallError) as raised:
        await call
    assert raised.value.code == code, raised.value
    return raised.value.message


def denied(call: Any) -> Any:
    return refused("AccessDeniedException", call)


async def test_a_host_joins_with_a_token_and_registers_with_its_own_credentials(site):
    told = await site.root("CreateJoinToken", expiresInSeconds=120)
    host = Host(site)
    answer = await host.join(told["token"])
    assert answer["roleArn"] == f"arn:aws:iam::{ACCOUNT}:role/ecsInstanceRole"
    assert answer["credentials"]["expiresAt"] - answer["credentials"]["issuedAt"] == 60
    assert (answer["cluster"], answer["installationId"], answer["region"], answer["accountId"]) == ("default", INSTALLATION, REGION, ACCOUNT)
    own = await host.call("DescribeInstanceIdentity")
    assert "containerInstanceArn" not in own["instanceIdentity"]
    arn = await host.register(tags=[{"key": "rack", "value": "7"}])
    described = (await host.call("DescribeInstanceIdentity", identityId=host.id))["instanceIdentity"]
    assert (described["containerInstanceArn"], described["status"], described["roleExists"]) == (arn, "ACTIVE", True)
    assert (await host.call("DiscoverPollEndpoint", containerInstance=arn))["endpoint"]
    (shown,) = (await site.root("ListJoinTokens"))["joinTokens"]
    assert (shown["status"], shown["usesLeft"], shown["createdBy"]) == ("USED", 0, ROOT)
    assert told["token"].split(".")[2] not in repr(await site.context.store.view(lambda reader: list(reader.scan(JOIN_TOKENS))))
    story = await site.context.store.journal.story(INSTANCE_IDENTITIES, host.id)
    assert parse_cause(story[0].cause).principal_arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/ecsInstanceRole/{host.id}"


async def test_a_token_is_good_once_and_the_second_who_brings_it_is_refused_and_noted(site, caplog):
    token = await site.token()
    await Host(site).join(token)
    revision = site.context.store.revision
    with caplog.at_level(logging.WARNING):
        assert "used up" in await denied(Host(site).join(token))
    assert token.split(".")[1] in caplog.text
    assert token.split(".")[2] not in caplog.text
    assert site.context.store.revision == revision


async def test_of_two_who_race_one_gets_in(site):
    token = await site.token()
    answers = await asyncio.gather(*(Host(site).join(token) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert all(isinstance(answer, dict) or getattr(answer, "code", "") == "AccessDeniedException" for answer in answers)


async def test_a_token_for_several_lets_in_so_many(site):
    token = await site.token(uses=2)
    for _ in range(2):
        await Host(site).join(token)
    assert "used up" in await denied(Host(site).join(token))


async def test_an_expired_a_deleted_and_an_altered_token_are_refused(site):
    token = await site.token(expiresInSeconds=60)
    await site.clock.advance(61)
    assert "expired" in await denied(Host(site).join(token))
    (shown,) = (await site.root("ListJoinTokens"))["joinTokens"]
    assert shown["status"] == "EXPIRED"
    good = await site.token()
    assert await denied(Host(site).join(good[:-1] + ("0" if good[-1] != "0" else "1"))) == "The join token is not valid."
    assert await denied(Host(site).join("hpj1.aaaaaaaaaaaa." + good.split(".")[2])) == "The join token is not valid."
    assert await denied(Host(site).join("nonsense")) == "The join token is not valid."
    await site.root("DeleteJoinToken", joinTokenId=good.split(".")[1])
    assert await denied(Host(site).join(good)) == "The join token is not valid."
    await refused("ResourceNotFoundException", site.root("DeleteJoinToken", joinTokenId=good.split(".")[1]))


async def test_a_host_whose_answer_was_lost_joins_again_with_the_same_key_and_is_the_same(site):
    token, host = await site.token(), Host(site)
    first = (await host.join(token))["identityId"]
    await site.clock.advance(1)
    assert (await host.join(token))["identityId"] == first
    assert len(await site.context.store.view(lambda reader: list(reader.scan(INSTANCE_IDENTITIES)))) == 1
    assert await host.register()


async def test_a_join_or_renewal_that_was_overheard_is_good_for_nothing(site, host):
    token, other = await site.token(), Host(site)
    now = site.clock.now()
    await other.join(token, instant=now)
    assert "not newer" in await denied(other.join(token, instant=now))
    # Who overheard the token has another key, and cannot prove to have that of the host.
    thief = Host(site)
    public = base64.b64encode(proof.public_of(other.key)).decode()
    assert "proof" in await denied(thief.join(token, publicKey=public, instant=now + 1))
    await host.renew(instant=now + 2)
    for instant in (now + 2, now + 1.5):
        assert "not newer" in await denied(host.renew(instant=instant))
    thief.id = host.id
    assert "proof" in await denied(thief.renew(instant=now + 3))
    assert "clock" in await denied(host.renew(instant=now + 301))
    assert "clock" in await denied(host.renew(instant=now - 301))
    await refused("InvalidParameterException", host.renew(proof="AAAA"))
    await refused("InvalidParameterException", other.join(token, publicKey="%%%"))


async def test_credentials_end_and_are_renewed_by_the_hosts_key_long_after(site, host):
    old = dict(host.credentials)
    await site.clock.advance(61)
    await refused("ExpiredTokenException", host.call("DiscoverPollEndpoint"))
    await site.clock.advance(600)
    await host.renew()
    assert host.credentials["secretAccessKey"] != old["secretAccessKey"]
    assert await host.register(containerInstanceArn=host.arn) == host.arn


async def test_a_host_is_one_instance_whatever_it_says(site, host):
    arn = host.arn
    assert await host.register() == arn
    other = Host(site)
    await other.join(await site.token())
    theirs = await other.register()
    assert theirs != host.arn
    foreign = f"arn:aws:ecs:{REGION}:999999999999:container-instance/default/{host.arn[-32:]}"
    for reference in (theirs, theirs[-32:], f"{ARN}container-instance/{theirs[-32:]}", foreign):
        assert "own only" in await denied(host.call("RegisterContainerInstance", totalResources=RESOURCES, containerInstanceArn=reference))
    await site.ecs("CreateCluster", clusterName="prod")
    assert "no other" in await denied(host.call("RegisterContainerInstance", totalResources=RESOURCES, cluster="prod"))


async def test_a_host_registers_anew_after_its_instance_was_deregistered_in_peace(site, host):
    before = host.arn
    await site.root("DeregisterContainerInstance", containerInstance=before)
    assert await host.register() != before
    assert "own only" in await denied(host.call("DiscoverPollEndpoint", containerInstance=before))


async def grant(site, *actions):
    """Let the role do this too: what the policies allow is not what holds a host back from others' instances."""

    def write(tx: Any) -> None:
        role = tx.get(ROLES, f"{ACCOUNT}/ecsinstancerole")
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})
        tx.put(ROLES, msgspec.structs.replace(role, inline=(*role.inline, InlinePolicy(name="more", document=document))))

    await site.context.store.update(write, cause="test")


async def test_a_host_touches_its_own_instance_only_even_where_its_role_may_do_everything(site, host):
    await grant(site, "*")
    other = Host(site)
    await other.join(await site.token())
    theirs = await other.register()
    for operation, members in (
        ("DeregisterContainerInstance", {"containerInstance": theirs, "force": True}),
        ("UpdateContainerInstancesState", {"containerInstances": [host.arn, theirs], "status": "DRAINING"}),
        ("DiscoverPollEndpoint", {"containerInstance": theirs}),
    ):
        assert "own only" in await denied(host.call(operation, **members))
    for open_one in (host.control, host.telemetry):
        with pytest.raises(RefusedError) as raised:
            await open_one(theirs)
        assert raised.value.name == "AccessDeniedException"
        assert "is not that of host" in raised.value.message
    drained = await host.call("UpdateContainerInstancesState", containerInstances=[host.arn], status="DRAINING")
    assert [each["status"] for each in drained["containerInstances"]] == ["DRAINING"]
    assert (await host.call("DeregisterContainerInstance", containerInstance=host.arn))["containerInstance"]["status"] == "INACTIVE"


async def test_a_host_reports_tasks_of_its_own_instance_only(site, host):
    other = Host(site)
    await other.join(await site.token())
    await other.register()
    sockets = [await host.control(), await other.control()]
    await define(site.ecs, memory=6)
    started = await site.root("StartTask", taskDefinition="web", containerInstances=[host.arn])
    task = started["tasks"][0]["taskArn"]
    for operation, members in (
        ("SubmitTaskStateChange", {"task": task, "status": "STOPPED"}),
        ("SubmitContainerStateChange", {"task": task, "containerName": "web", "status": "STOPPED"}),
    ):
        revision = site.context.store.revision
        assert "not found" in await refused("InvalidParameterException", other.call(operation, **members))
        assert site.context.store.revision == revision
    await host.call("SubmitTaskStateChange", task=task, status="RUNNING")
    assert (await site.root("DescribeTasks", tasks=[task]))["tasks"][0]["lastStatus"] == "RUNNING"
    newcomer = Host(site)
    await newcomer.join(await site.token())
    assert "not found" in await refused("InvalidParameterException", newcomer.call("SubmitTaskStateChange", task=task, status="STOPPED"))
    for socket in sockets:
        socket.close()


async def test_the_role_of_hosts_is_good_for_nothing_but_an_agents_work(site, host):
    for operation, members in (
        ("ListTasks", {}),
        ("DescribeContainerInstances", {"containerInstances": [host.arn]}),
        ("CreateCluster", {"clusterName": "mine"}),
        ("DeregisterContainerInstance", {"containerInstance": host.arn}),
        ("TagResource", {"resourceArn": host.arn, "tags": [{"key": "a", "value": "b"}]}),
        ("CreateJoinToken", {}),
        ("ListInstanceIdentities", {}),
        ("RevokeInstanceIdentity", {"identityId": host.id}),
    ):
        await denied(host.call(operation, **members))
    other = Host(site)
    await other.join(await site.token())
    await denied(host.call("DescribeInstanceIdentity", identityId=other.id))


@pytest.mark.parametrize("how", ["revoke", "force"])
async def test_a_revoked_host_may_nothing_from_now_on_and_loses_its_connections(site, host, how):
    other = Host(site)
    await other.join(await site.token())
    await other.register()
    control, telemetry, theirs = await host.control(), await host.telemetry(), await other.control()
    await site.socket({"accessKeyId": "AKROOT", "secretAccessKey": "secret"}, "/tcs/ws", {"cluster": "default", "containerInstance": other.arn})
    await site.clock.settle()
    if how == "revoke":
        await site.root("RevokeInstanceIdentity", identityId=host.id)
    else:
        await site.root("DeregisterContainerInstance", containerInstance=host.arn, force=True)
    for socket in (control, telemetry):
        while await socket.receive() is not None:
            pass
        assert socket.close_code == 1001
    await site.clock.settle()
    assert site.dispatcher.connected == {key_of(other.arn)}
    assert list(site.dispatcher._telemetry) == [key_of(other.arn)]
    for operation, members in (
        ("DiscoverPollEndpoint", {}),
        ("RegisterContainerInstance", {"totalResources": RESOURCES}),
        ("DescribeInstanceIdentity", {}),
        ("SubmitTaskStateChange", {"task": "0" * 32, "status": "RUNNING"}),
    ):
        assert "revoked" in await denied(host.call(operation, **members))
    with pytest.raises(RefusedError, match="revoked"):
        await host.control()
    await site.clock.advance(1)
    assert "revoked" in await denied(host.renew())
    await refused("ResourceNotFoundException", site.root("RevokeInstanceIdentity", identityId=host.id))
    theirs.close()


async def test_another_s_connection_for_the_same_instance_stays_when_its_host_is_revoked(site, host):
    keys = {"accessKeyId": "AKROOT", "secretAccessKey": "secret"}
    socket = await site.socket(keys, "/acs/ws", {"clusterArn": "default", "containerInstanceArn": host.arn})
    await site.root("RevokeInstanceIdentity", identityId=host.id)
    await site.clock.settle()
    assert site.dispatcher.connected == {key_of(host.arn)}
    socket.close()


async def test_a_host_that_is_revoked_right_after_its_session_was_written_loses_the_connection(site, host):
    store = site.context.store

    async def revoked_right_after(command: Any) -> Any:
        opened = await store.update(command.apply, cause="test")
        await store.update(lambda tx: tx.delete(INSTANCE_IDENTITIES, host.id), cause="test")
        await site.clock.settle()
        return opened

    late = Dispatcher(
        store=store, clock=site.clock, ids=Ids(2), settings=site.settings, region=REGION, verify=site.dispatcher._verify, commit=revoked_right_after
    )
    await late.start()
    first, site.dispatcher = site.dispatcher, late
    socket = await host.control()
    while await socket.receive() is not None:
        pass
    assert socket.close_code == 1001
    site.dispatcher = first
    await late.close()


async def test_a_host_that_is_revoked_while_its_connection_opens_loses_it(site, host):
    async def revoke_at_once() -> Socket:
        opening = asyncio.create_task(host.control())
        await asyncio.sleep(0)
        await site.root("RevokeInstanceIdentity", identityId=host.id)
        return await opening

    try:
        socket = await revoke_at_once()
    except RefusedError:
        return
    while await socket.receive() is not None:
        pass
    assert socket.close_code == 1001


async def test_a_host_whose_role_was_deleted_or_made_anew_renews_nothing(site, host):
    def again(tx: Any) -> None:
        role = tx.get(ROLES, f"{ACCOUNT}/ecsinstancerole")
        tx.put(ROLES, msgspec.structs.replace(role, id="AROAANOTHER"))

    token = await site.token()
    await site.context.store.update(again, cause="test")
    await site.clock.advance(1)
    assert "was deleted" in await denied(host.renew())
    await denied(host.call("DiscoverPollEndpoint"))
    assert "was deleted" in await denied(Host(site).join(token))
    assert not (await site.root("DescribeInstanceIdentity", identityId=host.id))["instanceIdentity"]["roleExists"]


async def test_hosts_of_a_closed_account_neither_join_nor_renew(site, host):
    token = await site.token()
    await site.ecs.put((ACCOUNTS, Account(id=ACCOUNT, name="team", created_at=1.0, status="SUSPENDED")))
    await site.clock.advance(1)
    assert "is closed" in await denied(host.renew())
    assert "is closed" in await denied(Host(site).join(token))


async def test_a_token_for_an_instance_hands_it_to_a_new_identity_and_ends_the_old_one(site, host):
    token = await site.token(containerInstance=host.arn)
    heir = Host(site)
    await heir.join(token)
    assert await heir.register(containerInstanceArn=host.arn) == host.arn
    assert "revoked" in await denied(host.call("DiscoverPollEndpoint"))
    await refused("InvalidParameterException", site.token(containerInstance="0" * 32))
    await refused("InvalidParameterException", site.token(containerInstance=host.arn, uses=2))


async def test_who_makes_a_token_must_be_allowed_to_and_to_hand_its_role_on(site):
    keys = {"accessKeyId": "AKBOB", "secretAccessKey": "secret"}

    async def allow(*actions: str) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})
        user = User(account=ACCOUNT, name="bob", id="AIDABOB", created_at=1.0, inline=(InlinePolicy(name="p", document=document),))
        await site.ecs.put((USERS, user))

    await site.ecs.put((ACCESS_KEYS, AccessKey(id="AKBOB", secret="secret", account=ACCOUNT, principal_arn=BOB, created_at=1.0)))
    await allow("iam:PassRole")
    assert "homeport:CreateJoinToken" in await denied(site.call("CreateJoinToken", credentials=keys))
    await allow("homeport:CreateJoinToken")
    assert "iam:PassRole" in await denied(site.call("CreateJoinToken", credentials=keys))
    await allow("iam:PassRole", "homeport:CreateJoinToken")
    assert (await site.call("CreateJoinToken", credentials=keys))["token"]


async def test_a_role_for_hosts_must_be_there_and_trust_them(site):
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    role = Role(account=ACCOUNT, name="tasks", id="AROATASKS", created_at=1.0, trust=json.dumps(trust))
    await site.ecs.put((ROLES, role))
    assert "does not trust" in await refused("InvalidParameterException", site.token(role="tasks"))
    assert "no role" in await refused("InvalidParameterException", site.token(role="nobody"))
    await refused("ClusterNotFoundException", site.token(cluster="nowhere"))
    await site.ecs.put((ROLES, msgspec.structs.replace(role, trust=json.dumps(trust).replace("ecs-tasks", "ec2"))))
    host = Host(site)
    assert (await host.join(await site.token(role=f"arn:aws:iam::{ACCOUNT}:role/tasks")))["roleArn"].endswith("role/tasks")
    await denied(host.register())


async def test_a_bare_host_is_nobody_to_every_other_operation(site):
    for operation in ("CreateJoinToken", "DescribeInstanceIdentity", "ListClusters"):
        await refused("MissingAuthenticationTokenException", site.call(operation))


async def test_reports_of_hosts_name_their_role_so_that_many_become_one_transaction(site, host):
    socket = await host.control(stateReports="1")
    await define(site.ecs, memory=6)
    task = (await site.root("StartTask", taskDefinition="web", containerInstances=[host.arn]))["tasks"][0]["taskArn"]
    report = {
        "type": "StateReportsRequest",
        "message": {"reports": [{"number": 1, "operation": "SubmitTaskStateChange", "request": {"task": task, "status": "RUNNING"}}]},
    }
    socket.send(json.dumps(report))
    for _ in range(200):
        if (await site.root("DescribeTasks", tasks=[task]))["tasks"][0]["lastStatus"] == "RUNNING":
            break
        await site.clock.settle()
    story = await site.context.store.journal.story(TASKS, f"{ACCOUNT}/default/{task[-32:]}")
    assert parse_cause(story[-1].cause).principal_arn == f"arn:aws:iam::{ACCOUNT}:role/ecsInstanceRole"
    socket.close()


def test_the_text_of_a_token_has_one_form():
    parts = join_token.Parts("abcdefghij12", "0" * 64, "")
    assert join_token.read(join_token.written(parts)) == parts
    pinned = parts._replace(ca_sha256="f" * 64)
    assert join_token.read(f" {join_token.written(pinned)}\n") == pinned
    for wrong in ("", "hpj2.abcdefghij12." + "0" * 64, "hpj1.abcdefghij12." + "0" * 63, "hpj1.ABCDEFGHIJ12." + "0" * 64):
        assert join_token.read(wrong) is None


def test_no_proof_holds_for_another_purpose_installation_subject_or_instant():
    key = proof.new_key()
    parts: dict[str, Any] = {"installation": "a", "subject": "b", "instant_ms": 1}
    made = proof.made(key, proof.text(proof.JOIN, **parts))
    public = proof.public_of(key)
    assert proof.holds(public, proof.text(proof.JOIN, **parts), made)
    assert not proof.holds(public, proof.text(proof.RENEW, **parts), made)
    for change in ({"installation": "c"}, {"subject": "c"}, {"instant_ms": 2}):
        assert not proof.holds(public, proof.text(proof.JOIN, **parts | change), made)
    assert not proof.holds(b"short", b"", made)
