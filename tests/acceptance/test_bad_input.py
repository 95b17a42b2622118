"""Every kind of bad input against the running server: AWS's code and status, and the store unchanged."""

from __future__ import annotations

import dataclasses
import datetime
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest
from acceptance.harness import Installation
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

TARGET = "AmazonEC2ContainerServiceV20141113"


@dataclasses.dataclass
class Sent:
    """What goes over the wire, before a case spoils it."""

    operation: str = "CreateCluster"
    body: bytes = b'{"clusterName":"spoilt"}'
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    key: str = ""
    secret: str = ""
    at: datetime.datetime | None = None
    sign: bool = True


def send(installation: Installation, sent: Sent, spoil: Callable[[dict[str, str]], None] | None = None) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{TARGET}.{sent.operation}", **sent.headers}
    headers = {name: value for name, value in headers.items() if value}
    request = AWSRequest("POST", f"{installation.endpoint}/", data=sent.body, headers=headers)
    if sent.sign:
        credentials = Credentials(sent.key or installation.access_key_id, sent.secret or installation.secret_access_key)
        signer = SigV4Auth(credentials, "ecs", installation.region)
        if sent.at is None:
            signer.add_auth(request)
        else:
            _sign_at(signer, request, sent.at)
    final = dict(request.headers)
    if spoil is not None:
        spoil(final)
    connection = http.client.HTTPConnection("127.0.0.1", installation.port, timeout=20)
    try:
        connection.request("POST", "/", body=sent.body, headers=final)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text or b"{}"), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def _sign_at(signer: SigV4Auth, request: AWSRequest, at: datetime.datetime) -> None:
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    request.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}, "
        f"Signature={signature}"
    )


def _flip(headers: dict[str, str]) -> None:
    value = headers["Authorization"]
    headers["Authorization"] = value[:-1] + ("0" if value[-1] != "0" else "1")


def _cut(headers: dict[str, str]) -> None:
    headers["Authorization"] = headers["Authorization"].split(", Signature=")[0]


LATE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)

CASES: list[tuple[str, Sent, Callable[[dict[str, str]], None] | None, int, str]] = [
    ("unknown operation", Sent(operation="MakeCoffee"), None, 400, "UnknownOperationException"),
    ("no target", Sent(headers={"X-Amz-Target": ""}), None, 400, "UnknownOperationException"),
    ("bad JSON", Sent(body=b'{"clusterName":'), None, 400, "SerializationException"),
    ("no object", Sent(body=b"[]"), None, 400, "SerializationException"),
    ("wrong type", Sent(body=b'{"clusterName":7}'), None, 400, "SerializationException"),
    ("missing member", Sent(operation="DescribeTasks", body=b"{}"), None, 400, "InvalidParameterException"),
    ("too long", Sent(body=json.dumps({"clusterName": "x" * 256}).encode()), None, 400, "InvalidParameterException"),
    ("malformed name", Sent(body=b'{"clusterName":"no spaces please"}'), None, 400, "InvalidParameterException"),
    ("body over 1 MiB", Sent(body=b'{"clusterName":"' + b"x" * 1_048_577 + b'"}'), None, 413, "RequestEntityTooLargeException"),
    ("wrong content type", Sent(headers={"Content-Type": "text/plain"}), None, 400, "UnknownOperationException"),
    ("no signature", Sent(sign=False), None, 400, "MissingAuthenticationTokenException"),
    ("cut signature", Sent(), _cut, 400, "IncompleteSignatureException"),
    ("wrong signature", Sent(), _flip, 400, "InvalidSignatureException"),
    ("wrong secret", Sent(secret="wrong"), None, 400, "InvalidSignatureException"),  # noqa: S106
    ("skewed clock", Sent(at=LATE), None, 400, "InvalidSignatureException"),
    ("unknown key", Sent(key="AKIAUNKNOWNUNKNOWN00"), None, 400, "UnrecognizedClientException"),
]


@pytest.mark.parametrize(("sent", "spoil", "status", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_gets_awss_error_and_changes_nothing(
    installation: Installation, sent: Sent, spoil: Callable[[dict[str, str]], None] | None, status: int, code: str
) -> None:
    before = installation.ecs.list_clusters()["clusterArns"]
    got_status, body, headers = send(installation, sent, spoil)
    assert (got_status, body["__type"].rsplit("#", 1)[-1]) == (status, code), body
    assert body.get("message") or body.get("Message")
    assert headers["x-amzn-requestid"]
    assert installation.ecs.list_clusters()["clusterArns"] == before


def test_none_of_the_operations_is_a_500(installation: Installation) -> None:
    """Each of the model's 88 operations, with no parameters at all: a modelled answer, whatever it is."""
    operations = installation.ecs.meta.service_model.operation_names
    assert len(operations) == 88
    answers = {name: send(installation, Sent(operation=name, body=b"{}")) for name in operations}
    assert {name: answer for name, answer in answers.items() if answer[0] >= 500} == {}
    assert [name for name, (_, body, _) in answers.items() if "is not built yet" in str(body)] == []
