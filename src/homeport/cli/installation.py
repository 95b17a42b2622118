"""Where an installation lives on this machine, and the keys that its server left there.

Owns: `DataDirectory`, `LocalCredentials`, the default directory, the identity of this machine's instance. Never writes credentials: the servers do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from homeport.cli.terminal import CommandError


class LocalCredentials(msgspec.Struct, frozen=True):
    """DATA_DIR/credentials.json: how to reach the installation's server, and its root key."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str
    account_id: str
    installation_id: str
    endpoints: tuple[str, ...] = ()
    """Every server's, this one's first; empty where there is one server."""

    @property
    def port(self) -> int:
        """TCP port of `endpoint`."""
        return urlsplit(self.endpoint).port or 80


@dataclasses.dataclass(frozen=True, slots=True)
class DataDirectory:
    """The directory of one installation. Everything of it on this machine is below `path`."""

    path: Path

    @property
    def run(self) -> Path:
        """Who runs: one lock file per program."""
        return self.path / "run"

    @property
    def log(self) -> Path:
        """What the started programs say: one file per program."""
        return self.path / "log"

    @property
    def agent(self) -> Path:
        """The local agent's journal."""
        return self.path / "agent"

    @property
    def cache(self) -> Path:
        """What can be made again: the demo image's parts."""
        return self.path / "cache"

    def installation_id(self) -> str | None:
        """The label of this installation's containers here: of the server of this directory, or of the one that its agent joined."""
        credentials = self.credentials()
        return credentials.installation_id if credentials is not None else self.joined()

    def known_installation_id(self) -> str:
        """As `installation_id`, but a directory of no installation is an error."""
        return self.installation_id() or self.known_credentials().installation_id

    def joined(self) -> str | None:
        """The id of the installation that this machine's agent joined from afar, or None."""
        try:
            return self._joined.read_text(encoding="ascii")
        except FileNotFoundError:
            return None

    def join(self, installation_id: str) -> None:
        """Remember the installation that this machine's agent joined: its containers carry the id, so it must never change here."""
        self.agent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._joined.write_text(installation_id, encoding="ascii")

    @property
    def _joined(self) -> Path:
        return self.agent / "installation"

    def make(self) -> None:
        """Make the directory, readable by its owner alone."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CommandError(f"the data directory {self.path} cannot be made: {error.strerror}; choose another with --data-dir") from None

    def credentials(self) -> LocalCredentials | None:
        """What the server wrote at its start, or None when none has started here yet; with several servers the first one's, with all endpoints."""
        found = [read for path in sorted(self.path.glob("*/credentials.json")) if (read := _read(path)) is not None]
        if not found:
            return _read(self.path / "credentials.json")
        return msgspec.structs.replace(found[0], endpoints=tuple(each.endpoint for each in found))

    def known_credentials(self) -> LocalCredentials:
        """As `credentials`, but an installation that never started is an error."""
        found = self.credentials()
        if found is None:
            raise CommandError(f"there is no installation in {self.path}; start one with: ./homeport up --detach")
        return found

    def instance_id(self) -> str:
        """The stable EC2-like id of this machine in this installation: what the API shows as ec2InstanceId."""
        try:
            machine = Path("/etc/machine-id").read_text().strip()
        except OSError:
            machine = os.uname().nodename
        return "i-" + hashlib.sha256(f"{machine} {self.path}".encode()).hexdigest()[:17]


def _read(path: Path) -> LocalCredentials | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise CommandError(f"{path} belongs to another user") from None
    try:
        return msgspec.json.decode(data, type=LocalCredentials)
    except msgspec.DecodeError as error:
        raise CommandError(f"{path} is damaged ({error}); starting the server writes it anew") from None


def default_data_dir(environ: Mapping[str, str], user_id: int) -> Path:
    """The fixed place of the user's installation: /var/lib/homeport for root, else below XDG_DATA_HOME (~/.local/share)."""
    if user_id == 0:
        return Path("/var/lib/homeport")
    base = environ.get("XDG_DATA_HOME") or f"{environ.get('HOME', '')}/.local/share"
    return Path(base) / "homeport"
