"""What each operation needs to be allowed, and that the front door asks for it."""

from __future__ import annotations

import hashlib
import json as plain_json
from html import unescape
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, REGION, ROOT, Ecs

from homeport.api import origin
from homeport.api.authority import Authority
from homeport.api.call import Call, Context
from homeport.api.connection import SERVER_CERTIFICATE
from homeport.api.ecs import permission
from homeport.api.ecs.operations import OPERATIONS
from homeport.api.homeport import permission as homeport_permission
from homeport.api.permission import Guard, Origin, SessionVerifier, _session_keys, principal_of
from homeport.api.protocol import json, model
from homeport.api.server import FORWARDED, KEYS_PATH, SERVERS_PATH, UNSIGNED, Application
from homeport.api.signature import AccessKeys, Verifier
from homeport.api.sts import permission as sts_permission
from homeport.api.sts.operations import OPERATIONS as STS
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import AccessDeniedError, InvalidParameterError
from homeport.iam import sigv4
from homeport.iam.actions import resource_types
from homeport.iam.session import Session, issue, opened
from homeport.ids import Ids
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.policy import InlinePolicy
from homeport.model.iam.role import Role
from homeport.model.iam.session_key import SessionKey
from homeport.model.iam.user import User
from homeport.placement.index import PlacementIndex
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, ROLES, SESSION_KEYS, TABLES, TASKS, USERS
from homeport.testing import records
from homeport.virtual_clock import VirtualClock

MODELLED = sorted(model.load().operations)
PROD, DEFAULT = f"{ARN}cluster/prod", f"{ARN}cluster/default"
ID = "0123456789abcdef0123456789abcdef"
EVERYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
BOB = f"arn:aws:iam::{ACCOUNT}:user/bob"


class Installation:
    """A store with a front door, its root and a user without policies."""

    def __init__(self, store: Store, keys: AccessKeys, authority: Authority, clock: Clock) -> None:
        self.context = Context(
            store=store,
            placement=PlacementIndex(),
            clock=clock,
            ids=Ids("permission"),
            settings=Settings(),
            region=REGION,
            installation_id="0123456789abcdef",
            endpoint="http://127.0.0.1:8470/",
            management=ACCOUNT,
        )
        asks = {"ecs": permission.asks, "homeport": homeport_permission.asks, "sts": sts_permission.asks}
        self.guard = Guard(authority, asks)
        self.verifier = Verifier(keys, clock=clock, settings=Settings(), region=REGION)
        self.application = Application(
            self.context,
            {"ecs": OPERATIONS, "sts": STS},
            verifier=self.verifier,
            guard=self.guard,
            websockets={},
            internal={"/homeport/echo": self.echo, SERVERS_PATH: self.echo, KEYS_PATH: self.echo},
        )
        self.over: dict[str, Any] = {}
        """What the connection adds to a request's scope."""
        self.ecs = Ecs(self.context)

    async def allow(self, *statements: dict[str, Any], **more: Any) -> None:
        """Give bob this policy and no other."""
        document = plain_json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        inline = (InlinePolicy(name="p", document=document),) if statements else ()
        await self.ecs.put((USERS, User(account=ACCOUNT, name="bob", id="AIDABOB", created_at=1.0, inline=inline, **more)))

    async def call(self, operation: str, key: str = "AKBOB", **members: Any) -> tuple[int, str, str]:
        """(status, code, message) of a signed call."""
        target = f"{model.load().target_prefix}.{operation}".encode()
        headers = {b"host": b"h", b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": target}
        status, body = await self.send(headers, msgspec.json.encode(members), key, "ecs")
        answer = msgspec.json.decode(body)
        return status, answer.get("__type", ""), answer.get("message", "")

    async def send(
        self, headers: dict[bytes, bytes], body: bytes, key: str, service: str, *, path: str = "/", secret: str = "secret"
    ) -> tuple[int, bytes]:
        request = sigv4.Request("POST", path.encode(), b"", headers, hashlib.sha256(body).hexdigest())
        signature = sigv4.sign(request, sigv4.Credentials(key, secret, REGION, service), self.context.clock.now())
        headers = headers | {name.lower().encode(): value.encode() for name, value in signature.items()}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": list(headers.items()),
            "client": ("100.64.0.7", 4000),
            "scheme": "http",
            **self.over,
        }
        await self.application(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    async def echo(self, body: bytes) -> bytes:
        """What another server asks."""
        return body

    async def asks(self, operation: str, **members: Any) -> list[Any]:
        request = json.decode(model.load().operations[operation], msgspec.json.encode(members))
        call = Call(context=self.context, operation=operation, request_id="r", account=ACCOUNT, principal_arn=BOB)
        return await self.context.store.view(lambda reader: permission.asks(call, request, reader))


@pytest.fixture
async def installation():
    clock, keys, authority = VirtualClock(), AccessKeys(), Authority()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(keys, authority))
    made = Installation(store, keys, authority, clock)
    await made.ecs.put(
        (ACCESS_KEYS, AccessKey(id="AKROOT", secret="secret", account=ACCOUNT, principal_arn=ROOT, created_at=1.0)),
        (ACCESS_KEYS, AccessKey(id="AKBOB", secret="secret", account=ACCOUNT, principal_arn=BOB, created_at=1.0)),
    )
    await made.allow()
    yield made
    await store.close()


def statement(action: Any, resource: Any = "*", effect: str = "Allow", **condition: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, "Condition": condition}


# --- what is asked ---

RESOURCES = [
    ("CreateCluster", {}, [DEFAULT]),
    ("CreateCluster", {"clusterName": "prod"}, [PROD]),
    ("DescribeClusters", {}, [DEFAULT]),
    ("DescribeClusters", {"clusters": ["prod", DEFAULT]}, [PROD, DEFAULT]),
    ("DeleteCluster", {"cluster": PROD}, [PROD]),
    ("ListClusters", {}, ["*"]),
    ("ListTaskDefinitions", {}, ["*"]),
    ("ListServices", {"cluster": "prod"}, ["*"]),
    ("ListTasks", {"cluster": "prod"}, [f"{ARN}container-instance/prod/*"]),
    ("ListTasks", {"cluster": "prod", "containerInstance": ID}, [f"{ARN}container-instance/prod/{ID}"]),
    ("CreateService", {"serviceName": "web", "cluster": "prod"}, [f"{ARN}service/prod/web"]),
    ("UpdateService", {"service": "web"}, [f"{ARN}service/default/web"]),
    ("UpdateService", {"service": f"{ARN}service/web", "cluster": "prod"}, [f"{ARN}service/prod/web"]),
    ("UpdateService", {"service": f"{ARN}service/test/web", "cluster": "prod"}, [f"{ARN}service/test/web"]),
    ("DescribeServices", {"services": ["a", f"{ARN}service/default/b"]}, [f"{ARN}service/default/a", f"{ARN}service/default/b"]),
    ("StopTask", {"task": ID, "cluster": "prod"}, [f"{ARN}task/prod/{ID}"]),
    ("DescribeTasks", {"tasks": [ID, f"{ARN}task/{ID}"]}, [f"{ARN}task/default/{ID}"]),
    ("GetTaskProtection", {"cluster": "prod"}, [f"{ARN}task/prod/*"]),
    ("RegisterTaskDefinition", {"family": "web", "containerDefinitions": []}, [f"{ARN}task-definition/web:*"]),
    ("RunTask", {"taskDefinition": "web:3"}, [f"{ARN}task-definition/web:3"]),
    ("RunTask", {"taskDefinition": "web"}, [f"{ARN}task-definition/web:*"]),
    ("DeregisterTaskDefinition", {"taskDefinition": "web:3"}, ["*"]),
    ("DeregisterContainerInstance", {"containerInstance": ID}, [DEFAULT]),
    ("UpdateContainerInstancesState", {"containerInstances": [ID], "status": "DRAINING"}, [f"{ARN}container-instance/default/{ID}"]),
    ("PutAttributes", {"attributes": [{"name": "a", "targetId": ID}]}, [f"{ARN}container-instance/default/{ID}"]),
    ("CreateCapacityProvider", {"name": "pool"}, [f"{ARN}capacity-provider/pool"]),
    ("DescribeCapacityProviders", {}, [f"{ARN}capacity-provider/*"]),
    ("PutClusterCapacityProviders", {"cluster": "prod", "capacityProviders": ["p"], "defaultCapacityProviderStrategy": []}, [PROD]),
    ("CreateTaskSet", {"service": "web", "cluster": "prod", "taskDefinition": "web:1"}, [f"{ARN}task-set/prod/web/*"]),
    ("DeleteTaskSet", {"service": "web", "cluster": "prod", "taskSet": "ecs-svc/1"}, [f"{ARN}task-set/prod/web/ecs-svc/1"]),
    ("DeleteTaskSet", {"service": "web", "cluster": "prod", "taskSet": "1"}, [f"{ARN}task-set/prod/web/ecs-svc/1"]),
    ("UpdateServicePrimaryTaskSet", {"service": "web", "cluster": "prod", "primaryTaskSet": "ecs-svc/1"}, [f"{ARN}service/prod/web"]),
    (
        "StopServiceDeployment",
        {"serviceDeploymentArn": f"{ARN}service-deployment/prod/web/1"},
        [f"{ARN}service/prod/web", f"{ARN}service-deployment/prod/web/1"],
    ),
    ("ExecuteCommand", {"cluster": "prod", "task": ID, "command": "sh", "interactive": True}, [PROD, f"{ARN}task/prod/{ID}"]),
    ("TagResource", {"resourceArn": f"{ARN}service/prod/web", "tags": []}, [f"{ARN}service/prod/web"]),
    ("CreateGateway", {"name": "g", "infrastructureRoleArn": "r", "configuration": {}}, [f"{ARN}gateway/g"]),
    ("DeleteDaemon", {"daemonArn": f"{ARN}daemon/prod/d"}, [f"{ARN}daemon/prod/d"]),
]


@pytest.mark.parametrize(("operation", "members", "expected"), RESOURCES)
async def test_resources(installation, operation, members, expected):
    asked = await installation.asks(operation, **members)
    assert [ask.resource for ask in asked if ask.action == f"ecs:{operation}"] == expected


@pytest.mark.parametrize("operation", MODELLED)
async def test_every_operation_is_an_action_with_resources_as_amazon_lists_them(installation, operation):
    """Whatever a request leaves out: an action with resources is never asked for everything, one without never for something."""
    empty = type("Request", (), {"__struct_fields__": (), "__getattr__": lambda self, name: None})()
    call = Call(context=installation.context, operation=operation, request_id="r", account=ACCOUNT, principal_arn=BOB)
    asked = await installation.context.store.view(lambda reader: permission.asks(call, empty, reader))
    required = {each.name for each in resource_types("ecs", operation) if each.required}
    kinds = {ask.resource.split(":", 5)[-1].partition("/")[0] for ask in asked}
    assert {ask.action for ask in asked} == {f"ecs:{operation}"}
    assert kinds == (required or {"*"})


async def test_condition_keys(installation):
    await installation.ecs("CreateCluster", clusterName="prod")
    asked = await installation.asks(
        "CreateService",
        cluster="prod",
        serviceName="web",
        taskDefinition="web:3",
        tags=[{"key": "Team", "value": "red"}],
        enableExecuteCommand=True,
        propagateTags="SERVICE",
        capacityProviderStrategy=[{"capacityProvider": "pool"}],
    )
    context = asked[0].context
    assert context["ecs:cluster"] == PROD
    assert context["ecs:task-definition"] == f"{ARN}task-definition/web:3"
    assert context["aws:requesttag/team"] == "red"
    assert context["aws:tagkeys"] == ("Team",)
    assert context["ecs:enable-execute-command"] == "true"
    assert context["ecs:propagate-tags"] == "SERVICE"
    assert context["ecs:capacity-provider"] == (f"{ARN}capacity-provider/pool",)
    tagging = asked[1]
    assert (tagging.action, tagging.resource, tagging.context["ecs:createaction"]) == ("ecs:TagResource", f"{ARN}service/prod/web", "CreateService")


async def test_the_tags_of_a_resource_are_known(installation):
    await installation.ecs("CreateCluster", clusterName="prod", tags=[{"key": "Stage", "value": "live"}])
    asked = await installation.asks("DeleteCluster", cluster="prod")
    assert asked[0].context["aws:resourcetag/stage"] == asked[0].context["ecs:resourcetag/stage"] == "live"


CONTAINER = {"name": "app", "image": "busybox", "memory": 16}


async def test_roles_are_passed_when_they_are_registered_and_when_they_run(installation):
    role = f"arn:aws:iam::{ACCOUNT}:role/app"
    asked = await installation.asks(
        "RegisterTaskDefinition", family="web", containerDefinitions=[CONTAINER], taskRoleArn=role, executionRoleArn="exec"
    )
    passed = [(ask.resource, ask.context) for ask in asked if ask.action == "iam:PassRole"]
    to_tasks = {"iam:passedtoservice": "ecs-tasks.amazonaws.com"}
    assert passed == [(role, to_tasks), (f"arn:aws:iam::{ACCOUNT}:role/exec", to_tasks)]
    await installation.ecs("RegisterTaskDefinition", family="web", containerDefinitions=[CONTAINER], taskRoleArn=role)
    for operation, more in (("RunTask", {}), ("StartTask", {"containerInstances": [ID]}), ("CreateService", {"serviceName": "s"})):
        asked = await installation.asks(operation, taskDefinition="web", **more)
        assert [ask.resource for ask in asked if ask.action == "iam:PassRole"] == [role]
    asked = await installation.asks("RunTask", taskDefinition="web", overrides={"taskRoleArn": "other"})
    assert [ask.resource for ask in asked if ask.action == "iam:PassRole"] == [role, f"arn:aws:iam::{ACCOUNT}:role/other"]


ROLE = f"arn:aws:iam::{ACCOUNT}:role/"
LOG_CONFIGURATION = {"logDriver": "json-file", "options": {"roleArn": "none"}}
MACHINE = {"ec2InstanceProfileArn": "p", "networkConfiguration": {"subnets": ["s"]}}
NESTED = [
    # operation, members, the roles that they hand on
    (
        "CreateCapacityProvider",
        {"managedInstancesProvider": {"infrastructureRoleArn": f"{ROLE}i", "instanceLaunchTemplate": MACHINE}},
        {"i": "ecs.amazonaws.com"},
    ),
    (
        "CreateService",
        {"deploymentConfiguration": {"lifecycleHooks": [{"hookTargetArn": "https://example.org", "roleArn": f"{ROLE}h"}]}},
        {"h": "ecs.amazonaws.com"},
    ),
    ("RunTask", {"volumeConfigurations": [{"name": "v", "managedEBSVolume": {"roleArn": f"{ROLE}v"}}]}, {"v": "ecs.amazonaws.com"}),
    ("RunTask", {"overrides": {"executionRoleArn": "e", "taskRoleArn": "t"}}, dict.fromkeys("et", "ecs-tasks.amazonaws.com")),
    ("RegisterTaskDefinition", {"family": "f", "containerDefinitions": [{**CONTAINER, "logConfiguration": LOG_CONFIGURATION}]}, {}),
]


@pytest.mark.parametrize(("operation", "members", "roles"), NESTED)
async def test_roles_are_passed_wherever_a_request_names_them(installation, operation, members, roles):
    required = {"CreateCapacityProvider": {"name": "p"}, "CreateService": {"serviceName": "s"}, "RunTask": {"taskDefinition": "web"}}
    asked = await installation.asks(operation, **required.get(operation, {}), **members)
    passed = {ask.resource.removeprefix(ROLE): ask.context["iam:passedtoservice"] for ask in asked if ask.action == "iam:PassRole"}
    assert passed == roles


async def test_a_hook_runs_what_its_maker_may_run_and_a_daemon_passes_the_roles_of_its_definition(installation):
    await installation.ecs("RegisterTaskDefinition", family="check", containerDefinitions=[CONTAINER], taskRoleArn=f"{ROLE}app")
    hook = {"hookTargetArn": f"{ARN}task-definition/check:1", "lifecycleStages": ["POST_SCALE_UP"]}
    asked = await installation.asks("UpdateService", service="web", cluster="prod", deploymentConfiguration={"lifecycleHooks": [hook]})
    assert [(ask.action, ask.resource) for ask in asked[1:]] == [("ecs:RunTask", f"{ARN}task-definition/check:1"), ("iam:PassRole", f"{ROLE}app")]
    assert asked[1].context == {"ecs:cluster": PROD}
    await installation.ecs(
        "RegisterDaemonTaskDefinition",
        family="logs",
        containerDefinitions=[{"name": "a", "image": "b"}],
        cpu="128",
        memory="64",
        taskRoleArn=f"{ROLE}logs",
    )
    asked = await installation.asks(
        "CreateDaemon", daemonName="logs", daemonTaskDefinitionArn=f"{ARN}daemon-task-definition/logs:1", capacityProviderArns=[]
    )
    assert [ask.resource for ask in asked if ask.action == "iam:PassRole"] == [f"{ROLE}logs"]


ALIASES = [
    ("TagResource", {"resourceArn": f"{ARN}task-definition/web:0000001", "tags": []}),
    ("TagResource", {"resourceArn": f"{ARN}task-set//web/ecs-svc/1", "tags": []}),
    ("TagResource", {"resourceArn": f"{ARN}daemon//logs", "tags": []}),
    ("DescribeTaskDefinition", {"taskDefinition": "web:01"}),
    ("DescribeDaemon", {"daemonArn": f"{ARN}daemon//logs"}),
    ("DescribeTaskSets", {"service": "web", "taskSets": [f"{ARN}task-set/default/web/1"]}),
    ("DescribeTaskSets", {"service": "web", "taskSets": [f"{ARN}task-set/default/web/ecs-svc/ecs-svc/1"]}),
]


@pytest.mark.parametrize(("operation", "members"), ALIASES)
async def test_what_policies_name_has_no_other_name(installation, operation, members):
    """A Deny goes by the ARN: a spelling that it does not take in must not lead to the same thing."""
    await installation.ecs("CreateCluster")
    await installation.ecs("RegisterTaskDefinition", family="web", containerDefinitions=[CONTAINER])
    await installation.ecs("CreateService", serviceName="web", deploymentController={"type": "EXTERNAL"}, desiredCount=0)
    with pytest.raises(InvalidParameterError):
        await installation.ecs(operation, **members)


# --- that it is asked ---

DENIED = [
    # statements of bob's policy, operation, members, whether it may
    ([], "ListClusters", {}, False),
    ([statement("ecs:ListClusters")], "ListClusters", {}, True),
    ([statement("ecs:*")], "CreateCluster", {"clusterName": "new"}, True),
    ([statement("ecs:CreateCluster", PROD)], "CreateCluster", {"clusterName": "new"}, False),
    ([statement("ecs:DescribeClusters", PROD)], "DescribeClusters", {"clusters": ["prod"]}, True),
    ([statement("ecs:DescribeClusters", PROD)], "DescribeClusters", {"clusters": ["prod", "default"]}, False),
    ([statement("ecs:ListServices", ArnEquals={"ecs:cluster": PROD})], "ListServices", {"cluster": "prod"}, True),
    ([statement("ecs:ListServices", ArnEquals={"ecs:cluster": PROD})], "ListServices", {}, False),
    ([statement("ecs:ListServices", IpAddress={"aws:SourceIp": "100.64.0.0/10"})], "ListServices", {"cluster": "prod"}, True),
    ([statement("ecs:ListServices", IpAddress={"aws:SourceIp": "192.0.2.0/24"})], "ListServices", {"cluster": "prod"}, False),
    ([statement("ecs:*"), statement("ecs:*", effect="Deny", Bool={"aws:SecureTransport": "false"})], "ListClusters", {}, False),
    ([statement("ecs:CreateCluster")], "CreateCluster", {"clusterName": "new", "tags": [{"key": "a", "value": "b"}]}, False),
    ([statement(["ecs:CreateCluster", "ecs:TagResource"])], "CreateCluster", {"clusterName": "new", "tags": [{"key": "a", "value": "b"}]}, True),
    ([statement("ecs:RegisterTaskDefinition")], "RegisterTaskDefinition", {"family": "f", "containerDefinitions": [CONTAINER]}, True),
    (
        [statement("ecs:RegisterTaskDefinition")],
        "RegisterTaskDefinition",
        {"family": "f", "containerDefinitions": [CONTAINER], "taskRoleArn": "admin"},
        False,
    ),
    (
        [statement("ecs:RegisterTaskDefinition"), statement("iam:PassRole", StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"})],
        "RegisterTaskDefinition",
        {"family": "f", "containerDefinitions": [CONTAINER], "taskRoleArn": "admin"},
        True,
    ),
    (
        [statement("ecs:DeleteCluster", StringEquals={"aws:ResourceTag/stage": "${aws:PrincipalTag/stage}"})],
        "DeleteCluster",
        {"cluster": "prod"},
        True,
    ),
    (
        [statement("ecs:DeleteCluster", StringEquals={"aws:ResourceTag/stage": "${aws:PrincipalTag/stage}"})],
        "DeleteCluster",
        {"cluster": "default"},
        False,
    ),
    ([statement("ecs:*", StringEquals={"aws:username": "bob", "aws:userid": "AIDABOB", "aws:PrincipalType": "User"})], "ListClusters", {}, True),
]


@pytest.mark.parametrize(("statements", "operation", "members", "allowed"), DENIED)
async def test_the_front_door_asks(installation, statements, operation, members, allowed):
    await installation.ecs("CreateCluster", clusterName="prod", tags=[{"key": "stage", "value": "live"}])
    await installation.ecs("CreateCluster")
    revision = installation.context.store.revision
    await installation.allow(*statements, tags=(("stage", "live"),))
    status, code, message = await installation.call(operation, **members)
    if allowed:
        assert (status, code) == (200, ""), message
    else:
        assert (status, code) == (400, "AccessDeniedException")
        assert message.startswith(f"User: {BOB} is not authorized to perform: ")
        assert installation.context.store.revision == revision + 1, "a refused call changed something"


async def test_the_root_is_never_asked(installation):
    assert await installation.call("ListClusters", key="AKROOT") == (200, "", "")


async def test_only_a_key_of_the_roots_own_speaks_for_a_server(installation):
    now = int(installation.context.clock.now())
    made = Session(access_key_id="ASIAROOT", account=ACCOUNT, arn=ROOT, source_arn=ROOT, source_id="", issued_at=now, expires_at=now + 900)
    await installation.ecs.put((SESSION_KEYS, SessionKey(id="key00001", secret="k" * 40, created_at=1.0)))
    issued = issue(made, "key00001", "k" * 40)
    plain = {b"host": b"h"}
    with_token = plain | {b"x-amz-security-token": issued.token.encode()}
    path = "/homeport/echo"
    assert await installation.send(plain, b"x", "AKROOT", "ecs", path=path) == (200, b"x")
    assert (await installation.send(plain, b"x", "AKBOB", "ecs", path=path))[0] == 400
    other = AccessKey(id="AKOTHER", secret="secret", account="210987654321", principal_arn="arn:aws:iam::210987654321:root", created_at=1.0)
    await installation.ecs.put((ACCESS_KEYS, other))
    assert await installation.call("ListClusters", key="AKOTHER") == (200, "", "")
    for each in (path, SERVERS_PATH):
        status, body = await installation.send(plain, b"x", "AKOTHER", "ecs", path=each)
        assert (status, b"AccessDeniedException" in body) == (400, True)
    status, body = await installation.send(with_token, b"x", "ASIAROOT", "ecs", path=path, secret=issued.secret)
    assert (status, b"AccessDeniedException" in body) == (400, True)


async def test_a_deleted_user_may_nothing_whatever_its_key_says(installation):
    await installation.allow(statement("*"))
    assert (await installation.call("ListClusters"))[0] == 200
    await installation.context.store.update(lambda tx: tx.delete(USERS, f"{ACCOUNT}/bob"), cause="test")
    assert (await installation.call("ListClusters"))[1] == "AccessDeniedException"


async def test_everybody_may_ask_who_they_are(installation):
    headers = {b"host": b"h", b"content-type": b"application/x-www-form-urlencoded"}
    status, body = await installation.send(headers, b"Action=GetCallerIdentity&Version=2011-06-15", "AKBOB", "sts")
    assert status == 200, body
    assert f"<Arn>{BOB}</Arn>".encode() in body


@pytest.mark.parametrize(
    ("path", "query", "action"),
    [("/acs/ws", "clusterArn={}&containerInstanceArn={}", "ecs:Poll"), ("/tcs/ws", "cluster={}&containerInstance={}", "ecs:StartTelemetrySession")],
)
async def test_a_websocket_is_for_those_who_may_poll_for_that_instance(installation, path, query, action):
    mine, other = f"{ARN}container-instance/prod/{ID}", f"{ARN}container-instance/prod/{'f' * 32}"
    sessions = SessionVerifier(installation.verifier, installation.guard, region=REGION)

    def open_session(instance: str, more: str = "", path: str = path) -> tuple[str, str, str]:
        text = (query.format(PROD, instance) + more).encode()
        request = sigv4.Request("GET", path.encode(), text, {b"host": b"h"}, sigv4.EMPTY_BODY_SHA256)
        signature = sigv4.sign(request, sigv4.Credentials("AKBOB", "secret", REGION), installation.context.clock.now())
        headers = [(b"host", b"h"), *((name.lower().encode(), value.encode()) for name, value in signature.items())]
        return sessions.verify("GET", path, text, headers)

    with pytest.raises(AccessDeniedError):
        open_session(mine)
    await installation.allow(statement(action, mine, ArnEquals={"ecs:cluster": PROD}))
    assert open_session(mine) == (ACCOUNT, BOB, "")
    refused = [
        {"instance": other},
        {"instance": "short"},
        {"instance": mine, "path": path.replace("/", "/%", 1).replace("%a", "%61").replace("%t", "%74")},
        # the members of the other path name an instance that may be polled for, those of this one another
        {"instance": other, "more": f"&containerInstanceArn={mine}" if path == "/tcs/ws" else f"&containerInstance={mine}"},
    ]
    for attempt in refused:
        with pytest.raises(AccessDeniedError):
            open_session(**attempt)
    # neither a cluster's short name nor an ARN of another region is another name for the same instance
    everything_else = statement(action, effect="Deny", ArnEquals={"ecs:cluster": PROD})
    await installation.allow(statement("*"), everything_else)
    for spelled in (mine, mine.replace(REGION, "xx-west-1")):
        with pytest.raises(AccessDeniedError):
            open_session(spelled)


async def test_reports_over_a_websocket_need_what_they_need_as_calls(installation):
    sessions, mine = SessionVerifier(installation.verifier, installation.guard, region=REGION), f"{ARN}container-instance/prod/{ID}"
    text = f"clusterArn={PROD}&containerInstanceArn={mine}&stateReports=1".encode()
    request = sigv4.Request("GET", b"/acs/ws", text, {b"host": b"h"}, sigv4.EMPTY_BODY_SHA256)
    signature = sigv4.sign(request, sigv4.Credentials("AKBOB", "secret", REGION), installation.context.clock.now())
    headers = [(b"host", b"h"), *((name.lower().encode(), value.encode()) for name, value in signature.items())]
    await installation.allow(statement("ecs:Poll"), statement("ecs:SubmitTaskStateChange", PROD))
    with pytest.raises(AccessDeniedError, match="ecs:SubmitContainerStateChange"):
        sessions.verify("GET", "/acs/ws", text, headers)
    await installation.allow(statement("ecs:Poll"), statement("ecs:Submit*", PROD))
    assert sessions.verify("GET", "/acs/ws", text, headers) == (ACCOUNT, BOB, "")


async def test_the_past_is_for_those_who_may_read_the_present(installation):
    request = msgspec.convert(
        {"operation": "DescribeClusters", "request": {"clusters": ["prod"]}}, model.load("homeport").operations["DescribeAt"].input_type
    )
    call = Call(context=installation.context, operation="DescribeAt", request_id="r", account=ACCOUNT, principal_arn=BOB)
    asked = await installation.context.store.view(lambda reader: homeport_permission.asks(call, request, reader))
    assert [(ask.action, ask.resource) for ask in asked] == [("homeport:DescribeAt", "*"), ("ecs:DescribeClusters", PROD)]


async def test_the_session_of_a_task_ends_with_the_task_and_opens_no_connection_of_an_agent(installation):
    now, task = int(installation.context.clock.now()), records.task(1)
    own = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/app"}, "Action": "sts:AssumeRole"}
    trust = plain_json.dumps({"Version": "2012-10-17", "Statement": [own]})
    role = Role(account=ACCOUNT, name="app", id="AROAAPP", created_at=1.0, trust=trust, inline=(InlinePolicy(name="p", document=EVERYTHING),))
    await installation.ecs.put((SESSION_KEYS, SessionKey(id="key00001", secret="k" * 40, created_at=1.0)), (ROLES, role), (TASKS, task))
    more = {"issued_at": now, "expires_at": now + 900, "source_arn": f"arn:aws:iam::{ACCOUNT}:role/app", "source_id": "AROAAPP"}
    made = Session(**more, access_key_id="ASIATASK", account=ACCOUNT, arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/app/{task.id}", task=task.key)
    issued = issue(made, "key00001", "k" * 40)

    async def asked(body: bytes, service: str, **headers: str) -> tuple[int, bytes]:
        given = {b"host": b"h", b"x-amz-security-token": issued.token.encode()}
        given |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        return await installation.send(given, body, "ASIATASK", service, secret=issued.secret)

    target = {"content_type": "application/x-amz-json-1.1", "x_amz_target": f"{model.load().target_prefix}.ListClusters"}
    who = (b"Action=GetCallerIdentity&Version=2011-06-15", "sts")
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert (await asked(b"{}", "ecs", **target))[0] == 200
    assert (await asked(*who, **form))[0] == 200
    # A role that it takes on is bound to the task as well.
    role_arn = quote(f"arn:aws:iam::{ACCOUNT}:role/app", safe="")
    status, body = await asked(f"Action=AssumeRole&Version=2011-06-15&RoleSessionName=next&RoleArn={role_arn}".encode(), "sts", **form)
    assert status == 200, body
    token = unescape(body.decode().partition("<SessionToken>")[2].partition("<")[0])
    assert opened(token, "k" * 40)[0].task == task.key
    headers = {b"host": b"h", b"x-amz-security-token": issued.token.encode()}
    query = f"cluster=default&containerInstanceArn={ARN}container-instance/default/{ID}".encode()
    request = sigv4.Request("GET", b"/acs/ws", query, headers, sigv4.EMPTY_BODY_SHA256)
    signature = sigv4.sign(request, sigv4.Credentials("ASIATASK", issued.secret, REGION), installation.context.clock.now())
    pairs = [*headers.items(), *((name.lower().encode(), value.encode()) for name, value in signature.items())]
    with pytest.raises(AccessDeniedError, match="no connection of an agent"):
        SessionVerifier(installation.verifier, installation.guard, region=REGION).verify("GET", "/acs/ws", query, pairs)
    for gone in (lambda tx: tx.put(TASKS, msgspec.structs.replace(task, last_status="STOPPED")), lambda tx: tx.delete(TASKS, task.key)):
        await installation.context.store.update(gone, cause="test")
        status, body = await asked(b"{}", "ecs", **target)
        assert (status, b"ExpiredTokenException" in body) == (400, True)
        status, body = await asked(*who, **form)
        assert (status, b"<Code>ExpiredToken" in body) == (403, True)


def test_what_a_session_is_known_by():
    more = {"issued_at": 60, "expires_at": 960, "source_arn": BOB, "source_id": "AIDABOB", "account": ACCOUNT, "access_key_id": "ASIA"}
    visitor = Session(
        **more, arn=f"arn:aws:sts::{ACCOUNT}:federated-user/ann", tags=(("Team", "red"),), source_identity="ann@example.org", policies=()
    )
    assert _session_keys(visitor) == {
        "aws:tokenissuetime": "1970-01-01T00:01:00Z",
        "aws:multifactorauthpresent": "false",
        "aws:userid": f"{ACCOUNT}:ann",
        "aws:sourceidentity": "ann@example.org",
        "aws:principaltag/team": "red",
    }


PROD_WHOLE = [
    (f"ecs:Describe{name}", f"{ARN}{kind}/prod/*")
    for name, kind in (("Services", "service"), ("Tasks", "task"), ("ContainerInstances", "container-instance"))
]
RULES_READ = [("ecs:DescribeTaskDefinition", "*"), ("ecs:DescribeDaemonTaskDefinition", f"{ARN}daemon-task-definition/*")]
IN_PROD = [
    ("ecs:DescribeServices", f"{ARN}service/*"),
    ("ecs:DescribeTaskSets", f"{ARN}task-set/*/ecs-svc/*"),
    ("ecs:DescribeDaemon", f"{ARN}daemon/*"),
    ("ecs:DescribeTasks", f"{ARN}task/*"),
]
OWN = [
    (
        "DescribeHistory",
        {"resource": "service/prod/web"},
        [("ecs:DescribeServices", f"{ARN}service/prod/web"), ("ecs:DescribeExpressGatewayService", f"{ARN}service/prod/web")],
    ),
    ("DescribeHistory", {"resource": "cluster/prod"}, [("ecs:DescribeClusters", PROD)]),
    ("DescribeHistory", {"resource": "web:1"}, [("ecs:DescribeTaskDefinition", "*")]),
    (
        "DescribeHistory",
        {"resource": "prod"},
        [("ecs:DescribeServices", f"{ARN}service/default/prod"), ("ecs:DescribeDaemon", f"{ARN}daemon/default/prod"), ("ecs:DescribeClusters", PROD)],
    ),
    ("ExplainPlacement", {"resource": f"task/prod/{ID}"}, [("ecs:DescribeTasks", f"{ARN}task/prod/{ID}"), *PROD_WHOLE]),
    ("PredictChanges", {"cluster": "prod", "changes": [{"kind": "LOSE_AVAILABILITY_ZONE"}]}, PROD_WHOLE),
    ("PredictServiceUpdate", {"request": {"cluster": PROD, "service": "web"}}, PROD_WHOLE),
    ("ListRules", {}, []),
    ("TestRules", {"cluster": "prod"}, [*RULES_READ, *((action, resource.replace("/*", "/prod/*", 1)) for action, resource in IN_PROD)]),
    ("TestRules", {}, [*RULES_READ, *((action, resource.replace("/*", "/*/*", 1)) for action, resource in IN_PROD)]),
    ("DescribeHistory", {"resource": "rule/r"}, [("homeport:ListRules", "*")]),
    ("DescribeCapacity", {}, [("ecs:DescribeCapacityProviders", f"{ARN}capacity-provider/*")]),
    ("DescribeCapacity", {"capacityProviders": ["pool"]}, [("ecs:DescribeCapacityProviders", f"{ARN}capacity-provider/pool")]),
]


@pytest.mark.parametrize(("operation", "members", "told"), OWN)
async def test_our_own_operations_tell_only_what_their_caller_may_read(installation, operation, members, told):
    await installation.ecs("CreateCluster", clusterName="prod")
    await installation.ecs("RegisterTaskDefinition", family="web", containerDefinitions=[CONTAINER])
    request = json.decode(model.load("homeport").operations[operation], msgspec.json.encode(members))
    call = Call(context=installation.context, operation=operation, request_id="r", account=ACCOUNT, principal_arn=BOB)
    asked = await installation.context.store.view(lambda reader: homeport_permission.asks(call, request, reader))
    assert [(ask.action, ask.resource) for ask in asked] == [(f"homeport:{operation}", "*"), *told]
    assert all(ask.context["ecs:cluster"] == PROD for ask in asked if "/prod/" in ask.resource)


@pytest.mark.parametrize(("operation", "members"), [("PutRule", {"name": "r", "mode": "REPORT", "require": "a"}), ("DeleteRule", {"name": "r"})])
async def test_changing_a_rule_is_asked_for_that_rule(installation, operation, members):
    request = json.decode(model.load("homeport").operations[operation], msgspec.json.encode(members))
    call = Call(context=installation.context, operation=operation, request_id="r", account=ACCOUNT, principal_arn=BOB)
    asked = await installation.context.store.view(lambda reader: homeport_permission.asks(call, request, reader))
    assert [(ask.action, ask.resource) for ask in asked] == [(f"homeport:{operation}", f"arn:aws:homeport:us-east-1:{ACCOUNT}:rule/r")]


def test_each_of_our_own_operations_says_what_it_tells():
    unsigned = {name for service, name in UNSIGNED if service == "homeport"}
    assert homeport_permission._TOLD.keys() == model.load("homeport").operations.keys() - unsigned


def test_who_a_caller_is():
    assert principal_of(ROOT, ACCOUNT).kind == "Root"
    assert principal_of(BOB, ACCOUNT).kind == "User"
    assert principal_of(f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s", ACCOUNT).kind == "AssumedRole"
    assert principal_of("nonsense", ACCOUNT).kind == "User"


def test_an_origin_without_an_address_gives_no_key(installation):
    found = installation.guard.context(principal_of(BOB, ACCOUNT), REGION, Origin("", True, "", 0.0))
    assert "aws:sourceip" not in found
    assert found["aws:securetransport"] == "true"


@pytest.mark.parametrize(
    ("over", "taken"),
    [
        ({}, True),
        ({"scheme": "https"}, False),
        ({"scheme": "https", SERVER_CERTIFICATE: "server-2"}, True),
        ({"scheme": "https", SERVER_CERTIFICATE: ""}, False),
    ],
)
async def test_over_tls_only_a_servers_certificate_makes_a_server(installation, over, taken):
    """Without TLS, which is on one machine only, the root key decides alone, as it does what each of these asks for."""
    installation.over = over
    headers = {b"host": b"h", b"content-type": b"application/x-amz-json-1.1"}
    expected = (200, b"hello") if taken else (400, None)
    status, body = await installation.send(headers, b"hello", "AKROOT", "ecs", path="/homeport/echo")
    assert (status, body if taken else None) == expected
    assert taken or b"AccessDeniedException" in body
    for path in (SERVERS_PATH, KEYS_PATH):  # what the command line asks
        assert await installation.send(headers, b"hello", "AKROOT", "ecs", path=path) == (200, b"hello")
    target = {b"x-amz-target": f"{model.load().target_prefix}.ListClusters".encode()}
    for header in (FORWARDED, origin.HEADER):
        status, body = await installation.send({**headers, **target, header: b"server-2"}, b"{}", "AKROOT", "ecs")
        assert (status == 200) is taken, body
        assert taken or b"Only a server" in body
    assert (await installation.send({**headers, **target}, b"{}", "AKROOT", "ecs"))[0] == 200


async def test_a_websocket_knows_whether_it_is_secure_and_where_from(installation):
    sessions, mine = SessionVerifier(installation.verifier, installation.guard, region=REGION), f"{ARN}container-instance/prod/{ID}"
    text = f"clusterArn={PROD}&containerInstanceArn={mine}".encode()
    request = sigv4.Request("GET", b"/acs/ws", text, {b"host": b"h"}, sigv4.EMPTY_BODY_SHA256)
    signature = sigv4.sign(request, sigv4.Credentials("AKBOB", "secret", REGION), installation.context.clock.now())
    headers = [(b"host", b"h"), *((name.lower().encode(), value.encode()) for name, value in signature.items())]
    secure = statement("*", effect="Deny", Bool={"aws:SecureTransport": "false"})
    inside = statement("*", effect="Deny", NotIpAddress={"aws:SourceIp": "100.64.0.0/16"})
    await installation.allow(statement("ecs:Poll"), secure, inside)
    assert sessions.verify("GET", "/acs/ws", text, headers, ("100.64.0.7", True))[:2] == (ACCOUNT, BOB)
    for from_ in (("100.64.0.7", False), ("100.65.0.7", True)):
        with pytest.raises(AccessDeniedError):
            sessions.verify("GET", "/acs/ws", text, headers, from_)
