"""A container runtime without containers: it keeps their state, runs their programs by the clock and tells events like Docker.

Owns: `FakeRuntime`, the other implementation of `agent.runtime.contract.Runtime`, held to the same conformance suite as Docker.
Never starts a process. Programs are read from the command: `sleep N`, `exit N`, `trap` (obeys the stop signal), `oom`, and a first
word that starts with `/no` (cannot be started); a command without any of these ends at once with 0.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

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
    RuntimeDescription,
    RuntimeEvent,
    RuntimeFailureError,
    RuntimeUnavailableError,
    VolumeDocument,
)
from homeport.clock import Clock

FIRST_DYNAMIC_PORT = 49_153

Hook = Callable[[str, str], Awaitable[None]]


class FakeContainer(msgspec.Struct, kw_only=True):
    """One container as the fake keeps it."""

    id: str
    name: str
    document: dict[str, Any]
    status: str = "created"
    exit_code: int = 0
    oom_killed: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    health: HealthObservation | None = None
    ports: tuple[PortBinding, ...] = ()
    run: int = 0
    """Number of its runs; a program that ends belongs to one of them."""

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        labels: dict[str, str] = self.document.get("Labels") or {}
        return labels

    @property
    def text(self) -> str:
        """Entry point and command as one line, from which its program is read."""
        return " ".join([*(self.document.get("Entrypoint") or ()), *(self.document.get("Cmd") or ())])


class FakeRuntime:
    """Containers in memory. Tests look at `containers`, `images`, `pullable`, `volumes`, `taken_ports` and `calls`, and change them."""

    def __init__(self, clock: Clock, *, images: tuple[str, ...] = ("homeport-test:latest",), limits: ResourceLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or ResourceLimits()
        self._readers: list[asyncio.Queue[RuntimeEvent]] = []
        self._programs: set[asyncio.Task[None]] = set()
        self._number = 0
        self._available = True
        self.images: dict[str, ImageObservation] = {name: ImageObservation(id=_hash(name)) for name in images}
        self.pullable: dict[str, ImageObservation] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.volumes: dict[str, VolumeDocument] = {}
        self.taken_ports: set[int] = set()
        self.calls: list[tuple[str, str]] = []
        self.failures: dict[str, list[RuntimeFailureError]] = {}
        """Errors for the next calls of a method, by its name."""
        self.before: Hook | None = None
        """Awaited with (method, name or id) before a call has its effect; one that never returns is a caller that died."""
        self.after: Hook | None = None
        """The same, after the effect and before the answer."""

    # -- what a test does to it -----------------------------------------------------------------------------------------

    def break_connection(self) -> None:
        """From now on the runtime cannot be reached."""
        self._available = False
        self._tell_all(RuntimeEvent(action=DISCONNECTED))

    def restore_connection(self) -> None:
        """It can be reached again; what happened meanwhile was not told."""
        self._available = True
        self._tell_all(RuntimeEvent(action=CONNECTED))

    def restart(self) -> None:
        """The runtime's own restart: every container ends with 137 and the connection breaks."""
        self.break_connection()
        for container in self.containers.values():
            if container.status == "running":
                self._end(container, 137)
        self.restore_connection()

    def end(self, name: str, exit_code: int, *, oom_killed: bool = False) -> None:
        """The container's program ends by itself."""
        container = self._find(name)
        container.oom_killed = oom_killed
        self._end(container, exit_code)

    def report_health(self, name: str, status: str, output: str = "") -> None:
        """The container's health check says starting, healthy or unhealthy."""
        container = self._find(name)
        container.health = HealthObservation(status, output)
        self._tell(container, "health_status")

    # -- engine ---------------------------------------------------------------------------------------------------------

    async def describe(self) -> RuntimeDescription:
        """A fixed description."""
        await self._enter("describe", "")
        return RuntimeDescription(version="fake", api_version="1.41", cgroup_driver="none", cgroup_version=1, cpus=2, memory_mib=4096)

    async def ping(self) -> None:
        """Raise when the connection is broken."""
        await self._enter("ping", "")

    def limits(self) -> ResourceLimits:
        """The limits given at construction."""
        return self._limits

    # -- containers -----------------------------------------------------------------------------------------------------

    async def create(self, name: str, document: Mapping[str, Any]) -> str:
        """Make a container."""
        await self._enter("create", name)
        if any(container.name == name for container in self.containers.values()):
            raise NameConflictError(f'Conflict. The container name "/{name}" is already in use')
        if _image(self.images, str(document["Image"])) is None:
            raise NoSuchObjectError(f"No such image: {document['Image']}")
        self._number += 1
        container = FakeContainer(id=_hash(f"{name}#{self._number}"), name=name, document=msgspec.json.decode(msgspec.json.encode(document)))
        self.containers[container.id] = container
        self._tell(container, "create")
        await self._leave("create", name)
        return container.id

    async def start(self, container_id: str) -> None:
        """Start its program."""
        container = self._find(container_id)
        await self._enter("start", container.name)
        if container.status == "running":
            return
        if container.text.startswith("/no"):
            raise RuntimeFailureError(f'exec: "{container.text.split()[0]}": no such file or directory')
        container.ports = self._publish(container)
        container.status, container.started_at, container.exit_code = "running", self._clock.now(), 0
        container.run += 1
        if container.document.get("Healthcheck"):
            container.health = HealthObservation("starting")
        self._tell(container, "start")
        program = asyncio.get_running_loop().create_task(self._run(container, container.run))
        self._programs.add(program)
        program.add_done_callback(self._programs.discard)
        await self._leave("start", container.name)

    async def _run(self, container: FakeContainer, run: int) -> None:
        sleep, code = re.search(r"sleep (\d+(?:\.\d+)?)", container.text), re.findall(r"exit (\d+)", container.text)
        await self._clock.sleep(float(sleep.group(1)) if sleep else 0.0)
        if container.run == run and container.status == "running":
            container.oom_killed = "oom" in container.text
            self._end(container, 137 if container.oom_killed else int(code[-1]) if code else 0)

    def _publish(self, container: FakeContainer) -> tuple[PortBinding, ...]:
        host = container.document.get("HostConfig") or {}
        held = self.taken_ports | {port.host_port for other in self.containers.values() if other.status == "running" for port in other.ports}
        found: list[PortBinding] = []
        for key, bindings in (host.get("PortBindings") or {}).items():
            port, _, protocol = key.partition("/")
            for binding in bindings:
                wanted = int(binding["HostPort"].split("-")[0]) if binding.get("HostPort") else 0
                if wanted in held and wanted:
                    raise PortTakenError(f"driver failed programming external connectivity: port {wanted}: port is already allocated")
                chosen = wanted or next(number for number in range(FIRST_DYNAMIC_PORT, 65_536) if number not in held)
                held.add(chosen)
                found.append(PortBinding(binding.get("HostIp") or "0.0.0.0", chosen, int(port), protocol or "tcp"))
        return tuple(found)

    async def stop(self, container_id: str, timeout_seconds: int) -> None:
        """A program with `trap` ends at once with its last exit code; any other after the timeout with 137."""
        container = self._find(container_id)
        await self._enter("stop", container.name)
        run = container.run
        if container.status == "running":
            if "trap" in container.text:
                codes = re.findall(r"exit (\d+)", container.text)
                self._end(container, int(codes[0]) if codes else 143)
            else:
                await self._clock.sleep(timeout_seconds)
                if container.run == run and container.status == "running":
                    self._end(container, 137)
        await self._leave("stop", container.name)

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """SIGKILL ends it with 137; another signal only a program with `trap`."""
        container = self._find(container_id)
        await self._enter("kill", container.name)
        if container.status == "running" and (signal in ("SIGKILL", "KILL", "9") or "trap" in container.text):
            self._end(container, 137)

    async def wait(self, container_id: str) -> int:
        """Its exit code, once it has ended."""
        container = self._find(container_id)
        await self._enter("wait", container.name)
        while container.status == "running":
            await self._clock.sleep(0.01)
        return container.exit_code

    async def inspect(self, container: str) -> ContainerObservation:
        """What it is like now."""
        await self._enter("inspect", container)
        found = self._find(container)
        return ContainerObservation(
            id=found.id,
            name=found.name,
            status=found.status,
            exit_code=found.exit_code,
            oom_killed=found.oom_killed,
            started_at=found.started_at,
            finished_at=found.finished_at,
            health=found.health,
            ports=found.ports if found.status == "running" else (),
            labels=dict(found.labels),
            image_id=image.id if (image := _image(self.images, str(found.document["Image"]))) else "",
        )

    async def remove(self, container_id: str) -> None:
        """End and forget it."""
        await self._enter("remove", container_id)
        try:
            container = self._find(container_id)
        except NoSuchObjectError:
            return
        if container.status == "running":
            self._end(container, 137)
        del self.containers[container.id]
        self._tell(container, "destroy")

    async def list_containers(self, labels: Mapping[str, str]) -> list[ContainerListing]:
        """Those with all of the labels."""
        await self._enter("list", "")
        return [
            ContainerListing(id=item.id, name=item.name, status=item.status, labels=dict(item.labels))
            for item in self.containers.values()
            if labels.items() <= item.labels.items()
        ]

    # -- streams --------------------------------------------------------------------------------------------------------

    async def events(self, labels: Mapping[str, str]) -> AsyncIterator[RuntimeEvent]:
        """Events from now on."""
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._readers.append(queue)
        try:
            yield RuntimeEvent(action=CONNECTED if self._available else DISCONNECTED)
            while True:
                event = await queue.get()
                if event.action in (CONNECTED, DISCONNECTED) or labels.items() <= event.labels.items():
                    yield event
        finally:
            self._readers.remove(queue)

    async def logs(self, container_id: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[tuple[str, bytes]]:
        """What `echo` in its command writes."""
        container = self._find(container_id)
        await self._enter("logs", container.name)
        lines = re.findall(r"echo (\w+)( >&2)?", container.text)
        for word, other in lines if tail is None else lines[-tail:] if tail else []:
            yield ("stderr" if other else "stdout"), f"{word}\n".encode()

    # -- images and volumes ---------------------------------------------------------------------------------------------

    async def image(self, reference: str) -> ImageObservation | None:
        """The image, if it is here."""
        await self._enter("image", reference)
        return _image(self.images, reference)

    async def pull(self, reference: str) -> None:
        """Get it from `pullable`."""
        await self._enter("pull", reference)
        found = _image(self.pullable, reference)
        if found is None:
            raise PullError(f"manifest for {reference} not found: manifest unknown")
        self.images[reference] = found

    async def create_volume(self, volume: VolumeDocument) -> None:
        """Make it, unless it exists."""
        await self._enter("create_volume", volume.name)
        self.volumes.setdefault(volume.name, volume)

    async def volume_exists(self, name: str) -> bool:
        """Whether it exists."""
        await self._enter("volume_exists", name)
        return name in self.volumes

    async def remove_volume(self, name: str) -> None:
        """Forget it, unless a container has it."""
        await self._enter("remove_volume", name)
        for container in self.containers.values():
            if any(bind.split(":")[0] == name for bind in (container.document.get("HostConfig") or {}).get("Binds") or ()):
                raise RuntimeFailureError(f"remove {name}: volume is in use - [{container.id}]")
        self.volumes.pop(name, None)

    async def close(self) -> None:
        """End every program without a word; the containers' state stays."""
        for program in self._programs:
            program.cancel()
        await asyncio.gather(*self._programs, return_exceptions=True)

    # -- inside ---------------------------------------------------------------------------------------------------------

    async def _enter(self, method: str, subject: str) -> None:
        if not self._available:
            raise RuntimeUnavailableError("the fake runtime is away")
        self.calls.append((method, subject))
        if self.before is not None:
            await self.before(method, subject)
        if self.failures.get(method):
            raise self.failures[method].pop(0)

    async def _leave(self, method: str, subject: str) -> None:
        if self.after is not None:
            await self.after(method, subject)
        if not self._available:
            raise RuntimeUnavailableError("the fake runtime went away before it answered")

    def _find(self, container: str) -> FakeContainer:
        for item in self.containers.values():
            if container in (item.id, item.name):
                return item
        raise NoSuchObjectError(f"No such container: {container}")

    def _end(self, container: FakeContainer, exit_code: int) -> None:
        container.status, container.exit_code, container.finished_at = "exited", exit_code, self._clock.now()
        self._tell(container, "die")

    def _tell(self, container: FakeContainer, action: str) -> None:
        if self._available:
            self._tell_all(RuntimeEvent(action=action, container_id=container.id, labels=dict(container.labels), at=self._clock.now()))

    def _tell_all(self, event: RuntimeEvent) -> None:
        for reader in self._readers:
            reader.put_nowait(event)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _image(images: Mapping[str, ImageObservation], reference: str) -> ImageObservation | None:
    """What `reference` names among `images`: by its tag, or, as REPOSITORY@DIGEST, by what is in it."""
    repository, at, digest = reference.partition("@")
    if reference in images or not at:
        return images.get(reference)
    return next((image for name, image in images.items() if image.digest == digest and name.partition("@")[0].rpartition(":")[0] == repository), None)
