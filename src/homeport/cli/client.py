"""A small signed client of the public API, for the command line: starts in milliseconds where an SDK takes half a second.

Owns: `Api`, its errors, paging and batching. Never retries, never caches.
"""

from __future__ import annotations

import hashlib
import http.client
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from homeport.cli.installation import LocalCredentials
from homeport.cli.terminal import CommandError
from homeport.clock import Clock
from homeport.iam.sigv4 import Credentials, Request, sign

TARGET_PREFIX: Final = "AmazonEC2ContainerServiceV20141113"
OWN_TARGET_PREFIX: Final = "HomeportV20261101"
OWN_OPERATIONS: Final = (
    "CloseAccount",
    "CreateAccount",
    "CreateJoinToken",
    "DeleteAccountQuota",
    "DeleteJoinToken",
    "DeleteRule",
    "DescribeAccount",
    "DescribeAt",
    "DescribeCapacity",
    "DescribeHistory",
    "DescribeInstanceIdentity",
    "ExplainPlacement",
    "ListAccountQuotas",
    "ListAccounts",
    "ListInstanceIdentities",
    "ListJoinTokens",
    "ListRules",
    "PredictChanges",
    "PredictServiceUpdate",
    "PutAccountQuota",
    "PutRule",
    "ReopenAccount",
    "RevokeInstanceIdentity",
    "TestRules",
)
"""Homeport's own operations, which have another target and signing name."""
CALL_TIMEOUT_SECONDS: Final = 30.0


def connection_to(endpoint: str, ca_file: str, *, timeout_seconds: float) -> http.client.HTTPConnection:
    """A connection to that URL, not made yet; `ca_file` says who is trusted, "" whom the system trusts. Raises CertificateError."""
    place = urlsplit(endpoint)
    if place.scheme != "https":
        return http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout_seconds)
    from homeport.tls.contexts import Trust  # brings OpenSSL's bindings, which a command over plain HTTP does without

    return http.client.HTTPSConnection(place.hostname or "", place.port, timeout=timeout_seconds, context=Trust(ca_file).context)


class ApiUnreachableError(CommandError):
    """Nobody answers at the endpoint."""


class ApiCallError(CommandError):
    """The API answered with an error. `code` is AWS's."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        super().__init__(f"{operation}: {code}: {message}")
        self.code = code
        self.message = message


class Api:
    """The ECS API of one installation, and Homeport's own operations beside it. One connection per call: the command line makes few.

    With several servers, one that nobody listens for is passed over.
    """

    def __init__(self, credentials: LocalCredentials, clock: Clock, *, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> None:
        self.endpoint = credentials.endpoint
        self._others = [endpoint for endpoint in credentials.endpoints if endpoint != credentials.endpoint]
        self._keys = Credentials(credentials.access_key_id, credentials.secret_access_key, credentials.region)
        self._token = credentials.session_token
        self._clock = clock
        self._timeout = timeout_seconds
        self._ca_file = credentials.ca_file

    def call(self, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """The answer of one operation. Raises ApiUnreachableError, ApiCallError."""
        own = operation in OWN_OPERATIONS
        target = f"{OWN_TARGET_PREFIX if own else TARGET_PREFIX}.{operation}"
        keys = self._keys._replace(service="homeport") if own else self._keys
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
        return self._answer(operation, "/", headers, msgspec.json.encode(parameters), keys)

    def servers(self) -> dict[str, Any] | None:
        """What one of several servers tells of all; None from a server that is alone. Raises ApiUnreachableError, ApiCallError."""
        try:
            return self._answer("servers", "/homeport/servers", {}, b"", self._keys)
        except ApiCallError as error:
            if error.code == "UnknownOperationException":
                return None
            raise

    def account(self) -> str:
        """The account of the keys, by STS's GetCallerIdentity; "" when it does not say. Raises ApiUnreachableError."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        body = b"Action=GetCallerIdentity&Version=2011-06-15"
        _, answer = self._sent("/", headers, body, self._keys._replace(service="sts"))
        found = re.search(rb"<Account>(\d{12})</Account>", answer)
        return found[1].decode() if found else ""

    def root_keys(self, wish: str) -> dict[str, Any]:
        """What one server says of its root keys after `wish`: tell, read, wrap. Raises ApiUnreachableError, ApiCallError."""
        return self._answer("keys", "/homeport/keys", {}, msgspec.json.encode({"do": wish}), self._keys)

    def _answer(self, operation: str, path: str, headers: Mapping[str, str], body: bytes, keys: Credentials) -> dict[str, Any]:
        status, data = self._sent(path, headers, body, keys)
        answer = _decoded(data)
        if status != 200:
            code = str(answer.get("__type", status)).rpartition("#")[2]
            raise ApiCallError(operation, code, str(answer.get("message") or answer.get("Message") or "no message"))
        return answer

    def _sent(self, path: str, headers: Mapping[str, str], body: bytes, keys: Credentials) -> tuple[int, bytes]:
        """Status and body of the answer of the first server that takes the request. Raises ApiUnreachableError."""
        while True:
            try:
                return self._post(path, headers, body, keys)
            except ConnectionRefusedError as error:  # nothing was sent, so another server may be asked
                if not self._others:
                    raise ApiUnreachableError(f"the control plane does not answer at {self.endpoint} ({error})") from None
                self.endpoint = self._others.pop(0)
            except (OSError, http.client.HTTPException) as error:
                raise ApiUnreachableError(f"the control plane does not answer at {self.endpoint} ({error or type(error).__name__})") from None

    def _post(self, path: str, headers: Mapping[str, str], body: bytes, keys: Credentials) -> tuple[int, bytes]:
        place = urlsplit(self.endpoint)
        sent = {"host": place.netloc, **headers, **({"x-amz-security-token": self._token} if self._token else {})}
        covered = {name.encode(): value.encode() for name, value in sent.items()}
        signed = sign(Request("POST", path.encode(), b"", covered, hashlib.sha256(body).hexdigest()), keys, self._clock.now())
        connection = connection_to(self.endpoint, self._ca_file, timeout_seconds=self._timeout)
        try:
            connection.request("POST", path, body, {**sent, **signed})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether a signed call succeeds now."""
        try:
            self.call("ListClusters", maxResults=1)
        except (ApiUnreachableError, ApiCallError):
            return False
        return True

    def listed(self, operation: str, member: str, **parameters: Any) -> list[Any]:
        """All elements of an operation's list (ARNs of a List operation), over all its pages."""
        found: list[Any] = []
        token: str | None = None
        while True:
            answer = self.call(operation, **parameters, **({"nextToken": token} if token else {}))
            found += answer[member]
            token = answer.get("nextToken")
            if not token:
                return found

    def described(self, operation: str, member: str, arns: Sequence[str], *, batch: int = 100, **parameters: Any) -> list[dict[str, Any]]:
        """What a Describe operation tells of `arns`, asked in batches; `member` names both the request's and the answer's list."""
        found: list[dict[str, Any]] = []
        for first in range(0, len(arns), batch):
            found += self.call(operation, **parameters, **{member: list(arns[first : first + batch])})[member]
        return found


def ask_unsigned(endpoint: str, operation: str, parameters: Mapping[str, Any], *, ca_file: str = "") -> dict[str, Any]:
    """The answer of one of our own operations that finds out by itself who asks. Raises ApiUnreachableError, ApiCallError."""
    connection = connection_to(endpoint, ca_file, timeout_seconds=CALL_TIMEOUT_SECONDS)
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{OWN_TARGET_PREFIX}.{operation}"}
    try:
        connection.request("POST", "/", msgspec.json.encode(parameters), headers)
        response = connection.getresponse()
        status, answer = response.status, _decoded(response.read())
    except (OSError, http.client.HTTPException) as error:
        raise ApiUnreachableError(f"the control plane does not answer at {endpoint} ({error or type(error).__name__})") from None
    finally:
        connection.close()
    if status != 200:
        code = str(answer.get("__type", status)).rpartition("#")[2]
        raise ApiCallError(operation, code, str(answer.get("message") or answer.get("Message") or "no message"))
    return answer


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(data) if data else {}
    except msgspec.DecodeError:
        return {"message": data[:200].decode("utf-8", "replace")}
    return answer if isinstance(answer, dict) else {}
