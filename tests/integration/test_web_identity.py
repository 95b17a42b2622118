"""Tokens of a CI system for credentials: boto3 unmodified, a real issuer with keys that change, and what tokens and issuers can do wrong."""

from __future__ import annotations

import base64
import hmac
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.acceptance.soak import Servers
from tests.integration.etcd_members import etcd_members
from tests.integration.oidc_issuer import DISCOVERY, Issuer, issuing
from tests.integration.test_iam import REGION, Server, allowing, refused, serving

from homeport.api.sts import issuer as keys_of_issuers
from homeport.audit.cloudtrail import event_of
from homeport.audit.record import decode

BRANCH = "repo:acme/web:ref:refs/heads/main"


class Site:
    """A server that trusts one issuer, and a role for whoever that issuer says is the main branch."""

    def __init__(self, server: Server, issuer: Issuer) -> None:
        self.server, self.issuer = server, issuer
        self.arn = self.main = ""
        self.iam = server.client("iam")
        self.sts = boto3.client(
            "sts", endpoint_url=server.url, region_name=REGION, config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
        )

    def provider(self, url: str = "", *clients: str) -> str:
        made = self.iam.create_open_id_connect_provider(Url=url or self.issuer.url, ClientIDList=list(clients or ("sts.amazonaws.com",)))
        return str(made["OpenIDConnectProviderArn"])

    def role(self, name: str, provider: str, action: Any = "sts:AssumeRoleWithWebIdentity", condition: Any = None, **more: Any) -> str:
        statement = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": action, "Condition": condition or {}}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **more)["Role"]["Arn"]
        self.iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=allowing(["ecs:ListClusters", "ecs:CreateCluster"]))
        return str(made)

    def assume(self, role: str, token: str, **more: Any) -> Any:
        return self.sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="build-7", WebIdentityToken=token, **more)

    def refused(self, code: str, role: str, token: str, *, status: int = 400, **more: Any) -> str:
        given = {"RoleArn": role, "RoleSessionName": "build-7", "WebIdentityToken": token, **more}
        return refused(code, status, self.sts.assume_role_with_web_identity, **given)

    def ecs(self, credentials: Any) -> Any:
        return self.server.client("ecs", credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with issuing() as issuer, serving(tmp_path_factory.mktemp("web"), settings=(f"web_identity_local_issuers={issuer.host}",)) as server:
        made = Site(server, issuer)
        made.arn = made.provider()
        on_main = {"StringEquals": {f"{issuer.name}:sub": BRANCH, f"{issuer.name}:aud": "sts.amazonaws.com"}}
        made.main = made.role("main", made.arn, condition=on_main)
        yield made


def test_a_token_becomes_credentials_of_the_role(site):
    answer = site.assume(site.main, site.issuer.token())
    assert (answer["SubjectFromWebIdentityToken"], answer["Audience"], answer["Provider"]) == (BRANCH, "sts.amazonaws.com", site.issuer.url)
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{site.server.account}:assumed-role/main/build-7"
    assert "PackedPolicySize" not in answer
    ecs = site.ecs(answer["Credentials"])
    ecs.list_clusters()
    refused("AccessDeniedException", 400, ecs.delete_cluster, cluster="x")
    narrowed = site.assume(site.main, site.issuer.token(), Policy=allowing("ecs:ListClusters"))
    assert narrowed["PackedPolicySize"] > 0
    refused("AccessDeniedException", 400, site.ecs(narrowed["Credentials"]).create_cluster, clusterName="x")
    whole = site.assume(site.main, site.issuer.token(), DurationSeconds=900)["Credentials"]
    assert 890 < whole["Expiration"].timestamp() - time.time() <= 900
    site.refused("ValidationError", site.main, site.issuer.token(), DurationSeconds=3601)
    site.refused("ValidationError", site.main, site.issuer.token(), ProviderId="www.amazon.com")


def test_boto3_s_own_provider_needs_a_file_and_a_role(site, tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(site.issuer.token())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    monkeypatch.setenv("AWS_ROLE_ARN", site.main)
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "nightly")
    monkeypatch.setenv("AWS_ENDPOINT_URL", site.server.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    session = boto3.Session()
    assert session.client("sts").get_caller_identity()["Arn"].endswith(":assumed-role/main/nightly")
    session.client("ecs").create_cluster(clusterName="from-ci")


def test_only_whom_the_role_trusts(site):
    token = site.issuer.token
    said = site.refused("AccessDenied", site.main, token(sub="repo:acme/web:ref:refs/heads/evil"), status=403)
    assert said == "Not authorized to perform sts:AssumeRoleWithWebIdentity"
    site.refused("AccessDenied", site.main + "-not-there", token(), status=403)
    by_keys = site.role("by-keys", site.arn, action="sts:AssumeRole")
    site.refused("AccessDenied", by_keys, token(), status=403)
    other = site.role("other", f"arn:aws:iam::{site.server.account}:oidc-provider/elsewhere.example.com")
    site.refused("AccessDenied", other, token(), status=403)
    refused("AccessDenied", 403, site.server.client("sts").assume_role, RoleArn=site.main, RoleSessionName="root")
    site.iam.create_user(UserName="stranger")
    site.iam.put_user_policy(UserName="stranger", PolicyName="p", PolicyDocument=allowing("sts:*"))
    refused("AccessDenied", 403, site.server.as_user("sts", "stranger").assume_role, RoleArn=site.main, RoleSessionName="with-keys")
    site.refused("InvalidIdentityToken", site.main.replace(site.server.account, "9" * 12), token())
    site.refused("ValidationError", "arn:aws:iam::123456789012:user/x", token())
    for issuer in ("https://issuer.example.com", site.issuer.url.replace("http:", "https:"), site.issuer.url + "/", site.issuer.name):
        assert site.refused("InvalidIdentityToken", site.main, token(iss=issuer)).startswith("No OpenIDConnect provider found")


def test_claims_that_do_not_hold(site):
    token, now = site.issuer.token, int(time.time())
    assert "must be before the expiration" in site.refused("ExpiredTokenException", site.main, token(exp=now - 1))
    site.refused("IDPRejectedClaim", site.main, token(nbf=now + 600), status=403)
    site.refused("IDPRejectedClaim", site.main, token(iat=now + 600), status=403)
    assert site.refused("InvalidIdentityToken", site.main, token(aud="somebody-else")) == "Incorrect token audience"
    site.refused("InvalidIdentityToken", site.main, token(aud=["sts.amazonaws.com", "somebody-else"]))
    site.refused("InvalidIdentityToken", site.main, token(azp="somebody-else"))
    for name in ("sub", "aud", "exp", "iat"):
        assert site.refused("InvalidIdentityToken", site.main, token(without=(name,))) == f"Missing a required claim: {name}"
    for wrong in ({"exp": "soon"}, {"exp": 1e300}, {"exp": True}, {"sub": 7}, {"sub": ""}, {"aud": []}, {"aud": 7}, {"azp": 7}):
        site.refused("InvalidIdentityToken", site.main, token(**wrong))
    site.assume(site.role("several", site.arn), token(aud=["x", "y"], azp="sts.amazonaws.com"))


def unsigned_token(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(map(encoded, parts))


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def with_shared_secret(payload: dict[str, Any], secret: bytes) -> str:
    """A token whose "secret" is what everybody knows: the issuer's public key."""
    text = unsigned_token({"alg": "HS256", "kid": "rsa-1"}, payload).rstrip(".")
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def test_forged_tokens(site):
    good = site.issuer.token()
    payload = jwt.decode(good, options={"verify_signature": False})
    public = site.issuer.keys["rsa-1"][0].public_key()
    jwk = json.dumps(site.issuer.key_set()["keys"][0]).encode()
    head, body, seal = good.split(".")
    with issuing() as other:
        others = jwt.encode(payload, other.keys["rsa-1"][0], "RS256", headers={"kid": "rsa-1"})
    evil = base64.urlsafe_b64encode(json.dumps({**payload, "sub": "x"}).encode()).decode().rstrip("=")
    attempts = [
        unsigned_token({"alg": "none", "kid": "rsa-1"}, payload),
        unsigned_token({"alg": "None"}, payload),
        with_shared_secret(payload, jwk),
        with_shared_secret(payload, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
        others,
        f"{head}.{evil}.{seal}",
        f"{head}.{body}.",
        f"{head}.{body}",
        good + ".x",
        "not a token",
        "....",
        site.issuer.token(headers={"crit": ["x"], "x": 1}),
        unsigned_token({"alg": "RS256", "kid": 7}, payload, b"x"),
        unsigned_token({"alg": ["RS256"]}, payload, b"x"),
        f"{encoded(b'[' * 100)}.{encoded(b'[' * 14_000)}.x",
        encoded(b'{"alg":"RS256","kid":"rsa-1"}') + "." + encoded(b'{"a":' * 2500) + ".x",
    ]
    for number, token in enumerate(attempts):
        assert site.refused("InvalidIdentityToken", site.main, token), number
    site.refused("ValidationError", site.main, "x" * 20_001)
    site.assume(site.main, good)


def test_keys_of_other_kinds_and_keys_that_are_too_weak(tmp_path):
    with issuing() as other:
        for key_id, algorithm in (("ec-1", "ES256"), ("ec-2", "ES384"), ("ec-3", "ES512"), ("rsa-512", "RS512")):
            other.add_key(key_id, algorithm)
        other.add_key("weak", "RS256", bits=1024)
        other.extra_keys = [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            {"kty": "RSA", "kid": "empty"},
            7,
            {"kty": "EC", "crv": "P-256", "kid": "no-point"},
        ]
        with serving_for(other, tmp_path) as (there, main):
            for key_id in ("rsa-1", "ec-1", "ec-2", "ec-3", "rsa-512"):
                there.assume(main, other.token(key_id))
            there.refused("InvalidIdentityToken", main, other.token("weak"))
            # the very key, but an algorithm that it is not for
            key = other.keys["rsa-1"][0]
            claims = json.dumps(jwt.decode(other.token(), options={"verify_signature": False})).encode()
            there.refused("InvalidIdentityToken", main, jwt.PyJWS().encode(claims, key, "RS512", headers={"kid": "rsa-1"}))
            there.refused("InvalidIdentityToken", main, jwt.PyJWS().encode(claims, key, "PS256", headers={"kid": "rsa-1"}))
            for key_id in ("empty", "no-point", "shared"):
                there.refused("InvalidIdentityToken", main, jwt.PyJWS().encode(claims, other.keys["ec-1"][0], "ES256", headers={"kid": key_id}))
            assert other.asked.count("/keys") == 1, "keys that are not there are no reason to ask again at once"


def test_tags_and_source_identity_of_the_token(site):
    claim = {"principal_tags": {"Team": ["red"]}, "transitive_tag_keys": ["team"]}
    tagged = {"https://aws.amazon.com/tags": claim, "https://aws.amazon.com/source_identity": "ann"}
    plain = site.role("plain", site.arn)
    for some in (tagged, *({name: value} for name, value in tagged.items())):
        site.refused("AccessDenied", plain, site.issuer.token(**some), status=403)
    actions = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
    role = site.role("tagged", site.arn, action=actions, condition={"StringEquals": {"aws:RequestTag/team": "red"}})
    site.iam.put_role_policy(
        RoleName="tagged",
        PolicyName="p",
        PolicyDocument=allowing("ecs:ListClusters", Condition={"StringEquals": {"aws:PrincipalTag/team": "red", f"{site.issuer.name}:sub": BRANCH}}),
    )
    answer = site.assume(role, site.issuer.token(**tagged))
    assert answer["SourceIdentity"] == "ann"
    site.ecs(answer["Credentials"]).list_clusters()
    claim["principal_tags"]["Team"] = ["blue"]
    site.refused("AccessDenied", role, site.issuer.token(**tagged), status=403)
    for wrong in (7, {"principal_tags": []}, {"principal_tags": {"a": [1]}}, {"transitive_tag_keys": "a"}, {"principal_tags": {"a": ["b", "c"]}}):
        site.refused("InvalidIdentityToken", role, site.issuer.token(**{"https://aws.amazon.com/tags": wrong}))


def test_conditions_on_other_claims(site):
    protected = {"StringEquals": {f"{site.issuer.name}:ref_protected": "true"}, "ForAnyValue:StringEquals": {f"{site.issuer.name}:amr": "mfa"}}
    role = site.role("protected", site.arn, condition=protected)
    site.assume(role, site.issuer.token(ref_protected="true", amr=["pwd", "mfa"]))
    site.refused("AccessDenied", role, site.issuer.token(ref_protected="false", amr=["mfa"]), status=403)
    site.refused("AccessDenied", role, site.issuer.token(), status=403)


@contextmanager
def serving_for(issuer: Issuer, path: Path, *more: str) -> Iterator[tuple[Site, str]]:
    """A server of its own that trusts `issuer`, and a role: what it was asked and how often is this test's alone."""
    with serving(path, settings=(f"web_identity_local_issuers={','.join((issuer.host, *more))}",)) as server:
        site = Site(server, issuer)
        yield site, site.role("main", site.provider())


def test_keys_change_and_strange_ones_are_asked_for_once(tmp_path, monkeypatch):
    monkeypatch.setattr(keys_of_issuers, "PAUSE_SECONDS", 1.0)
    with issuing("/org/") as issuer, serving_for(issuer, tmp_path) as (site, main):
        site.assume(main, issuer.token())
        for _ in range(3):
            site.assume(main, issuer.token())
        assert issuer.asked == ["/org" + DISCOVERY, "/keys"]
        strange = jwt.PyJWS().encode(b'{"iss":"%s"}' % issuer.url.encode(), issuer.keys["rsa-1"][0], "RS256", headers={"kid": "strange"})
        time.sleep(1.1)
        for _ in range(5):
            site.refused("InvalidIdentityToken", main, strange)
        assert issuer.asked.count("/keys") == 2
        issuer.add_key("rsa-2", "RS256")
        issuer.keys["rsa-1"] = issuer.keys.pop("rsa-1")
        old = issuer.token()
        del issuer.keys["rsa-1"]
        time.sleep(1.1)
        site.assume(main, issuer.token("rsa-2"))
        assert issuer.asked.count("/keys") == 3
        site.refused("InvalidIdentityToken", main, old)


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("broken", "IDPCommunicationError"),
        ("refusing", "InvalidIdentityToken"),
        ("redirecting", "InvalidIdentityToken"),
        ("liar", "InvalidIdentityToken"),
        ("garbage", "InvalidIdentityToken"),
        ("endless", "InvalidIdentityToken"),
        ("slow", "IDPCommunicationError"),
    ],
)
def test_issuers_that_do_not_do_their_part(mode, code, tmp_path, monkeypatch):
    monkeypatch.setattr(keys_of_issuers, "ISSUER_SECONDS", 1.0)
    monkeypatch.setattr(keys_of_issuers, "FAILED_SECONDS", 0.5)
    with issuing() as issuer, serving_for(issuer, tmp_path) as (site, main):
        issuer.mode = mode
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(site.refused, code, main, issuer.token()) for _ in range(5)]
            site.server.client("ecs").list_clusters()  # nobody else waits
            for call in calls:
                call.result()
        assert len(issuer.asked) == 1, "one question for all who wait, none off to another place, and none at once after a failure"
        issuer.mode = "well"
        time.sleep(0.6)
        site.assume(main, issuer.token())


def test_addresses_that_the_server_does_not_call(tmp_path):
    with issuing() as issuer, serving_for(issuer, tmp_path) as (site, _):
        refused("InvalidInput", 400, site.iam.create_open_id_connect_provider, Url="http://127.0.0.1:9/")
        port = issuer.host.partition(":")[2]
        for number, host in enumerate((f"127.0.0.2:{port}", "169.254.169.254", f"0.0.0.0:{port}")):
            role = site.role(f"inside{number}", site.provider(f"https://{host}"))
            site.refused("IDPCommunicationError", role, issuer.token(iss=f"https://{host}"))
        issuer.jwks = "https://127.0.0.1:9/keys"
        role = site.role("keys-inside", site.provider(issuer.url + "/second"))
        issuer.path = "/second"
        site.refused("IDPCommunicationError", role, issuer.token())
        assert issuer.asked == ["/second" + DISCOVERY]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_a_name_is_judged_by_the_address_that_it_stands_for(host):
    with issuing() as issuer:
        url = f"http://{host}:{issuer.host.partition(':')[2]}/keys"
        with pytest.raises(keys_of_issuers.IssuerError, match="of this machine"):
            await keys_of_issuers.HttpReader(frozenset())(url)
        assert issuer.asked == []
        assert await keys_of_issuers.HttpReader(frozenset({url.split("/")[2]}))(url)


def test_an_issuer_that_is_down(tmp_path):
    with issuing() as issuer, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        down = f"127.0.0.1:{nobody.getsockname()[1]}"
        with serving_for(issuer, tmp_path, down) as (site, _):
            role = site.role("down", site.provider(f"http://{down}"))
            site.refused("IDPCommunicationError", role, issuer.token(iss=f"http://{down}"))
            assert issuer.asked == []


def test_who_came_with_a_token_is_on_record_and_the_token_is_not(tmp_path):
    with issuing() as issuer, serving_for(issuer, tmp_path) as (site, main):
        good, evil = issuer.token(), issuer.token(aud="somebody-else")
        site.assume(main, good)
        site.refused("InvalidIdentityToken", main, evil)
        site.refused("AccessDenied", site.role("other", "arn:aws:iam::123456789012:oidc-provider/x.example.com"), good, status=403)
        time.sleep(1.2)  # refusals are on the disk within a second
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        lines = re.findall(rb'{[^\n]*"kind":"call"[^\n]*"operation":"AssumeRoleWithWebIdentity"[^\n]*', written)
        records = [json.loads(line) for line in lines]
        assert sorted(record["status"] for record in records) == [200, 400, 403]
        assert [record["principal_id"] for record in records if record["status"] != 400] == [f"{issuer.name}:sts.amazonaws.com:{BRANCH}"] * 2
        told = [event_of(decode(line), REGION)["userIdentity"] for line in lines]
        assert [each["type"] for each in told].count("WebIdentityUser") == 2
        for token in (good, evil):
            assert token.encode() not in written
            assert token.rpartition(".")[2].encode() not in written


def test_a_server_that_does_not_lead_takes_tokens_and_has_the_leader_write_last_uses(tmp_path):
    """Two server processes on etcd, 10 s."""
    with issuing() as issuer, etcd_members(tmp_path / "etcd", 1) as members:
        servers = Servers(tmp_path, "etcd://" + members.endpoints[0].partition("//")[2])
        settings = ("--region", REGION, "--set", f"web_identity_local_issuers={issuer.host}", "--set", "last_use_seconds=0.3")
        try:
            for number in (0, 1):
                servers.start(number, *settings)
            until(lambda: all((found := servers.health(number)) and found["leader"] for number in (0, 1)))
            leader = servers.leader()
            assert leader is not None
            keys = servers.credentials()
            led, leading = (of_server(servers.ports[number], keys) for number in (1 - leader, leader))
            site = Site(led, issuer)
            role = site.role("main", site.provider())
            made = site.assume(role, issuer.token())["Credentials"]
            key = leading.client("iam").create_access_key()["AccessKey"]
            pair = (key["AccessKeyId"], key["SecretAccessKey"])
            until(lambda: led.client("sts", *pair).get_caller_identity())
            site.ecs(made).list_clusters()
            used = leading.client("iam").get_access_key_last_used
            until(lambda: used(AccessKeyId=pair[0])["AccessKeyLastUsed"]["ServiceName"] == "sts")
            until(lambda: leading.client("iam").get_role(RoleName="main")["Role"]["RoleLastUsed"])
        finally:
            servers.stop()


def of_server(port: int, keys: dict[str, str]) -> Server:
    return Server(f"http://127.0.0.1:{port}", keys["access_key_id"], keys["secret_access_key"], keys["account_id"])


def until(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
