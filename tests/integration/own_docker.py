"""A dockerd of a test's own, in a network namespace of its own, to be stopped and killed at will.

Owns: `OwnDocker`, and what it takes to leave nothing of it behind. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

IMAGE = "homeport-test:latest"
UNCONNECTED = ("--bridge", "none", "--iptables=false")


def archive(image: str = IMAGE) -> bytes:
    """An image of the machine's own Docker, as `docker load` takes it."""
    return subprocess.run(["docker", "save", image], capture_output=True, check=True, timeout=60).stdout


class OwnDocker:
    """A dockerd of this test's own, in a network namespace of its own."""

    def __init__(self, directory: Path, *, inside: Sequence[str] = ("unshare", "--net"), network: Sequence[str] = UNCONNECTED) -> None:
        """`inside`: what the command begins with, which puts it into its namespace; `network`: dockerd's options for it."""
        self.directory = directory
        self.host = f"unix://{directory}/docker.sock"
        self._inside = inside
        self._network = network
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*self._inside, "dockerd", "--host", self.host, *self._network, "--cgroup-parent", "/homeport-it"]
        for option, name in (("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")):
            command += [option, str(self.directory / name)]
        with (self.directory / "log").open("ab") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log)

    def command(self, *arguments: str, check: bool = True) -> str:
        """The stripped output of a docker command. Raises CalledProcessError."""
        done = subprocess.run(["docker", "-H", self.host, *arguments], capture_output=True, check=check, text=True, timeout=30)
        return done.stdout.strip()

    def wait(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "-H", self.host, "version"], capture_output=True, check=False, timeout=30).returncode:
            assert time.monotonic() < deadline, (self.directory / "log").read_text()[-2000:]
            time.sleep(0.1)

    def load(self, image: bytes = b"") -> None:
        """Wait until it answers, and give it `image`, by default the tests' own."""
        self.wait()
        subprocess.run(["docker", "-H", self.host, "load"], input=image or archive(), check=True, capture_output=True, timeout=60)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._daemon is not None:
            containerd = int((self.directory / "exec/containerd/containerd.pid").read_text())
            self._daemon.send_signal(number)
            self._daemon.wait(60)
            self._daemon = None
            if number == signal.SIGKILL:  # as a crash of the host takes both; a stale pid file would make the next start wait for nothing
                with contextlib.suppress(ProcessLookupError):
                    os.kill(containerd, signal.SIGKILL)
                (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)
                (self.directory / "pid").unlink(missing_ok=True)

    def lose(self) -> None:
        """As when the machine loses its power: the daemon, its containers and its mounts are gone, and what it had on disk is left."""
        containers = [child for shim in self._processes() for child in descendants(shim)]
        self.stop(signal.SIGKILL)
        for process in (*self._processes(), *containers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._unmount()
        shutil.rmtree(self.directory / "exec", ignore_errors=True)

    def remove(self) -> None:
        """Its directory, and what a killed daemon left: shims, their containers, and mounts."""
        left = self._processes()
        for process in (*left, *(child for shim in left for child in descendants(shim))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._unmount()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _processes(self) -> list[int]:
        """Those whose command names the directory: the daemon, containerd, and a shim for every container."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                if f"{self.directory}/".encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                    found.append(int(process.name))
        return found

    def _unmount(self) -> None:
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)


def descendants(process: int) -> Iterator[int]:
    """The processes below one, the nearest first."""
    for thread in Path(f"/proc/{process}/task").glob("*/children"):  # each thread has its own
        with contextlib.suppress(OSError):  # gone meanwhile
            for child in thread.read_text().split():
                yield int(child)
                yield from descendants(int(child))
