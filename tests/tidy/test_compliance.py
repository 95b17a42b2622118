"""docs/compliance.md claims nothing without a command, and names no command that there is not."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from homeport.api.protocol import model
from homeport.api.services import OPERATIONS as BUILT
from homeport.cli.arguments import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/compliance.md").read_text()
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| requirement", "| section"))
]
COMMANDS = sorted({command for row in ROWS for command in re.findall(r"`([^`]+)`", row[-1])})


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def check_test(words: list[str]) -> None:
    """`./dev test PATH[::NAME]…`."""
    assert words
    for word in words:
        place, _, name = word.partition("::")
        path = ROOT / place
        assert path.exists(), place
        assert place.startswith("tests/")
        assert not name or name in functions(path), word


def check_homeport(words: list[str]) -> None:
    """`./homeport …`: the parser takes it, and the files of the repository that it names are there."""
    parse(words)
    assert all((ROOT / word).exists() for word in words if word.startswith(("docs/", "tests/")))


def check_aws(words: list[str]) -> None:
    """`aws SERVICE OPERATION --member …`: built, with these members."""
    service, typed, *rest = words
    names = {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower(): name for name in BUILT[service]}
    assert typed in names, typed
    members = model.load(service).operations[names[typed]].input_type.__struct_fields__
    options = {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", member).lower().rstrip("_") for member in members}
    assert {word.removeprefix("--") for word in rest if word.startswith("--")} <= options


CHECKS = {("./dev", "test"): check_test, ("./homeport",): check_homeport, ("aws",): check_aws}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command):
    words = shlex.split(command)
    for start, check in CHECKS.items():
        if tuple(words[: len(start)]) == start:
            return check(words[len(start) :])
    pytest.fail(f"{command}: begins with none of {', '.join(' '.join(start) for start in CHECKS)}")


def test_every_row_has_a_command_or_says_that_it_is_missing():
    assert len(ROWS) > 50
    for row in ROWS:
        assert len(row) == 4, row
        assert all(row), row
        assert (row[3] == "missing") is ("`" not in row[3]), row
        assert re.fullmatch(r"missing|`[^`]+`( `[^`]+`)*", row[3]), row
    assert PAGE.count("\n| ") == len(ROWS) + 2


@pytest.mark.parametrize(
    "command",
    [
        "./dev test tests/unit/none.py",
        "./dev test tests/unit/test_log.py::test_none",
        "./homeport none",
        "./homeport rule none",
        "./homeport rule test --none",
        "./homeport rule test --rule docs/none.json",
        "aws ecs list-none",
        "aws ecs list-services --none x",
        "aws none list",
        "curl x",
    ],
)
def test_a_command_that_there_is_not_would_be_noticed(command):
    with pytest.raises((AssertionError, SystemExit, KeyError, pytest.fail.Exception)):
        test_every_command_exists(command)
