"""Calls of the ECS API and signed websockets: everything that the agent sends to the control plane.

Owns: one HTTP connection pool, SigV4 over each call, and the reading of errors. Never retries (its callers know what a failure means).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
from yarl import URL

from homeport.agent.credentials import Credentials
from homeport.agent.settings import AgentSettings
from homeport.clock import Clock
from homeport.errors import HomeportError
from homeport.iam import sigv4
from homeport.tls.contexts import Trust

TARGET_PREFIX: Final = "AmazonEC2ContainerServiceV20141113."
OWN_TARGET_PREFIX: Final = "HomeportV20261101."
ENDED: Final = frozenset({"ExpiredTokenException", "UnrecognizedClientException"})
"""Errors of credentials that have ended, or that the installation does not know any more; a host has others at once."""
CONTENT_TYPE: Final = "application/x-amz-json-1.1"
USER_AGENT: Final = "homeport-agent"
SERVER_FAULT: Final = 500
SERVICE_UNAVAILABLE: Final = 503
"""HTTP status of a server that cannot serve now: whether the call was done is not known."""
SILENT_SERVER_SECONDS: Final = 12.0
"""Longest call where there is another server to ask; a server without a leader says so after 8 s."""
DIAL_SECONDS_MAX: Final = 5.0
"""How long a connection may take that is made for a container."""
HOME_SECONDS_MAX: Final = 2.0
"""How long the server to begin with may take to say that it serves, before the agent goes back to it."""
_CLOSE_TIMEOUT: Final = aiohttp.ClientWSTimeout(ws_close=1.0)
"""How long a close frame waits for its answer."""


_log = logging.getLogger(__name__)


class Caller(Protocol):
    """What the reporter and the registration need of a client."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call `operation`; see `EcsClient.call`."""
        ...


class CallFailedError(HomeportError):
    """The control plane refused a call, or refused a websocket. `code` is AWS's name of the error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class UnreachableError(HomeportError):
    """The control plane did not answer, or what it answered was no answer of the API."""

    temporary = True


class EcsClient:
    """A client of one control plane with the credentials of one agent. Make it inside the running loop; close it at the end.

    May raise CertificateError, NotJoinedError and HostFileError.

    With several servers it stays at one until that fails, then goes on to the next, until it is asked to go back to the first.
    """

    _endpoints: tuple[str, ...] = ()
    credentials: Credentials | None = None
    """None in simulations, which sign nothing."""

    def __init__(self, settings: AgentSettings, clock: Clock) -> None:
        self._endpoints = settings.endpoints
        self._current = 0
        self.credentials = Credentials(settings, clock)
        self._renewing = asyncio.Lock()
        self._clock = clock
        self._trust = Trust(settings.ca_file) if settings.endpoint.startswith("https:") else None
        self._ping_seconds = settings.ping_seconds
        timeout_seconds = settings.call_timeout_seconds
        if self.several:
            timeout_seconds = min(timeout_seconds, SILENT_SERVER_SECONDS)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.report_pool_max + 4),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),  # of a websocket it limits the handshake alone
            skip_auto_headers=("User-Agent",),
            auto_decompress=False,
        )

    def _trusted(self) -> ssl.SSLContext | bool:
        """Whom to trust; given with each call, so that the next connection is made with what the file says now."""
        return self._trust.context if self._trust is not None else True

    @property
    def several(self) -> bool:
        """Whether there is another server to go to."""
        return len(self._endpoints) > 1

    @property
    def endpoint(self) -> str:
        """The server that is asked next."""
        return self._endpoints[self._current]

    def _leave(self, endpoint: str) -> None:
        """`endpoint` failed; unless somebody moved on already, the next one is asked from now on."""
        if endpoint == self.endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    def leave_server_of(self, address: str) -> None:
        """The server that gave `address` as its own does not answer any more; the next one is asked from now on."""
        if self.several and urlsplit(address).netloc == urlsplit(self.endpoint).netloc:
            self._leave(self.endpoint)

    async def return_home(self) -> None:
        """Ask the first server again from now on, if it serves: agents that moved on when it died would else stay where they are for ever."""
        if not self.several or self._current == 0:
            return
        home, timeout = self._endpoints[0], aiohttp.ClientTimeout(total=HOME_SECONDS_MAX)
        try:
            async with self._http.get(f"{home}/health", timeout=timeout, allow_redirects=False, ssl=self._trusted()) as response:
                told = msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
            return
        if response.status == 200 and isinstance(told, dict) and told.get("leader", "?"):
            self._current = 0

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call `operation` and return its answer.

        Credentials of a host that have ended are renewed. Raises CallFailedError for an error of the API and UnreachableError when there was
        no answer.
        """
        body = msgspec.json.encode(request)
        try:
            return await self._post(operation, TARGET_PREFIX, body)
        except CallFailedError as error:
            if error.code not in ENDED or not self.renewable:
                raise
            await self.renew()
        return await self._post(operation, TARGET_PREFIX, body)

    @property
    def renewable(self) -> bool:
        """Whether it signs with credentials of a host, which `renew` replaces."""
        return self.credentials is not None and self.credentials.renewable

    async def renew(self) -> None:
        """New credentials, by the host's key. Who comes while another does it, waits for that.

        Raises CallFailedError when the control plane refuses the host, UnreachableError when there was no answer, ProofError.
        """
        assert self.credentials is not None
        before = self.credentials.host
        async with self._renewing:
            if self.credentials.host is not before:
                return
            body = msgspec.json.encode(await self.credentials.request())
            answer = await self._post("RenewInstanceCredentials", OWN_TARGET_PREFIX, body, signed=False)
            try:
                await self.credentials.take(answer)
            except msgspec.ValidationError as error:
                raise UnreachableError(f"RenewInstanceCredentials: {error}") from error
            except OSError:
                _log.exception("the new credentials are used, but could not be kept")

    async def _post(self, operation: str, prefix: str, body: bytes, *, signed: bool = True) -> dict[str, Any]:
        headers = {"Content-Type": CONTENT_TYPE, "X-Amz-Target": prefix + operation, "User-Agent": USER_AGENT}
        endpoint = self.endpoint
        url = endpoint + "/"
        if signed:
            headers = self._signed("POST", url, headers, hashlib.sha256(body).hexdigest())
        try:
            async with self._http.post(url, data=body, headers=headers, allow_redirects=False, ssl=self._trusted()) as response:
                answer = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._leave(endpoint)
            raise UnreachableError(f"{operation}: {error or type(error).__name__}") from error
        if status == SERVICE_UNAVAILABLE:
            self._leave(endpoint)
            raise UnreachableError(f"{operation}: {answer[:200].decode('utf-8', 'replace')}")
        return _read(operation, status, answer)

    async def connect(self, endpoint: str, query: Mapping[str, str], *, ping: bool = False) -> aiohttp.ClientWebSocketResponse:
        """Open the websocket ENDPOINTws?QUERY (agent-protocol.md 5.1). With `ping` a silent server is noticed soon,
        where there is another.

        Raises CallFailedError with the name of the exception when the control plane refuses, UnreachableError when there is no connection.
        """
        url = f"{endpoint.rstrip('/')}/ws?{urlencode(query)}"
        if self.endpoint.startswith("https:") and not endpoint.startswith(("https:", "wss:")):
            raise UnreachableError(f"{endpoint}: the control plane speaks TLS, and this connection would not")
        headers = self._signed("GET", url, {}, sigv4.EMPTY_BODY_SHA256)
        try:
            address = URL(url, encoded=True)  # as signed: nothing may write it in another form
            heartbeat = self._ping_seconds if ping and self.several else None
            return await self._http.ws_connect(
                address, headers=headers, max_msg_size=0, compress=0, timeout=_CLOSE_TIMEOUT, heartbeat=heartbeat, ssl=self._trusted()
            )
        except aiohttp.WSServerHandshakeError as error:
            code = error.headers.get("x-amzn-errortype", "") if error.headers else ""
            if error.status >= SERVER_FAULT:
                self.leave_server_of(endpoint)
            if not code:
                raise UnreachableError(f"{url}: HTTP status {error.status}") from error
            raise CallFailedError(code, f"the control plane refuses the connection (HTTP status {error.status})") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.leave_server_of(endpoint)
            raise UnreachableError(f"{url}: {error or type(error).__name__}") from error

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server that is asked next, for bytes that are somebody else's. Raises UnreachableError."""
        endpoint = self.endpoint
        place = urlsplit(endpoint)
        secure = self._trust.context if self._trust is not None else None
        port = place.port or (443 if secure else 80)
        try:
            async with asyncio.timeout(DIAL_SECONDS_MAX):
                return await asyncio.open_connection(place.hostname, port, ssl=secure)
        except (OSError, TimeoutError) as error:
            self._leave(endpoint)
            raise UnreachableError(f"{endpoint}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    def _signed(self, method: str, url: str, headers: Mapping[str, str], body_sha256: str) -> dict[str, str]:
        assert self.credentials is not None
        keys, token = self.credentials.keys, self.credentials.token
        parts = urlsplit(url)
        covered = {name.lower().encode(): value.encode() for name, value in headers.items() if name != "User-Agent"}
        covered[b"host"] = parts.netloc.encode()
        if token:
            covered[b"x-amz-security-token"] = token.encode()
        request = sigv4.Request(method, parts.path.encode(), parts.query.encode(), covered, body_sha256)
        signature = sigv4.sign(request, keys, self._clock.now())
        return {**headers, **({"X-Amz-Security-Token": token} if token else {}), **signature, "Host": parts.netloc}


def _read(operation: str, status: int, answer: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(answer) if answer else {}
    except msgspec.DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise UnreachableError(f"{operation}: HTTP status {status} with a body that is no JSON object")
    if status == 200:
        return decoded
    code = str(decoded.get("__type", "")).rpartition("#")[2]
    if not code:
        raise UnreachableError(f"{operation}: HTTP status {status}")
    raise CallFailedError(code, str(decoded.get("message") or decoded.get("Message") or ""))
