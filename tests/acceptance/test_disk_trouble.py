"""A disk that is full, and one that fails: calls are refused with a clear error, nothing is half there, and all goes on when the disk does."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.conftest import clear
from acceptance.harness import Installation, free_port
from botocore.exceptions import ClientError

DISK_BYTES = 24 * 1024 * 1024
CALLS_MAX = 400
"""More than enough for the rest of what SQLite has for its log already."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, with little room."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.contextmanager
def serving(data_dir: Path) -> Iterator[Installation]:
    """A control plane alone."""
    installation = Installation(data_dir, free_port())
    installation.homeport("server", "--detach", "--port", str(installation.port))
    try:
        yield installation
    finally:
        clear(installation)


class Writer:
    """Makes clusters with large tags; knows which the server said were made."""

    def __init__(self, installation: Installation) -> None:
        self.ecs = installation.client(attempts=1)
        self.made: set[str] = set()
        self.refused: dict[str, ClientError] = {}

    def make(self) -> bool:
        """One more; whether it was made."""
        name = f"c{len(self.made) + len(self.refused)}"
        tags = [{"key": f"key{number}", "value": "v" * 250} for number in range(40)]
        try:
            self.ecs.create_cluster(clusterName=name, tags=tags)
        except ClientError as error:
            self.refused[name] = error
            return False
        self.made.add(name)
        return True

    def until_refused(self) -> ClientError:
        """The first refusal."""
        for _ in range(CALLS_MAX):
            if not self.make():
                return list(self.refused.values())[-1]
        raise AssertionError("nothing was refused")

    def listed(self) -> set[str]:
        """What the server shows."""
        pages = self.ecs.get_paginator("list_clusters").paginate()
        return {arn.rpartition("/")[2] for page in pages for arn in page["clusterArns"]}


def check(installation: Installation, trouble: Callable[[], None], relief: Callable[[], None], words: str) -> None:
    """What holds for every kind of trouble."""
    writer = Writer(installation)
    for _ in range(10):
        assert writer.make()
    trouble()
    error = writer.until_refused()
    assert error.response["Error"]["Code"] == "ServerException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503, "SDKs try again"
    assert "undid it" in error.response["Error"]["Message"] and words in error.response["Error"]["Message"]
    for _ in range(3):
        assert not writer.make()
        assert writer.listed() == writer.made, "reads go on, and show what was acknowledged and no more"
    relief()
    assert writer.make(), "it recovers by itself"
    assert writer.listed() == writer.made
    assert "whole" in installation.homeport("journal", "verify").stdout
    installation.homeport("down")
    assert "whole" in installation.homeport("journal", "verify").stdout
    installation.homeport("server", "--detach", "--port", str(installation.port))
    assert writer.listed() == writer.made, "a restart finds the same"
    assert writer.make()


def test_a_full_disk(small_disk: Path) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    with serving(small_disk / "data") as installation:
        check(installation, fill, filler.unlink, "database or disk is full")


def test_a_first_start_on_a_full_disk_says_so(small_disk: Path) -> None:
    filler, installation = small_disk / "filler", Installation(small_disk / "data", free_port())
    for left in (0, 4096, 40_960):
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with filler.open("rb+") as file:
            file.truncate(filler.stat().st_size - left)
        try:
            done = installation.homeport("server", "--detach", "--port", str(installation.port), check=False)
            assert done.returncode == 1
            assert "no space left on the disk of" in done.stderr
            assert "Traceback" not in done.stderr.partition("last words")[0]
        finally:
            installation.homeport("down", check=False)
    filler.unlink()
    installation.homeport("server", "--detach", "--port", str(installation.port))
    clear(installation)


def test_a_disk_that_fails_to_write(tmp_path: Path) -> None:
    """No write of the server gets through: the kernel refuses each that would make any file longer than 1 KiB."""
    with serving(tmp_path / "data") as installation:
        pid = installation.pid("server")
        usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        check(
            installation,
            lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, usual[1])) and None,
            lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, usual) and None,
            "disk I/O error",
        )
