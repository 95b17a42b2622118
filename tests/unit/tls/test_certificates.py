from __future__ import annotations

import logging

import pytest
from tests.unit.tls.test_contexts import House, Pair, client_context

from homeport.errors import HomeportError
from homeport.tls import files
from homeport.tls.authority import Wanted, read_certificate, wanted_of
from homeport.tls.certificates import Certificates, Lifetimes, TlsFiles
from homeport.tls.contexts import CertificateError

WANTED = Wanted(subject="server", names=("127.0.0.1",), server="a")


class Clock:
    """Stands where it is put; the wall clock's time is what OpenSSL goes by."""

    def __init__(self) -> None:
        import time

        self.at = time.time()

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def certificates(directory, clock, *, own=None, wanted=WANTED, seconds=300.0, **foreign) -> Certificates:
    where = TlsFiles(authority=directory, own=own or directory, **foreign)
    return Certificates(where, wanted, clock=clock, lifetimes=Lifetimes(1e6, seconds, 1.0))


def shown(made: Certificates, ca_file) -> str:
    certificate = Pair(made.listener, client_context(ca_file.read_text())).client.getpeercert()
    return str(certificate["serialNumber"])


def test_what_is_missing_is_made_and_what_is_there_is_taken(tmp_path, clock):
    first = certificates(tmp_path, clock)
    second = certificates(tmp_path, clock)
    assert shown(first, tmp_path / "ca.pem") == shown(second, tmp_path / "ca.pem")
    assert list(first.fingerprints()) == [files.authority_in(tmp_path).fingerprint]


def test_servers_of_one_machine_share_the_authority_and_know_each_other(tmp_path, clock):
    one, two = (certificates(tmp_path, clock, own=tmp_path / name, wanted=Wanted(subject=name, names=("127.0.0.1",), server=name)) for name in "ab")
    peer = Pair(two.listener, one.client()).server.getpeercert()
    assert ("URI", "homeport://server/a") in peer["subjectAltName"]


def test_a_certificate_that_is_due_is_renewed_and_shown_to_who_comes_next(tmp_path, clock):
    made = certificates(tmp_path, clock)
    before, client = shown(made, tmp_path / "ca.pem"), made.client()
    clock.at += 100
    assert not made.look()
    clock.at += 101
    assert made.look()
    assert shown(made, tmp_path / "ca.pem") != before
    assert made.client() is not client
    assert not made.look()


def test_every_certificate_of_the_authoritys_directory_is_renewed_with_it(tmp_path, clock):
    made = certificates(tmp_path, clock, own=tmp_path / "server-1")
    member = tmp_path / "etcd-1.pem"
    files.ensure_certificate(member, Wanted(subject="etcd-1", names=("127.0.0.1",)), files.authority_in(tmp_path), now=clock.at, seconds=300.0)
    before = member.read_bytes()
    clock.at += 201
    assert made.look()
    assert member.read_bytes() != before


def test_files_that_somebody_replaced_are_taken_and_broken_ones_are_not(tmp_path, clock, caplog):
    house = House(tmp_path / "corporate")
    given = house.certificate()
    made = certificates(tmp_path, clock, certificate=given, ca=house.directory / "ca.pem")
    before = shown(made, house.directory / "ca.pem")
    assert Pair(made.listener, made.client()).server.getpeercert() is not None  # another server shows our own authority's
    with caplog.at_level(logging.ERROR):
        given.write_bytes(b"half a file")
        assert not made.look() and not made.look()
    assert len(caplog.records) == 1 and "stay as they are" in caplog.text
    assert shown(made, house.directory / "ca.pem") == before
    house.certificate()
    assert made.look()
    assert shown(made, house.directory / "ca.pem") != before


def test_the_end_of_a_certificate_that_is_not_ours_to_renew_is_told_once(tmp_path, clock, caplog):
    house = House(tmp_path / "corporate")
    given = house.certificate(seconds=600)
    with caplog.at_level(logging.WARNING):
        made = certificates(tmp_path / "tls", clock, certificate=given)
        made.look()
        assert not caplog.records
        clock.at += 401
        made.look()
        made.look()
        assert [record.message.partition(" counts until ")[0] for record in caplog.records] == [str(given)]
        house.certificate(seconds=600, ago=-401)
        made.look()
        clock.at += 401
        made.look()
        assert len(caplog.records) == 2
        ours = certificates(tmp_path / "own", clock, seconds=600)
        clock.at += 401
        ours.look()
        assert len(caplog.records) == 2, "ours are renewed, and nothing is to be told"


def test_the_own_certificate_is_made_anew_when_the_names_change(tmp_path, clock):
    certificates(tmp_path, clock)
    certificates(tmp_path, clock, wanted=Wanted(subject="server", names=("127.0.0.1", "api.example"), server="a"))
    assert "api.example" in wanted_of(read_certificate((tmp_path / "server.pem").read_bytes())).names


def test_without_the_authoritys_key_the_certificate_that_there_is_serves_on(tmp_path, clock):
    certificates(tmp_path, clock)
    (tmp_path / "ca.key").unlink()
    made = certificates(tmp_path, clock)
    clock.at += 250
    assert not made.look()
    assert shown(made, tmp_path / "ca.pem")
    (tmp_path / "server.pem").unlink()
    with pytest.raises(CertificateError, match="key is not here"):
        certificates(tmp_path, clock)


def test_an_authority_that_takes_over_is_followed_step_by_step(tmp_path, clock):
    made = certificates(tmp_path, clock)
    old = (tmp_path / "ca.pem").read_text()
    files.prepare_next(tmp_path, now=clock.at, seconds=1e6)
    assert made.look()
    both = (tmp_path / "ca.pem").read_text()
    assert Pair(made.listener, client_context(old))
    files.switch_to_next(tmp_path)
    assert made.look()
    assert Pair(made.listener, client_context(both)), "who trusts both sees nothing of it"
    assert Pair(made.listener, made.client())
    files.forget_old(tmp_path)
    assert made.look()
    assert len(made.fingerprints()) == 1
    assert Pair(made.listener, made.client())


async def test_a_change_is_told_and_what_comes_of_that_ends_nothing(tmp_path, clock):
    made, told = certificates(tmp_path, clock), []

    class EnoughError(Exception):
        pass

    async def changed() -> None:
        told.append(clock.at)
        if len(told) == 3:
            raise EnoughError
        raise HomeportError("the store is away")

    with pytest.raises(EnoughError):
        await made.keep(changed)
    assert len(told) == 3
