"""Asks OpenID Connect issuers for their keys, and keeps them for a while.

Owns: `IssuerKeys`, and every bound of those calls: which addresses, how long, how large, how often. Never reads a token.

Whoever may register an issuer makes this server call an address of their choosing. So: https with a certificate that the machine trusts; no address
of this machine or its link, unless the setting `web_identity_local_issuers` names the host; no redirect is followed; two fixed documents are read,
and nothing of them is ever told to anybody. Unsigned calls cause one only for an issuer that an account registered, and no more often than the
bounds say.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import msgspec

from homeport import log
from homeport.clock import Clock
from homeport.errors import IdpCommunicationError, InvalidIdentityTokenError
from homeport.iam.web_identity import Token, chosen, key_set

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

DISCOVERY: Final = "/.well-known/openid-configuration"
FRESH_SECONDS: Final = 3_600.0
"""How long keys are used without being asked for again: a key that an issuer took back is good for so long at most."""
PAUSE_SECONDS: Final = 30.0
"""Between two times that one issuer is asked because of a key that it did not have."""
FAILED_SECONDS: Final = 5.0
"""For how long an issuer that could not be asked is not asked again."""
ISSUER_SECONDS: Final = 5.0
"""How long an issuer may take for both documents."""
DOCUMENT_BYTES_MAX: Final = 262_144
ISSUERS_MAX: Final = 500
"""Whose keys are kept; the one that was asked longest ago goes first."""
ASKED_AT_ONCE_MAX: Final = 16
"""Issuers that are being asked at one time."""

_log = log.logger("issuer")
_UNREACHABLE: Final = "The identity provider could not be reached; try again later."
_NO_KEY: Final = (
    "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements"
)


class IssuerError(Exception):
    """An issuer gave no keys. `reached`: it did answer, with something that is of no use."""

    def __init__(self, why: str, *, reached: bool) -> None:
        super().__init__(why)
        self.reached = reached


class Reader(Protocol):
    """How documents of an issuer are read."""

    async def __call__(self, url: str) -> bytes:
        """The body of `url`. Raises `IssuerError`."""
        ...


class _Kept(NamedTuple):
    """What came of asking an issuer."""

    keys: tuple[Mapping[str, Any], ...]
    asked_at: float
    """Of a monotonic clock."""
    failure: IssuerError | None = None


class IssuerKeys:
    """The keys of issuers, of one server. Make it inside the running loop."""

    def __init__(self, clock: Clock, *, local: frozenset[str] = frozenset(), read: Reader | None = None) -> None:
        """`local`: hosts that may be called over plain HTTP and at this machine. `read` is by default over the network."""
        self._clock = clock
        self._local = local
        self._read = read or HttpReader(local)
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Task[_Kept]] = {}

    async def key_of(self, token: Token) -> Mapping[str, Any]:
        """The key that signed `token`, as its issuer publishes it. Raises IdpCommunicationError, InvalidIdentityTokenError.

        Many calls that need one issuer's keys at a time wait for one question.
        """
        kept = self._fresh(token.issuer) or await self._ask(token.issuer)
        if kept.failure is None and chosen(token, kept.keys) is None and self._clock.monotonic() - kept.asked_at >= PAUSE_SECONDS:
            kept = await self._ask(token.issuer)
        if kept.failure is not None:
            raise InvalidIdentityTokenError(_NO_KEY) if kept.failure.reached else IdpCommunicationError(_UNREACHABLE)
        key = chosen(token, kept.keys)
        if key is None:
            raise InvalidIdentityTokenError(_NO_KEY)
        return key

    def _fresh(self, issuer: str) -> _Kept | None:
        kept = self._kept.get(issuer)
        if kept is None:
            return None
        lasts = FRESH_SECONDS if kept.failure is None else FAILED_SECONDS
        return kept if self._clock.monotonic() - kept.asked_at < lasts else None

    async def _ask(self, issuer: str) -> _Kept:
        asking = self._asking.get(issuer)
        if asking is None:
            if len(self._asking) >= ASKED_AT_ONCE_MAX:
                raise IdpCommunicationError(_UNREACHABLE)
            asking = self._asking[issuer] = asyncio.create_task(self._answer(issuer))
            asking.add_done_callback(lambda _: self._asking.pop(issuer, None))
        return await asyncio.shield(asking)

    async def _answer(self, issuer: str) -> _Kept:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(ISSUER_SECONDS):
                kept = _Kept(await self._keys(issuer), began)
        except IssuerError as error:
            kept = _Kept((), began, error)
        except TimeoutError:
            kept = _Kept((), began, IssuerError(f"no answer within {ISSUER_SECONDS:.0f} s", reached=False))
        if kept.failure is not None:
            _log.warning("the issuer %s gave no keys: %s", issuer, kept.failure)
        self._kept.pop(issuer, None)  # so that the order is that of asking
        self._kept[issuer] = kept
        if len(self._kept) > ISSUERS_MAX:
            del self._kept[next(iter(self._kept))]
        return kept

    async def _keys(self, issuer: str) -> tuple[Mapping[str, Any], ...]:
        self._require_callable(issuer)
        document = _decoded(await self._read(issuer.rstrip("/") + DISCOVERY))
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise IssuerError("its discovery document is another issuer's", reached=True)
        where = document.get("jwks_uri")
        if not isinstance(where, str):
            raise IssuerError("its discovery document has no jwks_uri", reached=True)
        self._require_callable(where)
        if self._is_local(where) and not self._is_local(issuer):  # what the setting allows is for the issuers that it names, not for others to reach
            raise IssuerError(f"its keys are at {where[:200]}, which belongs to another issuer", reached=True)
        try:
            return key_set(_decoded(await self._read(where)))
        except ValueError as error:
            raise IssuerError(f"its keys cannot be read: {error}", reached=True) from None

    def _require_callable(self, url: str) -> None:
        if url.startswith("https://") or (url.startswith("http://") and self._is_local(url)):
            return
        raise IssuerError(f"{url[:200]} is no URL that may be called", reached=True)

    def _is_local(self, url: str) -> bool:
        return urlsplit(url).netloc.lower() in self._local


class HttpReader:
    """Reads over the network, with a connection of its own for each document."""

    def __init__(self, local: frozenset[str]) -> None:
        """`local`: HOST or HOST:PORT that may be at an address of this machine."""
        self._local = local

    async def __call__(self, url: str) -> bytes:
        """As `Reader`. Redirects are not followed, proxies of the environment not used."""
        import aiohttp  # few servers have web identities, and it takes 10 MB and a tenth of a second to load

        resolver = None if urlsplit(url).netloc.lower() in self._local else _Outside()
        if resolver is not None:
            _require_outside(urlsplit(url).hostname or "")
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(resolver=cast(Any, resolver), force_close=True),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=ISSUER_SECONDS),
                    trust_env=False,
                    auto_decompress=False,
                ) as session,
                session.get(url, allow_redirects=False, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as answer,
            ):
                if answer.status != 200:
                    raise IssuerError(f"it answered with status {answer.status}", reached=answer.status < 500)
                content = b""
                async for chunk in answer.content.iter_any():
                    content += chunk
                    if len(content) > DOCUMENT_BYTES_MAX:
                        raise IssuerError(f"its answer is longer than {DOCUMENT_BYTES_MAX} bytes", reached=True)
                return content
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise IssuerError(f"it could not be called: {error or type(error).__name__}", reached=False) from None


class _Outside:
    """Resolves names, and takes none whose address is of this machine or its link: the very addresses that are checked are connected to."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """As aiohttp's resolvers. Raises `IssuerError`."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            _require_outside(str(address[0]))
            results.append(
                {"hostname": host, "host": str(address[0]), "port": port, "family": kind, "proto": protocol, "flags": socket.AI_NUMERICHOST}
            )
        return results

    async def close(self) -> None:
        """Nothing is held."""


def _require_outside(text: str) -> None:
    """Raises `IssuerError` for an address of this machine, of its link (where clouds tell their secrets), or of nobody; a name passes."""
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    if any((mapped.is_loopback, mapped.is_link_local, mapped.is_multicast, mapped.is_unspecified)):
        raise IssuerError(f"its address {text} is one of this machine or its link", reached=False)


def _decoded(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise IssuerError("its answer is no JSON", reached=True) from None
