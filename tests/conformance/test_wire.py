"""The wire, for every modelled operation: what botocore sends arrives, and what is answered is what botocore reads."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import botocore.session
import msgspec
import pytest
import uvicorn

from homeport.api.call import Context
from homeport.api.protocol import json, model
from homeport.api.server import SERVER_OPTIONS, Application
from homeport.api.signature import AccessKeys, Verifier
from homeport.clock import SystemClock
from homeport.config import Settings
from homeport.ids import Ids
from homeport.model.iam.access_key import AccessKey
from homeport.placement.index import PlacementIndex
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, TABLES

MODELLED = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("ecs", "service-2"))
OPERATIONS = MODELLED.operation_names
INSTANT = 1_764_000_000.125


def sample(shape: botocore.model.Shape, *, python: bool) -> Any:
    """A value with every member of `shape` set: as a caller of boto3 writes it (`python`) or as it stands in JSON."""
    if getattr(shape, "is_document_type", False):
        return {"any": ["thing", 1, {"at": "all"}]}
    if shape.type_name == "structure":
        members = shape.members
        if getattr(shape, "is_tagged_union", False):
            members = dict(list(members.items())[:1])
        return {name: sample(member, python=python) for name, member in members.items()}
    if shape.type_name == "list":
        return [sample(shape.member, python=python) for _ in range(int(shape.metadata.get("min") or 1))]
    if shape.type_name == "map":
        return {sample(shape.key, python=python): sample(shape.value, python=python)}
    if shape.type_name == "string":
        return shape.enum[-1] if shape.enum else _text(shape)
    if shape.type_name == "timestamp":
        return datetime.datetime.fromtimestamp(INSTANT, datetime.UTC) if python else INSTANT
    if shape.type_name in ("integer", "long"):
        return int(shape.metadata.get("min") or 1)
    if shape.type_name == "blob":
        return b"x" if python else "eA=="
    return {"double": 0.5, "float": 0.5, "boolean": False}[shape.type_name]


def _text(shape: botocore.model.Shape) -> str:
    """The first of some texts that the shape's pattern takes."""
    least = int(shape.metadata.get("min") or 1)
    pattern = shape.metadata.get("pattern")
    texts = ("x" * least, "1" * least, "/", "/x/", "v1")
    return next((text for text in texts if pattern is None or re.match(model.python_pattern(pattern), text)), texts[0])


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_request_with_every_member_arrives_as_it_was_sent(name):
    modelled = MODELLED.operation_model(name)
    serializer = botocore.serialize.create_serializer("json", include_validation=True)
    request = serializer.serialize_to_request(sample(modelled.input_shape, python=True), modelled)
    decoded = json.decode(model.load().operations[name], request["body"])
    assert msgspec.to_builtins(decoded) == sample(modelled.input_shape, python=False)
    assert request["headers"]["X-Amz-Target"] == f"{model.load().target_prefix}.{name}"
    assert request["headers"]["Content-Type"] == json.CONTENT_TYPE.decode()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_answer_with_every_member_is_read_as_it_was_given(name):
    modelled = MODELLED.operation_model(name)
    if modelled.output_shape is None:
        assert json.encode({}) == b"{}"
        return
    body = json.encode(_with_none(sample(modelled.output_shape, python=False)))
    parser = botocore.parsers.create_parser("json")
    parsed = parser.parse({"status_code": 200, "headers": {"x-amzn-requestid": "r"}, "body": body}, modelled.output_shape)
    assert parsed.pop("ResponseMetadata")["RequestId"] == "r"
    assert _utc(parsed) == sample(modelled.output_shape, python=True)


def _with_none(value: Any) -> Any:
    """A careless handler: a None in every structure."""
    if isinstance(value, dict):
        return {name: _with_none(member) for name, member in value.items()} | {"nothing": None}
    return [_with_none(item) for item in value] if isinstance(value, list) else value


def _utc(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _utc(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_utc(item) for item in value]
    return value.astimezone(datetime.UTC) if isinstance(value, datetime.datetime) else value


@contextlib.asynccontextmanager
async def serving(
    operations: dict[str, Any], *, service: str = "ecs", settings: Settings | None = None, retries: Mapping[str, Any] | None = None
) -> AsyncIterator[Any]:
    """A client of botocore's for a real server on a socket, with these handlers of one service."""
    clock, keys, placement = SystemClock(), AccessKeys(), PlacementIndex()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(placement, keys))
    key = AccessKey(id="AKIDEXAMPLE", secret="secret", account="123456789012", principal_arn="arn:aws:iam::123456789012:root", created_at=1.0)
    await store.update(lambda tx: tx.put(ACCESS_KEYS, key), cause="test")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        context = Context(
            store=store,
            placement=placement,
            clock=clock,
            ids=Ids(1),
            settings=settings or Settings(),
            region="eu-central-1",
            installation_id="0123456789abcdef",
            endpoint=f"{url}/",
        )
        verifier = Verifier(keys, clock=clock, settings=context.settings, region=context.region)
        application = Application(context, {service: operations}, verifier=verifier, websockets={})
        server = uvicorn.Server(uvicorn.Config(application, **{**SERVER_OPTIONS, "loop": "none"}))
        running = asyncio.create_task(server._serve([listener]))
        session = botocore.session.Session()
        session.set_credentials("AKIDEXAMPLE", "secret")
        try:
            yield session.create_client(
                service, "eu-central-1", endpoint_url=url, config=botocore.config.Config(retries=retries or {"max_attempts": 0})
            )
        finally:
            server.should_exit = True
            await running
            await store.close()


async def test_every_operation_over_a_socket_reaches_its_handler_and_comes_back():
    reached = {}

    def handler_of(name: str) -> Any:
        async def handler(call, request):
            reached[call.operation] = msgspec.to_builtins(request)
            output = MODELLED.operation_model(name).output_shape
            return sample(output, python=False) if output else {}

        return handler

    async with serving({name: handler_of(name) for name in OPERATIONS}) as client:
        for name in OPERATIONS:
            modelled = MODELLED.operation_model(name)
            answer = await asyncio.to_thread(client._make_api_call, name, sample(modelled.input_shape, python=True))
            metadata = answer.pop("ResponseMetadata")
            assert metadata["HTTPStatusCode"] == 200
            assert len(metadata["RequestId"]) == 36
            assert _utc(answer) == (sample(modelled.output_shape, python=True) if modelled.output_shape else {})
    assert sorted(reached) == sorted(OPERATIONS)


async def test_every_operation_that_is_not_built_says_so_with_an_error_that_it_models():
    async with serving({}) as client:
        for name in OPERATIONS:
            modelled = MODELLED.operation_model(name)
            with pytest.raises(botocore.exceptions.ClientError, match="is not built yet") as refused:
                await asyncio.to_thread(client._make_api_call, name, sample(modelled.input_shape, python=True))
            assert refused.value.response["Error"]["Code"] in {shape.name for shape in modelled.error_shapes}
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
            assert client.exceptions.from_code(refused.value.response["Error"]["Code"]) is type(refused.value)


async def test_a_client_in_standard_retry_mode_gets_more_calls_through_than_the_burst():
    reached = []

    async def handler(call, request):
        reached.append(call.operation)
        return {}

    settings = Settings(request_throttling_factor=0.02)  # StopTask: 2 at once, then one every 1.25 s
    async with serving({"StopTask": handler}, settings=settings, retries={"mode": "standard", "total_max_attempts": 10}) as client:
        answers = [await asyncio.to_thread(client.stop_task, task="a") for _ in range(4)]
    assert len(reached) == 4
    assert sum(answer["ResponseMetadata"]["RetryAttempts"] for answer in answers) > 0
