"""A front door whose every call is recorded in memory."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from tests.unit.api.ecs.caller import ACCOUNT, REGION, ROOT, Ecs

from homeport.api.authority import Authority
from homeport.api.call import Context
from homeport.api.permission import Guard
from homeport.api.protocol import model
from homeport.api.server import Application
from homeport.api.services import ASKS, OPERATIONS
from homeport.api.signature import AccessKeys, Verifier
from homeport.audit.log import AuditLog, MemoryAudit
from homeport.audit.record import Record, encode
from homeport.config import Settings
from homeport.iam import sigv4
from homeport.ids import Ids
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.policy import InlinePolicy
from homeport.model.iam.session_key import SessionKey
from homeport.model.iam.user import User
from homeport.placement.index import PlacementIndex
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, SESSION_KEYS, TABLES, USERS
from homeport.virtual_clock import VirtualClock

ROOT_KEY, BOB_KEY = "AKIAROOTROOTROOTROOT", "AKIABOBBOBBOBBOBBOB1"
BOB = f"arn:aws:iam::{ACCOUNT}:user/bob"
LIFE = "01234567-89ab-4cde-8f01-"


class Door:
    """The door, and a client of it. `secrets`: what the client signs with."""

    def __init__(self, store: Store, keys: AccessKeys, authority: Authority, clock: VirtualClock, settings: Settings, audit: Any = None) -> None:
        self.audit = audit or MemoryAudit(clock, LIFE)
        self.context = Context(
            store=store,
            placement=PlacementIndex(),
            clock=clock,
            ids=Ids("audit"),
            settings=settings,
            region=REGION,
            installation_id="0123456789abcdef",
            endpoint="http://127.0.0.1:8470/",
            management=ACCOUNT,
            audit=self.audit,
        )
        self.verifier = Verifier(keys, clock=clock, settings=settings, region=REGION)
        self.websockets: dict[str, Any] = {}
        self.application = Application(
            self.context,
            OPERATIONS,
            verifier=self.verifier,
            guard=Guard(authority, ASKS),
            websockets=self.websockets,
            internal={"/homeport/echo": self.echo},
        )
        self.ecs = Ecs(self.context)
        self.token = ""
        self._authority = authority

    def again(self, audit: Any, *, others: Any = None) -> Door:
        """Another door on the same state, with this log, beside these servers."""
        made = copy.copy(self)
        made.audit = audit
        made.context = dataclasses.replace(self.context, audit=audit, others=others)
        guard = Guard(self._authority, ASKS)
        made.application = Application(made.context, OPERATIONS, verifier=self.verifier, guard=guard, websockets={})
        return made

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await self.context.clock.advance(seconds)

    @property
    def records(self) -> list[Record]:
        return self.audit.records

    @property
    def last(self) -> Record:
        return self.audit.records[-1]

    @property
    def text(self) -> str:
        """Everything that was recorded."""
        return "\n".join(encode(record).decode() for record in self.audit.records)

    async def echo(self, body: bytes) -> bytes:
        return body

    async def allow(self, *statements: dict[str, Any]) -> None:
        """Give bob this policy and no other."""
        document = msgspec.json.encode({"Version": "2012-10-17", "Statement": list(statements)}).decode()
        inline = (InlinePolicy(name="bobs", document=document),) if statements else ()
        await self.ecs.put((USERS, User(account=ACCOUNT, name="bob", id="AIDABOBBOB", created_at=1.0, inline=inline)))

    async def call(self, operation: str, members: Any = None, *, service: str = "ecs", key: str = ROOT_KEY, secret: str = "secret") -> Any:
        """The answer of an operation of AWS JSON; its fault as well. `members` may be bytes: the body itself."""
        modelled = model.load(service)
        headers = {
            b"content-type": b"application/x-amz-json-1.1",
            b"x-amz-target": f"{modelled.target_prefix}.{operation}".encode(),
        }
        body = members if isinstance(members, bytes) else msgspec.json.encode(members or {})
        _, answer = await self.send(headers, body, service=modelled.signing_name, key=key, secret=secret)
        return msgspec.json.decode(answer)

    async def form(self, action: str, *, service: str, key: str = ROOT_KEY, secret: str = "secret", **fields: str) -> str:
        """The XML that an operation of the query protocol answers."""
        modelled = model.load(service)
        body = urlencode({"Action": action, "Version": modelled.version, **fields}).encode()
        headers = {b"content-type": b"application/x-www-form-urlencoded"}
        _, answer = await self.send(headers, body, service=modelled.signing_name, key=key, secret=secret)
        return answer.decode()

    async def send(
        self, headers: dict[bytes, bytes], body: bytes, *, service: str, key: str, secret: str, path: str = "/", method: str = "POST"
    ) -> tuple[int, bytes]:
        headers = {b"host": b"h", b"user-agent": b"tester/1.0", **headers}
        if self.token:
            headers[b"x-amz-security-token"] = self.token.encode()
        request = sigv4.Request(method, path.encode(), b"", headers, hashlib.sha256(body).hexdigest())
        signature = sigv4.sign(request, sigv4.Credentials(key, secret, REGION, service), self.context.clock.now())
        return await self.raw(
            {**headers, **{name.lower().encode(): value.encode() for name, value in signature.items()}}, body, path=path, method=method
        )

    async def raw(self, headers: dict[bytes, bytes], body: bytes, *, path: str = "/", method: str = "POST") -> tuple[int, bytes]:
        """Bytes as they are, signed or not."""
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": list(headers.items()),
            "client": ("100.64.0.7", 4000),
            "scheme": "http",
        }
        await self.application(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]


def member(xml: str, name: str) -> str:
    """The text of an element."""
    found = re.search(f"<{name}>([^<]*)</{name}>", xml)
    assert found is not None, xml
    return found[1]


async def opened(settings: Settings | None = None, *, directory: Path | None = None) -> Door:
    """A door on a store in memory, with a root and a user bob without policies. With a `directory` the log is there, on the disk."""
    clock, keys, authority = VirtualClock(), AccessKeys(), Authority()
    store = await Store.open(MemoryBackend(), tables=TABLES, clock=clock, derived=(keys, authority))
    settings = settings or Settings()
    log = AuditLog(directory, clock=clock, settings=settings, life=LIFE, facts={"server": "server"}) if directory is not None else None
    if log is not None:
        log.open()
    door = Door(store, keys, authority, clock, settings, log)
    await door.ecs.put(
        (ACCESS_KEYS, AccessKey(id=ROOT_KEY, secret="secret", account=ACCOUNT, principal_arn=ROOT, created_at=1.0)),
        (ACCESS_KEYS, AccessKey(id=BOB_KEY, secret="secret", account=ACCOUNT, principal_arn=BOB, created_at=1.0)),
        (SESSION_KEYS, SessionKey(id="seal", secret="s" * 64, created_at=1.0)),
    )
    await door.allow()
    return door
