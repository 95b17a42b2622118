"""What joins where, before anything is sent; and what names a host."""

from __future__ import annotations

import http.server
import io
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.cli.arguments import parse
from homeport.cli.installation import DataDirectory
from homeport.cli.instance import named
from homeport.cli.join import become_host, join
from homeport.cli.terminal import CommandError, Terminal
from homeport.clock import SystemClock
from homeport.iam import host as host_file
from homeport.iam.host import Host
from homeport.tls.authority import Authority, Wanted
from homeport.tls.contexts import fingerprints

TOKEN = "hpj1.abcdefghij12." + "0" * 64
TERMINAL = Terminal(SystemClock())


class Pages(http.server.BaseHTTPRequestHandler):
    """Shows a certificate and says of which installation it is; takes nothing."""

    shown = ""
    asked: list[str] = []  # noqa: RUF012 - of the class that a test makes

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = self.shown.encode() if self.path == "/ca.pem" else b'{"installationId":"0123456789abcdef"}'
        self._answer(200, body)

    def do_POST(self) -> None:
        self.asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self._answer(400, b'{"__type":"InvalidParameterException","message":"not today"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Server:
    """An https server with a certificate of `authority`."""

    def __init__(self, directory: Path, authority: Authority, shown: str) -> None:
        made = authority.issue(Wanted(subject="test", names=("127.0.0.1",), server="test"), now=SystemClock().now(), seconds=3600)
        file = directory / "server.pem"
        file.write_bytes(made.certificate + made.key)
        self.pages = type("Pages", (Pages,), {"shown": shown, "asked": []})
        self._server = http.server.HTTPServer(("127.0.0.1", 0), self.pages)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"https://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def authority() -> Authority:
    return Authority.make(now=SystemClock().now(), seconds=3600)


@pytest.fixture
def server(tmp_path, authority) -> Iterator[Server]:
    made = Server(tmp_path, authority, authority.pem.decode())
    yield made
    made.close()


def attempt(directory: Path, text: str, url: str) -> None:
    join(DataDirectory(directory), text, endpoints=[url], ca_file="", terminal=TERMINAL)


def test_a_token_names_the_authority_and_no_other_server_sees_it(server, authority, tmp_path):
    host = tmp_path / "host"
    with pytest.raises(CommandError, match="not today"):
        attempt(host, f"{TOKEN}.{authority.fingerprint}", server.url)
    assert DataDirectory(host).host_ca.read_text() == authority.pem.decode()
    assert "0" * 64 in server.pages.asked[-1]
    server.pages.asked.clear()
    with pytest.raises(CommandError, match="not the one that the token names"):
        attempt(host, f"{TOKEN}.{'f' * 64}", server.url)
    with pytest.raises(CommandError, match="no server of an installation answers"):
        attempt(host, TOKEN, server.url)  # without a name only whom the system trusts
    assert not [asked for asked in server.pages.asked if "token" in asked]


def test_a_server_that_shows_a_certificate_which_is_not_its_own_gets_no_token(tmp_path, authority):
    """Whoever stands between can show what the real server shows, but not prove to be it."""
    thief = Server(tmp_path, Authority.make(now=SystemClock().now(), seconds=3600), authority.pem.decode())
    try:
        with pytest.raises(CommandError, match="CERTIFICATE_VERIFY_FAILED"):
            attempt(tmp_path / "host", f"{TOKEN}.{authority.fingerprint}", thief.url)
        assert thief.pages.asked == ["/ca.pem"]
    finally:
        thief.close()


def test_of_what_a_stranger_shows_only_the_named_certificate_is_kept(tmp_path, authority):
    other = Authority.make(now=SystemClock().now(), seconds=3600)
    both = Server(tmp_path, authority, other.pem.decode() + authority.pem.decode())
    try:
        with pytest.raises(CommandError, match="not today"):
            attempt(tmp_path / "host", f"{TOKEN}.{authority.fingerprint}", both.url)
        assert fingerprints(DataDirectory(tmp_path / "host").host_ca.read_text()) == [authority.fingerprint]
    finally:
        both.close()


def test_no_token_goes_to_another_machine_in_the_clear_nor_to_a_server_that_should_speak_tls_and_does_not(tmp_path):
    with pytest.raises(CommandError, match="over https only"):
        attempt(tmp_path, TOKEN, "http://100.64.0.9:8470")
    with pytest.raises(CommandError, match="does not"):
        attempt(tmp_path, f"{TOKEN}.{'f' * 64}", "http://127.0.0.1:9")


def test_a_token_that_was_joined_with_already_changes_nothing(tmp_path, monkeypatch):
    directory = DataDirectory(tmp_path)
    host_file.write(directory.host, Host(installation="0", endpoints="https://a.example", token_id="abcdefghij12", private_key=b"k", identity="hi-0"))
    before = directory.host.read_bytes()
    assert not become_host(parse(["agent", "--join", TOKEN, "--server", "https://a.example"]), directory, {}, TERMINAL)
    monkeypatch.setattr("sys.stdin", io.StringIO(TOKEN + "\n"))
    assert not become_host(parse(["agent", "--join", "-"]), directory, {"ECS_BACKEND_HOST": "https://a.example"}, TERMINAL)
    assert directory.host.read_bytes() == before
    with pytest.raises(CommandError, match="--server"):
        become_host(parse(["agent", "--join", TOKEN]), directory, {}, TERMINAL)


def test_a_host_is_named_by_its_id_or_its_container_instance():
    arn = "arn:aws:ecs:us-east-1:123456789012:container-instance/default/"
    hosts = [
        {"identityId": "hi-1", "containerInstanceArn": f"{arn}abcd{'0' * 28}"},
        {"identityId": "hi-2", "containerInstanceArn": f"{arn}abce{'0' * 28}"},
        {"identityId": "hi-3"},
    ]
    assert named(hosts, "hi-3") == hosts[2]
    assert named(hosts, "abcd") == named(hosts, f"{arn}abcd{'0' * 28}") == hosts[0]
    for text in ("abc", "", "hi", "ffff"):
        with pytest.raises(CommandError, match="names no hosts"):
            named(hosts, text)
    with pytest.raises(CommandError, match="names 2 hosts"):
        named([*hosts, {"identityId": "hi-4", "containerInstanceArn": f"{arn}abcd1"}], "abcd")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800)])
def test_how_long_a_token_is_good(text, seconds):
    assert parse(["token", "create", "--expires", text]).expires == seconds


def test_a_time_that_is_none(capsys):
    with pytest.raises(SystemExit):
        parse(["token", "create", "--expires", "soon"])
    assert "a time looks like" in capsys.readouterr().err
