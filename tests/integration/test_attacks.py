"""What somebody sends who wants in: each is refused with the error that fits, and nothing is changed. On a real server, byte by byte."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import re
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import pytest
from botocore.exceptions import ClientError
from tests.integration.test_iam import ADMINISTRATOR, REGION, Server, allowing, refused, server, trusting

from homeport.api.protocol import model
from homeport.iam import proof, sigv4

__all__ = ["server"]

JSON, FORM = "application/x-amz-json-1.1", "application/x-www-form-urlencoded"
CREATE = {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.CreateCluster", "Content-Type": JSON}
BODY = b'{"clusterName":"stolen"}'


class Answer(NamedTuple):
    """What came back."""

    status: int
    code: str
    text: str


class Attacker:
    """Signs as it likes and sends what it likes."""

    def __init__(self, server: Server) -> None:
        self.server, self.host = server, urlsplit(server.url).netloc

    def signed(
        self,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        key: tuple[str, str] = ("", ""),
        at: float = 0.0,
        service: str = "ecs",
        line: str = "POST /",
    ) -> list[tuple[str, str]]:
        """The headers of a request, signed now unless told otherwise."""
        given = {"Host": self.host, **headers}
        method, target = line.split(" ")
        path, _, query = target.partition("?")
        lower = {name.lower().encode(): value.encode() for name, value in given.items()}
        request = sigv4.Request(method, path.encode(), query.encode(), lower, hashlib.sha256(body).hexdigest())
        credentials = sigv4.Credentials(key[0] or self.server.key, key[1] or self.server.secret, REGION, service)
        return [*given.items(), *sigv4.sign(request, credentials, at or time.time()).items()]

    def open(self, headers: list[tuple[str, str]], body: bytes = b"", *, line: str = "POST /") -> http.client.HTTPConnection:
        """Send exactly this, and keep the connection."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        connection.putrequest(*line.split(" "), skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection

    def send(self, headers: list[tuple[str, str]], body: bytes = b"", *, line: str = "POST /") -> Answer:
        """Send exactly this, and read the answer."""
        connection = self.open(headers, body, line=line)
        try:
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        code = re.search(r'"__type":"(\w+)"|<Code>(\w+)</Code>', text)
        return Answer(response.status, (code[1] or code[2]) if code else "", text)

    def form(self, *fields: tuple[str, str], key: tuple[str, str] = ("", "")) -> Answer:
        """A call of IAM's with just these fields."""
        body = urlencode((*fields, ("Version", "2010-05-08"))).encode()
        return self.send(self.signed({"Content-Type": FORM}, body, service="iam", key=key), body)

    @property
    def revision(self) -> int:
        return int(json.loads(self.send([("Host", self.host)], line="GET /health").text)["revision"])


@pytest.fixture
def attacker(server) -> Iterator[Attacker]:
    yield Attacker(server)


def without(headers: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    return [pair for pair in headers if pair[0] != name]


def with_(headers: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    return [*without(headers, name), (name, value)]


def test_altered_replayed_and_stripped_requests(attacker):
    good = attacker.signed(CREATE, BODY)
    authorization = dict(good)["Authorization"]
    target = CREATE["X-Amz-Target"]
    unsigned = re.sub(";x-amz-target", "", authorization)
    attempts = [
        (good, BODY.replace(b"stolen", b"gotten"), "InvalidSignatureException"),
        (with_(good, "X-Amz-Target", target.replace("Create", "Delete")), BODY, "InvalidSignatureException"),
        (with_(good, "Authorization", unsigned), BODY, "IncompleteSignatureException"),
        (with_(good, "Authorization", authorization[:-1] + ("0" if authorization[-1] != "0" else "1")), BODY, "InvalidSignatureException"),
        (with_(good, "Authorization", re.sub(r"Signature=\w+", "Signature=", authorization)), BODY, "InvalidSignatureException"),
        (with_(good, "Authorization", re.sub(r", Signature=\w+", "", authorization)), BODY, "IncompleteSignatureException"),
        (without(good, "Authorization"), BODY, "MissingAuthenticationTokenException"),
        (without(good, "X-Amz-Date"), BODY, "IncompleteSignatureException"),
        (attacker.signed(CREATE, BODY, at=time.time() - 3600), BODY, "InvalidSignatureException"),
        (attacker.signed(CREATE, BODY, at=time.time() + 3600), BODY, "InvalidSignatureException"),
        (attacker.signed(CREATE, BODY, service="iam"), BODY, "InvalidSignatureException"),
        (attacker.signed(CREATE, BODY, key=("AKIAROOTROOTROOTROOT", "guessed")), BODY, "InvalidSignatureException"),
        (attacker.signed({**CREATE, "X-Amz-Security-Token": "A" * 80}, BODY), BODY, "UnrecognizedClientException"),
        (attacker.signed({**CREATE, "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}, BODY), BODY, "InvalidSignatureException"),
        # twice the same header: what is signed is both together, and no operation is called so
        ([*good, ("X-Amz-Target", target)], BODY, "UnknownOperationException"),
        ([*good, ("Authorization", authorization)], BODY, "IncompleteSignatureException"),
        ([*good, ("Host", "elsewhere")], BODY, "InvalidSignatureException"),
    ]
    before = attacker.revision
    for number, (headers, body, code) in enumerate(attempts):
        answer = attacker.send(headers, body)
        assert (answer.status, answer.code) == (400, code), (number, answer)
    assert attacker.revision == before
    assert attacker.send(good, BODY).status == 200, "the request that all others were made of is good"


def test_a_signature_in_the_query_string_opens_nothing(attacker, server):
    """Presigned URLs, however long they say that they are good for: whoever finds one in a log has nothing."""
    before = attacker.revision
    for seconds in (60, 604_800):
        url = server.client("sts").generate_presigned_url("get_caller_identity", ExpiresIn=seconds, HttpMethod="GET")
        _, _, query = url.partition("?")
        assert "X-Amz-Signature=" in query
        assert f"X-Amz-Expires={seconds}" in query
        answer = attacker.send([("Host", attacker.host)], line=f"GET /?{query}")
        assert (answer.status, answer.code) == (400, "UnknownOperationException")
        presigned = server.client("ecs").generate_presigned_url("create_cluster", Params={"clusterName": "stolen"}, ExpiresIn=seconds)
        _, _, query = presigned.partition("?")
        answer = attacker.send([("Host", attacker.host), *CREATE.items()], BODY, line=f"POST /?{query}")
        assert (answer.status, answer.code) == (400, "MissingAuthenticationTokenException")
    assert attacker.revision == before


def test_forms_that_say_something_twice(attacker):
    tags = (("Tags.member.1.Key", "a"), ("Tags.member.1.Value", "b"))
    attempts = [
        (("Action", "CreateUser"), ("UserName", "one"), ("UserName", "two")),
        (("Action", "CreateUser"), ("Action", "GetUser"), ("UserName", "one")),
        (("Action", "CreateUser"), ("UserName", "one"), *tags, ("Tags.member.01.Key", "c"), ("Tags.member.01.Value", "d")),
        (("Action", "CreateUser"), ("UserName", "one"), *tags, ("Tags.member.1.Key.x", "c")),
        (("Action", "CreateUser"), ("UserName", "one"), *tags, ("Tags.member", "c")),
        (("Action", "ListUsers"), ("MaxItems", "1_0")),
    ]
    before = attacker.revision
    for fields in attempts:
        answer = attacker.form(*fields)
        assert (answer.status, answer.code) == (400, "MalformedInput"), (fields, answer)
    assert attacker.revision == before


def test_keys_that_are_disabled_and_keys_of_a_user_that_is_gone(attacker, server):
    iam = server.client("iam")
    iam.create_user(UserName="leaver")
    iam.attach_user_policy(UserName="leaver", PolicyArn=ADMINISTRATOR)
    key = iam.create_access_key(UserName="leaver")["AccessKey"]
    pair = (key["AccessKeyId"], key["SecretAccessKey"])
    token = server.client("sts", *pair).get_session_token()["Credentials"]
    session = server.client("ecs", token["AccessKeyId"], token["SecretAccessKey"], token["SessionToken"])
    session.list_clusters()
    iam.update_access_key(UserName="leaver", AccessKeyId=pair[0], Status="Inactive")
    refused("UnrecognizedClientException", 400, server.client("ecs", *pair).create_cluster, clusterName="gone")
    assert attacker.form(("Action", "CreateAccessKey"), key=pair)[:2] == (403, "InvalidClientTokenId")
    iam.delete_access_key(UserName="leaver", AccessKeyId=pair[0])
    iam.detach_user_policy(UserName="leaver", PolicyArn=ADMINISTRATOR)
    iam.delete_user(UserName="leaver")
    before = attacker.revision
    refused("UnrecognizedClientException", 400, server.client("ecs", *pair).create_cluster, clusterName="gone")
    refused("AccessDeniedException", 400, session.create_cluster, clusterName="gone")
    iam.create_user(UserName="leaver")  # another one of that name
    iam.attach_user_policy(UserName="leaver", PolicyArn=ADMINISTRATOR)
    refused("AccessDeniedException", 400, session.create_cluster, clusterName="gone")
    assert attacker.revision == before + 2


def test_policies_that_are_to_hold_the_server_up(attacker, server):
    iam = server.client("iam")
    iam.create_user(UserName="slow")
    blank = " " * 100_000
    too_deep = '{"Statement":' + "[" * 50_000 + "]" * 50_000 + "}"
    for code, status, document in (
        ("LimitExceeded", 409, allowing(["ecs:" + "a" * 60] * 60)),
        ("MalformedPolicyDocument", 400, too_deep),
        ("MalformedPolicyDocument", 400, '{"Statement":' + '{"a":' * 2000 + "1" + "}" * 2001),
        ("MalformedPolicyDocument", 400, '{"Statement":[],"Statement":[]}'),
        ("ValidationError", 400, "x" * 140_000),
    ):
        before = attacker.revision
        refused(code, status, iam.put_user_policy, UserName="slow", PolicyName="p", PolicyDocument=document)
        assert attacker.revision == before
    # these are policies, however odd: read and asked at once, where a matcher that tries every way would never end
    for resource in ("${" + blank, "arn:aws:ecs:" + "*a" * 500 + "b", "arn:aws:ecs:" + "?*" * 500 + "b", "arn:aws:ecs:${a," + blank):
        iam.put_user_policy(UserName="slow", PolicyName="p", PolicyDocument=allowing("*", f"arn:aws:{resource}"))
        ecs = server.as_user("ecs", "slow")
        refused("AccessDeniedException", 400, ecs.describe_clusters, clusters=["a" * 255])
        for key in iam.list_access_keys(UserName="slow")["AccessKeyMetadata"]:
            iam.delete_access_key(UserName="slow", AccessKeyId=key["AccessKeyId"])


@pytest.mark.parametrize("path", ["/acs/ws", "/%61cs/ws", "/tcs/ws", "/tcs/%77s"])
def test_no_spelling_of_a_path_opens_a_websocket_to_a_stranger(attacker, server, path):
    server.client("iam").create_user(UserName=f"peeper{quote(path, safe='').replace('%', '')}")
    made = server.client("iam").create_access_key(UserName=f"peeper{quote(path, safe='').replace('%', '')}")["AccessKey"]
    instance = quote(f"arn:aws:ecs:{REGION}:{server.account}:container-instance/default/{'0' * 32}", safe="")
    line = f"GET {path}?clusterArn=default&containerInstanceArn={instance}&cluster=default&containerInstance={instance}"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = base64.b64encode(b"0" * 16).decode()
    answer = attacker.send(attacker.signed(upgrade, key=(made["AccessKeyId"], made["SecretAccessKey"]), line=line), line=line)
    assert answer.status == 400
    assert "AccessDeniedException" in answer.text


def test_a_principal_is_simulated_under_its_own_name_only(server):
    iam = server.client("iam")
    iam.create_user(UserName="chief", Path="/board/")
    iam.create_user(UserName="clerk")
    simulate = {"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": "arn:aws:iam::*:user/office/*"}
    iam.put_user_policy(UserName="clerk", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": simulate}))
    clerk: Any = server.as_user("iam", "clerk")
    for path, code, status in (("board", "AccessDenied", 403), ("office", "NoSuchEntity", 404)):
        source = f"arn:aws:iam::{server.account}:user/{path}/chief"
        refused(code, status, clerk.simulate_principal_policy, PolicySourceArn=source, ActionNames=["iam:CreateUser"])


DEEP: Final = '{"Statement":' + "[" * 5_000 + "]" * 5_000 + "}"
TWICE: Final = '{"Statement":[],"Statement":[]}'


def test_every_operation_that_takes_a_policy_refuses_what_is_too_large_or_too_deep(attacker, server):
    iam, sts = server.client("iam"), server.client("sts")
    policy = iam.create_policy(PolicyName="sizes", PolicyDocument=allowing("ecs:*"))["Policy"]["Arn"]
    iam.create_user(UserName="sizes")
    iam.create_group(GroupName="sizes")
    role = iam.create_role(RoleName="sizes", AssumeRolePolicyDocument=trusting({"AWS": server.account}))["Role"]["Arn"]
    iam.put_user_policy(UserName="sizes", PolicyName="p", PolicyDocument=allowing("sts:*"))
    user = server.as_user("sts", "sizes")
    session = {"RoleArn": role, "RoleSessionName": "session"}
    own = {"PolicyName": "p"}
    places: list[tuple[Any, str, dict[str, Any]]] = [
        (iam.create_policy, "PolicyDocument", {"PolicyName": "other"}),
        (iam.create_policy_version, "PolicyDocument", {"PolicyArn": policy}),
        (iam.put_user_policy, "PolicyDocument", {"UserName": "sizes", **own}),
        (iam.put_group_policy, "PolicyDocument", {"GroupName": "sizes", **own}),
        (iam.put_role_policy, "PolicyDocument", {"RoleName": "sizes", **own}),
        (iam.create_role, "AssumeRolePolicyDocument", {"RoleName": "other"}),
        (iam.update_assume_role_policy, "PolicyDocument", {"RoleName": "sizes"}),
        (user.assume_role, "Policy", session),
        (sts.get_federation_token, "Policy", {"Name": "guest"}),
    ]
    before = attacker.revision
    for function, member, more in places:
        for document in (DEEP, TWICE, "x" * 140_000, allowing(["ecs:" + "a" * 60] * 300), '{"Statement":{"Effect":"Allow"', "[" * 2_000, "null"):
            with pytest.raises(ClientError) as error:
                function(**{member: document}, **more)
            assert error.value.response["Error"]["Code"] in ("MalformedPolicyDocument", "LimitExceeded", "ValidationError"), (function, document[:40])
    for documents in ([DEEP], [TWICE], ["x" * 140_000]):
        refused_of(iam.simulate_custom_policy, PolicyInputList=documents, ActionNames=["ecs:RunTask"])
    assert attacker.revision == before


def refused_of(function: Any, **members: Any) -> None:
    with pytest.raises(ClientError) as error:
        function(**members)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 409)


STARS: Final = "*a" * 400 + "b"


@pytest.mark.parametrize(
    "statement",
    [
        {"Action": "ecs:" + "*a" * 60 + "b", "Resource": "*"},
        {"Action": "*", "Resource": "*", "Condition": {"StringLike": {"aws:UserAgent": [STARS, "a" + STARS]}}},
        {"Action": "*", "Resource": "*", "Condition": {"StringNotLike": {"aws:UserAgent": "*" * 900}, "StringLike": {"aws:UserAgent": STARS}}},
        {"Action": "*", "Resource": "*", "Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/" + STARS}}},
        {
            "Action": "*",
            "Resource": "*",
            "Condition": {"ForAnyValue:StringLike": {"aws:TagKeys": [STARS, "?*" * 300]}, "Null": {"aws:TagKeys": "false"}},
        },
        {"Action": "*", "Resource": "*", "Condition": {"StringLike": {"aws:UserAgent": "${aws:UserAgent,'" + "*" * 800 + "'}x"}}},
        {"Action": "*", "Resource": "*", "Condition": {"NumericLessThan": {"aws:EpochTime": "1" * 1500}, "Bool": {"aws:SecureTransport": "true"}}},
        {"Action": "*", "Resource": "*", "Condition": {"DateGreaterThan": {"aws:CurrentTime": "9" * 1500}}},
        {"Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "1" * 1500}}},
    ],
    ids=lambda statement: next(iter(statement.get("Condition", statement))),
)
def test_patterns_and_values_that_are_to_take_for_ever(statement, attacker, server):
    """Against the longest texts that a request can have. A client gives up after 20 s; a matcher that tries every way would need ages."""
    iam = server.client("iam")
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName="redos")
    key = iam.create_access_key(UserName="redos")["AccessKey"]
    document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})
    iam.put_user_policy(UserName="redos", PolicyName="p", PolicyDocument=document)
    body = json.dumps({"clusterName": "a" * 255, "tags": [{"key": "a" * 100 + str(n), "value": "a"} for n in range(50)]}).encode()
    before = attacker.revision
    pair = (key["AccessKeyId"], key["SecretAccessKey"])
    answer = attacker.send(attacker.signed({**CREATE, "User-Agent": "a" * 7000}, body, key=pair), body)
    assert (answer.status, answer.code) == (400, "AccessDeniedException"), answer
    assert attacker.revision == before
    iam.delete_access_key(UserName="redos", AccessKeyId=key["AccessKeyId"])


def test_no_operation_hands_a_role_on_without_pass_role(attacker, server):
    """The confused deputy: everything of ECS is allowed, the role is there, and nobody may pass it."""
    iam, root = server.client("iam"), server.client("ecs")
    role = iam.create_role(RoleName="coveted", AssumeRolePolicyDocument=trusting({"Service": "ecs-tasks.amazonaws.com"}))["Role"]["Arn"]
    iam.attach_role_policy(RoleName="coveted", PolicyArn=ADMINISTRATOR)
    iam.create_user(UserName="deputy")
    iam.put_user_policy(UserName="deputy", PolicyName="p", PolicyDocument=allowing(["ecs:*", "iam:Get*", "iam:List*"]))
    ecs = server.as_user("ecs", "deputy")
    definition = {"containerDefinitions": [{"name": "app", "image": "busybox", "memory": 16}]}
    root.create_cluster(clusterName="coveted")
    root.register_task_definition(family="coveted", taskRoleArn=role, **definition)
    root.register_task_definition(family="plain", **definition)
    root.create_service(cluster="coveted", serviceName="plain", taskDefinition="plain", desiredCount=0)
    external = {"deploymentController": {"type": "EXTERNAL"}, "desiredCount": 0}
    root.create_service(cluster="coveted", serviceName="external", **external)
    override = {"overrides": {"taskRoleArn": role}}
    instance = "0" * 32
    attempts: list[tuple[Any, dict[str, Any]]] = [
        (ecs.register_task_definition, {"family": "mine", "taskRoleArn": role, **definition}),
        (ecs.register_task_definition, {"family": "mine", "executionRoleArn": role, **definition}),
        (ecs.run_task, {"cluster": "coveted", "taskDefinition": "coveted"}),
        (ecs.run_task, {"cluster": "coveted", "taskDefinition": "plain", **override}),
        (ecs.start_task, {"cluster": "coveted", "taskDefinition": "coveted", "containerInstances": [instance]}),
        (ecs.start_task, {"cluster": "coveted", "taskDefinition": "plain", "containerInstances": [instance], **override}),
        (ecs.create_service, {"cluster": "coveted", "serviceName": "mine", "taskDefinition": "coveted", "desiredCount": 1}),
        (ecs.create_service, {"cluster": "coveted", "serviceName": "mine", "taskDefinition": "coveted:1", "desiredCount": 1}),
        (ecs.update_service, {"cluster": "coveted", "service": "plain", "taskDefinition": "coveted"}),
        (ecs.create_task_set, {"cluster": "coveted", "service": "external", "taskDefinition": "coveted"}),
    ]
    before = attacker.revision
    for function, members in attempts:
        assert f"iam:PassRole on resource: {role}" in refused("AccessDeniedException", 400, function, **members)
    assert attacker.revision == before
    iam.put_user_policy(
        UserName="deputy",
        PolicyName="pass",
        PolicyDocument=allowing("iam:PassRole", role, Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
    )
    refused("AccessDeniedException", 400, ecs.run_task, cluster="coveted", taskDefinition="coveted")


def test_a_disabled_key_opens_no_door(attacker, server):
    """Every protocol, an agent's websocket, and the keys' own switch: whoever has the key cannot make it good again."""
    iam = server.client("iam")
    iam.create_user(UserName="stopped")
    iam.attach_user_policy(UserName="stopped", PolicyArn=ADMINISTRATOR)
    made = iam.create_access_key(UserName="stopped")["AccessKey"]
    pair = (made["AccessKeyId"], made["SecretAccessKey"])
    iam.update_access_key(UserName="stopped", AccessKeyId=pair[0], Status="Inactive")
    before = attacker.revision
    assert attacker.send(attacker.signed(CREATE, BODY, key=pair), BODY)[:2] == (400, "UnrecognizedClientException")
    for action in ("CreateAccessKey", "ListUsers", "GetUser"):
        assert attacker.form(("Action", action), key=pair)[:2] == (403, "InvalidClientTokenId")
    switch = (("Action", "UpdateAccessKey"), ("UserName", "stopped"), ("AccessKeyId", pair[0]), ("Status", "Active"))
    assert attacker.form(*switch, key=pair)[:2] == (403, "InvalidClientTokenId")
    for operation in ("get_session_token", "get_caller_identity"):
        refused("InvalidClientTokenId", 403, getattr(server.client("sts", *pair), operation))
    instance = f"arn:aws:ecs:{REGION}:{server.account}:container-instance/default/{'0' * 32}"
    line = f"GET /acs/ws?clusterArn=default&containerInstanceArn={quote(instance, safe='')}"
    assert attacker.send(attacker.signed(UPGRADE, key=pair, line=line), line=line).status in (400, 401, 403)
    assert attacker.revision == before


UPGRADE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0" * 16).decode(),
}
REPORTED: Final = {"status": "STOPPED", "reason": "forged"}


class Host:
    """A machine that joined, and the connection of its agent."""

    def __init__(self, attacker: Attacker) -> None:
        self.attacker, key = attacker, proof.new_key()
        token = self.own("CreateJoinToken", signed=True)["token"]
        told, now = self.health(), int(time.time() * 1000)
        text = proof.text(proof.JOIN, installation=told["installationId"], subject=token.split(".")[1], instant_ms=now)
        shown = {"publicKey": proof.public_of(key), "proof": proof.made(key, text)}
        credentials = self.own("Join", token=token, instantMs=now, **{name: base64.b64encode(value).decode() for name, value in shown.items()})
        self.keys = credentials["credentials"]
        self.ecs = attacker.server.client("ecs", self.keys["accessKeyId"], self.keys["secretAccessKey"], self.keys["sessionToken"])
        resources = [{"name": name, "type": "INTEGER", "integerValue": 4096} for name in ("CPU", "MEMORY")]
        self.instance = self.ecs.register_container_instance(totalResources=resources)["containerInstance"]["containerInstanceArn"]
        line = f"GET /acs/ws?clusterArn=default&containerInstanceArn={quote(self.instance, safe='')}"
        headers = {**UPGRADE, "X-Amz-Security-Token": self.keys["sessionToken"]}
        pair = (self.keys["accessKeyId"], self.keys["secretAccessKey"])
        self.connection = attacker.open(attacker.signed(headers, key=pair, line=line), line=line)
        assert self.connection.getresponse().status == 101

    def own(self, operation: str, *, signed: bool = False, **members: Any) -> dict[str, Any]:
        """An operation of our own."""
        target = f"{model.load('homeport').target_prefix}.{operation}"
        headers, body = {"X-Amz-Target": target, "Content-Type": JSON}, json.dumps(members).encode()
        sent = self.attacker.signed(headers, body, service="homeport") if signed else [("Host", self.attacker.host), *headers.items()]
        answer = self.attacker.send(sent, body)
        assert answer.status == 200, answer
        return json.loads(answer.text)

    def health(self) -> dict[str, Any]:
        return json.loads(self.attacker.send([("Host", self.attacker.host)], line="GET /health").text)


def test_an_agent_that_reports_for_a_task_of_another_instance(attacker, server):
    root = server.client("ecs")
    victim, liar = Host(attacker), Host(attacker)
    root.create_cluster()
    root.register_task_definition(family="victim", containerDefinitions=[{"name": "app", "image": "busybox", "memory": 16}])
    started = root.start_task(taskDefinition="victim", containerInstances=[victim.instance])
    assert started["failures"] == []
    task = started["tasks"][0]["taskArn"]
    attempts = [
        (liar.ecs.submit_task_state_change, {"cluster": "default", "task": task, **REPORTED}),
        (liar.ecs.submit_container_state_change, {"cluster": "default", "task": task, "containerName": "app", **REPORTED}),
        (liar.ecs.submit_task_state_change, {"cluster": "default", "task": task.rpartition("/")[2], **REPORTED}),
        (liar.ecs.deregister_container_instance, {"containerInstance": victim.instance, "force": True}),
        (liar.ecs.update_container_instances_state, {"containerInstances": [victim.instance], "status": "DRAINING"}),
        (liar.ecs.discover_poll_endpoint, {"containerInstance": victim.instance}),
        (liar.ecs.stop_task, {"task": task}),
        (liar.ecs.run_task, {"taskDefinition": "victim"}),
        (liar.ecs.describe_tasks, {"tasks": [task]}),
    ]
    before = attacker.revision
    for number, (function, members) in enumerate(attempts):
        with pytest.raises(ClientError) as error:
            function(**members)
        assert error.value.response["Error"]["Code"] in ("AccessDeniedException", "InvalidParameterException"), (number, error.value)
    line = f"GET /acs/ws?clusterArn=default&containerInstanceArn={quote(victim.instance, safe='')}"
    pair = (liar.keys["accessKeyId"], liar.keys["secretAccessKey"])
    stolen = attacker.signed({**UPGRADE, "X-Amz-Security-Token": liar.keys["sessionToken"]}, key=pair, line=line)
    answer = attacker.send(stolen, line=line)
    assert answer.status in (400, 403), answer
    assert attacker.revision == before
    shown = root.describe_tasks(tasks=[task])["tasks"][0]
    assert (shown["lastStatus"], shown["desiredStatus"], "stoppedReason" in shown) == ("PENDING", "RUNNING", False)
    victim.ecs.submit_task_state_change(cluster="default", task=task, status="RUNNING")
    assert root.describe_tasks(tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING"
    root.stop_task(task=task)
    for host in (victim, liar):
        host.connection.close()
