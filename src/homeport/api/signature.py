"""Who is calling: the check of every request's signature against the access keys in the store.

Owns: `AccessKeys`, `Principal`, `authenticate`. Never decides what a caller may do. Reads the table of access keys by following it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from homeport.errors import UnrecognizedClientError
from homeport.iam import sigv4
from homeport.model.iam.access_key import AccessKey
from homeport.model.record import Record
from homeport.store.tables import ACCESS_KEYS

SERVICE: Final = "ecs"
"""The signing name of the API."""


class Principal(NamedTuple):
    """An authenticated caller."""

    account: str
    arn: str
    access_key_id: str


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


class Policy(NamedTuple):
    """What a signature must have been made for, and how far off its date may be."""

    region: str
    service: str
    skew_seconds: float


def authenticate(keys: AccessKeys, request: sigv4.Request, policy: Policy, now: float) -> Principal:
    """The principal who signed `request`.

    Raises MissingAuthenticationTokenError, IncompleteSignatureError, UnrecognizedClientError or InvalidSignatureError.
    """
    authorization = sigv4.read_authorization(request.headers)
    key = keys.active(authorization.access_key_id)
    sigv4.check_scope(authorization, region=policy.region, service=policy.service)
    sigv4.verify(request, authorization, secret=key.secret, now=now, skew_seconds=policy.skew_seconds)
    return Principal(key.account, key.principal_arn, key.id)
