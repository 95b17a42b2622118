"""What OpenSSL is told: versions, ciphers, what is shown and who is trusted.

Owns: `server_context`, `client_context`, `Swapped` (a listener whose context can be another one for the next connection), `Trust`.
Never makes a certificate, and never accepts an older protocol or an unverified peer.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from homeport.errors import HomeportError

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""

Stamp = tuple[tuple[int, int, int] | None, ...]
"""What tells whether files are those of before."""


class CertificateError(HomeportError):
    """A certificate or a key cannot be read, or does not belong to the other."""


def server_context(shown: Path, key: Path | None, *, authorities: str) -> ssl.SSLContext:
    """What a listener shows (`key`: where the file `shown` does not have it), and whose client certificates it verifies (PEM; they are optional).

    In TLS 1.3 no session is resumed: each connection shows its certificates anew. Of TLS 1.2 Python cannot say so much: sessions live as long
    as OpenSSL's own cache of them. Raises CertificateError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    _load(context, shown, key)
    context.load_verify_locations(cadata=authorities)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(authorities: str, *, own: Path | None = None, system: bool = False) -> ssl.SSLContext:
    """Trust in `authorities` (PEM), and in those of the system if told; `own` is the certificate, with its key, by which this client is known.

    A client with one speaks TLS 1.3 alone, see `server_context`. Raises CertificateError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    _harden(context)
    if system or not authorities:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if authorities:
        try:
            context.load_verify_locations(cadata=authorities)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(f"the trusted certificates cannot be read: {error}") from None
    if own is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        _load(context, own, None)
    return context


def certificates(pem: str) -> list[str]:
    """Each certificate of a bundle, PEM."""
    return [f"{each}\n" for each in _CERTIFICATE.findall(pem)]


def fingerprints(pem: str) -> list[str]:
    """SHA-256 of each certificate of a bundle, in hexadecimal. Raises CertificateError."""
    try:
        return [hashlib.sha256(ssl.PEM_cert_to_DER_cert(each)).hexdigest() for each in certificates(pem)]
    except ValueError as error:
        raise CertificateError(f"the certificates cannot be read: {error}") from None


def stamp(paths: Sequence[Path | None]) -> Stamp:
    """The files as they are now; equal as long as none was written or replaced."""
    return tuple(_stamp(path) for path in paths if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION


def _load(context: ssl.SSLContext, shown: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(shown, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CertificateError(f"{shown}: its certificate and key cannot be used: {error}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # else OpenSSL would ask at the terminal


class Swapped:
    """A listener's context for the life of the server: each handshake takes the newest one of `use`. Connections that are open keep theirs."""

    def __init__(self, first: ssl.SSLContext) -> None:
        self._newest = first
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(self.context)
        self.context.options |= first.options
        self.context.num_tickets = 0
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.sni_callback = self._choose

    def use(self, newest: ssl.SSLContext) -> None:
        """From the next handshake on."""
        self._newest = newest

    def _choose(self, connection: Any, name: str | None, before: ssl.SSLContext) -> None:
        del name, before  # OpenSSL asks also when the client named nobody
        connection.context = self._newest


class Trust:
    """Whom a client trusts, from a file that may be replaced while the client runs; "" for the system's authorities."""

    def __init__(self, ca_file: str) -> None:
        """Raises CertificateError when the file cannot be used."""
        self._path = Path(ca_file) if ca_file else None
        self._stamp = stamp((self._path,))
        self._context = self._read()

    @property
    def context(self) -> ssl.SSLContext:
        """With the file as it is now; a file that cannot be used changes nothing."""
        found = stamp((self._path,))
        if found != self._stamp:
            self._stamp = found
            try:
                self._context = self._read()
            except CertificateError:
                pass  # it is being written, or is broken: the next change is looked at again
        return self._context

    def _read(self) -> ssl.SSLContext:
        if self._path is None:
            return client_context("")
        try:
            return client_context(self._path.read_text(encoding="ascii", errors="replace"))
        except OSError as error:
            raise CertificateError(f"{self._path}: {error.strerror}") from None
