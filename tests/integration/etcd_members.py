"""Real etcd members on this machine's loopback, for tests: started, killed, paused and started again at will.

Needs Debian's etcd-server. Every member syncs to disk, as in production.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 30.0


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Member:
    """One etcd process and its directory."""

    def __init__(self, name: str, directory: Path, ports: tuple[int, int, int], options: list[str], scheme: str) -> None:
        self.name = name
        self.directory = directory
        self.endpoint = f"{scheme}://127.0.0.1:{ports[0]}"
        self.peer = f"http://127.0.0.1:{ports[1]}"
        self._metrics = f"http://127.0.0.1:{ports[2]}"
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, with what its directory holds."""
        command = [shutil.which("etcd") or "etcd", f"--name={self.name}", f"--data-dir={self.directory / 'data'}"]
        command += [f"--listen-client-urls={self.endpoint}", f"--advertise-client-urls={self.endpoint}"]
        command += [f"--listen-peer-urls={self.peer}", f"--initial-advertise-peer-urls={self.peer}", f"--listen-metrics-urls={self._metrics}"]
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self) -> None:
        """Return when it is healthy, which takes a quorum."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._metrics}/health", timeout=2) as answer:
                if b'"true"' in answer.read():
                    return
            if self.process is None or self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"etcd member {self.name} does not come up:\n{(self.directory / 'log').read_text()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP, SIGCONT."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()


class EtcdMembers:
    """A cluster."""

    def __init__(self, directory: Path, count: int, *, options: tuple[str, ...] = (), scheme: str = "http") -> None:
        ports = free_ports(3 * count)
        names = [f"m{number}" for number in range(count)]
        peers = ",".join(f"{name}=http://127.0.0.1:{ports[3 * number + 1]}" for number, name in enumerate(names))
        common = [f"--initial-cluster={peers}", f"--initial-cluster-token=test-{os.getpid()}-{ports[0]}", "--logger=zap", *options]
        self.members = [
            Member(name, directory / name, (ports[3 * number], ports[3 * number + 1], ports[3 * number + 2]), common, scheme)
            for number, name in enumerate(names)
        ]

    @property
    def endpoints(self) -> list[str]:
        """What a client is given."""
        return [member.endpoint for member in self.members]

    def start(self) -> None:
        """Start all and wait until they serve."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait()

    def stop(self) -> None:
        """End all that run."""
        for member in self.members:
            member.kill()


@contextlib.contextmanager
def etcd_members(directory: Path, count: int = 1, *, options: tuple[str, ...] = (), scheme: str = "http") -> Iterator[EtcdMembers]:
    """A running cluster of `count` members; ended and their data left in `directory` afterwards."""
    members = EtcdMembers(directory, count, options=options, scheme=scheme)
    try:
        members.start()
        yield members
    finally:
        members.stop()
