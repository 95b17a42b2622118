"""What every test may use: Docker (started here if none runs, and stopped again), the test image, free ports, and keeping order on the machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.cli.containers import DockerSocket
from homeport.cli.demo import busybox
from homeport.cli.engine import ensure_engine
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import Terminal
from homeport.clock import SystemClock

ROOT = Path(__file__).parents[1]
TEST_IMAGE = "homeport-test:latest"


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerSocket]:
    """A Docker that answers and has the test image. One that had to be started for the tests is stopped after them."""
    started = ensure_engine(Terminal(SystemClock()), os.environ, tmp_path_factory.mktemp("dockerd") / "dockerd.log")
    docker = DockerSocket(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    if not docker.has_image(TEST_IMAGE):
        make_test_image(docker, tmp_path_factory.mktemp("image"))
    yield docker
    if started is not None:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(10)


def make_test_image(docker: DockerSocket, directory: Path) -> None:
    """homeport-test:latest: a static busybox with a link for each of its commands. Nothing is downloaded from an image registry."""
    import io
    import tarfile

    program = busybox(DataDirectory(directory), Terminal(SystemClock()))
    path = directory / "busybox"
    path.write_bytes(program)
    path.chmod(0o755)
    applets = subprocess.run([path, "--list"], capture_output=True, text=True, check=True).stdout.split()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("bin", "etc", "tmp", "www", "data"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        files = {"bin/busybox": (program, 0o755), "etc/passwd": (b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n", 0o644)}
        files["etc/group"] = (b"root:x:0:\nuser:x:1000:\n", 0o644)
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    docker.import_image(TEST_IMAGE, archive.getvalue(), ['CMD ["/bin/sh"]', "ENV PATH=/bin"])
