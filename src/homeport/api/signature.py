"""Who is calling: the check of every request's signature against the access keys in the store.

Owns: `AccessKeys`, `Principal`, `Verifier`. Never decides what a caller may do. Reads the table of access keys by following it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import UnrecognizedClientError
from homeport.iam import sigv4
from homeport.model.iam.access_key import AccessKey
from homeport.model.record import Record
from homeport.store.tables import ACCESS_KEYS

GLOBAL_REGION: Final = "us-east-1"
"""Where Amazon's services without regions are signed for."""
SERVICE: Final = "ecs"
"""The signing name of Amazon ECS, which agents' websockets use too."""


class Principal(NamedTuple):
    """An authenticated caller."""

    account: str
    """12 digits."""
    arn: str
    access_key_id: str = ""


class AccessKeys:
    """Every access key by its id, kept beside the store (a `Derived` view): looking one up costs a dictionary read."""

    def __init__(self) -> None:
        self._by_id: dict[str, AccessKey] = {}

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow the store; records of other tables are passed over."""
        if table != ACCESS_KEYS.name:
            return
        if isinstance(before, AccessKey):
            self._by_id.pop(before.id, None)
        if isinstance(after, AccessKey):
            self._by_id[after.id] = after

    def active(self, access_key_id: str) -> AccessKey:
        """The key of that id; UnrecognizedClientError if there is none or it is not Active."""
        key = self._by_id.get(access_key_id)
        if key is None or key.status != "Active":
            raise UnrecognizedClientError
        return key


class Verifier:
    """Finds the principal behind a signature, for one region."""

    def __init__(self, keys: AccessKeys, *, clock: Clock, settings: Settings, region: str) -> None:
        self._keys = keys
        self._clock = clock
        self._region = region
        self._skew_seconds = settings.clock_skew_seconds

    def principal(self, request: sigv4.Request, *, service: str = SERVICE, is_global: bool = False) -> Principal:
        """The principal who signed `request` for the API with the signing name `service`.

        Clients sign for a service without regions (`is_global`) as if it were in us-east-1; their own region is good as well.

        Raises MissingAuthenticationTokenError, IncompleteSignatureError, UnrecognizedClientError or InvalidSignatureError.
        """
        authorization = sigv4.read_authorization(request.headers)
        key = self._keys.active(authorization.access_key_id)
        region = GLOBAL_REGION if is_global and authorization.region == GLOBAL_REGION else self._region
        sigv4.check_scope(authorization, region=region, service=service)
        sigv4.verify(request, authorization, secret=key.secret, now=self._clock.now(), skew_seconds=self._skew_seconds)
        return Principal(key.account, key.principal_arn, key.id)

    def now(self) -> float:
        """The instant that signatures are held against."""
        return self._clock.now()

    def verify(self, method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, str]:
        """(account, principal ARN) behind a request without a body, such as a websocket's handshake; raises as `principal` does.

        `path` and `query` as they stand in the request line, `headers` with names in lower case.
        """
        found = self.principal(sigv4.Request(method, path.encode("latin-1"), query, joined(headers), sigv4.EMPTY_BODY_SHA256))
        return found.account, found.arn


def joined(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; several of one name are joined by commas, as a signature has them."""
    headers = dict(pairs)
    if len(headers) != len(pairs):
        headers = {}
        for name, value in pairs:
            headers[name] = headers[name] + b"," + value if name in headers else value
    return headers
