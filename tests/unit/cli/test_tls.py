from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from homeport.cli import programs
from homeport.cli.arguments import parse
from homeport.cli.client import connection_to
from homeport.cli.env import env
from homeport.cli.group import EtcdMember, Group, Starter, group_of, kept_group
from homeport.cli.installation import DataDirectory
from homeport.cli.start import agent_environment
from homeport.cli.terminal import CommandError, Terminal
from homeport.cli.tls import tls
from homeport.clock import SystemClock
from homeport.store.address import parse_address
from homeport.tls import files
from homeport.tls.authority import Wanted, wanted_of
from homeport.tls.contexts import CertificateError

TERMINAL = Terminal(SystemClock())
MEMBERS = (EtcdMember("etcd-1", 8490, 8500),)


def typed(directory: Path, *words: str) -> argparse.Namespace:
    return parse(["tls", *words, "--data-dir", str(directory)])


def write_credentials(directory: Path, **more: str) -> None:
    known = {"access_key_id": "AKIA", "secret_access_key": "s", "region": "eu-west-1", "account_id": "1" * 12, "installation_id": "0" * 16}
    directory.mkdir(exist_ok=True)
    (directory / "credentials.json").write_text(json.dumps({"endpoint": "https://100.64.7.1:8470", **known, **more}))


@pytest.fixture
def directory(tmp_path) -> Path:
    files.ensure_authority(tmp_path / "tls", now=time.time(), seconds=1e6)
    return tmp_path


def test_status_shows_every_certificate_and_until_when_it_counts(directory, capsys):
    own = directory / "server-2" / "tls" / "server.pem"
    wanted = Wanted(subject="server-2", names=("127.0.0.1",), server="server-2")
    files.ensure_certificate(own, wanted, files.authority_in(directory / "tls"), now=time.time(), seconds=10 * 86_400 + 60)
    assert tls(typed(directory, "status", "--json"), TERMINAL) == 0
    authority, server = json.loads(capsys.readouterr().out)
    assert (authority["kind"], server["kind"], server["daysLeft"], server["names"]) == ("authority, signs", "server server-2", 10, ["127.0.0.1"])
    tls(typed(directory, "status"), TERMINAL)
    assert str(own) in capsys.readouterr().out
    with pytest.raises(CommandError, match="no certificate authority"):
        tls(typed(directory / "nowhere", "status"), TERMINAL)


def test_a_certificate_is_issued_into_a_new_file(directory):
    made = directory / "etcd.pem"
    tls(typed(directory, "issue", str(made), "--names", "etcd.example,100.64.1.2", "--days", "3"), TERMINAL)
    held = files.certificate_in(made)
    assert set(wanted_of(held).names) == {"etcd.example", "100.64.1.2"} and wanted_of(held).server == ""
    assert 2 < (held.not_valid_after_utc.timestamp() - time.time()) / 86_400 < 3.01
    assert made.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CommandError, match="already"):
        tls(typed(directory, "issue", str(made)), TERMINAL)
    tls(typed(directory / "new", "issue", str(directory / "first.pem")), TERMINAL)
    assert files.authority_in(directory / "new" / "tls").issued(files.certificate_in(directory / "first.pem"))
    tls(typed(directory, "issue", str(directory / "b.pem"), "--server", "b"), TERMINAL)
    assert wanted_of(files.certificate_in(directory / "b.pem")).server == "b"


def test_another_authority_takes_over_and_the_old_one_goes_only_when_nobody_shows_it(directory, capsys):
    own = directory / "tls" / "server.pem"
    before = files.authority_in(directory / "tls")
    files.ensure_certificate(own, Wanted(subject="a"), before, now=time.time(), seconds=1000)
    tls(typed(directory, "rotate", "prepare"), TERMINAL)
    with pytest.raises(CertificateError, match="does not sign yet"):
        tls(typed(directory, "rotate", "finish"), TERMINAL)
    tls(typed(directory, "rotate", "switch"), TERMINAL)
    with pytest.raises(CommandError, match=r"still of the old authority.*server\.pem"):
        tls(typed(directory, "rotate", "finish"), TERMINAL)
    now = files.authority_in(directory / "tls")
    files.renew_all(directory / "tls", now, now=time.time(), seconds=1000)
    tls(typed(directory, "rotate", "finish"), TERMINAL)
    assert "1 older authorities" in capsys.readouterr().err
    assert now.fingerprint != before.fingerprint
    assert len(files.trusted_in(directory / "tls")) == 1


def test_members_of_etcd_that_do_not_trust_the_new_authority_yet_hold_it_up(directory):
    group = Group(port=8470, etcd=MEMBERS, token="t", etcd_tls=True)
    (directory / "group.json").write_bytes(msgspec.json.encode(group))
    held = DataDirectory(directory)
    files.prepare_next(held.tls, now=time.time(), seconds=1e6)
    # Another process holds the lock: its own locks a process does not see.
    script = (
        "import sys, time; from pathlib import Path\n"
        "from homeport.cli import programs; from homeport.cli.installation import DataDirectory\n"
        "with programs.claim(DataDirectory(Path(sys.argv[1])), 'etcd-1'):\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            os.utime(held.run / "etcd-1.lock", (1, 1))
            assert programs.started_at(held, "etcd-1") == 1
            with pytest.raises(CommandError, match="etcd-1 began before"):
                tls(typed(directory, "rotate", "switch"), TERMINAL)
            os.utime(held.run / "etcd-1.lock")
            tls(typed(directory, "rotate", "switch"), TERMINAL)
        finally:
            process.kill()


def test_env_tells_whom_to_trust_only_where_somebody_must_be_told(tmp_path, capsys):
    for ca_file, lines in (("/d/tls/ca.pem", 1), ("", 0)):
        write_credentials(tmp_path, ca_file=ca_file)
        env(parse(["env", "--data-dir", str(tmp_path)]), TERMINAL, {})
        assert capsys.readouterr().out.count("export AWS_CA_BUNDLE='/d/tls/ca.pem'") == lines


def test_the_local_agent_trusts_its_server_whatever_the_shell_trusts(tmp_path):
    write_credentials(tmp_path, ca_file="/d/tls/ca.pem")
    local = agent_environment(
        parse(["agent", "--data-dir", str(tmp_path)]), DataDirectory(tmp_path), {"AWS_CA_BUNDLE": "/other", "HOMEPORT_CA_FILE": "/o"}
    )
    assert local["HOMEPORT_CA_FILE"] == "/d/tls/ca.pem" and "AWS_CA_BUNDLE" not in local
    shell = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s", "HOMEPORT_INSTALLATION": "x"}
    bundle = tmp_path / "given.pem"
    bundle.touch()
    for words, environ, expected in ((["--ca-file", str(bundle)], {}, str(bundle)), ([], {"AWS_CA_BUNDLE": "/sdk"}, "/sdk"), ([], {}, None)):
        options = parse(["agent", "--endpoint", "https://api.example", *words, "--data-dir", str(tmp_path)])
        assert agent_environment(options, DataDirectory(tmp_path), {**shell, **environ}).get("HOMEPORT_CA_FILE") == expected


def test_a_connection_of_the_command_line_is_as_the_endpoint_says(directory):
    assert type(connection_to("http://127.0.0.1:1", "", timeout_seconds=1)).__name__ == "HTTPConnection"
    assert type(connection_to("https://a:1", str(directory / "tls" / "ca.pem"), timeout_seconds=1)).__name__ == "HTTPSConnection"
    with pytest.raises(CertificateError, match="nothing"):
        connection_to("https://a:1", str(directory / "nothing"), timeout_seconds=1)


def test_the_own_etcd_of_a_new_group_speaks_tls_and_one_of_before_goes_on_as_it_was(tmp_path):
    held = DataDirectory(tmp_path)
    old = Group(port=8470, etcd=MEMBERS, token="t")
    (tmp_path / "group.json").write_text(json.dumps({"port": 8470, "etcd": [{"name": "etcd-1", "port": 8490, "peer_port": 8500}], "token": "t"}))
    assert kept_group(held) == old and "ca=" not in old.store_of(tmp_path) and old.scheme == "http"
    new = msgspec.structs.replace(old, etcd_tls=True)
    address = parse_address(new.store_of(tmp_path))
    assert address.ca == tmp_path / "tls" / "ca.pem"
    assert address.certificate == address.key == tmp_path / "tls" / "etcd-client.pem"
    secured = group_of(held, servers=None, port=None, default_port=1, tls=True)
    assert secured is not None and secured.tls and kept_group(held) == secured
    assert group_of(held, servers=None, port=None, default_port=1) == secured


def test_members_of_etcd_are_given_certificates_that_both_ends_verify(tmp_path):
    group = Group(port=8470, etcd=MEMBERS, token="t", etcd_tls=True)
    starter = Starter(group, argparse.Namespace(settings=[]), DataDirectory(tmp_path), TERMINAL, {})
    options = starter._certify(MEMBERS[0])
    for side in ("", "peer-"):
        assert options[f"{side}client-cert-auth"] == "true"
        assert options[f"{side}trusted-ca-file"] == str(tmp_path / "tls" / "ca.pem")
        assert options[f"{side}cert-file"] == options[f"{side}key-file"] == str(tmp_path / "tls" / "etcd-1.pem")
    assert "127.0.0.1" in wanted_of(files.certificate_in(tmp_path / "tls" / "etcd-1.pem")).names
    assert wanted_of(files.certificate_in(tmp_path / "tls" / "etcd-client.pem")) == Wanted(subject="etcd-client")
