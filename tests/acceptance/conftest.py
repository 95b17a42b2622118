"""Fixtures of the acceptance tests: installations on ports and directories of their own, cleared away afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from acceptance.harness import Installation, docker, free_port

os.environ["HOMEPORT_VENV"] = sys.prefix
"""The launcher uses the environment that the tests run in."""

# A run that a shell put into the background ignores SIGINT, and so would every program that it starts and asks to end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def clear(installation: Installation) -> None:
    """Stop the installation's programs, remove its containers and its directory."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        installation.homeport("down", check=False, timeout=60)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = installation.containers()
        if found:
            docker("rm", "--force", "--volumes", *found)
    shutil.rmtree(installation.data_dir, ignore_errors=True)


def logs(installation: Installation) -> str:
    """The end of what the programs wrote."""
    tails = []
    for path in sorted((installation.data_dir / "log").glob("*.log")):
        tails.append(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-40:]))
    return "\n".join(tails)


@pytest.fixture
def new_installation(docker_engine: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Installation]]:  # noqa: ARG001 - needed running
    """Makes installations that nobody else uses; not started. They are cleared away after the test."""
    made: list[Installation] = []

    def make() -> Installation:
        made.append(Installation(tmp_path_factory.mktemp("homeport"), free_port()))
        return made[-1]

    yield make
    for installation in made:
        clear(installation)


@pytest.fixture(scope="module")
def installation(docker_engine: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:  # noqa: ARG001 - needed running
    """A running installation, shared by the tests of one module."""
    made = Installation(tmp_path_factory.mktemp("homeport"), free_port())
    try:
        started = subprocess.CompletedProcess[str]([], 1, "", "not started")
        with contextlib.suppress(subprocess.CalledProcessError):
            started = made.up()
        assert started.returncode == 0, logs(made)
        yield made
    finally:
        clear(made)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:  # noqa: ARG001 - pytest's signature
    """A failed test shows what the programs of its installation wrote."""
    report = yield
    if getattr(report, "failed", False):
        found = getattr(item, "funcargs", {}).get("installation")
        if isinstance(found, Installation):
            report.sections.append(("programs of the installation", logs(found)))
    return report
