"""What the engine needs of a container runtime.

Owns: `Runtime` (the interface), the observations that it returns and the errors that it raises. Never knows which runtime it is:
`runtime/docker.py` speaks to Docker Engine, `testing/runtime.py` is the fake, and one conformance suite holds both to this page.

A container is described by Docker's own create document (Config members, HostConfig, NetworkingConfig): the wire carries
those forms already (agent-protocol.md 7.2), so a second description would only lose members.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import msgspec

from homeport.errors import HomeportError


class RuntimeFailureError(HomeportError):
    """The runtime refused or failed a call. The message is the runtime's own sentence."""


class RuntimeUnavailableError(RuntimeFailureError):
    """The runtime cannot be reached, or the connection broke before the answer; the call may or may not have had its effect."""

    temporary = True


class RuntimeDeadlineError(RuntimeFailureError):
    """The runtime gave no answer in the time allowed; the call may or may not have its effect yet."""

    temporary = True


class NoSuchObjectError(RuntimeFailureError):
    """The named container, image or volume does not exist."""


class NameConflictError(RuntimeFailureError):
    """A container with the wanted name exists, or is just being made."""


class PortTakenError(RuntimeFailureError):
    """A host port of the container is in use by another program or container."""


class PullError(RuntimeFailureError):
    """An image could not be pulled."""


class PortBinding(msgspec.Struct, frozen=True):
    """A container port published on the host. `protocol`: tcp or udp."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str


class HealthObservation(msgspec.Struct, frozen=True):
    """Outcome of a container's health check. `status`: starting, healthy or unhealthy; `output`: of the last probe."""

    status: str
    output: str = ""


class ContainerObservation(msgspec.Struct, frozen=True, kw_only=True):
    """What an inspection saw of one container.

    `status`: created, running, paused, restarting, removing, exited or dead. `started_at` is None when it never ran;
    `finished_at` is None when it never exited; both are seconds since the epoch.
    """

    id: str
    name: str
    status: str
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    health: HealthObservation | None = None
    ports: tuple[PortBinding, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    image_id: str = ""
    pid: int = 0
    address: str = ""
    """IPv4 address of a network of its own, "" without one; and `gateway`, the host's in the same network."""
    gateway: str = ""

    @property
    def running(self) -> bool:
        """Whether its process exists (a paused one counts)."""
        return self.status in {"running", "paused", "restarting"}


class ContainerListing(msgspec.Struct, frozen=True, kw_only=True):
    """One container in a list."""

    id: str
    name: str
    status: str
    labels: dict[str, str]


class ImageObservation(msgspec.Struct, frozen=True, kw_only=True):
    """A local image. `digest` is the registry's ("sha256:…"), None for an image that no registry has."""

    id: str
    digest: str | None = None


class RuntimeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to a container: create, start, die, oom, destroy, health_status, … `at`: seconds since the epoch.

    The action CONNECTED (upper case) with an empty id heads the stream each time that it is (re)opened: whatever happened
    before may have been missed, so the reader inspects everything it cares for. DISCONNECTED says that the stream broke.
    """

    action: str
    container_id: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    at: float = 0.0


CONNECTED = "CONNECTED"
DISCONNECTED = "DISCONNECTED"


class RuntimeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime's version and what it has. `cgroup_driver`: cgroupfs or systemd; `cgroup_version`: 1 or 2; memory in MiB."""

    version: str
    api_version: str
    cgroup_driver: str
    cgroup_version: int
    cpus: int
    memory_mib: int
    log_drivers: frozenset[str] = frozenset({"json-file"})
    """Log drivers that the runtime has."""


class ResourceLimits(msgspec.Struct, frozen=True):
    """Highest hard limits that the runtime can give a container, by ulimit name; empty when it may raise them at will."""

    hard: dict[str, int] = msgspec.field(default_factory=dict)


class VolumeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A named volume to make."""

    name: str
    driver: str = "local"
    driver_opts: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class Runtime(Protocol):
    """A container runtime. Every method may raise RuntimeUnavailableError, and RuntimeFailureError with the runtime's sentence."""

    async def describe(self) -> RuntimeDescription:
        """Version, cgroups and capacity of the machine that it runs on."""
        ...

    async def ping(self) -> None:
        """Return when the runtime answers."""
        ...

    def limits(self) -> ResourceLimits:
        """The hard limits that containers can have at most."""
        ...

    async def create(self, name: str, document: Mapping[str, Any]) -> str:
        """Make a container; return its id. Raises NameConflictError, NoSuchObjectError (no such image), RuntimeDeadlineError (4 min)."""
        ...

    async def start(self, container_id: str) -> None:
        """Start it; nothing happens when it runs. Raises PortTakenError, NoSuchObjectError, RuntimeDeadlineError (3 min)."""
        ...

    async def stop(self, container_id: str, timeout_seconds: int) -> None:
        """Its STOPSIGNAL, and after `timeout_seconds` KILL; returns when it has stopped. NoSuchObjectError when it is gone."""
        ...

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send a signal. Nothing happens when it does not run; NoSuchObjectError when it is gone."""
        ...

    async def wait(self, container_id: str) -> int:
        """Return its exit code once it does not run."""
        ...

    async def inspect(self, container: str) -> ContainerObservation:
        """What a container (id or name) is like now. Raises NoSuchObjectError."""
        ...

    async def remove(self, container_id: str) -> None:
        """Kill it if it runs, and remove it with its anonymous volumes. Nothing happens when it is gone."""
        ...

    async def list_containers(self, labels: Mapping[str, str]) -> list[ContainerListing]:
        """Every container, running or not, that has all of `labels`."""
        ...

    def events(self, labels: Mapping[str, str]) -> AsyncIterator[RuntimeEvent]:
        """Events of containers that have all of `labels`, without end: a broken stream is reopened (see RuntimeEvent)."""
        ...

    def logs(self, container_id: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[tuple[str, bytes]]:
        """Pieces of its output, each with its stream's name (stdout, stderr)."""
        ...

    async def image(self, reference: str) -> ImageObservation | None:
        """The local image of that name or id, or None. Never goes to a network."""
        ...

    async def pull(self, reference: str) -> None:
        """Fetch the image from its registry. Raises PullError."""
        ...

    async def create_volume(self, volume: VolumeDocument) -> None:
        """Make the volume; nothing happens when one of that name exists."""
        ...

    async def volume_exists(self, name: str) -> bool:
        """Whether there is a volume of that name."""
        ...

    async def remove_volume(self, name: str) -> None:
        """Remove the volume; nothing happens when it is gone. RuntimeFailureError while a container uses it."""
        ...

    async def close(self) -> None:
        """Give back the connections. Containers run on."""
        ...
