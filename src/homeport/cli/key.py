"""`homeport key`: make a root key, show which are in use, take a new one into use, and forget those that are not any more.

Owns: the order of a rotation: every server has the new root key before anything is wrapped with it, and the old one stays until nothing is wrapped
with it any more. Whatever breaks it off, everything can be read, and the same command goes on.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from homeport.cli.client import Api, ApiCallError, ApiUnreachableError
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import CommandError, Terminal, table
from homeport.ids import Ids

WRAP_SECONDS_MAX: Final = 30.0
"""How long to go on asking; a new leader is there within seconds."""
POLL_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 120.0
"""A command that tells root keys may take 30 s; wrapping takes some milliseconds a key."""


def key(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """The action that was typed."""
    del environ
    if options.action == "create":
        return create(options.file, terminal)
    desks = Desks(DataDirectory(options.data_dir), terminal)
    if options.action == "status":
        return status(options, desks, terminal)
    return rotate(desks, terminal) if options.action == "rotate" else forget(desks, terminal)


def create(path: Path, terminal: Terminal) -> int:
    """A file with a new root key, which must not be there yet."""
    from homeport.vault.root_key import KeyFile, RootKeys  # with it comes the library that encrypts

    file = KeyFile(path)
    roots = RootKeys(file, Ids().bytes)
    if path.exists():
        raise CommandError(f"{path} is there already; a root key is never replaced, since what it wraps would be lost")
    file.create(roots.new())
    roots.load()
    terminal.say(f"made root key {roots.newest.id} in {path}; keep a copy where no backup of the state is")
    return 0


class Desks:
    """Every server of the installation, asked about its root keys."""

    def __init__(self, directory: DataDirectory, terminal: Terminal) -> None:
        """Raises CommandError when there is no installation, or nobody answers."""
        self._terminal = terminal
        self._credentials = directory.known_credentials()
        servers = Api(self._credentials, terminal.clock).servers()
        self._places = {server["name"]: server["address"] for server in servers["servers"]} if servers else {"server": self._credentials.endpoint}
        self.own = {self._credentials.endpoint, *self._credentials.endpoints}
        """Endpoints of servers of this data directory."""

    def ask(self, wish: str) -> list[dict[str, Any]]:
        """What each server answers. Raises CommandError that names the one that does not, or that cannot."""
        told = []
        for name, address in sorted(self._places.items()):
            one = msgspec.structs.replace(self._credentials, endpoint=address, endpoints=())
            try:
                answer = Api(one, self._terminal.clock, timeout_seconds=PATIENCE_SECONDS).root_keys(wish)
            except (ApiUnreachableError, ApiCallError) as error:
                raise CommandError(f"{name}: {getattr(error, 'message', error)}; every server must answer, then run this again") from None
            told.append(answer | {"here": address in self.own})
        return told


def _in_use(told: list[dict[str, Any]]) -> set[str]:
    """The ids of root keys that something is wrapped with."""
    return {root for each in told for root in (*each["dataKeys"], *each["sealedFiles"])}


def status(options: argparse.Namespace, desks: Desks, terminal: Terminal) -> int:
    """Which root keys each server has, and what they wrap."""
    told = desks.ask("tell")
    if options.json:
        terminal.show(json.dumps(told, indent=2))
        return 0
    rows = [
        (each["server"], root, str(each["dataKeys"].get(root, 0)), str(each["sealedFiles"].get(root, 0)), each["source"])
        for each in told
        for root in each["rootKeys"]
    ]
    made = datetime.datetime.fromtimestamp(max(each["newestDataKeyAt"] for each in told), datetime.UTC)
    terminal.show(
        "\n".join((*table(("SERVER", "ROOT KEY", "DATA KEYS", "FILES", "FROM"), rows), f"The newest data key is of {made:%Y-%m-%d %H:%M} UTC."))
    )
    return 0


def rotate(desks: Desks, terminal: Terminal) -> int:
    """Take a new root key into use."""
    told = desks.ask("read")
    if _prepared(told) is None:
        _make(told, terminal)
        told = desks.ask("read")
    newest = _prepared(told)
    if newest is None:
        raise CommandError("the new root key was not found where it was put")
    for each in told:
        if each["rootKeys"][0] != newest:
            raise CommandError(
                f"{each['server']} does not have root key {newest} as its first yet: bring {each['source']} up to date there, then run this again"
            )
    deadline = terminal.deadline(WRAP_SECONDS_MAX)
    while left := _in_use(told := desks.ask("wrap")) - {newest}:  # while nobody leads, nobody wraps data keys
        if terminal.is_past(deadline):
            raise CommandError(f"something is wrapped with root key {' and '.join(sorted(left))} still; run this again")
        terminal.pause(POLL_SECONDS)
    count = sum(told[0]["dataKeys"].values())
    terminal.say(f"root key {newest} wraps all {count} data keys; the one before opens backups of before: `homeport key forget` removes it")
    return 0


def _prepared(told: list[dict[str, Any]]) -> str | None:
    """The root key that somebody put first and that does not wrap everything yet; None when a new one is to be made."""
    newest = {each["rootKeys"][0] for each in told}
    waiting = newest - _in_use(told) if len(_in_use(told)) == 1 else newest
    return min(waiting, default=None)


def _make(told: list[dict[str, Any]], terminal: Terminal) -> None:
    """Put a new root key before the others, in each file of a server of this machine."""
    from homeport.vault.root_key import KeyFile, RootKeys

    files = {each["file"] for each in told if each["here"] and each["file"]}
    if not files:
        raise CommandError(f"{told[0]['source']} prints no new root key; let it print one in a line before the old one, then run this again")
    new = None
    for path in sorted(files):
        roots = RootKeys(KeyFile(Path(path)), Ids().bytes)
        if not roots.load():
            raise CommandError(f"there is no root key in {path}")
        new = new or roots.new()
        roots.source.write((new, *roots.keys))
        terminal.say(f"made root key {new.id}, the first in {path}")


def forget(desks: Desks, terminal: Terminal) -> int:
    """Remove the root keys that nothing is wrapped with, from the files of this machine's servers."""
    from homeport.vault.root_key import KeyFile, RootKeys

    told = desks.ask("read")
    used = _in_use(told)
    gone: set[str] = set()
    for path in sorted({each["file"] for each in told if each["here"] and each["file"]}):
        roots = RootKeys(KeyFile(Path(path)), Ids().bytes)
        roots.load()
        if roots.newest.id not in used:
            raise CommandError(f"root key {roots.newest.id} is not in use yet; run `homeport key rotate` first")
        gone |= set(roots.ids) - used
        if set(roots.ids) - used:
            roots.source.write([each for each in roots.keys if each.id in used])
    told = desks.ask("read")
    terminal.say(
        f"forgot root key {' and '.join(sorted(gone))}; backups that need it cannot be read any more" if gone else "there was none to forget"
    )
    for each in told:
        if more := set(each["rootKeys"]) - used:
            terminal.say(f"{each['server']} still has {' and '.join(sorted(more))}: remove it from {each['source']} there")
    return 0
