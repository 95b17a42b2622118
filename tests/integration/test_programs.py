"""Who runs: the lock of a program, asked of the real kernel."""

from __future__ import annotations

import os
import signal
import socket
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


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_a_server_in_the_background_starts_again_with_the_settings_it_had(directory):
    environ = {**os.environ, "PYTHONPATH": str(Path(programs.__file__).parents[2])}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def homeport(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "homeport", *arguments, "--data-dir", str(directory.path)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    def settings() -> list[str]:
        program = programs.find(directory, "server")
        assert program is not None
        words = command_line(program.pid)
        return [words[place + 1] for place, word in enumerate(words) if word == "--set"]

    terminal = Terminal(SystemClock())
    try:
        assert homeport("server", "--detach", "--port", port, "--set", "sweep_seconds=30", "--set", "heartbeat_seconds=20").returncode == 0
        assert settings() == ["sweep_seconds=30", "heartbeat_seconds=20"]
        programs.stop(directory, "server", terminal)
        again = homeport("server", "--detach", "--set", "heartbeat_seconds=")
        assert again.returncode == 0
        assert settings() == ["sweep_seconds=30"]
        assert "settings kept from an earlier start: sweep_seconds=30" in again.stderr + again.stdout
        programs.stop(directory, "server", terminal)
        refused = homeport("server", "--detach", "--set", "colour=red")
        assert refused.returncode == 1
        assert "colour" in refused.stderr
        assert programs.find(directory, "server") is None
    finally:
        programs.stop(directory, "server", terminal)
