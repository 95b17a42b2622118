"""Docker Engine as a runtime, over its socket.

Owns: every call to Docker, the API version spoken and the translation of Docker's answers and errors into the contract's.
Never polls (changes come over the event stream), never decides anything and never touches an object it was not named.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from homeport.agent.runtime.contract import (
    CONNECTED,
    DISCONNECTED,
    ContainerListing,
    ContainerObservation,
    HealthObservation,
    ImageObservation,
    NameConflictError,
    NoSuchObjectError,
    PortBinding,
    PortTakenError,
    PullError,
    ResourceLimits,
    RuntimeDeadlineError,
    RuntimeDescription,
    RuntimeEvent,
    RuntimeFailureError,
    RuntimeUnavailableError,
    VolumeDocument,
)
from homeport.agent.runtime.limits import process_limits, socket_owner
from homeport.clock import Clock

API_OLDEST = (1, 41)
API_NEWEST = (1, 47)
CALL_SECONDS_MAX = 30.0
STOP_GRACE_SECONDS = 60.0
"""How much longer than its own timeout a stop may take."""
RECONNECT_SECONDS_FIRST = 0.05
RECONNECT_SECONDS_MAX = 1.0
SINCE_OVERLAP_SECONDS = 2.0
"""Events of the last two seconds are asked for again when the stream opens; seeing one twice does no harm."""
ENDLESS = aiohttp.ClientTimeout(total=None)
DEFAULT_SOCKET = "/var/run/docker.sock"
EVENT_ACTIONS = ("create", "start", "die", "oom", "destroy", "health_status", "pause", "unpause")

_log = logging.getLogger(__name__)


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """How long Docker may take, in seconds; the defaults are the upstream agent's (agent-protocol.md section 10)."""

    create: float = 240.0
    start: float = 180.0
    pull: float = 7_200.0
    pull_silence: float = 60.0
    """A pull that says nothing for this long has failed."""


class DockerRuntime:
    """The Docker Engine at `host` (default: DOCKER_HOST or the usual socket)."""

    def __init__(self, *, clock: Clock, host: str | None = None, deadlines: Deadlines | None = None) -> None:
        self._clock = clock
        self._deadlines = deadlines or Deadlines()
        self._host = host or os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"
        self._api_version: tuple[int, int] | None = None
        self._session: aiohttp.ClientSession | None = None

    # -- engine ---------------------------------------------------------------------------------------------------------

    async def describe(self) -> RuntimeDescription:
        """Version, cgroups and capacity, from /version and /info."""
        self._api_version = None
        info = await self._call("GET", "/info")
        major, minor = await self._negotiated()
        return RuntimeDescription(
            version=str(info.get("ServerVersion", "")),
            api_version=f"{major}.{minor}",
            cgroup_driver=str(info.get("CgroupDriver", "cgroupfs")),
            cgroup_version=int(info.get("CgroupVersion") or 1),
            cpus=int(info.get("NCPU", 0)),
            memory_mib=int(info.get("MemTotal", 0)) // (1024 * 1024),
            log_drivers=frozenset((info.get("Plugins") or {}).get("Log") or ()),
        )

    async def ping(self) -> None:
        """GET /_ping."""
        await self._request("GET", "/_ping", seconds=CALL_SECONDS_MAX, versioned=False)

    def limits(self) -> ResourceLimits:
        """The limits of the process behind the socket, else our own."""
        path = self._socket_path()
        return process_limits(socket_owner(path) if path else None)

    # -- containers -----------------------------------------------------------------------------------------------------

    async def create(self, name: str, document: Mapping[str, Any]) -> str:
        """POST /containers/create."""
        answer = await self._call("POST", "/containers/create", query={"name": name}, body=document, seconds=self._deadlines.create)
        return str(answer["Id"])

    async def start(self, container_id: str) -> None:
        """POST /containers/ID/start."""
        await self._call("POST", f"/containers/{quote(container_id)}/start", seconds=self._deadlines.start)

    async def stop(self, container_id: str, timeout_seconds: int) -> None:
        """POST /containers/ID/stop: Docker knows the image's and the container's STOPSIGNAL."""
        await self._call(
            "POST",
            f"/containers/{quote(container_id)}/stop",
            query={"t": str(timeout_seconds)},
            seconds=timeout_seconds + STOP_GRACE_SECONDS,
        )

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """POST /containers/ID/kill; a container that does not run answers 409, which is as good."""
        try:
            await self._call("POST", f"/containers/{quote(container_id)}/kill", query={"signal": signal})
        except NameConflictError:
            return

    async def wait(self, container_id: str) -> int:
        """POST /containers/ID/wait, without a deadline."""
        answer = await self._call("POST", f"/containers/{quote(container_id)}/wait", seconds=None)
        return int(answer["StatusCode"])

    async def inspect(self, container: str) -> ContainerObservation:
        """GET /containers/ID/json."""
        return _observation(await self._call("GET", f"/containers/{quote(container)}/json"))

    async def remove(self, container_id: str) -> None:
        """DELETE /containers/ID with force and anonymous volumes; waits for a removal that is already under way."""
        try:
            await self._call("DELETE", f"/containers/{quote(container_id)}", query={"force": "true", "v": "true"}, seconds=self._deadlines.create)
        except NoSuchObjectError:
            return
        except NameConflictError:  # "removal of container … is already in progress"
            return

    async def list_containers(self, labels: Mapping[str, str]) -> list[ContainerListing]:
        """GET /containers/json?all=true."""
        found = await self._call("GET", "/containers/json", query={"all": "true", "filters": _filters(label=_pairs(labels))})
        return [
            ContainerListing(
                id=item["Id"], name=(item.get("Names") or [""])[0].lstrip("/"), status=item.get("State", ""), labels=item.get("Labels") or {}
            )
            for item in found
        ]

    # -- streams --------------------------------------------------------------------------------------------------------

    async def events(self, labels: Mapping[str, str]) -> AsyncIterator[RuntimeEvent]:
        """GET /events, reopened from the last event seen whenever it breaks."""
        since = self._clock.now() - SINCE_OVERLAP_SECONDS
        delay = RECONNECT_SECONDS_FIRST
        while True:
            try:
                async for event in self._event_stream(labels, since):
                    delay = RECONNECT_SECONDS_FIRST
                    since = max(since, event.at)
                    yield event
            except RuntimeUnavailableError as error:
                _log.warning("events of Docker: %s; again in %.2f s", error, delay)
            yield RuntimeEvent(action=DISCONNECTED)
            self._api_version = None
            await self._clock.sleep(delay)
            delay = min(delay * 2, RECONNECT_SECONDS_MAX)

    async def _event_stream(self, labels: Mapping[str, str], since: float) -> AsyncIterator[RuntimeEvent]:
        query = {"since": f"{since:.6f}", "filters": _filters(type=["container"], event=list(EVENT_ACTIONS), label=_pairs(labels))}
        try:
            async with await self._open("GET", "/events", query=query) as response:
                yield RuntimeEvent(action=CONNECTED)
                async for document in _documents(response):
                    yield _event(document)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(f"the event stream broke: {error}") from error

    async def logs(self, container_id: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[tuple[str, bytes]]:
        """GET /containers/ID/logs, its frames taken apart (with a terminal there are none: all is stdout)."""
        document = await self._call("GET", f"/containers/{quote(container_id)}/json")
        query = {"stdout": "1", "stderr": "1", "follow": "1" if follow else "0", "tail": "all" if tail is None else str(tail)}
        try:
            async with await self._open("GET", f"/containers/{quote(container_id)}/logs", query=query) as response:
                if document.get("Config", {}).get("Tty"):
                    async for piece in response.content.iter_any():
                        yield "stdout", piece
                    return
                while True:
                    head = await response.content.readexactly(8)
                    data = await response.content.readexactly(int.from_bytes(head[4:], "big"))
                    yield ("stderr" if head[0] == 2 else "stdout"), data
        except asyncio.IncompleteReadError:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(f"the log stream broke: {error}") from error

    # -- images and volumes ---------------------------------------------------------------------------------------------

    async def image(self, reference: str) -> ImageObservation | None:
        """GET /images/NAME/json."""
        try:
            found = await self._call("GET", f"/images/{quote(reference, safe='/:@')}/json")
        except NoSuchObjectError:
            return None
        return ImageObservation(id=str(found["Id"]), digest=_digest(reference, found.get("RepoDigests") or []))

    async def pull(self, reference: str) -> None:
        """POST /images/create; the stream's error line is the error."""
        repository, tag = split_reference(reference)
        try:
            timeout = aiohttp.ClientTimeout(total=self._deadlines.pull, sock_read=self._deadlines.pull_silence)
            async with await self._open("POST", "/images/create", query={"fromImage": repository, "tag": tag}, timeout=timeout) as response:
                async for document in _documents(response):
                    if "error" in document:
                        raise PullError(str(document["error"]))
        except RuntimeUnavailableError:
            raise
        except RuntimeFailureError as error:
            raise PullError(str(error)) from error
        except TimeoutError as error:
            raise PullError(f"nothing came from the registry for {self._deadlines.pull_silence:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(f"the connection broke during the pull: {error}") from error

    async def create_volume(self, volume: VolumeDocument) -> None:
        """POST /volumes/create, which is idempotent for the same driver."""
        body = {"Name": volume.name, "Driver": volume.driver, "DriverOpts": volume.driver_opts, "Labels": volume.labels}
        await self._call("POST", "/volumes/create", body=body, seconds=self._deadlines.create)

    async def volume_exists(self, name: str) -> bool:
        """GET /volumes/NAME."""
        try:
            await self._call("GET", f"/volumes/{quote(name)}")
        except NoSuchObjectError:
            return False
        return True

    async def remove_volume(self, name: str) -> None:
        """DELETE /volumes/NAME."""
        try:
            await self._call("DELETE", f"/volumes/{quote(name)}")
        except NoSuchObjectError:
            return

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- transport ------------------------------------------------------------------------------------------------------

    def _socket_path(self) -> str | None:
        return self._host.removeprefix("unix://") if self._host.startswith("unix://") else None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            path = self._socket_path()
            # Stops hold their connection for their whole timeout: a limit on connections would make starts wait for stops.
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path, limit=0) if path else aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._session

    def _url(self, path: str) -> str:
        origin = "http://docker" if self._socket_path() else self._host.replace("tcp://", "http://", 1).rstrip("/")
        return origin + path

    async def _negotiated(self) -> tuple[int, int]:
        """The API version to speak: the newest that both know."""
        if self._api_version is None:
            answer = await self._request("GET", "/version", seconds=CALL_SECONDS_MAX, versioned=False)
            newest, oldest = _version(answer.get("ApiVersion", "0.0")), _version(answer.get("MinAPIVersion") or "1.12")
            chosen = min(newest, API_NEWEST)
            if chosen < API_OLDEST or chosen < oldest:
                raise RuntimeFailureError(
                    f"this Docker speaks API versions {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}, "
                    f"Homeport {API_OLDEST[0]}.{API_OLDEST[1]} to {API_NEWEST[0]}.{API_NEWEST[1]}"
                )
            self._api_version = chosen
        return self._api_version

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = CALL_SECONDS_MAX,
    ) -> Any:
        major, minor = await self._negotiated()
        return await self._request(method, f"/v{major}.{minor}{path}", query=query, body=body, seconds=seconds)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float | None,
        versioned: bool = True,
    ) -> Any:
        """One call; its answer's JSON (None without one)."""
        try:
            async with self._client().request(
                method, self._url(path), params=query, json=body, timeout=aiohttp.ClientTimeout(total=seconds)
            ) as response:
                data = await response.read()
                if response.status >= 400:
                    raise _failure(response.status, data, versioned=versioned)
                return json.loads(data) if data and response.content_type == "application/json" else None
        except TimeoutError as error:
            raise RuntimeDeadlineError(f"Docker gave no answer to {method} {path} within {seconds:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(f"Docker at {self._host} cannot be reached: {error}") from error

    async def _open(self, method: str, path: str, *, query: Mapping[str, str], timeout: aiohttp.ClientTimeout = ENDLESS) -> aiohttp.ClientResponse:
        """Begin a call whose answer is a stream."""
        major, minor = await self._negotiated()
        try:
            response = await self._client().request(method, self._url(f"/v{major}.{minor}{path}"), params=query, timeout=timeout)
        except TimeoutError as error:
            raise RuntimeDeadlineError(f"Docker said nothing to {method} {path} for too long") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(f"Docker at {self._host} cannot be reached: {error}") from error
        if response.status >= 400:
            async with response:
                raise _failure(response.status, await response.read(), versioned=True)
        return response


def split_reference(reference: str) -> tuple[str, str]:
    """Repository and tag (or digest) of an image reference; without either the tag is `latest`, since "" would pull every tag."""
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, digest
    head, slash, last = reference.rpartition("/")
    name, colon, tag = last.partition(":")
    return head + slash + name, tag if colon else "latest"


def _failure(status: int, data: bytes, *, versioned: bool) -> RuntimeFailureError:
    """Docker's error as one of the contract's."""
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace").strip() or f"HTTP status {status}"
    if "port is already allocated" in message or "address already in use" in message:
        return PortTakenError(message)
    if status == 404 and versioned and not message.startswith(("OCI runtime", "failed to create shim")):
        return NoSuchObjectError(message)
    if status == 409:
        return NameConflictError(message)
    return RuntimeFailureError(message)


async def _documents(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON documents of a stream, one a line."""
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
    if rest.strip():
        yield json.loads(rest)


def _event(document: Mapping[str, Any]) -> RuntimeEvent:
    actor = document.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    nanoseconds = document.get("timeNano") or int(document.get("time", 0)) * 1_000_000_000
    return RuntimeEvent(
        action=str(document.get("Action", "")).split(":", 1)[0],
        container_id=str(actor.get("ID", "")),
        labels=attributes,
        at=nanoseconds / 1e9,
    )


def _observation(document: Mapping[str, Any]) -> ContainerObservation:
    state = document.get("State") or {}
    health = state.get("Health")
    probes = (health or {}).get("Log") or []
    networks: Mapping[str, Any] = (document.get("NetworkSettings") or {}).get("Networks") or {}
    network: Mapping[str, str] = next((one for one in networks.values() if one.get("IPAddress")), {})
    return ContainerObservation(
        id=document["Id"],
        name=document.get("Name", "").lstrip("/"),
        status=state.get("Status", ""),
        exit_code=int(state.get("ExitCode", 0)),
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error", ""),
        started_at=_time(state.get("StartedAt", "")),
        finished_at=_time(state.get("FinishedAt", "")),
        health=HealthObservation(health.get("Status", ""), (probes[-1].get("Output", "") if probes else "")) if health else None,
        ports=_ports((document.get("NetworkSettings") or {}).get("Ports") or {}),
        labels=(document.get("Config") or {}).get("Labels") or {},
        image_id=document.get("Image", ""),
        pid=int(state.get("Pid", 0)),
        address=network.get("IPAddress", ""),
        gateway=network.get("Gateway", ""),
    )


def _ports(published: Mapping[str, Any]) -> tuple[PortBinding, ...]:
    """Docker's port table without its IPv6 twins (the upstream agent hides them as well)."""
    found = []
    for key, bindings in published.items():
        port, _, protocol = key.partition("/")
        for binding in bindings or ():
            if ":" not in binding.get("HostIp", "") and binding.get("HostPort"):
                found.append(PortBinding(binding.get("HostIp") or "0.0.0.0", int(binding["HostPort"]), int(port), protocol or "tcp"))  # noqa: S104
    return tuple(sorted(found, key=lambda binding: (binding.container_port, binding.protocol, binding.host_port)))


def _digest(reference: str, digests: list[str]) -> str | None:
    """The registry digest that belongs to the reference's repository."""
    repository, _ = split_reference(reference)
    for entry in digests:
        name, _, digest = entry.partition("@")
        if name == repository or repository.endswith("/" + name) or name.endswith("/" + repository):
            return digest
    return None


def _time(text: str) -> float | None:
    """Docker's time in seconds since the epoch; its zero time is None."""
    if not text or text.startswith("0001-"):
        return None
    head, _, fraction = text.removesuffix("Z").partition(".")
    offset = "+00:00" if text.endswith("Z") else ""
    if offset:
        return datetime.fromisoformat(head + offset).timestamp() + float(f"0.{fraction or '0'}")
    return datetime.fromisoformat(text[:26] + text[-6:] if fraction else text).timestamp()


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _filters(**values: list[str]) -> str:
    return json.dumps({key: value for key, value in values.items() if value})


def _pairs(labels: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]
