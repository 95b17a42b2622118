"""Who runs: the lock of a program, asked of the real kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from homeport.cli import programs
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import Terminal
from homeport.clock import SystemClock

HOLDER = """
import signal, sys, time
from pathlib import Path
from homeport.cli import programs
from homeport.cli.installation import DataDirectory
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with programs.claim(DataDirectory(Path(sys.argv[1])), "server"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path):
    return DataDirectory(tmp_path)


@pytest.fixture
def hold(directory):
    """Starts a process that is the server of the directory."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str = "polite") -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(Path(programs.__file__).parents[2])}
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(directory.path), kind], stdout=subprocess.PIPE, text=True, env=environ)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_program_is_found_as_long_as_it_lives(directory, hold):
    assert programs.find(directory, "server") is None
    process = hold()
    assert programs.running(directory) == [programs.Program("server", process.pid)]
    assert programs.find(directory, "agent") is None
    process.kill()
    process.wait()
    assert programs.find(directory, "server") is None


def test_a_second_one_is_refused_with_the_holders_pid(directory, hold):
    process = hold()
    with pytest.raises(programs.ProgramRunsError, match=str(process.pid)), programs.claim(directory, "server"):
        pass
    process.kill()
    process.wait()
    with programs.claim(directory, "server"):
        pass


@pytest.mark.parametrize(("kind", "number"), [("polite", signal.SIGTERM), ("deaf", signal.SIGKILL)])
def test_stop_ends_the_program_and_kills_a_deaf_one(directory, hold, monkeypatch, kind, number):
    monkeypatch.setattr(programs, "STOP_SECONDS_MAX", 0.5)
    process = hold(kind)
    assert programs.stop(directory, "server", Terminal(SystemClock()))
    assert process.wait(10) == -number
    assert not programs.stop(directory, "server", Terminal(SystemClock()))


def test_a_stale_lock_file_names_nobody(directory, hold):
    """The file of a killed program holds a pid that may be anybody's by now; nobody is signalled."""
    process = hold()
    process.kill()
    process.wait()
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (directory.run / "server.lock").write_text(f"{bystander.pid}\n")
        assert not programs.stop(directory, "server", Terminal(SystemClock()))
        time.sleep(0.1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
