"""Root keys: from a file that nobody else can read, or from a command; and files that are sealed with them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from homeport.ids import Ids
from homeport.vault.envelope import SealBrokenError
from homeport.vault.root_key import KeyCommand, KeyFile, RootKeyError, RootKeys, parse
from homeport.vault.sealed_file import open_file, rewrap_file, root_key_of, seal_file, sealed_files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "root.key"


@pytest.fixture
def roots(path: Path) -> RootKeys:
    made = RootKeys(KeyFile(path), Ids().bytes)
    made.create()
    return made


def rotate(roots: RootKeys) -> None:
    old = roots.source.read()
    assert old is not None
    roots.source.write((roots.new(), *old))
    roots.load()


def test_a_key_file_is_made_once_and_is_its_owner_s_alone(path, roots):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = RootKeys(KeyFile(path), Ids().bytes)
    again.create()  # as another server on this machine does at the same moment
    assert again.ids == roots.ids
    assert [name for name in os.listdir(path.parent) if name != "root.key"] == []


def test_without_a_file_there_is_no_key_and_none_is_made(path):
    roots = RootKeys(KeyFile(path), Ids().bytes)
    assert not roots.load()
    with pytest.raises(RootKeyError, match="not read, or holds no key"):
        _ = roots.newest
    assert not path.exists()


def test_a_file_that_was_named_must_be_there(path):
    with pytest.raises(RootKeyError, match=r"is not there; put it there, or make one: homeport key create"):
        RootKeys(KeyFile(path, must_exist=True), Ids().bytes).load()
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(path, roots, mode):
    path.chmod(mode)
    with pytest.raises(RootKeyError, match="can be read by others"):
        roots.load()


@pytest.mark.parametrize(
    "text", ["", "\n", "canary", "homeport-root-key-1:canary", "homeport-root-key-1:" + "A" * 40, "homeport-root-key-2:" + "A" * 43 + "="]
)
def test_what_is_no_key_is_refused_without_being_shown(text):
    with pytest.raises(RootKeyError) as refusal:
        parse(text, "the file")
    assert "canary" not in str(refusal.value)


def test_a_rotated_file_has_both_keys_and_the_newest_first(path, roots):
    before = roots.ids
    rotate(roots)
    assert roots.ids[1:] == before
    assert roots.newest.id == roots.ids[0] != before[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert repr(roots.newest) == f"RootKey({roots.newest.id})"


def test_a_command_prints_the_keys(path, roots):
    told = RootKeys(KeyCommand(f"{sys.executable} -c \"print(open('{path}').read())\""), Ids().bytes)
    assert told.load()
    assert told.ids == roots.ids
    with pytest.raises(RootKeyError, match="only tells keys"):
        told.source.write(())


@pytest.mark.parametrize(
    ("code", "why"), [("import sys; sys.exit(3)", "failed with status 3"), ("print('canary')", "line 1 is no root key"), ("pass", "has 0 root keys")]
)
def test_a_command_that_tells_none_is_named_and_what_it_said_is_not(code, why):
    with pytest.raises(RootKeyError, match=why) as refusal:
        RootKeys(KeyCommand(f'{sys.executable} -c "{code}"'), Ids().bytes).load()
    assert "canary" not in str(refusal.value)


def test_a_program_that_is_not_there_is_said():
    with pytest.raises(RootKeyError, match="cannot be run"):
        RootKeys(KeyCommand("/nowhere/at-all"), Ids().bytes).load()


def test_a_sealed_file_is_opened_under_its_name_alone(tmp_path, roots):
    file = tmp_path / "ca.sealed"
    seal_file(file, b"canary", roots)
    assert open_file(file, roots) == b"canary"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"canary" not in file.read_bytes()
    moved = file.rename(tmp_path / "other.sealed")
    with pytest.raises(SealBrokenError):
        open_file(moved, roots)
    with pytest.raises(ValueError, match=r"NAME\.sealed"):
        seal_file(tmp_path / "ca.key", b"canary", roots)


def test_a_damaged_file_or_another_root_key_is_said(tmp_path, roots):
    file = tmp_path / "ca.sealed"
    seal_file(file, b"canary", roots)
    other = RootKeys(KeyFile(tmp_path / "other.key"), Ids().bytes)
    other.create()
    with pytest.raises(RootKeyError, match=f"needs root key {roots.newest.id}, and .*other.key has {other.newest.id}"):
        open_file(file, other)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(SealBrokenError, match="damaged"):
        open_file(file, roots)
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none.sealed", roots)


def test_a_file_follows_a_rotation_and_both_keys_open_it_meanwhile(tmp_path, roots):
    file = tmp_path / "below" / "ca.sealed"
    file.parent.mkdir()
    seal_file(file, b"canary", roots)
    old = roots.newest.id
    rotate(roots)
    assert (open_file(file, roots), root_key_of(file)) == (b"canary", old)
    assert list(sealed_files(tmp_path)) == [file]
    assert rewrap_file(file, roots)
    assert not rewrap_file(file, roots)
    assert (open_file(file, roots), root_key_of(file)) == (b"canary", roots.newest.id)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
