"""Secrets in files of their own, such as private keys: each is an envelope, with a key of its own that a root key wraps.

Owns: `seal_file`, `open_file`, `rewrap_file`, `sealed_files`. Never keeps what it opened. Works before the store is open.

Files are called NAME.sealed, so that a change of the root key finds them below the data directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from homeport.vault.envelope import KEY_BYTES, Key, SealBrokenError, key_id_of
from homeport.vault.root_key import RootKeys, write_private

SUFFIX: Final = ".sealed"
_FILE: Final = "file"
_FILE_KEY: Final = "file key"
_ID: Final = "own"
"""What the key of a file is called in it: every file has just one."""


class _Form(msgspec.Struct, frozen=True):
    """The file: JSON."""

    key: str
    """The file's own key, wrapped by a root key."""
    content: str
    """Sealed with it."""


def seal_file(path: Path, content: bytes, keys: RootKeys) -> None:
    """Write `content` to `path` (NAME.sealed), sealed for a file of this name, mode 0600, whole and for good.

    Raises SealBrokenError when it cannot be written, RootKeyError without a root key, ValueError for another name.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"a sealed file is called NAME{SUFFIX}")
    material = keys.random_bytes(KEY_BYTES)
    sealed = Key(_ID, material).seal(content, (_FILE, path.name), keys.nonce())
    wrapped = keys.newest.key.seal(material, (_FILE_KEY, path.name), keys.nonce())
    write_private(path, msgspec.json.encode(_Form(wrapped, sealed)), error=SealBrokenError)


def open_file(path: Path, keys: RootKeys) -> bytes:
    """What `seal_file` wrote there.

    Raises SealBrokenError when it was altered or renamed, RootKeyError when its root key is not there, FileNotFoundError.
    """
    form = _read(path)
    return Key(_ID, _material(path, form, keys)).open(form.content, (_FILE, path.name))


def root_key_of(path: Path) -> str:
    """The id of the root key that wraps the file's key. Raises as `open_file`."""
    return key_id_of(_read(path).key)


def rewrap_file(path: Path, keys: RootKeys) -> bool:
    """Wrap the file's key with the newest root key instead; whether it was another one. Raises as `open_file`."""
    form = _read(path)
    if key_id_of(form.key) == keys.newest.id:
        return False
    wrapped = keys.newest.key.seal(_material(path, form, keys), (_FILE_KEY, path.name), keys.nonce())
    write_private(path, msgspec.json.encode(_Form(wrapped, form.content)), error=SealBrokenError)
    return True


def sealed_files(directory: Path) -> Iterator[Path]:
    """Every sealed file below a directory."""
    return (path for path in sorted(directory.rglob(f"*{SUFFIX}")) if path.is_file())


def _read(path: Path) -> _Form:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Form)
    except msgspec.MsgspecError:
        raise SealBrokenError(f"{path} is no sealed file, or damaged") from None


def _material(path: Path, form: _Form, keys: RootKeys) -> bytes:
    root = keys.get(key_id_of(form.key), what=str(path))
    return root.key.open(form.key, (_FILE_KEY, path.name))
