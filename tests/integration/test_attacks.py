"""What somebody sends who wants in: each is refused with the error that fits, and nothing is changed. On a real server, byte by byte."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import pytest
from tests.integration.test_iam import ADMINISTRATOR, REGION, Server, allowing, refused, server

from homeport.iam import sigv4

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

    def send(self, headers: list[tuple[str, str]], body: bytes = b"", *, line: str = "POST /") -> Answer:
        """Send exactly this."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            connection.putrequest(*line.split(" "), skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
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
