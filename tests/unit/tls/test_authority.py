from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store

from homeport.tls.authority import SKEW_SECONDS, Authority, Wanted, is_due, read_certificate, wanted_of
from homeport.tls.contexts import CertificateError

NOW, DAY = 1_000_000_000.0, 86_400.0
WANTED = Wanted(subject="web", names=("web.example", "100.64.1.2", "fd00::1"), server="a")


def authority(seconds: float = 100 * DAY) -> Authority:
    return Authority.make(now=NOW, seconds=seconds)


def test_a_certificate_says_what_was_wanted_and_is_made_again_the_same():
    issued = read_certificate(authority().issue(WANTED, now=NOW, seconds=DAY).certificate)
    found = wanted_of(issued)
    assert (found.subject, set(found.names), found.server) == ("web", set(WANTED.names), "a")
    again = read_certificate(authority().issue(found, now=NOW, seconds=DAY).certificate)
    assert set(wanted_of(again).names) == set(WANTED.names)
    assert again.serial_number != issued.serial_number
    nobody = read_certificate(authority().issue(Wanted(subject="etcd-client"), now=NOW, seconds=DAY).certificate)
    assert wanted_of(nobody) == Wanted(subject="etcd-client")


def test_a_strict_verifier_takes_it_for_the_names_that_it_has_and_no_other():
    made = authority()
    leaf = read_certificate(made.issue(WANTED, now=NOW, seconds=DAY).certificate)
    at = datetime.datetime.fromtimestamp(NOW, datetime.UTC).replace(tzinfo=None)

    def verify(name: str, *, trusted: Authority = made, days: int = 0) -> None:
        policy = PolicyBuilder().store(Store([trusted.certificate])).time(at + datetime.timedelta(days=days))
        policy.build_server_verifier(x509.DNSName(name)).verify(leaf, [])

    verify("web.example")
    for name, trusted, days in (("other.example", made, 0), ("web.example", authority(), 0), ("web.example", made, 2)):
        with pytest.raises(x509.verification.VerificationError):
            verify(name, trusted=trusted, days=days)


def test_keys_are_p256_and_the_authority_signs_certificates_of_no_authority():
    made = authority()
    leaf = read_certificate(made.issue(WANTED, now=NOW, seconds=DAY).certificate)
    assert isinstance(made.certificate.public_key(), ec.EllipticCurvePublicKey)
    assert leaf.public_key().curve.name == made.certificate.public_key().curve.name == "secp256r1"
    assert made.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_certificate_outlives_its_authority():
    leaf = read_certificate(authority(seconds=DAY).issue(WANTED, now=NOW, seconds=50 * DAY).certificate)
    assert leaf.not_valid_after_utc.timestamp() == NOW + DAY
    assert leaf.not_valid_before_utc.timestamp() == NOW - SKEW_SECONDS


def test_it_is_due_when_less_than_a_third_of_its_time_is_left():
    leaf = read_certificate(authority().issue(WANTED, now=NOW, seconds=30.0).certificate)
    assert [is_due(leaf, NOW + passed) for passed in (0, 19, 21, 31)] == [False, False, True, True]


def test_an_authority_is_read_with_its_own_key_or_none():
    made, other = authority(), authority()
    assert Authority.read(made.pem + other.pem, made.key_pem).issued(read_certificate(made.issue(WANTED, now=NOW, seconds=1).certificate))
    trusted = Authority.read(made.pem, None)
    assert trusted.fingerprint == made.fingerprint != other.fingerprint
    with pytest.raises(CertificateError, match="key is not here"):
        trusted.issue(WANTED, now=NOW, seconds=1)
    with pytest.raises(CertificateError, match="not the one of its certificate"):
        Authority.read(made.pem, other.key_pem)
    for certificate, key in ((b"-", made.key_pem), (made.pem, b"-")):
        with pytest.raises(CertificateError, match="cannot be read"):
            Authority.read(certificate, key)
    with pytest.raises(CertificateError):
        read_certificate(b"nothing")


def test_another_authority_of_the_same_name_did_not_issue_it():
    leaf = read_certificate(authority().issue(WANTED, now=NOW, seconds=DAY).certificate)
    assert not authority().issued(leaf)
