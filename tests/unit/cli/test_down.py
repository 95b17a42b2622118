"""Which containers `homeport down --tasks` removes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from homeport.cli.containers import AGENT_LABEL, TASK_LABEL
from homeport.cli.down import mine
from homeport.cli.installation import DataDirectory, LocalCredentials

OWN, OTHER = "123456789012", "210987654321"


def container(account: str, agent: str) -> dict[str, Any]:
    return {"Labels": {TASK_LABEL: f"arn:aws:ecs:us-east-1:{account}:task/default/0", AGENT_LABEL: agent}}


EVERY = [container(OWN, "a"), container(OWN, "b"), container(OTHER, "c")]


@pytest.fixture
def directory(tmp_path) -> DataDirectory:
    (tmp_path / "agent").mkdir()
    return DataDirectory(tmp_path)


def test_where_the_server_is_those_of_its_account(directory):
    credentials = LocalCredentials("http://127.0.0.1:1", "AK", "s", "us-east-1", OWN, "0123456789abcdef")
    (directory.path / "credentials.json").write_bytes(msgspec.json.encode(credentials))
    (directory.agent / "id").write_text("a")
    assert mine(directory, EVERY) == EVERY[:2]
    assert mine(directory, [{"Labels": {}}]) == []


def test_where_an_agent_is_alone_those_that_it_made(directory):
    directory.join("0123456789abcdef")
    (directory.agent / "id").write_text("c\n")
    assert mine(directory, EVERY) == EVERY[2:]


def test_of_an_agent_that_told_no_id_all(directory):
    directory.join("0123456789abcdef")
    assert mine(directory, EVERY) == EVERY
