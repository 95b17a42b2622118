"""The agent killed with SIGKILL at any instant, its connection to Docker cut, and Docker itself restarted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.engine_host import Host, booted, container
from tests.integration.own_docker import OwnDocker

from homeport.acs.messages import TaskPayload
from homeport.agent.engine import config

pytestmark = pytest.mark.usefixtures("docker_engine")
ROOT = Path(__file__).parents[2]

VICTIM = """
import asyncio, sys
from pathlib import Path
from homeport.acs.messages import TaskPayload
from tests.integration.engine_host import Host, container

async def main(directory, installation, count):
    host = Host(Path(directory), installation=installation)
    await host.boot()
    payloads = [host.task(number, container(), container("side", essential=False)) for number in range(count)]
    for payload in payloads:
        host.engine.submit(payload)
    print("submitted", flush=True)
    await asyncio.gather(*(host.reported(payload, "RUNNING") for payload in payloads))
    for payload in payloads:
        host.engine.submit(TaskPayload(arn=payload.arn, desiredStatus="STOPPED"))
    print("stopping", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def victim(directory: Path, installation: str, count: int) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, str(directory), installation, str(count), env=environment, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("seed", range(6))
async def test_sigkill_at_any_instant_makes_no_second_container_and_leaves_none(tmp_path: Path, seed: int) -> None:
    count = 3
    rng = random.Random(seed)
    host = Host(tmp_path / "state", cleanup_seconds=0.0)
    try:
        killed = await victim(host.directory, host.installation, count)
        assert killed.stdout is not None
        word = b"submitted\n" if seed % 3 else b"stopping\n"
        while await killed.stdout.readline() != word:
            pass
        await asyncio.sleep(rng.uniform(0.0, 1.5))
        os.kill(killed.pid, signal.SIGKILL)
        await killed.wait()
        before = await host.containers()
        await host.boot()
        wanted = {config.container_name(host.task(number), name): "running" for number in range(count) for name in ("c", "side")}
        assert before.keys() <= wanted.keys()
        payloads = [host.task(number, container(), container("side", essential=False)) for number in range(count)]
        if word == b"submitted\n":
            held = {arn: desired for arn, desired, _ in host.engine.tasks()}
            assert held.keys() == {payload.arn for payload in payloads}
            if "STOPPED" not in held.values():
                async with asyncio.timeout(30):
                    while {known for _, _, known in host.engine.tasks()} != {"RUNNING"}:
                        await asyncio.sleep(0.02)
                assert await host.containers() == wanted
                for name, status in before.items():
                    assert status in ("created", "running"), name
        for payload in payloads:
            host.engine.submit(TaskPayload(arn=payload.arn, desiredStatus="STOPPED"))
        for payload in payloads:
            report = await host.reported(payload, "STOPPED")
            assert len(report.containers) == 2
        assert set((await host.containers()).values()) <= {"exited", "created"}
        for payload in payloads:
            host.engine.acknowledged(payload.arn)
        async with asyncio.timeout(30):
            while host.engine.tasks():
                await asyncio.sleep(0.02)
        assert await host.containers() == {}
        await host.die()
    finally:
        await host.clear()


async def test_exits_while_the_agent_was_away_have_their_true_codes(tmp_path: Path) -> None:
    async with booted(tmp_path) as host:
        quick, greedy, steady = (
            host.task(1, container(command="sleep 1; exit 5")),
            host.task(2, container(command="sleep 1; x=a; while true; do x=$x$x; done", memory=16)),
            host.task(3),
        )
        for payload in (quick, greedy, steady):
            await host.run(payload)
        ids = {payload.arn: (await host.raw(payload))["Id"] for payload in (quick, greedy, steady)}
        await host.die()
        await asyncio.sleep(2.5)
        host.reports.clear()
        await host.boot()
        ends = {payload.arn: (await host.reported(payload, "STOPPED")).containers[0] for payload in (quick, greedy)}
        assert (ends[quick.arn].exit_code, ends[quick.arn].runtime_id) == (5, ids[quick.arn])
        assert (ends[greedy.arn].exit_code, ends[greedy.arn].reason) == (137, "OutOfMemoryError: Container killed due to memory usage")
        assert host.last(steady, "STOPPED") is None
        assert (await host.raw(steady))["Id"] == ids[steady.arn]


class Relay:
    """A unix socket in front of Docker's that can be cut."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_unix_connection(self._target)
        self._writers += [writer, down]
        await asyncio.gather(self._pump(reader, down), self._pump(up, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()


async def test_the_connection_to_docker_is_cut_and_comes_back(tmp_path: Path) -> None:
    target = (os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").removeprefix("unix://")
    relay = Relay(tmp_path / "d.sock", target)
    await relay.open()
    async with booted(tmp_path / "state", docker_host=f"unix://{relay.path}") as host:
        ending, steady, stopping, late = host.task(1, container(command="sleep 2; exit 6")), host.task(2), host.task(3), host.task(4)
        for payload in (ending, steady, stopping):
            await host.run(payload)
        before = (await host.raw(steady))["Id"]
        host.engine.submit(late)
        await asyncio.sleep(0.1)  # its creation is under way
        await relay.cut()
        host.engine.submit(TaskPayload(arn=stopping.arn, desiredStatus="STOPPED"))
        await asyncio.sleep(2.5)
        assert host.last(ending, "STOPPED") is None
        assert not host.engine.connected
        await relay.open()
        assert (await host.reported(ending, "STOPPED")).containers[0].exit_code == 6
        assert (await host.reported(stopping, "STOPPED")).containers[0].exit_code == 137
        await host.reported(late, "RUNNING")
        assert host.last(steady, "STOPPED") is None
        assert (await host.raw(steady))["Id"] == before
        assert len(await host.containers()) == 4
        host.engine.submit(TaskPayload(arn=steady.arn, desiredStatus="STOPPED"))
        await host.reported(steady, "STOPPED")
    await relay.cut()


@pytest.fixture
def own_docker() -> Iterator[OwnDocker]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a second dockerd needs root and the dockerd program")
    docker = OwnDocker(Path(tempfile.mkdtemp(prefix="homeport-it-docker-")))
    docker.start()
    try:
        yield docker
    finally:
        docker.stop()
        docker.remove()


@pytest.fixture
async def host(own_docker: OwnDocker, tmp_path: Path) -> AsyncIterator[Host]:
    async with booted(tmp_path, docker_host=own_docker.host) as host:
        async with asyncio.timeout(60):
            while not host.engine.connected:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(own_docker.load)
        yield host


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["orderly", "killed"])
async def test_a_restart_of_docker_is_told_truly(host: Host, own_docker: OwnDocker, number: int) -> None:
    none = {"networkMode": "none"}
    one, two = host.task(1, **none), host.task(2, container(command="trap 'exit 9' TERM; while true; do sleep 0.1; done"), **none)
    for payload in (one, two):
        await host.run(payload)
    await asyncio.to_thread(own_docker.stop, number)
    async with asyncio.timeout(10):
        while host.engine.connected:
            await asyncio.sleep(0.02)
    three = host.task(3, **none)
    host.engine.submit(three)
    own_docker.start()
    await host.reported(three, "RUNNING")
    if number == signal.SIGTERM:
        assert (await host.reported(one, "STOPPED")).containers[0].exit_code == 137
        assert (await host.reported(two, "STOPPED")).containers[0].exit_code == 9
    for payload in (one, two):  # whatever Docker did with them: what is told is what is
        known = {arn: known for arn, _, known in host.engine.tasks()}[payload.arn]
        state = (await host.raw(payload))["State"]
        assert (known == "RUNNING") == state["Running"]
        if known == "STOPPED":
            report = host.last(payload, "STOPPED")
            assert report is not None and report.containers[0].exit_code == state["ExitCode"]
    assert len(await host.containers()) == 3
