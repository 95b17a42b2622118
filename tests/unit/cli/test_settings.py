from __future__ import annotations

import json

import pytest

from homeport.cli.installation import DataDirectory
from homeport.cli.settings import kept_settings, settings_for_start
from homeport.cli.terminal import CommandError, Terminal
from homeport.clock import SystemClock
from homeport.config import UnknownSettingError


@pytest.fixture
def directory(tmp_path):
    return DataDirectory(tmp_path)


@pytest.fixture
def terminal():
    return Terminal(SystemClock())


def test_the_next_start_keeps_what_was_set_and_says_so(directory, terminal, capsys):
    assert settings_for_start(directory, ["healthy_after_seconds=2", "sweep_seconds=30"], terminal) == ["healthy_after_seconds=2", "sweep_seconds=30"]
    assert "kept" not in capsys.readouterr().err
    assert settings_for_start(directory, [], terminal) == ["healthy_after_seconds=2", "sweep_seconds=30"]
    assert "kept from an earlier start: healthy_after_seconds=2, sweep_seconds=30" in capsys.readouterr().err


def test_a_new_value_takes_the_place_of_a_kept_one_and_an_empty_one_ends_it(directory, terminal):
    settings_for_start(directory, ["healthy_after_seconds=2", "sweep_seconds=30"], terminal)
    assert settings_for_start(directory, ["healthy_after_seconds=3", "sweep_seconds="], terminal) == ["healthy_after_seconds=3"]
    assert settings_for_start(directory, [], terminal) == ["healthy_after_seconds=3"]


@pytest.mark.parametrize("wrong", ["colour=red", "sweep_seconds=soon", "sweep_seconds"])
def test_a_wrong_setting_is_refused_and_not_kept(directory, terminal, wrong):
    with pytest.raises(UnknownSettingError):
        settings_for_start(directory, ["healthy_after_seconds=2", wrong], terminal)
    assert kept_settings(directory) == {}


def test_a_damaged_file_is_named(directory, terminal):
    (directory.path / "settings.json").write_text(json.dumps([1]))
    with pytest.raises(CommandError, match=r"settings\.json is damaged"):
        settings_for_start(directory, [], terminal)
