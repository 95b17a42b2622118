"""Root keys: what wraps every other key, kept in a file of its own or told by a command, never in the store.

Owns: `RootKeys`, the two sources, the text form of keys. Never logs or passes on a key: a command tells them on its standard output only.

The text has a key a line, `homeport-root-key-1:` and base64url of 32 bytes. The first is the newest; the others only open what was wrapped before.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import shlex
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from homeport.errors import HomeportError
from homeport.vault.envelope import KEY_BYTES, NONCE_BYTES, Key

FILE_NAME: Final = "root.key"
"""In the data directory, unless another file is named."""
KEYS_MAX: Final = 16
COMMAND_SECONDS_MAX: Final = 30.0
_PREFIX: Final = "homeport-root-key-1:"
_ID: Final = b"homeport root key id 1"


class RootKeyError(HomeportError):
    """The root key cannot be had, or is not the one that is needed."""


class RootKey:
    """One root key."""

    __slots__ = ("_material", "id", "key")

    def __init__(self, material: bytes) -> None:
        self._material = material
        self.id = hmac.digest(material, _ID, "sha256").hex()[:16]
        """Tells it from others and says nothing of it."""
        self.key = Key(self.id, material)

    def text(self) -> str:
        """Its line, for the file that keeps it."""
        return _PREFIX + base64.urlsafe_b64encode(self._material).decode()

    def __repr__(self) -> str:
        return f"RootKey({self.id})"


def parse(text: str, source: str) -> tuple[RootKey, ...]:
    """The keys of a text, newest first. Raises RootKeyError, which names `source` and tells nothing of what stands there."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            material = base64.b64decode(line.strip().removeprefix(_PREFIX).encode("ascii"), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            material = b""
        if not line.startswith(_PREFIX) or len(material) != KEY_BYTES:
            raise RootKeyError(f"{source}: line {number} is no root key (`homeport key create` makes one)")
        keys.append(RootKey(material))
    if not 1 <= len(keys) <= KEYS_MAX:
        raise RootKeyError(f"{source} has {len(keys)} root keys; there must be 1 to {KEYS_MAX}")
    return tuple(keys)


class Source(Protocol):
    """Where root keys come from."""

    text: str
    """What it is, for messages."""

    def read(self) -> tuple[RootKey, ...] | None:
        """The keys of now; None when there are none yet. Raises RootKeyError."""
        ...

    def write(self, keys: Sequence[RootKey]) -> None:
        """Keep these instead. Raises RootKeyError where that is somebody else's to do."""
        ...


class KeyFile:
    """A file that only its owner can read."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        """`must_exist`: whether it was named by somebody, who is to make it then."""
        self.path = path
        self.text = f"the root key file {path}"
        self._must_exist = must_exist

    def read(self) -> tuple[RootKey, ...] | None:
        """The keys in the file; None when there is no file and one may be made."""
        try:
            found = self.path.stat()
            if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise RootKeyError(f"{self.text} can be read by others; make it its owner's alone: chmod 600 {self.path}")
            content = self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            if self._must_exist:
                raise RootKeyError(f"{self.text} is not there; put it there, or make one: homeport key create {self.path}") from None
            return None
        except UnicodeDecodeError:
            raise RootKeyError(f"{self.text} holds no root key") from None
        except OSError as error:
            raise RootKeyError(f"{self.text} cannot be read: {error.strerror}") from None
        return parse(content, self.text)

    def write(self, keys: Sequence[RootKey]) -> None:
        """Replace the file at once, or not at all."""
        write_private(self.path, "".join(f"{key.text()}\n" for key in keys).encode(), error=RootKeyError)

    def create(self, key: RootKey) -> None:
        """Make the file with one key. Raises RootKeyError when it is there already: another process may have made it meanwhile."""
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        write_private(part, f"{key.text()}\n".encode(), error=RootKeyError)
        try:
            os.link(part, self.path)
        except OSError as error:
            raise RootKeyError(f"{self.text} cannot be made: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)
        _sync(self.path.parent)


class KeyCommand:
    """A program that prints the keys, for example one that asks a key management service."""

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        self.text = f"the root key command {self._words[0] if self._words else ''}"

    def read(self) -> tuple[RootKey, ...]:
        """What the command prints now. What it says on standard error is the server's to show; what it prints is not."""
        try:
            done = subprocess.run(self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            raise RootKeyError(f"{self.text} did not end within {COMMAND_SECONDS_MAX:g} s") from None
        except (OSError, IndexError, ValueError) as error:
            raise RootKeyError(f"{self.text} cannot be run: {error}") from None
        if done.returncode != 0:
            raise RootKeyError(f"{self.text} failed with status {done.returncode}")
        return parse(done.stdout.decode("ascii", "replace"), self.text)

    def write(self, keys: Sequence[RootKey]) -> None:
        """Refused: who runs the key management service puts a new key in front of the old one there."""
        del keys
        raise RootKeyError(f"{self.text} only tells keys; let it print the new one in a line before the old one")


class RootKeys:
    """The root keys that this process has."""

    def __init__(self, source: Source, random_bytes: Callable[[int], bytes]) -> None:
        """`random_bytes` gives as many bytes of chance as it is asked for. Nothing is read yet."""
        self.source = source
        self.random_bytes = random_bytes
        self.keys: tuple[RootKey, ...] = ()
        """Newest first."""

    def load(self) -> bool:
        """Read the source, anew if it was read before; False when there is no key yet. Raises RootKeyError, and has what it had then."""
        found = self.source.read()
        if found is None:
            return False
        self.keys = found
        return True

    def create(self) -> None:
        """Make the first key, or take the one that another process made just now. Raises RootKeyError."""
        if not isinstance(self.source, KeyFile):
            raise RootKeyError(f"{self.source.text} tells no key")
        try:
            self.source.create(self.new())
        except RootKeyError:
            if not self.load():
                raise
        self.load()

    def new(self) -> RootKey:
        """A key that nobody has yet."""
        return RootKey(self.random_bytes(KEY_BYTES))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys that there are, newest first."""
        return tuple(key.id for key in self.keys)

    @property
    def newest(self) -> RootKey:
        """The one that new files are sealed with. Raises RootKeyError when there is none."""
        if not self.keys:
            raise RootKeyError(f"{self.source.text} was not read, or holds no key")
        return self.keys[0]

    def get(self, key_id: str, *, what: str) -> RootKey:
        """The key of that id. Raises RootKeyError that says `what` needs it."""
        for key in self.keys:
            if key.id == key_id:
                return key
        have = " and ".join(self.ids) or "none"
        raise RootKeyError(f"{what} needs root key {key_id}, and {self.source.text} has {have}: give the server the key that belongs to this state")

    def nonce(self) -> bytes:
        """Twelve bytes that no key has seen."""
        return self.random_bytes(NONCE_BYTES)


def write_private(path: Path, content: bytes, *, error: type[HomeportError]) -> None:
    """Write a file that its owner alone can read, whole and for good, or raise `error` and leave the one that is there."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as problem:
        raise error(f"{path} cannot be written: {problem.strerror}") from None


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
