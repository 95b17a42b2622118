"""`homeport account`, and whose keys a command signs with."""

from __future__ import annotations

import json
import shlex
import stat
from typing import Any

import msgspec
import pytest

from homeport.cli import account as command
from homeport.cli.arguments import parse
from homeport.cli.client import Api
from homeport.cli.env import env
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.terminal import CommandError, Terminal
from homeport.virtual_clock import VirtualClock

OWN = LocalCredentials("http://127.0.0.1:8470", "AKROOT", "root-secret", "eu-west-1", "123456789012", "0123456789abcdef")
RED = {"Id": "210987654321", "Name": "red", "Status": "ACTIVE", "JoinedTimestamp": 1_795_507_200.0}
QUOTAS = [{"QuotaName": name, "Value": value, "DefaultValue": 50} for name, value in (("clusters_max", 3), ("tags_max", 50))]


@pytest.fixture
def directory(tmp_path) -> DataDirectory:
    (tmp_path / "credentials.json").write_bytes(msgspec.json.encode(OWN))
    return DataDirectory(tmp_path)


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, dict[str, Any]]]:
    """What the API is asked; it knows the account `red`, on two pages with the first one."""
    found: list[tuple[str, dict[str, Any]]] = []

    def call(_: Api, operation: str, /, **parameters: Any) -> dict[str, Any]:
        found.append((operation, parameters))
        if operation == "ListAccounts":
            return {"Accounts": [RED]} if parameters else {"Accounts": [{**RED, "Id": OWN.account_id, "Name": "management"}], "NextToken": "t"}
        if operation == "CreateAccount":
            status = {"AccountId": RED["Id"], "AccountName": parameters["AccountName"]}
            return {"CreateAccountStatus": status, "AccessKey": {"AccessKeyId": "AKRED", "SecretAccessKey": "red-secret"}}
        return {"Quotas": QUOTAS} if operation == "ListAccountQuotas" else {}

    monkeypatch.setattr(Api, "call", call)
    return found


def run(directory: DataDirectory, *arguments: str) -> int:
    return command.account(parse(["account", *arguments, "--data-dir", str(directory.path)]), Terminal(VirtualClock()), {})


def test_a_new_account_s_key_is_shown_once_and_kept_only_when_wanted(directory, asked, capsys):
    assert run(directory, "create", "red") == 0
    shown = capsys.readouterr()
    assert RED["Id"] in shown.out and "AKRED" in shown.out and "red-secret" in shown.out and "not shown again" in shown.err
    assert asked == [("CreateAccount", {"AccountName": "red"})]
    assert not (directory.path / "accounts").exists()
    run(directory, "create", "red", "--json", "--keep", "--account-id", RED["Id"], "--role-name", "Access")
    assert json.loads(capsys.readouterr().out) == {
        "AccountId": RED["Id"], "AccountName": "red", "AccessKeyId": "AKRED", "SecretAccessKey": "red-secret",
    }  # fmt: skip
    assert asked[1] == ("CreateAccount", {"AccountName": "red", "AccountId": RED["Id"], "RoleName": "Access"})
    kept = directory.path / "accounts" / f"{RED['Id']}.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_env_gives_the_kept_key_by_name_and_by_id(directory, asked, capsys):
    run(directory, "create", "red", "--keep")
    capsys.readouterr()
    for name in ("red", "RED", RED["Id"]):
        assert env(parse(["env", "--account", name, "--data-dir", str(directory.path)]), Terminal(VirtualClock()), {}) == 0
        lines = dict(shlex.split(line)[1].split("=", 1) for line in capsys.readouterr().out.splitlines())
        assert (lines["AWS_ACCESS_KEY_ID"], lines["AWS_SECRET_ACCESS_KEY"]) == ("AKRED", "red-secret")
        assert (lines["AWS_ENDPOINT_URL"], lines["AWS_DEFAULT_REGION"]) == (OWN.endpoint, OWN.region)
    assert directory.kept_account(OWN.account_id) == OWN
    with pytest.raises(CommandError, match="no key of the account blue is kept"):
        directory.kept_account("blue")


def test_a_kept_key_goes_with_the_server_when_that_moves(directory, asked):
    run(directory, "create", "red", "--keep")
    moved = msgspec.structs.replace(OWN, endpoint="https://127.0.0.1:9000", ca_file="/ca.pem")
    (directory.path / "credentials.json").write_bytes(msgspec.json.encode(moved))
    found = directory.kept_account("red")
    assert (found.endpoint, found.ca_file, found.access_key_id) == ("https://127.0.0.1:9000", "/ca.pem", "AKRED")


def test_accounts_are_listed_closed_and_reopened_by_name_or_id(directory, asked, capsys):
    run(directory, "list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["NAME", "management", "red"]
    run(directory, "list", "--json")
    assert [item["Name"] for item in json.loads(capsys.readouterr().out)] == ["management", "red"]
    run(directory, "close", "RED")
    run(directory, "reopen", RED["Id"])
    assert [call for call in asked if call[0] != "ListAccounts"] == [
        ("CloseAccount", {"AccountId": RED["Id"]}),
        ("ReopenAccount", {"AccountId": RED["Id"]}),
    ]
    with pytest.raises(CommandError, match="there is no account blue"):
        run(directory, "close", "blue")


def test_quotas_are_shown_set_and_given_back(directory, asked, capsys):
    run(directory, "quota", "red")
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [["clusters_max", "3"], ["tags_max", "50"]]
    run(directory, "quota", "red", "clusters_max", "3", "--json")
    assert json.loads(capsys.readouterr().out) == QUOTAS[:1]
    run(directory, "quota", "red", "clusters_max", "default")
    changes = [call for call in asked if call[0].endswith("AccountQuota")]
    named = {"AccountId": RED["Id"], "QuotaName": "clusters_max"}
    assert changes == [("PutAccountQuota", {**named, "Value": 3}), ("DeleteAccountQuota", named)]
    with pytest.raises(CommandError, match="is no quota"):
        run(directory, "quota", "red", "nonsense")
    for wrong in ("-1", "many", "1.5", "١"):
        with pytest.raises(SystemExit):
            parse(["account", "quota", "red", "clusters_max", wrong])


KEYS = {"AWS_ACCESS_KEY_ID": "AKRED", "AWS_SECRET_ACCESS_KEY": "red-secret"}
WHOSE: list[tuple[dict[str, str], str]] = [
    ({}, "AKROOT"),
    (KEYS, "AKROOT"),  # keys of somewhere else, as far as anybody knows
    ({**KEYS, "AWS_ENDPOINT_URL": "https://ecs.eu-west-1.amazonaws.com"}, "AKROOT"),
    ({**KEYS, "AWS_ENDPOINT_URL": OWN.endpoint}, "AKRED"),
    ({**KEYS, "AWS_ENDPOINT_URL": OWN.endpoint + "/"}, "AKRED"),
    ({**KEYS, "AWS_ENDPOINT_URL_ECS": OWN.endpoint, "AWS_ENDPOINT_URL": "https://elsewhere"}, "AKRED"),
    ({"AWS_ACCESS_KEY_ID": "AKRED", "AWS_ENDPOINT_URL": OWN.endpoint}, "AKROOT"),
]


@pytest.mark.parametrize(("environ", "key"), WHOSE)
def test_the_environment_s_keys_count_when_its_endpoint_is_the_installation_s(directory, environ, key):
    found = directory.credentials_of(environ)
    assert (found.access_key_id, found.endpoint, found.region) == (key, OWN.endpoint, OWN.region)
    assert (found.account_id == OWN.account_id) == (key == "AKROOT")


def test_a_session_s_token_and_whom_to_trust_go_with_its_keys(directory):
    environ = {**KEYS, "AWS_ENDPOINT_URL": OWN.endpoint, "AWS_SESSION_TOKEN": "token", "AWS_CA_BUNDLE": "/ca.pem", "AWS_REGION": "us-east-1"}
    found = directory.credentials_of(environ)
    assert (found.session_token, found.ca_file, found.region) == ("token", "/ca.pem", "us-east-1")


def test_any_endpoint_is_good_where_there_is_no_installation(tmp_path):
    elsewhere = DataDirectory(tmp_path)
    found = elsewhere.credentials_of({**KEYS, "AWS_ENDPOINT_URL": "https://server:8470"})
    assert (found.endpoint, found.access_key_id, found.region) == ("https://server:8470", "AKRED", "us-east-1")
    with pytest.raises(CommandError, match="there is no installation"):
        elsewhere.credentials_of(KEYS)
