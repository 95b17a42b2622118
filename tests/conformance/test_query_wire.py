"""The query protocol against botocore's own serializer and parser: every operation of IAM and STS, with every member, both ways; and errors."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import botocore.exceptions
import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import msgspec
import pytest
from tests.conformance.test_wire import _utc, sample, serving

from homeport.api import faults
from homeport.api.protocol import model, query
from homeport.api.sts.operations import OPERATIONS as STS
from homeport.errors import AccessDeniedError, InvalidParameterError, SerializationError

MODELLED = {name: botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model(name, "service-2"), name) for name in ("iam", "sts")}
EVERY = [(service, name) for service, modelled in MODELLED.items() for name in modelled.operation_names]


OF_ORGANIZATIONS = {"GenerateOrganizationsAccessReport", "CreateDelegationRequest"}
"""Their members have patterns that no sample fits; Homeport has no organizations."""


def form(service: str, name: str, given: dict[str, Any]) -> dict[str, str]:
    """What botocore sends for a request."""
    serializer = botocore.serialize.create_serializer("query", include_validation=True)
    body = serializer.serialize_to_request(given, MODELLED[service].operation_model(name))["body"]
    return query.fields(urlencode(body).encode())


@pytest.mark.parametrize(("service", "name"), [each for each in EVERY if each[1] not in OF_ORGANIZATIONS])
def test_a_request_with_every_member_arrives_as_it_was_sent(service, name):
    modelled = MODELLED[service].operation_model(name)
    if modelled.input_shape is None:
        return
    fields = form(service, name, sample(modelled.input_shape, python=True))
    assert (fields["Action"], fields["Version"]) == (name, model.load(service).version)
    decoded = query.decode(model.load(service).operations[name], fields)
    assert msgspec.to_builtins(decoded) == sample(modelled.input_shape, python=False)


@pytest.mark.parametrize(("service", "name"), EVERY)
def test_an_answer_with_every_member_is_read_as_it_was_given(service, name):
    modelled = MODELLED[service].operation_model(name)
    answer = sample(modelled.output_shape, python=False) if modelled.output_shape else {}
    body = query.encode(model.load(service).operations[name], answer | {"Nothing": None}, "r-1")
    parser = botocore.parsers.create_parser("query")
    parsed = parser.parse({"status_code": 200, "headers": {}, "body": body}, modelled.output_shape)
    assert parsed.pop("ResponseMetadata")["RequestId"] == "r-1"
    assert _utc(parsed) == (sample(modelled.output_shape, python=True) if modelled.output_shape else {})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"UserName": "bob", "Tags.member.1.Key": "a", "Tags.member.1.Value": "b"}, [("a", "b")]),
        (
            {"UserName": "bob", "Tags.member.10.Key": "z", "Tags.member.10.Value": "", "Tags.member.9.Key": "y", "Tags.member.9.Value": ""},
            [("y", ""), ("z", "")],
        ),
        ({"UserName": "bob", "Tags": ""}, []),
        ({"UserName": "bob", "Unknown.member.1": "x"}, None),
    ],
)
def test_lists(given, read):
    request = query.decode(model.load("iam").operations["TagUser" if read else "CreateUser"], given)
    assert (None if request.Tags is None else [(tag.Key, tag.Value) for tag in request.Tags]) == read


@pytest.mark.parametrize(
    "given",
    [
        {"UserName.member.1": "bob"},
        {"UserName": "bob", "UserName.member.1": "x"},
        {"UserName": "bob", "Tags": "x"},
        {"UserName": "bob", "Tags.1.Key": "x"},
        {"UserName": "bob", "Tags.member.one.Key": "x"},
        {"UserName": "bob", "Tags.member.1": "x"},
        {"UserName": "bob", ".".join(["Tags"] * 40): "x"},
    ],
)
def test_malformed(given):
    with pytest.raises(SerializationError):
        query.decode(model.load("iam").operations["CreateUser"], given)


def test_values_of_a_wrong_type():
    operation = model.load("iam").operations["ListUsers"]
    with pytest.raises(SerializationError, match="'many' is no Integer"):
        query.decode(operation, {"MaxItems": "many"})
    with pytest.raises(InvalidParameterError, match="1 validation error detected: Value '0' at 'maxItems' failed"):
        query.decode(operation, {"MaxItems": "0"})
    with pytest.raises(InvalidParameterError, match="at 'userName' failed to satisfy constraint: Member must not be null"):
        query.decode(model.load("iam").operations["CreateUser"], {})


@pytest.mark.parametrize("body", [b"a=%ff", b"a=1&a=2", b"\xff", b"&&", b"=".join([b"a"] * 3) + b"&b", b"a=1&" * 6000])
def test_what_is_no_form(body):
    with pytest.raises(SerializationError):
        query.fields(body)


@pytest.mark.parametrize(
    ("error", "service", "status", "code", "kind"),
    [
        (AccessDeniedError("no <b>"), "iam", 403, "AccessDenied", "Sender"),
        (InvalidParameterError("bad"), "iam", 400, "ValidationError", "Sender"),
        (RuntimeError("secret"), "sts", 500, "InternalFailure", "Receiver"),
        (AccessDeniedError("no"), None, 403, "AccessDenied", "Sender"),
    ],
)
def test_an_error_is_read_as_it_was_given(error, service, status, code, kind):
    found, shown, body = query.fault(faults.fault(error), model.load(service) if service else None, "r-1")
    parsed = botocore.parsers.create_parser("query").parse({"status_code": found, "headers": {}, "body": body}, None)
    assert (found, shown) == (status, code)
    assert (parsed["Error"]["Code"], parsed["Error"]["Type"]) == (code, kind)
    assert parsed["ResponseMetadata"]["RequestId"] == "r-1"
    assert "secret" not in parsed["Error"]["Message"]
    if isinstance(error, AccessDeniedError):
        assert parsed["Error"]["Message"] == error.message


async def test_who_am_i_over_a_socket():
    async with serving(STS, service="sts") as client:
        answer = await asyncio.to_thread(client.get_caller_identity)
        assert (answer["Account"], answer["Arn"], answer["UserId"]) == ("123456789012", "arn:aws:iam::123456789012:root", "123456789012")
        assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "text/xml"
        with pytest.raises(botocore.exceptions.ClientError, match="AssumeRoot is not built yet") as refused:
            await asyncio.to_thread(client.assume_root, TargetPrincipal="111122223333", TaskPolicyArn={"arn": "arn:aws:iam::aws:policy/x"})
        assert refused.value.response["Error"]["Code"] == "InvalidAction"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        client._request_signer._credentials.secret_key = "another"
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            await asyncio.to_thread(client.get_caller_identity)
        assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
