"""Machines for tests: network namespaces on one switch, each with an etcd member; their cables can be pulled.

Owns: `Machine`, `switched`. Needs root. The switch is a bridge in a namespace of its own; nothing is added to the network of the host.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import homeport

ROOT = Path(homeport.__file__).parents[2]
CLIENT_PORT, PEER_PORT = 2379, 2380


def ip(*arguments: str) -> None:
    """The `ip` command. Raises CalledProcessError."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machine:
    """A namespace with its cable and its programs."""

    def __init__(self, number: int, stem: str, directory: Path) -> None:
        self.number = number
        self.space = f"{stem}{number}"
        self.switch = f"{stem}s"
        self.address = f"100.64.7.{number}"
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def connect(self) -> None:
        """Make the namespace and plug it in."""
        ip("netns", "add", self.space)
        ip("-n", self.space, "link", "set", "lo", "up")
        ip("-n", self.switch, "link", "add", f"port{self.number}", "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("-n", self.switch, "link", "set", f"port{self.number}", "master", "switch", "up")
        ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.space, "link", "set", "eth0", "up")

    def start_etcd(self, machines: Sequence[Machine], *options: str) -> None:
        """Its member of the etcd of `machines`."""
        peers = ",".join(f"m{machine.number}=http://{machine.address}:{PEER_PORT}" for machine in machines)
        client, peer = f"http://{self.address}:{CLIENT_PORT}", f"http://{self.address}:{PEER_PORT}"
        member = ["etcd", f"--name=m{self.number}", f"--data-dir={self.directory}/m{self.number}", "--logger=zap"]
        member += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        member += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster={peers}", *options]
        self.run(*member)

    def etcd_endpoints(self, machines: Sequence[Machine]) -> list[str]:
        """Every member's address, its own first, as one would configure it."""
        return [f"{machine.address}:{CLIENT_PORT}" for machine in [self, *(machine for machine in machines if machine is not self)]]

    @property
    def inside(self) -> list[str]:
        """What a command begins with that runs on this machine."""
        return ["nsenter", f"--net=/run/netns/{self.space}"]

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program there."""
        environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        with (self.directory / f"{self.number}.log").open("ab") as log:
            process = subprocess.Popen([*self.inside, *command], env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def plug(self, state: str) -> None:
        """`down` pulls the cable, `up` puts it back."""
        ip("-n", self.switch, "link", "set", f"port{self.number}", state)

    def stop(self) -> None:
        """End its programs."""
        for process in self._processes:
            process.kill()
            process.wait()


M = TypeVar("M", bound=Machine)


@contextlib.contextmanager
def switched(kind: type[M], directory: Path, count: int = 3) -> Iterator[list[M]]:
    """Machines 1 to `count`, connected; their programs ended and their namespaces removed afterwards."""
    stem = f"hp{os.getpid() % 10_000}p"
    made = [kind(number, stem, directory) for number in range(1, count + 1)]
    try:
        ip("netns", "add", f"{stem}s")
        ip("-n", f"{stem}s", "link", "add", "switch", "type", "bridge")
        ip("-n", f"{stem}s", "link", "set", "switch", "up")
        for machine in made:
            machine.connect()
        yield made
    finally:
        for machine in made:
            machine.stop()
        for space in (*(machine.space for machine in made), f"{stem}s"):
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
