"""The started programs of an installation: who runs, starting one, stopping one.

Owns: DATA_DIR/run/NAME.lock, which a program holds locked as long as it lives and in which its process id stands.
Never trusts a number in a file alone: a program runs exactly as long as the kernel holds its lock, so a killed one leaves nothing to tidy up,
and a process id that the kernel gave to somebody else is never signalled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import homeport
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import CommandError, Terminal

NAMES: Final = ("server", "agent")
"""The programs of an installation with one server, in the order in which they start; they stop in reverse."""
_ORDER: Final = ("etcd", "server", "agent")
"""The same for the kinds of program, where there are several of a kind: server-1, server-2, …"""
STOP_SECONDS_MAX: Final = 20.0
"""From SIGTERM to SIGKILL."""
LOG_BYTES_MAX: Final = 32 * 1024 * 1024
"""A log larger than this is put aside (as NAME.log.1) when its program starts."""
FREE_BYTES_MIN: Final = 1024 * 1024
"""A disk with less room than this counts as full: no server can start on it."""
POLL_SECONDS: Final = 0.02
_FLOCK: Final = "hhqqi"
"""The kernel's `struct flock` on 64-bit Linux: type, whence, start, length, pid."""


class ProgramRunsError(CommandError):
    """The program already runs on this data directory. The message names its process id."""


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """A program that runs now."""

    name: str
    pid: int


def _lock_path(directory: DataDirectory, name: str) -> Path:
    return directory.run / f"{name}.lock"


def find(directory: DataDirectory, name: str) -> Program | None:
    """The running program of that name, or None. Only asks the kernel who holds the lock: never takes it, so it disturbs no start."""
    try:
        descriptor = os.open(_lock_path(directory, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        held = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = struct.unpack(_FLOCK, held)
    return None if kind == fcntl.F_UNLCK else Program(name, pid)


def started_at(directory: DataDirectory, name: str) -> float:
    """When the program of that name was started the last time, in seconds since the epoch; 0 when it never was."""
    try:
        return _lock_path(directory, name).stat().st_mtime
    except OSError:
        return 0.0


def names(directory: DataDirectory) -> list[str]:
    """Every program that ever ran on this directory, in the order in which they start."""
    found = {path.stem for path in directory.run.glob("*.lock")} | set(NAMES)
    kinds = {name: name.partition("-")[0] for name in found}
    return sorted(found, key=lambda name: (_ORDER.index(kinds[name]) if kinds[name] in _ORDER else 1, len(name), name))


def running(directory: DataDirectory) -> list[Program]:
    """Every running program, in the order in which they start."""
    return [program for name in names(directory) if (program := find(directory, name)) is not None]


@contextlib.contextmanager
def claim(directory: DataDirectory, name: str) -> Iterator[int]:
    """Be the program `name` of this directory while inside; gives the lock's descriptor.

    Nothing in this process may open the lock file a second time: closing it would free it.

    Raises ProgramRunsError when another process is.
    """
    directory.make()
    directory.run.mkdir(exist_ok=True)
    descriptor = os.open(_lock_path(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise ProgramRunsError(f"another {name} (pid {holder}) already runs on {directory.path}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def start(directory: DataDirectory, name: str, arguments: Sequence[str], *, environ: Mapping[str, str], command: str = "") -> subprocess.Popen[bytes]:
    """Start `homeport COMMAND ARGUMENTS` (COMMAND is `name` unless given) as a process of its own; see `_launch`."""
    return _launch(directory, name, ["homeport", command or name, *arguments], environ=environ)


def start_foreign(directory: DataDirectory, name: str, command: Sequence[str], *, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start another house's program, which holds the lock of `name` as one of ours would."""
    directory.make()
    directory.run.mkdir(exist_ok=True)
    return _launch(directory, name, ["homeport.cli.hold", str(_lock_path(directory, name)), *command], environ=environ)


def environment_of(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with this package found first."""
    package = str(Path(homeport.__file__).parents[1])
    kept = environ.get("PYTHONPATH", "")
    return {**environ, "PYTHONPATH": f"{package}:{kept}" if kept and kept != package else package}


def _launch(directory: DataDirectory, name: str, module: Sequence[str], *, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Own session, no terminal, none of our descriptors, output to its log."""
    directory.make()
    directory.log.mkdir(exist_ok=True)
    path = log_path(directory, name)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
    with path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment_of(environ),
            start_new_session=True,
            close_fds=True,
        )


def log_path(directory: DataDirectory, name: str) -> Path:
    """The file that a started program writes to."""
    return directory.log / f"{name}.log"


def log_tail(directory: DataDirectory, name: str, lines_max: int = 12) -> str:
    """The last lines of a program's log, indented; for an error message. A full disk is named, since nothing can be written to a log there."""
    try:
        lines = log_path(directory, name).read_text(errors="replace").splitlines()[-lines_max:]
    except OSError:
        lines = ["(no log)"]
    if shutil.disk_usage(directory.path).free < FREE_BYTES_MIN:
        lines.append(f"(no space left on the disk of {directory.path}: make room and try again)")
    return "\n".join(f"  {line}" for line in lines)


def stop(directory: DataDirectory, name: str, terminal: Terminal) -> bool:
    """Stop the program if it runs: SIGTERM, and SIGKILL after `STOP_SECONDS_MAX`. True if it ran.

    Raises CommandError when it cannot be stopped.
    """
    program = find(directory, name)
    if program is None:
        return False
    terminal.say(f"stopping the {name} (pid {program.pid}) ...")
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS_MAX), (signal.SIGKILL, 5.0)):
        if not _signal(directory, program, number):
            return True
        deadline = terminal.deadline(seconds)
        while not terminal.is_past(deadline):
            if find(directory, name) != program:
                return True
            terminal.pause(POLL_SECONDS)
    raise CommandError(f"the {name} (pid {program.pid}) does not end")


def restart(directory: DataDirectory, name: str) -> bool:
    """Tell the server `name` to be itself anew (see `homeport.server.serve`). True if it runs."""
    program = find(directory, name)
    return program is not None and _signal(directory, program, signal.SIGUSR2)


def _signal(directory: DataDirectory, program: Program, number: signal.Signals) -> bool:
    """Signal the program unless it has ended. The pidfd is opened before the lock is looked at again, so it is never another process."""
    try:
        descriptor = os.pidfd_open(program.pid)
    except ProcessLookupError:
        return False
    try:
        if find(directory, program.name) != program:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise CommandError(f"the {program.name} (pid {program.pid}) belongs to another user") from None
    finally:
        os.close(descriptor)
    return True
