"""A certificate authority, and the certificates that it issues.

Owns: `Authority`, `Wanted`, what stands in a certificate. Never touches a file and never reads a clock: `files.py` keeps what this makes.
Keys are ECDSA P-256. The library draws keys and serial numbers from the operating system itself; no simulation makes any.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from homeport.model.secret import hides
from homeport.tls.contexts import CertificateError
from homeport.tls.names import SERVER_URI

SKEW_SECONDS: Final = 300
"""A certificate counts from so long before it was made, for clocks that are behind."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a certificate is to say."""

    subject: str
    """Shown to people; nothing is decided by it."""
    names: tuple[str, ...] = ()
    """DNS names and IP addresses under which its holder is reached."""
    server: str = ""
    """Name of the server of the installation that its holder is; "" for any other program, such as a member of etcd."""


@hides("key")
class Certificate(msgspec.Struct, frozen=True):
    """A certificate with its key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """What signs. Without its key it can only be trusted."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None) -> None:
        """Raises CertificateError when the key is another's."""
        if key is not None and key.public_key() != certificate.public_key():
            raise CertificateError("the authority's key is not the one of its certificate")
        self.certificate = certificate
        self.key = key

    @classmethod
    def make(cls, *, now: float, seconds: float) -> Authority:
        """A new one that counts for `seconds`."""
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        name = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Homeport"), x509.NameAttribute(NameOID.COMMON_NAME, f"Homeport CA {serial:x}"[:24])]
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(_instant(now - SKEW_SECONDS))
            .not_valid_after(_instant(now + seconds))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(made.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, certificate: bytes, key: bytes | None) -> Authority:
        """The first certificate of a PEM bundle, with its key if there is one. Raises CertificateError."""
        try:
            read = x509.load_pem_x509_certificate(certificate)
            opened = serialization.load_pem_private_key(key, None) if key is not None else None
        except (ValueError, TypeError) as error:
            raise CertificateError(f"the authority cannot be read: {error}") from None
        if opened is not None and not isinstance(opened, ec.EllipticCurvePrivateKey):
            raise CertificateError("the authority's key is no elliptic curve key")
        return cls(read, opened)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Its key. Raises CertificateError when it is not here."""
        return _pem(self._signing_key())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate, hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def issue(self, wanted: Wanted, *, now: float, seconds: float) -> Certificate:
        """A certificate that counts for `seconds`, or as long as the authority if that is less; good for both ends of a connection.

        Raises CertificateError when the authority's key is not here.
        """
        signing, key = self._signing_key(), ec.generate_private_key(ec.SECP256R1())
        until = min(_instant(now + seconds), self.certificate.not_valid_after_utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.subject[:64])]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_instant(now - SKEW_SECONDS))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        )
        if alternatives := _alternatives(wanted):
            made = made.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        signed = made.sign(signing, hashes.SHA256())
        return Certificate(signed.public_bytes(serialization.Encoding.PEM), _pem(key))

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether `certificate` is signed by this authority."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        if self.key is None:
            raise CertificateError("the authority's key is not here, so that no certificate can be made")
        return self.key


def read_certificate(pem: bytes) -> x509.Certificate:
    """The first certificate in `pem`. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError(f"the certificate cannot be read: {error}") from None


def wanted_of(certificate: x509.Certificate) -> Wanted:
    """What a certificate of ours was issued for, so that the next one is the same."""
    subject = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = x509.SubjectAlternativeName([])
    names = (*found.get_values_for_type(x509.DNSName), *(str(address) for address in found.get_values_for_type(x509.IPAddress)))
    servers = [uri.removeprefix(SERVER_URI) for uri in found.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(SERVER_URI)]
    return Wanted(subject=str(subject[0].value) if subject else "", names=names, server=next(iter(servers), ""))


def is_due(certificate: x509.Certificate, now: float) -> bool:
    """Whether less than a third of its time is left."""
    end = certificate.not_valid_after_utc.timestamp()
    lifetime = end - certificate.not_valid_before_utc.timestamp() - SKEW_SECONDS
    return end - now < lifetime / 3


def _alternatives(wanted: Wanted) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(wanted.names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    if wanted.server:
        found.append(x509.UniformResourceIdentifier(SERVER_URI + wanted.server))
    return found


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _instant(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
