"""A dockerd of a test's own, in a network namespace of its own, to be stopped and killed at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path


class OwnDocker:
    """A dockerd of this test's own, in a network namespace of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = f"unix://{directory}/docker.sock"
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["unshare", "--net", "dockerd", "--host", self.host, "--bridge", "none", "--iptables=false", "--cgroup-parent", "/homeport-it"]
        for option, name in (("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")):
            command += [option, str(self.directory / name)]
        with (self.directory / "log").open("ab") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log)

    def load(self, image: str = "homeport-test:latest") -> None:
        """Wait until it answers, and give it an image of the machine's own Docker."""
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "-H", self.host, "version"], capture_output=True, check=False, timeout=30).returncode:
            assert time.monotonic() < deadline, (self.directory / "log").read_text()[-2000:]
            time.sleep(0.1)
        archive = subprocess.run(["docker", "save", image], capture_output=True, check=True, timeout=60).stdout
        subprocess.run(["docker", "-H", self.host, "load"], input=archive, check=True, capture_output=True, timeout=60)

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

    def remove(self) -> None:
        """Its directory, and what a killed daemon left: shims of containers, and mounts."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                if f"{self.directory}/".encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                    os.kill(int(process.name), signal.SIGKILL)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(str(self.directory)):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
