from __future__ import annotations

import stat
from pathlib import Path

import pytest

from homeport.tls import files
from homeport.tls.authority import Wanted, read_certificate, wanted_of
from homeport.tls.contexts import CertificateError

NOW = 1_000_000_000.0
WANTED = Wanted(subject="a", names=("127.0.0.1",), server="a")


def made(directory: Path, now: float = NOW):
    return files.ensure_authority(directory, now=now, seconds=1e6)


def test_the_authority_is_made_once_and_its_key_is_for_its_owner_alone(tmp_path):
    first = made(tmp_path / "tls")
    assert made(tmp_path / "tls").fingerprint == first.fingerprint
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").iterdir()}
    assert modes["ca.key"] == 0o600 and modes["ca.pem"] == 0o644
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert files.authority_in(tmp_path) is None
    (tmp_path / "tls" / "ca.key").unlink()
    assert made(tmp_path / "tls").key is None  # it is trusted, and never silently another one


def test_a_certificate_is_made_again_only_for_a_reason(tmp_path):
    authority, path = made(tmp_path), tmp_path / "server.pem"

    def ensure(wanted: Wanted = WANTED, now: float = NOW, by=authority) -> bool:
        return files.ensure_certificate(path, wanted, by, now=now, seconds=90.0)

    assert ensure() and not ensure()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not ensure(Wanted(subject="another title", names=("127.0.0.1",), server="a"))
    assert ensure(Wanted(subject="a", names=("127.0.0.1", "x"), server="a"))
    assert ensure(Wanted(subject="a", names=("127.0.0.1", "x"), server="b"))
    assert ensure(now=NOW + 61) is True and ensure(now=NOW + 62) is False
    path.write_bytes(b"torn")
    assert ensure(now=NOW + 63)
    assert ensure(now=NOW + 63, by=made(tmp_path / "other"))


def test_all_of_a_directory_that_are_due_are_renewed_for_what_they_were_made_for(tmp_path):
    authority = made(tmp_path)
    for name, seconds in (("etcd-1", 90.0), ("etcd-2", 9_000.0)):
        files.ensure_certificate(
            tmp_path / f"{name}.pem", Wanted(subject=name, names=("localhost", "127.0.0.1")), authority, now=NOW, seconds=seconds
        )
    (tmp_path / "foreign.pem").write_bytes(b"not ours to touch")
    assert files.renew_all(tmp_path, authority, now=NOW, seconds=90.0) == []
    assert files.renew_all(tmp_path, authority, now=NOW + 80, seconds=90.0) == [tmp_path / "etcd-1.pem"]
    renewed = read_certificate((tmp_path / "etcd-1.pem").read_bytes())
    assert wanted_of(renewed) == Wanted(subject="etcd-1", names=("localhost", "127.0.0.1"))
    assert renewed.not_valid_after_utc.timestamp() == NOW + 170
    assert (tmp_path / "foreign.pem").read_bytes() == b"not ours to touch"


def test_another_authority_takes_over_in_three_steps_and_the_old_is_trusted_until_the_last(tmp_path):
    old = made(tmp_path)
    files.ensure_certificate(tmp_path / "server.pem", WANTED, old, now=NOW, seconds=1e5)
    for step in (files.switch_to_next, lambda directory: files.prepare_next(directory, now=NOW, seconds=1e6)):
        if step is files.switch_to_next:
            with pytest.raises(CertificateError, match="no other authority"):
                step(tmp_path)
        else:
            new = step(tmp_path)
    assert files.authority_in(tmp_path).fingerprint == old.fingerprint
    assert [each.serial_number for each in files.trusted_in(tmp_path)] == [old.certificate.serial_number, new.certificate.serial_number]
    assert files.renew_all(tmp_path, files.authority_in(tmp_path), now=NOW, seconds=1e5) == []
    with pytest.raises(CertificateError, match="to come already"):
        files.prepare_next(tmp_path, now=NOW, seconds=1e6)
    with pytest.raises(CertificateError, match="does not sign yet"):
        files.forget_old(tmp_path)
    assert stat.S_IMODE((tmp_path / "next.key").stat().st_mode) == 0o600

    files.switch_to_next(tmp_path)
    signing = files.authority_in(tmp_path)
    assert signing.fingerprint == new.fingerprint
    assert [each.serial_number for each in files.trusted_in(tmp_path)] == [new.certificate.serial_number, old.certificate.serial_number]
    assert files.renew_all(tmp_path, signing, now=NOW, seconds=1e5) == [tmp_path / "server.pem"]
    assert not (tmp_path / "next.key").exists()

    assert files.forget_old(tmp_path) == 1
    assert [each.serial_number for each in files.trusted_in(tmp_path)] == [new.certificate.serial_number]


def test_what_is_broken_is_named(tmp_path):
    made(tmp_path)
    (tmp_path / "ca.pem").write_bytes(b"?")
    with pytest.raises(CertificateError, match=r"ca\.pem"):
        files.authority_in(tmp_path)
    with pytest.raises(CertificateError, match=r"ca\.pem"):
        files.trusted_in(tmp_path)
