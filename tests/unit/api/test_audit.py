"""Every call's end is recorded: who, from where, what, the decision, the result; and nothing that is a secret."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from tests.unit.api.audited import BOB, BOB_KEY, LIFE, ROOT_KEY, Door, member, opened
from tests.unit.api.ecs.caller import ACCOUNT, ARN, REGION, ROOT

from homeport.api.protocol import model, public
from homeport.api.server import Application
from homeport.audit.log import MemoryAudit
from homeport.config import Settings
from homeport.errors import ServiceUnavailableError
from homeport.iam import sigv4


@pytest.fixture
async def door():
    made = await opened()
    yield made
    await made.context.store.close()


def parameters(record: Any) -> Any:
    return json.loads(bytes(record.parameters))


# --- what is recorded ---


async def test_a_read_by_the_root(door):
    await door.call("ListClusters", {"maxResults": 7})
    record = door.last
    assert (record.kind, record.service, record.operation, record.status, record.error) == ("call", "ecs", "ListClusters", 200, "")
    assert (record.account, record.principal, record.access_key_id) == (ACCOUNT, ROOT, ROOT_KEY)
    assert (record.address, record.agent, record.secure, record.read_only) == ("100.64.0.7", "tester/1.0", False, True)
    assert parameters(record) == {"maxResults": 7}
    assert record.response is None, "answers to reads are not kept"
    assert record.decision is not None
    assert (record.decision.allowed, record.decision.by) == (True, "root")
    assert record.request_id.startswith(LIFE)
    assert len(door.records) == 1


async def test_a_change_with_its_answer(door):
    await door.call("CreateCluster", {"clusterName": "prod"})
    assert not door.last.read_only
    assert json.loads(bytes(door.last.response))["cluster"]["clusterArn"] == f"{ARN}cluster/prod"


async def test_the_request_id_is_that_of_the_answer_and_of_the_journal(door):
    await door.call("CreateCluster", {"clusterName": "prod"})
    entries = await door.context.store.journal.entries()
    assert entries[-1].cause == f"CreateCluster {door.last.request_id} {ROOT}"


async def test_what_a_policy_allowed(door):
    await door.allow({"Effect": "Allow", "Action": "ecs:DescribeClusters", "Resource": "*"})
    await door.call("DescribeClusters", {"clusters": ["prod"]}, key=BOB_KEY)
    decision = door.last.decision
    assert decision is not None
    assert (decision.allowed, decision.by, decision.policy) == (True, "identity-based policy", "bobs")
    assert (decision.action, decision.resource) == ("ecs:DescribeClusters", f"{ARN}cluster/prod")
    assert door.last.resources == (f"{ARN}cluster/prod",)
    assert door.last.principal == BOB


async def test_a_refusal_says_by_which_policy(door):
    await door.call("DescribeClusters", {"clusters": ["prod"]}, key=BOB_KEY)
    record = door.last
    assert (record.status, record.error) == (400, "AccessDeniedException")
    assert record.message.startswith(f"User: {BOB} is not authorized to perform: ecs:DescribeClusters")
    assert record.decision is not None
    assert (record.decision.allowed, record.decision.by, record.decision.explicit) == (False, "identity-based policy", False)
    assert parameters(record) == {"clusters": ["prod"]}
    await door.allow({"Effect": "Deny", "Action": "*", "Resource": "*"})
    await door.call("ListClusters", key=BOB_KEY)
    assert door.last.decision is not None
    assert (door.last.decision.explicit, door.last.decision.policy) == (True, "bobs")


async def test_a_refusal_in_the_query_protocol(door):
    await door.form("ListUsers", service="iam", key=BOB_KEY)
    record = door.last
    assert (record.service, record.operation, record.error, record.status) == ("iam", "ListUsers", "AccessDenied", 403)
    assert record.decision is not None
    assert not record.decision.allowed


@pytest.mark.parametrize(
    ("change", "code", "account"),
    [
        ({"secret": "another"}, "InvalidSignatureException", ACCOUNT),
        ({"key": "AKIANOBODYNOBODYNOBO"}, "UnrecognizedClientException", ""),
    ],
)
async def test_a_signature_that_is_not_good(door, change, code, account):
    await door.call("CreateCluster", {"clusterName": "prod"}, **change)
    record = door.last
    assert (record.error, record.status, record.operation) == (code, 400, "CreateCluster")
    assert (record.principal, record.account) == ("", account), "nobody is said to have done it"
    assert record.access_key_id == change.get("key", ROOT_KEY)
    assert record.parameters is None, "what nobody signed is not repeated"
    assert record.decision is None


async def test_unsigned_garbage(door):
    await door.raw({b"host": b"h"}, b"\xff\xfe", path="/nowhere")
    assert (door.last.error, door.last.operation, door.last.principal) == ("UnknownOperationException", "", "")
    await door.raw({b"host": b"h", b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": b"\xffTarget"}, b"")
    assert door.last.error == "UnknownOperationException"
    await door.raw({b"host": b"h", b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": _target("ListClusters")}, b"{}")
    assert (door.last.error, door.last.operation) == ("MissingAuthenticationTokenException", "ListClusters")
    await door.raw({b"host": b"h", b"content-type": b"application/x-www-form-urlencoded"}, b"Action=Nothing&Version=1")
    assert door.last.error == "InvalidAction"
    await door.raw({b"host": b"h"}, b"x" * 2_000_000)
    assert door.last.error == "RequestEntityTooLargeException"
    assert len(door.records) == 5


def _target(operation: str) -> bytes:
    return f"{model.load().target_prefix}.{operation}".encode()


async def test_an_expired_session_is_known_by_its_name(door):
    answer = await door.form("GetSessionToken", service="sts", key=BOB_KEY, DurationSeconds="900")
    assert door.last.error == ""
    door.token = member(answer, "SessionToken")
    await door.context.clock.advance(1000.0)
    await door.call("ListClusters", key=member(answer, "AccessKeyId"), secret=member(answer, "SecretAccessKey"))
    assert door.last.error == "ExpiredTokenException"
    assert (door.last.account, door.last.principal) == (ACCOUNT, BOB)
    assert door.last.session is not None
    assert door.last.session.source == BOB


async def test_what_does_not_fit_the_model_and_what_a_handler_refuses(door):
    await door.call("CreateCluster", b'{"clusterName": 7}')
    assert (door.last.error, door.last.parameters) == ("SerializationException", None)
    await door.call("DeleteCluster", {"cluster": "gone"})
    assert (door.last.error, parameters(door.last)) == ("ClusterNotFoundException", {"cluster": "gone"})
    assert door.last.message
    await door.form("StartSomething", service="iam")
    assert door.last.error == "InvalidAction"
    await door.call("ListTrails", service="cloudtrail")
    assert door.last.error, "an operation that is not built"


async def test_a_call_that_is_throttled():
    door = await opened(Settings(request_throttling_factor=0.01))
    for _ in range(30):
        await door.call("CreateCluster", {"clusterName": "prod"})
    assert door.last.error == "ThrottlingException"
    assert door.last.principal == ROOT
    assert len(door.records) == 30
    await door.context.store.close()


async def test_paths_between_servers_record_who_is_refused(door):
    status, _ = await door.send({}, b"hello", service="ecs", key=ROOT_KEY, secret="secret", path="/homeport/echo")
    assert (status, len(door.records)) == (200, 0)
    await door.send({}, b"hello", service="ecs", key=BOB_KEY, secret="secret", path="/homeport/echo")
    assert (door.last.kind, door.last.operation, door.last.error, door.last.principal) == ("servers", "/homeport/echo", "AccessDeniedException", BOB)
    await door.raw({b"host": b"h"}, b"", path="/homeport/echo")
    assert (door.last.error, door.last.principal) == ("MissingAuthenticationTokenException", "")


# --- agents' connections ---


async def open_websocket(door: Door, *, key: str = ROOT_KEY, secret: str = "secret", answers: list[Any], path: str = "/acs/ws") -> None:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        for answer in answers:
            await send(answer)

    door.websockets[path] = handler
    query = b"clusterArn=prod&containerInstanceArn=i-1&secretThing=canary"
    headers = {b"host": b"h", b"user-agent": b"agent/2"}
    request = sigv4.Request("GET", path.encode(), query, headers, sigv4.EMPTY_BODY_SHA256)
    signature = sigv4.sign(request, sigv4.Credentials(key, secret, REGION, "ecs"), door.context.clock.now())
    headers |= {name.lower().encode(): value.encode() for name, value in signature.items()}
    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": query, "headers": list(headers.items())}
    scope |= {"client": ("100.64.0.9", 1), "scheme": "wss"}

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        pass

    await door.application(scope, receive, send)


ACCEPT = {"type": "websocket.accept"}
REFUSE = [
    {"type": "websocket.http.response.start", "status": 400, "headers": [(b"x-amzn-errortype", b"AccessDeniedException")]},
    {"type": "websocket.http.response.body", "body": b'{"AccessDeniedException":"not yours"}'},
]


async def test_a_connection_that_is_opened(door):
    await open_websocket(door, answers=[ACCEPT, {"type": "websocket.send", "text": "hello"}, {"type": "websocket.close"}])
    assert len(door.records) == 1, "what is said on it is no call"
    record = door.last
    assert (record.kind, record.operation, record.status, record.error) == ("connection", "Poll", 101, "")
    assert (record.principal, record.address, record.secure, record.agent) == (ROOT, "100.64.0.9", True, "agent/2")
    assert parameters(record) == {"clusterArn": "prod", "containerInstanceArn": "i-1"}


async def test_connections_that_are_refused(door):
    await open_websocket(door, answers=REFUSE, key=BOB_KEY)
    assert (door.last.error, door.last.status, door.last.message) == ("AccessDeniedException", 400, "not yours")
    assert door.last.principal == BOB
    assert door.last.decision is not None
    assert not door.last.decision.allowed
    await open_websocket(door, answers=REFUSE, secret="wrong", path="/tcs/ws")
    assert (door.last.operation, door.last.principal, door.last.access_key_id) == ("StartTelemetrySession", "", ROOT_KEY)
    await open_websocket(door, answers=[{"type": "websocket.close", "code": 1008, "reason": "ServerException"}])
    assert (door.last.error, door.last.status) == ("ServerException", 403)
    assert len(door.records) == 3


# --- credentials ---


class Unwritable(MemoryAudit):
    """A log that cannot be written."""

    async def durable(self) -> None:
        raise ServiceUnavailableError("no space")


@pytest.mark.parametrize(("mode", "given"), [("hold", False), ("refuse", False), ("serve", True)])
async def test_no_credentials_leave_without_their_record_on_the_disk(mode, given):
    door = await opened(Settings(audit_write_failure=mode))
    context = dataclasses.replace(door.context, audit=Unwritable(door.context.clock, LIFE))
    application = Application(context, {"sts": _sts()}, verifier=door.verifier, websockets={})
    door.application = application
    answer = await door.form("GetSessionToken", service="sts", key=BOB_KEY)
    assert ("SecretAccessKey" in answer) is given
    assert ("ServiceUnavailable" in answer) is not given
    await door.context.store.close()


def _sts() -> Any:
    from homeport.api.sts.operations import OPERATIONS

    return OPERATIONS


class FullAudit(MemoryAudit):
    """A log that has no room."""

    admits = False

    async def room(self) -> None:
        raise ServiceUnavailableError("The audit log cannot be written.")


async def test_without_room_for_a_record_no_call_is_served(door):
    context = dataclasses.replace(door.context, audit=FullAudit(door.context.clock, LIFE))
    from homeport.api.ecs.operations import OPERATIONS

    door.application = Application(context, {"ecs": OPERATIONS}, verifier=door.verifier, websockets={})
    answer = await door.call("CreateCluster", {"clusterName": "prod"})
    assert answer["__type"] == "ServiceUnavailable"
    assert (await door.ecs("ListClusters"))["clusterArns"] == []


# --- secrets ---

CANARIES = {
    name: f"canary-{name}-7f3a9c1e" for name in ("env", "override", "log", "volume", "wrong", "signature", "token", "hook", "password", "firelens")
}


def definition(**more: Any) -> dict[str, Any]:
    environment = [{"name": "PASSWORD", "value": CANARIES["env"]}]
    options = {"splunk-token": CANARIES["log"]}
    container = {"name": "web", "image": "nginx", "memory": 64, "environment": environment}
    container |= {"logConfiguration": {"logDriver": "json-file", "options": options}}
    volume = {"name": "share", "dockerVolumeConfiguration": {"driver": "local", "driverOpts": {"o": f"password={CANARIES['volume']}"}}}
    return {"family": "web", "containerDefinitions": [container], "volumes": [volume], **more}


async def plant(door: Door) -> set[str]:
    """Call much with secrets in it, well and badly; the secrets that were given out."""
    given: set[str] = set()
    override = {"containerOverrides": [{"name": "web", "environment": [{"name": "A", "value": CANARIES["override"]}]}]}
    await door.call("CreateCluster")
    await door.call("RegisterTaskDefinition", definition())
    await door.call("RegisterTaskDefinition", definition(networkMode="nonsense"))
    await door.call("RegisterTaskDefinition", definition(), key=BOB_KEY)
    await door.call("RegisterTaskDefinition", definition(), secret=CANARIES["signature"])
    bad = definition()
    bad["containerDefinitions"][0]["environment"] = [{"name": CANARIES["wrong"], "value": 7}]
    await door.call("RegisterTaskDefinition", bad)
    bad["containerDefinitions"][0]["environment"] = CANARIES["wrong"]
    await door.call("RegisterTaskDefinition", bad)
    bad["containerDefinitions"][0]["environment"] = [{"name": "", "value": CANARIES["wrong"]}]
    await door.call("RegisterTaskDefinition", bad)
    bad = definition()
    bad["containerDefinitions"][0]["logConfiguration"]["options"] = {"max-size": CANARIES["wrong"], "mode": CANARIES["wrong"]}
    bad["containerDefinitions"][0]["firelensConfiguration"] = {"type": "fluentd", "options": {"config-file-type": CANARIES["firelens"]}}
    await door.call("RegisterTaskDefinition", bad)
    await door.call("RunTask", {"taskDefinition": "web:1", "overrides": override})
    await door.call("RunTask", {"taskDefinition": "web:1", "overrides": override, "count": 99})
    await door.call("RunTask", {"taskDefinition": "gone", "overrides": override})
    hook = {"hookTargetArn": "arn:aws:lambda:us-east-1:1:function:f", "roleArn": "r", "hookDetails": {"key": CANARIES["hook"]}}
    configuration = {"lifecycleHooks": [{**hook, "lifecycleStages": ["PRE_SCALE_UP"]}]}
    await door.call("CreateService", {"serviceName": "web", "taskDefinition": "web:1", "desiredCount": 0, "deploymentConfiguration": configuration})
    past = {"operation": "DescribeTasks", "request": {"tasks": [CANARIES["hook"]]}, "revision": 1}
    await door.call("DescribeAt", past, service="homeport")
    await door.form("CreateUser", service="iam", UserName="eve")
    given.add(member(await door.form("CreateAccessKey", service="iam", UserName="eve"), "SecretAccessKey"))
    await door.form("CreateLoginProfile", service="iam", UserName="eve", Password=CANARIES["password"])
    session = await door.form("GetSessionToken", service="sts", key=BOB_KEY)
    given |= {member(session, "SecretAccessKey"), member(session, "SessionToken")}
    door.token = member(session, "SessionToken")
    await door.call("ListClusters", key=member(session, "AccessKeyId"), secret=member(session, "SecretAccessKey"))
    door.token = CANARIES["token"]
    await door.call("ListClusters")
    door.token = ""
    await door.raw({b"host": b"h", b"authorization": CANARIES["token"].encode(), b"x-amz-target": CANARIES["token"].encode()}, b"")
    swapped = f"AWS4-HMAC-SHA256 Credential={CANARIES['token']}/20261124/us-east-1/ecs/aws4_request, SignedHeaders=host, Signature=00"
    target = {b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": _target("ListClusters")}
    await door.raw({b"host": b"h", b"authorization": swapped.encode(), **target}, b"")
    return given


async def test_no_planted_secret_is_ever_recorded(door):
    given = await plant(door)
    assert len(door.records) == 22
    assert sum(record.status == 200 for record in door.records) >= 7, "calls that went well are among them"
    assert sum(record.error == "ClientException" for record in door.records) >= 2
    told = door.text
    assert not [name for name, canary in CANARIES.items() if canary in told]
    assert len(given) == 3
    assert not [secret for secret in given if secret in told]
    assert "Signature=" not in told
    assert '"family":"web"' in told, "what is no secret is there"
    assert '"userName":"eve"' in told or '"UserName":"eve"' in told


async def test_what_a_rule_found_is_told_to_the_caller_and_not_recorded(door):
    await door.call("RegisterTaskDefinition", definition())
    rule = {"name": "r", "mode": "ENFORCE", "violations": "taskDefinition.containerDefinitions[].environment[].value"}
    await door.call("PutRule", rule, service="homeport")
    refused = await door.call("RegisterTaskDefinition", definition())
    assert CANARIES["env"] in refused["message"]
    record = door.last
    assert (record.error, record.message.startswith("The rule r forbids this task definition: taskDefinition.")) == ("AccessDeniedException", True)
    assert record.decision is not None and record.decision.allowed, "no policy refused it"
    broken = {**rule, "violations": "starts_with(taskDefinition.containerDefinitions[].environment[].value, 'x')"}
    await door.call("PutRule", broken, service="homeport")
    assert CANARIES["env"] in (await door.call("RegisterTaskDefinition", definition()))["message"]
    report = await door.call("TestRules", {"rule": rule}, service="homeport")
    assert report["violations"][0]["found"] == [CANARIES["env"]]
    assert CANARIES["env"] not in door.text


@pytest.mark.parametrize("service", ["ecs", "homeport", "iam", "sts"])
def test_every_sensitive_member_of_every_operation_is_left_out(service):
    """Filled with one word wherever a string may stand, no request and no answer tells the word where the model says that it is sensitive."""
    modelled = model.load(service)
    for operation in modelled.operations.values():
        for shape, told in ((operation.input_shape, public.request_of), (operation.output_shape, _answer_of)):
            if shape is None:
                continue
            raw = told(operation, _filled(modelled, shape, sensitive=False, depth=0))
            assert raw is not None, operation.name
            assert b"HIDDEN" not in bytes(raw), operation.name


def _answer_of(operation: model.Operation, answer: Any) -> msgspec.Raw | None:
    return public.answer_of(operation, msgspec.json.encode(answer))


def test_an_answer_is_told_by_its_objects_without_what_is_nested_in_them():
    operation = model.load().operations["RegisterTaskDefinition"]
    container = {"name": "app", "image": "app:1", "environment": [{"name": "KEY", "value": "canary"}]}
    answer = {"taskDefinition": {"taskDefinitionArn": "arn", "revision": 3, "requiresCompatibilities": ["EC2"], "containerDefinitions": [container]}}
    told = _answer_of(operation, {**answer, "tags": [{"key": "team", "value": "red"}]})
    kept = {"taskDefinitionArn": "arn", "revision": 3, "requiresCompatibilities": ["EC2"]}
    assert msgspec.json.decode(bytes(told or b"")) == {"taskDefinition": kept, "tags": [{"key": "team", "value": "red"}]}
    run = _answer_of(model.load().operations["RunTask"], {"tasks": [{"taskArn": "t", "containers": [{"containerArn": "c"}]}], "failures": []})
    assert msgspec.json.decode(bytes(run or b"")) == {"tasks": [{"taskArn": "t"}], "failures": []}


def _filled(modelled: model.ServiceModel, name: str, *, sensitive: bool, depth: int) -> Any:
    shape = modelled.shapes[name]
    sensitive = sensitive or shape.sensitive or shape.document
    if depth > 9 or shape.document:
        return {"HIDDEN": "HIDDEN"} if shape.document else None
    if shape.type == "structure":
        found = {key: _filled(modelled, part.shape, sensitive=sensitive, depth=depth + 1) for key, part in shape.members.items()}
        return {key: value for key, value in found.items() if value is not None}
    if shape.type == "list" and shape.member:
        return [_filled(modelled, shape.member.shape, sensitive=sensitive, depth=depth + 1)]
    if shape.type == "map" and shape.value:
        return {"HIDDEN" if sensitive else "key": _filled(modelled, shape.value.shape, sensitive=sensitive, depth=depth + 1)}
    if shape.type in ("string", "blob"):
        return "HIDDEN" if sensitive else "shown"
    return {"boolean": True, "integer": 1, "long": 1}.get(shape.type, 1.5)


async def test_parameters_of_who_could_not_be_identified_are_left_out(door):
    """A request with a token of an identity provider is read before anybody knows whose it is."""
    body = urlencode(
        {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": "a" * 30, "RoleSessionName": "me", "WebIdentityToken": "x.y.z"}
    )
    await door.raw({b"host": b"h", b"content-type": b"application/x-www-form-urlencoded"}, body.encode())
    assert (door.last.operation, door.last.principal, door.last.parameters, door.last.message) == ("AssumeRoleWithWebIdentity", "", None, "")
    assert door.last.error


def test_what_is_sensitive_is_struck_from_messages():
    operation = model.load().operations["RegisterTaskDefinition"]
    request = {"family": "web", "containerDefinitions": [{"name": "app", "environment": [{"name": "KEY", "value": "canary"}]}]}
    assert public.without_secrets("app: canary is no value of web", operation, request) == "app: *** is no value of web"
    assert public.without_secrets("app: canary", operation, None) == "app: canary"


def test_what_is_long_is_told_by_its_size():
    operation = model.load().operations["TagResource"]
    request = {"resourceArn": "a", "tags": [{"key": "k", "value": "v" * 250}] * 200}
    told = public.request_of(operation, request)
    assert list(msgspec.json.decode(bytes(told or b""))) == ["omittedBytes"]
