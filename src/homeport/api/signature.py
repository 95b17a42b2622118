"""Who is calling: the check of every request's signature against the access keys in the store.

Owns: `AccessKeys`, `Principal`, `Verifier`. Never decides what a caller may do. Reads the tables of keys by following them.
Secrets are opened at their first use and stay open in memory until the key changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import ExpiredTokenError, UnrecognizedClientError
from homeport.iam import session, sigv4
from homeport.iam.session import Session
from homeport.iam.web_identity import Claims
from homeport.model import account as account_model
from homeport.model.account import Account
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.session_key import SessionKey
from homeport.model.record import Record
from homeport.model.secret import Secret
from homeport.store.tables import ACCESS_KEYS, ACCOUNTS, SESSION_KEYS
from homeport.vault.keyring import InClear, Secrets, place_of

GLOBAL_REGION: Final = "us-east-1"
"""Where Amazon's services without regions are signed for."""
SERVICE: Final = "ecs"
"""The signing name of Amazon ECS, which agents' websockets use too."""
TOKEN_HEADER: Final = b"x-amz-security-token"
_OPENED_MAX: Final = 2_000
"""Tokens that are kept opened; one takes up to 40 kB, and whoever may make sessions can make many."""


class Principal(NamedTuple):
    """An authenticated caller."""

    account: str
    """12 digits."""
    arn: str
    access_key_id: str = ""
    session: Session | None = None
    """None for a caller with keys of its own."""
    identity: Claims | None = None
    """What a caller's web identity token says, who has no keys at all; `arn` is its provider's."""


class AccessKeys:
    """Every access key by its id, kept beside the store (a `Derived` view): looking one up costs a dictionary read."""

    def __init__(self, vault: Secrets | None = None) -> None:
        """`vault` opens the secrets; without one they are taken as they stand, for tests of other things."""
        self._vault = vault or InClear()
        self._by_id: dict[str, AccessKey] = {}
        self._secrets: dict[str, Secret] = {}
        self._session_keys: dict[str, SessionKey] = {}
        self._opened: dict[str, tuple[Session, str]] = {}
        self._closed: set[str] = set()

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow the store; records of other tables are passed over."""
        if table == SESSION_KEYS.name:
            self._change_session_key(before, after)
        elif table == ACCOUNTS.name:
            self._change_account(before, after)
        if table != ACCESS_KEYS.name:
            return
        if isinstance(before, AccessKey):
            self._by_id.pop(before.id, None)
            self._secrets.pop(before.id, None)
        if isinstance(after, AccessKey):
            self._by_id[after.id] = after

    def active(self, access_key_id: str) -> AccessKey:
        """The key of that id; UnrecognizedClientError if there is none, it is not Active, or its account is closed."""
        key = self._by_id.get(access_key_id)
        if key is None or key.status != "Active" or key.account in self._closed:
            raise UnrecognizedClientError
        return key

    def account_of(self, access_key_id: str) -> str:
        """Whose key that is, "" for nobody's. Proves nothing about a request that names it."""
        key = self._by_id.get(access_key_id)
        return key.account if key is not None else ""

    def secret(self, key: AccessKey) -> Secret:
        """The key's secret. Raises SealBrokenError, RootKeyError when it cannot be opened."""
        found = self._secrets.get(key.id)
        if found is None:
            found = self._secrets[key.id] = self._vault.open(key.secret, place_of(ACCESS_KEYS.name, key.id))
        return found

    def session(self, token: str) -> tuple[Session, str]:
        """(session, secret) of a token, whether or not it has expired; UnrecognizedClientError if it was not made here, or its account is closed."""
        known = self._opened.get(token)
        if known is None:
            key = self._session_keys.get(session.key_id_of(token))
            if key is None:
                raise UnrecognizedClientError
            known = session.opened(token, self._vault.open(key.secret, place_of(SESSION_KEYS.name, key.id)))
            if len(self._opened) >= _OPENED_MAX:
                self._opened.clear()
            self._opened[token] = known
        if known[0].account in self._closed:
            raise UnrecognizedClientError
        return known

    def _change_account(self, before: Record | None, after: Record | None) -> None:
        if isinstance(before, Account):
            self._closed.discard(before.id)
        if isinstance(after, Account) and after.status != account_model.ACTIVE:
            self._closed.add(after.id)

    def _change_session_key(self, before: Record | None, after: Record | None) -> None:
        self._opened.clear()
        if isinstance(before, SessionKey):
            self._session_keys.pop(before.id, None)
        if isinstance(after, SessionKey):
            self._session_keys[after.id] = after


Identities = Callable[[Any], Awaitable[Principal]]
"""A decoded request → whose token is in it."""


class Verifier:
    """Finds the principal behind a signature, for one region."""

    def __init__(self, keys: AccessKeys, *, clock: Clock, settings: Settings, region: str, identities: Identities | None = None) -> None:
        """`identities`: who a request with a token of an identity provider is from; without it, nobody."""
        self._keys = keys
        self._identities = identities
        self._clock = clock
        self._region = region
        self._skew_seconds = settings.clock_skew_seconds

    def principal(self, request: sigv4.Request, *, service: str = SERVICE, is_global: bool = False) -> Principal:
        """The principal who signed `request` for the API with the signing name `service`.

        Clients sign for a service without regions (`is_global`) as if it were in us-east-1; their own region is good as well.

        Raises MissingAuthenticationTokenError, IncompleteSignatureError, UnrecognizedClientError, InvalidSignatureError or ExpiredTokenError.
        """
        authorization = sigv4.read_authorization(request.headers)
        found, secret = self._found(authorization.access_key_id, request.headers.get(TOKEN_HEADER))
        region = GLOBAL_REGION if is_global and authorization.region == GLOBAL_REGION else self._region
        sigv4.check_scope(authorization, region=region, service=service)
        sigv4.verify(request, authorization, secret=secret, now=self._clock.now(), skew_seconds=self._skew_seconds)
        if found.session is not None and found.session.expires_at <= self._clock.now():
            raise ExpiredTokenError(principal=found)
        return found

    async def identify(self, request: Any) -> Principal:
        """The principal behind a request that has a token of an identity provider in place of a signature.

        Raises UnrecognizedClientError where no tokens are taken, and what `WebIdentities` raises.
        """
        if self._identities is None:
            raise UnrecognizedClientError
        return await self._identities(request)

    def _found(self, access_key_id: str, token: bytes | None) -> tuple[Principal, str]:
        """Whose key and token these are, and the secret that goes with them. A token goes with its own key and no other, and no token with others."""
        if token is None:
            key = self._keys.active(access_key_id)
            return Principal(key.account, key.principal_arn, key.id), self._keys.secret(key)
        found, secret = self._keys.session(token.decode("latin-1"))
        if found.access_key_id != access_key_id:
            raise UnrecognizedClientError
        return Principal(found.account, found.arn, found.access_key_id, found), secret

    def account_of(self, access_key_id: str) -> str:
        """As `AccessKeys.account_of`."""
        return self._keys.account_of(access_key_id)

    def now(self) -> float:
        """The instant that signatures are held against."""
        return self._clock.now()

    def verify(self, method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, str]:
        """(account, principal ARN) behind a request without a body, such as a websocket's handshake; raises as `principal` does.

        `path` and `query` as they stand in the request line, `headers` with names in lower case.
        """
        found = self.handshake(method, path, query, headers)
        return found.account, found.arn

    def handshake(self, method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Principal:
        """As `verify`: the principal."""
        return self.principal(sigv4.Request(method, path.encode("latin-1"), query, joined(headers), sigv4.EMPTY_BODY_SHA256))


def joined(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; several of one name are joined by commas, as a signature has them."""
    headers = dict(pairs)
    if len(headers) != len(pairs):
        headers = {}
        for name, value in pairs:
            headers[name] = headers[name] + b"," + value if name in headers else value
    return headers
