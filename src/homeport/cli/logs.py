"""`homeport logs TASK`: what the containers of a task printed, from this machine's Docker.

Owns: finding the containers, and how lines of several are told apart. Never asks the control plane: it works while that is down.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final

from homeport.cli.containers import DEFAULT_HOST, INSTALLATION_LABEL, NAME_LABEL, TASK_LABEL, DockerSocket
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import CommandError, Terminal

PIECES_MAX: Final = 1_000
"""Pieces of output that wait for the terminal; a slower terminal holds the readers up."""

_Piece = tuple[int, bytes] | Exception | None


def logs(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:  # noqa: ARG001 - every command has these three
    """Print the output of a task: its stdout to stdout, its stderr to stderr."""
    installation_id = DataDirectory(options.data_dir).known_installation_id()
    docker = DockerSocket(environ.get("DOCKER_HOST") or DEFAULT_HOST)
    try:
        found = docker.containers({INSTALLATION_LABEL: installation_id})
    except OSError as error:
        raise CommandError(f"Docker does not answer at {docker.path} ({error.strerror})") from None
    containers = matching(found, options.task)
    pieces: queue.Queue[_Piece] = queue.Queue(PIECES_MAX)
    readers = [
        threading.Thread(target=_read, args=(docker, container, options.follow, f"{name} | " if len(containers) > 1 else "", pieces), daemon=True)
        for container, name in containers
    ]
    if options.follow:
        for reader in readers:
            reader.start()
        _print(pieces, len(readers))
    else:
        for reader in readers:  # one after the other, so that their lines do not mix
            reader.start()
            _print(pieces, 1)
    return 0


def matching(containers: list[dict[str, Any]], task: str) -> list[tuple[str, str]]:
    """(container id, container name) of the one task that `task` names: an ARN, an id or the beginning of one.

    Raises CommandError when no task or several match.
    """
    wanted = task.rpartition("/")[2]
    tasks: dict[str, list[tuple[str, str]]] = {}
    for container in containers:
        labels = container["Labels"]
        identity = labels.get(TASK_LABEL, "").rpartition("/")[2]
        if wanted and identity.startswith(wanted):
            tasks.setdefault(identity, []).append((container["Id"], labels.get(NAME_LABEL, "")))
    if not tasks:
        raise CommandError(f"no container of task {task} is on this machine; containers of stopped tasks are kept for 3 hours")
    if len(tasks) > 1:
        raise CommandError(f"{task} is the beginning of several tasks: {', '.join(sorted(tasks))}")
    return sorted(next(iter(tasks.values())), key=lambda container: container[1])


def _read(docker: DockerSocket, container_id: str, follow: bool, prefix: str, pieces: queue.Queue[_Piece]) -> None:  # noqa: FBT001
    """Put a container's output into `pieces`, line by line when it has a prefix; None at its end."""
    held = {1: b"", 2: b""}
    try:
        for stream, data in docker.logs(container_id, follow=follow):
            if not prefix:
                pieces.put((stream, data))
                continue
            *lines, held[stream] = (held[stream] + data).split(b"\n")
            for line in lines:
                pieces.put((stream, prefix.encode() + line + b"\n"))
        for stream, rest in held.items():
            if rest:
                pieces.put((stream, prefix.encode() + rest + b"\n"))
    except (OSError, CommandError) as error:
        pieces.put(error)
    finally:
        pieces.put(None)


def _print(pieces: queue.Queue[_Piece], readers: int) -> None:
    while readers:
        piece = pieces.get()
        if piece is None:
            readers -= 1
        elif isinstance(piece, Exception):
            raise CommandError(str(piece)) from None
        else:
            output = sys.stderr.buffer if piece[0] == 2 else sys.stdout.buffer
            output.write(piece[1])
            output.flush()
