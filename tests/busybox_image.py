"""The image that tests and benchmarks run: a static busybox, made on this machine, and the Docker it is made on.

Owns: `homeport-test:latest`, `engine_with_image`. Never asks an image registry.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from homeport.cli.containers import DEFAULT_HOST, DockerSocket
from homeport.cli.demo import busybox
from homeport.cli.engine import ensure_engine
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import Terminal
from homeport.clock import SystemClock

IMAGE: Final = "homeport-test:latest"
DIRECTORIES: Final = ("bin", "data", "etc", "tmp", "www")
FILES: Final = {"etc/passwd": b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n", "etc/group": b"root:x:0:\nuser:x:1000:\n"}


@contextlib.contextmanager
def engine_with_image(directory: Path) -> Iterator[DockerSocket]:
    """A Docker that answers and has the image. One that had to be started for it is stopped again at the end."""
    started = ensure_engine(Terminal(SystemClock()), os.environ, directory / "dockerd.log")
    docker = DockerSocket(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
    try:
        if not docker.has_image(IMAGE):
            docker.import_image(IMAGE, archive(directory), ['CMD ["/bin/sh"]', "ENV PATH=/bin"])
        yield docker
    finally:
        if started is not None:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait(10)


def archive(directory: Path) -> bytes:
    """The image's one layer: busybox with a link for each of its commands. `directory` takes what has to be fetched."""
    program = busybox(DataDirectory(directory), Terminal(SystemClock()))
    path = directory / "busybox"
    path.write_bytes(program)
    path.chmod(0o755)
    commands = subprocess.run([path, "--list"], capture_output=True, text=True, check=True).stdout.split()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        for name, content in {"bin/busybox": program, **FILES}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for command in commands:
            if command != "busybox":
                entry = tarfile.TarInfo(f"bin/{command}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return layer.getvalue()
