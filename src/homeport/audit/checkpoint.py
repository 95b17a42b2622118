"""Signed checkpoints: what journal and audit log were at an instant, said under a key that lies in neither.

Owns: `Checkpoint`, `Signer` (the key in its file), `read`, `add`, `keep_from`, `check`. Never decides when one is made.

A checkpoint holds number and hash of the last record, revision and hash of the journal's head, and the hash of the checkpoint before. Who holds the
public key, or a checkpoint, elsewhere can tell a log that was written anew from the one that was.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from homeport.audit.record import NO_HASH
from homeport.audit.writer import FILE_MODE, sync_directory
from homeport.errors import HomeportError

KEY_FILE: Final = "audit-key.pem"
"""In a server's data directory, readable by its owner alone."""
PUBLIC_FILE: Final = "public-key.pem"
"""In the log's directory, so that a copy of it can be verified; a verifier better holds its own copy."""
FILE: Final = "checkpoints.jsonl"
"""In the log's directory."""


class CheckpointError(HomeportError):
    """A key or a checkpoint cannot be read or written."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was at `instant`, on one server."""

    installation: str
    server: str
    instant: float
    number: int
    """Of the last record."""
    hash: str
    """Of that record's line."""
    revision: int
    """The journal's head."""
    journal: str
    """Hash of that entry, in hexadecimal."""
    previous: str = NO_HASH
    """Of the checkpoint's line before."""
    went_back: bool = False
    """Whether the journal then was not the one that the checkpoint before had seen: it was restored from a backup, or replaced."""
    signature: str = ""
    """Ed25519 over everything else, as it stands here; base64."""

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return _encode(msgspec.structs.replace(self, signature=""))


_encode: Final = msgspec.json.Encoder().encode
_DECODER: Final = msgspec.json.Decoder(Checkpoint)


class Signer:
    """The key of this server."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key()

    @staticmethod
    def open(data_dir: Path, directory: Path) -> Signer:
        """The key of `data_dir`, made at first; its public half lies in `directory` afterwards. Raises CheckpointError."""
        path = data_dir / KEY_FILE
        try:
            signer = Signer(_read_key(path) if path.exists() else _make_key(path))
            public = directory / PUBLIC_FILE
            if not public.exists() or public.read_bytes() != signer.pem:
                public.write_bytes(signer.pem)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"the key of the audit log in {path} cannot be used: {error}") from None
        return signer

    @property
    def pem(self) -> bytes:
        """The public key."""
        return self.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def der(self) -> bytes:
        """The public key, as SubjectPublicKeyInfo in DER."""
        return der(self.public)

    def sign(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with its signature."""
        return msgspec.structs.replace(checkpoint, signature=base64.b64encode(self._key.sign(checkpoint.signed_bytes())).decode())


def der(key: Ed25519PublicKey) -> bytes:
    """A public key as SubjectPublicKeyInfo in DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(encoded: bytes) -> str:
    """How a public key is called: SHA-256 of its DER form."""
    return hashlib.sha256(encoded).hexdigest()


def public_key(pem: bytes) -> Ed25519PublicKey:
    """The key of a PEM file. Raises CheckpointError for any other."""
    try:
        found = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise CheckpointError(f"this is no public key: {error}") from None
    if not isinstance(found, Ed25519PublicKey):
        raise CheckpointError("this is no Ed25519 public key")
    return found


def check(checkpoint: Checkpoint, key: Ed25519PublicKey) -> bool:
    """Whether the signature is the key's."""
    try:
        key.verify(base64.b64decode(checkpoint.signature), checkpoint.signed_bytes())
    except (InvalidSignature, ValueError):
        return False
    return True


def line_hash(line: bytes) -> str:
    """What the next checkpoint says of this line."""
    return hashlib.sha256(line).hexdigest()


def lines(directory: Path) -> list[bytes]:
    """Every whole line of the log's checkpoints, oldest first; a torn last one is left out. Raises OSError."""
    path = directory / FILE
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def read(line: bytes) -> Checkpoint:
    """The checkpoint of a line. Raises msgspec.MsgspecError for what is none."""
    return _DECODER.decode(line)


def last(directory: Path) -> tuple[Checkpoint | None, str]:
    """(the last checkpoint that can be read, hash of the last line). Raises OSError."""
    found = lines(directory)
    if not found:
        return None, NO_HASH
    for line in reversed(found):
        try:
            return read(line), line_hash(found[-1])
        except msgspec.MsgspecError:
            continue
    return None, line_hash(found[-1])


def add(directory: Path, checkpoint: Checkpoint) -> None:
    """Append it, for good. Raises OSError."""
    path = directory / FILE
    begun = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        place = content.rfind(b"\n") + 1  # over half a line that a crash left
        os.ftruncate(descriptor, place)
        os.pwrite(descriptor, _encode(checkpoint) + b"\n", place)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    if begun:
        sync_directory(directory)


def keep_from(directory: Path, number: int) -> None:
    """Drop checkpoints of records before `number`, which were pruned. Raises OSError."""
    found = lines(directory)
    kept = [line for line in found if _number(line) >= number]
    if len(kept) == len(found):
        return
    _replace(directory / FILE, kept)
    sync_directory(directory)


def _replace(path: Path, kept: Sequence[bytes]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(b"".join(line + b"\n" for line in kept))
        file.flush()
        os.fsync(file.fileno())
    part.chmod(FILE_MODE)
    part.replace(path)


def _number(line: bytes) -> int:
    try:
        return read(line).number
    except msgspec.MsgspecError:
        return 2**62  # kept: what cannot be read is for the verifier


def _read_key(path: Path) -> Ed25519PrivateKey:
    found = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(found, Ed25519PrivateKey):
        raise ValueError("it is no Ed25519 key")
    return found


def _make_key(path: Path) -> Ed25519PrivateKey:
    made = Ed25519PrivateKey.generate()
    text = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_directory(path.parent)
    return made
