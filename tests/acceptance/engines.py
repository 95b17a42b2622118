"""Container instances that are machines as far as a test can tell: each an agent and a dockerd of its own, in a network namespace with an address.

Owns: `Engine`, `Engines`, `engines`. The server runs beside the test; a bridge connects it with the namespaces, so that published ports are reached
over a network. Needs root. Leaves nothing: no process, namespace, bridge, mount, rule or directory. Addresses come from the shared address space,
and the rule of `homeport.cli.engine` keeps their packets from leaving by the uplink.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from acceptance.harness import IMAGE, Installation, free_port, until
from integration.own_docker import OwnDocker, archive
from tests.integration.machines import ip

from homeport.cli.engine import GUARD_TABLE, guard_range

CPU, MEMORY = 1024, 512
TASK_ARN_LABEL = "com.amazonaws.ecs.task-arn"


@dataclasses.dataclass
class Engine:
    """One machine."""

    number: int
    zone: str
    address: str
    space: str
    docker: OwnDocker
    agent: Installation
    arn: str = ""
    """Of its container instance."""

    def start_docker(self, image: bytes = b"") -> None:
        """Start its dockerd, and wait until it answers; `image` is loaded the first time."""
        self.docker.start()
        if image:
            self.docker.load(image)
        else:
            self.docker.wait()

    def join(self) -> None:
        """Start its agent; its instance is ACTIVE and connected afterwards."""
        self.agent.homeport("agent", "--detach", "--zone", self.zone, "--endpoint", self.agent.endpoint)

    def lose(self) -> None:
        """As when its power fails: agent, dockerd and containers end at once, and say nothing."""
        os.kill(self.agent.pid("agent"), signal.SIGKILL)
        self.docker.lose()

    def tasks(self) -> list[str]:
        """ARNs of the tasks of which `docker ps` shows a container there."""
        return sorted(self.docker.command("ps", "--format", f'{{{{.Label "{TASK_ARN_LABEL}"}}}}').split())

    def containers(self) -> set[str]:
        """Ids of the containers that `docker ps` shows."""
        return set(self.docker.command("ps", "--quiet", "--no-trunc").split())

    def remove(self) -> None:
        """End everything there."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.agent.homeport("down", check=False, timeout=60)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if found := self.docker.command("ps", "--all", "--quiet").split():
                self.docker.command("rm", "--force", "--volumes", *found)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.docker.stop()
        self.docker.remove()
        subprocess.run(["ip", "netns", "delete", self.space], check=False, capture_output=True)
        shutil.rmtree(self.agent.data_dir, ignore_errors=True)


@dataclasses.dataclass
class Engines:
    """The installation: a server, and the machines."""

    server: Installation
    machines: Sequence[Engine]

    @property
    def ecs(self) -> Any:
        """A client of the server."""
        return self.server.ecs

    def each(self, act: Callable[[Engine], object]) -> None:
        """Do something on all machines at once."""
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(pool.map(act, self.machines))

    def find_instances(self) -> None:
        """Learn which container instance each machine is."""
        arns = self.ecs.list_container_instances()["containerInstanceArns"]
        found = self.ecs.describe_container_instances(containerInstances=arns)["containerInstances"]
        racks = {
            attribute["value"]: item["containerInstanceArn"] for item in found for attribute in item["attributes"] if attribute["name"] == "rack"
        }
        for machine in self.machines:
            machine.arn = racks[f"r{machine.number}"]

    def instance(self, machine: Engine) -> dict[str, Any]:
        """A machine's instance as DescribeContainerInstances shows it."""
        described = self.ecs.describe_container_instances(containerInstances=[machine.arn], include=["CONTAINER_INSTANCE_HEALTH"])
        found: dict[str, Any] = described["containerInstances"][0]
        return found

    def running(self) -> dict[int, list[str]]:
        """Machine → ARNs of the tasks that its `docker ps` shows."""
        return {machine.number: machine.tasks() for machine in self.machines}

    def counts(self) -> list[int]:
        """How many containers each machine's `docker ps` shows, by machine."""
        return [len(found) for found in self.running().values()]

    def by_zone(self) -> dict[str, int]:
        """Zone → how many containers `docker ps` shows on its machines."""
        running = self.running()
        zones = {machine.zone for machine in self.machines}
        return {zone: sum(len(running[machine.number]) for machine in self.machines if machine.zone == zone) for zone in sorted(zones)}

    def address_of(self, instance_arn: str) -> str:
        """Where the ports of a task on that instance are published."""
        return next(machine.address for machine in self.machines if machine.arn == instance_arn)

    def settle(self) -> None:
        """Every task stopped and every machine taking tasks, for the next test."""
        for arn in self.ecs.list_services()["serviceArns"]:
            self.ecs.delete_service(service=arn, force=True)
        for arn in self.ecs.list_tasks()["taskArns"]:
            self.ecs.stop_task(task=arn)
        draining = self.ecs.list_container_instances(status="DRAINING")["containerInstanceArns"]
        if draining:
            self.ecs.update_container_instances_state(containerInstances=draining, status="ACTIVE")
        assert until(lambda: not any(self.counts()), seconds=60), self.running()


def _connect(machine: Engine, bridge: str) -> None:
    """A namespace with one cable, to the bridge; it has no other way out."""
    cable = f"{bridge}p{machine.number}"
    ip("netns", "add", machine.space)
    ip("-n", machine.space, "link", "set", "lo", "up")
    ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", machine.space)
    ip("link", "set", cable, "master", bridge, "up")
    ip("-n", machine.space, "address", "add", f"{machine.address}/24", "dev", "eth0")
    ip("-n", machine.space, "link", "set", "eth0", "up")


def _machine(number: int, zone: str, server: Installation, *, stem: str, prefix: str) -> Engine:
    space = f"{stem}{number}"
    inside = ("nsenter", f"--net=/run/netns/{space}")
    docker = OwnDocker(
        Path(tempfile.mkdtemp(prefix="homeport-engine-")),
        inside=inside,
        network=("--bip", f"100.65.{number}.1/24", "--userland-proxy=false"),
    )
    environment = {
        "DOCKER_HOST": docker.host,
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_DEFAULT_REGION": server.region,
        "ECS_INSTANCE_ATTRIBUTES": f'{{"rack": "r{number}"}}',
        "HOMEPORT_CPU": str(CPU),
        "HOMEPORT_MEMORY": str(MEMORY),
        "HOMEPORT_BACKOFF_MAX": "500ms",
        "HOMEPORT_CA_FILE": str(server.ca_file),
    }
    agent = Installation(
        Path(tempfile.mkdtemp(prefix="homeport-engine-agent-")),
        server.port,
        environment=environment,
        address=server.address,
        ca_file=server.ca_file,
        inside=inside,
    )
    return Engine(number, zone, f"{prefix}.{number}", space, docker, agent)


@contextlib.contextmanager
def _network(bridge: str, address: str) -> Iterator[None]:
    """A bridge of ours with this machine on it, whose packets stay here."""
    guarded = subprocess.run(["nft", "list", "table", "inet", GUARD_TABLE], check=False, capture_output=True).returncode == 0
    guard_range()
    ip("link", "add", bridge, "type", "bridge")
    try:
        ip("address", "add", f"{address}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        yield
    finally:
        ip("link", "delete", bridge)
        if not guarded:
            subprocess.run(["nft", "delete", "table", "inet", GUARD_TABLE], check=False, capture_output=True)


@contextlib.contextmanager
def engines(zones: Sequence[str], *, settings: Sequence[str] = ()) -> Iterator[Engines]:
    """A running installation with a machine in each of `zones`."""
    # Names and addresses differ between test runs at the same time on one machine.
    identity = os.getpid() % 10_000
    prefix, bridge = f"100.{70 + identity % 50}.{identity // 50}", f"br-hp{identity}"
    directory = Path(tempfile.mkdtemp(prefix="homeport-engines-"))
    server = Installation(directory, free_port(), address=f"{prefix}.254", ca_file=directory / "tls" / "ca.pem")
    made: list[Engine] = []
    with _network(bridge, server.address):
        try:
            chosen = [word for setting in settings for word in ("--set", setting)]
            server.homeport("server", "--detach", "--tls", "--host", server.address, "--port", str(server.port), *chosen)
            for number, zone in enumerate(zones, start=1):
                made.append(_machine(number, zone, server, stem=f"hp{identity}e", prefix=prefix))
                _connect(made[-1], bridge)
            installation, image = Engines(server, made), archive(IMAGE)
            installation.each(lambda machine: machine.start_docker(image))
            installation.each(lambda machine: machine.join())
            installation.find_instances()
            yield installation
        finally:
            with ThreadPoolExecutor(len(zones)) as pool:
                list(pool.map(lambda machine: machine.remove(), made))
            server.homeport("down", check=False, timeout=60)
            shutil.rmtree(server.data_dir, ignore_errors=True)
