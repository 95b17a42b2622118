"""`homeport key rotate` and `forget`: in which order servers are asked, and when nothing is asked any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeport.cli.key import forget, rotate
from homeport.cli.terminal import CommandError, Terminal
from homeport.clock import SystemClock
from homeport.ids import Ids
from homeport.vault.root_key import KeyFile, RootKeys


class Desks:
    """Servers with a key file each, that wrap when they are asked to."""

    def __init__(self, files: dict[str, tuple[Path, bool]]) -> None:
        """Name → (its key file, whether it is on this machine)."""
        self.files = files
        self.asked: list[str] = []
        self.known: dict[str, tuple[str, ...]] = {}
        self._read()
        self.wrapped = next(iter(self.known.values()))[0]
        self.unwilling = 0

    def _read(self) -> None:
        for name, (path, _) in self.files.items():
            roots = RootKeys(KeyFile(path), Ids().bytes)
            roots.load()
            self.known[name] = roots.ids

    def ask(self, wish: str) -> list[dict[str, Any]]:
        self.asked.append(wish)
        if wish == "read":
            self._read()
        if wish == "wrap":
            self.unwilling -= 1
            if self.unwilling < 0:
                self.wrapped = next(iter(self.known.values()))[0]
        return [
            {
                "server": name,
                "source": f"the root key file {path}",
                "file": str(path),
                "rootKeys": self.known[name],
                "dataKeys": {self.wrapped: 1},
                "sealedFiles": {},
                "here": here,
            }
            for name, (path, here) in self.files.items()
        ]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(SystemClock())


@pytest.fixture
def files(tmp_path: Path) -> dict[str, tuple[Path, bool]]:
    """Two servers, the second one on another machine, with copies of one key."""
    here, there = tmp_path / "here.key", tmp_path / "there.key"
    RootKeys(KeyFile(here), Ids().bytes).create()
    there.write_bytes(here.read_bytes())
    there.chmod(0o600)
    return {"server-1": (here, True), "server-2": (there, False)}


def test_nothing_is_wrapped_before_every_server_has_the_new_key(files, terminal):
    desks = Desks(files)
    old = desks.wrapped
    with pytest.raises(CommandError, match=r"server-2 does not have root key [0-9a-f]{16} as its first yet: bring .*there\.key up to date"):
        rotate(desks, terminal)  # type: ignore[arg-type]
    assert "wrap" not in desks.asked
    assert (len(desks.known["server-1"]), len(desks.known["server-2"])) == (2, 1)
    with pytest.raises(CommandError, match="server-2"):
        rotate(desks, terminal)  # type: ignore[arg-type]
    assert len(desks.known["server-1"]) == 2, "asked again it goes on with the key that it made"
    files["server-2"][0].write_bytes(files["server-1"][0].read_bytes())
    assert rotate(desks, terminal) == 0  # type: ignore[arg-type]
    assert desks.wrapped == desks.known["server-2"][0] != old


def test_it_goes_on_asking_while_nobody_leads(files, terminal):
    alone = {"server-1": files["server-1"]}
    desks = Desks(alone)
    desks.unwilling = 2
    assert rotate(desks, terminal) == 0  # type: ignore[arg-type]
    assert desks.asked.count("wrap") == 3


def test_a_key_that_is_not_in_use_yet_is_not_what_is_kept(files, terminal, capsys):
    desks = Desks(files)
    path = files["server-1"][0]
    roots = RootKeys(KeyFile(path), Ids().bytes)
    roots.load()
    roots.source.write((roots.new(), *roots.keys))
    before = path.read_bytes()
    with pytest.raises(CommandError, match="not in use yet"):
        forget(desks, terminal)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    files["server-2"][0].write_bytes(before)
    assert rotate(desks, terminal) == 0  # type: ignore[arg-type]
    assert forget(desks, terminal) == 0  # type: ignore[arg-type]
    roots.load()
    assert roots.ids == (desks.wrapped,)
    assert "server-2 still has" in capsys.readouterr().err


def test_a_command_s_keys_are_made_where_it_takes_them_from(files, terminal):
    desks = Desks(files)
    told = desks.ask

    def from_a_command(wish: str) -> list[dict[str, Any]]:
        return [each | {"file": None, "source": "the root key command kms"} for each in told(wish)]

    desks.ask = from_a_command  # type: ignore[method-assign]
    with pytest.raises(CommandError, match="the root key command kms prints no new root key"):
        rotate(desks, terminal)  # type: ignore[arg-type]
    assert "wrap" not in desks.asked
