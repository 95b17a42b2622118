"""One suite for every container runtime: the fake, and Docker when there is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from homeport.agent.runtime.contract import (
    CONNECTED,
    NameConflictError,
    NoSuchObjectError,
    PortTakenError,
    PullError,
    Runtime,
    RuntimeEvent,
    RuntimeFailureError,
    VolumeDocument,
)
from homeport.agent.runtime.docker import DockerRuntime
from homeport.clock import SystemClock
from homeport.ids import Ids
from homeport.testing.runtime import FakeRuntime

IMAGE = "homeport-test:latest"


class Bench:
    """A runtime, and the label that this test's containers carry."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.name = f"homeport-conformance-{Ids().name()}"
        self.labels = {"homeport.conformance": self.name}

    def document(self, *command: str, **host: Any) -> dict[str, Any]:
        exposed = {port: {} for port in host.get("PortBindings", {})}
        return {"Image": IMAGE, "Cmd": list(command), "Labels": self.labels, "ExposedPorts": exposed, "HostConfig": host}

    async def made(self, suffix: str, *command: str, **host: Any) -> str:
        return await self.runtime.create(f"{self.name}-{suffix}", self.document(*command, **host))

    async def running(self, suffix: str, *command: str, **host: Any) -> str:
        container = await self.made(suffix, *command, **host)
        await self.runtime.start(container)
        return container


@pytest.fixture(params=["fake", "docker"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "docker":
        request.getfixturevalue("docker_engine")
    runtime: Runtime = FakeRuntime(SystemClock()) if request.param == "fake" else DockerRuntime(clock=SystemClock())
    bench = Bench(runtime)
    yield bench
    for listing in await runtime.list_containers(bench.labels):
        await runtime.remove(listing.id)
    await runtime.remove_volume(bench.name)
    await runtime.close()


async def test_describes_itself(bench: Bench) -> None:
    described = await bench.runtime.describe()
    assert described.version
    assert described.cpus > 0
    assert described.memory_mib > 0
    await bench.runtime.ping()


async def test_a_container_from_creation_to_removal(bench: Bench) -> None:
    container = await bench.made("a", "/bin/sh", "-c", "sleep 0.3; exit 3")
    seen = await bench.runtime.inspect(container)
    assert (seen.status, seen.started_at, seen.finished_at, seen.running) == ("created", None, None, False)
    await bench.runtime.start(container)
    await bench.runtime.start(container)  # a second start is no error
    assert (await bench.runtime.inspect(f"{bench.name}-a")).running
    assert await bench.runtime.wait(container) == 3
    seen = await bench.runtime.inspect(container)
    assert (seen.id, seen.name, seen.status, seen.exit_code, seen.oom_killed) == (container, f"{bench.name}-a", "exited", 3, False)
    assert seen.started_at is not None and seen.finished_at is not None and seen.started_at < seen.finished_at
    assert seen.labels.items() >= bench.labels.items()
    await bench.runtime.remove(container)
    await bench.runtime.remove(container)  # nor is a second removal
    with pytest.raises(NoSuchObjectError):
        await bench.runtime.inspect(container)


async def test_one_container_a_name(bench: Bench) -> None:
    await bench.made("a", "true")
    with pytest.raises(NameConflictError):
        await bench.made("a", "true")


async def test_a_missing_image_is_said_at_creation_and_at_pull(bench: Bench) -> None:
    with pytest.raises(NoSuchObjectError, match="No such image"):
        await bench.runtime.create(f"{bench.name}-a", {**bench.document("true"), "Image": "homeport-none:1"})
    assert await bench.runtime.image("homeport-none:1") is None
    found = await bench.runtime.image(IMAGE)
    assert found is not None and found.digest is None
    with pytest.raises(PullError):
        await bench.runtime.pull("127.0.0.1:1/none:1")


async def test_a_program_that_does_not_exist_fails_the_start(bench: Bench) -> None:
    container = await bench.made("a", "/no/such/program")
    with pytest.raises(RuntimeFailureError, match="/no/such/program"):
        await bench.runtime.start(container)
    seen = await bench.runtime.inspect(container)
    assert (seen.status, seen.started_at) == ("created", None)


async def test_stop_waits_for_its_timeout_and_then_kills(bench: Bench) -> None:
    clock = SystemClock()
    container = await bench.running("a", "sleep", "100")
    before = clock.monotonic()
    await bench.runtime.stop(container, 1)
    assert 0.9 < clock.monotonic() - before < 5
    assert (await bench.runtime.inspect(container)).exit_code == 137
    await bench.runtime.stop(container, 1)  # stopping what has stopped is no error


async def test_stop_ends_a_program_that_obeys_at_once(bench: Bench) -> None:
    clock = SystemClock()
    container = await bench.running("a", "/bin/sh", "-c", "trap 'exit 5' TERM; while true; do sleep 0.1; done # sleep 100")
    await clock.sleep(0.2)
    before = clock.monotonic()
    await bench.runtime.stop(container, 30)
    assert clock.monotonic() - before < 5
    assert (await bench.runtime.inspect(container)).exit_code == 5


async def test_kill(bench: Bench) -> None:
    container = await bench.running("a", "sleep", "100")
    await bench.runtime.kill(container)
    assert await bench.runtime.wait(container) == 137
    await bench.runtime.kill(container)
    for call in (bench.runtime.kill("homeport-none"), bench.runtime.start("homeport-none"), bench.runtime.stop("homeport-none", 1)):
        with pytest.raises(NoSuchObjectError):
            await call


async def test_ports_are_chosen_or_taken(bench: Bench) -> None:
    chosen = await bench.running("a", "sleep", "100", PortBindings={"80/tcp": [{"HostPort": ""}]})
    [port] = (await bench.runtime.inspect(chosen)).ports
    assert (port.container_port, port.protocol, port.host_ip) == (80, "tcp", "0.0.0.0")
    assert port.host_port > 1024
    taken = await bench.made("b", "sleep", "100", PortBindings={"80/tcp": [{"HostPort": str(port.host_port)}]})
    with pytest.raises(PortTakenError):
        await bench.runtime.start(taken)
    other = await bench.running("c", "sleep", "100", PortBindings={"80/tcp": [{"HostPort": ""}]})
    assert (await bench.runtime.inspect(other)).ports[0].host_port != port.host_port


async def test_lists_by_label(bench: Bench) -> None:
    first = await bench.running("a", "sleep", "100")
    second = await bench.made("b", "true")
    found = {item.id: item for item in await bench.runtime.list_containers(bench.labels)}
    assert found.keys() == {first, second}
    assert (found[first].status, found[second].status, found[first].name) == ("running", "created", f"{bench.name}-a")
    assert await bench.runtime.list_containers({**bench.labels, "other": "1"}) == []


async def test_events_tell_of_our_containers_only(bench: Bench) -> None:
    seen: list[RuntimeEvent] = []
    connected = asyncio.Event()

    async def follow() -> None:
        async for event in bench.runtime.events(bench.labels):
            seen.append(event)
            connected.set()

    following = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(connected.wait(), 10)
        stranger = await bench.runtime.create(f"{bench.name}-stranger", {**bench.document("true"), "Labels": {}})
        container = await bench.running("a", "/bin/sh", "-c", "exit 3")
        await bench.runtime.wait(container)
        await bench.runtime.remove(container)
        await bench.runtime.remove(stranger)
        async with asyncio.timeout(10):
            while not any(event.action == "destroy" for event in seen):
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
    assert seen[0].action == CONNECTED
    assert [event.action for event in seen[1:]] == ["create", "start", "die", "destroy"]
    assert {event.container_id for event in seen[1:]} == {container}
    assert all(event.labels.items() >= bench.labels.items() for event in seen[1:])


async def test_logs_keep_the_streams_apart(bench: Bench) -> None:
    container = await bench.running("a", "/bin/sh", "-c", "echo one; echo two >&2")
    await bench.runtime.wait(container)
    text: dict[str, bytes] = {}
    async for stream, data in bench.runtime.logs(container):
        text[stream] = text.get(stream, b"") + data
    assert text == {"stdout": b"one\n", "stderr": b"two\n"}


async def test_volumes(bench: Bench) -> None:
    document = VolumeDocument(name=bench.name, labels=bench.labels)
    assert not await bench.runtime.volume_exists(bench.name)
    await bench.runtime.create_volume(document)
    await bench.runtime.create_volume(document)
    assert await bench.runtime.volume_exists(bench.name)
    container = await bench.made("a", "true", Binds=[f"{bench.name}:/data"])
    with pytest.raises(RuntimeFailureError, match="in use"):
        await bench.runtime.remove_volume(bench.name)
    await bench.runtime.remove(container)
    await bench.runtime.remove_volume(bench.name)
    await bench.runtime.remove_volume(bench.name)
    assert not await bench.runtime.volume_exists(bench.name)
