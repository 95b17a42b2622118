"""Where an authority and certificates are kept: files of one directory, each written whole or not at all.

Owns: the names and rights of those files, and the lock under which they are made. Never decides what a certificate is for.

    ca.pem       the certificates that are trusted; the first is the one that signs
    ca.key       its key, 0600
    NAME.pem     a certificate and its key in one file, so that nobody ever reads one without the other; 0600
    next.pem     while the authority is being replaced: the one to come; its key is next.key
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509

from homeport.tls.authority import Authority, Certificate, Wanted, is_due, read_certificate, wanted_of
from homeport.tls.contexts import CertificateError

AUTHORITY: Final = "ca.pem"
AUTHORITY_KEY: Final = "ca.key"
NEXT: Final = "next.pem"
NEXT_KEY: Final = "next.key"
LOCK: Final = "lock"


def read_key(path: Path) -> bytes | None:
    """An authority's key, None when it is not here. The only place that reads one."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_key(path: Path, key: bytes) -> None:
    """Keep an authority's key. The only place that writes one."""
    write(path, key)


def write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """The whole file or the one of before, readable by its owner alone unless `mode` says otherwise."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone with the directory's files, among the programs of this machine. Makes the directory."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def authority_in(directory: Path) -> Authority | None:
    """The authority that signs there, or None. Raises CertificateError."""
    try:
        certificate = (directory / AUTHORITY).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Authority.read(certificate, read_key(directory / AUTHORITY_KEY))
    except CertificateError as error:
        raise CertificateError(f"{directory / AUTHORITY}: {error}") from None


def ensure_authority(directory: Path, *, now: float, seconds: float) -> Authority:
    """The authority there, made now if there is none; `seconds` is how long a new one counts. Raises CertificateError."""
    with locked(directory):
        found = authority_in(directory)
        if found is None:
            found = Authority.make(now=now, seconds=seconds)
            write_key(directory / AUTHORITY_KEY, found.key_pem)
            write(directory / AUTHORITY, found.pem, mode=0o644)
        return found


def trusted_in(directory: Path) -> list[x509.Certificate]:
    """Every authority that is trusted there, the one that signs first. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificates((directory / AUTHORITY).read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{directory / AUTHORITY}: {error}") from None


def ensure_certificate(path: Path, wanted: Wanted, authority: Authority, *, now: float, seconds: float) -> bool:
    """A certificate for what is wanted, of that authority and not due for renewal, is in `path` afterwards. True if it was made now.

    Raises CertificateError when it is needed and the authority's key is not here.
    """
    with locked(path.parent):
        held = certificate_in(path)
        if held is not None and authority.issued(held) and not is_due(held, now) and _says(held, wanted):
            return False
        write(path, _one_file(authority.issue(wanted, now=now, seconds=seconds)))
        return True


def renew_all(directory: Path, authority: Authority, *, now: float, seconds: float) -> list[Path]:
    """Renew each certificate of the directory that is due or of another authority, for what it was issued for; which ones were."""
    renewed = []
    for path in sorted(directory.glob("*.pem")):
        if path.name in (AUTHORITY, NEXT):
            continue
        held = certificate_in(path)
        if held is not None and ensure_certificate(path, wanted_of(held), authority, now=now, seconds=seconds):
            renewed.append(path)
    return renewed


def certificate_in(path: Path) -> x509.Certificate | None:
    """The certificate in that file; None when there is none or it cannot be read."""
    try:
        return read_certificate(path.read_bytes())
    except (OSError, CertificateError):
        return None


def _says(held: x509.Certificate, wanted: Wanted) -> bool:
    found = wanted_of(held)
    return (found.server, set(found.names)) == (wanted.server, {_usual(name) for name in wanted.names})


def _usual(name: str) -> str:
    """An address in its usual spelling; a name as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _one_file(made: Certificate) -> bytes:
    return made.certificate + made.key


# -- another authority in the place of the one that there is ------------------------------------------------------------


def prepare_next(directory: Path, *, now: float, seconds: float) -> Authority:
    """Make the authority to come and trust it from now on; what signs is the old one. Raises CertificateError when one is to come already."""
    with locked(directory):
        if (directory / NEXT).exists():
            raise CertificateError(f"{directory / NEXT} is there: another authority is to come already")
        made = Authority.make(now=now, seconds=seconds)
        trusted = (directory / AUTHORITY).read_bytes()
        write_key(directory / NEXT_KEY, made.key_pem)
        write(directory / NEXT, made.pem)
        write(directory / AUTHORITY, trusted + made.pem, mode=0o644)
        return made


def switch_to_next(directory: Path) -> Authority:
    """The authority to come signs from now on; the old one stays trusted. Raises CertificateError when none is to come."""
    with locked(directory):
        try:
            made = Authority.read((directory / NEXT).read_bytes(), read_key(directory / NEXT_KEY))
        except FileNotFoundError:
            raise CertificateError(f"no other authority is prepared in {directory}") from None
        others = [each for each in trusted_in(directory) if each != made.certificate]
        # The key first: until its certificate is the first one too, the two do not fit, and whoever looks keeps what it has.
        write_key(directory / AUTHORITY_KEY, made.key_pem)
        write(directory / AUTHORITY, made.pem + b"".join(Authority(each, None).pem for each in others), mode=0o644)
        (directory / NEXT).unlink()
        (directory / NEXT_KEY).unlink()
        return made


def forget_old(directory: Path) -> int:
    """Trust the authority that signs alone; how many are not trusted any more. Raises CertificateError while another is to come."""
    with locked(directory):
        if (directory / NEXT).exists():
            raise CertificateError("another authority is prepared and does not sign yet")
        signing, *others = trusted_in(directory)
        write(directory / AUTHORITY, Authority(signing, None).pem, mode=0o644)
        return len(others)
