"""The server's settings that `up --set` or `server --detach --set` was given: kept, so that the next start on this data directory has the same.

Owns: DATA_DIR/settings.json. Never tells a running server: settings are read at a server's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from homeport.cli import programs
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import CommandError, Terminal
from homeport.config import parse_settings

FILE: Final = "settings.json"


def kept_settings(directory: DataDirectory) -> dict[str, str]:
    """Name → value, as they were typed. Raises CommandError for a file that cannot be read."""
    path = directory.path / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise CommandError(f"{path} is damaged ({error}); without it the servers start with the settings' defaults") from None


def settings_for_start(directory: DataDirectory, given: Sequence[str], terminal: Terminal) -> list[str]:
    """Each `NAME=VALUE` that the servers are to start with: those kept, and over them `given`, which is kept from now on. `NAME=` ends a kept one.

    Says what was kept, and what waits for a server's next start. Raises CommandError, and UnknownSettingError before anything is kept.
    """
    kept = kept_settings(directory)
    now = dict(kept)
    for pair in given:
        name, separator, value = pair.partition("=")
        if separator and not value:
            now.pop(name, None)
        else:
            parse_settings([pair])
            now[name] = value
    pairs = [f"{name}={value}" for name, value in now.items()]
    parse_settings(pairs)
    if now != kept:
        temporary = directory.path / f"{FILE}.tmp"
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(now)))
        temporary.replace(directory.path / FILE)
        running = [program.name for program in programs.running(directory) if program.name.startswith("server")]
        if running:
            terminal.say(f"settings changed; {', '.join(running)} will read them at the next start: ./homeport down, then ./homeport up --detach")
    remembered = [pair for pair in pairs if pair not in given]
    if remembered:
        terminal.say(f"settings kept from an earlier start: {', '.join(remembered)} (--set NAME=VALUE changes one, --set NAME= ends it)")
    return pairs
