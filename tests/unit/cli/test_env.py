from __future__ import annotations

import shlex

import pytest

from homeport.cli.env import quoted


@pytest.mark.parametrize("value", ["plain", "", "it's", "'", "''", 'a "b" $c `d` \\ e', "two\nlines", "*?[~#"])
def test_a_shell_reads_the_value_back(value):
    assert shlex.split(f"export NAME={quoted(value)}") == ["export", f"NAME={value}"]
