"""The built operations behind the real front door: whatever comes, the answer is modelled, and a refused call changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import botocore.loaders
import botocore.model
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.api.call import Context
from homeport.api.ecs.operations import NOTES, OPERATIONS
from homeport.api.protocol import model
from homeport.api.server import Application
from homeport.api.signature import AccessKeys, Verifier
from homeport.config import Settings
from homeport.iam import sigv4
from homeport.ids import Ids
from homeport.model.iam.access_key import AccessKey
from homeport.placement.index import PlacementIndex
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, TABLES
from homeport.virtual_clock import VirtualClock

SERVICE = model.load()
MODELLED = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("ecs", "service-2"))
ACCOUNT = "123456789012"
COMMON_ERRORS = {"SerializationException", "InvalidParameterException", "ClientException"}
READS = ("List", "Describe", "Get", "Discover")


class Door:
    """An installation in memory with an instance, a task, a service and a definition in it."""

    def __init__(self, context: Context, keys: AccessKeys) -> None:
        self.context = context
        verifier = Verifier(keys, clock=context.clock, settings=context.settings, region=context.region)
        self.application = Application(context, {"ecs": OPERATIONS}, verifier=verifier, websockets={})

    async def call(self, operation: str, members: Any) -> tuple[int, dict[str, Any]]:
        """(status, answer) of a signed call."""
        body = members if isinstance(members, bytes) else msgspec.json.encode(members)
        target = f"{SERVICE.target_prefix}.{operation}".encode()
        headers = {b"host": b"h", b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": target}
        request = sigv4.Request("POST", b"/", b"", headers, hashlib.sha256(body).hexdigest())
        signature = sigv4.sign(request, sigv4.Credentials("AK", "secret", "us-east-1"), self.context.clock.now())
        headers |= {name.lower().encode(): value.encode() for name, value in signature.items()}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": list(headers.items())}
        await self.application(scope, receive, send)
        return sent[0]["status"], msgspec.json.decode(sent[1]["body"])

    async def good(self, operation: str, members: Any) -> dict[str, Any]:
        status, answer = await self.call(operation, members)
        assert status == 200, answer
        return answer


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    clock, placement, keys = VirtualClock(), PlacementIndex(), AccessKeys()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(placement, keys))
    key = AccessKey(id="AK", secret="secret", account=ACCOUNT, principal_arn=f"arn:aws:iam::{ACCOUNT}:root", created_at=1.0)
    await store.update(lambda tx: tx.put(ACCESS_KEYS, key), cause="test")
    context = Context(
        store=store,
        placement=placement,
        clock=clock,
        ids=Ids("operations"),
        settings=Settings(),
        region="us-east-1",
        installation_id="0123456789abcdef",
        endpoint="http://h/",
    )
    made = Door(context, keys)
    container = {"name": "web", "image": "web:1", "memory": 16, "portMappings": [{"containerPort": 80}]}
    definition = await made.good("RegisterTaskDefinition", {"family": "web", "containerDefinitions": [container]})
    attributes = [{"name": attribute["name"]} for attribute in definition["taskDefinition"]["requiresAttributes"]]
    resources = [{"name": name, "type": "INTEGER", "integerValue": 4096} for name in ("CPU", "MEMORY")]
    await made.good("RegisterContainerInstance", {"totalResources": resources, "attributes": attributes})
    await made.good("CreateService", {"serviceName": "web", "taskDefinition": "web", "desiredCount": 1})
    yield made
    await store.close()


def judge(operation: str, status: int, answer: dict[str, Any]) -> None:
    """The answer is one that the operation models."""
    if status == 200:
        return
    assert status == 400, (operation, status, answer)
    assert answer["__type"] in SERVICE.operations[operation].errors | COMMON_ERRORS, (operation, answer)
    assert answer["message"], (operation, answer)


async def attempt(door: Door, operation: str, members: Any) -> int:
    """Make the call, judge the answer, and see that a refused call and a read change nothing."""
    before = door.context.store.revision
    status, answer = await door.call(operation, members)
    judge(operation, status, answer)
    if status != 200 or operation.startswith(READS):
        assert door.context.store.revision == before, f"{operation} was answered {status} and yet changed the store"
    return status


@pytest.mark.parametrize("operation", MODELLED.operation_names)
async def test_no_parameters_at_all(door, operation):
    await attempt(door, operation, {})


def sample(shape_name: str) -> Any:
    """A value with every member of the shape set, to something that the model allows."""
    shape = SERVICE.shapes[shape_name]
    if shape.document:
        return {"any": "thing"}
    if shape.type == "structure":
        return {name: sample(reference.shape) for name, reference in shape.members.items()}
    if shape.type == "list":
        return [sample(shape.member.shape)]
    if shape.type == "map":
        return {"key": sample(shape.value.shape)}
    if shape.type == "string":
        return shape.enum[0] if shape.enum else "x" * int(shape.min or 1)
    return {"boolean": True, "timestamp": 1.7e9, "double": 0.5}.get(shape.type, int(shape.min or 1))


@pytest.mark.parametrize("operation", MODELLED.operation_names)
async def test_every_member_at_once(door, operation):
    await attempt(door, operation, sample(SERVICE.operations[operation].input_shape))


@pytest.mark.parametrize("operation", MODELLED.operation_names)
async def test_each_member_alone(door, operation):
    """With what is required, each optional member in turn: plain, empty, long, strange."""
    shape = SERVICE.shapes[SERVICE.operations[operation].input_shape]
    required = {name: sample(shape.members[name].shape) for name in shape.required}
    for name, reference in shape.members.items():
        for value in (sample(reference.shape), *STRANGE.get(SERVICE.shapes[reference.shape].type, ())):
            await attempt(door, operation, {**required, name: value})


CLUSTER, TASK = "arn:aws:ecs:us-east-1:123456789012:cluster/default", "arn:aws:ecs:us-east-1:123456789012:task/default/0"
TEXTS = [
    "",
    " ",
    "x" * 300,
    CLUSTER,
    TASK,
    "arn:",
    "arn:a:b:c:d:e/f",
    "a/b/c",
    "/",
    "default/",
    ":",
    "web:99999999999",
    "web:0",
    "web:-1",
    "web",
    "web:1",
]
TEXTS += ["default", "\x00", "☃", "attribute:a in [", "((((((((", "%s{}", "http://h/", "1", "256", "0.5 vCPU", "RUNNING", "service:web"]
STRANGE: dict[str, tuple[Any, ...]] = {
    "string": tuple(TEXTS),
    "integer": (0, -1, 2**31 - 1, -(2**31)),
    "long": (0, -1, 2**63 - 1),
    "list": ([], [{}], [""], ["x"] * 101, [{}] * 101, ["\x00"], [TASK] * 2),
    "structure": ({},),
    "map": ({}, {"": ""}),
}


def values(shape_name: str, depth: int = 0) -> st.SearchStrategy[Any]:
    """What fits the model, with texts that mean something to ECS more often than not."""
    shape = SERVICE.shapes[shape_name]
    if shape.document or depth > 5:
        return st.none()
    if shape.type == "structure":
        members = {name: values(reference.shape, depth + 1) for name, reference in shape.members.items()}
        required = {name: members.pop(name) for name in shape.required}
        return st.fixed_dictionaries(required, optional=members)
    if shape.type == "list":
        return st.lists(values(shape.member.shape, depth + 1), max_size=2)
    if shape.type == "map":
        return st.dictionaries(st.sampled_from(TEXTS), values(shape.value.shape, depth + 1), max_size=2)
    if shape.type == "string":
        return st.sampled_from(shape.enum) if shape.enum else st.one_of(st.sampled_from(TEXTS), st.text(max_size=4))
    if shape.type in ("integer", "long"):
        return st.integers(int(shape.min or -2), int(min(shape.max or 2**31 - 1, 2**31 - 1)))
    return {"boolean": st.booleans(), "timestamp": st.floats(0, 2e9), "double": st.floats(0, 100)}[shape.type]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
async def test_whatever_fits_the_model(door, operation, data):
    await attempt(door, operation, data.draw(values(SERVICE.operations[operation].input_shape)))


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
async def test_one_call_after_another(door, data):
    """All examples share one installation, so each call meets what the ones before have left."""
    operation = data.draw(st.sampled_from(sorted(OPERATIONS)))
    await attempt(door, operation, data.draw(values(SERVICE.operations[operation].input_shape)))


def test_notes_are_about_built_operations():
    assert set(OPERATIONS) >= set(NOTES)
    assert len(MODELLED.operation_names) == 88
