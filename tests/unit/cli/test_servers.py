"""`server status`: what a person is shown of several servers and of the journal that each of them keeps."""

from __future__ import annotations

import json

import msgspec
import pytest

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.cli.servers import gather, screen
from homeport.cli.terminal import Terminal
from homeport.clock import SystemClock
from homeport.store.etcd.journal_copies import Copy, MissingPart

HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def journal(name: str, first: int, through: int, *gaps: MissingPart) -> dict:
    """As the servers tell it: what each says of its file in etcd."""
    return msgspec.json.decode(msgspec.json.encode(Copy(name, first, through, 1_700_000_000.0, gaps)))


TOLD = {
    "leader": "one",
    "revision": 420,
    "servers": [
        {
            "name": "one",
            "address": "http://10.0.0.1:8470",
            "pid": 11,
            "host": "elsewhere",
            "leads": True,
            "answers": True,
            "revision": 420,
            "lag": 0,
            "journal": journal("one", 1, 418),
        },
        {
            "name": "two",
            "address": "http://10.0.0.2:8470",
            "pid": 12,
            "host": "elsewhere",
            "leads": False,
            "answers": True,
            "revision": 417,
            "lag": 3,
            "journal": journal("two", 251, 410, MissingPart(101, 250, HASH)),
        },
        {
            "name": "three",
            "address": "http://10.0.0.3:8470",
            "pid": 13,
            "host": "elsewhere",
            "leads": False,
            "answers": False,
            "revision": None,
            "lag": None,
            "journal": None,
        },
    ],
}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "credentials.json").write_text(
        json.dumps(
            {
                "endpoint": "http://127.0.0.1:1",
                "access_key_id": "AKIDEXAMPLE",
                "secret_access_key": "secret",
                "region": "us-east-1",
                "account_id": "123456789012",
                "installation_id": "test",
            }
        )
    )
    return DataDirectory(tmp_path)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_each_server_has_a_line_with_its_part_of_the_journal(directory, monkeypatch):
    monkeypatch.setattr(Api, "servers", lambda self: TOLD)
    facts = gather(directory, Terminal(SystemClock()))
    header, one, three, two, *rest = screen(facts).splitlines()
    assert cells(header) == ["SERVER", "ADDRESS", "PID", "ROLE", "REVISION", "BEHIND", "JOURNAL"]
    assert cells(one) == ["one", "http://10.0.0.1:8470", "leader", "420", "0", "1-418"]
    assert cells(two) == ["two", "http://10.0.0.2:8470", "follower", "417", "3", "251-410"]
    assert cells(three) == ["three", "http://10.0.0.3:8470", "does not answer"]
    assert rest == [f"two lacks entries 101 to 250 of the journal; its file goes on behind hash {HASH}"]
    assert next(member for member in facts["members"] if member["name"] == "two")["journal"] == TOLD["servers"][1]["journal"]


def test_a_server_of_an_older_program_says_nothing_of_its_journal(directory, monkeypatch):
    older = {**TOLD, "servers": [{name: value for name, value in server.items() if name != "journal"} for server in TOLD["servers"]]}
    monkeypatch.setattr(Api, "servers", lambda self: older)
    assert all("-4" not in line and "lacks" not in line for line in screen(gather(directory, Terminal(SystemClock()))).splitlines())


def test_when_nobody_answers_the_reason_is_told(directory):
    shown = screen(gather(directory, Terminal(SystemClock())))
    assert "127.0.0.1:1" in shown
