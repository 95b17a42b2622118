"""Whom clients of this server are to trust: told to hosts that join, and to whoever asks at /ca.pem.

Owns: reading that file. Never makes a certificate (`homeport.tls` does). There is no secret in it, and nobody believes it unchecked: a host knows by
its token which authority it must find there.
"""

from __future__ import annotations

from pathlib import Path


def pem(path: Path | None) -> str:
    """The certificates; "" where clients need none, or when the file cannot be read now."""
    try:
        return path.read_text(encoding="ascii") if path is not None else ""
    except (OSError, UnicodeDecodeError):
        return ""


def fingerprint(path: Path | None) -> str:
    """SHA-256 of the first of them, the authority that signs now, in hexadecimal; "" where there is none."""
    text = pem(path)
    if not text:
        return ""
    from homeport.tls.contexts import CertificateError, fingerprints

    try:
        return fingerprints(text)[0]
    except (CertificateError, IndexError):
        return ""
