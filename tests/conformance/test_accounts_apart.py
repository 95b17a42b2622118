"""No operation of any service tells one account anything of another, or changes anything of it.

Every operation that is built is called by the root and by an administrator of the account `STRANGER`, with the ARNs, names and ids of what the
account of `wire_world` has: once in an installation where all of that is there, once in one where it is not. The answers must be the same, so that
nothing can be learnt from them, not even that something is there; and what the other account has must stay as it was. What AWS's rules do tell is in
`TOLD`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlencode

import botocore.loaders
import botocore.model
import botocore.serialize
import msgspec
import pytest
from tests.conformance.test_wire_valid import furnished, requests
from tests.conformance.wire_cases import MODEL, SHAPES
from tests.conformance.wire_valid import NEVER, valid
from tests.conformance.wire_world import Front, World, furnish

import homeport.api
from homeport.api.accounts import Accounts
from homeport.api.authority import Authority
from homeport.api.call import Context
from homeport.api.permission import Guard
from homeport.api.protocol import model
from homeport.api.server import SERVICES, Application
from homeport.api.services import ASKS
from homeport.api.services import OPERATIONS as BUILT
from homeport.api.signature import AccessKeys, Verifier
from homeport.config import Settings
from homeport.forecast import Fork
from homeport.iam import sigv4
from homeport.ids import Ids
from homeport.model.account import Account
from homeport.model.homeport.rule import Rule
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.group import Group
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.model.iam.join_token import JoinToken
from homeport.model.iam.last_use import LastUse
from homeport.model.iam.oidc_provider import OidcProvider
from homeport.model.iam.policy import InlinePolicy, ManagedPolicy, PolicyVersion
from homeport.model.iam.role import InstanceProfile, Role
from homeport.model.iam.session_key import SessionKey
from homeport.model.iam.user import User
from homeport.placement.index import PlacementIndex
from homeport.server import controllers_of
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import (
    ACCESS_KEYS,
    ACCOUNTS,
    GROUPS,
    INSTANCE_IDENTITIES,
    INSTANCE_PROFILES,
    JOIN_TOKENS,
    LAST_USES,
    MANAGED_POLICIES,
    OIDC_PROVIDERS,
    ROLES,
    RULES,
    SESSION_KEYS,
    TABLES,
    USERS,
)
from homeport.testing import records
from homeport.virtual_clock import VirtualClock

STRANGER: Final = "210987654321"
CALLERS: Final = ("BROOT", "BADMIN")
TOLD: Final = {"GetAccessKeyInfo"}
"""The account of an access key is told to everybody, as STS has it."""


def _shaped(service: str) -> botocore.model.ServiceModel:
    """The model of `service`, as botocore reads it."""
    own = pathlib.Path(homeport.api.__file__).parent / service / "service-2.json"
    return (
        botocore.model.ServiceModel(msgspec.json.decode(own.read_bytes()), service)
        if own.exists()
        else botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)
    )


SHAPED: Final = {service: _shaped(service) for service in SERVICES}
ALL: Final = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
TRUST: Final = ALL.replace('"Resource":"*"', '"Principal":{"AWS":"' + records.ACCOUNT + '"}').replace('"*"', '"sts:AssumeRole"')
THEIR_IAM: Final = f"arn:aws:iam::{records.ACCOUNT}:"
THEIR_ECS: Final = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:"
_PASSING: Final = (
    (re.compile(r"\b\d{10}(\.\d+)?\b(?!\d)"), "INSTANT"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "INSTANT"),
    (re.compile(r'"revision":\d+'), "REVISION"),
)
"""What differs between two installations without telling anything: when something was done, and how much was done before."""


class House:
    """An installation with every service behind the front door, in which the stranger has an account with nothing in it."""

    def __init__(self, context: Context, keys: AccessKeys, authority: Authority) -> None:
        self.context = context
        verifier = Verifier(keys, clock=context.clock, settings=context.settings, region=context.region)
        self.application = Application(context, BUILT, verifier=verifier, guard=Guard(authority, ASKS, organization="o-1"), websockets={})

    async def call(self, service: str, operation: str, members: dict[str, Any], key: str) -> str:
        """Status and body of the answer, without what passes."""
        modelled = model.load(service)
        if modelled.protocol == "query":
            serializer = botocore.serialize.create_serializer("query", include_validation=False)
            form = serializer.serialize_to_request(members, SHAPED[service].operation_model(operation))["body"]
            headers, body = {b"content-type": b"application/x-www-form-urlencoded"}, urlencode(form).encode()
        else:
            target = f"{modelled.target_prefix}.{operation}".encode()
            headers, body = {b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": target}, msgspec.json.encode(members)
        status, answer = await self._send({b"host": b"h", **headers}, body, sigv4.Credentials(key, "secret", records.REGION, modelled.signing_name))
        text = f"{status} {answer.decode()}"
        for pattern, word in _PASSING:
            text = pattern.sub(word, text)
        return text

    async def _send(self, headers: dict[bytes, bytes], body: bytes, credentials: sigv4.Credentials) -> tuple[int, bytes]:
        signed = sigv4.Request("POST", b"/", b"", headers, hashlib.sha256(body).hexdigest())
        signature = sigv4.sign(signed, credentials, self.context.clock.now())
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [*headers.items(), *((name.lower().encode(), value.encode()) for name, value in signature.items())],
        }
        await self.application(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    async def of_the_other(self) -> dict[str, Any]:
        """Every record of the other account, and what is kept beside them."""

        def read(reader: Any) -> dict[str, Any]:
            found = {f"{table.name} {table.key(record)}": record for table in TABLES for record in reader.scan(table)}
            return {key: record for key, record in found.items() if records.ACCOUNT in (getattr(record, "account", ""), getattr(record, "id", ""))}

        kept = {cluster: held for cluster, held in self.context.placement.holdings().items() if cluster.startswith(records.ACCOUNT)}
        return {**await self.context.store.view(read), "placement": kept}


@dataclasses.dataclass
class Pair:
    """The two installations, and what stands in the first one."""

    with_it: House
    without: House
    words: dict[str, str]
    """What the words in capitals stand for."""
    known: dict[str, list[Any]]


async def _house() -> tuple[House, AccessKeys]:
    clock, placement, keys, authority, accounts = VirtualClock(), PlacementIndex(), AccessKeys(), Authority(), Accounts()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(placement, keys, authority, accounts))
    context = Context(
        store=store,
        placement=placement,
        clock=clock,
        ids=Ids("apart"),
        settings=Settings(),
        region=records.REGION,
        installation_id="0123456789abcdef",
        endpoint="http://h/",
        fork=functools.partial(Fork.open, controllers_of),
        management=records.ACCOUNT,
        accounts=accounts,
    )
    boss = f"arn:aws:iam::{STRANGER}:user/boss"
    inline = (InlinePolicy(name="all", document=ALL),)

    def write(tx: Any) -> None:
        tx.put(SESSION_KEYS, SessionKey(id="abcd1234", secret="not-a-secret", created_at=1.0))
        for account, name in ((records.ACCOUNT, "management"), (STRANGER, "stranger")):
            tx.put(ACCOUNTS, Account(id=account, name=name, created_at=1.0))
        tx.put(USERS, User(account=STRANGER, name="boss", id="AIDABOSS", created_at=1.0, inline=inline))
        for key, principal in (("BROOT", f"arn:aws:iam::{STRANGER}:root"), ("BADMIN", boss)):
            tx.put(ACCESS_KEYS, AccessKey(id=key, secret="secret", account=STRANGER, principal_arn=principal, created_at=1.0))

    await store.update(write, cause="test")
    return House(context, keys, authority), keys


async def _furnish_iam(store: Store) -> None:
    account = records.ACCOUNT
    inline = (InlinePolicy(name="inline", document=ALL),)
    version = PolicyVersion(number=1, document=ALL, created_at=1.0)

    def write(tx: Any) -> None:
        own = {"account": account, "created_at": 1.0}
        policy = ManagedPolicy(account=account, name="limit", id="ANPAX", created_at=1.0, updated_at=1.0, versions=(version,))
        tx.put(ACCOUNTS, Account(id=account, name="management", created_at=1.0, quotas=(("tags_max", 60),)))
        tx.put(RULES, Rule(name="theirs", mode="REPORT", require="`false`", **own))
        deployer = {"cluster": "default", "role_arn": f"{THEIR_IAM}role/deployer", "role_id": "AROAX"}
        tx.put(JOIN_TOKENS, JoinToken(id="tokentoken12", secret_sha256="0" * 64, created_by="x", expires_at=4e9, **deployer, **own))
        host = {"public_key": b"0" * 32, "token_id": "tokentoken12", "joined_at": 1.0, "proved_at": 1.0}
        tx.put(INSTANCE_IDENTITIES, InstanceIdentity(id="hi-0123456789abcdef0", account=account, **host, **deployer))
        tx.put(MANAGED_POLICIES, policy)
        tx.put(USERS, User(name="ann", id="AIDAANN", groups=("crew",), attached=(f"{THEIR_IAM}policy/limit",), inline=inline, **own))
        tx.put(GROUPS, Group(name="crew", id="AGPAX", inline=inline, **own))
        tx.put(ROLES, Role(name="deployer", id="AROAX", trust=TRUST, inline=inline, **own))
        tx.put(OIDC_PROVIDERS, OidcProvider(issuer="https://issuer.example.com", client_ids=("c",), tags=(("a", "b"),), **own))
        tx.put(LAST_USES, LastUse(id="AKIAOFANNOFANNOFANN0", used_at=2.0, service="ecs", region=records.REGION))
        tx.put(INSTANCE_PROFILES, InstanceProfile(name="machine", id="AIPAX", role="deployer", **own))
        tx.put(ACCESS_KEYS, AccessKey(id="AKIAOFANNOFANNOFANN0", secret="secret", principal_arn=f"{THEIR_IAM}user/ann", **own))

    await store.update(write, cause="test")


@pytest.fixture
async def pair():
    front = Front()
    houses = [await _house() for _ in range(2)]
    async with front.open() as port:
        house, keys = houses[0]
        root = AccessKey(id="AK", secret="secret", account=records.ACCOUNT, principal_arn=f"{THEIR_IAM}root", created_at=1.0)
        for each, _ in houses:
            await each.context.store.update(lambda tx: tx.put(ACCESS_KEYS, root), cause="test")
        made = front.world = World(house.context, keys, port)
        await furnish(made)
        words = await furnished(made)
        await _furnish_iam(house.context.store)
    # From here on both draw the same.
    for each, _ in houses:
        each.context = dataclasses.replace(each.context, ids=Ids("stranger"))
        each.application = Application(each.context, BUILT, verifier=each.application.verifier, guard=each.application.guard, websockets={})
    yield Pair(houses[0][0], houses[1][0], words, made.known)
    for each, _ in houses:
        await each.context.store.close()


# --- what is sent ---


def ecs_requests(pair: Pair) -> Iterator[tuple[str, dict[str, Any]]]:
    """Valid requests of every operation; and the smallest ones with each member that can name something naming it by every name it has."""
    for operation in sorted(BUILT["ecs"]):
        own = requests(operation) if operation not in NEVER else [NEVER[operation][0]]
        given = [valid(pair.words, members) for members in own]
        for members in given:
            yield operation, members
        shape = SHAPES[MODEL["operations"][operation]["input"]["shape"]]
        for member, reference in shape["members"].items():
            kind = SHAPES[reference["shape"]]["type"]
            for value in pair.known.get(member.lower(), ()):
                if isinstance(value, str) and kind in ("string", "list"):
                    yield operation, {**given[0], member: [value] if kind == "list" else value}


THEIRS: Final[dict[str, Any]] = {
    "UserName": "ann",
    "GroupName": "crew",
    "RoleName": "deployer",
    "InstanceProfileName": "machine",
    "PolicyName": "inline",
    "PolicyArn": f"{THEIR_IAM}policy/limit",
    "PermissionsBoundary": f"{THEIR_IAM}policy/limit",
    "PolicySourceArn": f"{THEIR_IAM}user/ann",
    "CallerArn": f"{THEIR_IAM}user/ann",
    "RoleArn": f"{THEIR_IAM}role/deployer",
    "TargetPrincipal": records.ACCOUNT,
    "AccessKeyId": "AKIAOFANNOFANNOFANN0",
    "OpenIDConnectProviderArn": f"{THEIR_IAM}oidc-provider/issuer.example.com",
    "Url": "https://issuer.example.com",
    "ThumbprintList": ["0" * 40],
    "VersionId": "v1",
    "PolicyDocument": ALL,
    "AssumeRolePolicyDocument": TRUST,
    "Path": "/",
    "PathPrefix": "/",
    "RoleSessionName": "visit",
    "AWSServiceName": "ecs.amazonaws.com",
    "DeletionTaskId": "task/aws-service-role/ecs.amazonaws.com/x/y",
    "ActionNames": ["ecs:RunTask"],
    "ResourceArns": [f"{THEIR_ECS}cluster/default"],
    "PolicyInputList": [ALL],
    "PolicyArns": [{"arn": f"{THEIR_IAM}policy/limit"}],
    "Tags": [{"Key": "a", "Value": "b"}],
    "TagKeys": ["a"],
    "Status": "Inactive",
    "Name": "visitor",
    "AccountId": records.ACCOUNT,
    "AccountName": "x",
    "QuotaName": "tags_max",
    "joinTokenId": "tokentoken12",
    "identityId": "hi-0123456789abcdef0",
    "name": "theirs",
    "ruleNames": ["theirs"],
    "mode": "REPORT",
    "require": "`false`",
    "role": f"{THEIR_IAM}role/deployer",
    "cluster": f"{THEIR_ECS}cluster/default",
    "containerInstance": f"{THEIR_ECS}container-instance/default/INSTANCE",
}
"""What a member of a request names, if it names something."""
_NAMING: Final = (
    *("UserName", "PolicyArn", "PermissionsBoundary", "PathPrefix", "CallerArn", "ResourceArns", "PolicyArns", "RoleArn", "AccessKeyId", "AccountId"),
    *("OpenIDConnectProviderArn", "Url"),
    *("joinTokenId", "identityId", "name", "role", "cluster", "containerInstance", "ruleNames"),
)


def generated(service: str, operations: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of every operation a request with what is required and with every member that names something of theirs; then each of these alone."""
    for operation in sorted(operations):
        shape = SHAPED[service].operation_model(operation).input_shape
        members = shape.members if shape is not None else {}
        required = {name: _value(name, members[name]) for name in (shape.required_members if shape is not None else ())}
        naming = {name: THEIRS[name] for name in _NAMING if name in members}
        yield operation, required
        yield operation, {**required, **naming}
        for name, value in naming.items():
            yield operation, {**required, name: value}


def _value(name: str, shape: Any) -> Any:
    if name in THEIRS:
        return THEIRS[name]
    if shape.type_name == "list":
        return [_value(name, shape.member)]
    if shape.type_name == "structure":
        return {member: _value(member, each) for member, each in shape.members.items()}
    if shape.type_name in ("boolean", "integer", "long"):
        return True if shape.type_name == "boolean" else max(1, int(shape.metadata.get("min", 1)))
    return (getattr(shape, "enum", None) or ["x" * max(8, int(shape.metadata.get("min", 1)))])[0]


def own_requests(pair: Pair) -> Iterator[tuple[str, dict[str, Any]]]:
    """Homeport's own operations about everything that the other account has, by its ARN and by its name."""
    arns = sorted({value for values in pair.known.values() for value in values if isinstance(value, str) and value.startswith("arn:aws:ecs:")})
    named = [text for arn in arns for text in (arn, arn.split(":", 5)[5], arn.rpartition("/")[2])]
    for text in dict.fromkeys(named):
        yield "DescribeHistory", {"resource": text}
        yield "ExplainPlacement", {"resource": text}
    for cluster in (f"{THEIR_ECS}cluster/default", "default"):
        yield "PredictChanges", {"cluster": cluster, "changes": [{"service": "web", "desiredCount": 3}]}
        yield "PredictServiceUpdate", {"request": {"cluster": cluster, "service": "web", "desiredCount": 3}}
    for names in ([], ["pool"], [f"{THEIR_ECS}capacity-provider/pool"]):
        yield "DescribeCapacity", {"capacityProviders": names}
    for operation, members in ecs_requests(pair):
        if operation.startswith(("Describe", "List")):
            yield "DescribeAt", {"operation": operation, "request": members, "instant": 4e9}
    yield from generated("homeport", BUILT["homeport"].keys() - _BY_HAND)


_BY_HAND: Final = {"DescribeAt", "DescribeCapacity", "DescribeHistory", "ExplainPlacement", "PredictChanges", "PredictServiceUpdate"}


def _meant(members: dict[str, Any], pair: Pair) -> dict[str, Any]:
    """`members` with the id of their instance in the place of INSTANCE."""
    instance = pair.words["INSTANCE"].rpartition("/")[2]
    return {name: value.replace("/INSTANCE", f"/{instance}") if isinstance(value, str) else value for name, value in members.items()}


def sent_to(service: str, pair: Pair) -> list[tuple[str, dict[str, Any]]]:
    """Every request for one service."""
    if service == "ecs":
        return list(ecs_requests(pair))
    return list(own_requests(pair) if service == "homeport" else generated(service, BUILT[service]))


@pytest.mark.parametrize("service", SERVICES)
async def test_no_operation_tells_or_changes_anything_of_another_account(pair, service):
    before = await pair.with_it.of_the_other()
    assert len(before) > 50
    sent = sent_to(service, pair)
    assert {operation for operation, _ in sent} == set(BUILT[service])
    for operation, given in sent:
        members = _meant(given, pair)
        for key in CALLERS:
            told = await pair.with_it.call(service, operation, members, key)
            assert not told.startswith("500"), (operation, members, told)
            if operation not in TOLD:
                assert told == await pair.without.call(service, operation, members, key), (operation, members, key)
            else:
                await pair.without.call(service, operation, members, key)
            if not operation.startswith(("Describe", "List", "Get")):
                assert await pair.with_it.of_the_other() == before, (operation, members, key)
    assert await pair.with_it.of_the_other() == before


NAMESAKES: Final[list[tuple[str, dict[str, Any]]]] = [
    *(("CreateCluster", {"clusterName": name}) for name in ("default", "other", "empty")),
    ("RegisterTaskDefinition", {"family": "web", "containerDefinitions": [{"name": "web", "image": "web:1", "memory": 16}]}),
    ("CreateService", {"serviceName": "web", "taskDefinition": "web", "desiredCount": 1}),
    ("CreateService", {"serviceName": "shared", "desiredCount": 4, "deploymentController": {"type": "EXTERNAL"}}),
    ("RegisterDaemonTaskDefinition", {"family": "agents", "containerDefinitions": [{"name": "agent", "image": "agent:1", "memory": 16}]}),
    ("CreateCapacityProvider", {"name": "edge", "autoScalingGroupProvider": {"autoScalingGroupArn": "group"}}),
    ("PutClusterCapacityProviders", {"cluster": "default", "capacityProviders": ["edge"], "defaultCapacityProviderStrategy": []}),
    ("CreateDaemon", {"daemonName": "agent", "daemonTaskDefinitionArn": "agents:1", "capacityProviderArns": ["edge"]}),
    ("CreateGateway", {"name": "shop", "infrastructureRoleArn": f"arn:aws:iam::{STRANGER}:role/r", "configuration": {"hostSharedAlb": {}}}),
]
"""What the stranger has under the other's names."""


async def test_an_arn_of_another_account_never_means_what_is_called_the_same_in_one_s_own(pair):
    house = pair.without
    for operation, members in NAMESAKES:
        assert (await house.call("ecs", operation, members, "BROOT")).startswith("200"), operation

    tried = 0
    for service, sent in (("ecs", ecs_requests(pair)), ("homeport", own_requests(pair))):
        for operation, members in sent:
            if not _names_theirs(members):
                continue
            tried += 1
            before = house.context.store.revision
            told = await house.call(service, operation, members, "BROOT")
            assert f":{STRANGER}:" not in told, (operation, members, told)
            assert house.context.store.revision == before, (operation, members, told)
    assert tried > 150


def _names_theirs(members: dict[str, Any]) -> bool:
    """Whether a member of the request is an ARN of theirs, of something of Amazon ECS."""
    values = [each for value in members.values() for each in (value if isinstance(value, list) else [value])]
    return any(isinstance(value, str) and value.startswith(THEIR_ECS) for value in values)


async def test_the_walk_would_see_what_is_told(pair):
    """The other account's own root is told and changes what the stranger must not: the comparison can fail."""
    request = {"services": ["web"]}
    told = [await house.call("ecs", "DescribeServices", request, "AK") for house in (pair.with_it, pair.without)]
    assert told[0] != told[1]
    before = await pair.with_it.of_the_other()
    await pair.with_it.call("ecs", "UpdateService", {"service": "web", "desiredCount": 3}, "AK")
    assert await pair.with_it.of_the_other() != before
