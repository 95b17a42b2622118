"""A front door on a store in memory, called as uvicorn would call it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
import pytest

from homeport.api.call import Context
from homeport.api.requestlog import RequestLog
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

ACCOUNT, REGION, HOST = "123456789012", "us-east-1", b"127.0.0.1:8470"
TARGET = b"AmazonEC2ContainerServiceV20141113."
CREDENTIALS = sigv4.Credentials("AKIDEXAMPLE", "secret", REGION)


class Answer(NamedTuple):
    """What a client gets."""

    status: int
    headers: dict[bytes, bytes]
    body: Any

    @property
    def code(self) -> str:
        return str(self.body.get("__type"))

    @property
    def message(self) -> str:
        return str(self.body.get("message"))


class FrontDoor:
    """An application and its client."""

    def __init__(self, context: Context, operations: dict[str, Any], keys: AccessKeys, log: RequestLog | None = None) -> None:
        self.context = context
        self.keys = keys
        self.websockets: dict[str, Any] = {}
        verifier = Verifier(keys, clock=context.clock, settings=context.settings, region=context.region)
        self.application = Application(context, {"ecs": operations}, verifier=verifier, websockets=self.websockets, request_log=log)

    def signed(self, operation: str, body: bytes, **changes: bytes) -> dict[bytes, bytes]:
        """The headers of a good request; `changes` (underscores for hyphens) go over them before signing."""
        headers = {b"host": HOST, b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": TARGET + operation.encode()}
        headers |= {name.replace("_", "-").encode(): value for name, value in changes.items()}
        request = sigv4.Request("POST", b"/", b"", headers, hashlib.sha256(body).hexdigest())
        signature = sigv4.sign(request, CREDENTIALS, self.context.clock.now())
        return {**headers, **{name.lower().encode(): value.encode() for name, value in signature.items()}}

    async def call(self, operation: str, request: Any = None, **changes: bytes) -> Answer:
        """Send a signed request; `request` is JSON or, as bytes, the body itself."""
        body = request if isinstance(request, bytes) else msgspec.json.encode(request or {})
        return await self.send(body, self.signed(operation, body, **changes))

    async def send(self, body: bytes, headers: dict[bytes, bytes], *, method: str = "POST", path: str = "/", pieces: int = 1) -> Answer:
        """Send a request as it stands, the body in so many pieces."""
        step = max(1, -(-len(body) // pieces))
        parts = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
        messages = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
        sent: list[Any] = []
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": list(headers.items())}
        queue = iter(messages)

        async def receive() -> Any:
            return next(queue, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        start, end = sent
        assert (start["type"], end["type"]) == ("http.response.start", "http.response.body")
        got = dict(start["headers"])
        assert int(got[b"content-length"]) == len(end["body"])
        return Answer(start["status"], got, msgspec.json.decode(end["body"]))


@pytest.fixture
async def keys() -> AccessKeys:
    return AccessKeys()


@pytest.fixture
async def context(keys: AccessKeys) -> AsyncIterator[Context]:
    clock, placement = VirtualClock(), PlacementIndex()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(placement, keys))
    key = AccessKey(
        id=CREDENTIALS.access_key_id,
        secret=CREDENTIALS.secret_access_key,
        account=ACCOUNT,
        principal_arn=f"arn:aws:iam::{ACCOUNT}:root",
        created_at=1.0,
    )
    await store.update(lambda tx: tx.put(ACCESS_KEYS, key), cause="test")
    yield Context(
        store=store,
        placement=placement,
        clock=clock,
        ids=Ids("front door"),
        settings=Settings(),
        region=REGION,
        installation_id="0123456789abcdef",
        endpoint="http://127.0.0.1:8470/",
        management=ACCOUNT,
    )
    await store.close()


@pytest.fixture
def front_door(context: Context, keys: AccessKeys):
    """Make a front door with these handlers."""

    def make(log: RequestLog | None = None, **operations: Any) -> FrontDoor:
        return FrontDoor(context, operations, keys, log)

    return make
