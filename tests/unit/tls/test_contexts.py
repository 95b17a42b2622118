"""Handshakes between our contexts and others, in memory: what is refused, and what the next connection has after a change."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from homeport.tls import files
from homeport.tls.authority import Authority, Wanted
from homeport.tls.contexts import CertificateError, Swapped, Trust, client_context, server_context
from homeport.tls.names import server_named

DAY = 86_400.0


class Pair:
    """Two ends of one connection."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1", session: ssl.SSLSession | None = None) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name, session=session)
        self.server = server.wrap_bio(up, down, server_side=True)
        done: set[ssl.SSLObject] = set()
        for _ in range(6):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                    done.add(end)
                except ssl.SSLWantReadError:
                    continue
        assert done == {self.client, self.server}
        # In TLS 1.3 the client is done before the server has looked at its certificate.
        self.say()

    def say(self) -> bytes:
        self.client.write(b"hello")
        heard = self.server.read(5)
        self.server.write(b"world")
        return heard + self.client.read(5)


class House:
    """An authority and its certificates."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = files.ensure_authority(directory, now=time.time(), seconds=DAY)
        self.pem = self.authority.pem.decode()

    def certificate(
        self, name: str = "server", *, server: str = "", seconds: float = DAY, ago: float = 0.0, names: tuple[str, ...] = ("127.0.0.1",)
    ) -> Path:
        path = self.directory / f"{name}.pem"
        made = self.authority.issue(Wanted(subject=name, names=names, server=server), now=time.time() - ago, seconds=seconds)
        files.write(path, made.certificate + made.key)
        return path

    def listening(self, path: Path | None = None) -> ssl.SSLContext:
        return server_context(path or self.certificate(), None, authorities=self.pem)


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path / "tls")


@pytest.fixture
def stranger(tmp_path) -> House:
    return House(tmp_path / "stranger")


def test_the_newest_protocol_is_spoken_and_nobody_needs_a_certificate(house):
    pair = Pair(house.listening(), client_context(house.pem))
    assert pair.client.version() == "TLSv1.3"
    assert pair.say() == b"helloworld"
    assert pair.server.getpeercert() is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_2_is_spoken_with_forward_secrecy_only_and_nothing_older(house):
    def client(version: ssl.TLSVersion, ciphers: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=house.pem)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        context.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
        return context

    chosen = Pair(house.listening(), client(ssl.TLSVersion.TLSv1_2)).client.cipher()
    assert chosen is not None and chosen[0].startswith("ECDHE-ECDSA-") and ("GCM" in chosen[0] or "CHACHA20" in chosen[0])
    for version, ciphers in (
        (ssl.TLSVersion.TLSv1_1, ""),
        (ssl.TLSVersion.TLSv1, ""),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:@SECLEVEL=0"),
    ):
        with pytest.raises(ssl.SSLError):
            Pair(house.listening(), client(version, ciphers))
    ends = (house.listening(), Swapped(house.listening()).context, client_context(house.pem))
    assert {end.minimum_version for end in ends} == {ssl.TLSVersion.TLSv1_2}


def test_a_client_refuses_another_authority_another_name_and_what_has_expired(house, stranger):
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed|unable to get local issuer"):
        Pair(house.listening(), client_context(stranger.pem))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"100\.64\.1\.9"):
        Pair(house.listening(), client_context(house.pem), name="100.64.1.9")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        Pair(house.listening(house.certificate("old", seconds=60, ago=120)), client_context(house.pem))


def test_a_client_certificate_counts_only_if_our_authority_issued_it(house, stranger):
    def named(by: House, **options) -> str:
        pair = Pair(house.listening(), client_context(house.pem, own=by.certificate("client", **options)))
        return server_named((pair.server.getpeercert() or {}).get("subjectAltName", ()))

    assert named(house, server="server-2") == "server-2"
    assert named(house) == ""
    for options in ({"by": stranger, "server": "server-2"}, {"by": house, "server": "server-2", "seconds": 60, "ago": 120}):
        with pytest.raises(ssl.SSLError):
            named(**options)


def test_a_name_that_only_looks_like_a_servers_is_none():
    assert server_named((("DNS", "homeport://server/a"), ("URI", "http://homeport://server/a"), ("URI", "homeport://serve/a"))) == ""


@pytest.mark.parametrize("swapped", [False, True])
def test_no_session_is_resumed_so_that_every_connection_shows_its_certificate(house, swapped):
    listening = Swapped(house.listening()).context if swapped else house.listening()
    client = client_context(house.pem, own=house.certificate("client", server="a"))
    assert client.minimum_version == ssl.TLSVersion.TLSv1_3
    first = Pair(listening, client)
    assert first.client.session is None or not first.client.session.has_ticket
    second = Pair(listening, client, session=first.client.session)
    assert not second.server.session_reused and not second.client.session_reused
    older = client_context(house.pem)
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    held = Pair(listening, older).client.session
    assert held is not None and not held.has_ticket


def test_the_next_connection_has_the_new_certificate_and_the_open_one_goes_on(house):
    def serial(pair: Pair) -> str:
        certificate = pair.client.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])

    listener, client = Swapped(house.listening()), client_context(house.pem)
    before = Pair(listener.context, client)
    listener.use(house.listening(house.certificate()))
    after = Pair(listener.context, client)
    assert serial(before) != serial(after)
    assert before.say() == after.say() == b"helloworld"


def test_whom_a_listener_trusts_changes_with_it_as_well(house, stranger):
    listener = Swapped(house.listening())
    client = client_context(house.pem, own=stranger.certificate("client", server="x"))
    with pytest.raises(ssl.SSLError):
        Pair(listener.context, client)
    listener.use(server_context(house.certificate(), None, authorities=house.pem + stranger.pem))
    assert server_named(Pair(listener.context, client).server.getpeercert()["subjectAltName"]) == "x"
    listener.use(house.listening())
    with pytest.raises(ssl.SSLError):
        Pair(listener.context, client)


def test_a_client_takes_a_replaced_file_and_keeps_what_it_had_when_that_is_broken(house, stranger, tmp_path):
    file = tmp_path / "ca-file.pem"
    file.write_text(stranger.pem)
    trust = Trust(str(file))
    with pytest.raises(ssl.SSLError):
        Pair(house.listening(), trust.context)
    file.write_text(stranger.pem + house.pem)
    context = trust.context
    assert Pair(house.listening(), context)
    file.write_text("half a certif")
    assert trust.context is context
    file.unlink()
    assert trust.context is context
    with pytest.raises(CertificateError, match="ca-file"):
        Trust(str(file))


def test_what_cannot_be_used_is_named(house, stranger, tmp_path):
    with pytest.raises(CertificateError, match=r"nowhere\.pem"):
        server_context(tmp_path / "nowhere.pem", None, authorities=house.pem)
    with pytest.raises(CertificateError, match="cannot be used"):
        server_context(house.certificate(), stranger.certificate(), authorities=house.pem)
    with pytest.raises(CertificateError):
        client_context("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    from cryptography.hazmat.primitives import serialization

    sealed = tmp_path / "sealed.pem"
    key = Authority.make(now=0, seconds=1).key
    sealed.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")))
    with pytest.raises(CertificateError, match="encrypted"):
        server_context(house.certificate(), sealed, authorities=house.pem)
