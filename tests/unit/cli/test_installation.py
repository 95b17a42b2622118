from __future__ import annotations

import json
from pathlib import Path

import pytest

from homeport.cli.arguments import parse
from homeport.cli.installation import DataDirectory, default_data_dir
from homeport.cli.start import agent_environment, port_of
from homeport.cli.terminal import CommandError
from homeport.iam import host as host_file
from homeport.iam.host import Host

CREDENTIALS = {
    "endpoint": "http://127.0.0.1:9123",
    "access_key_id": "AKIATEST",
    "secret_access_key": "secret",
    "region": "eu-west-1",
    "account_id": "111122223333",
    "installation_id": "0123456789abcdef",
}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "credentials.json").write_text(json.dumps(CREDENTIALS))
    return DataDirectory(tmp_path)


@pytest.mark.parametrize(
    ("environ", "user", "expected"),
    [
        ({}, 0, "/var/lib/homeport"),
        ({"HOME": "/home/ann"}, 1000, "/home/ann/.local/share/homeport"),
        ({"HOME": "/home/ann", "XDG_DATA_HOME": "/data"}, 1000, "/data/homeport"),
    ],
)
def test_the_default_directory_is_a_fixed_place_of_the_user(environ, user, expected):
    assert default_data_dir(environ, user) == Path(expected)


def test_an_installation_that_never_started_says_how_to_start(tmp_path):
    assert DataDirectory(tmp_path).credentials() is None
    with pytest.raises(CommandError, match="up --detach"):
        DataDirectory(tmp_path).known_credentials()


def test_damaged_credentials_are_an_error_not_a_traceback(directory):
    (directory.path / "credentials.json").write_text("{")
    with pytest.raises(CommandError, match="damaged"):
        directory.credentials()


def test_the_port_is_the_one_asked_for_else_the_last_else_the_default(directory, tmp_path):
    asked, silent = parse(["up", "--port", "7000"]), parse(["up"])
    assert port_of(asked, directory) == 7000
    assert port_of(silent, directory) == 9123
    assert port_of(silent, DataDirectory(tmp_path / "new")) == 8470


def test_the_instance_id_is_stable_and_differs_between_directories(tmp_path):
    first, second = DataDirectory(tmp_path / "a"), DataDirectory(tmp_path / "b")
    assert first.instance_id() == DataDirectory(tmp_path / "a").instance_id() != second.instance_id()
    assert len(first.instance_id()) == 19
    assert first.instance_id().startswith("i-")


def test_a_local_agent_joins_the_local_server_whatever_the_shell_holds(directory):
    shell = {
        "PATH": "/bin",
        "AWS_ENDPOINT_URL": "http://elsewhere",
        "AWS_SESSION_TOKEN": "x",
        "AWS_ACCESS_KEY_ID": CREDENTIALS["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS["secret_access_key"],
        "ECS_RESERVED_MEMORY": "64",
    }
    environment = agent_environment(parse(["agent", "--zone", "eu-west-1b"]), directory, {**shell, "HOMEPORT_ROOT_ACCESS_KEY_ID": "root"})
    assert environment["ECS_BACKEND_HOST"] == CREDENTIALS["endpoint"]
    assert environment["HOMEPORT_IDENTITY"] == str(directory.path / "agent" / "host.json")
    assert not {CREDENTIALS["access_key_id"], CREDENTIALS["secret_access_key"]} & set(environment.values()), "the root's key is not the agent's"
    assert environment["HOMEPORT_INSTALLATION"] == CREDENTIALS["installation_id"]
    assert environment["HOMEPORT_ZONE"] == "eu-west-1b"
    assert environment["ECS_RESERVED_MEMORY"] == "64"
    assert 9123 in json.loads(environment["ECS_RESERVED_PORTS"])
    assert not environment.keys() & {"AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "HOMEPORT_ROOT_ACCESS_KEY_ID"}


def test_the_capacity_provider_that_was_typed_wins_over_the_shells(directory):
    shell = {"HOMEPORT_CAPACITY_PROVIDER": "other"}
    assert agent_environment(parse(["up", "--capacity-provider", "burst"]), directory, shell)["HOMEPORT_CAPACITY_PROVIDER"] == "burst"
    assert agent_environment(parse(["agent"]), directory, shell)["HOMEPORT_CAPACITY_PROVIDER"] == "other"
    with pytest.raises(SystemExit):
        parse(["agent", "--capacity-provider", "a b"])


def test_an_agent_of_another_machine_needs_keys(tmp_path):
    options, directory = parse(["agent", "--endpoint", "https://control.example"]), DataDirectory(tmp_path)
    with pytest.raises(CommandError, match="AWS_ACCESS_KEY_ID"):
        agent_environment(options, directory, {})
    directory.join("0123456789abcdef")
    environment = agent_environment(options, directory, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "ECS_CLUSTER": "prod"})
    assert environment["HOMEPORT_INSTALLATION"] == directory.installation_id() == "0123456789abcdef"
    assert (environment["ECS_BACKEND_HOST"], environment["ECS_CLUSTER"]) == ("https://control.example", "prod")


HOST = Host(
    installation="fedcba9876543210",
    endpoints="https://a.example,https://b.example",
    token_id="abcdefghij12",
    private_key=bytes(32),
    identity="hi-0123456789abcdef0",
    cluster="prod",
    region="eu-west-1",
)


def test_a_machine_that_joined_needs_no_more_than_its_own_file(tmp_path):
    directory = DataDirectory(tmp_path)
    host_file.write(directory.host, HOST)
    directory.host_ca.write_text("certificate")
    shell = {"AWS_SESSION_TOKEN": "x", "AWS_CA_BUNDLE": "/etc/ssl/system.pem", "HOMEPORT_JOIN_TOKEN": "hpj1"}
    environment = agent_environment(parse(["agent"]), directory, shell)
    assert environment["ECS_BACKEND_HOST"] == HOST.endpoints
    assert (environment["ECS_CLUSTER"], environment["AWS_DEFAULT_REGION"]) == ("prod", "eu-west-1")
    assert environment["HOMEPORT_INSTALLATION"] == HOST.installation
    assert environment["HOMEPORT_IDENTITY"] == str(directory.host)
    assert environment["HOMEPORT_CA_FILE"] == str(directory.host_ca)
    assert not environment.keys() & {"AWS_SESSION_TOKEN", "HOMEPORT_JOIN_TOKEN"}


def test_keys_of_the_shell_do_not_come_before_what_a_machine_joined_with_but_serve_for_servers_that_it_did_not_join(tmp_path):
    directory = DataDirectory(tmp_path)
    host_file.write(directory.host, HOST)
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "HOMEPORT_INSTALLATION": "0123456789abcdef"}
    joined = agent_environment(parse(["agent", "--server", "https://b.example"]), directory, keys)
    assert "AWS_ACCESS_KEY_ID" not in joined
    other = agent_environment(parse(["agent", "--server", "https://c.example"]), directory, keys)
    assert (other["AWS_ACCESS_KEY_ID"], "HOMEPORT_IDENTITY" in other) == ("a", False)


def test_what_up_told_its_agent_stays_so_when_the_agent_reads_it(directory):
    host_file.write(directory.host, HOST)
    told = agent_environment(parse(["up"]), directory, {"PATH": "/bin"})
    again = agent_environment(parse(["agent"]), directory, told)
    assert {name: again[name] for name in ("ECS_BACKEND_HOST", "HOMEPORT_IDENTITY", "ECS_CLUSTER")} == {
        name: told[name] for name in ("ECS_BACKEND_HOST", "HOMEPORT_IDENTITY", "ECS_CLUSTER")
    }
    assert "AWS_ACCESS_KEY_ID" not in again
