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
from homeport.model.secret import hides


@hides("secret_access_key", "session_token")
class LocalCredentials(msgspec.Struct, frozen=True):
    """How to reach the installation's server, and what to sign with: as in DATA_DIR/credentials.json, which has the root key."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str
    account_id: str
    installation_id: str
    endpoints: tuple[str, ...] = ()
    """Every server's, this one's first; empty where there is one server."""
    session_token: str = ""
    """Of temporary credentials."""
    account_name: str = ""
    """Of the kept key of another account than the installation's first."""
    ca_file: str = ""
    """Whom clients are to trust, a file of certificates; "" for plain HTTP, and for those that their system trusts."""

    @property
    def port(self) -> int:
        """TCP port of `endpoint`."""
        place = urlsplit(self.endpoint)
        return place.port or (443 if place.scheme == "https" else 80)


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
    def tls(self) -> Path:
        """The installation's certificate authority, and certificates that it issued."""
        return self.path / "tls"

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

    def agent_id(self) -> str:
        """What the containers of this directory's agent are labelled with; "" before an agent ran here."""
        try:
            return (self.agent / "id").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def join(self, installation_id: str) -> None:
        """Remember the installation that this machine's agent joined: its containers carry the id, so it must never change here."""
        self.agent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._joined.write_text(installation_id, encoding="ascii")

    @property
    def _joined(self) -> Path:
        return self.agent / "installation"

    @property
    def host(self) -> Path:
        """Who this machine's agent is: the host's key and credentials, 0600."""
        return self.agent / "host.json"

    @property
    def host_ca(self) -> Path:
        """Whom this machine's agent trusts at servers elsewhere, where its token said that."""
        return self.agent / "ca.pem"

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

    def credentials_of(self, environ: Mapping[str, str]) -> LocalCredentials:
        """Those of the environment (AWS_ACCESS_KEY_ID, …) when its AWS_ENDPOINT_URL is this installation's, else the root's.

        Where there is no installation, any AWS_ENDPOINT_URL is good: it is one elsewhere. Raises CommandError when neither tells where to call.
        """
        own = self.credentials()
        endpoint = (environ.get("AWS_ENDPOINT_URL_ECS") or environ.get("AWS_ENDPOINT_URL", "")).rstrip("/")
        key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if not (endpoint and key and secret) or (own is not None and endpoint not in (own.endpoint, *own.endpoints)):
            return self.known_credentials()
        if own is not None and key == own.access_key_id:
            return own
        return LocalCredentials(
            endpoint=endpoint,
            endpoints=own.endpoints if own else (),
            access_key_id=key,
            secret_access_key=secret,
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or (own.region if own else "us-east-1"),
            account_id="",
            installation_id=own.installation_id if own else "",
            session_token=environ.get("AWS_SESSION_TOKEN", ""),
            ca_file=environ.get("AWS_CA_BUNDLE") or (own.ca_file if own else ""),
        )

    def keep_account(self, credentials: LocalCredentials) -> None:
        """Keep the key of another account, readable by the directory's owner alone."""
        folder = self.path / "accounts"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / f"{credentials.account_id}.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(credentials)))

    def kept_account(self, account: str) -> LocalCredentials:
        """The kept key of the account of that id or name, or the root's for the account of the installation itself.

        Raises CommandError when none is kept.
        """
        own = self.known_credentials()
        if account == own.account_id:
            return own
        for path in sorted((self.path / "accounts").glob("*.json")):
            found = _read(path)
            if found is not None and (account == found.account_id or account.lower() == found.account_name.lower()):
                # The server may be elsewhere than when the key was kept.
                return msgspec.structs.replace(found, endpoint=own.endpoint, endpoints=own.endpoints, ca_file=own.ca_file)
        raise CommandError(f"no key of the account {account} is kept in {self.path}; `homeport account create NAME --keep` keeps that of a new one")

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
